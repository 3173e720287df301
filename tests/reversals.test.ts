// Reversals: in full or in parts, never above the amount paid, and never above the available balance.
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  type Answer,
  ask,
  balanceOf,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

let admin: Person
let otherAdmin: Person
let moderator: Person

beforeAll(async () => {
  ;[admin, otherAdmin, moderator] = await Promise.all([
    makeStaff('admin', 'Ada Admin'),
    makeStaff('admin', 'Otto Admin'),
    makeStaff('moderator', 'Mo Moderator'),
  ])
})
afterAll(expectBooksToBeRight)

const outcomeOf = ({ status, body }: Answer): string => (status < 300 ? 'done' : `${status} ${body.code}`)

const reverse = (
  transferId: string,
  body: { amount?: string; currency?: string; reason?: string } = {},
  { by = admin, key = randomUUID() as string, headers = {} } = {},
): Promise<Answer> =>
  by.ask(
    'POST',
    `/v1/admin/transfers/${transferId}/reversals`,
    { reason: 'Paid twice', ...body },
    { 'idempotency-key': key, ...headers },
  )

type Paid = { alice: Person; bob: Person; from: Wallet; to: Wallet; id: string }

/** Alice starts with 100 and sends Bob `amount`. */
const paid = async (amount = '50'): Promise<Paid> => {
  const [alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  const [from, to] = await Promise.all([openWallet(alice, 'USD', '100'), openWallet(bob, 'USD')])
  const sent = await send(alice, to, amount)
  expect(sent.status).toBe(201)
  return { alice, bob, from, to, id: sent.body.id }
}
const balancesOf = async ({ alice, bob, from, to }: Paid) => [
  await balanceOf(alice, from),
  await balanceOf(bob, to),
]
const freezeByStaff = async (wallet: Wallet) => {
  const body = { reason: 'Case 4711' }
  expect((await moderator.ask('POST', `/v1/admin/wallets/${wallet.id}/freeze`, body)).status).toBe(200)
}
const close = async (person: Person, wallet: Wallet) =>
  expect((await person.ask('DELETE', `/v1/wallets/${wallet.id}`)).status).toBe(200)

describe('a reversal', () => {
  test('of all is a transfer back that points at the original; both parties see it', async () => {
    const payment = await paid()
    const { alice, bob, from, to, id } = payment
    const reversed = await reverse(id, { reason: 'Paid twice' })
    expect(reversed.status).toBe(201)
    expect(reversed.headers.get('location')).toBe(`/v1/transfers/${reversed.body.id}`)
    expect(reversed.body).toMatchObject({
      type: 'reversal',
      status: 'completed',
      originalId: id,
      requestedBy: admin.id,
      from: { walletId: to.id, walletCode: to.code, userId: bob.id, name: 'Bob Brown', balanceAfter: '0.00' },
      to: { walletId: from.id, userId: alice.id, name: 'Alice Smith', balanceAfter: '100.00' },
      amount: '50.00',
      currency: 'USD',
      note: 'Paid twice',
      reversedAmount: '0.00',
      rejection: null,
      final: true,
    })
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])

    for (const [person, balanceAfter] of [
      [alice, '100.00'],
      [bob, '0.00'],
    ] as const) {
      const original = (await person.ask('GET', `/v1/transfers/${id}`)).body
      expect(original).toMatchObject({ status: 'reversed', amount: '50.00', reversedAmount: '50.00' })
      const newest = (await person.ask('GET', '/v1/transfers')).body.items[0]
      expect(newest).toMatchObject({ id: reversed.body.id, type: 'reversal', originalId: id, balanceAfter })
      expect(newest).toMatchObject({ note: 'Paid twice', amount: '50.00' })
      // A party sees only its own balance.
      expect(JSON.stringify(newest)).not.toContain(balanceAfter === '0.00' ? '100.00' : 'Brown')
    }
    const forStaff = (await moderator.ask('GET', `/v1/admin/transfers/${id}`)).body
    expect(forStaff).toMatchObject({
      status: 'reversed',
      reversedAmount: '50.00',
      requestedBy: alice.id,
      from: { userId: alice.id, name: 'Alice Smith', balanceAfter: '50.00' },
      to: { userId: bob.id, name: 'Bob Brown', balanceAfter: '50.00' },
    })
    const same = (await moderator.ask('GET', `/v1/admin/transfers/${reversed.body.id}`)).body
    expect(same).toEqual(reversed.body)
  })

  test('in parts gives back no more than was paid; without an amount all that is left', async () => {
    const payment = await paid()
    const { alice, id } = payment
    expect((await reverse(id, { amount: '20' })).body.amount).toBe('20.00')
    expect((await reverse(id, { amount: '20.00', currency: 'USD' })).status).toBe(201)
    const tooMuch = await reverse(id, { amount: '10.01' })
    expect(tooMuch.body).toMatchObject({ status: 422, code: 'REVERSAL_EXCEEDS_ORIGINAL', final: true })
    expect((await alice.ask('GET', `/v1/transfers/${id}`)).body).toMatchObject({
      status: 'completed',
      reversedAmount: '40.00',
    })
    expect((await reverse(id)).body.amount).toBe('10.00')
    expect((await reverse(id)).body).toMatchObject({ code: 'REVERSAL_EXCEEDS_ORIGINAL', final: true })
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
  })

  test('twenty parts at once, from two admins, never exceed the original', async () => {
    const payment = await paid()
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        reverse(payment.id, { amount: '10' }, { by: index % 2 ? admin : otherAdmin }),
      ),
    )
    expect(answers.map(outcomeOf).sort()).toEqual([
      ...Array(15).fill('422 REVERSAL_EXCEEDS_ORIGINAL'),
      ...Array(5).fill('done'),
    ])
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
  })

  test('twenty of the whole at once are one', async () => {
    const payment = await paid()
    const answers = await Promise.all(Array.from({ length: 20 }, () => reverse(payment.id)))
    expect(answers.map(outcomeOf).sort()).toEqual([
      ...Array(19).fill('422 REVERSAL_EXCEEDS_ORIGINAL'),
      'done',
    ])
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
  })

  test('against the recipient spending it: nobody falls below zero', async () => {
    const payment = await paid()
    const { alice, bob, from, id } = payment
    const [reversals, spendings] = await Promise.all([
      Promise.all(Array.from({ length: 5 }, () => reverse(id, { amount: '10' }))),
      Promise.all(Array.from({ length: 5 }, () => send(bob, from, '15'))),
    ])
    const given = reversals.filter(({ status }) => status === 201).length
    const spent = spendings.filter(({ status }) => status === 201).length
    expect(new Set([...reversals, ...spendings].map(outcomeOf).concat('402 INSUFFICIENT_BALANCE'))).toEqual(
      new Set(['done', '402 INSUFFICIENT_BALANCE']),
    )
    const left = 50 - 10 * given - 15 * spent
    expect(left).toBeGreaterThanOrEqual(0)
    expect(await balancesOf(payment)).toEqual([`${100 - left}.00`, `${left}.00`])
    expect((await alice.ask('GET', `/v1/transfers/${id}`)).body.reversedAmount).toBe(`${10 * given}.00`)
  })

  test('of money that is spent is refused for good; what is still there can be given back', async () => {
    const payment = await paid()
    const { bob, from, id } = payment
    await send(bob, from, '40')
    const key = randomUUID()
    const refused = await reverse(id, {}, { key })
    expect(refused.body).toMatchObject({ status: 402, code: 'INSUFFICIENT_BALANCE', final: true })
    await openWallet(bob, 'EUR')
    expect((await reverse(id, { amount: '10' })).status).toBe(201)
    // The answer for the key stays the same, even after later changes.
    const again = await reverse(id, {}, { key })
    expect([again.body.code, again.body.transferId]).toEqual([
      'INSUFFICIENT_BALANCE',
      refused.body.transferId,
    ])
    expect(again.headers.get('idempotency-replayed')).toBe('true')
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
  })

  test('is stopped by no freeze, of either side and of any source', async () => {
    const payment = await paid()
    const { alice, bob, from, to, id } = payment
    expect((await alice.ask('POST', `/v1/wallets/${from.id}/freeze`)).status).toBe(200)
    expect((await bob.ask('POST', `/v1/wallets/${to.id}/freeze`)).status).toBe(200)
    expect(outcomeOf(await reverse(id, { amount: '10' }))).toBe('done')
    await freezeByStaff(from)
    await freezeByStaff(to)
    expect(outcomeOf(await reverse(id, { amount: '10' }))).toBe('done')
    expect(await balancesOf(payment)).toEqual(['70.00', '30.00'])
  })

  test("of a closed recipient's is refused, and to a closed sender", async () => {
    const spent = await paid()
    await send(spent.bob, spent.from, '50')
    await close(spent.bob, spent.to)
    expect(outcomeOf(await reverse(spent.id))).toBe('403 WALLET_CLOSED')

    const left = await paid('100')
    await close(left.alice, left.from)
    const refused = await reverse(left.id)
    expect(refused.body).toMatchObject({ status: 409, code: 'RECIPIENT_UNAVAILABLE', final: true })
    // Nor is the money sent to another wallet of the sender.
    await openWallet(left.alice, 'USD')
    expect(outcomeOf(await reverse(left.id))).toBe('409 RECIPIENT_UNAVAILABLE')
    expect(await balanceOf(left.bob, left.to)).toBe('100.00')
  })

  test('against the closing of the recipient: either way nothing is lost', async () => {
    for (let round = 0; round < 5; round++) {
      const payment = await paid()
      const { bob, to, id } = payment
      const [reversed, closed] = await Promise.all([reverse(id), bob.ask('DELETE', `/v1/wallets/${to.id}`)])
      expect(outcomeOf(reversed)).toBe('done')
      expect(['done', '409 WALLET_HAS_BALANCE']).toContain(outcomeOf(closed))
      expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
    }
  })

  test('of a deposit sends it back outside', async () => {
    const alice = await makePerson('Alice Smith')
    const wallet = await openWallet(alice, 'USD')
    const deposit = await alice.ask(
      'POST',
      '/v1/deposits',
      { walletId: wallet.id, amount: '30', currency: 'USD' },
      { 'idempotency-key': randomUUID() },
    )
    const part = await reverse(deposit.body.id, { amount: '10' })
    expect(part.body).toMatchObject({
      type: 'reversal',
      originalId: deposit.body.id,
      from: { userId: alice.id, balanceAfter: '20.00' },
      to: null,
    })
    expect((await alice.ask('GET', `/v1/transfers/${part.body.id}`)).body).toMatchObject({
      to: null,
      balanceAfter: '20.00',
    })
    const { bob, to } = await paid()
    await send(alice, to, '5')
    expect(outcomeOf(await reverse(deposit.body.id))).toBe('402 INSUFFICIENT_BALANCE')
    await send(bob, wallet, '5')
    expect(outcomeOf(await reverse(deposit.body.id))).toBe('done')
    expect(await balanceOf(alice, wallet)).toBe('0.00')
  })

  test('of a deposit that waits in suspense is refused: it is in no wallet of a user', async () => {
    const alice = await makePerson('Alice Smith')
    const wallet = await openWallet(alice, 'USD')
    const deposit = await alice.ask(
      'POST',
      '/v1/deposits',
      { walletId: wallet.id, amount: '30', currency: 'USD', source: 'sandbox:delay' },
      { 'idempotency-key': randomUUID(), prefer: 'respond-async' },
    )
    expect(deposit.status).toBe(202)
    await freezeByStaff(wallet)
    const { id } = deposit.body
    await vi.waitFor(
      async () =>
        expect((await moderator.ask('GET', `/v1/admin/transfers/${id}`)).body.status).toBe('in_suspense'),
      { timeout: 15_000 },
    )
    expect((await reverse(id)).body).toMatchObject({ status: 409, code: 'NOT_REVERSIBLE', final: false })
    expect(await balanceOf(alice, wallet)).toBe('0.00')
  })

  test('of a reversal, of what was rejected, and of nothing is refused', async () => {
    const { bob, from, id } = await paid()
    const reversed = await reverse(id)
    const again = await reverse(reversed.body.id)
    expect(again.body).toMatchObject({ status: 409, code: 'NOT_REVERSIBLE', final: true })
    const rejected = await send(bob, from, '1000')
    const ofRejected = await reverse(rejected.body.transferId)
    expect(ofRejected.body).toMatchObject({ status: 409, code: 'NOT_REVERSIBLE', final: false })
    expect((await reverse(randomUUID())).body).toMatchObject({ status: 404, code: 'TRANSFER_NOT_FOUND' })
  })
})

describe('beside holds and withdrawals', () => {
  const hold = async ({ alice, to }: Pick<Paid, 'alice' | 'to'>, amount: string) => {
    const body = { toWalletId: to.id, amount, currency: 'USD' }
    const headers = { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp }
    const held = await alice.ask('POST', '/v1/holds', body, headers)
    expect(held.status).toBe(201)
    return held.body.id as string
  }
  const capture = (by: Person, id: string, amount: string) =>
    by.ask('POST', `/v1/holds/${id}/capture`, { amount }, { 'idempotency-key': randomUUID() })

  test('a hold is let go, not reversed; captured it is a transfer like any other', async () => {
    const payment = await paid('50')
    const { alice, bob } = payment
    const id = await hold(payment, '30')
    expect(outcomeOf(await reverse(id))).toBe('409 NOT_REVERSIBLE')
    expect((await capture(bob, id, '20')).status).toBe(201)
    expect(outcomeOf(await reverse(id, { amount: '21' }))).toBe('422 REVERSAL_EXCEEDS_ORIGINAL')
    expect((await reverse(id)).body).toMatchObject({ originalId: id, amount: '20.00' })
    expect(await balancesOf(payment)).toEqual(['50.00', '50.00'])
    expect((await alice.ask('GET', `/v1/transfers/${id}`)).body.status).toBe('reversed')
    const released = await hold(payment, '30')
    expect((await bob.ask('POST', `/v1/holds/${released}/void`)).status).toBe(200)
    expect(outcomeOf(await reverse(released))).toBe('409 NOT_REVERSIBLE')
  })

  test('what the recipient has promised to others is not given back', async () => {
    const payment = await paid('50')
    const { bob, from, id } = payment
    await hold({ alice: bob, to: from }, '40')
    expect(outcomeOf(await reverse(id))).toBe('402 INSUFFICIENT_BALANCE')
    expect(outcomeOf(await reverse(id, { amount: '10' }))).toBe('done')
    expect(await balancesOf(payment)).toEqual(['60.00', '40.00'])
  })

  test("a withdrawal is the provider's to return", async () => {
    const { alice, from } = await paid()
    const withdrawal = await alice.ask(
      'POST',
      '/v1/withdrawals',
      { walletId: from.id, amount: '10', currency: 'USD', destination: 'DE02 1203' },
      { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp },
    )
    expect([withdrawal.status, withdrawal.body.status]).toEqual([201, 'completed'])
    const refused = await reverse(withdrawal.body.id)
    expect(refused.body).toMatchObject({ status: 409, code: 'NOT_REVERSIBLE', final: true })
    expect(await balanceOf(alice, from)).toBe('40.00')
  })
})

describe('its key', () => {
  test('gives the same answer again, and none to another request', async () => {
    const payment = await paid()
    const other = await paid()
    const key = randomUUID()
    const [first, ...rest] = await Promise.all(
      Array.from({ length: 10 }, () => reverse(payment.id, {}, { key })),
    )
    expect(first!.status).toBe(201)
    for (const { body } of rest) expect(body).toEqual(first!.body)
    const replayed = await reverse(payment.id, {}, { key })
    expect([replayed.status, replayed.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
    expect(replayed.body).toEqual(first!.body)
    for (const again of [
      reverse(payment.id, { amount: '50' }, { key }),
      reverse(payment.id, { reason: 'Another' }, { key }),
      reverse(other.id, {}, { key }),
    ]) {
      expect(outcomeOf(await again)).toBe('422 IDEMPOTENCY_KEY_REUSED')
    }
    // The same key from another admin is another request.
    const independent = await reverse(other.id, {}, { key, by: otherAdmin })
    expect(independent.status).toBe(201)
    expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
    expect((await admin.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)).body.id).toBe(first!.body.id)
  })

  test('is shared with the transfers of the same person', async () => {
    const { id, to } = await paid()
    const staff = await makeStaff('admin')
    await openWallet(staff, 'USD', '10')
    const key = randomUUID()
    expect((await send(staff, to, '1', key)).status).toBe(201)
    expect(outcomeOf(await reverse(id, {}, { by: staff, key }))).toBe('422 IDEMPOTENCY_KEY_REUSED')
  })

  test('with respond-async answers 202, and the outcome is found', async () => {
    const payment = await paid()
    const pending = await reverse(payment.id, { amount: '5' }, { headers: { prefer: 'respond-async' } })
    expect([201, 202]).toContain(pending.status)
    expect(pending.body).toMatchObject({ type: 'reversal', originalId: payment.id, amount: '5.00' })
    const location = pending.headers.get('location')!
    await vi.waitFor(async () =>
      expect((await admin.ask('GET', location)).body).toMatchObject({
        status: 'completed',
        originalId: payment.id,
      }),
    )
    expect(await balancesOf(payment)).toEqual(['55.00', '45.00'])
  })
})

describe('who may', () => {
  test('only admin and above; a moderator looks', async () => {
    const { alice, bob, id } = await paid()
    for (const person of [alice, bob]) {
      const answer = await reverse(id, {}, { by: person })
      expect(answer.body).toMatchObject({ code: 'INSUFFICIENT_PERMISSIONS', requiredRole: 'admin' })
      const looked = await person.ask('GET', `/v1/admin/transfers/${id}`)
      expect(looked.body).toMatchObject({ code: 'INSUFFICIENT_PERMISSIONS', requiredRole: 'moderator' })
    }
    const asModerator = await reverse(id, {}, { by: moderator })
    expect(asModerator.body).toMatchObject({ status: 403, code: 'INSUFFICIENT_PERMISSIONS' })
    expect((await moderator.ask('GET', `/v1/admin/transfers/${id}`)).status).toBe(200)
    expect(outcomeOf(await moderator.ask('GET', `/v1/admin/transfers/${randomUUID()}`))).toBe(
      '404 TRANSFER_NOT_FOUND',
    )
    const nobody = await ask('POST', `/v1/admin/transfers/${id}/reversals`, { body: { reason: 'x' } })
    expect(outcomeOf(nobody)).toBe('401 TOKEN_MISSING')
  })

  test('never one of the parties', async () => {
    const staff = await makeStaff('admin')
    const own = await openWallet(staff, 'USD', '10')
    const { alice, from } = await paid()
    const sent = await send(staff, from, '1')
    const received = await send(alice, own, '1')
    for (const { body } of [sent, received]) {
      const refused = await reverse(body.id, {}, { by: staff })
      expect(outcomeOf(refused)).toBe('403 INSUFFICIENT_PERMISSIONS')
      expect((await staff.ask('GET', `/v1/admin/transfers/${body.id}`)).status).toBe(200)
      expect(outcomeOf(await reverse(body.id))).toBe('done')
    }
  })
})

test('what is malformed is refused, and its key stays free', async () => {
  const payment = await paid()
  const { id } = payment
  const key = randomUUID()
  for (const body of [
    { amount: '0' },
    { amount: '1.001' },
    { amount: '-1' },
    { reason: '' },
    { reason: 'x'.repeat(256) },
    { more: 1 },
  ]) {
    expect([body, outcomeOf(await reverse(id, body, { key }))]).toEqual([body, '422 VALIDATION_ERROR'])
  }
  const mismatch = await reverse(id, { amount: '1', currency: 'EUR' }, { key })
  expect(mismatch.body).toMatchObject({ status: 422, code: 'CURRENCY_MISMATCH', final: false })
  const keyless = await admin.ask('POST', `/v1/admin/transfers/${id}/reversals`, { reason: 'x' })
  expect(outcomeOf(keyless)).toBe('400 IDEMPOTENCY_KEY_REQUIRED')
  expect(outcomeOf(await reverse('no-id', {}, { key }))).toBe('422 VALIDATION_ERROR')
  expect(outcomeOf(await reverse(id, {}, { key }))).toBe('done')
  expect(await balancesOf(payment)).toEqual(['100.00', '0.00'])
})
