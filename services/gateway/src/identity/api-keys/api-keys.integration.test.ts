import { createHash, randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { type Guards, newRoutes } from '../../http/define-route.ts'
import {
  createGatewayDatabase,
  decodeOutbox,
  dumpTables,
  lockApiKey,
  readApiKeyHash,
  setClocks,
} from '../../sql/test-database.ts'
import {
  createTestGateway,
  createTestKeys,
  drawAddress,
  type TestGateway,
  type TestKeys,
} from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')
const PIN = '482915'
/** The promised time for a revocation to take effect. */
const WITHIN = { timeout: 1_000, interval: 20 }

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let root: Awaited<ReturnType<TestGateway['signedInStaff']>>

/** Two routes that accept API keys, like the routes that move money. */
const keyRoutes = ({ signedIn }: Guards) => {
  const routes = newRoutes()
  const read = signedIn({ scope: 'wallets:read', limit: 'RECIPIENT' })
  routes.get('/v1/test/read', read.middleware[0]!, context => context.json(context.var.user))
  const write = signedIn({ scope: 'deposits:write', guardsMoney: true })
  routes.get('/v1/test/write', write.middleware[0]!, context => context.json(context.var.user))
  return routes
}

const openGateway = async (env: Record<string, string> = {}) => {
  const deps = { sql, databaseUrl: database.url, redisUrl, keys, env, routes: keyRoutes }
  const opened = await createTestGateway(deps)
  await vi.waitFor(() => opened.identity.check())
  return opened
}

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  gateway = await openGateway({ BOOTSTRAP_ADMIN_EMAIL: 'root@example.com' })
  root = await gateway.signedInStaff({ email: 'root@example.com' })
})

afterAll(async () => {
  gateway.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

type User = Awaited<ReturnType<TestGateway['signedInUser']>>

const post = (user: User, path: string, body: unknown = {}, through = gateway) =>
  through.ask('POST', path, { token: user.accessToken, body })
const get = (user: User, path: string) => gateway.ask('GET', path, { token: user.accessToken })
const remove = (user: User, path: string) => gateway.ask('DELETE', path, { token: user.accessToken })

const asked = (user: User, more: object = {}) => ({
  ...{ name: 'Shop back end', scopes: ['wallets:read', 'deposits:write'], password: user.password },
  ...more,
})
const create = (user: User, more: object = {}, through = gateway) =>
  post(user, '/v1/api-keys', asked(user, more), through)
type Key = { id: string; secret: string; expiresAt: string; createdAt: string }
const makeKey = async (user: User, more: object = {}): Promise<Key> => {
  const { status, body } = await create(user, more)
  expect([status, body.code]).toEqual([201, undefined])
  return body
}
const rotate = (user: User, id: string, more: object = {}) =>
  post(user, `/v1/api-keys/${id}/rotate`, { password: user.password, ...more })

/** The outcome of a request with a key: `works`, or the status and code of the refusal. */
const using = async (secret: string, path = '/v1/test/read', through = gateway) => {
  const { status, body } = await through.ask('GET', path, { token: secret, address: drawAddress() })
  return status === 200 ? 'works' : `${status} ${body.code}`
}
const becomes = (secret: string, outcome: string) =>
  vi.waitFor(async () => expect(await using(secret)).toBe(outcome), WITHIN)

const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, type }) => key === userId && type.includes('.ApiKey'),
  )

describe('making a key', () => {
  test('it is told once, shown without its secret, and kept as a hash', async () => {
    const user = await gateway.signedInUser()
    const made = await create(user, { maxAmount: '250.00', requestsPerMinute: 30 })
    const { secret, ...shown } = made.body
    expect([made.status, made.headers.get('cache-control')]).toEqual([201, 'no-store'])
    expect(secret).toMatch(/^pwk_[0-9a-f]{10}_[A-Za-z0-9_-]{43}$/)
    expect(shown).toMatchObject({
      name: 'Shop back end',
      prefix: secret.slice(0, 14),
      scopes: ['wallets:read', 'deposits:write'],
      maxAmount: '250.00',
      requestsPerMinute: 30,
      state: 'active',
      lastUsedAt: null,
      endedAt: null,
      replaces: null,
    })
    expect(Date.parse(shown.expiresAt) - Date.parse(shown.createdAt)).toBe(90 * 86_400_000)
    expect((await get(user, `/v1/api-keys/${shown.id}`)).body).toEqual(shown)
    expect((await get(user, '/v1/api-keys')).body).toEqual({ items: [shown], nextCursor: null })
    expect(await readApiKeyHash(sql, shown.id)).toEqual(createHash('sha256').update(secret).digest())
  })

  test('the list has every key once, newest first, page by page', async () => {
    const user = await gateway.signedInUser()
    const made: string[] = []
    for (let i = 0; i < 3; i++) made.unshift((await makeKey(user)).id)
    const first = (await get(user, '/v1/api-keys?limit=2')).body
    const second = (await get(user, `/v1/api-keys?limit=2&cursor=${first.nextCursor}`)).body
    expect([...first.items, ...second.items].map(({ id }: Key) => id)).toEqual(made)
    expect(second.nextCursor).toBeNull()
  })

  test.each([
    ['a scope that there is not', { scopes: ['users:write'] }, 'scopes.0'],
    ['a scope twice', { scopes: ['wallets:read', 'wallets:read'] }, 'scopes'],
    ['no scope', { scopes: [] }, 'scopes'],
    ['more than a year', { expiresInDays: 366 }, 'expiresInDays'],
    ['no time at all', { expiresInDays: 0 }, 'expiresInDays'],
    ['a most of nothing', { maxAmount: '0.00' }, 'maxAmount'],
    ['more requests than the setting', { requestsPerMinute: 10_001 }, 'requestsPerMinute'],
    ['a name of nothing', { name: ' ' }, 'name'],
    ['a name with a line break', { name: 'a\nb' }, 'name'],
    ['a secret of one’s own', { secret: 'pwk_x' }, 'secret'],
  ])('%s is refused', async (_what, more, field) => {
    const { status, body } = await create(await gateway.signedInUser(), more)
    expect([status, body.code, body.errors[0].field]).toEqual([422, 'VALIDATION_ERROR', field])
  })

  test('of many at once no more than 20 are made', async () => {
    const user = await gateway.signedInUser()
    // Rounds of 8, because the queue for passwords has few places per account.
    const answers: Awaited<ReturnType<typeof create>>[] = []
    for (let round = 0; round < 3; round++)
      answers.push(...(await Promise.all(Array.from({ length: 8 }, () => create(user)))))
    expect(answers.filter(({ status }) => status === 201).length).toBe(20)
    const refused = answers.filter(({ status }) => status !== 201)
    expect(refused.map(({ body }) => body.code)).toEqual(Array(4).fill('TOO_MANY_API_KEYS'))
    // A revoked or expired key makes room.
    const [one, other] = answers.filter(({ status }) => status === 201).map(({ body }) => body.id)
    expect((await remove(user, `/v1/api-keys/${one}`)).status).toBe(200)
    expect((await create(user)).status).toBe(201)
    await setClocks.expireApiKey(sql, other)
    expect((await create(user)).status).toBe(201)
    expect((await create(user)).body.code).toBe('TOO_MANY_API_KEYS')
  })

  test('where money leaves the PIN has to allow it, and only who has the password spends its tries', async () => {
    const user = await gateway.signedInUser()
    expect((await post(user, '/v1/pin', { pin: PIN })).status).toBe(201)
    const triesLeft = async () => (await get(user, '/v1/pin')).body.attemptsRemaining
    for (const scopes of [['transfers:write'], ['withdrawals:write', 'wallets:read']]) {
      expect((await create(user, { scopes })).body.code).toBe('PIN_REQUIRED')
      const stranger = await create(user, { scopes, password: 'Wrong-Horse-7', pin: '592817' })
      expect([stranger.status, stranger.body.code]).toEqual([400, 'PASSWORD_MISMATCH'])
      expect(await triesLeft()).toBe(3)
      const guess = await create(user, { scopes, pin: '592817' })
      expect([guess.status, guess.body.code, guess.body.attemptsRemaining]).toEqual([403, 'INVALID_PIN', 2])
      expect((await create(user, { scopes, pin: PIN })).status).toBe(201)
      expect(await triesLeft()).toBe(3)
    }
    expect((await create(user, { scopes: ['holds:capture', 'transfers:read'] })).status).toBe(201)
    const noPin = await create(await gateway.signedInUser(), { scopes: ['transfers:write'], pin: PIN })
    expect([noPin.status, noPin.body.code]).toEqual([400, 'PIN_NOT_SET'])
  })
})

describe('using a key', () => {
  test('where its scope allows, as its user and no more than a user', async () => {
    expect((await get(root, '/v1/users/me')).body.roles).toContain('super_admin')
    const { id, secret } = await makeKey(root, { scopes: ['wallets:read'] })
    const { status, body } = await gateway.ask('GET', '/v1/test/read', { token: secret })
    expect([status, body]).toMatchObject([
      200,
      { userId: root.id, roles: ['user'], sessionId: null, apiKey: { id } },
    ])
    const refused = await gateway.ask('GET', '/v1/test/write', { token: secret })
    expect([refused.status, refused.body.code, refused.body.requiredScope]).toEqual([
      403,
      'INSUFFICIENT_SCOPE',
      'deposits:write',
    ])
    expect(refused.headers.get('www-authenticate')).toBe(
      'Bearer error="insufficient_scope", scope="deposits:write"',
    )
    for (const path of ['/v1/users/me', '/v1/pin', '/v1/sessions', '/v1/api-keys', '/v1/admin/users']) {
      expect([path, await using(secret, path)]).toEqual([path, '403 API_KEY_NOT_ALLOWED'])
    }
    const more = await gateway.ask('POST', '/v1/api-keys', { token: secret, body: asked(root) })
    expect([more.status, more.body.code]).toEqual([403, 'API_KEY_NOT_ALLOWED'])
  })

  test('what was never a key, or is no more, says what it is', async () => {
    const user = await gateway.signedInUser()
    const { id, secret } = await makeKey(user)
    const almost = `${secret.slice(0, -1)}${secret.endsWith('A') ? 'B' : 'A'}`
    for (const bad of [almost, `${secret}A`, secret.slice(0, -1), 'pwk_', secret.toUpperCase()]) {
      expect(await using(bad)).toBe('401 TOKEN_INVALID')
    }
    expect(await using(secret)).toBe('works')
    await setClocks.expireApiKey(sql, id)
    await becomes(secret, '401 TOKEN_EXPIRED')
    expect((await get(user, `/v1/api-keys/${id}`)).body.state).toBe('expired')
    expect((await remove(user, `/v1/api-keys/${id}`)).body.code).toBe('API_KEY_ENDED')
  })

  test('revoked: refused within a second, also by another gateway, and shown as it is', async () => {
    const other = await openGateway()
    const user = await gateway.signedInUser()
    const { id, secret } = await makeKey(user)
    expect(await using(secret)).toBe('works')
    expect(await using(secret, '/v1/test/write', other)).toBe('works')
    const revoked = await remove(user, `/v1/api-keys/${id}`)
    expect([revoked.status, revoked.body.state]).toEqual([200, 'revoked'])
    await becomes(secret, '401 TOKEN_REVOKED')
    await vi.waitFor(
      async () => expect(await using(secret, '/v1/test/write', other)).toBe('401 TOKEN_REVOKED'),
      WITHIN,
    )
    other.stop()
    const again = await remove(user, `/v1/api-keys/${id}`)
    expect([again.status, again.body.code]).toEqual([409, 'API_KEY_ENDED'])
    expect((await rotate(user, id)).body.code).toBe('API_KEY_ENDED')
  })

  test('its last use is noted, once a minute, and never waited for', async () => {
    const user = await gateway.signedInUser()
    const { id, secret } = await makeKey(user)
    const release = await lockApiKey(sql, id)
    try {
      expect(await using(secret)).toBe('works')
    } finally {
      await release()
    }
    const lastUsed = async () => (await get(user, `/v1/api-keys/${id}`)).body.lastUsedAt
    await vi.waitFor(async () => expect(await lastUsed()).not.toBeNull())
    const first = await lastUsed()
    // Another gateway, which has not recorded a use yet, leaves the minute alone as well.
    const other = await openGateway()
    expect(await using(secret, '/v1/test/read', other)).toBe('works')
    other.stop()
    expect(await lastUsed()).toBe(first)
  })

  test('somebody else’s key is one that does not exist', async () => {
    const { id } = await makeKey(await gateway.signedInUser())
    const stranger = await gateway.signedInUser()
    const answers = [
      await get(stranger, `/v1/api-keys/${id}`),
      await remove(stranger, `/v1/api-keys/${id}`),
      await rotate(stranger, id),
      await get(stranger, `/v1/api-keys/${randomUUID()}`),
    ]
    expect(answers.map(({ body }) => body.code)).toEqual(Array(4).fill('API_KEY_NOT_FOUND'))
    expect((await get(stranger, '/v1/api-keys')).body.items).toEqual([])
  })
})

describe('rotation', () => {
  test('both are good while it lasts, then the old one is not', async () => {
    const user = await gateway.signedInUser()
    const old = await makeKey(user, { expiresInDays: 30, maxAmount: '9.5', requestsPerMinute: 7 })
    const before = Date.now()
    const { status, body: next } = await rotate(user, old.id, { overlapSeconds: 600 })
    expect(status).toBe(201)
    const { id: _, secret: __, prefix: ___, createdAt: ____, expiresAt: _____, ...rest } = next
    expect(rest).toMatchObject({
      ...{ name: 'Shop back end', scopes: ['wallets:read', 'deposits:write'], maxAmount: '9.5' },
      ...{ requestsPerMinute: 7, state: 'active', replaces: old.id },
    })
    expect(Date.parse(next.expiresAt) - Date.parse(next.createdAt)).toBe(30 * 86_400_000)
    expect(Date.parse(next.replacedEndsAt) - before).toBeGreaterThan(590_000)
    expect(Date.parse(next.replacedEndsAt) - before).toBeLessThan(610_000)
    expect([await using(old.secret), await using(next.secret)]).toEqual(['works', 'works'])
    expect((await get(user, `/v1/api-keys/${old.id}`)).body).toMatchObject({
      state: 'active',
      endedAt: next.replacedEndsAt,
    })
    await setClocks.endApiKeyOverlap(sql, old.id)
    await becomes(old.secret, '401 TOKEN_REVOKED')
    expect(await using(next.secret)).toBe('works')
    expect((await get(user, `/v1/api-keys/${old.id}`)).body.state).toBe('replaced')
  })

  test('a day where nothing is said, nothing where that is said, never beyond the old one’s own end', async () => {
    const user = await gateway.signedInUser()
    const usual = (await rotate(user, (await makeKey(user)).id)).body
    expect(Date.parse(usual.replacedEndsAt) - Date.parse(usual.createdAt)).toBe(86_400_000)
    const old = await makeKey(user)
    const at = (await rotate(user, old.id, { overlapSeconds: 0 })).body
    expect(at.replacedEndsAt).toBe(at.createdAt)
    await becomes(old.secret, '401 TOKEN_REVOKED')
    const short = await makeKey(user)
    await setClocks.shortenApiKey(sql, short.id, 60)
    const { expiresAt } = (await get(user, `/v1/api-keys/${short.id}`)).body
    expect((await rotate(user, short.id, { overlapSeconds: 600 })).body.replacedEndsAt).toBe(expiresAt)
    expect((await rotate(user, (await makeKey(user)).id, { overlapSeconds: 604_801 })).status).toBe(422)
  })

  test('of two at once one succeeds', async () => {
    const user = await gateway.signedInUser()
    const { id } = await makeKey(user)
    const answers = await Promise.all([rotate(user, id), rotate(user, id)])
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409])
    expect(answers.find(({ status }) => status === 409)!.body.code).toBe('API_KEY_ENDED')
    expect((await get(user, '/v1/api-keys')).body.items.length).toBe(2)
  })

  test('by which money leaves, it needs the PIN again; without the password nothing', async () => {
    const user = await gateway.signedInUser()
    await post(user, '/v1/pin', { pin: PIN })
    const { id } = await makeKey(user, { scopes: ['transfers:write'], pin: PIN })
    const codes = [
      (await rotate(user, id)).body.code,
      (await rotate(user, id, { pin: '592817' })).body.code,
      (await rotate(user, id, { pin: PIN, password: 'Wrong-Horse-7' })).body.code,
    ]
    expect(codes).toEqual(['PIN_REQUIRED', 'INVALID_PIN', 'PASSWORD_MISMATCH'])
    expect((await rotate(user, id, { pin: PIN })).status).toBe(201)
  })

  test('one that is being replaced can still be revoked', async () => {
    const user = await gateway.signedInUser()
    const { id, secret } = await makeKey(user)
    await rotate(user, id)
    expect((await remove(user, `/v1/api-keys/${id}`)).body.state).toBe('revoked')
    await becomes(secret, '401 TOKEN_REVOKED')
  })
})

describe('what ends all keys of a user', () => {
  const resetPassword = async (user: User) => {
    await gateway.ask('POST', '/v1/auth/forgot-password', { body: { email: user.email } })
    const verification = await gateway.mailedToken(user.id)
    const token = await vi.waitFor(async () => {
      const mailed = await gateway.mailedToken(user.id)
      if (!mailed || mailed === verification) throw new Error('no mail yet')
      return mailed
    })
    return gateway.ask('POST', '/v1/auth/reset-password', { body: { token, password: 'Battery-Staple-8' } })
  }

  test('a password that was forgotten: somebody else may have made them', async () => {
    const user = await gateway.signedInUser()
    const made = await makeKey(user)
    const replaced = await makeKey(user)
    await rotate(user, replaced.id)
    expect((await resetPassword(user)).status).toBe(200)
    for (const { secret } of [made, replaced]) await becomes(secret, '401 TOKEN_REVOKED')
    const reasons = (await eventsOf(user.id)).flatMap(({ type, value }) =>
      type === 'pennywire.identity.ApiKeyRevoked' ? [[value.reason, value.byUserId]] : [],
    )
    expect(reasons).toEqual(Array(3).fill(['password_reset', null]))
  })

  test('a deactivated account; and its reactivation brings none back', async () => {
    const user = await gateway.signedInUser()
    const { secret } = await makeKey(user)
    await post(user, '/v1/users/me/deactivate', { password: user.password })
    await becomes(secret, '403 ACCOUNT_DISABLED')
    expect((await post(root, `/v1/admin/users/${user.id}/reactivate`)).status).toBe(200)
    await becomes(secret, '401 TOKEN_REVOKED')
  })

  test('not a password that was changed, and not signing out everywhere: back ends go on', async () => {
    const user = await gateway.signedInUser()
    const { id, secret } = await makeKey(user)
    const newPassword = 'Battery-Staple-8'
    await post(user, '/v1/auth/change-password', { currentPassword: user.password, newPassword })
    expect((await post(user, '/v1/auth/logout-all')).status).toBe(200)
    const again = { ...user, ...(await gateway.logIn({ ...user, password: newPassword })) }
    expect((await get(again, `/v1/api-keys/${id}`)).body.state).toBe('active')
    expect(await using(secret)).toBe('works')
  })
})

test('staff see and revoke the keys of others, never their own; the owner is told', async () => {
  const rootId = (await get(root, '/v1/users/me')).body.id
  const user = await gateway.signedInUser()
  const { id, secret } = await makeKey(user)
  const listed = (await get(root, `/v1/admin/users/${user.id}/api-keys`)).body
  expect(listed.items).toMatchObject([{ id, name: 'Shop back end', state: 'active' }])
  expect(JSON.stringify(listed)).not.toContain(secret)
  const revoke = (owner: string, key: string) => remove(root, `/v1/admin/users/${owner}/api-keys/${key}`)
  expect((await revoke(rootId, (await makeKey(root)).id)).body.code).toBe('INSUFFICIENT_PERMISSIONS')
  // Another user's key, under this user's name.
  const foreign = await makeKey(await gateway.signedInUser())
  expect((await revoke(user.id, foreign.id)).body.code).toBe('API_KEY_NOT_FOUND')
  expect((await revoke(user.id, id)).status).toBe(200)
  await becomes(secret, '401 TOKEN_REVOKED')
  expect((await eventsOf(user.id)).at(-1)).toMatchObject({
    type: 'pennywire.identity.ApiKeyRevoked',
    value: { keyId: id, byUserId: rootId, reason: 'revoked_by_staff' },
  })
  const records = await decodeOutbox(sql, gateway.codec)
  const mails = records.flatMap(({ key, type, value }) =>
    key === user.id && type === 'pennywire.notifier.MailRequested' ? [value.template] : [],
  )
  expect(mails.slice(-2)).toEqual(['api_key_created', 'api_key_revoked'])
})

describe('limits', () => {
  test('all keys of a user together have a limit: making keys does not multiply what may be asked', async () => {
    const through = await openGateway({ RATE_LIMIT_API_KEYS: '5/60' })
    const [user, other] = [await gateway.signedInUser(), await gateway.signedInUser()]
    const keys = [await makeKey(user), await makeKey(user), await makeKey(user)]
    const statuses = []
    for (let i = 0; i < 6; i++) {
      const { status } = await through.ask('GET', '/v1/test/read', { token: keys[i % 3]!.secret })
      statuses.push(status)
    }
    expect(statuses).toEqual([200, 200, 200, 200, 200, 429])
    // The limit stops neither the user nor another user's keys.
    const mine = await through.ask('GET', '/v1/users/me', { token: user.accessToken })
    const theirs = await through.ask('GET', '/v1/test/read', { token: (await makeKey(other)).secret })
    expect([mine.status, theirs.status]).toEqual([200, 200])
    through.stop()
  })

  test('a key’s are its own: neither its user nor another key uses them up, nor the other way round', async () => {
    const through = await openGateway({
      ...{ RATE_LIMIT_API_KEY: '4/60', RATE_LIMIT_RECIPIENT: '9/60', RATE_LIMIT_DEFAULT: '8/60' },
    })
    const user = await gateway.signedInUser()
    const [one, two] = [await makeKey(user), await makeKey(user, { requestsPerMinute: 2 })]
    const address = drawAddress()
    const ask = (token: string, path = '/v1/test/read') => through.ask('GET', path, { token, address })
    const first = await ask(one.secret)
    expect(first.headers.get('ratelimit-policy')).toBe(
      '"api_key";q=4;w=60, "api_keys";q=10000;w=60, "recipient";q=9;w=60',
    )
    expect(first.headers.get('ratelimit')).toMatch(
      /^"api_key";r=3;t=\d+, "api_keys";r=9999;t=\d+, "recipient";r=8;t=\d+$/,
    )
    const statuses = async (times: number, token: string, path?: string) => {
      const all = []
      for (let i = 0; i < times; i++) all.push((await ask(token, path)).status)
      return all
    }
    expect(await statuses(2, one.secret)).toEqual([200, 200])
    // Requests outside the key's scopes are counted as well.
    expect(await statuses(2, one.secret, '/v1/users/me')).toEqual([403, 429])
    expect(await statuses(3, two.secret)).toEqual([200, 200, 429])
    // Requests that reveal other users count by user, so that keys do not multiply the limit: keys and user share nine.
    expect(await statuses(5, user.accessToken)).toEqual([200, 200, 200, 200, 429])
    // The user's two requests to make keys count as well.
    expect(await statuses(3, user.accessToken, '/v1/users/me')).toEqual([200, 200, 429])
    // The key's own limit is above the setting, which has been lowered since.
    const wide = await makeKey(user, { requestsPerMinute: 100 })
    expect((await ask(wide.secret)).headers.get('ratelimit-policy')).toContain('"api_key";q=4;w=60')
    through.stop()
  })

  test('made-up keys are counted by address, before Postgres is asked for them', async () => {
    const through = await openGateway({ RATE_LIMIT_DEFAULT: '3/60' })
    const user = await gateway.signedInUser()
    const [{ secret }, unmet] = [await makeKey(user), await makeKey(user)]
    expect(await using(secret, '/v1/test/read', through)).toBe('works')
    const address = drawAddress()
    const statusOf = async (token: string, from = address) =>
      (await through.ask('GET', '/v1/test/read', { token, address: from })).status
    const statuses = []
    for (let i = 0; i < 5; i++) {
      const token = `${secret.slice(0, 20)}${String(i).repeat(38)}`
      statuses.push(await statusOf(token))
    }
    expect(statuses).toEqual([401, 401, 401, 429, 429])
    // A key in use is not affected; a key that this gateway has not looked up yet could be made up, too.
    expect(await statusOf(secret)).toBe(200)
    expect(await statusOf(unmet.secret)).toBe(429)
    // From another address the key is valid, costs the address nothing, and is cached from then on.
    const elsewhere = drawAddress()
    expect(await statusOf(unmet.secret, elsewhere)).toBe(200)
    expect(await statusOf(unmet.secret)).toBe(200)
    const first = await through.ask('GET', '/v1/test/read', { token: 'x', address: elsewhere })
    expect(first.headers.get('ratelimit')).toMatch(/^"default";r=2;/)
    through.stop()
  })
})

test('without Redis what guards money refuses a key, and reads go on', async () => {
  const through = await openGateway()
  const { secret } = await makeKey(await gateway.signedInUser())
  through.redis.disconnect()
  expect(await using(secret, '/v1/test/write', through)).toBe('503 SERVICE_UNAVAILABLE')
  expect(await using(secret, '/v1/test/read', through)).toBe('works')
  through.stop()
})

test('everything is told as it was, and the secret stands nowhere', async () => {
  const user = await gateway.signedInUser()
  const name = `Canary ${randomUUID()}`
  const first = await makeKey(user, { name })
  const second = (await rotate(user, first.id, { overlapSeconds: 0 })).body as Key
  expect(await using(second.secret)).toBe('works')
  await remove(user, `/v1/api-keys/${second.id}`)
  await becomes(second.secret, '401 TOKEN_REVOKED')
  const failures = [
    await gateway.ask('GET', '/v1/users/me', { token: second.secret }),
    await gateway.ask('GET', '/v1/test/read', { token: second.secret }),
    await gateway.ask('GET', `/v1/test/read?key=${second.secret}`, { token: `${second.secret}x` }),
    await post(user, '/v1/api-keys', asked(user, { scopes: [second.secret] })),
  ]
  expect(failures.every(({ status }) => status >= 400)).toBe(true)
  const scopes = ['wallets:read', 'deposits:write']
  const expiresAt = ({ expiresAt }: Key) => Date.parse(expiresAt)
  const events = await eventsOf(user.id)
  expect(events.map(({ type, value }) => [type.split('.').at(-1), value])).toMatchObject([
    ['ApiKeyCreated', { userId: user.id, keyId: first.id, scopes, expiresAt: expiresAt(first) }],
    ['ApiKeyRotated', { keyId: second.id, replacesKeyId: first.id, scopes, expiresAt: expiresAt(second) }],
    ['ApiKeyRevoked', { keyId: second.id, byUserId: user.id, reason: 'revoked_by_user' }],
  ])
  const sinks = {
    logs: gateway.logLines.join('\n'),
    tables: await dumpTables(sql),
    records: JSON.stringify(await decodeOutbox(sql, gateway.codec), (_, value) =>
      typeof value === 'bigint' ? String(value) : value,
    ),
    errors: failures.map(({ text }) => text).join('\n'),
  }
  for (const sink of [sinks.logs, sinks.tables, sinks.records]) {
    expect(sink.includes(second.id)).toBe(true)
  }
  for (const [sink, text] of Object.entries(sinks)) {
    for (const { secret } of [first, second]) {
      expect(text.includes(secret.slice(15)), `secret in ${sink}`).toBe(false)
      expect(text.includes(Buffer.from(secret).toString('hex')), `secret in ${sink}`).toBe(false)
    }
    expect(text.includes(name), `name in ${sink}`).toBe(false)
  }
})
