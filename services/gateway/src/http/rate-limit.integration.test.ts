import { createHash, randomInt, randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import type { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { openRedis } from '../redis.ts'
import { ageEndedSessions, createGatewayDatabase, decodeOutbox, dumpTables } from '../sql/test-database.ts'
import {
  createTestGateway,
  createTestKeys,
  drawAddress,
  type TestGateway,
  type TestKeys,
} from '../test-gateway.ts'
import type { LimitName, RateLimit } from './rate-limit.ts'
import { createRateLimits, type TakeFromLimits } from './rate-limit.ts'

const { superuserUrl, redisUrl } = inject('stack')

const limits = {
  PIN: { requests: 3, seconds: 1 },
  DEFAULT: { requests: 5, seconds: 60 },
  MAIL: { requests: 50, seconds: 60 },
} as Record<LimitName, RateLimit>

/** Like the gateway's hash: of a fixed length, and without the plain text. */
const hash = (text: string) => createHash('sha256').update(text).digest('base64url')

let redis: Redis
let take: TakeFromLimits

beforeAll(async () => {
  redis = openRedis(redisUrl, createLogger('test', { level: 'fatal', instance: 'test' }))
  take = createRateLimits(redis, limits, hash)
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
  // Polls constantly, as an impatient client does.
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

test('what is given back is there again, once; what was refused has nothing to give back', async () => {
  const subject = randomUUID()
  const counted = [{ name: 'PIN' as const, subject }]
  const { giveBack } = await take(counted)
  await take(counted)
  await giveBack()
  expect((await take(counted)).answers[0]?.remaining).toBe(1)
  expect((await take(counted)).answers[0]?.remaining).toBe(0)
  const refused = await take(counted)
  expect(refused.refused?.name).toBe('PIN')
  await refused.giveBack()
  expect((await take(counted)).refused?.name).toBe('PIN')
  // A count never becomes negative.
  const forgotten = { name: 'PIN' as const, subject: randomUUID() }
  const taken = await take([forgotten])
  await redis.del(`rate:{${hash(`rate\0${forgotten.subject}`)}}:PIN:1`)
  await taken.giveBack()
  expect((await take([forgotten])).answers[0]?.remaining).toBe(2)
})

test('a window that the settings made longer or shorter begins anew', async () => {
  const subject = randomUUID()
  for (const seconds of [1, 9_000, 1]) {
    const other = createRateLimits(redis, { ...limits, PIN: { requests: 2, seconds } }, hash)
    const { answers } = await other([{ name: 'PIN', subject }])
    expect(answers[0]!.resetSeconds).toBeGreaterThanOrEqual(seconds)
    expect(answers[0]!.resetSeconds).toBeLessThanOrEqual(Math.ceil((seconds * 13) / 12))
  }
})

describe('over HTTP', () => {
  let database: Awaited<ReturnType<typeof createGatewayDatabase>>
  let sql: Database
  let keys: TestKeys
  const open: TestGateway[] = []

  beforeAll(async () => {
    database = await createGatewayDatabase(superuserUrl)
    sql = database.open()
    keys = await createTestKeys()
  })

  afterAll(async () => {
    for (const gateway of open) gateway.stop()
    keys.remove()
    await sql.end()
    await database.drop()
  })

  const openGateway = async (env: Record<string, string>) => {
    const gateway = await createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
    open.push(gateway)
    await vi.waitFor(() => gateway.identity.check())
    return gateway
  }

  test('by address before sign-in, by user after it, with headers', async () => {
    const gateway = await openGateway({ RATE_LIMIT_LOGIN: '2/60', RATE_LIMIT_DEFAULT: '7/60' })
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
    const refused = await logIn(here, { 'x-forwarded-for': '203.0.113.77' }) // an untrusted header, without effect
    expect([refused.status, refused.body.code, refused.body.retryable]).toEqual([
      429,
      'RATE_LIMIT_EXCEEDED',
      true,
    ])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50)
    expect((await logIn(elsewhere)).status).toBe(401)

    // Requests with forged tokens are counted by address, too, and so are requests without a token.
    const guesses = []
    for (let i = 0; i < 8; i++) {
      const token = i % 2 === 0 ? { token: `x${i}` } : {}
      guesses.push(await gateway.ask('GET', '/v1/users/me', { ...token, address: elsewhere }))
    }
    expect(guesses.map(({ status }) => status)).toEqual([401, 401, 401, 401, 401, 401, 429, 429])
    expect(guesses[0]!.headers.get('ratelimit')).toMatch(/^"default";r=5;t=\d+$/)
    expect(guesses[7]!.headers.get('ratelimit')).toMatch(/^"default";r=0;t=\d+$/)
  })

  test('every answer behind the guard shows what is left: refusals of any kind, and what is broken', async () => {
    const wide = await openGateway({})
    const gateway = await openGateway({ RATE_LIMIT_DEFAULT: '100/60', RATE_LIMIT_PIN: '50/60' })
    const user = await wide.signedInUser()
    const token = user.accessToken
    const answers = [
      await gateway.ask('GET', '/v1/users/me', { token }),
      await gateway.ask('HEAD', '/v1/users/me', { token }),
      await gateway.ask('POST', '/v1/pin', { token, body: { pin: 'x' } }),
      await gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: '4821' } }),
      await gateway.ask('GET', '/v1/admin/users', { token }),
      await gateway.ask('POST', '/v1/pin/verify', { token, headers: { 'content-type': 'text/plain' } }),
    ]
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 422, 400, 403, 415])
    for (const [index, { headers }] of answers.entries()) {
      expect(headers.get('ratelimit')).toMatch(new RegExp(`^"default";r=${99 - index};t=\\d+(, "pin";.*)?$`))
      expect(headers.get('ratelimit-policy')).toMatch(/^"default";q=100;w=60(, "pin";q=50;w=60)?$/)
    }
    expect(answers[2]!.headers.get('ratelimit')).toMatch(/, "pin";r=49;t=\d+$/)
  })

  test('by user means: over all tokens, sessions, gateways and addresses', async () => {
    const settings = { RATE_LIMIT_PIN: '3/60' }
    const gateways = [await openGateway(settings), await openGateway(settings)]
    const user = await gateways[0]!.signedInUser()
    const statuses: number[] = []
    for (let i = 0; i < 5; i++) {
      const { accessToken } = await gateways[0]!.logIn(user)
      const options = { token: accessToken, body: { pin: '4821' }, address: drawAddress() }
      statuses.push((await gateways[i % 2]!.ask('POST', '/v1/pin/verify', options)).status)
    }
    expect(statuses).toEqual([400, 400, 400, 429, 429]) // PIN_NOT_SET, then no more
  })

  test('by address means: over all spellings of the path, methods and addresses of the same network', async () => {
    const gateway = await openGateway({ RATE_LIMIT_LOGIN: '3/60' })
    const body = { email: 'a@example.com', password: 'x' }
    const logIn = (path: string, address: string, method = 'POST') =>
      gateway.ask(method, path, { ...(method === 'HEAD' ? {} : { body }), address })
    const network = '2001:db8:4:4'
    for (const host of [':1', 'ffff:1:2:3', 'abcd::']) {
      expect((await logIn('/v1/auth/login', `${network}:${host}`)).status).toBe(401)
    }
    // Another spelling matches no route, or it matches the same one.
    for (const path of [
      '/v1/auth/login/',
      '//v1/auth/login',
      '/v1/auth/%256Cogin',
      '/V1/auth/login',
      '/v1/auth/./login%2F',
    ]) {
      const { status, headers } = await logIn(path, `${network}::9`)
      expect([path, status, headers.get('ratelimit')]).toEqual([path, 404, null])
    }
    for (const path of [
      '/v1/auth/login',
      '/v1/auth/%6Cogin',
      '/v1/auth/login?x=1',
      '/v1/auth/../auth/login',
    ]) {
      expect([path, (await logIn(path, `${network}::9`)).status]).toEqual([path, 429])
    }
    for (const method of ['HEAD', 'PUT', 'OPTIONS']) {
      expect((await logIn('/v1/auth/login', `${network}::9`, method)).status).toBe(405)
    }
    expect((await logIn('/v1/auth/login', '2001:db8:4:5::1')).status).toBe(401)
  })

  test('an address that a client makes up stands in no event, neither does it where no proxy is trusted', async () => {
    const gateway = await openGateway({})
    const behind = await openGateway({ TRUSTED_PROXIES: '10.0.0.0/8' })
    const user = await gateway.signedInUser()
    const body = { email: user.email, password: 'Wrong-Horse-7' }
    const headers = {
      'x-forwarded-for': '6.6.6.6, 198.51.100.7',
      forwarded: 'for=6.6.6.6',
      'x-real-ip': '6.6.6.6',
    }
    await gateway.ask('POST', '/v1/auth/login', { body, headers, address: '10.1.1.1' })
    await behind.ask('POST', '/v1/auth/login', { body, headers, address: '10.1.1.1' })
    await vi.waitFor(async () => {
      const hashes = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
        record.key === user.id && record.type === 'pennywire.identity.LoginFailed'
          ? record.value.addressHash
          : [],
      )
      expect(hashes.sort()).toEqual(['10.1.1.1', '198.51.100.7'].map(gateway.identity.hashAddress).sort())
    })
  })

  test('the token of a session that has ended uses up nothing of its owner', async () => {
    const wide = await openGateway({})
    const gateway = await openGateway({ RATE_LIMIT_DEFAULT: '6/60' })
    const user = await wide.signedInUser()
    const thief = await wide.logIn(user)
    const me = (token: string, address: string) => gateway.ask('GET', '/v1/users/me', { token, address })
    await wide.ask('POST', '/v1/auth/logout', { token: thief.accessToken })
    const hideout = drawAddress()
    const statuses: number[] = []
    for (let i = 0; i < 8; i++) statuses.push((await me(thief.accessToken, hideout)).status)
    expect(statuses).toEqual([...Array(6).fill(401), 429, 429])
    const mine = await me(user.accessToken, drawAddress())
    expect([mine.status, mine.headers.get('ratelimit')]).toEqual([
      200,
      expect.stringMatching(/^"default";r=4;/),
    ])
  })

  test('a Redis that is emptied: limits begin anew, ended sessions stay ended', async () => {
    const gateway = await openGateway({ RATE_LIMIT_PIN: '2/60' })
    const user = await gateway.signedInUser()
    const ended = await gateway.logIn(user)
    await gateway.ask('POST', '/v1/auth/logout', { token: ended.accessToken })
    // So that its end is not pushed to Redis again merely because it is recent.
    await ageEndedSessions(database.urlAs(), user.id)
    const pin = (token: string) => gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: '4821' } })
    for (const status of [400, 400, 429]) expect((await pin(user.accessToken)).status).toBe(status)

    await redis.flushall()
    // Money and PIN routes wait until Redis has the ended sessions again; others do not wait. No ended session passes
    // as open.
    expect((await gateway.ask('GET', '/v1/users/me', { token: ended.accessToken })).body.code).toBe(
      'TOKEN_REVOKED',
    )
    await vi.waitFor(async () => expect((await pin(user.accessToken)).status).toBe(400))
    expect((await pin(ended.accessToken)).body.code).toBe('TOKEN_REVOKED')
  })

  test('a Redis that is slow is one that is away: money and sign-ins are refused soon, reads go on', async () => {
    const gateway = await openGateway({})
    const user = await gateway.signedInUser()
    await redis.call('CLIENT', 'PAUSE', '2000', 'ALL')
    const [read, pin, logIn] = await Promise.all([
      gateway.ask('GET', '/v1/users/me', { token: user.accessToken }),
      gateway.ask('POST', '/v1/pin/verify', { token: user.accessToken, body: { pin: '4821' } }),
      gateway.ask('POST', '/v1/auth/login', { body: { email: user.email, password: user.password } }),
    ])
    expect([read.status, pin.status, logIn.status]).toEqual([200, 503, 503])
    expect(pin.headers.get('retry-after')).toBe('1')
    await vi.waitFor(async () => expect((await gateway.logIn(user)).accessToken).toBeDefined(), 10_000)
  })

  test('networks share a limit: who has all addresses of one is stopped, and other networks are not', async () => {
    const gateway = await openGateway({ RATE_LIMIT_LOGIN: '1/60' })
    const logIn = async (address: string) =>
      (
        await gateway.ask('POST', '/v1/auth/login', {
          body: { email: 'a@example.com', password: 'x' },
          address,
        })
      ).status
    const statusesOf = async (addresses: string[]) => {
      const statuses: number[] = []
      for (const address of addresses) statuses.push(await logIn(address))
      return statuses
    }
    const [net] = [`2001:db8:${randomInt(65_536).toString(16)}`]
    const inOne56 = Array.from({ length: 6 }, (_, host) => `${net}:ab0${host}::1`)
    expect(await statusesOf(inOne56)).toEqual([401, 401, 401, 401, 429, 429])
    const inOne48 = Array.from({ length: 16 }, (_, host) => `${net}:${(host + 1).toString(16)}00::1`)
    expect(await statusesOf(inOne48)).toEqual([...Array(12).fill(401), ...Array(4).fill(429)])
    const block = drawAddress().split('.').slice(0, 3).join('.')
    const inOne24 = Array.from({ length: 34 }, (_, host) => `${block}.${host}`)
    expect(await statusesOf(inOne24)).toEqual([...Array(32).fill(401), 429, 429])
    expect(await logIn(drawAddress())).toBe(401)
  })

  test('no client address stands in Redis, in a table or in the log', async () => {
    const gateway = await openGateway({})
    const user = await gateway.signedInUser()
    const addresses = [drawAddress(), '2001:db8:1234:5678:9abc:def0:1234:5678']
    for (const address of addresses) {
      const ask = (path: string, body: object, token?: string) =>
        gateway.ask('POST', path, { body, address, ...(token === undefined ? {} : { token }) })
      expect((await ask('/v1/auth/login', { email: user.email, password: user.password })).status).toBe(200)
      await ask('/v1/auth/login', { email: user.email, password: 'Wrong-Horse-7' })
      await ask('/v1/auth/signup', { email: user.email, password: user.password, fullName: 'Al Smith' })
      await ask('/v1/auth/forgot-password', { email: user.email })
      await ask('/v1/pin/verify', { pin: '4821' }, 'made-up')
      await ask('/v1/pin/verify', { pin: '4821' }, user.accessToken)
    }
    const kept: string[] = [await dumpTables(sql), ...gateway.logLines]
    for (const key of await redis.keys('*')) {
      kept.push(key)
      const type = await redis.type(key)
      if (type === 'hash') kept.push(JSON.stringify(await redis.hgetall(key)))
      if (type === 'string') kept.push((await redis.get(key)) ?? '')
    }
    const all = kept.join('\n')
    for (const written of [addresses[0]!, '2001:db8:1234', '5678:9abc']) expect(all).not.toContain(written)
  })

  test('a Redis that comes and goes: guards of money never let through more than the limit, and recover', async () => {
    const gateway = await openGateway({ RATE_LIMIT_PIN: '3/60' })
    const user = await gateway.signedInUser()
    const ended = await gateway.logIn(user)
    await gateway.ask('POST', '/v1/auth/logout', { token: ended.accessToken })
    const askAs = async (token: string) =>
      (await gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: '4821' } })).status
    const own: number[] = []
    const asEnded: number[] = []
    for (let round = 0; round < 24; round++) {
      if (round % 3 === 0) await redis.call('CLIENT', 'PAUSE', '120', 'ALL')
      else if (round % 3 === 1) await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
      const [mine, theirs] = await Promise.all([askAs(user.accessToken), askAs(ended.accessToken)])
      own.push(mine)
      asEnded.push(theirs)
    }
    // 400: the PIN route ran, and no PIN is set.
    expect(own.filter(status => ![400, 429, 503].includes(status))).toEqual([])
    expect(own.filter(status => status === 400).length).toBeLessThanOrEqual(3)
    expect(asEnded.filter(status => ![401, 503].includes(status))).toEqual([])
    await vi.waitFor(async () => expect([400, 429]).toContain(await askAs(user.accessToken)), 10_000)
    await vi.waitFor(async () => expect(await askAs(ended.accessToken)).toBe(401), 10_000)
  })
})
