import { randomBytes, randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  createGatewayDatabase,
  decodeOutbox,
  dumpTables,
  holdUser,
  readKeyIds,
  setClocks,
} from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let root: { accessToken: string }

const openGateway = async (env: Record<string, string> = {}) => {
  const opened = await createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
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

type User = Awaited<ReturnType<TestGateway['signedInUser']>> & { secret: string; recoveryCodes: string[] }

/** The TOTP code of a moment, as an authenticator computes it. */
const codeOf = (secret: string, steps = 0) =>
  new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 })
/** A code that is none of the three valid now. */
const wrongCode = (secret: string) =>
  ['000000', '111111', '222222', '333333'].find(
    code => ![-1, 0, 1].some(steps => codeOf(secret, steps) === code),
  )!

const post = (path: string, body: unknown, token?: string, through = gateway) =>
  through.ask('POST', `/v1/auth/2fa/${path}`, { body, ...(token === undefined ? {} : { token }) })
const logIn = (user: { email: string; password: string }, through = gateway) =>
  through.ask('POST', '/v1/auth/login', { body: { email: user.email, password: user.password } })
const challengeOf = async (user: { email: string; password: string }): Promise<string> =>
  (await logIn(user)).body.challengeToken

const userWithSecondFactor = async (): Promise<User> => {
  const user = await gateway.signedInUser()
  const { body: offer } = await post('enable', { password: user.password }, user.accessToken)
  const confirmed = await post('confirm', { code: codeOf(offer.secret) }, user.accessToken)
  expect([confirmed.status, confirmed.body.enabled]).toEqual([200, true])
  // As if the 30 seconds of the first code were over.
  await setClocks.forgetCodeStep(sql, user.id)
  return { ...user, secret: offer.secret, recoveryCodes: confirmed.body.recoveryCodes }
}

const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key, topic }) => key === userId && topic === 'identity.events')
    .map(({ type }) => type.split('.').at(-1)!)
const mailsTo = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
    record.key === userId && record.type === 'pennywire.notifier.MailRequested'
      ? [record.value.template]
      : [],
  )
const countOf = async (userId: string, name: string) =>
  (await eventsOf(userId)).filter(event => event === name).length

describe('turning it on', () => {
  test('the whole way: offered, confirmed, asked for at sign-in, turned off', async () => {
    const user = await gateway.signedInUser()
    const state = () => gateway.ask('GET', '/v1/auth/2fa', { token: user.accessToken })
    const off = { enabled: false, enabledAt: null, recoveryCodesLeft: 0, lockedUntil: null }
    expect((await state()).body).toEqual(off)

    const offer = await post('enable', { password: user.password }, user.accessToken)
    expect(offer.status).toBe(200)
    expect(offer.body.otpauthUrl).toContain(`secret=${offer.body.secret}`)
    expect(Date.parse(offer.body.expiresAt)).toBeGreaterThan(Date.now() + 590_000)
    // Not active yet.
    expect((await state()).body).toEqual(off)
    expect((await logIn(user)).body.accessToken).toBeTypeOf('string')

    const { secret } = offer.body
    const wrong = await post('confirm', { code: wrongCode(secret) }, user.accessToken)
    expect([wrong.status, wrong.body.code]).toEqual([403, '2FA_INVALID'])
    const code = codeOf(secret)
    const confirmed = await post(
      'confirm',
      { code: `${code.slice(0, 3)} ${code.slice(3)}` },
      user.accessToken,
    )
    expect([confirmed.status, confirmed.body.recoveryCodes.length]).toEqual([200, 10])
    expect((await state()).body).toMatchObject({ enabled: true, recoveryCodesLeft: 10, lockedUntil: null })

    const first = await logIn(user)
    expect([first.status, first.body]).toEqual([
      200,
      { secondFactorRequired: true, challengeToken: expect.any(String), expiresIn: 300 },
    ])
    // The code that turned the second factor on is spent as well.
    const { challengeToken } = first.body
    expect((await post('verify', { challengeToken, code })).body.code).toBe('2FA_INVALID')
    const second = await post('verify', { challengeToken, code: codeOf(secret, 1) })
    expect([second.status, second.body.user.id]).toEqual([200, user.id])
    const me = await gateway.ask('GET', '/v1/users/me', { token: second.body.accessToken })
    expect(me.status).toBe(200)

    await setClocks.forgetCodeStep(sql, user.id)
    const body = { password: user.password, code: codeOf(secret) }
    expect((await post('disable', { ...body, password: 'Wrong-Horse-7' }, user.accessToken)).body.code).toBe(
      'PASSWORD_MISMATCH',
    )
    expect((await post('disable', body, user.accessToken)).body).toEqual({ enabled: false })
    expect((await state()).body).toEqual(off)
    expect((await logIn(user)).body.accessToken).toBeTypeOf('string')
    expect((await post('disable', body, user.accessToken)).body.code).toBe('2FA_NOT_ENABLED')
    const names = (await eventsOf(user.id)).filter(name => name.startsWith('SecondFactor'))
    expect(names).toEqual(['SecondFactorEnabled', 'SecondFactorFailed', 'SecondFactorDisabled'])
  })

  test('an open session alone turns nothing on or off: the password is asked for', async () => {
    const user = await gateway.signedInUser()
    const wrong = await post('enable', { password: 'Wrong-Horse-7' }, user.accessToken)
    expect([wrong.status, wrong.body.code]).toEqual([400, 'PASSWORD_MISMATCH'])
    expect((await post('enable', {}, user.accessToken)).status).toBe(422)
    expect((await post('enable', { password: user.password })).status).toBe(401)
  })

  test('an offer is good for 10 minutes and until the next; what is on is not offered again', async () => {
    const user = await gateway.signedInUser()
    const confirm = (secret: string) => post('confirm', { code: codeOf(secret) }, user.accessToken)
    const offer = async () => (await post('enable', { password: user.password }, user.accessToken)).body
    expect((await post('confirm', { code: '123456' }, user.accessToken)).body.code).toBe('2FA_NOT_ENABLED')
    const first = await offer()
    await setClocks.expireSecondFactorOffer(sql, user.id)
    expect((await confirm(first.secret)).body.code).toBe('2FA_NOT_ENABLED')
    const second = await offer()
    expect((await confirm(first.secret)).body.code).toBe('2FA_INVALID')
    const answers = await Promise.all([1, 2, 3].map(() => confirm(second.secret)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400])
    expect(await offer()).toMatchObject({ code: '2FA_ALREADY_ENABLED', status: 400 })
    expect((await confirm(second.secret)).body.code).toBe('2FA_ALREADY_ENABLED')
    expect(await countOf(user.id, 'SecondFactorEnabled')).toBe(1)
  })
})

describe('other sessions end with every change of it', () => {
  const me = (token: string) => gateway.ask('GET', '/v1/users/me', { token })
  const endedFor = async (userId: string) =>
    (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
      record.key === userId && record.type === 'pennywire.identity.SessionRevoked'
        ? [record.value.reason]
        : [],
    )

  test('on, other codes, off: a session there was let in by the rule before', async () => {
    const user = await gateway.signedInUser()
    let other = await gateway.logIn(user)
    const expectEnded = async () => {
      const answer = await me(other.accessToken)
      expect([answer.status, answer.body.code]).toEqual([401, 'TOKEN_REVOKED'])
      const { refreshToken } = other
      const refreshed = await gateway.ask('POST', '/v1/auth/refresh', { body: { refreshToken } })
      expect(refreshed.body.code).toBe('REFRESH_TOKEN_INVALID')
      expect((await me(user.accessToken)).status).toBe(200)
    }
    const { body: offer } = await post('enable', { password: user.password }, user.accessToken)
    expect((await me(other.accessToken)).status).toBe(200)
    const { body: confirmed } = await post('confirm', { code: codeOf(offer.secret) }, user.accessToken)
    await expectEnded()

    const [first, second, third, fourth] = confirmed.recoveryCodes
    const signIn = async (recoveryCode: string) =>
      (await post('verify', { challengeToken: await challengeOf(user), recoveryCode })).body
    other = await signIn(first)
    const halfDone = await challengeOf(user)
    const wrong = { password: user.password, recoveryCode: first }
    expect((await post('recovery-codes', wrong, user.accessToken)).body.code).toBe('2FA_INVALID')
    expect((await me(other.accessToken)).status).toBe(200)
    const replaced = await post('recovery-codes', { ...wrong, recoveryCode: second }, user.accessToken)
    await expectEnded()
    const [one, two] = replaced.body.recoveryCodes
    // A half-finished sign-in from before the replacement is invalid.
    const late = await post('verify', { challengeToken: halfDone, recoveryCode: one })
    expect([late.status, late.body.code]).toEqual([401, 'CHALLENGE_INVALID'])
    for (const gone of [third, fourth]) expect((await signIn(gone)).code).toBe('2FA_INVALID')

    other = await signIn(one)
    const off = { password: user.password, recoveryCode: two }
    expect((await post('disable', off, user.accessToken)).status).toBe(200)
    await expectEnded()
    expect(await endedFor(user.id)).toEqual(Array(3).fill('second_factor_changed'))
    expect((await me(user.accessToken)).body.secondFactorEnabled).toBe(false)
  })

  const openSessions = async (token: string) =>
    (await gateway.ask('GET', '/v1/sessions', { token })).body.items.length

  test('a sign-in by the password alone that began before it was on starts no session after it', async () => {
    const user = await gateway.signedInUser()
    const { body: offer } = await post('enable', { password: user.password }, user.accessToken)
    const { waiting, release } = await holdUser(sql, user.id)
    const confirmed = post('confirm', { code: codeOf(offer.secret) }, user.accessToken)
    await vi.waitFor(async () => expect(await waiting()).toBe(1))
    // The sign-in reads the account while the second factor is still off.
    const signIn = logIn(user)
    await vi.waitFor(async () => expect(await waiting()).toBe(2))
    await release()
    expect((await confirmed).status).toBe(200)
    expect([(await signIn).status, (await signIn).body.code]).toEqual([503, 'SERVICE_UNAVAILABLE'])
    expect(await openSessions(user.accessToken)).toBe(1)
    expect((await logIn(user)).body.secondFactorRequired).toBe(true)
  })

  test('of a recovery code that is spent while the codes are replaced comes no session', async () => {
    const user = await userWithSecondFactor()
    const [mine, stolen] = user.recoveryCodes
    const challengeToken = await challengeOf(user)
    const { waiting, release } = await holdUser(sql, user.id)
    const replaced = post('recovery-codes', { password: user.password, recoveryCode: mine }, user.accessToken)
    await vi.waitFor(async () => expect(await waiting()).toBe(1))
    const signIn = post('verify', { challengeToken, recoveryCode: stolen })
    await vi.waitFor(async () => expect(await waiting()).toBe(2))
    await release()
    expect((await replaced).status).toBe(200)
    expect([(await signIn).status, (await signIn).body.code]).toEqual([401, 'CHALLENGE_INVALID'])
    expect(await openSessions(user.accessToken)).toBe(1)
  })
})

describe('staff remove it for who lost device and recovery codes', () => {
  const remove = (id: string, token: string, body: unknown = { reason: 'Seen in person, case 4711' }) =>
    gateway.ask('DELETE', `/v1/admin/users/${id}/second-factor`, { token, body })
  const staffOf = async (role: string) => {
    const person = await gateway.signedInUser()
    const path = `/v1/admin/users/${person.id}/role`
    expect((await gateway.ask('PATCH', path, { token: root.accessToken, body: { role } })).status).toBe(200)
    return gateway.withSecondFactor({ ...person, ...(await gateway.logIn(person)) })
  }

  test('with a reason that only ciphertext tells of; all sessions end, and the password is enough', async () => {
    const user = await userWithSecondFactor()
    const admin = await staffOf('admin')
    const shown = () => gateway.ask('GET', `/v1/admin/users/${user.id}`, { token: admin.accessToken })
    const halfDone = await challengeOf(user)
    expect((await shown()).body.secondFactorEnabled).toBe(true)
    expect((await remove(user.id, admin.accessToken, {})).status).toBe(422)
    const removed = await remove(user.id, admin.accessToken)
    expect([removed.status, removed.body.secondFactorEnabled]).toEqual([200, false])
    const old = await gateway.ask('GET', '/v1/users/me', { token: user.accessToken })
    expect([old.status, old.body.code]).toEqual([401, 'TOKEN_REVOKED'])
    const late = await post('verify', { challengeToken: halfDone, recoveryCode: user.recoveryCodes[0] })
    expect(late.body.code).toBe('CHALLENGE_INVALID')
    expect((await logIn(user)).body.accessToken).toBeTypeOf('string')
    expect((await remove(user.id, admin.accessToken)).body.code).toBe('2FA_NOT_ENABLED')

    const records = (await decodeOutbox(sql, gateway.codec)).filter(({ key }) => key === user.id)
    const event = records.find(({ type }) => type === 'pennywire.identity.SecondFactorDisabled')!
    if (event.type !== 'pennywire.identity.SecondFactorDisabled') throw new Error('no event')
    expect(event.value.byUserId).toBe(admin.id)
    const reason = await gateway.identity.personKeys.decryptFor(
      user.id,
      event.value.reason!,
      'second-factor-removed-reason',
    )
    expect(reason).toBe('Seen in person, case 4711')
    const ended = records.find(({ type }) => type === 'pennywire.identity.SessionRevoked')!
    expect(ended.value).toMatchObject({ reason: 'second_factor_removed', byUserId: admin.id })
    expect(await mailsTo(user.id)).toContain('second_factor_removed')
    expect(await dumpTables(sql)).not.toContain('Seen in person')
  })

  test('never their own, nor of who is not below them', async () => {
    const admin = await staffOf('admin')
    const other = await staffOf('admin')
    const moderator = await staffOf('moderator')
    const user = await userWithSecondFactor()
    for (const [id, by] of [
      [admin.id, admin],
      [other.id, admin],
      [user.id, moderator],
      [user.id, user],
    ] as const) {
      const answer = await remove(id, by.accessToken)
      expect([answer.status, answer.body.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
    }
    expect((await remove(randomUUID(), admin.accessToken)).body.code).toBe('USER_NOT_FOUND')
    expect((await logIn(user)).body.secondFactorRequired).toBe(true)
  })
})

describe('the second step of a sign-in', () => {
  test('a code is good once, by anybody and among many at once', async () => {
    const user = await userWithSecondFactor()
    const code = codeOf(user.secret)
    const challenges = await Promise.all([1, 2, 3, 4].map(() => challengeOf(user)))
    const answers = await Promise.all(
      challenges.map(challengeToken => post('verify', { challengeToken, code })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 403, 403, 403])
    // A code of an earlier step is refused afterwards.
    const earlier = await post('verify', {
      challengeToken: await challengeOf(user),
      code: codeOf(user.secret, -1),
    })
    expect(earlier.body.code).toBe('2FA_INVALID')
  })

  test('a challenge is good once, for five minutes, and not after the password changed', async () => {
    const user = await userWithSecondFactor()
    const verify = (challengeToken: string, steps = 0) =>
      post('verify', { challengeToken, code: codeOf(user.secret, steps) })
    const refused = (answer: { status: number; body: { code: string } }) => [answer.status, answer.body.code]
    const invalid = [401, 'CHALLENGE_INVALID']
    expect(refused(await verify('not-one'))).toEqual(invalid)
    const expired = await challengeOf(user)
    await setClocks.expireChallenges(sql, user.id)
    expect(refused(await verify(expired))).toEqual(invalid)
    const one = await challengeOf(user)
    const used = await challengeOf(user)
    expect((await verify(used)).status).toBe(200)
    expect(refused(await verify(used, 1))).toEqual(invalid)
    const changed = await gateway.ask('POST', '/v1/auth/change-password', {
      token: user.accessToken,
      body: { currentPassword: user.password, newPassword: 'Another-Horse-8' },
    })
    expect(changed.status).toBe(200)
    expect(refused(await verify(one, 1))).toEqual(invalid)
  })

  test('a disabled account stays out, with the right code as well', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    await setClocks.disableUser(sql, user.id)
    const answer = await post('verify', { challengeToken, code: codeOf(user.secret) })
    expect([answer.status, answer.body.code]).toEqual([403, 'ACCOUNT_DISABLED'])
  })

  test('nor does one that is disabled while the code is looked at', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    const { waiting, release } = await holdUser(sql, user.id)
    const disabled = gateway.ask('POST', `/v1/admin/users/${user.id}/deactivate`, {
      token: root.accessToken,
      body: { reason: 'a test' },
    })
    await vi.waitFor(async () => expect(await waiting()).toBe(1))
    const late = post('verify', { challengeToken, code: codeOf(user.secret) })
    await vi.waitFor(async () => expect(await waiting()).toBe(2))
    await release()
    expect((await disabled).status).toBe(200)
    expect([(await late).status, (await late).body.code]).toEqual([401, 'CHALLENGE_INVALID'])
  })

  test('is in the history of sign-ins and told by an event, as is one that failed', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    await post('verify', { challengeToken, code: wrongCode(user.secret) })
    await vi.waitFor(async () => expect(await countOf(user.id, 'LoginFailed')).toBe(1))
    const { body } = await post('verify', { challengeToken, code: codeOf(user.secret) })
    const history = await gateway.ask('GET', '/v1/users/me/logins', { token: body.accessToken })
    const told = history.body.items.map((login: Record<string, unknown>) => [login.method, login.failure])
    expect(told).toEqual([
      ['second_factor', null],
      ['second_factor', 'wrong_second_factor'],
      ['password', null],
    ])
    const started = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
      record.key === user.id && record.type === 'pennywire.identity.SessionStarted' ? [record.value] : [],
    )
    expect(started.map(({ method }) => method)).toEqual(['password', 'second_factor'])
    expect(started[1]!.sessionId).toBe(history.body.items[0].sessionId)
  })

  test('the refresh token goes into the cookie where that is asked for', async () => {
    const user = await userWithSecondFactor()
    const body = { challengeToken: await challengeOf(user), code: codeOf(user.secret), cookie: true }
    const { status, body: answer, headers } = await post('verify', body)
    expect([status, answer.refreshToken]).toEqual([200, undefined])
    expect(headers.get('set-cookie')).toContain('HttpOnly')
  })

  test('a challenge is no token, and no token is a challenge', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    const me = await gateway.ask('GET', '/v1/users/me', { token: challengeToken })
    expect([me.status, me.body.code]).toEqual([401, 'TOKEN_INVALID'])
    const tokens: Array<[string, string]> = [
      [user.refreshToken, 'CHALLENGE_INVALID'],
      [user.accessToken.slice(-200), 'CHALLENGE_INVALID'],
      [user.accessToken, 'VALIDATION_ERROR'],
    ]
    for (const [token, code] of tokens) {
      const answer = await post('verify', { challengeToken: token, code: codeOf(user.secret) })
      expect(answer.body.code).toBe(code)
    }
    const refreshed = await gateway.ask('POST', '/v1/auth/refresh', {
      body: { refreshToken: challengeToken },
    })
    expect(refreshed.body.code).toBe('REFRESH_TOKEN_INVALID')
    for (const proof of [{}, { code: '123456', recoveryCode: 'x' }, { code: '12345' }, { code: 123456 }]) {
      expect((await post('verify', { challengeToken, ...proof })).status).toBe(422)
    }
  })
})

describe('guessing', () => {
  test('five wrong ones lock codes at once, longer each time; a recovery code still signs in', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    const wrong = wrongCode(user.secret)
    const guess = () => post('verify', { challengeToken, code: wrong })
    for (const attemptsRemaining of [4, 3, 2, 1]) {
      expect((await guess()).body).toMatchObject({ code: '2FA_INVALID', status: 403, attemptsRemaining })
    }
    const minutesOf = (answer: { body: { lockedUntil: string } }) =>
      Math.round((Date.parse(answer.body.lockedUntil) - Date.now()) / 60_000)
    const locked = await guess()
    expect([locked.status, locked.body.code, minutesOf(locked)]).toEqual([423, '2FA_LOCKED', 15])
    const right = await post('verify', { challengeToken, code: codeOf(user.secret) })
    expect(right.body.code).toBe('2FA_LOCKED')
    // An attacker with the password does not lock the owner out.
    const [recoveryCode] = user.recoveryCodes
    expect((await post('verify', { challengeToken, recoveryCode })).status).toBe(200)

    await setClocks.endCodeLock(sql, user.id)
    const again = await challengeOf(user)
    for (let i = 0; i < 4; i++) await post('verify', { challengeToken: again, code: wrong })
    expect(minutesOf(await post('verify', { challengeToken: again, code: wrong }))).toBe(30)
    await setClocks.endCodeLock(sql, user.id)
    expect((await post('verify', { challengeToken: again, code: codeOf(user.secret) })).status).toBe(200)
    expect(await countOf(user.id, 'SecondFactorLocked')).toBe(2)
    expect((await mailsTo(user.id)).filter(name => name === 'second_factor_locked')).toHaveLength(2)
    // The owner reads the attempts in the history of sign-ins.
    await vi.waitFor(async () => expect(await countOf(user.id, 'LoginFailed')).toBe(11))
  })

  test('a hundred at once are five tries', async () => {
    const user = await userWithSecondFactor()
    const challengeToken = await challengeOf(user)
    const wrong = wrongCode(user.secret)
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => post('verify', { challengeToken, code: wrong })),
    )
    const codes = answers.map(({ body }) => body.code)
    expect(codes.filter(code => code === '2FA_INVALID').length).toBeLessThanOrEqual(4)
    expect(codes.filter(code => code === '2FA_LOCKED').length).toBeGreaterThanOrEqual(96)
    expect(await countOf(user.id, 'SecondFactorFailed')).toBe(5)
    expect(await countOf(user.id, 'SecondFactorLocked')).toBe(1)
  })

  test('a right one resets the count', async () => {
    const user = await userWithSecondFactor()
    for (let round = 0; round < 2; round++) {
      const challengeToken = await challengeOf(user)
      const wrong = await post('verify', { challengeToken, code: wrongCode(user.secret) })
      expect(wrong.body.attemptsRemaining).toBe(4)
      expect((await post('verify', { challengeToken, code: codeOf(user.secret, round) })).status).toBe(200)
    }
  })
})

describe('recovery codes', () => {
  test('each is good once, however it is typed, and for nobody else', async () => {
    const user = await userWithSecondFactor()
    const other = await userWithSecondFactor()
    const [first, second] = user.recoveryCodes as [string, string]
    const verify = async (recoveryCode: string, who = user) =>
      post('verify', { challengeToken: await challengeOf(who), recoveryCode })
    expect((await verify(first, other)).body.code).toBe('2FA_INVALID')
    const challenges = await Promise.all([1, 2, 3].map(() => challengeOf(user)))
    const answers = await Promise.all(
      challenges.map(challengeToken => post('verify', { challengeToken, recoveryCode: first })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 403, 403])
    expect((await verify(second.toLowerCase().replaceAll('-', ' '))).status).toBe(200)
    const { body } = await gateway.ask('GET', '/v1/auth/2fa', { token: user.accessToken })
    expect(body.recoveryCodesLeft).toBe(8)
    expect(await countOf(user.id, 'RecoveryCodeUsed')).toBe(2)
  })

  test('new ones make the old ones worthless; the last way in is not lost by a failure', async () => {
    const user = await userWithSecondFactor()
    const [first, second] = user.recoveryCodes as [string, string]
    const body = { password: user.password, recoveryCode: first }
    const replaced = await post('recovery-codes', body, user.accessToken)
    expect([replaced.status, replaced.body.recoveryCodes.length]).toEqual([200, 10])
    const challengeToken = await challengeOf(user)
    expect((await post('verify', { challengeToken, recoveryCode: second })).body.code).toBe('2FA_INVALID')
    const [fresh] = replaced.body.recoveryCodes
    // An invalid challenge spends no recovery code.
    expect((await post('verify', { challengeToken: 'spent', recoveryCode: fresh })).body.code).toBe(
      'CHALLENGE_INVALID',
    )
    expect((await post('verify', { challengeToken, recoveryCode: fresh })).status).toBe(200)
    const off = { password: user.password, recoveryCode: replaced.body.recoveryCodes[1] }
    expect((await post('disable', off, user.accessToken)).status).toBe(200)
  })
})

test('another key: what the earlier one made is read, and made anew with the next right code', async () => {
  const user = await userWithSecondFactor()
  const earlier = (name: string) => JSON.parse(keys.read(name))
  const later = { kid: 'later', key: randomBytes(32).toString('base64url') }
  const other = await openGateway({
    SECOND_FACTOR_KEY_FILE: keys.file('second-factor-2.json', {
      keys: [later, earlier('second-factor.json')],
    }),
    PIN_PEPPER_FILE: keys.file('pepper-2.json', { keys: [later, earlier('pepper.json')] }),
  })
  const [recoveryCode] = user.recoveryCodes
  const byCode = { challengeToken: await challengeOf(user), code: codeOf(user.secret) }
  const byRecoveryCode = { challengeToken: await challengeOf(user), recoveryCode }
  expect((await readKeyIds(sql, user.id)).secondFactor).toBe('second-factor-1')
  expect((await post('verify', byCode, undefined, other)).status).toBe(200)
  expect((await post('verify', byRecoveryCode, undefined, other)).status).toBe(200)
  expect((await readKeyIds(sql, user.id)).secondFactor).toBe('later')
  // A gateway without the key does not reveal that in its answer.
  const answer = await post('verify', {
    challengeToken: await challengeOf(user),
    code: codeOf(user.secret, 1),
  })
  expect([answer.status, answer.body.code]).toEqual([500, 'INTERNAL_ERROR'])
  other.stop()
})

test('secrets are in no log line, table, record or error', async () => {
  const user = await userWithSecondFactor()
  const code = codeOf(user.secret)
  const challengeToken = await challengeOf(user)
  const [recoveryCode, unused] = user.recoveryCodes as [string, string]
  const errors = [
    await post('verify', { challengeToken, code: wrongCode(user.secret) }),
    await post('verify', { challengeToken, code, colour: user.secret }),
    await post('verify', { challengeToken: `${challengeToken}x`, recoveryCode }),
    await post('disable', { password: `${user.password}x`, code }, user.accessToken),
  ]
  expect((await post('verify', { challengeToken, recoveryCode })).status).toBe(200)
  const raw = Buffer.from(Secret.fromBase32(user.secret).bytes)
  const haystack = [
    ...gateway.logLines,
    await dumpTables(sql),
    ...(await decodeOutbox(sql, gateway.codec)).map(record => JSON.stringify(record)),
    ...errors.map(({ text }) => text),
  ].join('\n')
  const plain = [recoveryCode, unused].flatMap(text => [text, text.replaceAll('-', '')])
  const secrets = [user.secret, raw.toString('hex'), raw.toString('base64'), challengeToken, ...plain]
  for (const secret of secrets) expect(haystack.includes(secret), secret).toBe(false)
  expect(new RegExp(`(?<![0-9A-Za-z])${code}(?![0-9A-Za-z])`).test(haystack)).toBe(false)
})
