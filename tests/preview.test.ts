// A preview returns the outcome that the real transfer then has, and changes nothing.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { makePerson, makeStaff, openWallet, type Person, type Wallet } from './client.ts'

let sql: Database
let alice: Person
let admin: Person
let from: Wallet
let frozen: Wallet
let to: Wallet
let theirFrozen: Wallet
let yens: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'preview-test',
    maxConnections: 2,
  })
  let bob: Person
  ;[alice, bob, admin] = await Promise.all([
    makePerson('Alice Smith'),
    makePerson('Bob Brown'),
    makeStaff('admin'),
  ])
  from = await openWallet(alice, 'USD', '100')
  frozen = await openWallet(alice, 'EUR', '100')
  to = await openWallet(bob, 'USD')
  theirFrozen = await openWallet(bob, 'EUR')
  yens = await openWallet(bob, 'JPY')
})
afterAll(() => sql.end())

const cap = async (limits: Record<string, string>) =>
  expect((await admin.ask('PUT', `/v1/admin/wallets/${from.id}/limits/send`, limits)).status).toBe(200)
const freezeByStaff = async (wallet: Wallet) => {
  const body = { reason: 'Case 4711' }
  expect((await admin.ask('POST', `/v1/admin/wallets/${wallet.id}/freeze`, body)).status).toBe(200)
}
const freezeOwn = async (wallet: Wallet) =>
  expect((await alice.ask('POST', `/v1/wallets/${wallet.id}/freeze`, {})).status).toBe(200)

type Case = {
  name: string
  arrange?: () => Promise<unknown>
  body: () => Record<string, unknown>
  code: string | null
  members?: Record<string, string>
}
const cases: Case[] = [
  {
    name: 'it goes through',
    body: () => ({ toWalletId: to.id, amount: '12.5', currency: 'USD' }),
    code: null,
  },
  {
    name: 'by the code, with texts',
    body: () => ({ toWalletCode: to.code, amount: '7.50', currency: 'USD', note: 'x', metadata: { a: 1 } }),
    code: null,
  },
  {
    name: 'the whole balance',
    body: () => ({ toWalletId: to.id, amount: '80.00', currency: 'USD' }),
    code: null,
  },
  {
    name: 'nothing is left',
    body: () => ({ toWalletId: to.id, amount: '0.01', currency: 'USD' }),
    code: 'INSUFFICIENT_BALANCE',
  },
  {
    name: 'to itself',
    body: () => ({ toWalletId: from.id, amount: '1', currency: 'USD' }),
    code: 'SELF_TRANSFER',
  },
  {
    name: 'another currency',
    body: () => ({ toWalletId: yens.id, amount: '1', currency: 'USD' }),
    code: 'CURRENCY_MISMATCH',
  },
  {
    name: 'above the limit of one transaction',
    arrange: () => cap({ perTransaction: '5' }),
    body: () => ({ toWalletId: to.id, amount: '5.01', currency: 'USD' }),
    code: 'PER_TRANSACTION_LIMIT_EXCEEDED',
    members: { limit: '5.00', used: '0.00', requested: '5.01' },
  },
  {
    name: 'above the limit of the day',
    arrange: () => cap({ daily: '100.50' }),
    body: () => ({ toWalletId: to.id, amount: '0.51', currency: 'USD' }),
    code: 'DAILY_LIMIT_EXCEEDED',
    members: { limit: '100.50', used: '100.00', requested: '0.51' },
  },
  {
    name: 'the recipient is frozen by staff',
    arrange: () => freezeByStaff(theirFrozen),
    body: () => ({ toWalletId: theirFrozen.id, amount: '1', currency: 'EUR' }),
    code: 'RECIPIENT_UNAVAILABLE',
  },
  {
    name: 'the sender is frozen',
    arrange: () => freezeOwn(frozen),
    body: () => ({ fromWalletId: frozen.id, toWalletId: theirFrozen.id, amount: '1', currency: 'EUR' }),
    code: 'WALLET_FROZEN',
  },
]

// The order matters: each case starts with the wallets as the previous case left them.
test.each(cases)('$name: as it is then', async ({ arrange, body, code, members = {} }) => {
  await arrange?.()
  const [{ count: before }] = await sql<[{ count: bigint }]>`select count(*) from ledger.transfers`
  const preview = await alice.ask('POST', '/v1/transfers/preview', body())
  expect([preview.status, preview.body.outcome, preview.body.code]).toEqual([
    200,
    code === null ? 'completed' : 'rejected',
    code,
  ])
  expect(preview.body).toMatchObject(members)
  const [{ count: after }] = await sql<[{ count: bigint }]>`select count(*) from ledger.transfers`
  expect(after).toBe(before)

  const key = randomUUID()
  const headers = { 'idempotency-key': key, 'step-up-token': alice.stepUp }
  const real = await alice.ask('POST', '/v1/transfers', body(), headers)
  const { outcome, balanceAfter, availableAfter, amount, currency, limits } = preview.body
  if (outcome === 'completed') {
    expect([real.status, real.body.balanceAfter, real.body.amount]).toEqual([201, balanceAfter, amount])
  } else {
    expect([real.body.code, real.body.detail]).toEqual([code, preview.body.detail])
    expect(real.body).toMatchObject({ ...members, final: true })
    // A repeat and a look-up by key return the same rejection.
    const again = await alice.ask('POST', '/v1/transfers', body(), headers)
    expect(again.body).toEqual({ ...real.body, requestId: again.body.requestId })
    const { body: found } = await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
    expect(found.rejection).toEqual({ code, detail: preview.body.detail, ...members })
  }
  const wallet = currency === 'EUR' ? frozen : from
  const { body: funds } = await alice.ask('GET', `/v1/wallets/${wallet.id}`)
  expect([funds.balance, funds.available]).toEqual([balanceAfter, availableAfter])
  expect(limits.daily).toMatchObject({ limit: expect.any(String), used: expect.any(String) })
})

test.each([
  [{ toWalletId: randomUUID(), amount: '1', currency: 'USD' }, 404, 'RECIPIENT_NOT_FOUND'],
  [{ toWalletId: randomUUID(), amount: '1', currency: 'GBP' }, 404, 'WALLET_NOT_FOUND'],
  [{ toWalletCode: 'PW-00000001', amount: '1', currency: 'USD' }, 404, 'RECIPIENT_NOT_FOUND'],
  [{ toWalletId: randomUUID(), amount: '0', currency: 'USD' }, 422, 'VALIDATION_ERROR'],
  [{ amount: '1', currency: 'USD' }, 422, 'VALIDATION_ERROR'],
  [{ toWalletId: randomUUID(), amount: '1', currency: 'USD', pin: '482915' }, 422, 'VALIDATION_ERROR'],
])('%j is refused as the transfer is before it reaches the ledger', async (body, status, code) => {
  const answer = await alice.ask('POST', '/v1/transfers/preview', body)
  expect([answer.status, answer.body.code]).toEqual([status, code])
})

test('the account of the recipient is deactivated: both are refused alike', async () => {
  const dora = await makePerson('Dora Deactivated')
  const { id } = await openWallet(dora, 'USD')
  await sql`update gateway.users set disabled_at = now(), disabled_source = 'staff' where id = ${dora.id}`
  const body = { toWalletId: id, amount: '1', currency: 'USD' }
  const headers = { 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp }
  for (const path of ['/v1/transfers/preview', '/v1/transfers']) {
    const answer = await alice.ask('POST', path, body, path.endsWith('preview') ? {} : headers)
    expect([answer.status, answer.body.code]).toEqual([409, 'RECIPIENT_UNAVAILABLE'])
  }
})

test("what is held is not available: a preview tells both, and nobody previews another's wallet", async () => {
  const [carol, dora] = await Promise.all([makePerson('Carol'), makePerson('Dora')])
  const [mine, theirs] = await Promise.all([openWallet(carol, 'USD', '50'), openWallet(dora, 'USD')])
  const body = { toWalletId: theirs.id, amount: '20', currency: 'USD' }
  const headers = { 'idempotency-key': randomUUID(), 'step-up-token': carol.stepUp }
  expect((await carol.ask('POST', '/v1/holds', body, headers)).status).toBe(201)
  const preview = await carol.ask('POST', '/v1/transfers/preview', { ...body, amount: '30' })
  expect(preview.body).toMatchObject({
    outcome: 'completed',
    balanceAfter: '20.00',
    availableAfter: '0.00',
    limits: { daily: { used: '20.00' } },
  })
  const tooMuch = await carol.ask('POST', '/v1/transfers/preview', { ...body, amount: '30.01' })
  expect(tooMuch.body).toMatchObject({ outcome: 'rejected', code: 'INSUFFICIENT_BALANCE' })
  const foreign = await dora.ask('POST', '/v1/transfers/preview', { ...body, fromWalletId: mine.id })
  expect([foreign.status, foreign.body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
})
