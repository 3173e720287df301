import { isLoopback } from '@pennywire/runtime/unsafe-settings.ts'
import { createRemoteJWKSet, decodeJwt, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import { ProblemError } from '../../problems/problem.ts'

/** HTTPS, or HTTP on loopback: traffic to the URL cannot be read or changed on the way. */
export const secureUrl = z.url().refine(url => {
  const { protocol, hostname } = new URL(url)
  return protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))
}, 'must be https')

export const trustedIssuer = z.strictObject({
  issuer: z.string().min(1).max(256),
  jwksUrl: secureUrl,
  audience: z.string().min(1).max(256),
})
export type TrustedIssuer = z.output<typeof trustedIssuer>

/** Asymmetric algorithms only, never chosen by the token (RFC 8725, 3.1 and 3.2). */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA']
/** ID tokens and access tokens (RFC 9068); no tokens made for another purpose. */
const TYPES: readonly unknown[] = [undefined, 'JWT', 'at+jwt']
const CLOCK_TOLERANCE_SECONDS = 5
/** Refuses tokens older than this even if unexpired: clients present them at once, an old one was probably stolen. */
const MAX_AGE_SECONDS = 60 * 60
const JWKS_TIMEOUT_MS = 3_000
const SUBJECT_LENGTH_MAX = 256

/** Whether a subject is stored unchanged: two different subjects must not become one in the table. */
export const isSubject = (subject: string): boolean =>
  subject !== '' && subject.length <= SUBJECT_LENGTH_MAX && subject.isWellFormed() && !/\p{Cc}/u.test(subject)

export type ExternalIdentity = { issuer: string; subject: string }
/** With the token's expiry, until which it must not be accepted again. */
type VerifiedToken = ExternalIdentity & { expiresAt: Date }

export type ExternalTokens = {
  /** Returns the identity of a trusted issuer's token. Throws EXTERNAL_TOKEN_INVALID, SERVICE_UNAVAILABLE (no keys). */
  verify: (token: string) => Promise<VerifiedToken>
}

/**
 * Verifies tokens of the issuers in the settings. A token states its issuer, but keys, algorithms and audience come
 * from the gateway: key URLs and keys in the token's header are ignored.
 */
export const createExternalTokens = (issuers: TrustedIssuer[]): ExternalTokens => {
  const trusted = new Map(
    issuers.map(({ issuer, jwksUrl, audience }) => [
      issuer,
      { audience, keys: createRemoteJWKSet(new URL(jwksUrl), { timeoutDuration: JWKS_TIMEOUT_MS }) },
    ]),
  )
  const invalid = (detail: string) => new ProblemError('EXTERNAL_TOKEN_INVALID', `token: ${detail}`)

  const claimedIssuer = (token: string): string | undefined => {
    try {
      return decodeJwt(token).iss
    } catch {
      return undefined
    }
  }

  return {
    verify: async token => {
      const issuer = claimedIssuer(token)
      const trust = issuer === undefined ? undefined : trusted.get(issuer)
      if (issuer === undefined || !trust) throw invalid('must be of an issuer that is trusted here.')
      try {
        const { payload, protectedHeader } = await jwtVerify(token, trust.keys, {
          algorithms: ALGORITHMS,
          issuer,
          audience: trust.audience,
          requiredClaims: ['exp', 'iat', 'sub'],
          maxTokenAge: MAX_AGE_SECONDS,
          clockTolerance: CLOCK_TOLERANCE_SECONDS,
        })
        const { sub } = payload
        if (!TYPES.includes(protectedHeader.typ)) throw invalid('is of another type.')
        if (!sub || !isSubject(sub)) throw invalid('names nobody.')
        const expiresAt = new Date((payload.exp! + CLOCK_TOLERANCE_SECONDS) * 1_000)
        return { issuer, subject: sub, expiresAt }
      } catch (error) {
        if (error instanceof ProblemError) throw error
        if (error instanceof errors.JWTExpired) throw invalid('has expired.')
        if (
          error instanceof errors.JWKSTimeout ||
          error instanceof errors.JWKSInvalid ||
          isFetchError(error)
        ) {
          throw new ProblemError('SERVICE_UNAVAILABLE', "The issuer's keys cannot be read now; try again.")
        }
        if (error instanceof errors.JOSEError) throw invalid('is not valid.')
        throw error
      }
    },
  }
}

/** The error of `fetch` for an unreachable host, and the error of jose for a response that is no key set. */
const isFetchError = (error: unknown): boolean =>
  (error instanceof TypeError && error.message === 'fetch failed') ||
  (error instanceof errors.JOSEError && error.code === errors.JOSEError.code)
