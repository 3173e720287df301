// Sessions and signing keys, with two gateways that run with production settings.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { ask, control, mailedToken, makePerson, makeStaff, type Person, totpCode } from './client.ts'

const root = join(import.meta.dirname, '..')
/** The design's bound on the time until a revocation takes effect. */
const WITHIN_MS = 1_000

let second: { name: string; url: string }
let admin: Person

beforeAll(async () => {
  const started = await fetch(`${inject('system').controlUrl}/gateway/start`, { method: 'POST' })
  second = (await started.json()) as typeof second
  admin = await makeStaff('super_admin')
})
afterAll(() => control(second.name, 'stop'))

const me = (token: string, gatewayUrl?: string) =>
  ask('GET', '/v1/users/me', { token, ...(gatewayUrl ? { gatewayUrl } : {}) })
const logIn = async ({ email, password }: Person) =>
  (await ask('POST', '/v1/auth/login', { body: { email, password } })).body as {
    accessToken: string
    refreshToken: string
  }

describe('what ends on one gateway has ended on the other within a second', () => {
  const cases: Array<[string, (person: Person) => Promise<unknown>, [number, string]]> = [
    ['sign-out', person => person.ask('POST', '/v1/auth/logout'), [401, 'TOKEN_REVOKED']],
    [
      'sign-out everywhere, from another device',
      async person => ask('POST', '/v1/auth/logout-all', { token: (await logIn(person)).accessToken }),
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'the end of one session, from another device',
      async person => {
        const token = (await logIn(person)).accessToken
        const { items } = (await ask('GET', '/v1/sessions', { token })).body
        const other = items.find(({ current }: { current: boolean }) => !current)
        return ask('DELETE', `/v1/sessions/${other.id}`, { token })
      },
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'a changed password, from another device',
      async person =>
        ask('POST', '/v1/auth/change-password', {
          token: (await logIn(person)).accessToken,
          body: { currentPassword: person.password, newPassword: 'Battery-Staple-8' },
        }),
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'a changed PIN, from another device',
      async person =>
        ask('POST', '/v1/pin/change', {
          token: (await logIn(person)).accessToken,
          body: { currentPin: '482915', newPin: '730164' },
        }),
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'the second factor turned on, from another device',
      async person => {
        const token = (await logIn(person)).accessToken
        const body = { password: person.password }
        const { secret } = (await ask('POST', '/v1/auth/2fa/enable', { token, body })).body
        return ask('POST', '/v1/auth/2fa/confirm', { token, body: { code: totpCode(secret) } })
      },
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'a changed role',
      person => admin.ask('PATCH', `/v1/admin/users/${person.id}/role`, { role: 'moderator' }),
      [401, 'TOKEN_REVOKED'],
    ],
    [
      'deactivation by staff',
      person => admin.ask('POST', `/v1/admin/users/${person.id}/deactivate`, { reason: 'a test' }),
      [403, 'ACCOUNT_DISABLED'],
    ],
    [
      'deactivation by oneself',
      person => person.ask('POST', '/v1/users/me/deactivate', { password: person.password }),
      [403, 'ACCOUNT_DISABLED'],
    ],
  ]
  test.each(cases)('%s', async (_what, end, [status, code]) => {
    const person = await makePerson()
    expect((await me(person.token, second.url)).status).toBe(200)
    expect(((await end(person)) as { status: number }).status).toBe(200)
    const ended = performance.now()
    await vi.waitFor(
      async () => {
        const answer = await me(person.token, second.url)
        expect([answer.status, answer.body.code]).toEqual([status, code])
      },
      { timeout: WITHIN_MS, interval: 20 },
    )
    expect(performance.now() - ended).toBeLessThan(WITHIN_MS)
    // The same for routes that move money.
    const transfer = await ask('POST', '/v1/transfers', {
      token: person.token,
      gatewayUrl: second.url,
      headers: { 'idempotency-key': 'k', 'step-up-token': person.stepUp },
      body: { toWalletId: person.id, amount: '1', currency: 'USD' },
    })
    expect([transfer.status, transfer.body.code]).toEqual([status, code])
  })

  test('a demoted moderator: the live token, on the other gateway', async () => {
    const moderator = await makeStaff('moderator')
    const listed = () => ask('GET', '/v1/admin/users', { token: moderator.token, gatewayUrl: second.url })
    expect((await listed()).status).toBe(200)
    await admin.ask('PATCH', `/v1/admin/users/${moderator.id}/role`, { role: 'user' })
    await vi.waitFor(async () => expect((await listed()).body.code).toBe('TOKEN_REVOKED'), WITHIN_MS)
  })
})

describe('refresh tokens on two gateways', () => {
  const refresh = (refreshToken: string, gatewayUrl = second.url) =>
    ask('POST', '/v1/auth/refresh', { body: { refreshToken }, gatewayUrl })

  test('two refreshes with one token at once get the same successor', async () => {
    const { refreshToken } = await makePerson()
    const answers = await Promise.all([
      refresh(refreshToken),
      refresh(refreshToken, inject('system').gatewayUrl),
    ])
    expect(answers.map(({ status }) => status)).toEqual([200, 200])
    expect(answers[0]!.body.refreshToken).toBe(answers[1]!.body.refreshToken)
  })

  test('a stolen one ends the family once both have used it, on both gateways', async () => {
    const person = await makePerson()
    const mine = await refresh(person.refreshToken)
    const next = await refresh(mine.body.refreshToken, inject('system').gatewayUrl)
    const thief = await refresh(person.refreshToken)
    expect([thief.status, thief.body.code]).toEqual([401, 'REFRESH_TOKEN_REUSED'])
    for (const token of [person.token, mine.body.accessToken, next.body.accessToken]) {
      for (const url of [second.url, inject('system').gatewayUrl]) {
        await vi.waitFor(
          async () => expect((await me(token, url)).body.code).toBe('TOKEN_REVOKED'),
          WITHIN_MS,
        )
      }
    }
    expect((await refresh(next.body.refreshToken)).body.code).toBe('REFRESH_TOKEN_INVALID')
  })
})

test('what happens to an account is mailed to its owner; the page behind the link sets a new password', async () => {
  const person = await makePerson('Nora Notice')
  const subjects = async (): Promise<string[]> => {
    const messages = (await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()) as Array<{
      to: unknown
      subject: string
    }>
    return messages
      .filter(({ to }) => JSON.stringify(to).includes(person.email))
      .map(({ subject }) => subject)
  }
  const mailed = (subject: string) =>
    vi.waitFor(async () => expect(await subjects()).toContain(subject), { timeout: 15_000, interval: 50 })
  const verification = await mailedToken(person.email)
  await ask('POST', '/v1/auth/forgot-password', { body: { email: person.email } })
  await mailed('Set a new password')
  const token = await mailedToken(person.email)
  expect(token).not.toBe(verification)
  for (const path of [`/v1/auth/reset-password?token=${token}`, '/v1/auth/reset-password/page.js']) {
    const page = await fetch(`${second.url}${path}`)
    expect(page.status).toBe(200)
    expect(page.headers.get('referrer-policy')).toBe('no-referrer')
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'")
  }
  const password = 'Battery-Staple-8'
  const reset = await ask('POST', '/v1/auth/reset-password', {
    body: { token, password },
    gatewayUrl: second.url,
  })
  expect(reset.status).toBe(200)
  await mailed('Your password was changed')
  await admin.ask('PATCH', `/v1/admin/users/${person.id}/role`, { role: 'moderator' })
  await mailed('Your role has changed')
  await admin.ask('POST', `/v1/admin/users/${person.id}/deactivate`, { reason: 'a test' })
  await mailed('Your account is deactivated')
  await admin.ask('POST', `/v1/admin/users/${person.id}/reactivate`)
  await mailed('Your account is active again')
  const again = await logIn({ ...person, password })
  expect((await me(again.accessToken)).body.roles).toEqual(['user', 'moderator'])
})

test('npm run keys:rotate-jwt: a new key signs, the old tokens hold, and no gateway was restarted', async () => {
  const before = await makePerson()
  const urls = [inject('system').gatewayUrl, second.url]
  const kidsOf = async (url: string): Promise<string[]> =>
    (await ask('GET', '/.well-known/jwks.json', { gatewayUrl: url })).body.keys.map(
      ({ kid }: { kid: string }) => kid,
    )
  const kidOf = (token: string): string =>
    JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()).kid
  const { status, stdout } = spawnSync(
    process.execPath,
    [join(root, 'packages/stack/src/rotate-jwt-key.ts'), '--now'],
    { env: { ...process.env, PENNYWIRE_DATA: inject('system').dataDir }, encoding: 'utf8' },
  )
  expect(status).toBe(0)
  const kid = /the key (\S+) signs/.exec(stdout)![1]!
  expect(stdout).not.toMatch(/"d"|"p"/)
  for (const url of urls) await vi.waitFor(async () => expect((await kidsOf(url))[0]).toBe(kid), 15_000)
  for (const url of urls) {
    expect(await kidsOf(url)).toContain(kidOf(before.token))
    expect((await me(before.token, url)).status).toBe(200)
    const jwks = (await ask('GET', '/.well-known/jwks.json', { gatewayUrl: url })).body
    for (const key of jwks.keys)
      expect(Object.keys(key).sort()).toEqual(['alg', 'e', 'kid', 'kty', 'n', 'use'])
  }
  const after = await logIn(before)
  expect(kidOf(after.accessToken)).toBe(kid)
  for (const url of urls) expect((await me(after.accessToken, url)).status).toBe(200)
})
