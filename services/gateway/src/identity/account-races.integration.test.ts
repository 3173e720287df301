// Whatever changes who may get into an account, done beside everything else that does: on several gateways at once, and
// in the order that would hurt.
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Database } from '@pennywire/runtime/database.ts'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { Secret, TOTP } from 'otpauth'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase, decodeOutbox, holdUser, readLive, setClocks } from '../sql/test-database.ts'
import { insertMailedToken } from '../sql/users.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../test-gateway.ts'
import { sha256 } from './sessions.ts'
import { passProvider, startOidcProvider } from './test-oidc-provider.ts'

const { superuserUrl, redisUrl } = inject('stack')

const PASSWORD = 'Correct-Horse-7'
const NEXT = 'Battery-Staple-8'
const PINS = ['482915', '730164']
const ISSUER = 'https://sso.example'
const CLIENT = { clientId: 'pennywire', clientSecret: 'known-to-both-sides' }

type User = Awaited<ReturnType<TestGateway['signedInUser']>>
type Answer = Awaited<ReturnType<TestGateway['ask']>>

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let other: TestGateway
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
  const env = {
    BOOTSTRAP_ADMIN_EMAIL: 'root@example.com',
    OIDC_PROVIDERS_FILE: keys.file('oidc.json', {
      providers: [{ name: 'alpha', label: 'Alpha', issuer: provider.issuer, ...CLIENT }],
    }),
    TRUSTED_ISSUERS: JSON.stringify([{ issuer: ISSUER, jwksUrl, audience: 'pennywire' }]),
  }
  const open = () => createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
  ;[gateway, other] = await Promise.all([open(), open()])
  await vi.waitFor(() => Promise.all([gateway.identity.check(), other.identity.check()]))
  root = await gateway.signedInUser({ email: 'root@example.com' })
})

afterAll(async () => {
  gateway.stop()
  other.stop()
  jwks.close()
  provider.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const codeOf = ({ status, body }: { status: number; body: { code?: string } }) => [status, body?.code]
const post = (path: string, body: object | undefined, token?: string, through = gateway) =>
  through.ask('POST', path, { ...(body ? { body } : {}), ...(token === undefined ? {} : { token }) })
const remove = (path: string, token: string, body?: object, through = gateway) =>
  through.ask('DELETE', path, { token, ...(body ? { body } : {}) })
const newCode = (secret: string) => new TOTP({ secret: Secret.fromBase32(secret) }).generate()
const externalToken = (subject: string) =>
  new SignJWT({})
    .setProtectedHeader({ alg: 'RS256', kid: 'sso-1' })
    .setIssuer(ISSUER)
    .setAudience('pennywire')
    .setSubject(subject)
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign({ ...companyKey, alg: 'RS256' } as never)
const link = async (user: User, password = PASSWORD, subject = user.id) =>
  post('/v1/users/me/external-identities', { token: await externalToken(subject), password }, user.accessToken)
const signInBy = async (subject: string, through = gateway) =>
  post('/v1/auth/external', { token: await externalToken(subject) }, undefined, through)
const identitiesOf = async (token: string): Promise<Array<{ id: string }>> =>
  (await gateway.ask('GET', '/v1/users/me/external-identities', { token })).body.items
const enableSecondFactor = async (user: User) => {
  const { body } = await post('/v1/auth/2fa/enable', { password: PASSWORD }, user.accessToken)
  const { status } = await post('/v1/auth/2fa/confirm', { code: newCode(body.secret) }, user.accessToken)
  expect(status).toBe(200)
  await setClocks.forgetCodeStep(sql, user.id)
  return body.secret as string
}
/** A link for a new password, as if it had come by mail. */
const resetToken = async (userId: string) => {
  const token = randomBytes(32).toString('base64url')
  const expiresAt = new Date(Date.now() + 60_000)
  await sql.begin(tx =>
    insertMailedToken(tx, { hash: sha256(token), userId, purpose: 'reset_password', expiresAt }),
  )
  return token
}
/** Up to where the provider sends the browser back. */
const goThrough = async (begun: Answer, url: string, sub: string) => {
  const cookie = begun.headers.getSetCookie()[0]!.split(';')[0]!
  const { pathname, search } = await passProvider(url, sub)
  return (through = gateway) => through.ask('GET', `${pathname}${search}`, { headers: { cookie } })
}
const atProvider = (email: string) => {
  provider.people.set(email, { sub: email, email, email_verified: true, name: 'Olga Open' })
  return email
}
const goToProvider = async (email: string) => {
  const begun = await gateway.ask('GET', '/v1/auth/oidc/alpha')
  return goThrough(begun, begun.headers.get('location')!, atProvider(email))
}
const beginLink = async (user: User) => {
  const begun = await post(
    '/v1/users/me/external-identities/oidc',
    { provider: 'alpha', password: PASSWORD },
    user.accessToken,
  )
  return goThrough(begun, begun.body.authorizationUrl, atProvider(`${randomUUID()}@example.com`))
}

/** Starts the requests one after the other, each once the one before waits for the user, and then lets go of them. */
const inOrder = async (userId: string, requests: Array<() => Promise<Answer>>): Promise<Answer[]> => {
  const held = await holdUser(sql, userId)
  const answers: Array<Promise<Answer>> = []
  for (const request of requests) {
    answers.push(request())
    await vi.waitFor(async () => expect(await held.waiting()).toBe(answers.length))
  }
  await held.release()
  return Promise.all(answers)
}

describe('what was allowed with the old password is not done after it has changed', () => {
  test('a link by token', async () => {
    const user = await gateway.signedInUser()
    const token = await resetToken(user.id)
    const [reset, linked] = await inOrder(user.id, [
      () => post('/v1/auth/reset-password', { token, password: NEXT }),
      () => link(user),
    ])
    expect([codeOf(reset!), codeOf(linked!)]).toEqual([
      [200, undefined],
      [400, 'PASSWORD_MISMATCH'],
    ])
    expect(codeOf(await signInBy(user.id))).toEqual([403, 'EXTERNAL_IDENTITY_UNKNOWN'])
  })

  test('a link at a provider, although the session goes on', async () => {
    const user = await gateway.signedInUser()
    const callback = await beginLink(user)
    const passwords = { currentPassword: PASSWORD, newPassword: NEXT }
    expect((await post('/v1/auth/change-password', passwords, user.accessToken)).status).toBe(200)
    expect(codeOf(await callback())).toEqual([400, 'OIDC_STATE_INVALID'])
    expect(await identitiesOf(user.accessToken)).toEqual([])
  })
})

test('a link at a provider and the end of the account do not wait for each other', async () => {
  const user = await gateway.signedInUser()
  const callback = await beginLink(user)
  const [ended, linked] = await inOrder(user.id, [
    () => post('/v1/users/me/deactivate', { password: PASSWORD }, user.accessToken),
    () => callback(),
  ])
  expect([codeOf(ended!), codeOf(linked!)]).toEqual([
    [200, undefined],
    [400, 'OIDC_STATE_INVALID'],
  ])
})

test('a session that has just ended turns no second factor on', async () => {
  const user = await gateway.signedInUser()
  const { body } = await post('/v1/auth/2fa/enable', { password: PASSWORD }, user.accessToken)
  const token = await resetToken(user.id)
  const [reset, confirmed] = await inOrder(user.id, [
    () => post('/v1/auth/reset-password', { token, password: NEXT }),
    () => post('/v1/auth/2fa/confirm', { code: newCode(body.secret) }, user.accessToken),
  ])
  expect([codeOf(reset!), codeOf(confirmed!)]).toEqual([
    [200, undefined],
    [401, 'TOKEN_REVOKED'],
  ])
  const login = await post('/v1/auth/login', { email: user.email, password: NEXT })
  expect(login.body.secondFactorRequired).toBeUndefined()
})

describe('an identity that is unlinked', () => {
  const linkedUser = async () => {
    const user = await gateway.signedInUser()
    const { body } = await link(user)
    return { ...user, path: `/v1/users/me/external-identities/${body.id}` }
  }

  test('leaves no session behind, however it was started; the owner hears of it', async () => {
    const user = await linkedUser()
    const { body } = await signInBy(user.id)
    expect((await remove(user.path, user.accessToken)).status).toBe(200)
    for (const through of [gateway, other]) {
      const me = (token: string) => through.ask('GET', '/v1/users/me', { token })
      expect(codeOf(await me(body.accessToken))).toEqual([401, 'TOKEN_REVOKED'])
      expect((await me(user.accessToken)).status).toBe(200)
    }
    const mails = (await decodeOutbox(sql, gateway.codec)).flatMap(record =>
      record.type === 'pennywire.notifier.MailRequested' && record.key === user.id
        ? [record.value.template]
        : [],
    )
    expect(mails.slice(-2)).toEqual(['external_identity_linked', 'external_identity_unlinked'])
  })

  test('ends no sign-in that it began', async () => {
    const user = await linkedUser()
    const [unlinked, signedIn] = await inOrder(user.id, [
      () => remove(user.path, user.accessToken),
      () => signInBy(user.id, other),
    ])
    expect([codeOf(unlinked!), codeOf(signedIn!)]).toEqual([
      [200, undefined],
      [503, 'SERVICE_UNAVAILABLE'],
    ])
  })

  test('nor one that waits for its second step', async () => {
    const user = await linkedUser()
    const secret = await enableSecondFactor(user)
    const { body } = await signInBy(user.id)
    expect((await remove(user.path, user.accessToken)).status).toBe(200)
    const proof = { challengeToken: body.challengeToken, code: newCode(secret) }
    expect(codeOf(await post('/v1/auth/2fa/verify', proof))).toEqual([401, 'CHALLENGE_INVALID'])
  })
})
