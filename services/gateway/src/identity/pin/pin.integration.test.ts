import { randomBytes, randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  createGatewayDatabase,
  decodeOutbox,
  destroyPersonKey,
  insertCrowd,
  readKeyIds,
  readPinLocks,
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
const WRONG = '592817'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateways: [TestGateway, TestGateway]
let gateway: TestGateway

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  const open = () => createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys })
  gateways = [await open(), await open()]
  gateway = gateways[0]
  for (const each of gateways) await vi.waitFor(() => each.identity.check())
})

/** How many times bcrypt ran for PINs, in this process. */
const pinHashes = async (): Promise<number> => {
  const text = await metricsText()
  return Number(/^pennywire_gateway_slow_hashes_total\{of="pin"\} (\d+)$/m.exec(text)?.[1] ?? 0)
}

afterAll(async () => {
  for (const each of gateways) each.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const userWithPin = async () => {
  const user = await gateway.signedInUser()
  const set = await gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: PIN } })
  expect([set.status, set.body]).toEqual([201, { pinSet: true }])
  return user
}
const verify = (user: { accessToken: string }, pin: string, through = gateway) =>
  through.ask('POST', '/v1/pin/verify', { token: user.accessToken, body: { pin } })

const me = (user: { accessToken: string }, through = gateway) =>
  through.ask('GET', '/v1/users/me', { token: user.accessToken })

test('a lock of the PIN is known to every gateway within a second, also by one that died before it told them', async () => {
  const user = await userWithPin()
  const { userId } = await gateway.identity.tokens.verifyAccess(user.accessToken)
  const key = `pin-locked:${userId}`
  expect(await gateway.redis.get(key)).toBe(null)
  for (let i = 0; i < 3; i++) await verify(user, WRONG)
  expect(Number(await gateway.redis.get(key))).toBeGreaterThan(Date.now() - 10_000)
  await gateway.redis.del(key)
  await vi.waitFor(async () => expect(await gateway.redis.get(key)).toMatch(/^\d+$/), { timeout: 3_000 })
})

test('the owner hears of the first PIN: any session may set it', async () => {
  const user = await userWithPin()
  const templates = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
    record.type === 'pennywire.notifier.MailRequested' && record.key === user.id
      ? [record.value.template]
      : [],
  )
  expect(templates).toEqual(['verify_email', 'pin_set'])
})

test('a right PIN gives a step-up token for this session', async () => {
  const user = await userWithPin()
  const { status, body } = await verify(user, PIN)
  expect(status).toBe(200)
  expect(Date.parse(body.expiresAt)).toBeGreaterThan(Date.now() + 290_000)
  const session = await gateway.identity.tokens.verifyAccess(user.accessToken)
  const { at } = await gateway.identity.tokens.verifyStepUp(body.stepUpToken, session)
  expect(Math.abs(at.getTime() - Date.now())).toBeLessThan(10_000)
  const lockedSince = { ...session, pinLockedAt: at.getTime() }
  await expect(gateway.identity.tokens.verifyStepUp(body.stepUpToken, lockedSince)).rejects.toMatchObject({
    code: 'STEP_UP_INVALID',
  })
  const asAccess = await gateway.ask('GET', '/v1/users/me', { token: body.stepUpToken })
  expect([asAccess.status, asAccess.body.code]).toEqual([401, 'TOKEN_INVALID'])
})

test('setting: trivial ones are refused, a second one too; none set is told', async () => {
  const user = await gateway.signedInUser()
  expect((await verify(user, PIN)).body).toMatchObject({ code: 'PIN_NOT_SET', status: 400 })
  const trivial = await gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: '1234' } })
  expect([trivial.status, trivial.body.errors[0].field]).toEqual([422, 'pin'])
  const answers = await Promise.all(
    [PIN, WRONG, PIN].map(pin => gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin } })),
  )
  expect(answers.map(({ status }) => status).sort()).toEqual([201, 409, 409])
  expect((await verify(user, '1234')).body.code).toBe('INVALID_PIN') // any well-formed PIN may be tried
})

describe('the first PIN needs more than an access token', () => {
  const set = (token: string, body: object) =>
    gateway.ask('POST', '/v1/pin', { token, body: { pin: PIN, ...body } })
  /** Signed in a while ago, and refreshed since. */
  const userOfBefore = async () => {
    const user = await gateway.signedInUser()
    await setClocks.ageSignIns(sql, user.id)
    const { body } = await gateway.ask('POST', '/v1/auth/refresh', {
      body: { refreshToken: user.refreshToken },
    })
    return { ...user, ...(body as { accessToken: string }) }
  }

  test('a session whose sign-in is a while ago is asked for the password', async () => {
    const user = await userOfBefore()
    const refused = await set(user.accessToken, {})
    expect([refused.status, refused.body.code]).toEqual([403, 'REAUTHENTICATION_REQUIRED'])
    expect(refused.body.detail).toMatch(/^password: /)
    const wrong = await set(user.accessToken, { password: 'Wrong-horse-9' })
    expect([wrong.status, wrong.body.code]).toEqual([400, 'PASSWORD_MISMATCH'])
    expect((await verify(user, PIN)).body.code).toBe('PIN_NOT_SET')
    expect((await set(user.accessToken, { password: user.password })).status).toBe(201)
    expect((await verify(user, PIN)).status).toBe(200)
  })

  test('or sets it with a mailed code', async () => {
    const user = await userOfBefore()
    const { accessToken: token } = user
    expect((await gateway.ask('POST', '/v1/pin/reset-request', { token })).status).toBe(202)
    const otp = (await gateway.mailedSecret(user.id)).code!
    const reset = await gateway.ask('POST', '/v1/pin/reset', { token, body: { otp, newPin: PIN } })
    expect(reset.status).toBe(200)
    expect((await verify(user, PIN)).status).toBe(200)
    const mine = (await decodeOutbox(sql, gateway.codec)).filter(({ key }) => key === user.id)
    expect(mine.map(({ type }) => type)).toContain('pennywire.identity.PinSet')
  })
})

test('three wrong in a row lock at once, for the right one as well, until the lock has run out', async () => {
  const user = await userWithPin()
  expect((await verify(user, WRONG)).body).toMatchObject({
    code: 'INVALID_PIN',
    status: 403,
    attemptsRemaining: 2,
  })
  expect((await verify(user, WRONG)).body).toMatchObject({ code: 'INVALID_PIN', attemptsRemaining: 1 })
  const third = await verify(user, WRONG)
  expect([third.status, third.body.code]).toEqual([423, 'PIN_LOCKED'])
  const hours = (Date.parse(third.body.lockedUntil) - Date.now()) / 3_600_000
  expect(hours).toBeGreaterThan(23.9)
  expect(hours).toBeLessThanOrEqual(24)
  expect((await verify(user, PIN)).body).toMatchObject({
    code: 'PIN_LOCKED',
    lockedUntil: third.body.lockedUntil,
  })

  await setClocks.endPinLock(sql, user.id)
  expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(2) // counting begins anew
  expect((await verify(user, PIN)).status).toBe(200)
  const events = (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, topic }) => key === user.id && topic === 'identity.events',
  )
  const names = events.map(({ type }) => type.split('.').at(-1)).filter(name => name?.startsWith('Pin'))
  expect(names).toEqual(['PinSet', 'PinFailed', 'PinFailed', 'PinFailed', 'PinLocked', 'PinFailed'])
  const mails = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
    record.key === user.id && record.type === 'pennywire.notifier.MailRequested'
      ? [record.value.template]
      : [],
  )
  expect(mails.filter(template => template === 'pin_locked')).toHaveLength(1)
})

test('a right one resets the count', async () => {
  const user = await userWithPin()
  for (let round = 0; round < 3; round++) {
    expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(2)
    expect((await verify(user, WRONG)).body.attemptsRemaining).toBe(1)
    expect((await verify(user, PIN)).status).toBe(200)
  }
})

test.each([
  ['one gateway', 1],
  ['two gateways', 2],
])('a hundred wrong ones at once through %s are three tries, and lock', async (_name, count) => {
  const user = await userWithPin()
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) => verify(user, WRONG, gateways[index % count]!)),
  )
  const codes = answers.map(({ body }) => body.code)
  expect(codes.filter(code => code === 'INVALID_PIN').length).toBeLessThanOrEqual(2)
  expect(codes.filter(code => code === 'PIN_LOCKED').length).toBeGreaterThanOrEqual(98)
  expect((await verify(user, PIN)).body.code).toBe('PIN_LOCKED')
  const failures = (await decodeOutbox(sql, gateway.codec)).filter(
    ({ key, type }) => key === user.id && type === 'pennywire.identity.PinFailed',
  )
  expect(failures.length).toBe(3)
})

test('the third lock within 30 days asks for the wallets to be frozen, and so does each further one', async () => {
  const user = await userWithPin()
  const lock = async () => {
    await setClocks.endPinLock(sql, user.id)
    // At once through both gateways: several attempts see the lock, which counts once.
    const answers = await Promise.all([0, 1, 0].map(at => verify(user, WRONG, gateways[at])))
    expect(answers.some(({ body }) => body.code === 'PIN_LOCKED')).toBe(true)
  }
  await lock()
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false])
  await setClocks.agePinLocks(sql, user.id)
  await lock()
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false])
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false, true])
  await lock()
  expect(await readPinLocks(sql, user.id)).toEqual([false, false, false, false, true, true])
})

test('right ones at once are all right: none is mistaken for a fourth try', async () => {
  const user = await userWithPin()
  const answers = await Promise.all(Array.from({ length: 8 }, () => verify(user, PIN)))
  expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200))
})

test.each([
  ['one gateway', 1],
  ['two gateways', 2],
])('of 100 guesses at once through %s at most 3 count, and no more are hashed', async (_name, count) => {
  const user = await userWithPin()
  const before = await pinHashes()
  const guesses = Array.from({ length: 100 }, (_, index) => String(100_000 + index * 7_919).slice(0, 6))
  const answers = await Promise.all(guesses.map((pin, index) => verify(user, pin, gateways[index % count]!)))
  expect(answers.filter(({ status }) => status === 200)).toEqual([])
  expect(answers.filter(({ body }) => body.code === 'INVALID_PIN').length).toBeLessThanOrEqual(2)
  expect(answers.filter(({ body }) => body.code === 'PIN_LOCKED').length).toBeGreaterThanOrEqual(98)
  expect((await pinHashes()) - before).toBe(3)
  expect((await eventsOf(user.id)).filter(name => name === 'PinLocked')).toEqual(['PinLocked'])
})

test('a lock ends by itself, and is read as ended', async () => {
  const user = await userWithPin()
  const state = async () => (await gateway.ask('GET', '/v1/pin', { token: user.accessToken })).body
  expect(await state()).toEqual({ pinSet: true, attemptsRemaining: 3, lockedUntil: null })
  for (const _try of [1, 2, 3]) await verify(user, WRONG)
  expect(await state()).toEqual({ pinSet: true, attemptsRemaining: 0, lockedUntil: expect.any(String) })
  await setClocks.endPinLock(sql, user.id)
  expect(await state()).toEqual({ pinSet: true, attemptsRemaining: 3, lockedUntil: null })
  expect((await verify(user, PIN)).status).toBe(200)
  const nobody = await gateway.signedInUser()
  const { body } = await gateway.ask('GET', '/v1/pin', { token: nobody.accessToken })
  expect(body).toEqual({ pinSet: false, attemptsRemaining: 3, lockedUntil: null })
})

test('nobody locks the PIN of somebody else: every way to try one needs the session', async () => {
  for (const path of ['', '/verify', '/change', '/reset-request', '/reset']) {
    const { status } = await gateway.ask('POST', `/v1/pin${path}`, { body: {} })
    expect([path, status]).toEqual([path, 401])
  }
})

test('wrong passwords from elsewhere lock nobody out', async () => {
  const user = await userWithPin()
  const narrow = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: { RATE_LIMIT_LOGIN: '5/60' },
  })
  await vi.waitFor(() => narrow.identity.check())
  const logIn = (password: string, address: string) =>
    narrow.ask('POST', '/v1/auth/login', { body: { email: user.email, password }, address })
  const attacker = drawAddress()
  const guesses: number[] = []
  for (let i = 0; i < 8; i++) guesses.push((await logIn(`Wrong-Horse-${i}`, attacker)).status)
  expect(guesses).toEqual([401, 401, 401, 401, 401, 429, 429, 429])
  expect((await logIn(user.password, drawAddress())).status).toBe(200)
  narrow.stop()
})

const NEW = '730164'
const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key, topic }) => key === userId && topic === 'identity.events')
    .map(({ type }) => type.split('.').at(-1))

describe('changing', () => {
  const change = (user: { accessToken: string }, currentPin: string, newPin: string, through = gateway) =>
    through.ask('POST', '/v1/pin/change', { token: user.accessToken, body: { currentPin, newPin } })

  test('with the old one; it is worth nothing afterwards', async () => {
    const user = await userWithPin()
    expect((await change(user, PIN, NEW)).body).toEqual({ pinChanged: true })
    expect((await verify(user, PIN)).body.code).toBe('INVALID_PIN')
    expect((await verify(user, NEW)).status).toBe(200)
    expect(await eventsOf(user.id)).toContain('PinChanged')
    const nobody = await gateway.signedInUser()
    expect((await change(nobody, PIN, NEW)).body.code).toBe('PIN_NOT_SET')
  })

  test('ends all other sessions, and with them the step-up tokens that somebody has there', async () => {
    const user = await userWithPin()
    const other = await gateway.logIn(user)
    const stepUpOf = async (session: { accessToken: string }) =>
      (await verify(session, PIN)).body.stepUpToken as string
    const [mine, theirs] = [await stepUpOf(user), await stepUpOf(other)]
    expect((await change(other, WRONG, NEW)).body.code).toBe('INVALID_PIN')
    expect((await me(user)).status).toBe(200)
    expect((await change(user, PIN, NEW)).status).toBe(200)
    for (const through of gateways) {
      const answer = await me(other, through)
      expect([answer.status, answer.body.code]).toEqual([401, 'TOKEN_REVOKED'])
    }
    const { tokens } = gateway.identity
    const session = await tokens.verifyAccess(user.accessToken)
    expect((await me(user)).status).toBe(200)
    await tokens.verifyStepUp(mine, session)
    // The token's own session has ended, and the token is invalid in any other.
    await expect(tokens.verifyStepUp(theirs, session)).rejects.toMatchObject({ code: 'STEP_UP_INVALID' })
    expect(await eventsOf(user.id)).toContain('SessionRevoked')
  })

  test('a wrong old one is a try; what may not be set costs none', async () => {
    const user = await userWithPin()
    for (const newPin of ['1234', PIN, '12']) {
      const { status, body } = await change(user, PIN, newPin)
      expect([status, body.errors[0].field]).toEqual([422, 'newPin'])
    }
    expect((await change(user, WRONG, NEW)).body).toMatchObject({ code: 'INVALID_PIN', attemptsRemaining: 2 })
    expect((await change(user, WRONG, NEW)).body.attemptsRemaining).toBe(1)
    expect((await change(user, WRONG, NEW)).body.code).toBe('PIN_LOCKED')
    expect((await change(user, PIN, NEW)).body.code).toBe('PIN_LOCKED')
  })

  test('two changes at once through two gateways: one wins, and the other is told so', async () => {
    const user = await userWithPin()
    const answers = await Promise.all([
      change(user, PIN, NEW, gateways[0]),
      change(user, PIN, '930164', gateways[1]),
    ])
    expect(answers.filter(({ status }) => status === 200).length).toBe(1)
    expect([403, 503]).toContain(answers.find(({ status }) => status !== 200)!.status)
  })
})

describe('a reset by a mailed code', () => {
  const ask = (user: { accessToken: string }) =>
    gateway.ask('POST', '/v1/pin/reset-request', { token: user.accessToken })
  const reset = (user: { accessToken: string }, otp: string, newPin = NEW, through = gateway) =>
    through.ask('POST', '/v1/pin/reset', { token: user.accessToken, body: { otp, newPin } })
  const mailedCode = async (user: { id: string }) => (await gateway.mailedSecret(user.id)).code!
  const another = (code: string) => `${(Number(code[0]) + 1) % 10}${code.slice(1)}`

  test('ends the lock of the PIN; the code is good once, however many come with it', async () => {
    const user = await userWithPin()
    const other = await gateway.logIn(user)
    for (const _try of [1, 2, 3]) await verify(user, WRONG)
    const input = await ask(user)
    expect([input.status, Object.keys(input.body)]).toEqual([202, ['expiresAt']])
    const code = await mailedCode(user)
    expect(code).toMatch(/^[0-9]{6}$/)
    const answers = await Promise.all([0, 1, 0, 1].map(at => reset(user, code, NEW, gateways[at as 0 | 1])))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400])
    expect((await verify(user, PIN)).body.code).toBe('INVALID_PIN')
    expect((await verify(user, NEW)).status).toBe(200)
    expect((await me(other, gateways[1])).body.code).toBe('TOKEN_REVOKED')
    const names = await eventsOf(user.id)
    expect(names.filter(name => name === 'PinReset' || name === 'PinResetRequested')).toEqual([
      'PinResetRequested',
      'PinReset',
    ])
  })

  test('guessing: five tries, then the right one is worth nothing either; none is hashed', async () => {
    const user = await userWithPin()
    await ask(user)
    const code = await mailedCode(user)
    const before = await pinHashes()
    const answers = await Promise.all(Array.from({ length: 20 }, () => reset(user, another(code))))
    expect(answers.map(({ status, body }) => `${status} ${body.code}`)).toEqual(
      Array(20).fill('400 INVALID_OTP'),
    )
    expect((await reset(user, code)).body).toMatchObject({ code: 'INVALID_OTP', attemptsRemaining: 0 })
    expect(await pinHashes()).toBe(before)
    expect((await verify(user, PIN)).status).toBe(200)
    expect((await eventsOf(user.id)).filter(name => name === 'PinResetFailed').length).toBe(5)
  })

  test('a code is worth nothing after 15 minutes, after the next, or for another user', async () => {
    const user = await userWithPin()
    const other = await userWithPin()
    await ask(user)
    const first = await mailedCode(user)
    await ask(other)
    expect((await reset(other, first === (await mailedCode(other)) ? another(first) : first)).status).toBe(
      400,
    )
    await ask(user)
    const second = await mailedCode(user)
    if (first !== second) expect((await reset(user, first)).body.code).toBe('INVALID_OTP')
    await setClocks.expirePinReset(sql, user.id)
    expect((await reset(user, second)).body.code).toBe('INVALID_OTP')
    expect((await verify(user, PIN)).status).toBe(200)
  })

  test('a PIN that may not be set costs neither code nor try', async () => {
    const user = await userWithPin()
    await ask(user)
    const code = await mailedCode(user)
    for (let i = 0; i < 6; i++) expect((await reset(user, code, '1234')).status).toBe(422)
    expect((await reset(user, code)).status).toBe(200)
  })

  test('five codes a day, so that asking again is no way to guess on; none without a PIN', async () => {
    const user = await userWithPin()
    const answers = await Promise.all(Array.from({ length: 7 }, () => ask(user)))
    expect(answers.map(({ status }) => status).sort()).toEqual([202, 202, 202, 202, 202, 429, 429])
    const refused = answers.find(({ status }) => status === 429)!
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(86_000)
    await setClocks.endPinResetDay(sql, user.id)
    expect((await ask(user)).status).toBe(202)
  })
})

test('another pepper: a right PIN is hashed anew under it, a wrong one is not', async () => {
  const user = await userWithPin()
  const unused = await userWithPin()
  const later = { kid: 'pepper-2', key: randomBytes(32).toString('base64url') }
  const both = { keys: [later, JSON.parse(keys.read('pepper.json'))] }
  const open = async (name: string, pepper: object) => {
    const PIN_PEPPER_FILE = keys.file(name, pepper)
    const opened = await createTestGateway({
      sql,
      databaseUrl: database.url,
      redisUrl,
      keys,
      env: { PIN_PEPPER_FILE },
    })
    await vi.waitFor(() => opened.identity.check())
    return opened
  }
  const changed = await open('peppers.json', both)
  const pepperOf = async () => (await readKeyIds(sql, user.id)).pin
  expect((await verify(user, WRONG, changed)).body.attemptsRemaining).toBe(2)
  expect(await pepperOf()).toBe('pepper-1')
  expect((await verify(user, PIN, changed)).status).toBe(200)
  expect(await pepperOf()).toBe('pepper-2')
  // The earlier pepper may be removed once no PIN uses it; for a PIN that still does, the answer does not reveal it.
  const after = await open('pepper-later.json', later)
  expect((await verify(user, PIN, after)).status).toBe(200)
  const lost = await verify(unused, PIN, after)
  expect([lost.status, lost.body.code]).toEqual([500, 'INTERNAL_ERROR'])
  changed.stop()
  after.stop()
})

test('a flood of PIN checks is refused beyond a bound, and everything else goes on meanwhile', async () => {
  // Expensive enough to keep both cores busy for a second or two.
  const dear = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: { BCRYPT_COST: '9' },
  })
  await vi.waitFor(() => dear.identity.check())
  const bystander = await gateway.signedInUser()
  await dear.ask('POST', '/v1/pin', { token: bystander.accessToken, body: { pin: PIN } })
  const crowd = await Promise.all(
    (await insertCrowd(sql, 80, bystander.id)).map(userId =>
      dear.identity.tokens.signAccess({ userId, sessionId: randomUUID(), roles: ['user'] }),
    ),
  )
  const before = await pinHashes()
  let settled = false
  const flood = Promise.all(crowd.map(user => verify(user, WRONG, dear))).finally(() => {
    settled = true
  })
  const waits: number[] = []
  while (waits.length < 10) {
    const begun = performance.now()
    expect((await dear.ask('GET', '/v1/users/me', { token: bystander.accessToken })).status).toBe(200)
    waits.push(performance.now() - begun)
  }
  expect(settled, 'the others were answered while the flood was still being worked off').toBe(false)
  const statuses = (await flood).map(({ status, headers }) => `${status} ${headers.get('retry-after')}`)
  expect(new Set(statuses)).toEqual(new Set(['403 null', '503 1']))
  // One or two run at once and sixty wait; the rest is refused without hashing, and counts as no attempt.
  expect((await pinHashes()) - before).toBe(statuses.filter(status => status === '403 null').length)
  expect(statuses.filter(status => status === '503 1').length).toBeGreaterThanOrEqual(10)
  const refused = crowd[statuses.indexOf('503 1')]!
  expect((await verify(refused, WRONG)).body.attemptsRemaining).toBe(2)
  dear.stop()
}, 120_000)

test('what is written about a person is readable until their key is destroyed', async () => {
  const user = await gateway.signUp()
  const other = await gateway.signUp()
  const { personKeys } = gateway.identity
  const cipher = await personKeys.encryptFor(user.id, 'for the rent', 'note')
  expect(cipher.includes('rent')).toBe(false)
  expect(await personKeys.encryptFor(user.id, 'for the rent', 'note')).not.toEqual(cipher)
  expect(await personKeys.decryptFor(user.id, cipher, 'note')).toBe('for the rent')
  await expect(personKeys.decryptFor(user.id, cipher, 'metadata')).rejects.toThrow()
  await expect(personKeys.decryptFor(other.id, cipher, 'note')).rejects.toThrow()
  await destroyPersonKey(sql, user.id)
  const elsewhere = gateways[1].identity.personKeys
  expect(await elsewhere.decryptFor(user.id, cipher, 'note')).toBeNull()
  const theirs = await elsewhere.encryptFor(other.id, 'mine', 'note')
  expect(
    await elsewhere.decryptAll([
      { userId: user.id, cipher, purpose: 'note' },
      { userId: other.id, cipher: theirs, purpose: 'note' },
    ]),
  ).toEqual([null, 'mine'])
})
