// Confirmation of payments: which payments need the PIN itself, how a lock is lifted, and that a payment with a step-up
// token hashes nothing.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { mailedCode, makePerson, makeStaff, openWallet, type Person, send, type Wallet } from './client.ts'

const PIN = '482915'
const NEW = '730164'

let sql: Database
let moderator: Person
let bob: Person

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  moderator = await makeStaff('moderator')
  bob = await makePerson('Bob Brown')
})
afterAll(() => sql.end())

/** The number of bcrypt runs of the gateway, for PINs and for passwords. */
const hashes = async (): Promise<{ pin: number; password: number }> => {
  const text = await (await fetch(`${inject('system').opsUrls.gateway}/metrics`)).text()
  const of = (what: string) =>
    Number(
      new RegExp(`^pennywire_gateway_slow_hashes_total\\{of="${what}"\\} (\\d+)$`, 'm').exec(text)?.[1] ?? 0,
    )
  return { pin: of('pin'), password: of('password') }
}

describe('hashing is on no payment’s path where a step-up token is used', () => {
  test('transfers, holds and withdrawals by the dozen hash nothing; one with the PIN hashes once', async () => {
    const alice = await makePerson('Alice Smith')
    const from = await openWallet(alice, 'USD', '900.00')
    const to = await openWallet(await makePerson('Carol Clark'), 'USD')
    const before = await hashes()
    const sent = await Promise.all(Array.from({ length: 50 }, () => send(alice, to, '1.00')))
    expect(sent.map(({ status }) => status)).toEqual(Array(50).fill(201))
    const headers = () => ({ 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp })
    const rest = await Promise.all([
      alice.ask('POST', '/v1/holds', { toWalletId: to.id, amount: '1.00', currency: 'USD' }, headers()),
      alice.ask(
        'POST',
        '/v1/withdrawals',
        { walletId: from.id, amount: '1.00', currency: 'USD', destination: 'bank' },
        headers(),
      ),
      alice.ask('POST', '/v1/deposits', { walletId: from.id, amount: '1.00', currency: 'USD' }, headers()),
    ])
    for (const { status } of rest) expect([201, 202]).toContain(status)
    expect(await hashes()).toEqual(before)

    const key = randomUUID()
    const byPin = { body: { pin: PIN }, headers: { 'step-up-token': '' } }
    expect((await send(alice, to, '1.00', key, byPin)).status).toBe(201)
    expect(await hashes()).toEqual({ ...before, pin: before.pin + 1 })
    // A repeat of the request is answered before the PIN is checked.
    expect((await send(alice, to, '1.00', key, byPin)).status).toBe(201)
    expect((await hashes()).pin).toBe(before.pin + 1)
  })
})

describe('amounts above the setting need the PIN itself, counted in the decimals of each currency', () => {
  // 1,000 whole units in each currency, not minor units.
  test.each([
    ['USD', '1000.00', '1000.01'],
    ['JPY', '1000', '1001'],
    ['KWD', '1000.000', '1000.001'],
  ])('%s: %s goes by a step-up token, %s does not', async (currency, most, above) => {
    const alice = await makePerson('Alice Smith')
    await openWallet(alice, currency, '5000')
    const opened = await bob.ask('POST', '/v1/wallets', { currency })
    const to: Wallet = opened.body
    expect((await send(alice, to, most)).status).toBe(201)
    const refused = await send(alice, to, above)
    expect([refused.status, refused.body.code]).toEqual([403, 'PIN_REQUIRED'])
    expect(refused.body.detail).toContain(`1000 ${currency}`)
    expect((await send(alice, to, above, randomUUID(), { body: { pin: PIN } })).status).toBe(201)
  })
})

/** Enters three wrong PINs, after ending any earlier lock. */
const lockPin = async (person: Person) => {
  await sql`update gateway.pins set locked_until = now() - interval '1 second' where user_id = ${person.id}`
  for (const code of ['INVALID_PIN', 'INVALID_PIN', 'PIN_LOCKED']) {
    expect((await person.ask('POST', '/v1/pin/verify', { pin: '592817' })).body.code).toBe(code)
  }
}

test('a lock of the PIN stops the step-up tokens of before, until there is a new PIN', async () => {
  const alice = await makePerson('Alice Smith')
  const from = await openWallet(alice, 'USD', '10.00')
  const to = await openWallet(await makePerson('Dora Day'), 'USD')
  expect((await send(alice, to, '1.00')).status).toBe(201)
  await lockPin(alice)
  const money = { amount: '1.00', currency: 'USD' }
  const headers = (stepUp = alice.stepUp) => ({ 'idempotency-key': randomUUID(), 'step-up-token': stepUp })
  const answers = await Promise.all([
    send(alice, to, '1.00'),
    alice.ask('POST', '/v1/holds', { toWalletId: to.id, ...money }, headers()),
    alice.ask('POST', '/v1/withdrawals', { walletId: from.id, ...money, destination: 'bank' }, headers()),
  ])
  expect(answers.map(({ status, body }) => [status, body.code])).toEqual(
    Array(3).fill([403, 'STEP_UP_INVALID']),
  )

  expect((await alice.ask('POST', '/v1/pin/reset-request')).status).toBe(202)
  const otp = await mailedCode(alice.email)
  expect((await alice.ask('POST', '/v1/pin/reset', { otp, newPin: NEW })).status).toBe(200)
  const { stepUpToken } = (await alice.ask('POST', '/v1/pin/verify', { pin: NEW })).body
  const paid = await send(alice, to, '1.00', randomUUID(), { headers: headers(stepUpToken) })
  expect(paid.status).toBe(201)
})

describe('a new PIN by a mailed code', () => {
  const freezeOf = async (person: Person, { id }: Wallet) =>
    (await person.ask('GET', `/v1/wallets/${id}`)).body.freeze
  const soon = { timeout: 15_000, interval: 100 }

  test('ends the lock and lifts the freezes that came from wrong PINs, and no others', async () => {
    const alice = await makePerson('Alice Smith')
    const [usd, gbp] = [await openWallet(alice, 'USD', '10.00'), await openWallet(alice, 'GBP')]
    await moderator.ask('POST', `/v1/admin/wallets/${gbp.id}/freeze`, { reason: 'looked into' })
    for (let lock = 0; lock < 3; lock++) await lockPin(alice)
    await vi.waitFor(async () => expect((await freezeOf(alice, usd)).source).toBe('pin'), soon)

    const answer = await alice.ask('POST', '/v1/pin/reset-request')
    expect(answer.status).toBe(202)
    const otp = await mailedCode(alice.email)
    expect((await alice.ask('POST', '/v1/pin/reset', { otp, newPin: NEW })).body).toEqual({
      pinChanged: true,
    })
    await vi.waitFor(async () => expect(await freezeOf(alice, usd)).toBeNull(), soon)
    expect((await freezeOf(alice, gbp)).source).toBe('staff')
    const again = await alice.ask('POST', '/v1/pin/reset', { otp, newPin: PIN })
    expect([again.status, again.body.code]).toEqual([400, 'INVALID_OTP'])

    const to = await openWallet(await makePerson('Dora Day'), 'USD')
    const paid = await send(alice, to, '1.00', randomUUID(), { body: { pin: NEW } })
    expect(paid.status).toBe(201)
  })

  test('a freeze that is on its way when the code is used does not stay behind', async () => {
    const alice = await makePerson('Alice Smith')
    const wallet = await openWallet(alice, 'USD', '10.00')
    await lockPin(alice)
    await lockPin(alice)
    expect((await alice.ask('POST', '/v1/pin/reset-request')).status).toBe(202)
    const otp = await mailedCode(alice.email)
    await lockPin(alice)
    expect((await alice.ask('POST', '/v1/pin/reset', { otp, newPin: NEW })).status).toBe(200)
    // Whether the freeze was dropped or executed first: in the end nothing is due and the wallet is not frozen.
    await vi.waitFor(async () => {
      const [open] = await sql`
        select (select count(*)::int from gateway.pin_locks where user_id = ${alice.id} and freeze_due)
          + (select count(*)::int from gateway.pin_resets where user_id = ${alice.id} and unfreeze_due)
          + (select count(*)::int from gateway.outbox) as wishes`
      expect(open!.wishes).toBe(0)
      expect(await freezeOf(alice, wallet)).toBeNull()
    }, soon)
    const to = await openWallet(await makePerson('Dora Day'), 'USD')
    expect((await send(alice, to, '1.00', randomUUID(), { body: { pin: NEW } })).status).toBe(201)
  })
})
