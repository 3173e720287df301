// Limits per transaction, day and month: exact at the boundary, for limits of users and of staff, and under concurrent
// requests.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
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

let sql: Database
let admin: Person
let moderator: Person
let to: Wallet
let alice: Person
let wallet: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'limits-test',
    maxConnections: 1,
  })
  const [bob, ...staff] = await Promise.all([
    makePerson('Bob Brown'),
    makeStaff('admin'),
    makeStaff('moderator'),
  ])
  ;[admin, moderator] = staff
  to = await openWallet(bob, 'USD')
})
afterAll(async () => {
  await putCountersBack()
  await sql.end()
})

beforeEach(async () => {
  alice = await makePerson('Alice Smith')
  wallet = await openWallet(alice, 'USD', '10000')
})

type Three = {
  perTransaction?: string | null
  daily?: string | null
  monthly?: string | null
}
const tighten = (limits: Three, action = 'send', headers: Record<string, string> = {}) =>
  alice.ask('PUT', `/v1/limits/${action}`, { walletId: wallet.id, ...limits }, headers)
const cap = (limits: Three, action = 'send', headers: Record<string, string> = {}) =>
  admin.ask('PUT', `/v1/admin/wallets/${wallet.id}/limits/${action}`, limits, headers)
const limitsOf = async (action = 'send') => {
  const { status, body } = await alice.ask('GET', `/v1/limits?walletId=${wallet.id}`)
  expect(status).toBe(200)
  return body.items.find((item: { action: string }) => item.action === action)
}
const outcome = ({ status, body }: Answer) => (status === 201 ? 'sent' : body.code)
const SAYS = { status: 422, body: { final: true, retryable: false } }

describe('at the boundary', () => {
  test('of one transaction: the limit itself passes, a cent more does not', async () => {
    expect((await tighten({ perTransaction: '100' })).status).toBe(200)
    expect(outcome(await send(alice, to, '100.00'))).toBe('sent')
    const refused = await send(alice, to, '100.01')
    expect(refused).toMatchObject({
      ...SAYS,
      body: {
        code: 'PER_TRANSACTION_LIMIT_EXCEEDED',
        limit: '100.00',
        used: '0.00',
        requested: '100.01',
        final: true,
      },
    })
    expect(await balanceOf(alice, wallet)).toBe('9900.00')
  })

  test('of a day: what is left passes, a cent more does not, and the refusal is final', async () => {
    expect((await tighten({ daily: '100' })).status).toBe(200)
    expect(outcome(await send(alice, to, '60'))).toBe('sent')
    const key = randomUUID()
    const refused = await send(alice, to, '40.01', key)
    expect(refused).toMatchObject({
      ...SAYS,
      body: { code: 'DAILY_LIMIT_EXCEEDED', limit: '100.00', used: '60.00', requested: '40.01' },
    })
    expect(outcome(await send(alice, to, '40.00'))).toBe('sent')
    expect(outcome(await send(alice, to, '0.01'))).toBe('DAILY_LIMIT_EXCEEDED')
    // A repeat returns the first answer, with the `used` of that time.
    const repeated = await send(alice, to, '40.01', key)
    expect(repeated.body).toEqual({ ...refused.body, requestId: repeated.body.requestId })
    expect((await limitsOf()).daily).toEqual({
      limit: '100.00',
      own: '100.00',
      maximum: '900000000000.00',
      used: '100.00',
      left: '0.00',
    })
  })

  test('of a month', async () => {
    expect((await tighten({ monthly: '100', daily: '90' })).status).toBe(200)
    expect(outcome(await send(alice, to, '90'))).toBe('sent')
    await onDay('day before')
    expect(outcome(await send(alice, to, '10.01'))).toBe('MONTHLY_LIMIT_EXCEEDED')
    expect(outcome(await send(alice, to, '10.00'))).toBe('sent')
    const refused = await send(alice, to, '0.01')
    expect(refused.body).toMatchObject({
      code: 'MONTHLY_LIMIT_EXCEEDED',
      limit: '100.00',
      used: '100.00',
      requested: '0.01',
    })
  })

  test('zero lets nothing move', async () => {
    expect((await tighten({ perTransaction: '0.00' })).body.perTransaction.own).toBe('0.00')
    expect(outcome(await send(alice, to, '0.01'))).toBe('PER_TRANSACTION_LIMIT_EXCEEDED')
  })

  test('twenty at once: exactly as many as fit', async () => {
    expect((await tighten({ daily: '70' })).status).toBe(200)
    const answers = await Promise.all(Array.from({ length: 20 }, () => send(alice, to, '10')))
    const outcomes = answers.map(outcome).toSorted()
    expect(outcomes).toEqual([...Array(13).fill('DAILY_LIMIT_EXCEEDED'), ...Array(7).fill('sent')])
    expect(await balanceOf(alice, wallet)).toBe('9930.00')
    expect((await limitsOf()).daily).toMatchObject({ used: '70.00', left: '0.00' })
  })

  test('what is refused for another reason uses nothing', async () => {
    expect((await tighten({ daily: '100' })).status).toBe(200)
    const closed = randomUUID()
    expect((await alice.ask('POST', '/v1/transfers', {}, { 'idempotency-key': closed })).status).toBe(422)
    expect((await send(alice, wallet, '50')).status).toBe(422)
    expect((await limitsOf()).daily.used).toBe('0.00')
  })
})

/** What the books' counters lost by onDay: added again at the end, because every other test sees the same books. */
const lost: { id: string; sums: bigint[] }[] = []
const putCountersBack = async () => {
  const today = Math.floor(Date.now() / 86_400_000)
  for (const { id, sums } of lost) {
    const [row] = await sql<{ usage: bigint[] }[]>`select usage from ledger.wallets where id = ${id}`
    const usage = [BigInt(today), ...sums.map((sum, index) => sum + row!.usage[index + 1]!)]
    await sql`update ledger.wallets set usage = ${`{${usage}}`}::text::bigint[] where id = ${id}`
  }
}

/** Moves the wallet's counters to another day, as if time had passed since: the ledger's clock is unchanged. */
const onDay = async (what: 'day before' | 'month before') => {
  const today = Math.floor(Date.now() / 86_400_000)
  const ofMonth = new Date().getUTCDate()
  // On the first of a month the day before is in another month: use the day after, which is not today either.
  const otherDay = ofMonth === 1 ? today + 1 : today - 1
  const day = what === 'month before' ? today - ofMonth : otherDay
  const [row] = await sql<{ usage: bigint[] }[]>`
    update ledger.wallets set usage[1] = ${day} where id = ${wallet.id} returning usage`
  // The counters alternate: one of the day, one of the month.
  const sums = row!.usage
    .slice(1)
    .map((sum, index) => (what === 'month before' || index % 2 === 0 ? sum : 0n))
  lost.push({ id: wallet.id, sums })
}

describe('periods begin by themselves', () => {
  test("yesterday's use counts for the month and not for the day", async () => {
    await tighten({ daily: '100', monthly: '150' })
    expect(outcome(await send(alice, to, '100'))).toBe('sent')
    await onDay('day before')
    expect(await limitsOf()).toMatchObject({
      daily: { used: '0.00', left: '100.00' },
      monthly: { used: '100.00', left: '50.00' },
    })
    expect(outcome(await send(alice, to, '50'))).toBe('sent')
    expect(await limitsOf()).toMatchObject({ daily: { used: '50.00' }, monthly: { used: '150.00' } })
  })

  test("last month's use counts as nothing", async () => {
    await tighten({ daily: '100', monthly: '100' })
    expect(outcome(await send(alice, to, '100'))).toBe('sent')
    await onDay('month before')
    expect(await limitsOf()).toMatchObject({
      daily: { used: '0.00', left: '100.00' },
      monthly: { used: '0.00', left: '100.00' },
    })
    expect(outcome(await send(alice, to, '100'))).toBe('sent')
  })
})

describe('limits of one’s own', () => {
  test('replace each other whole, and are taken away', async () => {
    expect((await tighten({ perTransaction: '10', daily: '20' })).body).toMatchObject({
      walletId: wallet.id,
      currency: 'USD',
      action: 'send',
      perTransaction: { limit: '10.00', own: '10.00', maximum: '900000000000.00' },
      daily: { limit: '20.00', own: '20.00' },
      monthly: { own: null, limit: '900000000000.00' },
    })
    expect((await tighten({ daily: '30', perTransaction: null })).body).toMatchObject({
      perTransaction: { own: null },
      daily: { own: '30.00' },
    })
    const removed = await alice.ask('DELETE', `/v1/limits/send?walletId=${wallet.id}`)
    expect([removed.status, removed.body.daily.own]).toEqual([200, null])
    expect(outcome(await send(alice, to, '31'))).toBe('sent')
  })

  test('PATCH changes what it names and leaves the rest', async () => {
    const patch = (limits: Three) => alice.ask('PATCH', '/v1/limits/send', { walletId: wallet.id, ...limits })
    const own = ({ perTransaction, daily, monthly }: Answer['body']) => [
      perTransaction.own,
      daily.own,
      monthly.own,
    ]
    await tighten({ perTransaction: '10', daily: '20', monthly: '30' })
    const changed = await patch({ daily: '25' })
    expect([changed.status, own(changed.body)]).toEqual([200, ['10.00', '25.00', '30.00']])
    expect(own((await patch({ perTransaction: null })).body)).toEqual([null, '25.00', '30.00'])
    // Each at once with the others: none undoes another.
    await Promise.all([
      patch({ perTransaction: '11' }),
      patch({ daily: '21' }),
      patch({ monthly: '31' }),
      patch({ daily: '21' }),
    ])
    expect(own(await limitsOf())).toEqual(['11.00', '21.00', '31.00'])
    const none = await patch({})
    expect([none.status, none.body.code]).toEqual([422, 'VALIDATION_ERROR'])
    expect(none.body.detail).toContain('must name perTransaction, daily or monthly')
    expect((await patch({ monthly: '900000000000.01' })).body.code).toBe('LIMIT_ABOVE_MAXIMUM')
    // What staff allow is lower than a limit that is kept: that one stays, and theirs holds.
    expect((await cap({ monthly: '5' })).status).toBe(200)
    expect((await patch({ daily: '4' })).body).toMatchObject({ monthly: { limit: '5.00', own: '31.00' } })
  })

  test('only tighten: above what staff or the defaults allow is refused, and changes nothing', async () => {
    const above = await tighten({ perTransaction: '900000000000.01' })
    expect(above).toMatchObject({ status: 422, body: { code: 'LIMIT_ABOVE_MAXIMUM' } })
    expect(above.body.detail).toContain('perTransaction: at most 900000000000.00 USD')
    expect((await cap({ daily: '500' })).status).toBe(200)
    expect((await tighten({ daily: '500.01' })).body.code).toBe('LIMIT_ABOVE_MAXIMUM')
    expect((await tighten({ daily: '500' })).status).toBe(200)
    expect((await limitsOf()).daily).toMatchObject({ limit: '500.00', own: '500.00', maximum: '500.00' })
  })

  test('hold for one action alone', async () => {
    expect((await tighten({ perTransaction: '1' }, 'withdrawal')).status).toBe(200)
    expect((await tighten({ perTransaction: '1' }, 'deposit')).status).toBe(200)
    expect(outcome(await send(alice, to, '2'))).toBe('sent')
  })

  test('a key makes a change once: a repeat is answered alike, other content is refused', async () => {
    const headers = { 'idempotency-key': randomUUID() }
    expect((await tighten({ daily: '100' }, 'send', headers)).status).toBe(200)
    expect((await tighten({ daily: '50' })).status).toBe(200)
    expect((await tighten({ daily: '100' }, 'send', headers)).status).toBe(200)
    expect((await limitsOf()).daily.own).toBe('50.00')
    expect((await tighten({ daily: '70' }, 'send', headers)).body.code).toBe('IDEMPOTENCY_KEY_REUSED')
  })

  test.each<[object, string]>([
    [{ daily: '1.001' }, 'daily: has 3 decimals, USD has 2'],
    [{ daily: '0.000', monthly: '-1' }, 'monthly: must be a decimal string'],
    [{ daily: '0.000' }, 'daily: has 3 decimals'],
    [{ daily: 5 }, 'daily: expected string'],
    [{ yearly: '5' }, 'yearly: is not a known field'],
  ])('%o breaks a rule', async (limits, detail) => {
    const { status, body } = await tighten(limits as Three)
    expect([status, body.code]).toEqual([422, 'VALIDATION_ERROR'])
    expect(body.detail).toContain(detail)
  })

  test("somebody else's wallet is none", async () => {
    for (const [method, path, body] of [
      ['GET', `/v1/limits?walletId=${to.id}`, undefined],
      ['PUT', '/v1/limits/send', { walletId: to.id, daily: '1' }],
      ['DELETE', `/v1/limits/send?walletId=${to.id}`, undefined],
    ] as const) {
      expect((await alice.ask(method, path, body)).body.code).toBe('WALLET_NOT_FOUND')
    }
    expect((await alice.ask('PUT', '/v1/limits/borrow', { walletId: wallet.id })).status).toBe(422)
    expect((await ask('GET', '/v1/limits')).status).toBe(401)
  })
})

test('every wallet has the defaults of its currency, in its decimals; lists come in pages', async () => {
  const yen = await openWallet(alice, 'JPY', '5000')
  const dinar = await openWallet(alice, 'KWD')
  const all = await alice.ask('GET', '/v1/limits')
  expect(
    all.body.items.map(({ walletId, action }: { walletId: string; action: string }) => [walletId, action]),
  ).toEqual(
    [wallet, yen, dinar].flatMap(({ id }) => ['send', 'deposit', 'withdrawal'].map(action => [id, action])),
  )
  expect(
    all.body.items
      .filter((item: { action: string }) => item.action === 'send')
      .map((item: { daily: { limit: string; left: string } }) => item.daily.left),
  ).toEqual(['900000000000.00', '900000000000', '900000000000.000'])

  const pages: unknown[] = []
  let cursor: string | null = ''
  do {
    const page: Answer = await alice.ask('GET', `/v1/limits?limit=4${cursor && `&cursor=${cursor}`}`)
    pages.push(...page.body.items)
    cursor = page.body.nextCursor
  } while (cursor !== null)
  expect(pages).toEqual(all.body.items)
  expect((await alice.ask('GET', '/v1/limits?cursor=none')).body.code).toBe('VALIDATION_ERROR')

  // Limits of one currency do not apply to another.
  const limits = { walletId: yen.id, perTransaction: '300' }
  expect((await alice.ask('PUT', '/v1/limits/send', limits)).body.perTransaction.limit).toBe('300')
  const toYen = await openWallet(await makePerson('Ken Tanaka'), 'JPY')
  expect(outcome(await send(alice, toYen, '301'))).toBe('PER_TRANSACTION_LIMIT_EXCEEDED')
  expect(outcome(await send(alice, toYen, '300'))).toBe('sent')
  expect(outcome(await send(alice, to, '301'))).toBe('sent')
})

describe('limits that staff set', () => {
  test('are listed with those of owners, by pages and filters', async () => {
    await tighten({ daily: '7' }, 'deposit')
    await tighten({ daily: '8' })
    await cap({ perTransaction: '9' })
    await tighten({ daily: '1' }, 'withdrawal')
    await alice.ask('DELETE', `/v1/limits/withdrawal?walletId=${wallet.id}`)
    const list = async (query = '') => {
      const { status, body } = await admin.ask('GET', `/v1/admin/limits?walletId=${wallet.id}${query}`)
      expect(status).toBe(200)
      return body
    }
    const of = { walletId: wallet.id, userId: alice.id, currency: 'USD' }
    const none = { perTransaction: null, daily: null, monthly: null }
    const items = [
      { ...of, action: 'deposit', source: 'self', ...none, daily: '7.00' },
      { ...of, action: 'send', source: 'self', ...none, daily: '8.00' },
      { ...of, action: 'send', source: 'staff', ...none, perTransaction: '9.00' },
    ]
    expect(await list()).toEqual({ items, nextCursor: null })
    const first = await list('&limit=2')
    expect(first.items).toEqual(items.slice(0, 2))
    expect(await list(`&limit=2&cursor=${first.nextCursor}`)).toEqual({
      items: items.slice(2),
      nextCursor: null,
    })
    expect((await list('&source=staff')).items).toEqual(items.slice(2))
    expect((await list('&action=deposit')).items).toEqual(items.slice(0, 1))
    const ofUser = await admin.ask('GET', `/v1/admin/limits?userId=${alice.id}`)
    expect(ofUser.body.items).toEqual(items)
    expect((await admin.ask('GET', '/v1/admin/limits?cursor=x')).body.code).toBe('VALIDATION_ERROR')
    expect((await moderator.ask('GET', '/v1/admin/limits')).status).toBe(403)
  })

  test('stand over the defaults and over the user’s own, who cannot touch them, and is told', async () => {
    const set = await cap({ perTransaction: '50', daily: '80' })
    expect(set).toMatchObject({
      status: 200,
      body: {
        tier: 'unverified',
        cap: { perTransaction: '50.00', daily: '80.00', monthly: null },
        default: { perTransaction: '900000000000.00' },
        perTransaction: { limit: '50.00', own: null, maximum: '50.00' },
      },
    })
    expect(outcome(await send(alice, to, '50.01'))).toBe('PER_TRANSACTION_LIMIT_EXCEEDED')
    expect(outcome(await send(alice, to, '50'))).toBe('sent')
    await alice.ask('DELETE', `/v1/limits/send?walletId=${wallet.id}`)
    expect(outcome(await send(alice, to, '30.01'))).toBe('DAILY_LIMIT_EXCEEDED')

    // A staff cap below the user's own limit applies; once it is removed, the user's own limit applies again.
    await tighten({ daily: '75' })
    expect((await cap({ daily: '60' })).body.daily).toMatchObject({
      limit: '60.00',
      own: '75.00',
      left: '10.00',
    })
    expect((await cap({ daily: null })).body.daily).toMatchObject({ limit: '75.00', own: '75.00' })

    await vi.waitFor(async () => {
      const { body } = await alice.ask('GET', '/v1/notifications')
      const told = body.items.filter(({ type }: { type: string }) => type === 'limits_changed')
      expect(told).toHaveLength(3)
      expect(told[0]).toMatchObject({ transferId: null, title: 'Limits changed' })
      expect(JSON.stringify(told)).not.toMatch(/Stella|Staff /)
    })
  })

  test('may raise what holds above the defaults', async () => {
    expect((await cap({ daily: '1000000000000' })).body.daily.limit).toBe('1000000000000.00')
    expect((await tighten({ daily: '900000000000.01' })).status).toBe(200)
  })

  test('are seen by a moderator, set by an admin, of any wallet but their own', async () => {
    const path = `/v1/admin/wallets/${wallet.id}/limits`
    const seen = await moderator.ask('GET', path)
    expect([seen.status, seen.body.items.length, seen.body.items[0].walletId]).toEqual([200, 3, wallet.id])
    for (const [person, method, where, role] of [
      [alice, 'GET', path, 'moderator'],
      [alice, 'PUT', `${path}/send`, 'admin'],
      [moderator, 'PUT', `${path}/send`, 'admin'],
    ] as const) {
      const { status, body } = await person.ask(method, where, method === 'PUT' ? { daily: '1' } : undefined)
      expect([status, body.code, body.requiredRole]).toEqual([403, 'INSUFFICIENT_PERMISSIONS', role])
    }
    const own = await openWallet(admin, 'USD')
    const refused = await admin.ask('PUT', `/v1/admin/wallets/${own.id}/limits/send`, { daily: '1' })
    expect([refused.status, refused.body.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
    const unknown = await admin.ask('PUT', `/v1/admin/wallets/${randomUUID()}/limits/send`, { daily: '1' })
    expect(unknown.body.code).toBe('WALLET_NOT_FOUND')
  })
})

test('a closed wallet takes no limits; the next one in its currency has what staff set, and what was used', async () => {
  await cap({ daily: '10000' })
  await send(alice, to, '999')
  const rest = await alice.ask(
    'POST',
    '/v1/transfers',
    { toWalletId: to.id, amount: '9001', currency: 'USD', pin: '482915' },
    { 'idempotency-key': randomUUID() },
  )
  expect(rest.status).toBe(201)
  expect((await alice.ask('DELETE', `/v1/wallets/${wallet.id}`)).status).toBe(200)
  expect((await tighten({ daily: '1' })).body.code).toBe('WALLET_ALREADY_CLOSED')
  expect((await cap({ daily: '1' })).body.code).toBe('WALLET_ALREADY_CLOSED')
  wallet = await openWallet(alice, 'USD')
  expect((await limitsOf()).daily).toMatchObject({ limit: '10000.00', used: '10000.00', left: '0.00' })
  expect((await alice.ask('GET', '/v1/limits')).body.items).toHaveLength(3)
})
