// Guesses one account's password from many addresses, and checks which sign-ins still succeed.
import type { Database } from '@pennywire/runtime/database.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase, dumpTables } from '../../sql/test-database.ts'
import {
  createTestGateway,
  createTestKeys,
  drawAddress,
  type TestGateway,
  type TestKeys,
} from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

const LIMIT = 4
const env = { RATE_LIMIT_LOGIN_ACCOUNT: `${LIMIT}/900` }

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateways: [TestGateway, TestGateway]
let gateway: TestGateway

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  const open = () => createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
  gateways = [await open(), await open()]
  gateway = gateways[0]
  for (const each of gateways) await vi.waitFor(() => each.identity.check())
})

afterAll(async () => {
  for (const each of gateways) each.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

type LoginOver = { email: string; password?: string; address?: string; through?: TestGateway }
const WRONG = 'Wrong-Horse-7'

const logIn = ({ email, password = WRONG, address = drawAddress(), through = gateway }: LoginOver) =>
  through.ask('POST', '/v1/auth/login', { body: { email, password }, address })
const codeOf = ({ status, body }: Awaited<ReturnType<typeof logIn>>) => `${status} ${body.code ?? ''}`.trim()

/** A user who has signed in from an address of their own. */
const userAt = async (home = drawAddress()) => {
  const { id, email, password } = await gateway.signUp()
  const token = await gateway.mailedToken(id)
  const body = { token, password }
  const verified = await gateway.ask('POST', '/v1/auth/verify-email', { body, address: home })
  expect(verified.status).toBe(200)
  return { id, email, password, home }
}

/** Uses up the limit that all strangers share. */
const exhaust = async (email: string) => {
  for (let guess = 0; guess < LIMIT; guess++) {
    expect(codeOf(await logIn({ email }))).toBe('401 INVALID_CREDENTIALS')
  }
}

test('strangers share one limit for an account, whether there is one or not', async () => {
  const user = await userAt()
  for (const email of [user.email, `nobody-${user.email}`]) {
    await exhaust(email)
    const refused = await logIn({ email })
    expect(codeOf(refused)).toBe('429 RATE_LIMIT_EXCEEDED')
    expect(refused.body).toMatchObject({ limit: LIMIT, windowSeconds: 900, retryable: true })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(800)
    expect(refused.headers.get('ratelimit')).toMatch(
      /^"default";r=\d+;t=\d+, "login";r=\d+;t=\d+, "login_account";r=0;t=\d+$/,
    )
    // Neither case, nor a space, nor another gateway, nor the right password raises the limit.
    for (const other of [
      { email: email.toUpperCase() },
      { email: ` ${email}` },
      { email, through: gateways[1] },
      { email, password: user.password },
    ]) {
      expect(codeOf(await logIn(other))).toBe('429 RATE_LIMIT_EXCEEDED')
    }
  }
  // Another account has its own limit.
  expect((await logIn({ email: (await userAt()).email })).status).toBe(401)
})

test('the owner gets in where they are known, also after wrong tries of their own', async () => {
  const user = await userAt()
  await exhaust(user.email)
  expect(codeOf(await logIn({ ...user, address: user.home }))).toBe('200')
  for (let guess = 0; guess < LIMIT; guess++) {
    expect((await logIn({ email: user.email, address: user.home })).status).toBe(401)
  }
  // The owner's address has its own limit, too, which does not count against the strangers' limit.
  expect((await logIn({ ...user, address: user.home })).status).toBe(429)
  const other = await userAt()
  for (let guess = 0; guess < LIMIT; guess++) await logIn({ email: other.email, address: other.home })
  expect((await logIn({ ...other, address: other.home })).status).toBe(429)
  expect((await logIn(other)).status).toBe(200) // from elsewhere
})

test('a sign-in makes an address known, an IPv6 one with its whole network', async () => {
  const user = await userAt()
  expect((await logIn({ ...user, address: '2001:db8:7:7::1' })).status).toBe(200)
  await exhaust(user.email)
  expect((await logIn({ ...user, address: '2001:db8:7:7:ffff::9' })).status).toBe(200)
  expect((await logIn({ ...user, address: '2001:db8:7:8::1' })).status).toBe(429)
  // An address known for another user is unknown for this one.
  expect((await logIn({ ...user, address: (await userAt()).home })).status).toBe(429)
})

test('right passwords are no guesses: they use nothing up', async () => {
  const user = await userAt()
  for (let time = 0; time < 3 * LIMIT; time++) {
    // From another network each time.
    expect((await logIn({ ...user, address: drawAddress() })).status).toBe(200)
  }
  await exhaust(user.email)
  expect((await logIn(user)).status).toBe(429)
})

test.each([
  ['from where they never were', false],
  ['from where somebody else guesses, too', true],
])(
  'who sets a new password by mail gets in with it, no matter what strangers do: %s',
  async (_where, atHome) => {
    const user = await userAt()
    const address = atHome ? user.home : drawAddress()
    if (atHome) {
      for (let guess = 0; guess < LIMIT; guess++) await logIn({ email: user.email, address })
    } else await exhaust(user.email)
    expect((await logIn({ ...user, address })).status).toBe(429)
    const verification = await gateway.mailedToken(user.id)
    const { email } = user
    await gateway.ask('POST', '/v1/auth/forgot-password', { body: { email }, address })
    const token = await vi.waitFor(async () => {
      const newest = await gateway.mailedToken(user.id)
      expect(newest).not.toBe(verification)
      return newest
    })
    const password = 'Another-Horse-8'
    const reset = await gateway.ask('POST', '/v1/auth/reset-password', { body: { token, password }, address })
    expect(reset.status).toBe(200)
    expect((await logIn({ email, password, address })).status).toBe(200)
    expect((await logIn({ email, password })).status).toBe(atHome ? 200 : 429)
  },
)

test.each([
  ['a known account', true],
  ['an unknown one', false],
])(
  'of 100 guesses at once through two gateways no more are hashed than there is room for: %s',
  async (_of, known) => {
    const email = known ? (await userAt()).email : `nobody-${Math.random()}@example.com`
    const hashes = async () => {
      const text = await metricsText()
      return Number(/^pennywire_gateway_slow_hashes_total\{of="password"\} (\d+)$/m.exec(text)![1])
    }
    const before = await hashes()
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => logIn({ email, through: gateways[index % 2]! })),
    )
    const codes = answers.map(codeOf)
    expect(codes.filter(code => code === '401 INVALID_CREDENTIALS').length).toBe(LIMIT)
    expect(codes.filter(code => code === '429 RATE_LIMIT_EXCEEDED').length).toBe(100 - LIMIT)
    expect((await hashes()) - before).toBe(LIMIT)
  },
)

test('neither table nor Redis gets to know an address', async () => {
  const user = await userAt('203.0.113.201')
  await logIn({ email: user.email, address: '203.0.113.202' })
  expect(await dumpTables(sql)).not.toMatch(/203\.0\.113\.20[12]/)
  const counted = (await gateway.redis.keys('*:LOGIN_ACCOUNT:*')).join()
  expect(counted).not.toBe('')
  expect(counted).not.toContain(user.email)
  expect(counted).not.toContain('203.0.113')
})

test('without Redis no password is looked at', async () => {
  const user = await userAt()
  const alone = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl: 'redis://127.0.0.1:1',
    keys,
    env,
  })
  const refused = await logIn({ ...user, address: user.home, through: alone })
  expect(codeOf(refused)).toBe('503 SERVICE_UNAVAILABLE')
  expect(refused.headers.get('retry-after')).toBe('1')
  alone.stop()
})
