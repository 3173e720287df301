import { hash, randomUUID } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
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
import type { SignedInUser } from '../../access/requester.ts'
import { ProblemError } from '../../problems/problem.ts'

/** One fixed algorithm, never taken from the token (RFC 8725, 3.1). RS256, because it verifies fastest. */
const ALGORITHM = 'RS256'
const ACCESS_TYPE = 'at+jwt' // RFC 9068
const STEP_UP_TYPE = 'step-up+jwt'
const STAFF_STEP_UP_TYPE = 'staff-step-up+jwt'
/** Allowed clock skew between gateways. */
const CLOCK_TOLERANCE_SECONDS = 5
const CACHED_TOKENS = 20_000

export type Tokens = {
  /** Signs an access token for a session, valid for at most `secondsLeft`. */
  signAccess: (
    user: SignedInUser,
    secondsLeft?: number,
  ) => Promise<{ accessToken: string; expiresIn: number }>
  /** Returns a token's user. Throws TOKEN_EXPIRED or TOKEN_INVALID; does not check the session, see revocations. */
  verifyAccess: (token: string) => Promise<SignedInUser>
  /** Signs a token that states: this session's user entered the correct PIN at `at` (milliseconds since 1970). */
  signStepUp: (session: SignedInUser, at: number) => Promise<{ stepUpToken: string; expiresAt: Date }>
  /**
   * Returns when the PIN was entered. Throws STEP_UP_INVALID if the token is bad, expired, of another session, or not
   * newer than the last PIN lock.
   */
  verifyStepUp: (token: string, session: SignedInUser) => Promise<{ at: Date }>
  /** Signs a token that states: this session's user presented a second-factor code at `at`. For staff actions. */
  signStaffStepUp: (session: SignedInUser, at: number) => Promise<{ stepUpToken: string; expiresAt: Date }>
  /** Throws STEP_UP_INVALID if the token is bad, expired, of another session, or was issued for a PIN. */
  verifyStaffStepUp: (token: string, session: SignedInUser) => Promise<void>
  /** The current public keys, for `/.well-known/jwks.json`. */
  jwks: () => JSONWebKeySet
  /** Replaces the keys and clears the caches of verified tokens, so that no token stays valid under a removed key. */
  useKeys: (keys: JwtKey[]) => Promise<void>
}

/**
 * A key from the JWT_KEY_FILE: a private key signs and verifies, a public key only verifies. Before `signsFrom` (RFC
 * 3339) the key is published and verifies but does not sign; after `until` it is invalid. So all gateways load a new
 * key before one of them signs with it, and keep the old one until its tokens have expired.
 */
export type JwtKey = JWK & { signsFrom?: string | undefined; until?: string | undefined }

const publicPart = ({ kty, n, e, kid }: JWK): JWK => ({ kty, n, e, kid, alg: ALGORITHM, use: 'sig' }) as JWK

/**
 * Signs and verifies the gateway's own tokens. Access and step-up tokens differ in type and audience, so that neither
 * passes for the other (RFC 8725, 3.11 and 3.12). Verified claims are cached by token hash until the token or its key
 * expires: a signature check costs 80 µs of a core, and clients send the same token with every request.
 */
export const createTokens = async (options: {
  keys: JwtKey[]
  issuer: string
  audience: string
  accessTokenSeconds: number
  stepUpSeconds: number
  clock: Clock
}): Promise<Tokens> => {
  const { issuer, audience, accessTokenSeconds, stepUpSeconds, clock } = options
  const stepUpAudience = `${audience}/step-up`
  const staffStepUpAudience = `${audience}/staff-step-up`
  const importKeys = async (keys: JwtKey[]) =>
    Promise.all(
      keys.map(async jwk => ({
        kid: jwk.kid!,
        from: jwk.signsFrom === undefined ? 0 : Date.parse(jwk.signsFrom),
        until: jwk.until === undefined ? Number.POSITIVE_INFINITY : Date.parse(jwk.until),
        published: publicPart(jwk),
        verifies: await importJWK(publicPart(jwk), ALGORITHM),
        signs: jwk.d === undefined ? undefined : await importJWK(jwk, ALGORITHM),
      })),
    )
  let keys = await importKeys(options.keys)

  const keyOf: JWTVerifyGetKey = header => {
    const key = keys.find(({ kid, until }) => kid === header.kid && until > clock.now())
    if (!key) throw new errors.JWKSNoMatchingKey()
    return key.verifies
  }

  /** Of the keys that may sign now, the one with the latest `signsFrom`. */
  const signingKey = () => {
    const now = clock.now()
    const able = keys.filter(({ signs, from, until }) => signs !== undefined && from <= now && until > now)
    const newest = able.reduce<(typeof keys)[number] | undefined>(
      (best, key) => (best === undefined || key.from > best.from ? key : best),
      undefined,
    )
    if (!newest) throw new Error('JWT_KEY_FILE holds no key that may sign now')
    return { kid: newest.kid, key: newest.signs! }
  }

  const caches: Array<{ clear: () => void }> = []
  const verifier = <Claims extends object>(rule: {
    typ: string
    audience: string
    required: string[]
    read: (payload: JWTPayload) => Claims
  }) => {
    const verified = new LRUCache<string, Claims>({ max: CACHED_TOKENS })
    caches.push(verified)
    return async (token: string): Promise<Claims> => {
      const knownKeys = keys
      const digest = hash('sha256', token, 'base64')
      const known = verified.get(digest)
      if (known) return known
      const { payload, protectedHeader } = await jwtVerify(token, keyOf, {
        algorithms: [ALGORITHM],
        typ: rule.typ,
        issuer,
        audience: rule.audience,
        requiredClaims: ['exp', 'iat', 'nbf', 'jti', 'sub', 'sid', ...rule.required],
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
      })
      const claims = rule.read(payload)
      const until = knownKeys.find(({ kid }) => kid === protectedHeader.kid)?.until ?? 0
      const ttl = Math.min(payload.exp! * 1_000, until) - clock.now()
      if (ttl > 0 && knownKeys === keys) verified.set(digest, claims, { ttl })
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

  const readStaffStepUp = verifier({
    typ: STAFF_STEP_UP_TYPE,
    audience: staffStepUpAudience,
    required: ['code_at'],
    read: payload => ({ userId: payload.sub!, sessionId: payload.sid as string }),
  })

  const sign = (
    user: SignedInUser,
    claims: JWTPayload,
    token: { typ: string; audience: string; expires: number },
  ) => {
    const { kid, key } = signingKey()
    return new SignJWT({ ...claims, sid: user.sessionId })
      .setProtectedHeader({ alg: ALGORITHM, kid, typ: token.typ })
      .setIssuer(issuer)
      .setAudience(token.audience)
      .setSubject(user.userId)
      .setJti(randomUUID())
      .setIssuedAt()
      .setNotBefore('0s')
      .setExpirationTime(token.expires)
      .sign(key)
  }

  const inSeconds = (seconds: number) => Math.floor(clock.now() / 1_000) + seconds

  return {
    signAccess: async (user, secondsLeft = accessTokenSeconds) => {
      const expiresIn = Math.max(1, Math.min(accessTokenSeconds, Math.floor(secondsLeft)))
      const accessToken = await sign(
        user,
        { roles: user.roles },
        { typ: ACCESS_TYPE, audience, expires: inSeconds(expiresIn) },
      )
      return { accessToken, expiresIn }
    },
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
          "Step-Up-Token: must be this session's, not older than its life, and of after the last lock of the PIN.",
        )
      try {
        const { userId, sessionId, at } = await readStepUp(token)
        if (userId !== session.userId || sessionId !== session.sessionId) throw refused()
        if (session.pinLockedAt !== undefined && at.getTime() <= session.pinLockedAt) throw refused()
        return { at }
      } catch (error) {
        if (error instanceof errors.JOSEError) throw refused()
        throw error
      }
    },
    signStaffStepUp: async (session, at) => {
      const expires = inSeconds(stepUpSeconds)
      const token = { typ: STAFF_STEP_UP_TYPE, audience: staffStepUpAudience, expires }
      return {
        stepUpToken: await sign(session, { code_at: at }, token),
        expiresAt: new Date(expires * 1_000),
      }
    },
    verifyStaffStepUp: async (token, session) => {
      const detail =
        "Step-Up-Token: must be this session's, of POST /v1/auth/2fa/step-up, not older than its life."
      const refused = () => new ProblemError('STEP_UP_INVALID', detail)
      try {
        const { userId, sessionId } = await readStaffStepUp(token)
        if (userId !== session.userId || sessionId !== session.sessionId) throw refused()
      } catch (error) {
        if (error instanceof errors.JOSEError) throw refused()
        throw error
      }
    },
    jwks: () => ({
      keys: keys
        .filter(({ until }) => until > clock.now())
        .map(({ published }) => published) as JSONWebKeySet['keys'],
    }),
    useKeys: async next => {
      keys = await importKeys(next)
      for (const cache of caches) cache.clear()
    },
  }
}
