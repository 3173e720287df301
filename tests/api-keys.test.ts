// Back ends with API keys: the operations that a key allows in its user's name, those that it refuses, and how a
// revoked key stops working on every gateway.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  balanceOf,
  control,
  makePerson,
  openWallet,
  type Person,
  PIN,
  send,
  type Wallet,
} from './client.ts'

/** The design's bound on the time until a revocation takes effect. */
const WITHIN_MS = 1_000
const EVERY_SCOPE = [
  ...['wallets:read', 'transfers:read', 'transfers:write', 'holds:capture'],
  ...['deposits:write', 'withdrawals:write'],
]

let sql: Database
let second: { name: string; url: string }
let alice: Person
let from: Wallet
let bob: Person
let to: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  const started = await fetch(`${inject('system').controlUrl}/gateway/start`, {
    method: 'POST',
    // The limit for people, which does not apply to keys; no person in this file sends more than once by this gateway.
    body: JSON.stringify({ RATE_LIMIT_TRANSFER: '2/60' }),
  })
  second = (await started.json()) as typeof second
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  from = await openWallet(alice, 'USD', '9000')
  to = await openWallet(bob, 'USD')
})
afterAll(async () => {
  await control(second.name, 'stop')
  await sql.end()
})

type Key = { id: string; secret: string }

const makeKey = async (person: Person, scopes = EVERY_SCOPE, more: object = {}): Promise<Key> => {
  const body = { name: 'Shop', scopes, password: person.password, pin: PIN, ...more }
  const made = await person.ask('POST', '/v1/api-keys', body)
  expect(made.status).toBe(201)
  return made.body
}
const rotate = async (person: Person, { id }: Key, overlapSeconds: number): Promise<Key> => {
  const body = { password: person.password, pin: PIN, overlapSeconds }
  const rotated = await person.ask('POST', `/v1/api-keys/${id}/rotate`, body)
  expect(rotated.status).toBe(201)
  return rotated.body
}

/** Sends a request as a back end does; each POST has its own Idempotency-Key. */
const by = (
  { secret }: Key,
  method: string,
  path: string,
  body?: unknown,
  more: { headers?: Record<string, string>; gatewayUrl?: string } = {},
): Promise<Answer> =>
  ask(method, path, {
    token: secret,
    body,
    ...more,
    headers: { ...(method === 'POST' ? { 'idempotency-key': randomUUID() } : {}), ...more.headers },
  })
const pay = (key: Key, amount: string, more: Parameters<typeof by>[4] = {}, body: object = {}) =>
  by(key, 'POST', '/v1/transfers', { toWalletId: to.id, amount, currency: 'USD', ...body }, more)
const outcome = ({ status, body }: Answer): string => (status < 400 ? 'done' : `${status} ${body.code}`)

const hashes = async (): Promise<string[]> => {
  const text = await (await fetch(`${inject('system').opsUrls.gateway}/metrics`)).text()
  return text.match(/^pennywire_gateway_slow_hashes_total.*$/gm) ?? []
}

describe('what a back end does in its user’s name', () => {
  test('sends, holds, captures, brings in, pays out and reads; no PIN or password is hashed for it', async () => {
    const key = await makeKey(alice)
    const receiver = await makeKey(bob, ['holds:capture'])
    const before = await hashes()
    expect(before.length).toBeGreaterThan(0)

    const sent = await pay(key, '10.00')
    expect([sent.status, sent.body.status, sent.body.from.name]).toEqual([201, 'completed', 'Alice Smith'])
    const promised = { toWalletId: to.id, amount: '5.00', currency: 'USD' }
    const held = await by(key, 'POST', '/v1/holds', promised)
    expect([held.status, held.body.status]).toEqual([201, 'active'])
    const captured = await by(receiver, 'POST', `/v1/holds/${held.body.id}/capture`, { amount: '2.00' })
    expect([captured.status, captured.body.amount]).toEqual([201, '2.00'])
    const released = await by(key, 'POST', '/v1/holds', promised)
    expect(outcome(await by(receiver, 'POST', `/v1/holds/${released.body.id}/void`))).toBe('done')
    const money = { walletId: from.id, amount: '3.00', currency: 'USD' }
    expect((await by(key, 'POST', '/v1/deposits', money)).body.status).toBe('completed')
    const paidOut = await by(key, 'POST', '/v1/withdrawals', { ...money, destination: 'bank' })
    expect(paidOut.body.status).toBe('completed')

    const reads = [
      `/v1/wallets/${from.id}/balance`,
      `/v1/wallets/${from.id}/entries`,
      `/v1/limits?walletId=${from.id}`,
      `/v1/transfers/${sent.body.id}`,
      `/v1/holds/${held.body.id}`,
      `/v1/recipients/${to.code}`,
    ]
    for (const path of reads) expect([path, outcome(await by(key, 'GET', path))]).toEqual([path, 'done'])
    expect((await by(key, 'GET', `/v1/wallets/${from.id}/balance`)).body.balance).toBe('8988.00')
    expect(await hashes()).toEqual(before)

    // The key proves the person's consent; authenticated_at is the moment at which the key was created.
    const [payment] = await sql`
      select p.authenticated_by as by, p.authenticated_at = date_trunc('milliseconds', k.created_at) as allowed
      from gateway.payments p, gateway.api_keys k where p.id = ${paidOut.body.id} and k.id = ${key.id}`
    expect(payment).toEqual({ by: 'api_key', allowed: true })
  })

  test('only what its scopes allow, and nothing where no scope is', async () => {
    const reader = await makeKey(alice, ['wallets:read'])
    expect(outcome(await by(reader, 'GET', '/v1/wallets'))).toBe('done')
    const refused = await pay(reader, '1.00')
    expect([outcome(refused), refused.body.requiredScope]).toEqual([
      '403 INSUFFICIENT_SCOPE',
      'transfers:write',
    ])
    const all = await makeKey(alice)
    for (const [method, path, body] of [
      ['GET', '/v1/users/me'],
      ['POST', '/v1/pin/verify', { pin: PIN }],
      ['POST', `/v1/wallets/${from.id}/freeze`, {}],
      ['PUT', '/v1/limits/send', { walletId: from.id }],
      ['POST', '/v1/api-keys', { name: 'x', scopes: EVERY_SCOPE, password: alice.password, pin: PIN }],
      ['POST', `/v1/api-keys/${all.id}/rotate`, { password: alice.password, pin: PIN }],
      ['DELETE', `/v1/api-keys/${reader.id}`],
    ] as const) {
      expect([path, outcome(await by(all, method, path, body))]).toEqual([path, '403 API_KEY_NOT_ALLOWED'])
    }
  })

  test('no amount that needs the PIN each time, and none above its own; a person can send it then', async () => {
    const [wide, narrow] = [await makeKey(alice), await makeKey(alice, EVERY_SCOPE, { maxAmount: '50' })]
    expect(outcome(await pay(wide, '1000.00'))).toBe('done')
    const key = randomUUID()
    const above = await pay(wide, '1000.01', { headers: { 'idempotency-key': key } })
    expect([outcome(above), above.body]).toMatchObject([
      '403 API_KEY_AMOUNT_EXCEEDED',
      { limit: '1000.00', requested: '1000.01', final: false },
    ])
    // Nothing was stored: the same request from the person goes through.
    expect((await send(alice, to, '1000.01', key, { body: { pin: PIN } })).status).toBe(201)
    // The replay is then answered to the key, although the key could not have sent this amount.
    const replay = await pay(wide, '1000.01', { headers: { 'idempotency-key': key } })
    expect([replay.status, replay.headers.get('idempotency-replayed')]).toEqual([201, 'true'])

    expect(outcome(await pay(narrow, '50'))).toBe('done')
    const money = { walletId: from.id, amount: '50.01', currency: 'USD' }
    for (const refused of [
      await pay(narrow, '50.01'),
      await by(narrow, 'POST', '/v1/holds', { toWalletId: to.id, amount: '50.01', currency: 'USD' }),
      await by(narrow, 'POST', '/v1/withdrawals', { ...money, destination: 'bank' }),
      await by(narrow, 'POST', '/v1/deposits', money),
    ]) {
      expect([outcome(refused), refused.body.limit]).toEqual(['403 API_KEY_AMOUNT_EXCEEDED', '50.00'])
    }
  })

  test('a PIN or step-up token beside a key is refused by name, and costs the person no try', async () => {
    const key = await makeKey(alice)
    const before = await hashes()
    for (const pin of ['592817', '592818', '592819', PIN]) {
      const refused = await pay(key, '1.00', {}, { pin })
      expect([outcome(refused), refused.body.errors[0].field]).toEqual(['422 VALIDATION_ERROR', 'pin'])
    }
    const stepUp = await pay(key, '1.00', { headers: { 'step-up-token': alice.stepUp } })
    expect([outcome(stepUp), stepUp.body.errors[0].field]).toEqual(['422 VALIDATION_ERROR', 'Step-Up-Token'])
    expect((await alice.ask('GET', '/v1/pin')).body).toMatchObject({
      attemptsRemaining: 3,
      lockedUntil: null,
    })
    expect(await hashes()).toEqual(before)
  })

  test('one Idempotency-Key by token, by key and by another key is one transfer', async () => {
    const [one, two] = [await makeKey(alice), await makeKey(alice)]
    const before = Number(await balanceOf(bob, to))
    const key = randomUUID()
    const headers = { 'idempotency-key': key }
    const answers = await Promise.all([
      send(alice, to, '7.00', key),
      pay(one, '7.00', { headers }),
      pay(two, '7.00', { headers, gatewayUrl: second.url }),
    ])
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201])
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1)
    const replayed = await pay(one, '7.00', { headers })
    expect(replayed.headers.get('idempotency-replayed')).toBe('true')
    expect(outcome(await pay(one, '8.00', { headers }))).toBe('422 IDEMPOTENCY_KEY_REUSED')
    expect(Number(await balanceOf(bob, to))).toBe(before + 7)
  })

  test('an amount of its own is counted in the decimals of each currency', async () => {
    const [yen, dinar] = [await openWallet(alice, 'JPY', '10'), await openWallet(alice, 'KWD', '10')]
    const [toYen, toDinar] = [await openWallet(bob, 'JPY'), await openWallet(bob, 'KWD')]
    const key = await makeKey(alice, EVERY_SCOPE, { maxAmount: '1.5' })
    const sending = (toWallet: Wallet, amount: string) =>
      pay(key, amount, {}, { toWalletId: toWallet.id, currency: toWallet.currency })
    expect(outcome(await sending(toYen, '1'))).toBe('done')
    expect((await sending(toYen, '2')).body).toMatchObject({ code: 'API_KEY_AMOUNT_EXCEEDED', limit: '1' })
    expect(outcome(await sending(toDinar, '1.500'))).toBe('done')
    const above = await sending(toDinar, '1.501')
    expect(above.body).toMatchObject({ code: 'API_KEY_AMOUNT_EXCEEDED', limit: '1.500' })
    expect([await balanceOf(alice, yen), await balanceOf(alice, dinar)]).toEqual(['9', '8.500'])
  })

  test('many small amounts by many keys: in sum no more than the wallet may send in a day', async () => {
    const person = await makePerson('Fred Fox')
    const wallet = await openWallet(person, 'USD', '100')
    const own = { walletId: wallet.id, daily: '10' }
    expect((await person.ask('PUT', '/v1/limits/send', own)).status).toBe(200)
    const keys = await Promise.all([1, 2, 3].map(() => makeKey(person)))
    const sent = await Promise.all(keys.flatMap(key => Array.from({ length: 5 }, () => pay(key, '1.00'))))
    const outcomes = sent.map(outcome)
    expect(outcomes.filter(each => each === 'done')).toHaveLength(10)
    expect(outcomes.filter(each => each === '422 DAILY_LIMIT_EXCEEDED')).toHaveLength(5)
    expect(await balanceOf(person, wallet)).toBe('90.00')
  })

  test('asked without waiting, it is decided all the same, and counted once', async () => {
    const key = await makeKey(alice)
    const headers = { 'idempotency-key': randomUUID(), prefer: 'respond-async' }
    const before = Number(await balanceOf(bob, to))
    const first = await pay(key, '2.00', { headers })
    expect([201, 202]).toContain(first.status)
    await vi.waitFor(async () => {
      const found = await by(key, 'GET', first.headers.get('location')!)
      expect(found.body.status).toBe('completed')
    })
    expect(outcome(await pay(key, '2.00', { headers }))).toBe('done')
    expect(Number(await balanceOf(bob, to))).toBe(before + 2)
  })

  test('what a person began with the PIN, a key may repeat; it is one payment', async () => {
    const key = await makeKey(alice, EVERY_SCOPE, { maxAmount: '1' })
    const before = Number(await balanceOf(alice, from))
    const payout = { walletId: from.id, amount: '5.00', currency: 'USD', destination: 'sandbox:delay' }
    const headers = { 'idempotency-key': randomUUID() }
    const async = { ...headers, prefer: 'respond-async' }
    expect((await alice.ask('POST', '/v1/withdrawals', { ...payout, pin: PIN }, async)).status).toBe(202)
    const repeated = await by(key, 'POST', '/v1/withdrawals', payout, { headers })
    expect([repeated.status, repeated.body.amount]).toEqual([201, '5.00'])
    expect(Number(await balanceOf(alice, from))).toBe(before - 5)
  })

  test('a HEAD is guarded as its GET, and OPTIONS does nothing', async () => {
    const [reader, sender] = [
      await makeKey(alice, ['wallets:read']),
      await makeKey(alice, ['transfers:write']),
    ]
    const statusOf = async ({ secret }: Key, method: string, path: string) => {
      const headers = { authorization: `Bearer ${secret}` }
      return (await fetch(`${inject('system').gatewayUrl}${path}`, { method, headers })).status
    }
    expect(await statusOf(reader, 'HEAD', '/v1/wallets')).toBe(200)
    expect(await statusOf(sender, 'HEAD', '/v1/wallets')).toBe(403)
    expect(await statusOf(reader, 'HEAD', '/v1/users/me')).toBe(403)
    expect(await statusOf(sender, 'OPTIONS', '/v1/transfers')).toBe(405)
  })
})

describe('a key ends on every gateway within a second', () => {
  const cases: Array<[string, (person: Person, key: Key) => Promise<unknown>, string]> = [
    ['revoked', (person, { id }) => person.ask('DELETE', `/v1/api-keys/${id}`), '401 TOKEN_REVOKED'],
    ['replaced', (person, key) => rotate(person, key, 0), '401 TOKEN_REVOKED'],
    [
      'expired',
      (_person, { id }) => sql`
        update gateway.api_keys set created_at = created_at - interval '90 days', expires_at = now()
        where id = ${id}`,
      '401 TOKEN_EXPIRED',
    ],
    [
      'the owner deactivated',
      person => person.ask('POST', '/v1/users/me/deactivate', { password: person.password }),
      '403 ACCOUNT_DISABLED',
    ],
  ]
  test.each(cases)('%s', async (_what, end, code) => {
    const person = await makePerson('Carol Clark')
    await openWallet(person, 'USD', '5')
    const key = await makeKey(person)
    const urls = [inject('system').gatewayUrl, second.url]
    for (const gatewayUrl of urls) expect(outcome(await pay(key, '1.00', { gatewayUrl }))).toBe('done')
    await end(person, key)
    const ended = performance.now()
    for (const gatewayUrl of urls) {
      await vi.waitFor(
        async () =>
          expect(outcome(await by(key, 'GET', '/v1/wallets', undefined, { gatewayUrl }))).toBe(code),
        { timeout: WITHIN_MS, interval: 20 },
      )
    }
    expect(performance.now() - ended).toBeLessThan(WITHIN_MS)
    // The same for routes that move money.
    for (const gatewayUrl of urls) expect(outcome(await pay(key, '1.00', { gatewayUrl }))).toBe(code)
  })

  test('while a rotation overlaps, both pay; its owner is told by mail', async () => {
    const person = await makePerson('Dora Day')
    await openWallet(person, 'USD', '5')
    const old = await makeKey(person)
    const next = await rotate(person, old, 600)
    for (const key of [old, next]) {
      for (const gatewayUrl of [inject('system').gatewayUrl, second.url]) {
        expect(outcome(await pay(key, '1.00', { gatewayUrl }))).toBe('done')
      }
    }
    await vi.waitFor(
      async () => {
        const messages = (await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()) as Array<{
          to: unknown
          subject: string
          text: string
        }>
        const mine = messages.filter(({ to }) => JSON.stringify(to).includes(person.email))
        const subjects = mine.map(({ subject }) => subject)
        expect(subjects).toEqual(expect.arrayContaining(['A new API key', 'An API key was replaced']))
        expect(mine.some(({ text }) => text.includes('pwk_'))).toBe(false)
      },
      { timeout: 15_000, interval: 50 },
    )
  })
})

test('what a back end asks is counted apart from what its user asks', async () => {
  const person = await makePerson('Erin East')
  await openWallet(person, 'USD', '5')
  const key = await makeKey(person, EVERY_SCOPE, { requestsPerMinute: 3 })
  const there = { gatewayUrl: second.url }
  const byToken = () =>
    ask('POST', '/v1/transfers', {
      token: person.token,
      headers: { 'idempotency-key': randomUUID(), 'step-up-token': person.stepUp },
      body: { toWalletId: to.id, amount: '0.01', currency: 'USD' },
      ...there,
    })
  for (let i = 0; i < 3; i++) expect(outcome(await pay(key, '0.01', there))).toBe('done')
  const refused = await pay(key, '0.01', there)
  expect(outcome(refused)).toBe('429 RATE_LIMIT_EXCEEDED')
  expect(refused.headers.get('ratelimit')).toMatch(/^"api_key";r=0;t=\d+, "api_keys";r=\d+;t=\d+$/)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(outcome(await byToken())).toBe('done')
  expect(outcome(await pay(await makeKey(person), '0.01', there))).toBe('done')
})

test('Redis is away: what moves money refuses a key, and reads go on', async () => {
  const key = await makeKey(alice)
  await control('redis', 'SIGKILL')
  try {
    const money = { walletId: from.id, amount: '1.00', currency: 'USD' }
    for (const refused of [await pay(key, '1.00'), await by(key, 'POST', '/v1/deposits', money)]) {
      expect([outcome(refused), refused.body.retryable]).toEqual(['503 SERVICE_UNAVAILABLE', true])
    }
    expect(outcome(await by(key, 'GET', '/v1/wallets'))).toBe('done')
  } finally {
    await control('redis', 'restart')
  }
  await vi.waitFor(async () => expect(outcome(await pay(key, '0.01'))).toBe('done'), {
    timeout: 15_000,
    interval: 100,
  })
})
