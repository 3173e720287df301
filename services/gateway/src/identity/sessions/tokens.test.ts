import { createHmac, createPublicKey } from 'node:crypto'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { beforeAll, describe, expect, test, vi } from 'vitest'
import type { SignedInUser } from '../../access/requester.ts'
import { createTokens, type Tokens } from './tokens.ts'

const user: SignedInUser = { userId: 'u-1', sessionId: 's-1', roles: ['user'] }
const issuer = 'pennywire'
const audience = 'pennywire-api'

let signingKey: JWK
let tokens: Tokens

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  signingKey = { ...(await exportJWK(pair.privateKey)), kid: 'k-1' }
  tokens = await createTokens({
    keys: [signingKey],
    issuer,
    audience,
    accessTokenSeconds: 900,
    stepUpSeconds: 300,
    clock: systemClock,
  })
})

const now = () => Math.floor(Date.now() / 1_000)
const good = () => ({
  iss: issuer,
  aud: audience,
  sub: 'u-1',
  sid: 's-1',
  roles: ['user'],
  jti: 'j',
  iat: now(),
  nbf: now(),
  exp: now() + 900,
})
const goodHeader = { alg: 'RS256', kid: 'k-1', typ: 'at+jwt' }
const publicOf = ({ kty, n, e, kid }: JWK): JWK => ({ kty, n, e, kid }) as JWK
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const signed = (header: object, payload: object) =>
  new SignJWT(payload as never).setProtectedHeader(header as never).sign(signingKey)

test('a token of ours says who it is', async () => {
  const { accessToken, expiresIn } = await tokens.signAccess(user)
  expect(expiresIn).toBe(900)
  expect(await tokens.verifyAccess(accessToken)).toEqual(user)
  expect(await tokens.verifyAccess(accessToken)).toEqual(user) // from the cache
  expect(await tokens.verifyAccess(await signed(goodHeader, good()))).toEqual(user)
})

describe('RFC 8725: refused as TOKEN_INVALID', () => {
  const cases: Array<[string, () => string | Promise<string>]> = [
    ['no signature (alg none)', () => `${encode({ ...goodHeader, alg: 'none' })}.${encode(good())}.`],
    [
      'HS256 with the public key as its secret',
      () => {
        const pem = createPublicKey({ key: signingKey as never, format: 'jwk' }).export({
          type: 'spki',
          format: 'pem',
        })
        const text = `${encode({ ...goodHeader, alg: 'HS256' })}.${encode(good())}`
        return `${text}.${createHmac('sha256', pem).update(text).digest('base64url')}`
      },
    ],
    [
      'HS256 with the published key as its secret',
      () => {
        const text = `${encode({ ...goodHeader, alg: 'HS256' })}.${encode(good())}`
        const secret = Buffer.from(signingKey.n!, 'base64url')
        return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
      },
    ],
    ['another algorithm of the same key', () => signed({ ...goodHeader, alg: 'PS256' }, good())],
    ['another hash of the same key', () => signed({ ...goodHeader, alg: 'RS512' }, good())],
    [
      'None, in other letters',
      async () => {
        const [, payload] = (await signed(goodHeader, good())).split('.')
        return `${encode({ ...goodHeader, alg: 'nOnE' })}.${payload}.`
      },
    ],
    ['no signature (cut off)', async () => `${(await signed(goodHeader, good())).split('.', 2).join('.')}.`],
    [
      'the signature changed',
      async () => {
        const [head, payload, signature] = (await signed(goodHeader, good())).split('.')
        return `${head}.${payload}.${signature!.startsWith('A') ? 'B' : 'A'}${signature!.slice(1)}`
      },
    ],
    [
      'the header changed',
      async () => {
        const [, payload, signature] = (await signed(goodHeader, good())).split('.')
        return `${encode({ ...goodHeader, x: 1 })}.${payload}.${signature}`
      },
    ],
    [
      'an extension that must be understood',
      async () => {
        const [, payload] = (await signed(goodHeader, good())).split('.')
        return `${encode({ ...goodHeader, crit: ['x'], x: 1 })}.${payload}.AAAA`
      },
    ],
    ['a key id that leads elsewhere', () => signed({ ...goodHeader, kid: '../../k-1' }, good())],
    ['no subject', () => signed(goodHeader, { ...good(), sub: undefined })],
    ['no issuer', () => signed(goodHeader, { ...good(), iss: undefined })],
    ['no audience', () => signed(goodHeader, { ...good(), aud: undefined })],
    ['no roles', () => signed(goodHeader, { ...good(), roles: undefined })],
    ['another issuer', () => signed(goodHeader, { ...good(), iss: 'else' })],
    ['another audience', () => signed(goodHeader, { ...good(), aud: 'else' })],
    ['another type', () => signed({ ...goodHeader, typ: 'JWT' }, good())],
    ['no type', () => signed({ alg: 'RS256', kid: 'k-1' }, good())],
    ['an unknown key', () => signed({ ...goodHeader, kid: 'k-2' }, good())],
    ['no key id', () => signed({ alg: 'RS256', typ: 'at+jwt' }, good())],
    ['no session', () => signed(goodHeader, { ...good(), sid: undefined })],
    ['no expiry', () => signed(goodHeader, { ...good(), exp: undefined })],
    ['not valid yet', () => signed(goodHeader, { ...good(), nbf: now() + 60 })],
    [
      'the payload changed',
      async () => {
        const [head, , signature] = (await tokens.signAccess(user)).accessToken.split('.')
        return `${head}.${encode({ ...good(), sub: 'u-2' })}.${signature}`
      },
    ],
    [
      'a key of its own in the header',
      async () => {
        const pair = await generateKeyPair('RS256', { extractable: true })
        const jwk = await exportJWK(pair.publicKey)
        return new SignJWT(good()).setProtectedHeader({ ...goodHeader, jwk } as never).sign(pair.privateKey)
      },
    ],
    ['a step-up token', async () => (await tokens.signStepUp(user, Date.now())).stepUpToken],
    ['no token at all', () => 'abc'],
  ]
  test.each(cases)('%s', async (_name, make) => {
    await expect(tokens.verifyAccess(await make())).rejects.toMatchObject({ code: 'TOKEN_INVALID' })
  })
})

test('an expired token says so, and is not taken from memory', async () => {
  await expect(
    tokens.verifyAccess(await signed(goodHeader, { ...good(), exp: now() - 10 })),
  ).rejects.toMatchObject({
    code: 'TOKEN_EXPIRED',
  })
})

test('a step-up token is good for its own session only, and an access token is none', async () => {
  const at = Date.now() - 1_000
  const { stepUpToken, expiresAt } = await tokens.signStepUp(user, at)
  expect(await tokens.verifyStepUp(stepUpToken, user)).toEqual({ at: new Date(at) })
  expect(expiresAt.getTime()).toBeGreaterThan(Date.now() + 290_000)
  const refused = { code: 'STEP_UP_INVALID' }
  await expect(tokens.verifyStepUp(stepUpToken, { ...user, sessionId: 's-2' })).rejects.toMatchObject(refused)
  await expect(tokens.verifyStepUp(stepUpToken, { ...user, userId: 'u-2' })).rejects.toMatchObject(refused)
  const { accessToken } = await tokens.signAccess(user)
  await expect(tokens.verifyStepUp(accessToken, user)).rejects.toMatchObject(refused)
})

test('rotation: a key that is published beside the signing one is accepted; no private part is published', async () => {
  const next = await generateKeyPair('RS256', { extractable: true })
  const nextKey: JWK = { ...(await exportJWK(next.privateKey)), kid: 'k-2' }
  const rotated = await createTokens({
    keys: [nextKey, publicOf(signingKey)],
    issuer,
    audience,
    accessTokenSeconds: 900,
    stepUpSeconds: 300,
    clock: systemClock,
  })
  expect(await rotated.verifyAccess((await tokens.signAccess(user)).accessToken)).toEqual(user)
  expect(rotated.jwks().keys.map(key => Object.keys(key).sort())).toEqual([
    ['alg', 'e', 'kid', 'kty', 'n', 'use'],
    ['alg', 'e', 'kid', 'kty', 'n', 'use'],
  ])
})

test('a key is worth nothing after its time, for tokens that are remembered as well', async () => {
  const ending = { ...signingKey, until: new Date(Date.now() + 300).toISOString() }
  const settings = { issuer, audience, accessTokenSeconds: 900, stepUpSeconds: 300 }
  const rotating = await createTokens({ ...settings, clock: systemClock, keys: [ending] })
  const { accessToken } = await tokens.signAccess(user)
  expect(await rotating.verifyAccess(accessToken)).toEqual(user)
  await vi.waitFor(() =>
    expect(rotating.verifyAccess(accessToken)).rejects.toMatchObject({ code: 'TOKEN_INVALID' }),
  )
})

test('rotation without a gap: the next key is published before it signs, the last one verifies until its time', async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  const nextKey: JWK = { ...(await exportJWK(pair.privateKey)), kid: 'k-2' }
  const at = (ms: number) => new Date(Date.now() + ms).toISOString()
  const settings = { issuer, audience, accessTokenSeconds: 900, stepUpSeconds: 300 }
  const kidOf = async (by: Tokens) =>
    JSON.parse(Buffer.from((await by.signAccess(user)).accessToken.split('.')[0]!, 'base64url').toString())
      .kid
  const kidsOf = (by: Tokens) => by.jwks().keys.map(({ kid }) => kid)

  const rotating = await createTokens({ ...settings, clock: systemClock, keys: [signingKey] })
  const before = (await rotating.signAccess(user)).accessToken
  await rotating.useKeys([
    { ...nextKey, signsFrom: at(60_000) },
    { ...signingKey, until: at(600_000) },
  ])
  expect([await kidOf(rotating), kidsOf(rotating)]).toEqual(['k-1', ['k-2', 'k-1']])
  await rotating.useKeys([
    { ...nextKey, signsFrom: at(-1) },
    { ...signingKey, until: at(600_000) },
  ])
  expect([await kidOf(rotating), await rotating.verifyAccess(before)]).toEqual(['k-2', user])
  // A token verified with a removed key is not accepted from the cache either.
  await rotating.useKeys([
    { ...nextKey, signsFrom: at(-1) },
    { ...signingKey, until: at(-1) },
  ])
  expect(kidsOf(rotating)).toEqual(['k-2'])
  await expect(rotating.verifyAccess(before)).rejects.toMatchObject({ code: 'TOKEN_INVALID' })
})
