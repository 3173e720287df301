import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { compactDecrypt } from 'jose'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import {
  countKept,
  createGatewayDatabase,
  decodeOutbox,
  dumpTables,
  holdUser,
  lockUsersTable,
  setClocks,
} from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PASSWORD = 'Correct-Horse-7'
const NEXT = 'Battery-Staple-8'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let owner: Database
let keys: TestKeys
let gateway: TestGateway
let other: TestGateway
let root: SignedIn

type SignedIn = Awaited<ReturnType<TestGateway['signedInUser']>>

const openGateway = (env: Record<string, string> = {}) =>
  createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: { BOOTSTRAP_ADMIN_EMAIL: 'root@example.com', ...env },
  })

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  owner = openDatabase(database.urlAs(), { applicationName: 'test', maxConnections: 2 })
  keys = await createTestKeys()
  gateway = await openGateway()
  other = await openGateway({ PURGE_SECONDS: '0.1' })
  await vi.waitFor(() => Promise.all([gateway.identity.check(), other.identity.check()]))
  root = await gateway.signedInStaff({ email: 'root@example.com' })
})

afterAll(async () => {
  gateway.stop()
  other.stop()
  keys.remove()
  await sql.end()
  await owner.end()
  await database.drop()
})

const post = (path: string, body?: object, token?: string, through = gateway) =>
  through.ask('POST', path, { ...(body ? { body } : {}), ...(token ? { token } : {}) })
const me = (token: string, through = gateway) => through.ask('GET', '/v1/users/me', { token })
const codeOf = ({ status, body }: { status: number; body: { code?: string } }) => [status, body?.code]
const logIn = (email: string, password: string) => post('/v1/auth/login', { email, password })
const recordsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec)).filter(({ key }) => key === userId)
const eventOf = async (userId: string, name: string) =>
  (await recordsOf(userId)).findLast(({ type }) => type === `pennywire.identity.${name}`)?.value
const templatesOf = async (userId: string) =>
  (await recordsOf(userId)).flatMap(record =>
    record.type === 'pennywire.notifier.MailRequested' ? [record.value.template] : [],
  )
/** The token of each mail for a new password, oldest first, once there are `many`. */
const resetTokens = (userId: string, many = 1): Promise<string[]> =>
  vi.waitFor(async () => {
    const mails = (await recordsOf(userId)).flatMap(record =>
      record.type === 'pennywire.notifier.MailRequested' && record.value.template === 'reset_password'
        ? [record.value]
        : [],
    )
    expect(mails).toHaveLength(many)
    return Promise.all(
      mails.map(async ({ secret }) => {
        const { plaintext } = await compactDecrypt(secret, keys.notifierKey)
        const { token, url } = JSON.parse(Buffer.from(plaintext).toString()) as { token: string; url: string }
        expect(url).toBe('http://pennywire.test/v1/auth/reset-password')
        return token
      }),
    )
  })
const withRole = async (role: string) => {
  const user = await gateway.signedInUser()
  const given = await gateway.ask('PATCH', `/v1/admin/users/${user.id}/role`, {
    token: root.accessToken,
    body: { role },
  })
  expect([given.status, given.body.role]).toEqual([200, role])
  return gateway.withSecondFactor({ ...user, ...(await gateway.logIn(user)) })
}

describe('a sign-up that nobody has verified', () => {
  const signUpAs = (email: string, password: string, fullName = 'Olga Owner') =>
    post('/v1/auth/signup', { email, password, fullName })

  test('keeps its address for 24 hours', async () => {
    const first = await gateway.signUp()
    expect(codeOf(await signUpAs(first.email, NEXT))).toEqual([409, 'EMAIL_ALREADY_REGISTERED'])
    const token = await gateway.mailedToken(first.id)
    expect((await post('/v1/auth/verify-email', { token })).body.fullName).toBe('Alice Smith')
    expect((await logIn(first.email, PASSWORD)).status).toBe(200)
  })

  test('then goes to the next one, and nothing of before is good: nobody is locked out of their address', async () => {
    const attacker = await gateway.signUp({ fullName: 'Mallory Mean' })
    const { id, email } = attacker
    const before = await gateway.mailedToken(id)
    await setClocks.ageSignup(sql, id)
    const taken = await signUpAs(email, NEXT)
    expect([taken.status, taken.body]).toEqual([
      201,
      { id, email, fullName: 'Olga Owner', emailVerified: false },
    ])
    expect(codeOf(await post('/v1/auth/verify-email', { token: before }))).toEqual([
      ...[400, 'INVALID_VERIFICATION_TOKEN'],
    ])
    expect(codeOf(await logIn(email, PASSWORD))).toEqual([401, 'INVALID_CREDENTIALS'])
    // The 24 hours start again.
    expect(codeOf(await signUpAs(email, PASSWORD))).toEqual([409, 'EMAIL_ALREADY_REGISTERED'])

    const token = await gateway.mailedToken(id)
    expect((await post('/v1/auth/verify-email', { token })).status).toBe(200)
    expect(codeOf(await logIn(email, PASSWORD))).toEqual([401, 'INVALID_CREDENTIALS'])
    expect((await logIn(email, NEXT)).status).toBe(200)
    expect(await eventOf(id, 'SignupReplaced')).toMatchObject({ userId: id, how: 'signup' })
    expect(await templatesOf(id)).toEqual(['verify_email', 'verify_email'])
  })

  test('of two who come at once one gets it', async () => {
    const { id, email } = await gateway.signUp()
    await setClocks.ageSignup(sql, id)
    const answers = await Promise.all([signUpAs(email, NEXT), signUpAs(email, PASSWORD)])
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 409])
  })

  test('while it is being verified: either that or the next sign-up, and never a password of one with the link of the other', async () => {
    for (let round = 0; round < 5; round++) {
      const { id, email } = await gateway.signUp()
      const token = await gateway.mailedToken(id)
      await setClocks.ageSignup(sql, id)
      const [verified, taken] = await Promise.all([
        post('/v1/auth/verify-email', { token }),
        signUpAs(email, NEXT),
      ])
      const [first, second] = await Promise.all([logIn(email, PASSWORD), logIn(email, NEXT)])
      expect([
        [200, 409, 200, 401],
        [400, 201, 401, 403],
      ]).toContainEqual([verified.status, taken.status, first.status, second.status])
    }
  })

  test('one that was verified, or disabled, stays with its owner however old it is', async () => {
    const verified = await gateway.signedInUser()
    const disabled = await gateway.signUp()
    await setClocks.disableUser(sql, disabled.id)
    for (const { id, email } of [verified, disabled]) {
      await setClocks.ageSignup(sql, id)
      expect(codeOf(await signUpAs(email, NEXT))).toEqual([409, 'EMAIL_ALREADY_REGISTERED'])
    }
    expect((await logIn(verified.email, PASSWORD)).status).toBe(200)
  })
})

describe('who verifies an address shows that they made the account', () => {
  const ELSEWHERE = '198.51.100.7'
  const OWN = 'Quiet-lantern-83-oats'
  const verify = (body: object, address = ELSEWHERE) =>
    gateway.ask('POST', '/v1/auth/verify-email', { body, address })
  /** A stranger has signed up with an address that is not theirs; its owner has the mail. */
  const byStranger = async () => {
    const stranger = await gateway.signUp({ fullName: 'Mallory Mean' })
    return { ...stranger, token: await gateway.mailedToken(stranger.id) }
  }

  test('the mail tells when and from which network somebody signed up, and nothing that they wrote', async () => {
    const { id } = await byStranger()
    const { token, url, ...told } = await gateway.mailedSecret(id)
    expect([typeof token, url]).toEqual(['string', 'http://pennywire.test/v1/auth/verify-email'])
    expect(told).toEqual({ signedUpAt: expect.stringMatching(/^\d{4}-/), network: '192.0.2.0/24' })
  })

  test('the token alone, from another network: refused, not spent, and the password of the sign-up opens nothing', async () => {
    const { email, token } = await byStranger()
    const refused = await verify({ token })
    expect([refused.status, refused.body.code]).toEqual([403, 'VERIFICATION_PROOF_REQUIRED'])
    expect(refused.body.detail).toMatch(/^password: /)
    expect(codeOf(await logIn(email, PASSWORD))).toEqual([403, 'EMAIL_NOT_VERIFIED'])
    expect((await verify({ token, password: PASSWORD })).status).toBe(200)
    expect((await logIn(email, PASSWORD)).status).toBe(200)
  })

  test('a password of their own: the one of the sign-up is worthless, and so are the name and other links', async () => {
    const { id, email, token } = await byStranger()
    await post('/v1/auth/resend-verification', { email })
    await vi.waitFor(async () => expect(await templatesOf(id)).toEqual(['verify_email', 'verify_email']))
    const later = await gateway.mailedToken(id)
    const verified = await verify({ token, newPassword: OWN, fullName: 'Olga Owner' })
    expect(verified.body).toMatchObject({ email, fullName: 'Olga Owner', emailVerified: true })
    expect(codeOf(await logIn(email, PASSWORD))).toEqual([401, 'INVALID_CREDENTIALS'])
    expect((await logIn(email, OWN)).status).toBe(200)
    expect(await eventOf(id, 'SignupReplaced')).toMatchObject({ userId: id, how: 'mail' })
    expect(codeOf(await verify({ token: later, newPassword: PASSWORD }))).toEqual([
      ...[400, 'INVALID_VERIFICATION_TOKEN'],
    ])
  })

  test('a link that is left when the account is verified sets no password', async () => {
    const { id, email, token } = await byStranger()
    await post('/v1/auth/resend-verification', { email })
    await vi.waitFor(async () => expect(await templatesOf(id)).toHaveLength(2))
    const later = await gateway.mailedToken(id)
    expect((await verify({ token, password: PASSWORD })).status).toBe(200)
    expect(codeOf(await verify({ token: later, newPassword: OWN }))).toEqual([
      ...[400, 'INVALID_VERIFICATION_TOKEN'],
    ])
    expect((await logIn(email, PASSWORD)).status).toBe(200)
  })

  test('what is refused does not spend the token', async () => {
    const { token } = await byStranger()
    expect(codeOf(await verify({ token, password: 'Wrong-horse-9' }))).toEqual([400, 'PASSWORD_MISMATCH'])
    for (const [body, field] of [
      [{ newPassword: 'Summer2024!' }, 'newPassword'],
      [{ newPassword: OWN, password: PASSWORD }, 'newPassword'],
      [{ password: PASSWORD, fullName: 'Olga Owner' }, 'fullName'],
      [{ newPassword: OWN, fullName: 'www.evil.example' }, 'fullName'],
    ] as const) {
      const { status, body: problem } = await verify({ token, ...body })
      expect([status, problem.errors[0].field]).toEqual([422, field])
    }
    expect((await verify({ token, password: PASSWORD, newPassword: null, fullName: null })).status).toBe(200)
  })

  test('who forgot the password before verifying gets the link that takes a new one', async () => {
    const { id, email } = await byStranger()
    await post('/v1/auth/forgot-password', { email })
    await vi.waitFor(async () => expect(await templatesOf(id)).toEqual(['verify_email', 'verify_email']))
    expect((await verify({ token: await gateway.mailedToken(id), newPassword: OWN })).status).toBe(200)
    expect((await logIn(email, OWN)).status).toBe(200)
  })

  test('a sign-up of the version before has no network: it needs the password', async () => {
    const { id, token } = await byStranger()
    await setClocks.forgetSignupNetwork(sql, id)
    expect(codeOf(await verify({ token }, '192.0.2.1'))).toEqual([403, 'VERIFICATION_PROOF_REQUIRED'])
    expect((await verify({ token, password: PASSWORD }, '192.0.2.1')).status).toBe(200)
  })
})

test('a password whose hash is made anew, at another cost, signs in all the same, many at once', async () => {
  const user = await gateway.signedInUser()
  const dearer = await openGateway({ BCRYPT_COST: '5' })
  await vi.waitFor(() => dearer.identity.check())
  const credentials = { email: user.email, password: user.password }
  const answers = await Promise.all(
    [dearer, dearer, gateway, dearer].map(through => post('/v1/auth/login', credentials, undefined, through)),
  )
  expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
  dearer.stop()
})

describe('a new password by mail', () => {
  test('the whole way: asked for, set once, all sessions ended, told by mail and event', async () => {
    const user = await gateway.signedInUser()
    const second = await gateway.logIn(user)
    await post('/v1/auth/forgot-password', { email: user.email.toUpperCase() })
    const [token] = await resetTokens(user.id)
    expect((await gateway.ask('GET', `/v1/auth/reset-password?token=${token}`)).status).toBe(200) // spends nothing
    expect((await dumpTables(sql)).includes(token!)).toBe(false)

    const weak = await post('/v1/auth/reset-password', { token, password: 'abc' })
    expect([...codeOf(weak), weak.body.errors.length]).toEqual([422, 'VALIDATION_ERROR', 1])
    expect(codeOf(await post('/v1/auth/reset-password', { token, password: PASSWORD }))).toEqual([
      400,
      'SAME_PASSWORD',
    ])
    expect((await post('/v1/auth/reset-password', { token, password: NEXT })).status).toBe(200)
    expect(codeOf(await post('/v1/auth/reset-password', { token, password: `${NEXT}x` }))).toEqual([
      400,
      'INVALID_RESET_TOKEN',
    ])

    for (const { accessToken, refreshToken } of [user, second]) {
      for (const through of [gateway, other]) {
        expect(codeOf(await me(accessToken, through))).toEqual([401, 'TOKEN_REVOKED'])
      }
      expect(codeOf(await post('/v1/auth/refresh', { refreshToken }))).toEqual([401, 'REFRESH_TOKEN_INVALID'])
    }
    expect(codeOf(await logIn(user.email, PASSWORD))).toEqual([401, 'INVALID_CREDENTIALS'])
    expect((await logIn(user.email, NEXT)).status).toBe(200)
    expect(await eventOf(user.id, 'PasswordResetRequested')).toBeDefined()
    expect(await eventOf(user.id, 'PasswordChanged')).toMatchObject({ how: 'reset' })
    expect(await templatesOf(user.id)).toContain('password_changed')
  })

  test('of two that spend one token at once, one sets its password', async () => {
    const user = await gateway.signedInUser()
    await post('/v1/auth/forgot-password', { email: user.email })
    const [token] = await resetTokens(user.id)
    const answers = await Promise.all(
      [1, 2, 3, 4].map(index =>
        post(
          '/v1/auth/reset-password',
          { token, password: `${NEXT}${index}` },
          undefined,
          index % 2 ? other : gateway,
        ),
      ),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400])
    const winner = answers.findIndex(({ status }) => status === 200) + 1
    expect((await logIn(user.email, `${NEXT}${winner}`)).status).toBe(200)
  })

  test('of two that spend two tokens at once, one sets its password, and neither waits for the other', async () => {
    const user = await gateway.signedInUser()
    for (const many of [1, 2]) {
      await post('/v1/auth/forgot-password', { email: user.email })
      await resetTokens(user.id, many)
    }
    const [first, second] = await resetTokens(user.id, 2)
    const { waiting, release } = await holdUser(sql, user.id)
    const reset = (token: string, password: string) => post('/v1/auth/reset-password', { token, password })
    const answers = [reset(first!, NEXT), reset(second!, 'Staple-Battery-9')]
    await vi.waitFor(async () => expect(await waiting()).toBe(2))
    await release()
    expect((await Promise.all(answers)).map(codeOf).map(String).sort()).toEqual([
      '200,',
      '400,INVALID_RESET_TOKEN',
    ])
  })

  test('a token that is not spent dies with the next change of the password, and with its hour', async () => {
    const user = await gateway.signedInUser()
    await post('/v1/auth/forgot-password', { email: user.email })
    const [first] = await resetTokens(user.id)
    const body = { currentPassword: PASSWORD, newPassword: NEXT }
    expect((await post('/v1/auth/change-password', body, user.accessToken)).status).toBe(200)
    const refused = [400, 'INVALID_RESET_TOKEN']
    expect(codeOf(await post('/v1/auth/reset-password', { token: first, password: PASSWORD }))).toEqual(
      refused,
    )
    await post('/v1/auth/forgot-password', { email: user.email })
    const [, late] = await resetTokens(user.id, 2)
    await setClocks.expireMailedTokens(sql)
    expect(codeOf(await post('/v1/auth/reset-password', { token: late, password: PASSWORD }))).toEqual(
      refused,
    )
    // A token that was mailed for another purpose is refused.
    const fresh = await gateway.signUp()
    const verification = await gateway.mailedToken(fresh.id)
    expect(codeOf(await post('/v1/auth/reset-password', { token: verification, password: NEXT }))).toEqual(
      refused,
    )
  })

  test('known, unknown, unverified and disabled are answered alike; only the known one gets mail, and not too much', async () => {
    const known = await gateway.signedInUser()
    const unverified = await gateway.signUp()
    const disabled = await gateway.signedInUser()
    await setClocks.disableUser(sql, disabled.id)
    const answers = []
    for (const email of [known.email, 'nobody@example.com', unverified.email, disabled.email]) {
      answers.push(await post('/v1/auth/forgot-password', { email }))
    }
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1)
    await resetTokens(known.id)
    for (let count = 2; count <= 3; count++) {
      await post('/v1/auth/forgot-password', { email: known.email })
      await resetTokens(known.id, count)
    }
    await post('/v1/auth/forgot-password', { email: known.email })
    // The later user's request is processed later: that mail shows that the fourth request was processed, too.
    const later = await gateway.signedInUser()
    await post('/v1/auth/forgot-password', { email: later.email })
    await resetTokens(later.id)
    await resetTokens(known.id, 3)
    for (const { id } of [unverified, disabled]) expect(await templatesOf(id)).not.toContain('reset_password')
  })

  test('equal timing: forgot and resend answer before anybody has looked whether there is such an account', async () => {
    const { email } = await gateway.signedInUser()
    const unlock = await lockUsersTable(owner)
    try {
      for (const path of ['/v1/auth/forgot-password', '/v1/auth/resend-verification']) {
        for (const address of [email, 'nobody@example.com']) {
          expect((await post(path, { email: address })).status).toBe(200)
        }
      }
    } finally {
      await unlock()
    }
  })
})

describe('change of the password', () => {
  test('needs the current one; ends all other sessions and keeps this', async () => {
    const user = await gateway.signedInUser()
    const elsewhere = await gateway.logIn(user)
    const change = (currentPassword: string, newPassword: string) =>
      post('/v1/auth/change-password', { currentPassword, newPassword }, user.accessToken)
    // Not a 401: a client that refreshes and repeats on 401 would try twice.
    expect(codeOf(await change('Wrong-Horse-7', NEXT))).toEqual([400, 'PASSWORD_MISMATCH'])
    expect(codeOf(await change(PASSWORD, PASSWORD))).toEqual([400, 'SAME_PASSWORD'])
    expect(codeOf(await change(PASSWORD, 'abc'))).toEqual([422, 'VALIDATION_ERROR'])
    expect((await me(elsewhere.accessToken)).status).toBe(200)
    expect((await change(PASSWORD, NEXT)).status).toBe(200)
    expect((await me(user.accessToken)).status).toBe(200)
    expect((await post('/v1/auth/refresh', { refreshToken: user.refreshToken })).status).toBe(200)
    expect(codeOf(await me(elsewhere.accessToken, other))).toEqual([401, 'TOKEN_REVOKED'])
    expect(await eventOf(user.id, 'PasswordChanged')).toMatchObject({ how: 'changed' })
    expect(
      codeOf(await post('/v1/auth/change-password', { currentPassword: PASSWORD, newPassword: NEXT })),
    ).toEqual([401, 'TOKEN_MISSING'])
  })

  test('of several changes at once one wins, and the others find an old password', async () => {
    const user = await gateway.signedInUser()
    const answers = await Promise.all(
      [1, 2, 3].map(index =>
        post(
          '/v1/auth/change-password',
          { currentPassword: PASSWORD, newPassword: `${NEXT}${index}` },
          user.accessToken,
        ),
      ),
    )
    expect(answers.map(codeOf).map(String).sort()).toEqual([
      '200,',
      '400,PASSWORD_MISMATCH',
      '400,PASSWORD_MISMATCH',
    ])
  })

  test('a sign-in with the old password that was checked before the change starts no session after it', async () => {
    const user = await gateway.signedInUser()
    const logins = Array.from({ length: 6 }, () => logIn(user.email, PASSWORD))
    const change = post(
      '/v1/auth/change-password',
      { currentPassword: PASSWORD, newPassword: NEXT },
      user.accessToken,
    )
    expect((await change).status).toBe(200)
    for (const answer of await Promise.all(logins)) {
      if (answer.status === 200) {
        expect(codeOf(await me(answer.body.accessToken))).toEqual([401, 'TOKEN_REVOKED'])
      } else expect(codeOf(answer)).toEqual([401, 'INVALID_CREDENTIALS'])
    }
  })
})

describe('the history of sign-ins', () => {
  test('shows its owner what succeeded and failed, in pages; address and device are stored for their eyes only', async () => {
    const user = await gateway.signUp()
    const from = (password: string, agent: string) =>
      gateway.ask('POST', '/v1/auth/login', {
        body: { email: user.email, password },
        address: '203.0.113.77',
        headers: { 'user-agent': agent },
      })
    const historyOf = async (token: string, query = '') =>
      (await gateway.ask('GET', `/v1/users/me/logins${query}`, { token })).body
    expect(codeOf(await from(PASSWORD, 'Unverified'))).toEqual([403, 'EMAIL_NOT_VERIFIED'])
    await vi.waitFor(async () => expect(await eventOf(user.id, 'LoginFailed')).toBeDefined())
    await post('/v1/auth/verify-email', { token: await gateway.mailedToken(user.id) })
    await from('Wrong-Horse-7', 'Thief 1.0')
    await vi.waitFor(async () =>
      expect(await eventOf(user.id, 'LoginFailed')).toMatchObject({ reason: 'wrong_password' }),
    )
    const { accessToken } = (await from(PASSWORD, 'Phone')).body
    const { items, nextCursor } = await historyOf(accessToken)
    expect(nextCursor).toBeNull()
    expect(
      items.map(({ outcome, failure, method, device, address }: Record<string, unknown>) => [
        ...[outcome, failure, method, device, address],
      ]),
    ).toEqual([
      ['signed_in', null, 'password', 'Phone', '203.0.113.77'],
      ['failed', 'wrong_password', 'password', 'Thief 1.0', '203.0.113.77'],
      ['failed', 'email_not_verified', 'password', 'Unverified', '203.0.113.77'],
    ])
    const page = await historyOf(accessToken, '?limit=2')
    expect(page.items).toEqual(items.slice(0, 2))
    const rest = await historyOf(accessToken, `?limit=2&cursor=${page.nextCursor}`)
    expect(rest).toEqual({ items: items.slice(2), nextCursor: null })
    const stored = await dumpTables(sql)
    for (const text of ['203.0.113.77', 'Thief 1.0']) {
      expect(stored.includes(text)).toBe(false)
      expect(stored.includes(Buffer.from(text).toString('hex'))).toBe(false)
    }
    const stranger = await gateway.signedInUser()
    expect(JSON.stringify(await historyOf(stranger.accessToken))).not.toContain('203.0.113.77')
  })
})

test('equal timing: a sign-in hashes once, whether there is such an account or not', async () => {
  const hashed = async () => {
    const text = await metricsText()
    return Number(/^pennywire_gateway_slow_hashes_total\{of="password"\} (\d+)$/m.exec(text)![1])
  }
  const user = await gateway.signedInUser()
  const unverified = await gateway.signUp()
  for (const email of [user.email, unverified.email, 'nobody@example.com', 'no.body@example.com']) {
    const before = await hashed()
    expect(codeOf(await logIn(email, 'Wrong-Horse-7'))).toEqual([401, 'INVALID_CREDENTIALS'])
    expect([email, (await hashed()) - before]).toEqual([email, 1])
  }
})

test('a long password counts to its end, and however its letters are written', async () => {
  const password = `Aa1!${'é'.repeat(100)}`
  const user = await gateway.signedInUser({ password })
  expect((await logIn(user.email, password.normalize('NFD'))).status).toBe(200)
  expect(codeOf(await logIn(user.email, `${password.slice(0, -1)}e`))).toEqual([401, 'INVALID_CREDENTIALS'])
  // Refused long before anything is hashed.
  expect(codeOf(await logIn(user.email, 'x'.repeat(1_025)))).toEqual([422, 'VALIDATION_ERROR'])
})

describe('deactivation', () => {
  test('one’s own, with the password: live tokens end at once, on every gateway', async () => {
    const user = await gateway.signedInUser()
    const elsewhere = await gateway.logIn(user)
    const deactivate = (password: string) => post('/v1/users/me/deactivate', { password }, user.accessToken)
    expect(codeOf(await deactivate('Wrong-Horse-7'))).toEqual([400, 'PASSWORD_MISMATCH'])
    expect((await me(user.accessToken)).status).toBe(200)
    expect((await deactivate(PASSWORD)).status).toBe(200)
    for (const { accessToken } of [user, elsewhere]) {
      for (const through of [gateway, other]) {
        expect(codeOf(await me(accessToken, through))).toEqual([403, 'ACCOUNT_DISABLED'])
      }
    }
    expect(codeOf(await post('/v1/auth/refresh', { refreshToken: user.refreshToken }))).toEqual([
      401,
      'REFRESH_TOKEN_INVALID',
    ])
    expect(codeOf(await logIn(user.email, PASSWORD))).toEqual([403, 'ACCOUNT_DISABLED'])
    expect(await eventOf(user.id, 'AccountDeactivated')).toMatchObject({ source: 'self', byUserId: user.id })
  })

  test('by staff, with a reason that only ciphertext tells of; and back again', async () => {
    const admin = await withRole('admin')
    const user = await gateway.signedInUser()
    const path = `/v1/admin/users/${user.id}`
    expect(codeOf(await post(`${path}/reactivate`, undefined, admin.accessToken))).toEqual([
      409,
      'ACCOUNT_NOT_DISABLED',
    ])
    const reason = 'Reported as stolen, case 4711'
    const done = await post(`${path}/deactivate`, { reason }, admin.accessToken)
    expect([done.status, done.body.disabled]).toMatchObject([200, { source: 'staff', reason }])
    expect(codeOf(await me(user.accessToken, other))).toEqual([403, 'ACCOUNT_DISABLED'])
    expect(codeOf(await post(`${path}/deactivate`, { reason }, admin.accessToken))).toEqual([
      409,
      'ACCOUNT_ALREADY_DISABLED',
    ])
    const event = await eventOf(user.id, 'AccountDeactivated')
    expect(event).toMatchObject({ source: 'staff', byUserId: admin.id })
    expect(`${JSON.stringify(event)} ${await dumpTables(sql)}`.includes('as stolen')).toBe(false)
    // A forgotten password does not open a deactivated account either.
    await post('/v1/auth/forgot-password', { email: user.email })

    const back = await post(`${path}/reactivate`, { reason: 'Settled' }, admin.accessToken)
    expect([back.status, back.body.disabled]).toEqual([200, null])
    expect(await eventOf(user.id, 'AccountReactivated')).toMatchObject({ byUserId: admin.id })
    // The old session stays ended, and its tokens are refused with TOKEN_REVOKED instead of ACCOUNT_DISABLED.
    for (const through of [gateway, other]) {
      expect(codeOf(await me(user.accessToken, through))).toEqual([401, 'TOKEN_REVOKED'])
    }
    expect((await logIn(user.email, PASSWORD)).status).toBe(200)
    expect(await templatesOf(user.id)).not.toContain('reset_password')
  })

  test('while sign-ins are on their way: none of their sessions outlives it', async () => {
    const user = await gateway.signedInUser()
    const logins = Array.from({ length: 6 }, () => logIn(user.email, PASSWORD))
    expect((await post('/v1/users/me/deactivate', { password: PASSWORD }, user.accessToken)).status).toBe(200)
    for (const answer of await Promise.all(logins)) {
      expect(codeOf(answer.status === 200 ? await me(answer.body.accessToken) : answer)).toEqual([
        403,
        'ACCOUNT_DISABLED',
      ])
    }
  })

  test('is known without Redis as well', async () => {
    const user = await gateway.signedInUser()
    const alone = await createTestGateway({
      sql,
      databaseUrl: database.url,
      redisUrl: 'redis://127.0.0.1:1',
      keys,
    })
    expect((await me(user.accessToken, alone)).status).toBe(200)
    await post('/v1/users/me/deactivate', { password: PASSWORD }, user.accessToken)
    expect(codeOf(await me(user.accessToken, alone))).toEqual([403, 'ACCOUNT_DISABLED'])
    alone.stop()
  })
})

describe('roles', () => {
  const setRole = (by: SignedIn, userId: string, role: string) =>
    gateway.ask('PATCH', `/v1/admin/users/${userId}/role`, { token: by.accessToken, body: { role } })
  const refused = [403, 'INSUFFICIENT_PERMISSIONS']

  test('an admin gives up to moderator, and only to people who are no more; a super_admin anything; nobody to themselves', async () => {
    const [user, moderator, admin, admin2] = [
      await gateway.signedInUser(),
      await withRole('moderator'),
      await withRole('admin'),
      await withRole('admin'),
    ]
    expect(codeOf(await setRole(moderator, user.id, 'moderator'))).toEqual(refused)
    expect(codeOf(await setRole(user, user.id, 'admin'))).toEqual(refused)
    expect((await setRole(admin, user.id, 'moderator')).body.role).toBe('moderator')
    expect(codeOf(await setRole(admin, user.id, 'admin'))).toEqual(refused)
    expect(codeOf(await setRole(admin, user.id, 'super_admin'))).toEqual(refused)
    expect(codeOf(await setRole(admin, admin2.id, 'user'))).toEqual(refused)
    expect(codeOf(await setRole(admin, root.id, 'user'))).toEqual(refused)
    expect(codeOf(await setRole(admin, admin.id, 'moderator'))).toEqual(refused)
    expect(codeOf(await setRole(root, root.id, 'user'))).toEqual(refused)
    expect((await setRole(root, admin2.id, 'super_admin')).body.role).toBe('super_admin')
    expect(codeOf(await setRole(root, crypto.randomUUID(), 'user'))).toEqual([404, 'USER_NOT_FOUND'])
    expect(codeOf(await setRole(root, user.id, 'owner'))).toEqual([422, 'VALIDATION_ERROR'])
    for (const action of ['deactivate', 'reactivate']) {
      const path = `/v1/admin/users/${root.id}/${action}`
      expect(codeOf(await post(path, { reason: 'mutiny' }, admin.accessToken))).toEqual(refused)
    }
    const own = await post(`/v1/admin/users/${admin.id}/deactivate`, { reason: 'tired' }, admin.accessToken)
    expect(codeOf(own)).toEqual(refused)
    expect(codeOf(await post('/v1/users/me/deactivate', { password: PASSWORD }, root.accessToken))).toEqual(
      refused,
    )
    await setRole(root, admin2.id, 'user')
  })

  test('a demotion bites at once: the live token ends, the next one carries the new role', async () => {
    const moderator = await withRole('moderator')
    const listed = () => gateway.ask('GET', '/v1/admin/users', { token: moderator.accessToken })
    expect((await listed()).status).toBe(200)
    await setRole(root, moderator.id, 'user')
    expect(codeOf(await listed())).toEqual([401, 'TOKEN_REVOKED'])
    expect(codeOf(await post('/v1/auth/refresh', { refreshToken: moderator.refreshToken }))).toEqual([
      401,
      'REFRESH_TOKEN_INVALID',
    ])
    const { challengeToken } = (await logIn(moderator.email, PASSWORD)).body
    await sql`update gateway.second_factors set last_step = 0 where user_id = ${moderator.id}`
    const code = new TOTP({ secret: Secret.fromBase32(moderator.secret) }).generate()
    const again = (await post('/v1/auth/2fa/verify', { challengeToken, code })).body
    expect(codeOf(await gateway.ask('GET', '/v1/admin/users', { token: again.accessToken }))).toEqual(refused)
    expect(await eventOf(moderator.id, 'RoleChanged')).toMatchObject({
      byUserId: root.id,
      previousRole: 'moderator',
      role: 'user',
    })
    expect(await templatesOf(moderator.id)).toContain('role_changed')
  })

  test('what was on its way when its admin was demoted is refused', async () => {
    const [admin, user] = [await withRole('admin'), await gateway.signedInUser()]
    const { waiting, release } = await holdUser(sql, admin.id)
    const demoted = setRole(root, admin.id, 'moderator')
    await vi.waitFor(async () => expect(await waiting()).toBe(1))
    const path = `/v1/admin/users/${user.id}/deactivate`
    const late = post(path, { reason: 'out of spite' }, admin.accessToken)
    await vi.waitFor(async () => expect(await waiting()).toBe(2))
    await release()
    expect((await demoted).status).toBe(200)
    expect(codeOf(await late)).toEqual(refused)
    expect((await me(user.accessToken)).status).toBe(200)
  })

  test('two super_admins who demote each other at once: one stays', async () => {
    const [one, two] = [await withRole('super_admin'), await withRole('super_admin')]
    const answers = await Promise.all([setRole(one, two.id, 'user'), setRole(two, one.id, 'user')])
    expect(answers.map(({ status }) => status).filter(status => status === 200)).toHaveLength(1)
  })

  test('the first super_admin is told of by an event of nobody', async () => {
    expect(await eventOf(root.id, 'RoleChanged')).toMatchObject({
      byUserId: null,
      previousRole: 'user',
      role: 'super_admin',
    })
  })

  test('staff find users by the beginning of the address, in pages, by role and state', async () => {
    const emails = ['zz_a@example.com', 'zz_b@example.com', 'zz_c@example.com', 'zzXd@example.com']
    const people = []
    for (const email of emails) people.push(await gateway.signedInUser({ email }))
    await setClocks.disableUser(sql, people[1]!.id)
    const moderator = await withRole('moderator')
    const find = async (query: string) =>
      (await gateway.ask('GET', `/v1/admin/users?${query}`, { token: moderator.accessToken })).body
    const emailsOf = ({ items }: { items: Array<{ email: string }> }) => items.map(({ email }) => email)
    // "_" matches itself and is no wildcard.
    const page = await find('email=ZZ_&limit=2')
    expect(emailsOf(page)).toEqual(['zz_a@example.com', 'zz_b@example.com'])
    const rest = await find(`email=zz_&limit=2&cursor=${page.nextCursor}`)
    expect([emailsOf(rest), rest.nextCursor]).toEqual([['zz_c@example.com'], null])
    expect(emailsOf(await find('email=zz&disabled=true'))).toEqual(['zz_b@example.com'])
    expect(emailsOf(await find('email=%25'))).toEqual([])
    expect(emailsOf(await find('role=super_admin&limit=100'))).toContain('root@example.com')
    const one = await gateway.ask('GET', `/v1/admin/users/${people[0]!.id}`, { token: moderator.accessToken })
    expect(one.body).toMatchObject({ email: 'zz_a@example.com', role: 'user', disabled: null })
    expect(JSON.stringify(one.body)).not.toMatch(/hash|password/i)
  })

  test('admins see and end the sessions of those below them', async () => {
    const admin = await withRole('admin')
    const user = await gateway.signedInUser()
    await gateway.logIn(user)
    const path = `/v1/admin/users/${user.id}/sessions`
    const { body } = await gateway.ask('GET', path, { token: admin.accessToken })
    expect(body.items).toHaveLength(2)
    const ended = await gateway.ask('DELETE', path, { token: admin.accessToken })
    expect([ended.status, ended.body.ended]).toEqual([200, 2])
    expect(codeOf(await me(user.accessToken, other))).toEqual([401, 'TOKEN_REVOKED'])
    const roots = `/v1/admin/users/${root.id}/sessions`
    expect(codeOf(await gateway.ask('DELETE', roots, { token: admin.accessToken }))).toEqual(refused)
    const own = `/v1/admin/users/${admin.id}/sessions`
    expect(codeOf(await gateway.ask('DELETE', own, { token: admin.accessToken }))).toEqual(refused)
  })
})

test('a new name is an event, which does not say it', async () => {
  const user = await gateway.signedInUser()
  await gateway.ask('PATCH', '/v1/users/me', { token: user.accessToken, body: { fullName: 'Nova Canary' } })
  const event = await eventOf(user.id, 'ProfileChanged')
  expect(event).toMatchObject({ fields: ['fullName'] })
  expect(JSON.stringify(event)).not.toContain('Nova')
})

describe('the cookie', () => {
  test.each([
    ['no browser', {}, 200],
    ['our own page', { 'sec-fetch-site': 'same-origin', origin: 'http://pennywire.test' }, 200],
    [
      'our own page by another name of ours',
      { 'sec-fetch-site': 'same-origin', origin: 'http://localhost' },
      200,
    ],
    ['our own page in an old browser', { origin: 'http://pennywire.test' }, 200],
    ['another site', { 'sec-fetch-site': 'cross-site', origin: 'https://evil.example' }, 403],
    ['a sibling subdomain', { 'sec-fetch-site': 'same-site', origin: 'http://evil.pennywire.test' }, 403],
    ['another site in an old browser', { origin: 'https://evil.example' }, 403],
    ['a sandboxed frame', { origin: 'null' }, 403],
    ['an address typed in', { 'sec-fetch-site': 'none' }, 403],
  ])('%s', async (_who, headers: Record<string, string>, status) => {
    const { email, password } = await gateway.signedInUser()
    const login = await gateway.ask('POST', '/v1/auth/login', {
      body: { email, password, cookie: true },
      headers,
    })
    expect(login.status).toBe(status)
    const cookieOf = ({ headers: answered }: Awaited<ReturnType<TestGateway['ask']>>) =>
      answered.get('set-cookie')!.split(';')[0]!
    const cookie =
      status === 200
        ? cookieOf(login)
        : cookieOf(await gateway.ask('POST', '/v1/auth/login', { body: { email, password, cookie: true } }))
    const refreshed = await gateway.ask('POST', '/v1/auth/refresh', { headers: { ...headers, cookie } })
    expect([refreshed.status, refreshed.body.code]).toEqual([
      status,
      status === 200 ? undefined : 'CROSS_SITE_REQUEST',
    ])
    // A refused token is not spent: the page it belongs to goes on.
    if (status === 403) {
      expect((await gateway.ask('POST', '/v1/auth/refresh', { headers: { cookie } })).status).toBe(200)
    }
  })

  test('over HTTPS it is bound to HTTPS, name and all', async () => {
    const secure = await openGateway({ PUBLIC_URL: 'https://pennywire.test' })
    await vi.waitFor(() => secure.identity.check())
    const { email, password } = await gateway.signedInUser()
    const login = await secure.ask('POST', '/v1/auth/login', { body: { email, password, cookie: true } })
    const set = login.headers.get('set-cookie')!
    expect(set).toMatch(
      /^__Secure-pennywire_refresh=[\w-]{43}; .*Path=\/v1\/auth; HttpOnly; Secure; SameSite=Strict$/,
    )
    const cookie = set.split(';')[0]!
    expect((await secure.ask('POST', '/v1/auth/refresh', { headers: { cookie } })).status).toBe(200)
    // A cookie without the prefix could have been set by an attacker on the network.
    const planted = { cookie: cookie.replace('__Secure-', '') }
    expect((await secure.ask('POST', '/v1/auth/refresh', { headers: planted })).status).toBe(401)
    secure.stop()
  })

  test('a token in the body needs no such thing: nothing is sent by itself', async () => {
    const { refreshToken } = await gateway.signedInUser()
    const { status } = await gateway.ask('POST', '/v1/auth/refresh', {
      body: { refreshToken },
      headers: { 'sec-fetch-site': 'cross-site', origin: 'https://app.example' },
    })
    expect(status).toBe(200)
  })
})

test('expired tokens and old sign-ins are purged; what is still good stays', async () => {
  const user = await gateway.signedInUser()
  await post('/v1/auth/logout', undefined, user.accessToken)
  expect(await countKept(sql, user.id)).toEqual({ mailed: 1, refresh: 1, logins: 1, familiar: 2 })
  await setClocks.ageAccounts(owner)
  const fresh = await gateway.signedInUser()
  await vi.waitFor(async () =>
    expect(await countKept(sql, user.id)).toEqual({ mailed: 0, refresh: 0, logins: 0, familiar: 0 }),
  )
  expect(await countKept(sql, fresh.id)).toEqual({ mailed: 1, refresh: 1, logins: 1, familiar: 2 })
  expect((await post('/v1/auth/refresh', { refreshToken: fresh.refreshToken })).status).toBe(200)
})

test('what a gateway ended that died before it told anybody, the others find out within a moment', async () => {
  const user = await gateway.signedInUser()
  expect((await me(user.accessToken, other)).status).toBe(200)
  await setClocks.endSessions(sql, user.id)
  await vi.waitFor(
    async () => expect(codeOf(await me(user.accessToken, other))).toEqual([401, 'TOKEN_REVOKED']),
    { timeout: 2_000, interval: 20 },
  )
})

test('no access token outlives its session', async () => {
  const user = await gateway.signedInUser()
  await setClocks.shortenSessions(sql, user.id)
  const { status, body } = await post('/v1/auth/refresh', { refreshToken: user.refreshToken })
  expect([status, body.expiresIn <= 60]).toEqual([200, true])
  const { exp } = JSON.parse(Buffer.from(body.accessToken.split('.')[1], 'base64url').toString())
  expect(exp).toBeLessThanOrEqual(Date.now() / 1_000 + 61)
})
