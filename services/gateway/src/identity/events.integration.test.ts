// Each security-relevant action has its events: performs every row of the table in docs/events.md.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase, decodeOutbox, setClocks } from '../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../test-gateway.ts'
import { passProvider, startOidcProvider } from './sign-in/test-oidc-provider.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PIN = '482915'
const NEW_PIN = '730164'
const NEXT_PASSWORD = 'Battery-Staple-8'
const ISSUER = 'https://sso.example'
const CLIENT = { clientId: 'pennywire', clientSecret: 'known-to-both-sides' }

type User = Awaited<ReturnType<TestGateway['signedInUser']>>
/** A row of the table: the action, its route, and its events. */
type Row = [what: string, route: string, events: string[]]

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let root: User
let jwks: Server
let companyKey: JWK
let provider: Awaited<ReturnType<typeof startOidcProvider>>

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  companyKey = { ...(await exportJWK(pair.privateKey)), kid: 'sso-1', alg: 'RS256' }
  const { kty, n, e, kid, alg } = companyKey
  jwks = createServer((_request, response) => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ keys: [{ kty, n, e, kid, alg }] }))
  })
  await new Promise<void>(resolve => jwks.listen(0, '127.0.0.1', resolve))
  const jwksUrl = `http://127.0.0.1:${(jwks.address() as AddressInfo).port}/jwks.json`
  provider = await startOidcProvider({
    ...CLIENT,
    redirectUris: ['http://pennywire.test/v1/auth/oidc/alpha/callback'],
    inIdToken: true,
  })
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  gateway = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: {
      BOOTSTRAP_ADMIN_EMAIL: 'root@example.com',
      MAIL_CALLBACK_SECRET,
      OIDC_PROVIDERS_FILE: keys.file('oidc.json', {
        providers: [{ name: 'alpha', label: 'Alpha', issuer: provider.issuer, ...CLIENT }],
      }),
      TRUSTED_ISSUERS: JSON.stringify([{ issuer: ISSUER, jwksUrl, audience: 'pennywire' }]),
    },
  })
  await vi.waitFor(() => gateway.identity.check())
  root = await gateway.signedInStaff({ email: 'root@example.com' })
})

afterAll(async () => {
  gateway.stop()
  jwks.close()
  provider.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const ask = (method: string, path: string, token?: string, body?: unknown) =>
  gateway.ask(method, path, { ...(token ? { token } : {}), ...(body ? { body } : {}) })
const MAIL_CALLBACK_SECRET = 'a secret of the mail server alone'
const bounce = async ({ email }: User) => {
  const headers = { 'mail-callback-secret': MAIL_CALLBACK_SECRET }
  const { status } = await gateway.ask('POST', '/v1/mail/callbacks', {
    ...{ headers, body: { event: 'bounced', email } },
  })
  expect(status).toBe(204)
}
const codeOf = (secret: string) => new TOTP({ secret: Secret.fromBase32(secret) }).generate()
const wrongCode = (secret: string) =>
  ['000000', '111111', '222222', '333333'].find(
    code => new TOTP({ secret: Secret.fromBase32(secret) }).validate({ token: code, window: 2 }) === null,
  )!

const signedIn = () => gateway.signedInUser()
/** A signed-in user with a second session. */
const twice = async () => {
  const user = await signedIn()
  return { ...user, other: await gateway.logIn(user) }
}
const withPin = async () => {
  const user = await twice()
  expect((await ask('POST', '/v1/pin', user.accessToken, { pin: PIN })).status).toBe(201)
  return user
}
const offered = async () => {
  const user = await twice()
  const { body } = await ask('POST', '/v1/auth/2fa/enable', user.accessToken, { password: user.password })
  return { ...user, secret: body.secret as string }
}
const withSecondFactor = async () => {
  const user = await offered()
  const { body } = await ask('POST', '/v1/auth/2fa/confirm', user.accessToken, { code: codeOf(user.secret) })
  await setClocks.forgetCodeStep(sql, user.id)
  return { ...user, codes: body.recoveryCodes as string[] }
}
const logIn = ({ email, password }: User, typed = password) =>
  ask('POST', '/v1/auth/login', undefined, { email, password: typed })
const challenged = async () => {
  const user = await withSecondFactor()
  const { challengeToken } = (await logIn(user)).body
  const verify = (proof: object) =>
    ask('POST', '/v1/auth/2fa/verify', undefined, { challengeToken, ...proof })
  return { ...user, verify }
}
const tokenFor = ({ id }: User) =>
  new SignJWT({})
    .setProtectedHeader({ alg: 'RS256', kid: 'sso-1' })
    .setIssuer(ISSUER)
    .setAudience('pennywire')
    .setSubject(id)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign({ ...companyKey, alg: 'RS256' } as never)
const linked = async () => {
  const user = await signedIn()
  const { body } = await ask('POST', '/v1/users/me/external-identities', user.accessToken, {
    token: await tokenFor(user),
    password: user.password,
  })
  return { ...user, link: body.id as string }
}
/** Follows a browser from the gateway's redirect to the provider up to the callback's answer. */
const passBack = async (begun: Awaited<ReturnType<typeof ask>>, url: string, sub: string) => {
  const cookie = begun.headers.getSetCookie()[0]!.split(';')[0]!
  const { pathname, search } = await passProvider(url, sub)
  return gateway.ask('GET', `${pathname}${search}`, { headers: { cookie } })
}
const atProvider = (email: string) => {
  provider.people.set(email, { sub: email, email, email_verified: true, name: 'Olga Open' })
  return email
}
const withApiKey = async () => {
  const user = await signedIn()
  const { body } = await ask('POST', '/v1/api-keys', user.accessToken, newKey(user))
  return { ...user, keyId: body.id as string }
}
const newKey = ({ password }: User) => ({ name: 'a test', scopes: ['wallets:read'], password })
const asRoot = (method: string, { id }: User, action: string, body?: object) =>
  ask(method, `/v1/admin/users/${id}${action && `/${action}`}`, root.accessToken, body)
const reason = { reason: 'a test' }

/** How a row is performed: `before` prepares the user and settles, then `act` is the row's action. */
type Act<Who extends { id: string }> = [
  row: Row,
  before: () => Promise<Who>,
  act: (who: Who) => Promise<unknown>,
]
const acts: Array<Act<never>> = []
const row = <Who extends { id: string }>(...[[what, route, events], before, act]: Act<Who>) =>
  acts.push([[what, route, events], before, act] as unknown as Act<never>)

row(
  ['a sign-up', 'POST /v1/auth/signup', ['UserRegistered']],
  async () => ({ id: '' }),
  async who => {
    who.id = (await gateway.signUp()).id
  },
)
row(
  ['one after a day in which nobody verified', 'POST /v1/auth/signup', ['SignupReplaced']],
  async () => {
    const user = await gateway.signUp()
    await setClocks.ageSignup(sql, user.id)
    return user
  },
  ({ email, password }) =>
    ask('POST', '/v1/auth/signup', undefined, { email, password, fullName: 'Olga Open' }),
)
row(
  [
    'one by a provider',
    'GET /v1/auth/oidc/{provider}/callback',
    ['UserRegistered', 'EmailVerified', 'ExternalIdentityLinked', 'SessionStarted'],
  ],
  async () => ({ id: '' }),
  async who => {
    const begun = await ask('GET', '/v1/auth/oidc/alpha')
    const sub = atProvider(`${randomUUID()}@example.com`)
    who.id = (await passBack(begun, begun.headers.get('location')!, sub)).body.user.id
  },
)
row(
  ['the address is verified', 'POST /v1/auth/verify-email', ['EmailVerified']],
  () => gateway.signUp(),
  async user =>
    ask('POST', '/v1/auth/verify-email', undefined, { token: await gateway.mailedToken(user.id) }),
)
row(
  [
    'the same with a password of the owner',
    'POST /v1/auth/verify-email',
    ['EmailVerified', 'SignupReplaced'],
  ],
  () => gateway.signUp(),
  async user =>
    ask('POST', '/v1/auth/verify-email', undefined, {
      token: await gateway.mailedToken(user.id),
      newPassword: 'Quiet-lantern-83-oats',
    }),
)
row(['a sign-in', 'POST /v1/auth/login', ['SessionStarted']], signedIn, user => logIn(user))
row(['a sign-in that failed', 'POST /v1/auth/login', ['LoginFailed']], signedIn, user =>
  logIn(user, 'Wrong-1!'),
)
row(['its second step', 'POST /v1/auth/2fa/verify', ['SessionStarted']], challenged, user =>
  user.verify({ code: codeOf(user.secret) }),
)
row(
  ['the same by a recovery code', 'POST /v1/auth/2fa/verify', ['RecoveryCodeUsed', 'SessionStarted']],
  challenged,
  user => user.verify({ recoveryCode: user.codes[0] }),
)
row(['a wrong code', 'POST /v1/auth/2fa/verify', ['SecondFactorFailed', 'LoginFailed']], challenged, user =>
  user.verify({ code: wrongCode(user.secret) }),
)
row(
  [
    'the fifth wrong one',
    'POST /v1/auth/2fa/verify',
    ['SecondFactorFailed', 'SecondFactorLocked', 'LoginFailed'],
  ],
  async () => {
    const user = await challenged()
    for (let i = 0; i < 4; i++) await user.verify({ code: wrongCode(user.secret) })
    await vi.waitFor(async () => expect((await eventsOf(user.id)).filter(isFailure)).toHaveLength(4))
    return user
  },
  user => user.verify({ code: wrongCode(user.secret) }),
)
row(
  ["a sign-in by another issuer's token", 'POST /v1/auth/external', ['SessionStarted']],
  linked,
  async user => ask('POST', '/v1/auth/external', undefined, { token: await tokenFor(user) }),
)
row(
  ['a refresh token came twice', 'POST /v1/auth/refresh', ['SessionRevoked']],
  async () => {
    const user = await signedIn()
    const { body } = await ask('POST', '/v1/auth/refresh', undefined, { refreshToken: user.refreshToken })
    await ask('POST', '/v1/auth/refresh', undefined, { refreshToken: body.refreshToken })
    return user
  },
  user => ask('POST', '/v1/auth/refresh', undefined, { refreshToken: user.refreshToken }),
)
row(['a sign-out', 'POST /v1/auth/logout', ['SessionRevoked']], twice, user =>
  ask('POST', '/v1/auth/logout', user.accessToken),
)
row(
  ['a sign-out everywhere', 'POST /v1/auth/logout-all', ['SessionRevoked', 'SessionRevoked']],
  twice,
  user => ask('POST', '/v1/auth/logout-all', user.accessToken),
)
row(['one session is ended', 'DELETE /v1/sessions/{id}', ['SessionRevoked']], twice, async user => {
  const { items } = (await ask('GET', '/v1/sessions', user.accessToken)).body
  return ask('DELETE', `/v1/sessions/${items[0].id}`, user.accessToken)
})
row(
  ['a new password is asked for', 'POST /v1/auth/forgot-password', ['PasswordResetRequested']],
  signedIn,
  user => ask('POST', '/v1/auth/forgot-password', undefined, { email: user.email }),
)
row(
  ['and set', 'POST /v1/auth/reset-password', ['SessionRevoked', 'PasswordChanged']],
  async () => {
    const user = await signedIn()
    const before = await gateway.mailedToken(user.id)
    await ask('POST', '/v1/auth/forgot-password', undefined, { email: user.email })
    await vi.waitFor(async () => expect(await gateway.mailedToken(user.id)).not.toBe(before))
    return user
  },
  async user =>
    ask('POST', '/v1/auth/reset-password', undefined, {
      token: await gateway.mailedToken(user.id),
      password: NEXT_PASSWORD,
    }),
)
row(
  ['the password is changed', 'POST /v1/auth/change-password', ['SessionRevoked', 'PasswordChanged']],
  twice,
  user =>
    ask('POST', '/v1/auth/change-password', user.accessToken, {
      currentPassword: user.password,
      newPassword: NEXT_PASSWORD,
    }),
)
row(
  ['the second factor is turned on', 'POST /v1/auth/2fa/confirm', ['SessionRevoked', 'SecondFactorEnabled']],
  offered,
  user => ask('POST', '/v1/auth/2fa/confirm', user.accessToken, { code: codeOf(user.secret) }),
)
const secondFactorAnd = async () => {
  const user = await withSecondFactor()
  const { challengeToken } = (await logIn(user)).body
  await ask('POST', '/v1/auth/2fa/verify', undefined, { challengeToken, recoveryCode: user.codes[9] })
  return user
}
row(
  [
    'it has new recovery codes',
    'POST /v1/auth/2fa/recovery-codes',
    ['RecoveryCodesReplaced', 'SessionRevoked'],
  ],
  secondFactorAnd,
  user =>
    ask('POST', '/v1/auth/2fa/recovery-codes', user.accessToken, {
      password: user.password,
      code: codeOf(user.secret),
    }),
)
row(
  ['it is turned off', 'POST /v1/auth/2fa/disable', ['SecondFactorDisabled', 'SessionRevoked']],
  secondFactorAnd,
  user =>
    ask('POST', '/v1/auth/2fa/disable', user.accessToken, {
      password: user.password,
      code: codeOf(user.secret),
    }),
)
row(
  [
    'staff remove it',
    'DELETE /v1/admin/users/{id}/second-factor',
    ['SessionRevoked', 'SecondFactorDisabled'],
  ],
  withSecondFactor,
  user => asRoot('DELETE', user, 'second-factor', reason),
)
row(['the PIN is set', 'POST /v1/pin', ['PinSet']], signedIn, user =>
  ask('POST', '/v1/pin', user.accessToken, { pin: PIN }),
)
const verifyPin = (user: User, pin: string) => ask('POST', '/v1/pin/verify', user.accessToken, { pin })
row(['a wrong PIN', 'POST /v1/pin/verify', ['PinFailed']], withPin, user => verifyPin(user, NEW_PIN))
row(
  ['the third wrong one', 'POST /v1/pin/verify', ['PinFailed', 'PinLocked']],
  async () => {
    const user = await withPin()
    for (let i = 0; i < 2; i++) await verifyPin(user, NEW_PIN)
    return user
  },
  user => verifyPin(user, NEW_PIN),
)
row(['the PIN is changed', 'POST /v1/pin/change', ['PinChanged', 'SessionRevoked']], withPin, user =>
  ask('POST', '/v1/pin/change', user.accessToken, { currentPin: PIN, newPin: NEW_PIN }),
)
const askForCode = (user: User) => ask('POST', '/v1/pin/reset-request', user.accessToken)
const resetPin = (user: User, otp: string) =>
  ask('POST', '/v1/pin/reset', user.accessToken, { otp, newPin: NEW_PIN })
const withCode = async () => {
  const user = await withPin()
  await askForCode(user)
  return { ...user, otp: (await gateway.mailedSecret(user.id)).code! }
}
row(
  ['a code for a new PIN is asked for', 'POST /v1/pin/reset-request', ['PinResetRequested']],
  withPin,
  askForCode,
)
row(['a wrong one comes', 'POST /v1/pin/reset', ['PinResetFailed']], withCode, user =>
  resetPin(user, user.otp === '000000' ? '000001' : '000000'),
)
row(['the right one comes', 'POST /v1/pin/reset', ['PinReset', 'SessionRevoked']], withCode, user =>
  resetPin(user, user.otp),
)
row(['the name is changed', 'PATCH /v1/users/me', ['ProfileChanged']], signedIn, user =>
  ask('PATCH', '/v1/users/me', user.accessToken, { fullName: 'New Person' }),
)
row(
  ['an external identity is linked', 'POST /v1/users/me/external-identities', ['ExternalIdentityLinked']],
  signedIn,
  async user =>
    ask('POST', '/v1/users/me/external-identities', user.accessToken, {
      token: await tokenFor(user),
      password: user.password,
    }),
)
row(
  ['one at a provider is', 'POST /v1/users/me/external-identities/oidc', ['ExternalIdentityLinked']],
  signedIn,
  async user => {
    const { password } = user
    const begun = await ask('POST', '/v1/users/me/external-identities/oidc', user.accessToken, {
      ...{ provider: 'alpha', password },
    })
    return passBack(begun, begun.body.authorizationUrl, atProvider(user.email))
  },
)
row(
  ['and unlinked', 'DELETE /v1/users/me/external-identities/{id}', ['ExternalIdentityUnlinked']],
  linked,
  user => ask('DELETE', `/v1/users/me/external-identities/${user.link}`, user.accessToken),
)
row(['an API key is made', 'POST /v1/api-keys', ['ApiKeyCreated']], signedIn, user =>
  ask('POST', '/v1/api-keys', user.accessToken, newKey(user)),
)
row(['and replaced', 'POST /v1/api-keys/{id}/rotate', ['ApiKeyRotated']], withApiKey, user =>
  ask('POST', `/v1/api-keys/${user.keyId}/rotate`, user.accessToken, { password: user.password }),
)
row(['and revoked', 'DELETE /v1/api-keys/{id}', ['ApiKeyRevoked']], withApiKey, user =>
  ask('DELETE', `/v1/api-keys/${user.keyId}`, user.accessToken),
)
row(
  ['staff revoke one', 'DELETE /v1/admin/users/{id}/api-keys/{keyId}', ['ApiKeyRevoked']],
  withApiKey,
  user => asRoot('DELETE', user, `api-keys/${user.keyId}`),
)
row(
  [
    'somebody deactivates their account',
    'POST /v1/users/me/deactivate',
    ['SessionRevoked', 'AccountDeactivated'],
  ],
  signedIn,
  user => ask('POST', '/v1/users/me/deactivate', user.accessToken, { password: user.password }),
)
row(
  ['staff deactivate it', 'POST /v1/admin/users/{id}/deactivate', ['SessionRevoked', 'AccountDeactivated']],
  signedIn,
  user => asRoot('POST', user, 'deactivate', reason),
)
row(
  ['staff activate it again', 'POST /v1/admin/users/{id}/reactivate', ['AccountReactivated']],
  async () => {
    const user = await signedIn()
    await asRoot('POST', user, 'deactivate', reason)
    return user
  },
  user => asRoot('POST', user, 'reactivate', reason),
)
row(
  ['staff give a role', 'PATCH /v1/admin/users/{id}/role', ['SessionRevoked', 'RoleChanged']],
  signedIn,
  user => asRoot('PATCH', user, 'role', { role: 'moderator' }),
)
row(['staff end the sessions', 'DELETE /v1/admin/users/{id}/sessions', ['SessionRevoked']], signedIn, user =>
  asRoot('DELETE', user, 'sessions'),
)

row(['mail to the address bounces', 'POST /v1/mail/callbacks', ['MailBlocked']], signedIn, async user => {
  await bounce(user)
  // It is blocked once.
  await bounce(user)
})
row(
  ['staff let mail go again', 'DELETE /v1/admin/users/{id}/mail-block', ['MailUnblocked']],
  async () => {
    const user = await signedIn()
    await bounce(user)
    return user
  },
  async user => {
    await asRoot('DELETE', user, 'mail-block')
    await asRoot('DELETE', user, 'mail-block')
  },
)

row(
  ['a member of staff looks at it', 'GET /v1/admin/users/{id}', ['StaffViewed']],
  async () => root,
  user => asRoot('GET', user, ''),
)

row(
  ['a request is refused, and nothing else tells of it', 'GET /v1/admin/users/{id}', ['RequestsRefused']],
  signedIn,
  async user => {
    for (let n = 0; n < 3; n++)
      expect((await ask('GET', `/v1/admin/users/${user.id}`, user.accessToken)).status).toBe(403)
    await gateway.identity.refusals.record()
  },
)

/** Routes whose changes need no event. */
const WITHOUT_EVENT = [
  'POST /v1/auth/2fa/enable',
  'POST /v1/auth/2fa/step-up',
  'POST /v1/auth/resend-verification',
]

const eventsOf = async (userId: string): Promise<string[]> =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key, topic }) => key === userId && topic === 'identity.events')
    .map(({ type }) => type.split('.').at(-1)!)
const isFailure = (name: string) => name === 'LoginFailed'

test.each(acts.map(act => [act[0][0], act] as const))('%s', async (_what, [[, , expected], before, act]) => {
  const who: { id: string } = await before()
  const known = (await eventsOf(who.id)).length
  await act(who as never)
  // Failed sign-ins are recorded in the background, and the order of the events does not matter.
  await vi.waitFor(async () =>
    expect((await eventsOf(who.id)).slice(known).sort()).toEqual([...expected].sort()),
  )
})

test('docs/events.md has this table, and no route or event is missing in it', async () => {
  const path = join(import.meta.dirname, '..', '..', '..', '..', 'docs', 'events.md')
  const [, text] = /^## What happens to accounts$[^|]*(\|[\s\S]*\|)\n\n/m.exec(
    readFileSync(path, 'utf8').split('## What happens to persons')[0]!,
  )!
  const rows = text!
    .trim()
    .split('\n')
    .slice(2)
    .map(line =>
      line
        .split('|')
        .slice(1, 4)
        .map(cell => cell.trim().replaceAll('`', '')),
    )
  expect(rows).toEqual(acts.map(([[what, route, events]]) => [what, route, [...new Set(events)].join(', ')]))

  const told = new Set(acts.flatMap(([[, , events]]) => events))
  const names = RECORD_NAMES.flatMap(name => /^pennywire\.identity\.(.+)$/.exec(name)?.slice(1) ?? [])
  const ofWebhooks = names.filter(name => name.startsWith('Webhook'))
  // Made by the room of privacy: tests/privacy.test.ts causes each of them.
  const ofPersons = ['DeletionCancelled', 'DeletionRequested', 'UserErased']
  const ofPersonsTable = readFileSync(path, 'utf8').split('| What happens to a person')[1]!.split('\n\n')[0]!
  expect([...new Set(ofPersonsTable.match(/(Deletion|User)[A-Z]\w+/g))].sort()).toEqual(ofPersons)
  expect([...told, ...ofWebhooks, ...ofPersons].sort()).toEqual(names.sort())
  // Made by the room of webhooks: tests/webhooks.test.ts causes each of them.
  const ofTable = readFileSync(path, 'utf8').split('| What happens to a webhook')[1]!.split('\n\n')[0]!
  expect([...new Set(ofTable.match(/Webhook[A-Z]\w+/g))].sort()).toEqual(ofWebhooks)

  const { paths } = (await ask('GET', '/openapi.json')).body as { paths: Record<string, object> }
  const changing = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods)
      .filter(method => method !== 'get')
      .map(method => `${method.toUpperCase()} ${path}`),
  )
  const routes = [...new Set([...acts.map(([[, route]]) => route), ...WITHOUT_EVENT])].filter(
    route => !route.startsWith('GET '),
  )
  expect(routes.sort()).toEqual(changing.sort())
})
