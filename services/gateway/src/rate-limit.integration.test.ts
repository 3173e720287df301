import { randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import type { RateLimit } from './config.ts'
import { createRateLimits, type TakeFromLimits } from './rate-limit.ts'
import { openRedis } from './redis.ts'
import type { LimitName } from './routes/define-route.ts'
import { createGatewayDatabase } from './sql/test-database.ts'
import { createTestGateway, createTestKeys, drawAddress } from './test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

const limits = {
  PIN: { requests: 3, seconds: 1 },
  DEFAULT: { requests: 5, seconds: 60 },
  MAIL: { requests: 50, seconds: 60 },
} as Record<LimitName, RateLimit>

let redis: Redis
let take: TakeFromLimits

beforeAll(async () => {
  redis = openRedis(redisUrl, createLogger('test', { level: 'fatal', instance: 'test' }))
  take = createRateLimits(redis, limits)
  await vi.waitFor(() => redis.ping())
})

afterAll(() => redis.disconnect())

test('N are taken, N+1 is not, and refused ones do not put off the end of the window', async () => {
  const subject = randomUUID()
  const begun = Date.now()
  for (let left = 2; left >= 0; left--) {
    expect(await take([{ name: 'PIN', subject }])).toMatchObject({
      refused: undefined,
      answers: [{ remaining: left }],
    })
  }
  // Asking all the time, as an impatient client does.
  await vi.waitFor(async () => expect((await take([{ name: 'PIN', subject }])).refused).toBeUndefined(), {
    timeout: 5_000,
    interval: 20,
  })
  const waited = Date.now() - begun
  expect(waited).toBeGreaterThanOrEqual(1_000) // never more than three within any second
  expect(waited).toBeLessThan(1_500)
})

test('of many at once exactly as many as allowed are taken', async () => {
  const subject = randomUUID()
  const taken = await Promise.all(Array.from({ length: 80 }, () => take([{ name: 'MAIL', subject }])))
  expect(taken.filter(({ refused }) => !refused).length).toBe(50)
})

test('several limits are taken together or not at all', async () => {
  const subject = randomUUID()
  for (let i = 0; i < 3; i++)
    await take([
      { name: 'DEFAULT', subject },
      { name: 'PIN', subject },
    ])
  for (let i = 0; i < 5; i++) {
    const { refused } = await take([
      { name: 'DEFAULT', subject },
      { name: 'PIN', subject },
    ])
    expect(refused?.name).toBe('PIN')
  }
  expect((await take([{ name: 'DEFAULT', subject }])).answers[0]?.remaining).toBe(1)
})

test('a Redis that forgot the script is told it again', async () => {
  const subject = randomUUID()
  await take([{ name: 'DEFAULT', subject }])
  await redis.script('FLUSH')
  expect((await take([{ name: 'DEFAULT', subject }])).answers[0]?.remaining).toBe(3)
})

test('over HTTP: by address before sign-in, by user after it, with headers', async () => {
  const database = await createGatewayDatabase(superuserUrl)
  const sql: Database = database.open()
  const keys = await createTestKeys()
  const gateway = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: { RATE_LIMIT_LOGIN: '2/60', RATE_LIMIT_PIN: '2/60', RATE_LIMIT_DEFAULT: '7/60' },
  })
  await vi.waitFor(() => gateway.identity.check())
  try {
    const [here, elsewhere] = [drawAddress(), drawAddress()]
    const logIn = (address: string, headers = {}) =>
      gateway.ask('POST', '/v1/auth/login', {
        body: { email: 'a@example.com', password: 'x' },
        address,
        headers,
      })
    const first = await logIn(here)
    expect(first.headers.get('ratelimit-policy')).toBe('"default";q=7;w=60, "login";q=2;w=60')
    expect(first.headers.get('ratelimit')).toMatch(/^"default";r=6;t=\d+, "login";r=1;t=\d+$/)
    expect((await logIn(here)).status).toBe(401)
    const refused = await logIn(here, { 'x-forwarded-for': '203.0.113.77' }) // a claim that changes nothing
    expect([refused.status, refused.body.code, refused.body.retryable]).toEqual([
      429,
      'RATE_LIMIT_EXCEEDED',
      true,
    ])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
    expect((await logIn(elsewhere)).status).toBe(401)

    // Made-up tokens are counted by address, too.
    const guesses = []
    for (let i = 0; i < 8; i++) {
      guesses.push((await gateway.ask('GET', '/v1/users/me', { token: `x${i}`, address: elsewhere })).status)
    }
    expect(guesses).toEqual([401, 401, 401, 401, 401, 401, 429, 429])
  } finally {
    gateway.stop()
    keys.remove()
    await sql.end()
    await database.drop()
  }
})
