// Holds: each hold ends once, however many requests try to end it, and the payer's money is never lost.
import { randomUUID } from 'node:crypto'
import { holdExpiryIdOf } from '@pennywire/contracts/ids.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  balanceOf,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

const { databaseUrls, controlUrl, gatewayUrl, opsUrls } = inject('system')
const soon = { timeout: 20_000, interval: 50 }

let alice: Person
let bob: Person
let carol: Person
let sql: Database

beforeAll(async () => {
  sql = openDatabase(databaseUrls.superuser, { applicationName: 'holds-test', maxConnections: 2 })
  ;[alice, bob, carol] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makePerson('Carol'),
  ])
})
afterAll(() => sql.end())

const currencies = 'USD EUR GBP CHF SEK NOK DKK PLN CZK HUF RON TRY INR BRL MXN ZAR AUD CAD NZD SGD'.split(
  ' ',
)
/** New wallets for each test, in an unused currency: a person has one wallet per currency. */
const freshWallets = async (amount = '100'): Promise<[Wallet, Wallet]> => {
  const currency = currencies.pop()!
  return Promise.all([openWallet(alice, currency, amount), openWallet(bob, currency)])
}

/** Places a hold with a step-up token. */
const place = (
  person: Person,
  to: Wallet,
  amount: string,
  more: { key?: string; body?: Record<string, unknown>; headers?: Record<string, string> } = {},
): Promise<Answer> =>
  person.ask(
    'POST',
    '/v1/holds',
    { toWalletId: to.id, amount, currency: to.currency, ...more.body },
    { 'idempotency-key': more.key ?? randomUUID(), 'step-up-token': person.stepUp, ...more.headers },
  )
const placed = async (...asked: Parameters<typeof place>): Promise<string> => {
  const answer = await place(...asked)
  expect([answer.status, answer.body.status]).toEqual([201, 'active'])
  return answer.body.id
}
const capture = (person: Person, id: string, amount?: string, key: string = randomUUID()): Promise<Answer> =>
  person.ask('POST', `/v1/holds/${id}/capture`, amount === undefined ? undefined : { amount }, {
    'idempotency-key': key,
  })
const voidHold = (person: Person, id: string, key?: string): Promise<Answer> =>
  person.ask('POST', `/v1/holds/${id}/void`, undefined, key === undefined ? {} : { 'idempotency-key': key })
const holdOf = async (person: Person, id: string) => (await person.ask('GET', `/v1/holds/${id}`)).body

/** A wallet's balance and available amount. */
const funds = async (person: Person, wallet: Wallet): Promise<[string, string]> => {
  const { body } = await person.ask('GET', `/v1/wallets/${wallet.id}`)
  return [body.balance, body.available]
}
const refusal = ({ status, body }: Answer) => [status, body.code, body.final]

describe('a hold', () => {
  test('promises money that stays and is no longer available, and shows to both parties', async () => {
    const [from, to] = await freshWallets()
    const key = randomUUID()
    const body = { note: 'Deposit for the room', metadata: { room: 12 }, expiresInSeconds: 3_600 }
    const answer = await place(alice, to, '40', { key, body })
    expect(answer.status).toBe(201)
    expect(answer.headers.get('location')).toBe(`/v1/holds/${answer.body.id}`)
    expect(answer.body).toMatchObject({
      status: 'active',
      from: { walletId: from.id, walletCode: from.code, name: 'Alice Smith' },
      to: { walletId: to.id, walletCode: to.code, name: 'Bob B.' },
      amount: '40.00',
      captured: '0.00',
      currency: from.currency,
      note: 'Deposit for the room',
      metadata: { room: 12 },
      endedAt: null,
      rejection: null,
    })
    const stands = Date.parse(answer.body.expiresAt) - Date.parse(answer.body.createdAt)
    expect(stands).toBe(3_600_000)
    expect(await funds(alice, from)).toEqual(['100.00', '60.00'])
    expect(await funds(bob, to)).toEqual(['0.00', '0.00'])
    expect(await holdOf(alice, answer.body.id)).toEqual(answer.body)
    expect(await holdOf(bob, answer.body.id)).toMatchObject({
      from: { name: 'Alice S.' },
      to: { name: 'Bob Brown' },
    })
    // As a transfer, the hold is pending: by its id and by its key.
    const { body: pending } = await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
    expect(pending).toMatchObject({ id: answer.body.id, type: 'hold', status: 'pending', final: false })

    const more = await send(alice, to, '60.01')
    expect(refusal(more)).toEqual([402, 'INSUFFICIENT_BALANCE', true])
    expect(refusal(await place(alice, to, '60.01'))).toEqual([402, 'INSUFFICIENT_BALANCE', true])
  })

  test('X3: a repeat is answered with the same hold, another body or another use of the key is refused', async () => {
    const [from, to] = await freshWallets()
    const key = randomUUID()
    const answers = await Promise.all(Array.from({ length: 10 }, () => place(alice, to, '40', { key })))
    for (const { status, body } of answers) expect([status, body]).toEqual([201, answers[0]!.body])
    const later = await place(alice, to, '40.00', { key })
    expect([later.status, later.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(later.body).toEqual(answers[0]!.body)

    const others = [
      await place(alice, to, '41', { key }),
      await place(alice, to, '40', { key, body: { expiresInSeconds: 3_600 } }),
      await send(alice, to, '40', key),
    ]
    for (const other of others) expect(refusal(other)).toEqual([422, 'IDEMPOTENCY_KEY_REUSED', false])
    expect(await funds(alice, from)).toEqual(['100.00', '60.00'])

    // A repeat shows the hold's current status.
    expect((await capture(bob, later.body.id)).status).toBe(201)
    const after = await place(alice, to, '40', { key })
    expect([after.status, after.body.status]).toEqual([201, 'captured'])
  })

  test('M4: a refused one holds nothing, and is a rejected transfer of type hold', async () => {
    const [from, to] = await freshWallets()
    const key = randomUUID()
    const refused = await place(alice, to, '100.01', { key })
    expect(refusal(refused)).toEqual([402, 'INSUFFICIENT_BALANCE', true])
    const again = await place(alice, to, '100.01', { key })
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(again.body).toEqual({ ...refused.body, requestId: again.body.requestId })
    const id = refused.body.transferId
    expect(await holdOf(alice, id)).toMatchObject({
      status: 'rejected',
      rejection: { code: 'INSUFFICIENT_BALANCE' },
    })
    const list = await alice.ask('GET', '/v1/transfers?type=hold&status=rejected&limit=1')
    expect(list.body.items).toMatchObject([{ id, type: 'hold', status: 'rejected' }])
    expect(refusal(await capture(bob, id))).toEqual([404, 'HOLD_NOT_FOUND', false])
    expect(await funds(alice, from)).toEqual(['100.00', '100.00'])

    const key2 = randomUUID()
    const noPin = await place(alice, to, '1', { key: key2, headers: { 'step-up-token': '' } })
    expect(refusal(noPin)).toEqual([403, 'STEP_UP_INVALID', false])
    for (const expiresInSeconds of [0, 30 * 86_400 + 1, 1.5]) {
      const form = await place(alice, to, '1', { key: key2, body: { expiresInSeconds } })
      expect(refusal(form)).toEqual([422, 'VALIDATION_ERROR', false])
    }
    expect((await place(alice, to, '1', { key: key2 })).status).toBe(201)
  })

  test('X2: the client that does not wait is told where to ask', async () => {
    const [, to] = await freshWallets()
    await control('ledger', 'SIGSTOP')
    let location: string
    try {
      const accepted = await place(alice, to, '5', { headers: { prefer: 'respond-async' } })
      expect([accepted.status, accepted.body.status]).toEqual([202, 'pending'])
      location = accepted.headers.get('location')!
      expect(location).toBe(`/v1/holds/${accepted.body.id}`)
      expect((await alice.ask('GET', location)).body).toEqual(accepted.body)
    } finally {
      await control('ledger', 'SIGCONT')
    }
    await expect.poll(async () => (await alice.ask('GET', location)).body.status).toBe('active')
  })
})

describe('how it ends', () => {
  test('captured in part: a transfer with the id of the hold, and the rest is available again', async () => {
    const [from, to] = await freshWallets()
    const key = randomUUID()
    const id = await placed(alice, to, '40', { body: { note: 'Room' } })
    const captured = await capture(bob, id, '15.5', key)
    expect(captured.status).toBe(201)
    expect(captured.headers.get('location')).toBe(`/v1/transfers/${id}`)
    expect(captured.body).toMatchObject({
      id,
      type: 'transfer',
      status: 'completed',
      final: true,
      amount: '15.50',
      note: 'Room',
      balanceAfter: '15.50',
    })
    expect(await funds(alice, from)).toEqual(['84.50', '84.50'])
    expect(await funds(bob, to)).toEqual(['15.50', '15.50'])
    const ended = await holdOf(alice, id)
    expect(ended).toMatchObject({ status: 'captured', amount: '40.00', captured: '15.50' })
    expect(ended.endedAt).toBe(captured.body.completedAt)
    const { body: mine } = await alice.ask('GET', `/v1/transfers/${id}`)
    expect(mine).toMatchObject({ type: 'transfer', status: 'completed', balanceAfter: '84.50' })
    const list = await bob.ask('GET', '/v1/transfers?type=transfer&limit=1')
    expect(list.body.items).toEqual([captured.body])

    // The outcome of the capture is found by its key.
    const byKey = await bob.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
    expect([byKey.status, byKey.body]).toEqual([200, captured.body])

    // A repeat of the capture, and all requests that come too late.
    const again = await capture(bob, id, '15.50', key)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(again.body).toEqual(captured.body)
    expect(refusal(await capture(bob, id, '15.51', key))).toEqual([422, 'IDEMPOTENCY_KEY_REUSED', false])
    expect(refusal(await capture(bob, id, '1'))).toEqual([409, 'HOLD_ENDED', true])
    expect(refusal(await voidHold(bob, id))).toEqual([409, 'HOLD_ENDED', true])
    // All requests that move money share one key space.
    const reused = await bob.ask(
      'POST',
      '/v1/transfers',
      { toWalletId: from.id, amount: '1', currency: from.currency },
      { 'idempotency-key': key, 'step-up-token': bob.stepUp },
    )
    expect(refusal(reused)).toEqual([422, 'IDEMPOTENCY_KEY_REUSED', false])
    expect(await balanceOf(bob, to)).toBe('15.50')
  })

  test('an amount in a body that is not JSON is refused, not passed over: else all would be taken', async () => {
    const [, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    const url = `${gatewayUrl}/v1/holds/${id}/capture`
    const headers = { authorization: `Bearer ${bob.token}`, 'idempotency-key': randomUUID() }
    const body = Buffer.from(JSON.stringify({ amount: '1' }))
    for (const type of [{ 'content-type': 'text/plain' }, {}]) {
      const response = await fetch(url, { method: 'POST', headers: { ...headers, ...type }, body })
      const { code } = (await response.json()) as { code: string }
      expect([response.status, code]).toEqual([415, 'UNSUPPORTED_MEDIA_TYPE'])
    }
    expect((await capture(bob, id, '1')).body.amount).toBe('1.00')
  })

  test('captured whole without an amount; more than is held is refused', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    expect(refusal(await capture(bob, id, '40.01'))).toEqual([422, 'HOLD_AMOUNT_EXCEEDED', true])
    expect(refusal(await capture(bob, id, '0'))).toEqual([422, 'VALIDATION_ERROR', false])
    expect((await capture(bob, id)).body.amount).toBe('40.00')
    expect(await funds(alice, from)).toEqual(['60.00', '60.00'])
  })

  test('let go by the recipient, as often as it is asked', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    const ended = await voidHold(bob, id)
    expect([ended.status, ended.headers.get('idempotency-replayed')]).toEqual([200, null])
    expect(ended.body).toMatchObject({ id, status: 'voided', captured: '0.00', rejection: null })
    expect(await funds(alice, from)).toEqual(['100.00', '100.00'])
    const again = await voidHold(bob, id)
    expect([again.status, again.body, again.headers.get('idempotency-replayed')]).toEqual([
      200,
      ended.body,
      'true',
    ])
    expect(refusal(await voidHold(bob, id, randomUUID()))).toEqual([409, 'HOLD_ENDED', true])
    expect(refusal(await capture(bob, id))).toEqual([409, 'HOLD_ENDED', true])
    expect((await alice.ask('GET', `/v1/transfers/${id}`)).body).toMatchObject({
      type: 'hold',
      status: 'rejected',
      rejection: { code: 'HOLD_ENDED' },
    })
  })

  test('by time: two gateways let go of what is due, once', async () => {
    const [from, to] = await freshWallets()
    const started = await fetch(`${controlUrl}/gateway/start`, { method: 'POST' })
    expect(started.status).toBe(200)
    const second = (await started.json()) as { name: string }
    try {
      const ids = await Promise.all(
        Array.from({ length: 10 }, () => placed(alice, to, '4', { body: { expiresInSeconds: 1 } })),
      )
      const stays = await placed(alice, to, '10')
      await vi.waitFor(async () => {
        for (const id of ids) expect((await holdOf(alice, id)).status).toBe('expired')
      }, soon)
      expect(await funds(alice, from)).toEqual(['100.00', '90.00'])
      expect((await holdOf(bob, stays)).status).toBe('active')
      expect(refusal(await capture(bob, ids[0]!))).toEqual([409, 'HOLD_ENDED', true])
      expect((await alice.ask('GET', `/v1/transfers/${ids[0]}`)).body).toMatchObject({
        status: 'rejected',
        rejection: { code: 'HOLD_EXPIRED' },
      })
      const commands = ids.map(id => holdExpiryIdOf(id, 0))
      const ends = await sql`select end_command from ledger.holds where id = any(${ids})`
      expect(ends.map(row => row.end_command).toSorted()).toEqual(commands.toSorted())
      expect(await (await fetch(`${opsUrls.gateway}/metrics`)).text()).toContain(
        '\npennywire_gateway_due_holds 0\n',
      )
    } finally {
      await control(second.name, 'stop')
    }
  })

  test('X1: fifty who capture or let go at once: exactly one end', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        index % 2 === 0 ? capture(bob, id, String(1 + index / 2)) : voidHold(bob, id, randomUUID()),
      ),
    )
    const won = answers.filter(({ status }) => status < 300)
    expect(won).toHaveLength(1)
    for (const answer of answers) {
      if (answer !== won[0]) expect(refusal(answer)).toEqual([409, 'HOLD_ENDED', true])
    }
    const taken = won[0]!.status === 201 ? Number(won[0]!.body.amount) : 0
    const left = (100 - taken).toFixed(2)
    expect(await funds(alice, from)).toEqual([left, left])
    expect(await balanceOf(bob, to)).toBe(taken.toFixed(2))
    const ended = await holdOf(alice, id)
    expect([ended.status, ended.captured]).toEqual([taken > 0 ? 'captured' : 'voided', taken.toFixed(2)])
  })

  test('X1: one capture sent fifty times is one transfer', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    const key = randomUUID()
    const answers = await Promise.all(Array.from({ length: 50 }, () => capture(bob, id, '30', key)))
    for (const { status, body } of answers) expect([status, body]).toEqual([201, answers[0]!.body])
    expect(await funds(alice, from)).toEqual(['70.00', '70.00'])
    expect(await balanceOf(bob, to)).toBe('30.00')
  })
})

describe('who may', () => {
  test('neither the payer nor a stranger ends a hold; a stranger sees none', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    for (const answer of [await capture(alice, id), await voidHold(alice, id)])
      expect(refusal(answer)).toEqual([403, 'INSUFFICIENT_PERMISSIONS', false])
    for (const answer of [
      await capture(carol, id),
      await voidHold(carol, id),
      await carol.ask('GET', `/v1/holds/${id}`),
      await bob.ask('GET', `/v1/holds/${randomUUID()}`),
    ])
      expect(refusal(answer)).toEqual([404, 'HOLD_NOT_FOUND', false])
    expect((await carol.ask('GET', `/v1/transfers/${id}`)).status).toBe(404)
    expect((await ask('GET', `/v1/holds/${id}`)).status).toBe(401)
    expect((await bob.ask('POST', `/v1/holds/${id}/capture`, {})).body.code).toBe('IDEMPOTENCY_KEY_REQUIRED')
    expect(await funds(alice, from)).toEqual(['100.00', '60.00'])
  })

  test('staff let go of what is of two others', async () => {
    const [from, to] = await freshWallets()
    const id = await placed(alice, to, '40')
    expect(refusal(await alice.ask('POST', `/v1/admin/holds/${id}/void`))).toEqual([
      403,
      'INSUFFICIENT_PERMISSIONS',
      false,
    ])
    const staff = await makeStaff('moderator')
    const ended = await staff.ask('POST', `/v1/admin/holds/${id}/void`)
    expect([ended.status, ended.body.status]).toEqual([200, 'voided'])
    expect(await funds(alice, from)).toEqual(['100.00', '100.00'])
  })

  test('a payer who is frozen since still owes it; a recipient whom staff froze does not get it', async () => {
    const [from, to] = await freshWallets()
    const [first, second] = [await placed(alice, to, '40'), await placed(alice, to, '20')]
    const staff = await makeStaff('moderator')
    const change = async (wallet: Wallet, action: 'freeze' | 'unfreeze') => {
      const body = { reason: 'Case 4711' }
      const changed = await staff.ask('POST', `/v1/admin/wallets/${wallet.id}/${action}`, body)
      expect(changed.status).toBe(200)
    }
    await change(to, 'freeze')
    expect(refusal(await capture(bob, first))).toEqual([409, 'RECIPIENT_UNAVAILABLE', true])
    expect(refusal(await place(alice, to, '1'))).toEqual([409, 'RECIPIENT_UNAVAILABLE', true])
    await change(to, 'unfreeze')
    await change(from, 'freeze')
    expect(refusal(await place(alice, to, '1'))).toEqual([403, 'WALLET_FROZEN', true])
    expect((await capture(bob, first)).status).toBe(201)
    expect((await voidHold(bob, second)).status).toBe(200)
    expect(await funds(alice, from)).toEqual(['60.00', '60.00'])
  })
})

test('lists show each party its holds, newest first, by status and direction', async () => {
  const [from, to] = await freshWallets()
  const [dora, emil] = await Promise.all([makePerson('Dora'), makePerson('Emil')])
  const [theirs, others] = await Promise.all([
    openWallet(dora, from.currency, '50'),
    openWallet(emil, from.currency),
  ])
  const ids = [
    await placed(alice, theirs, '1'),
    await placed(dora, others, '2'),
    await placed(dora, to, '3'),
    await placed(alice, theirs, '4'),
  ]
  expect((await capture(dora, ids[0]!)).status).toBe(201)
  const listed = async (query: string): Promise<string[]> =>
    (await dora.ask('GET', `/v1/holds?${query}`)).body.items.map(({ id }: { id: string }) => id)
  expect(await listed('')).toEqual(ids.toReversed())
  expect(await listed('direction=in')).toEqual([ids[3], ids[0]])
  expect(await listed('direction=out')).toEqual([ids[2], ids[1]])
  expect(await listed('status=active')).toEqual([ids[3], ids[2], ids[1]])
  expect(await listed('status=captured&direction=in')).toEqual([ids[0]])
  const seen: string[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const { body } = await dora.ask('GET', `/v1/holds?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`)
    seen.push(body.items[0].id)
    cursor = body.nextCursor
  }
  expect(seen).toEqual(ids.toReversed())
  expect((await dora.ask('GET', '/v1/holds?cursor=abc')).status).toBe(422)
})

test('a captured hold is given back like any transfer, and lists tell them apart', async () => {
  const [from, to] = await freshWallets()
  const [whole, part] = [await placed(alice, to, '40'), await placed(alice, to, '20')]
  for (const id of [whole, part]) expect((await capture(bob, id)).status).toBe(201)
  const admin = await makeStaff('admin')
  const reverse = async (id: string, body: Record<string, unknown>): Promise<string> => {
    const headers = { 'idempotency-key': randomUUID() }
    const answer = await admin.ask('POST', `/v1/admin/transfers/${id}/reversals`, body, headers)
    expect([answer.status, answer.body.originalId]).toEqual([201, id])
    return answer.body.id
  }
  await reverse(whole, { reason: 'Paid twice' })
  await reverse(part, { reason: 'One was broken', amount: '5', currency: from.currency })
  const newest = async (query: string) =>
    (await alice.ask('GET', `/v1/transfers?limit=2&${query}`)).body.items as Answer['body'][]
  expect(await newest('status=reversed')).toMatchObject([
    { id: whole, type: 'transfer', status: 'reversed', reversedAmount: '40.00', final: true },
  ])
  expect((await newest('status=completed&type=transfer'))[0]).toMatchObject({
    id: part,
    status: 'completed',
    reversedAmount: '5.00',
    originalId: null,
  })
  expect(await newest('type=reversal')).toMatchObject([
    { type: 'reversal', originalId: part, amount: '5.00', balanceAfter: '85.00' },
    { type: 'reversal', originalId: whole, amount: '40.00', balanceAfter: '80.00' },
  ])
  expect((await holdOf(alice, whole)).status).toBe('captured')
})

test('X1: captures that were under way when the ledger was killed apply once, when they are sent again', async () => {
  const [from, to] = await freshWallets()
  const holds = await Promise.all(Array.from({ length: 4 }, () => placed(alice, to, '10')))
  const keys = holds.map(() => randomUUID())
  const captureAll = () => Promise.all(holds.map((id, index) => capture(bob, id, '7', keys[index]!)))
  await control('ledger', 'SIGSTOP')
  const underWay = captureAll()
  const voidKey = randomUUID()
  const rival = voidHold(bob, holds[0]!, voidKey)
  await control('ledger', 'SIGKILL')
  await control('ledger', 'restart')
  // Decided by the new ledger in time, or undecided (503): never refused for another reason.
  for (const { status } of await underWay) expect([201, 503, 409]).toContain(status)
  await rival
  const answers = await vi.waitFor(async () => {
    const answers = await captureAll()
    for (const { status } of answers) expect(status).not.toBe(503)
    return answers
  }, soon)
  const last = await voidHold(bob, holds[0]!, voidKey)
  // Either the capture or the void of the first hold has succeeded, and its repeat gets that answer.
  const wonByCapture = answers[0]!.status === 201
  expect(refusal(wonByCapture ? last : answers[0]!)).toEqual([409, 'HOLD_ENDED', true])
  expect((wonByCapture ? answers[0]! : last).status).toBe(wonByCapture ? 201 : 200)
  for (const { status } of answers.slice(1)) expect(status).toBe(201)
  const taken = 7 * (wonByCapture ? 4 : 3)
  const left = (100 - taken).toFixed(2)
  expect(await funds(alice, from)).toEqual([left, left])
  expect(await balanceOf(bob, to)).toBe(taken.toFixed(2))
}, 60_000)
