import { createHmac, createPublicKey } from 'node:crypto'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { beforeAll, describe, expect, test } from 'vitest'
import type { SignedInUser } from '../routes/define-route.ts'
import { createTokens, type Tokens } from './tokens.ts'

const user: SignedInUser = { userId: 'u-1', sessionId: 's-1', roles: ['user'] }
const issuer = 'pennywire'
const audience = 'pennywire-api'

let signingKey: JWK
let tokens: Tokens

beforeAll(async () => {
  const pair = await generateKeyPair('RS256', { extractable: true })
  signingKey = { ...(await exportJWK(pair.privateKey)), kid: 'k-1' }
  tokens = await createTokens({ signingKey, issuer, audience, accessTokenSeconds: 900, stepUpSeconds: 300 })
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
const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const signed = (header: object, payload: object) =>
  new SignJWT(payload as never).setProtectedHeader(header as never).sign(signingKey)

test('a token of ours says who it is', async () => {
  const { accessToken, expiresIn } = await tokens.signAccess(user)
  expect(expiresIn).toBe(900)
  expect(await tokens.verifyAccess(accessToken)).toEqual(user)
  expect(await tokens.verifyAccess(accessToken)).toEqual(user) // remembered
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
    signingKey: nextKey,
    otherKeys: [signingKey],
    issuer,
    audience,
    accessTokenSeconds: 900,
    stepUpSeconds: 300,
  })
  expect(await rotated.verifyAccess((await tokens.signAccess(user)).accessToken)).toEqual(user)
  expect(rotated.jwks.keys.map(key => Object.keys(key).sort())).toEqual([
    ['alg', 'e', 'kid', 'kty', 'n', 'use'],
    ['alg', 'e', 'kid', 'kty', 'n', 'use'],
  ])
})
