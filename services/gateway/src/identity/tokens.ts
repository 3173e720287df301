import { hash, randomUUID } from 'node:crypto'
import {
  errors,
  importJWK,
  type JSONWebKeySet,
  type JWK,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
  SignJWT,
} from 'jose'
import { LRUCache } from 'lru-cache'
import { ProblemError } from '../problems.ts'
import type { SignedInUser } from '../routes/define-route.ts'

/** One algorithm, never the token's choice (RFC 8725, 3.1). RS256 is the one that is verified fastest. */
const ALGORITHM = 'RS256'
const ACCESS_TYPE = 'at+jwt' // RFC 9068
const STEP_UP_TYPE = 'step-up+jwt'
/** Gateways' clocks may differ by so much. */
const CLOCK_TOLERANCE_SECONDS = 5
const CACHED_TOKENS = 20_000

export type Tokens = {
  /** A new access token for a session. */
  signAccess: (user: SignedInUser) => Promise<{ accessToken: string; expiresIn: number }>
  /** Whose token it is. Throws TOKEN_EXPIRED or TOKEN_INVALID; says nothing about the session, see revocations. */
  verifyAccess: (token: string) => Promise<SignedInUser>
  /** A token that says: this session's user gave the right PIN at `at` (milliseconds since 1970). */
  signStepUp: (session: SignedInUser, at: number) => Promise<{ stepUpToken: string; expiresAt: Date }>
  /** When the PIN was given. Throws STEP_UP_INVALID for a bad or expired token, or another session's. */
  verifyStepUp: (token: string, session: SignedInUser) => Promise<{ at: Date }>
  /** The public keys, for `/.well-known/jwks.json`. */
  jwks: JSONWebKeySet
}

const publicPart = ({ kty, n, e, kid }: JWK): JWK => ({ kty, n, e, kid, alg: ALGORITHM, use: 'sig' }) as JWK

/**
 * Signs and verifies the gateway's own tokens. Access and step-up tokens differ in type and audience, so that
 * neither passes for the other (RFC 8725, 3.11 and 3.12). What was verified is remembered until it expires, by the
 * token's hash: a signature costs 80 µs of a core, and clients send the same token with every request.
 */
export const createTokens = async (options: {
  signingKey: JWK
  /** Public keys that signed before or will sign next. */
  otherKeys?: JWK[]
  issuer: string
  audience: string
  accessTokenSeconds: number
  stepUpSeconds: number
}): Promise<Tokens> => {
  const { issuer, audience, accessTokenSeconds, stepUpSeconds } = options
  const stepUpAudience = `${audience}/step-up`
  const kid = options.signingKey.kid!
  const signingKey = await importJWK(options.signingKey, ALGORITHM)
  const published = [options.signingKey, ...(options.otherKeys ?? [])].map(publicPart)
  const publicKeys = new Map(
    await Promise.all(published.map(async jwk => [jwk.kid, await importJWK(jwk, ALGORITHM)] as const)),
  )

  const keyOf: JWTVerifyGetKey = header => {
    const key = publicKeys.get(header.kid)
    if (!key) throw new errors.JWKSNoMatchingKey()
    return key
  }

  const verifier = <Claims extends object>(rule: {
    typ: string
    audience: string
    required: string[]
    read: (payload: JWTPayload) => Claims
  }) => {
    const verified = new LRUCache<string, Claims>({ max: CACHED_TOKENS })
    return async (token: string): Promise<Claims> => {
      const digest = hash('sha256', token, 'base64')
      const known = verified.get(digest)
      if (known) return known
      const { payload } = await jwtVerify(token, keyOf, {
        algorithms: [ALGORITHM],
        typ: rule.typ,
        issuer,
        audience: rule.audience,
        requiredClaims: ['exp', 'iat', 'nbf', 'jti', 'sub', 'sid', ...rule.required],
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
      })
      const claims = rule.read(payload)
      const ttl = payload.exp! * 1_000 - Date.now()
      if (ttl > 0) verified.set(digest, claims, { ttl })
      return claims
    }
  }

  const readAccess = verifier({
    typ: ACCESS_TYPE,
    audience,
    required: ['roles'],
    read: (payload): SignedInUser => ({
      userId: payload.sub!,
      sessionId: payload.sid as string,
      roles: payload.roles as string[],
    }),
  })
  const readStepUp = verifier({
    typ: STEP_UP_TYPE,
    audience: stepUpAudience,
    required: ['pin_at'],
    read: payload => ({
      userId: payload.sub!,
      sessionId: payload.sid as string,
      at: new Date(payload.pin_at as number),
    }),
  })

  const sign = (
    user: SignedInUser,
    claims: JWTPayload,
    token: { typ: string; audience: string; expires: number },
  ) =>
    new SignJWT({ ...claims, sid: user.sessionId })
      .setProtectedHeader({ alg: ALGORITHM, kid, typ: token.typ })
      .setIssuer(issuer)
      .setAudience(token.audience)
      .setSubject(user.userId)
      .setJti(randomUUID())
      .setIssuedAt()
      .setNotBefore('0s')
      .setExpirationTime(token.expires)
      .sign(signingKey)

  const inSeconds = (seconds: number) => Math.floor(Date.now() / 1_000) + seconds

  return {
    signAccess: async user => ({
      accessToken: await sign(
        user,
        { roles: user.roles },
        { typ: ACCESS_TYPE, audience, expires: inSeconds(accessTokenSeconds) },
      ),
      expiresIn: accessTokenSeconds,
    }),
    verifyAccess: async token => {
      try {
        return await readAccess(token)
      } catch (error) {
        if (error instanceof errors.JWTExpired)
          throw new ProblemError('TOKEN_EXPIRED', 'The access token has expired.')
        if (error instanceof errors.JOSEError)
          throw new ProblemError('TOKEN_INVALID', 'The access token is not valid.')
        throw error
      }
    },
    signStepUp: async (session, at) => {
      const expires = inSeconds(stepUpSeconds)
      const stepUpToken = await sign(
        session,
        { pin_at: at },
        { typ: STEP_UP_TYPE, audience: stepUpAudience, expires },
      )
      return { stepUpToken, expiresAt: new Date(expires * 1_000) }
    },
    verifyStepUp: async (token, session) => {
      const refused = () =>
        new ProblemError(
          'STEP_UP_INVALID',
          "Step-Up-Token: must be this session's and not older than its life.",
        )
      try {
        const { userId, sessionId, at } = await readStepUp(token)
        if (userId !== session.userId || sessionId !== session.sessionId) throw refused()
        return { at }
      } catch (error) {
        if (error instanceof errors.JOSEError) throw refused()
        throw error
      }
    },
    jwks: { keys: published as JSONWebKeySet['keys'] },
  }
}
