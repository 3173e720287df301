import { createHmac, randomUUID } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Database } from '@pennywire/runtime/database.ts'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase, decodeOutbox, setClocks } from '../../sql/test-database.ts'
import { createTestGateway, createTestKeys, type TestGateway, type TestKeys } from '../../test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

const ISSUER = 'https://sso.example'
const AWAY = 'https://away.example'
const PASSWORD = 'Correct-Horse-7'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway
let jwks: Server
let companyKey: JWK
let strangerKey: JWK
let linked: SignedIn

type SignedIn = Awaited<ReturnType<TestGateway['signedInUser']>>

const makeKey = async (kid: string): Promise<JWK> => ({
  ...(await exportJWK((await generateKeyPair('RS256', { extractable: true })).privateKey)),
  kid,
  alg: 'RS256',
})
const publicOf = ({ kty, n, e, kid, alg }: JWK) => ({ kty, n, e, kid, alg })

beforeAll(async () => {
  ;[companyKey, strangerKey] = await Promise.all([makeKey('sso-1'), makeKey('sso-1')])
  jwks = createServer((_request, response) => {
    response
      .writeHead(200, { 'content-type': 'application/json' })
      .end(JSON.stringify({ keys: [publicOf(companyKey)] }))
  })
  await new Promise<void>(resolve => jwks.listen(0, '127.0.0.1', resolve))
  const jwksUrl = `http://127.0.0.1:${(jwks.address() as AddressInfo).port}/jwks.json`
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  gateway = await createTestGateway({
    sql,
    databaseUrl: database.url,
    redisUrl,
    keys,
    env: {
      TRUSTED_ISSUERS: JSON.stringify([
        { issuer: ISSUER, jwksUrl, audience: 'pennywire' },
        { issuer: AWAY, jwksUrl: 'http://127.0.0.1:1/jwks.json', audience: 'pennywire' },
      ]),
    },
  })
  await vi.waitFor(() => gateway.identity.check())
  linked = await gateway.signedInUser()
  expect((await link(linked, await tokenFor('s-linked'))).status).toBe(201)
})

afterAll(async () => {
  gateway.stop()
  jwks.close()
  keys.remove()
  await sql.end()
  await database.drop()
})

const now = () => Math.floor(Date.now() / 1_000)
const claimsOf = (sub: string) => ({ iss: ISSUER, aud: 'pennywire', sub, iat: now(), exp: now() + 300 })
const header = { alg: 'RS256', kid: 'sso-1' }
const signed = (head: object, claims: object, key: JWK = companyKey) =>
  new SignJWT(claims as never).setProtectedHeader(head as never).sign({ ...key, alg: undefined } as never)
const tokenFor = (sub: string, more: object = {}) => signed(header, { ...claimsOf(sub), ...more })
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

const link = (user: SignedIn, token: string, password = PASSWORD) =>
  gateway.ask('POST', '/v1/users/me/external-identities', {
    token: user.accessToken,
    body: { token, password },
  })
const signIn = (token: string) => gateway.ask('POST', '/v1/auth/external', { body: { token } })
const codeOf = ({ status, body }: { status: number; body: { code?: string } }) => [status, body?.code]
const eventsOf = async (userId: string) =>
  (await decodeOutbox(sql, gateway.codec))
    .filter(({ key }) => key === userId)
    .map(({ type }) => type.split('.').at(-1))

describe('signing in', () => {
  test('a linked identity starts a session of ours, which ends like any other', async () => {
    const { status, body } = await signIn(await tokenFor('s-linked'))
    expect([status, body.user.id]).toEqual([200, linked.id])
    const me = () => gateway.ask('GET', '/v1/users/me', { token: body.accessToken })
    expect((await me()).status).toBe(200)
    const history = await gateway.ask('GET', '/v1/users/me/logins?limit=1', { token: body.accessToken })
    expect(history.body.items[0]).toMatchObject({ method: 'external', outcome: 'signed_in' })
    await gateway.ask('POST', '/v1/auth/logout-all', { token: body.accessToken })
    expect(codeOf(await me())).toEqual([401, 'TOKEN_REVOKED'])
    Object.assign(linked, await gateway.logIn(linked))
  })

  test('each token signs in once, also of several at once', async () => {
    const token = await tokenFor('s-linked', { jti: randomUUID() })
    const answers = await Promise.all([1, 2, 3].map(() => signIn(token)))
    expect(
      answers
        .map(codeOf)
        .map(([, code]) => code)
        .sort(),
    ).toEqual(['EXTERNAL_TOKEN_INVALID', 'EXTERNAL_TOKEN_INVALID', undefined])
  })

  test('the token itself is taken nowhere else', async () => {
    const foreign = await tokenFor('s-linked', {
      sid: randomUUID(),
      jti: 'j',
      nbf: now(),
      roles: ['super_admin'],
    })
    for (const token of [foreign, await signed({ ...header, typ: 'at+jwt' }, { ...claimsOf('s-linked') })]) {
      expect(codeOf(await gateway.ask('GET', '/v1/users/me', { token }))).toEqual([401, 'TOKEN_INVALID'])
    }
  })

  test('an address that the issuer claims names nobody', async () => {
    const victim = await gateway.signedInUser()
    const token = await tokenFor('s-other', { email: victim.email, email_verified: true })
    expect(codeOf(await signIn(token))).toEqual([403, 'EXTERNAL_IDENTITY_UNKNOWN'])
    expect(codeOf(await signIn(await tokenFor(victim.id)))).toEqual([403, 'EXTERNAL_IDENTITY_UNKNOWN'])
  })

  test('a disabled account stays shut', async () => {
    const user = await gateway.signedInUser()
    expect((await link(user, await tokenFor('s-disabled'))).status).toBe(201)
    await setClocks.disableUser(sql, user.id)
    expect(codeOf(await signIn(await tokenFor('s-disabled')))).toEqual([403, 'ACCOUNT_DISABLED'])
    await vi.waitFor(async () => expect(await eventsOf(user.id)).toContain('LoginFailed'))
  })

  test('an issuer whose keys are away is no wrong token', async () => {
    const answer = await signIn(await tokenFor('s-linked', { iss: AWAY }))
    expect([...codeOf(answer), answer.body.retryable]).toEqual([503, 'SERVICE_UNAVAILABLE', true])
  })
})

describe('RFC 8725: refused as EXTERNAL_TOKEN_INVALID', () => {
  const hs256 = (secret: string | Buffer) => {
    const text = `${encode({ ...header, alg: 'HS256' })}.${encode(claimsOf('s-linked'))}`
    return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
  }
  const cases: Array<[string, () => string | Promise<string>]> = [
    [
      'no signature (alg none)',
      () => `${encode({ ...header, alg: 'none' })}.${encode(claimsOf('s-linked'))}.`,
    ],
    ['HS256 with the public key', () => hs256(JSON.stringify(publicOf(companyKey)))],
    ['HS256 with its modulus', () => hs256(Buffer.from(companyKey.n!, 'base64url'))],
    ['another hash of the same key', () => signed({ ...header, alg: 'RS512' }, claimsOf('s-linked'))],
    ['an issuer that nobody trusts', () => tokenFor('s-linked', { iss: 'https://evil.example' })],
    ['no issuer', () => tokenFor('s-linked', { iss: undefined })],
    ['a token for somebody else', () => tokenFor('s-linked', { aud: 'other' })],
    ['a token for nobody', () => tokenFor('s-linked', { aud: undefined })],
    ['another type', () => signed({ ...header, typ: 'step-up+jwt' }, claimsOf('s-linked'))],
    ['an unknown key', () => signed({ ...header, kid: 'sso-2' }, claimsOf('s-linked'))],
    ['another key by the same id', () => signed(header, claimsOf('s-linked'), strangerKey)],
    [
      'a key of its own in the header',
      () => signed({ ...header, jwk: publicOf(strangerKey) }, claimsOf('s-linked'), strangerKey),
    ],
    [
      'an address of keys in the header',
      () => signed({ ...header, jku: 'http://127.0.0.1:1/jwks' }, claimsOf('s-linked'), strangerKey),
    ],
    ['expired', () => tokenFor('s-linked', { exp: now() - 10 })],
    ['never to expire', () => tokenFor('s-linked', { exp: undefined })],
    ['not valid yet', () => tokenFor('s-linked', { nbf: now() + 60 })],
    ['made in the future', () => tokenFor('s-linked', { iat: now() + 60 })],
    ['made long ago', () => tokenFor('s-linked', { iat: now() - 7_200, exp: now() + 7_200 })],
    ['about nobody', () => tokenFor('s-linked', { sub: undefined })],
    ['about somebody whom no table could keep', () => tokenFor('s-\u0000')],
    ['about somebody whom a table would take for another', () => tokenFor('s-\ud800')],
    [
      'tampered with',
      async () => {
        const [head, , signature] = (await tokenFor('s-1')).split('.')
        return `${head}.${encode(claimsOf('s-linked'))}.${signature}`
      },
    ],
    ['one of ours', () => linked.accessToken],
    ['no token at all', () => 'abc'],
  ]
  test.each(cases)('%s', async (_name, make) => {
    expect(codeOf(await signIn(await make()))).toEqual([401, 'EXTERNAL_TOKEN_INVALID'])
  })
})

describe('linking', () => {
  test('needs the password, and is once and for one account', async () => {
    const user = await gateway.signedInUser()
    const stranger = await gateway.signedInUser()
    const token = await tokenFor('s-new')
    expect(codeOf(await link(user, token, 'Wrong-Horse-7'))).toEqual([400, 'PASSWORD_MISMATCH'])
    expect(codeOf(await link(user, 'abc'))).toEqual([401, 'EXTERNAL_TOKEN_INVALID'])
    const answers = await Promise.all([link(user, token), link(user, token)])
    expect(answers.map(codeOf).map(String).sort()).toEqual(['201,', '409,EXTERNAL_IDENTITY_TAKEN'])
    expect(codeOf(await link(stranger, token))).toEqual([409, 'EXTERNAL_IDENTITY_TAKEN'])

    const list = async (of: SignedIn) =>
      (await gateway.ask('GET', '/v1/users/me/external-identities', { token: of.accessToken })).body.items
    const [item] = await list(user)
    expect(item).toMatchObject({ issuer: ISSUER, subject: 's-new' })
    expect(await list(stranger)).toEqual([])
    const unlink = (of: SignedIn) =>
      gateway.ask('DELETE', `/v1/users/me/external-identities/${item.id}`, { token: of.accessToken })
    expect(codeOf(await unlink(stranger))).toEqual([404, 'EXTERNAL_IDENTITY_NOT_FOUND'])
    expect((await signIn(await tokenFor('s-new'))).status).toBe(200)
    expect((await unlink(user)).status).toBe(200)
    expect(codeOf(await signIn(await tokenFor('s-new')))).toEqual([403, 'EXTERNAL_IDENTITY_UNKNOWN'])
    expect(await eventsOf(user.id)).toEqual(
      expect.arrayContaining(['ExternalIdentityLinked', 'ExternalIdentityUnlinked']),
    )
  })
})
