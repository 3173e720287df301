import type { Database } from '@pennywire/runtime/database.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  createGatewayDatabase,
  decodeOutbox,
  dumpTables,
  readApiUsers,
  setClocks,
} from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway

const openGateway = (env: Record<string, string> = {}, url = redisUrl) =>
  createTestGateway({ sql, databaseUrl: database.url, redisUrl: url, keys, env })

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  gateway = await openGateway()
  await vi.waitFor(() => gateway.identity.check())
})

afterAll(async () => {
  gateway.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const refresh = (refreshToken: string) => gateway.ask('POST', '/v1/auth/refresh', { body: { refreshToken } })
const me = (token: string, through = gateway) => through.ask('GET', '/v1/users/me', { token })
const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key }) => key === userId)
    .map(({ type }) => type.split('.').at(-1))

describe('sign-up and verification', () => {
  test('the whole way: sign up, verify by the mailed token, sign in', async () => {
    const email = 'Alice.Way@Example.com'
    const password = 'Correct-Horse-7'
    const signup = await gateway.ask('POST', '/v1/auth/signup', {
      body: { email, password, fullName: ' Alice Way ' },
    })
    expect([signup.status, signup.body]).toMatchObject([
      201,
      { email: 'alice.way@example.com', fullName: 'Alice Way', emailVerified: false },
    ])
    const early = await gateway.ask('POST', '/v1/auth/login', { body: { email, password } })
    expect([early.status, early.body.code]).toEqual([403, 'EMAIL_NOT_VERIFIED'])

    const token = await gateway.mailedToken(signup.body.id)
    expect((await gateway.ask('GET', `/v1/auth/verify-email?token=${token}`)).status).toBe(200) // spends nothing
    const verified = await gateway.ask('POST', '/v1/auth/verify-email', { body: { token } })
    expect([verified.status, verified.body.emailVerified]).toEqual([200, true])
    const again = await gateway.ask('POST', '/v1/auth/verify-email', { body: { token } })
    expect([again.status, again.body.code]).toEqual([400, 'INVALID_VERIFICATION_TOKEN'])

    const login = await gateway.ask('POST', '/v1/auth/login', {
      body: { email: email.toUpperCase(), password },
    })
    expect([login.status, login.body]).toMatchObject([
      200,
      {
        tokenType: 'Bearer',
        expiresIn: 900,
        user: { id: signup.body.id, roles: ['user'], emailVerified: true },
      },
    ])
    expect((await me(login.body.accessToken)).body).toMatchObject({
      email: 'alice.way@example.com',
      pinSet: false,
      hasPassword: true,
    })
    await vi.waitFor(async () =>
      expect((await eventsOf(signup.body.id)).sort()).toEqual([
        'EmailVerified',
        'LoginFailed',
        'MailRequested',
        'SessionStarted',
        'UserRegistered',
      ]),
    )
  })

  test('a known address is told, in any case; all faults of a password are told at once', async () => {
    const { email, password } = await gateway.signUp()
    const again = await gateway.ask('POST', '/v1/auth/signup', {
      body: { email: email.toUpperCase(), password, fullName: 'Bob Jones' },
    })
    expect([again.status, again.body.code]).toEqual([409, 'EMAIL_ALREADY_REGISTERED'])
    const weak = await gateway.ask('POST', '/v1/auth/signup', {
      body: { email: 'weak@example.com', password: 'abc', fullName: 'Bob Jones' },
    })
    expect([weak.status, weak.body.errors.length]).toEqual([422, 1])
  })

  test('the same sign-up many times at once makes one account', async () => {
    const body = { email: 'race@example.com', password: 'Correct-Horse-7', fullName: 'Race Winner' }
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => gateway.ask('POST', '/v1/auth/signup', { body })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409, 409, 409])
  })

  test('a mailed token expires; resending answers alike for everybody and mails only where it helps', async () => {
    const user = await gateway.signUp()
    const old = await gateway.mailedToken(user.id)
    await setClocks.expireMailedTokens(sql)
    const expired = await gateway.ask('POST', '/v1/auth/verify-email', { body: { token: old } })
    expect([expired.status, expired.body.code]).toEqual([400, 'INVALID_VERIFICATION_TOKEN'])
    const known = await gateway.ask('POST', '/v1/auth/resend-verification', { body: { email: user.email } })
    const unknown = await gateway.ask('POST', '/v1/auth/resend-verification', {
      body: { email: 'no@example.com' },
    })
    expect([known.status, known.text]).toEqual([unknown.status, unknown.text])
    const token = await vi.waitFor(async () => {
      const mailed = await gateway.mailedToken(user.id)
      expect(mailed).not.toBe(old)
      return mailed
    })
    expect((await gateway.ask('POST', '/v1/auth/verify-email', { body: { token } })).status).toBe(200)
  })

  test('others may read names and addresses, and nothing else', async () => {
    const user = await gateway.signUp({ fullName: 'Seen Byothers' })
    const reader = openDatabase(database.urlAs('gateway_reader'), {
      applicationName: 'test',
      maxConnections: 1,
    })
    const rows = await readApiUsers(reader)
    expect(rows.find(row => row.user_id === user.id)).toEqual({
      user_id: user.id,
      email: user.email,
      full_name: 'Seen Byothers',
      email_verified: false,
      mail_blocked: false,
    })
    await expect(dumpTables(reader)).resolves.toBe('') // the role does not even see the tables
    await reader.end()
  })
})

describe('sign-in', () => {
  test('an unknown address and a wrong password are answered alike', async () => {
    const user = await gateway.signedInUser()
    const wrong = await gateway.ask('POST', '/v1/auth/login', {
      body: { email: user.email, password: 'Wrong-Horse-7' },
    })
    const unknown = await gateway.ask('POST', '/v1/auth/login', {
      body: { email: 'nobody@example.com', password: 'Wrong-Horse-7' },
    })
    const { requestId: _1, ...first } = wrong.body
    const { requestId: _2, ...second } = unknown.body
    expect([wrong.status, first]).toEqual([unknown.status, second])
    expect(first.code).toBe('INVALID_CREDENTIALS')
  })

  test('a disabled account is told so only with the right password', async () => {
    const user = await gateway.signedInUser()
    await setClocks.disableUser(sql, user.id)
    const { email, password } = user
    const right = await gateway.ask('POST', '/v1/auth/login', { body: { email, password } })
    const wrong = await gateway.ask('POST', '/v1/auth/login', { body: { email, password: 'Wrong-Horse-7' } })
    expect([right.body.code, wrong.body.code]).toEqual(['ACCOUNT_DISABLED', 'INVALID_CREDENTIALS'])
    expect((await refresh(user.refreshToken)).body.code).toBe('REFRESH_TOKEN_INVALID')
  })

  test('the cookie carries the refresh token instead of the body, and only to /v1/auth', async () => {
    const { email, password } = await gateway.signedInUser()
    const login = await gateway.ask('POST', '/v1/auth/login', { body: { email, password, cookie: true } })
    const cookie = login.headers.get('set-cookie')!
    expect(login.body.refreshToken).toBeUndefined()
    expect(cookie).toMatch(/^pennywire_refresh=[\w-]{43}; .*Path=\/v1\/auth; HttpOnly; SameSite=Strict$/)
    const sent = { cookie: cookie.split(';')[0]! }
    const refreshed = await gateway.ask('POST', '/v1/auth/refresh', { headers: sent })
    expect([refreshed.status, refreshed.body.refreshToken]).toEqual([200, undefined])
    expect(refreshed.headers.get('set-cookie')).not.toContain(sent.cookie)
    const out = await gateway.ask('POST', '/v1/auth/logout', { token: refreshed.body.accessToken })
    expect(out.headers.get('set-cookie')).toContain('Max-Age=0')
  })
})

describe('refresh tokens', () => {
  test('two parallel refreshes get the same successor, which works', async () => {
    const user = await gateway.signedInUser()
    const answers = await Promise.all([1, 2, 3, 4].map(() => refresh(user.refreshToken)))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    const successors = new Set(answers.map(({ body }) => body.refreshToken))
    expect(successors.size).toBe(1)
    expect((await refresh([...successors][0])).status).toBe(200)
  })

  test('a lost answer is given again within the grace', async () => {
    const user = await gateway.signedInUser()
    const lost = await refresh(user.refreshToken)
    const again = await refresh(user.refreshToken)
    expect(again.body.refreshToken).toBe(lost.body.refreshToken)
    expect((await me(again.body.accessToken)).status).toBe(200)
  })

  test.each([
    ['after the grace', async (_next: string) => void (await setClocks.endGrace(sql))],
    ['once its successor was used', async (next: string) => void (await refresh(next))],
  ])('reuse %s ends the session, and every token of the family with it', async (_when, meanwhile) => {
    const user = await gateway.signedInUser()
    const { body: second } = await refresh(user.refreshToken)
    await meanwhile(second.refreshToken)
    const reused = await refresh(user.refreshToken)
    expect([reused.status, reused.body.code]).toEqual([401, 'REFRESH_TOKEN_REUSED'])
    expect((await refresh(second.refreshToken)).body.code).toBe('REFRESH_TOKEN_INVALID')
    for (const token of [user.accessToken, second.accessToken]) {
      expect((await me(token)).body.code).toBe('TOKEN_REVOKED')
    }
    expect(await eventsOf(user.id)).toContain('SessionRevoked')
  })

  test('unknown and idle ones are not valid', async () => {
    expect((await refresh('x'.repeat(43))).body.code).toBe('REFRESH_TOKEN_INVALID')
    expect((await gateway.ask('POST', '/v1/auth/refresh')).body.code).toBe('REFRESH_TOKEN_INVALID')
    const user = await gateway.signedInUser()
    await setClocks.endIdleTime(sql)
    expect((await refresh(user.refreshToken)).body.code).toBe('REFRESH_TOKEN_INVALID')
  })
})

describe('sessions', () => {
  test('signing out ends this session at once and no other', async () => {
    const first = await gateway.signedInUser()
    const second = await gateway.logIn(first)
    expect((await gateway.ask('POST', '/v1/auth/logout', { token: first.accessToken })).status).toBe(200)
    const refused = await me(first.accessToken)
    expect([refused.status, refused.body.code]).toEqual([401, 'TOKEN_REVOKED'])
    expect(refused.headers.get('www-authenticate')).toContain('invalid_token')
    expect((await refresh(first.refreshToken)).body.code).toBe('REFRESH_TOKEN_INVALID')
    expect((await me(second.accessToken)).status).toBe(200)
    const all = await gateway.ask('POST', '/v1/auth/logout-all', { token: second.accessToken })
    expect([all.status, all.body.ended]).toEqual([200, 1])
    expect((await me(second.accessToken)).status).toBe(401)
  })

  test('they are listed in pages, newest first, with the device', async () => {
    const user = await gateway.signedInUser()
    for (const agent of ['Phone', 'Tablet']) {
      await gateway.ask('POST', '/v1/auth/login', {
        body: { email: user.email, password: user.password },
        headers: { 'user-agent': agent },
      })
    }
    const page = await gateway.ask('GET', '/v1/sessions?limit=2', { token: user.accessToken })
    expect(
      page.body.items.map((item: { device: string; current: boolean }) => [item.device, item.current]),
    ).toEqual([
      ['Tablet', false],
      ['Phone', false],
    ])
    const rest = await gateway.ask('GET', `/v1/sessions?limit=2&cursor=${page.body.nextCursor}`, {
      token: user.accessToken,
    })
    expect([rest.body.items.length, rest.body.items[0].current, rest.body.nextCursor]).toEqual([
      1,
      true,
      null,
    ])
  })

  test("another user's session is not found; one's own ends", async () => {
    const alice = await gateway.signedInUser()
    const bob = await gateway.signedInUser()
    const { body } = await gateway.ask('GET', '/v1/sessions', { token: bob.accessToken })
    const [session] = body.items
    const foreign = await gateway.ask('DELETE', `/v1/sessions/${session.id}`, { token: alice.accessToken })
    expect([foreign.status, foreign.body.code]).toEqual([404, 'SESSION_NOT_FOUND'])
    expect((await me(bob.accessToken)).status).toBe(200)
    expect(
      (await gateway.ask('DELETE', `/v1/sessions/${session.id}`, { token: bob.accessToken })).status,
    ).toBe(200)
    expect((await me(bob.accessToken)).body.code).toBe('TOKEN_REVOKED')
  })

  test('a new name shows at once', async () => {
    const user = await gateway.signedInUser({ fullName: 'Old Name' })
    expect((await gateway.identity.names.namesOf([user.id])).get(user.id)?.masked).toBe('Old N.')
    await gateway.ask('PATCH', '/v1/users/me', { token: user.accessToken, body: { fullName: 'New Person' } })
    expect((await gateway.identity.names.namesOf([user.id])).get(user.id)?.masked).toBe('New P.')
  })

  test.each([undefined, 'Basic abc', 'Bearer', 'Bearer  '])('%s is no bearer token', async authorization => {
    const { status, body, headers } = await gateway.ask('GET', '/v1/users/me', {
      headers: authorization ? { authorization } : {},
    })
    expect([status, body.code, headers.get('www-authenticate')]).toEqual([401, 'TOKEN_MISSING', 'Bearer'])
  })
})

describe('Redis away', () => {
  test('reads go on, with the session asked of Postgres; what guards money or sign-ins refuses', async () => {
    const user = await gateway.signedInUser()
    const alone = await openGateway({}, 'redis://127.0.0.1:1')
    await expect(alone.identity.check()).rejects.toThrow()
    expect((await me(user.accessToken, alone)).status).toBe(200)
    const pin = await alone.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: '482915' } })
    expect([pin.status, pin.body.code, pin.body.retryable, pin.headers.get('retry-after')]).toEqual([
      503,
      'SERVICE_UNAVAILABLE',
      true,
      '1',
    ])
    const login = await alone.ask('POST', '/v1/auth/login', {
      body: { email: user.email, password: user.password },
    })
    expect(login.status).toBe(503)
    // A session that ends meanwhile is refused on reads too, and is written to Redis once Redis is back.
    expect((await alone.ask('POST', '/v1/auth/logout', { token: user.accessToken })).status).toBe(200)
    expect((await me(user.accessToken, alone)).body.code).toBe('TOKEN_REVOKED')
    const back = await openGateway()
    await vi.waitFor(() => back.identity.check())
    expect((await me(user.accessToken, back)).body.code).toBe('TOKEN_REVOKED')
    alone.stop()
    back.stop()
  })
})

test('deleting what Redis knows of an ended session or a locked PIN gains nothing: it is told again for all its life', async () => {
  const user = await gateway.signedInUser()
  await gateway.ask('POST', '/v1/auth/logout', { token: user.accessToken })
  const { sid: sessionId } = JSON.parse(
    Buffer.from(user.accessToken.split('.')[1]!, 'base64url').toString(),
  ) as {
    sid: string
  }
  const { redis } = gateway
  expect(await redis.del(`session-ended:${sessionId}`)).toBe(1)
  expect((await me(user.accessToken)).body.code).toBe('TOKEN_REVOKED')

  // As on a gateway that did not end the session: ended long ago, and deleted from Redis.
  await sql`update gateway.sessions set ended_at = now() - interval '10 minutes' where id = ${sessionId}`
  await sql`
    insert into gateway.pin_locks (user_id, locked_at, locked_until, freeze_due)
    values (${user.id}, now() - interval '3 minutes', now() + interval '1 day', false)`
  const written = [`session-ended:${sessionId}`, `pin-locked:${user.id}`]
  await redis.del(written)
  await vi.waitFor(async () => expect(await redis.exists(written)).toBe(2), {
    timeout: 50_000,
    interval: 200,
  })
}, 60_000)

test('secrets are in no log line, table, record or answer', async () => {
  const email = 'canary@example.com'
  const password = 'Canary-Password-9'
  const [pin, wrongPin] = ['739146', '864209']
  const user = await gateway.signedInUser({ email, password })
  const mailed = await gateway.mailedToken(user.id)
  const token = user.accessToken
  const answers = [
    await gateway.ask('POST', '/v1/auth/signup', { body: { email, password, fullName: 'Can Ary' } }),
    await gateway.ask('POST', '/v1/auth/login', { body: { email, password: `${password}x` } }),
    await gateway.ask('POST', '/v1/auth/login', { body: { email, password, pin } }),
    await gateway.ask('POST', '/v1/pin', { token, body: { pin } }),
    await gateway.ask('POST', '/v1/pin', { token, body: { pin: wrongPin } }),
    await gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: wrongPin } }),
    await gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: `${wrongPin}0` } }),
    await gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: Number(pin) } }),
  ]
  const records = (await decodeOutbox(sql, gateway.codec)).map(record => JSON.stringify(record))
  const haystack = [
    ...gateway.logLines,
    await dumpTables(sql),
    ...records,
    ...answers.map(({ text }) => text),
    ...answers.flatMap(({ headers }) => [...headers.values()]),
  ].join('\n')
  for (const secret of [password, pin, wrongPin, mailed, user.refreshToken, user.accessToken]) {
    for (const form of [
      secret,
      Buffer.from(secret).toString('hex'),
      Buffer.from(secret).toString('base64'),
    ]) {
      expect(haystack.includes(form), `${secret} as ${form}`).toBe(false)
    }
  }
  // Mail addresses and names stay in the users table.
  expect([...gateway.logLines, ...records].join('\n')).not.toMatch(/canary@example\.com|Can Ary|192\.0\.2\.1/)
})
