// GET /v1/admin/transfers: of all users, of one owner, by a reference; and one transfer before it is decided.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { makePerson, makeStaff, openWallet, type Person, send, type Wallet } from './client.ts'

let sql: Database
let moderator: Person
let alice: Person
let bob: Person
let from: Wallet
let to: Wallet
/** A day's amounts that no other file pays, so that the list of all shows these alone. */
const AMOUNTS = ['777.01', '777.02', '777.03', '777.04', '777.05']
const MARKED = 'currency=USD&minAmount=777.01&maxAmount=777.05'

type Shown = {
  id: string
  amount: string
  status: string
  type: string
  from: { userId: string; name: string } | null
}
const list = async (query: string) => {
  const { status, body } = await moderator.ask('GET', `/v1/admin/transfers?${query}`)
  expect([query, status, body]).toEqual([query, 200, expect.anything()])
  return body as { items: Shown[]; nextCursor: string | null }
}
/** All pages of a list, each of at most two. */
const listAll = async (query: string) => {
  const items: Shown[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const page = await list(`${query}&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
    expect(page.items.length).toBeLessThanOrEqual(2)
    items.push(...page.items)
    cursor = page.nextCursor
  }
  return items
}
const deposit = (source: string, prefer: string) =>
  alice.ask(
    'POST',
    '/v1/deposits',
    { walletId: from.id, amount: '12.34', currency: 'USD', source },
    { 'idempotency-key': randomUUID(), prefer },
  )

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  ;[alice, bob, moderator] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makeStaff('moderator'),
  ])
  ;[from, to] = await Promise.all([openWallet(alice, 'USD', '4000'), openWallet(bob, 'USD')])
  for (const amount of AMOUNTS) expect((await send(alice, to, amount)).status).toBe(201)
  expect((await send(alice, to, '777.03')).status).toBe(402)
}, 60_000)
afterAll(() => sql.end())

describe('of all users', () => {
  test('newest first, in pages, with both parties by name; filters hold together', async () => {
    const items = await listAll(MARKED)
    expect(items.map(({ amount, status }) => [amount, status])).toEqual([
      ['777.03', 'rejected'],
      ...AMOUNTS.toReversed().map(amount => [amount, 'completed']),
    ])
    expect(items[1]).toMatchObject({
      from: { userId: alice.id, name: 'Alice Smith', walletId: from.id },
      to: { userId: bob.id, name: 'Bob Brown' },
      requestedBy: alice.id,
      type: 'transfer',
    })
    const amounts = async (query: string) => (await listAll(query)).map(({ amount }) => amount)
    expect(await amounts(`${MARKED}&status=completed`)).toEqual(AMOUNTS.toReversed())
    expect(await amounts(`${MARKED}&status=rejected&type=transfer`)).toEqual(['777.03'])
    expect(await amounts(`${MARKED}&type=deposit`)).toEqual([])
    const day = new Date().toISOString().slice(0, 10)
    expect(await amounts(`${MARKED}&from=${day}`)).toHaveLength(6)
    expect(await amounts(`${MARKED}&to=2026-02-01`)).toEqual([])
  })

  test.each([
    ['status=pending', 'status: without userId or walletId'],
    ['direction=in', 'direction: goes with userId or walletId'],
    ['counterparty=5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11', 'counterparty: goes with userId or walletId'],
    ['minAmount=1', 'currency: is required'],
    ['from=2026-02-02&to=2026-02-01', 'from: must not be after to'],
    ['reference=TXN-1', 'reference: must be the reference of a transfer'],
    ['cursor=x', 'cursor: must be the nextCursor of an earlier page'],
    ['name=alice', 'name: is not a known field'],
  ])('%s is refused with the field and the rule', async (query, detail) => {
    const { status, body } = await moderator.ask('GET', `/v1/admin/transfers?${query}`)
    expect([status, body.code, body.detail]).toEqual([
      422,
      'VALIDATION_ERROR',
      expect.stringContaining(detail),
    ])
  })

  test('needs a moderator', async () => {
    const { status, body } = await alice.ask('GET', '/v1/admin/transfers')
    expect([status, body.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
  })
})

describe('of one owner', () => {
  test('what the owner’s own list shows, pending and refused included, with whole names', async () => {
    const pending = await deposit('sandbox:silent', 'wait=0')
    expect(pending.status).toBe(202)
    const own = await alice.ask('GET', '/v1/transfers?limit=50')
    const ids = own.body.items.map(({ id }: Shown) => id)
    expect(ids.length).toBeGreaterThan(6)
    expect((await listAll(`userId=${alice.id}`)).map(({ id }) => id)).toEqual(ids)
    const ofWallet = await listAll(`walletId=${from.id}`)
    expect(ofWallet.map(({ id }) => id)).toEqual(ids)
    expect(ofWallet.find(({ amount }) => amount === '777.01')?.from?.name).toBe('Alice Smith')
    expect((await listAll(`userId=${alice.id}&status=pending`)).map(({ id }) => id)).toEqual([
      pending.body.id,
    ])
    const paid = await listAll(`walletId=${to.id}&direction=in&counterparty=${from.id}`)
    expect(paid.map(({ amount }) => amount)).toEqual(AMOUNTS.toReversed())

    // It is shown to staff by its id, too, before anything is decided.
    const one = await moderator.ask('GET', `/v1/admin/transfers/${pending.body.id}`)
    expect([one.status, one.body.status, one.body.to.userId]).toEqual([200, 'pending', alice.id])
  })

  test('no such wallet, and a wallet that is not this user’s', async () => {
    for (const query of [`walletId=${randomUUID()}`, `userId=${bob.id}&walletId=${from.id}`]) {
      const { status, body } = await moderator.ask('GET', `/v1/admin/transfers?${query}`)
      expect([status, body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
    }
  })
})

describe('by a reference', () => {
  test('of the transfer, as it is typed', async () => {
    const { body } = await send(alice, to, '1.00')
    const found = await list(`reference=${body.reference.toLowerCase()}`)
    expect(found).toMatchObject({ items: [{ id: body.id, amount: '1.00' }], nextCursor: null })
    expect(await list('reference=TXN-000000000000')).toEqual({ items: [], nextCursor: null })
  })

  test('of the payment, as the provider knows it', async () => {
    const { status, body } = await deposit('bank', 'wait=10')
    expect(status).toBe(201)
    const [payment] = await sql<{ reference: string }[]>`
      select provider_reference as reference from gateway.payments where id = ${body.id}`
    const found = await list(`providerReference=${encodeURIComponent(payment!.reference)}`)
    expect(found.items.map(({ id }) => id)).toEqual([body.id])
    expect((await list('providerReference=none')).items).toEqual([])
  })
})
