// Deposits: booked once, when the provider confirms, despite repeated and forged requests or callbacks.
import { createHmac, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { ask, balanceOf, control, makePerson, openWallet, type Person, type Wallet } from './client.ts'

let alice: Person
let wallet: Wallet
let secret: string

beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  wallet = await openWallet(alice, 'USD')
  secret = JSON.parse(
    readFileSync(join(inject('system').dataDir, 'keys', 'provider-secret.json'), 'utf8'),
  ).secret
})

const deposit = (amount: string, source?: string, key: string = randomUUID(), prefer = 'wait=10') =>
  alice.ask(
    'POST',
    '/v1/deposits',
    { walletId: wallet.id, amount, currency: 'USD', ...(source ? { source } : {}) },
    { 'idempotency-key': key, prefer },
  )

const callback = (body: object, options: { secret?: string; at?: number } = {}) => {
  const text = JSON.stringify(body)
  const seconds = options.at ?? Math.floor(Date.now() / 1_000)
  const mac = createHmac('sha256', options.secret ?? secret)
    .update(`${seconds}.${text}`)
    .digest('hex')
  return ask('POST', '/v1/provider/callbacks', {
    body: text,
    headers: { 'provider-signature': `t=${seconds},v1=${mac}` },
  })
}

describe('the provider', () => {
  test('confirms at once', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const answer = await deposit('25.00')
    expect([answer.status, answer.body.status, answer.body.from]).toEqual([201, 'completed', null])
    expect(Number(await balanceOf(alice, wallet))).toBe(before + 25)
  })

  test('refuses: final, and no money', async () => {
    const before = await balanceOf(alice, wallet)
    const key = randomUUID()
    const answer = await deposit('25.00', 'sandbox:fail', key)
    expect([answer.status, answer.body.code, answer.body.final]).toEqual([402, 'PAYMENT_FAILED', true])
    const again = await deposit('25.00', 'sandbox:fail', key)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([402, 'true'])
    const found = await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
    expect(found.body).toMatchObject({ status: 'rejected', rejection: { code: 'PAYMENT_FAILED' } })
    expect(await balanceOf(alice, wallet)).toBe(before)
  })

  test('takes its time: pending until it confirms, and the repeat waits for the same payment', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const key = randomUUID()
    const pending = await deposit('3.00', 'sandbox:delay', key, 'respond-async')
    expect([pending.status, pending.body.status]).toEqual([202, 'pending'])
    const done = await deposit('3.00', 'sandbox:delay', key)
    expect([done.status, done.body.id]).toEqual([201, pending.body.id])
    expect(Number(await balanceOf(alice, wallet))).toBe(before + 3)
  })

  test('never calls back: pending, visible to its owner alone, and no money', async () => {
    const before = await balanceOf(alice, wallet)
    const pending = await deposit('4.00', 'sandbox:silent', randomUUID(), 'wait=1')
    expect(pending.status).toBe(202)
    const found = await alice.ask('GET', `/v1/transfers/${pending.body.id}`)
    expect([found.body.status, found.body.final]).toEqual(['pending', false])
    const stranger = await makePerson('Stranger')
    expect((await stranger.ask('GET', `/v1/transfers/${pending.body.id}`)).status).toBe(404)
    expect(await balanceOf(alice, wallet)).toBe(before)
  })

  test('its callback is lost: it is asked, and the money comes all the same', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const answer = await deposit('2.00', 'sandbox:lost')
    expect([answer.status, answer.body.status]).toEqual([201, 'completed'])
    expect(Number(await balanceOf(alice, wallet))).toBe(before + 2)
  })

  test('is killed and started again: what it took is confirmed all the same', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const key = randomUUID()
    const pending = await deposit('5.00', 'sandbox:delay', key, 'respond-async')
    expect(pending.status).toBe(202)
    await control('provider', 'SIGKILL')
    const away = await deposit('6.00', undefined, randomUUID(), 'wait=1')
    expect([away.status, away.body.code, away.body.retryable]).toEqual([503, 'SERVICE_UNAVAILABLE', true])
    await control('provider', 'restart')
    // The provider never received the second order: it is not ordered later without its user.
    await vi.waitFor(async () => expect(Number(await balanceOf(alice, wallet))).toBe(before + 5), {
      timeout: 15_000,
    })
  })
})

describe('callbacks', () => {
  const order = async (amount: string) => {
    const key = randomUUID()
    expect((await deposit(amount, 'sandbox:silent', key, 'respond-async')).status).toBe(202)
    const id = transferIdOf(alice.id, key)
    return { id, kind: 'deposit', status: 'succeeded', amount, currency: 'USD', providerReference: 'test' }
  }

  test('X1: replayed, also many at once: booked once', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const body = await order('7.00')
    const answers = await Promise.all(Array.from({ length: 10 }, () => callback(body)))
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(204))
    await vi.waitFor(async () => expect(Number(await balanceOf(alice, wallet))).toBe(before + 7))
    expect((await callback(body)).status).toBe(204)
    expect((await alice.ask('GET', `/v1/transfers/${body.id}`)).body).toMatchObject({
      status: 'completed',
      amount: '7.00',
    })
    expect(Number(await balanceOf(alice, wallet))).toBe(before + 7)
  })

  test('forged, unsigned, old, of another amount or of no payment: refused, no money', async () => {
    const before = await balanceOf(alice, wallet)
    const body = await order('8.00')
    const refusals = [
      await callback(body, { secret: 'x'.repeat(40) }),
      await callback(body, { at: Math.floor(Date.now() / 1_000) - 400 }),
      await ask('POST', '/v1/provider/callbacks', { body: body }),
      await callback({ ...body, amount: '8000.00' }),
      await callback({ ...body, id: randomUUID() }),
    ]
    expect(refusals.map(({ status, body }) => [status, body.code])).toEqual([
      [401, 'SIGNATURE_INVALID'],
      [401, 'SIGNATURE_INVALID'],
      [401, 'SIGNATURE_INVALID'],
      [422, 'VALIDATION_ERROR'],
      [404, 'PAYMENT_NOT_FOUND'],
    ])
    expect(await balanceOf(alice, wallet)).toBe(before)
  })

  test('out of order: a confirmation after a failure is a fact and is booked', async () => {
    const before = Number(await balanceOf(alice, wallet))
    const body = await order('9.00')
    expect((await callback({ ...body, status: 'failed', failureReason: 'late' })).status).toBe(204)
    expect((await callback(body)).status).toBe(204)
    await vi.waitFor(async () => expect(Number(await balanceOf(alice, wallet))).toBe(before + 9))
    expect((await callback({ ...body, status: 'failed' })).status).toBe(204)
    expect((await alice.ask('GET', `/v1/transfers/${body.id}`)).body.status).toBe('completed')
    // Both are told: the failure that came after the 202, and that the money is there after all.
    await vi.waitFor(
      async () => {
        const { items } = (await alice.ask('GET', '/v1/notifications')).body
        const told = items.filter(({ transferId }: { transferId: string }) => transferId === body.id)
        expect(told.map(({ type }: { type: string }) => type).sort()).toEqual([
          'deposit_completed',
          'deposit_rejected',
        ])
        expect(JSON.stringify(told)).toContain('Your deposit of 9.00 USD was not made.')
      },
      { timeout: 15_000 },
    )
  })

  test('of another kind, or of a deposit that came back: refused', async () => {
    const body = await order('9.50')
    const refusals = [
      await callback({ ...body, kind: 'withdrawal' }),
      await callback({ ...body, status: 'returned' }),
      await callback({ ...body, kind: 'withdrawal', status: 'returned' }),
    ]
    expect(refusals.map(({ status }) => status)).toEqual([404, 422, 404])
  })
})

test.each([
  ["another currency than the wallet's", { currency: 'EUR' }, 422, 'CURRENCY_MISMATCH'],
  ['an unknown wallet', { walletId: randomUUID() }, 404, 'WALLET_NOT_FOUND'],
  ['no amount', { amount: undefined }, 422, 'VALIDATION_ERROR'],
  ['a source that the provider does not take', { source: 'sandbox:dance' }, 422, 'VALIDATION_ERROR'],
])('a deposit with %s is refused', async (_what, body, status, code) => {
  const answer = await alice.ask(
    'POST',
    '/v1/deposits',
    { walletId: wallet.id, amount: '1.00', currency: 'USD', ...body },
    { 'idempotency-key': randomUUID() },
  )
  expect([answer.status, answer.body.code]).toEqual([status, code])
})
