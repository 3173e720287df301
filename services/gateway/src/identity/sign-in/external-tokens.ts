import { isLoopback } from '@pennywire/runtime/unsafe-settings.ts'
import { createRemoteJWKSet, decodeJwt, errors, jwtVerify } from 'jose'
import { z } from 'zod'
import { ProblemError } from '../../problems/problem.ts'

/** Nobody on the way reads or changes what goes there. */
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

/** Asymmetric ones only: the token does not choose (RFC 8725, 3.1 and 3.2). */
const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'EdDSA']
/** ID tokens and access tokens (RFC 9068); nothing that was made for another purpose. */
const TYPES: readonly unknown[] = [undefined, 'JWT', 'at+jwt']
const CLOCK_TOLERANCE_SECONDS = 5
/** Refuses tokens older than this even if unexpired: clients present them at once, an old one was probably stolen. */
const MAX_AGE_SECONDS = 60 * 60
const JWKS_TIMEOUT_MS = 3_000
const SUBJECT_LENGTH_MAX = 256

/** Whether a subject is kept as it is: two that are not the same must not become one in the table. */
export const isSubject = (subject: string): boolean =>
  subject !== '' && subject.length <= SUBJECT_LENGTH_MAX && subject.isWellFormed() && !/\p{Cc}/u.test(subject)

export type ExternalIdentity = { issuer: string; subject: string }
/** With the token's end, until which it must not be taken again. */
type VerifiedToken = ExternalIdentity & { expiresAt: Date }

export type ExternalTokens = {
  /** Who somebody is at a trusted issuer. Throws EXTERNAL_TOKEN_INVALID, SERVICE_UNAVAILABLE (its keys are away). */
  verify: (token: string) => Promise<VerifiedToken>
}

/**
 * Verifies tokens of the issuers that the settings name. A token says who its issuer is, but which keys, algorithms and
 * audience count is the settings' word: key addresses and keys in its header are not looked at.
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

/** What `fetch` rejects with where nobody answers, and what jose makes of an answer that is no key set. */
const isFetchError = (error: unknown): boolean =>
  (error instanceof TypeError && error.message === 'fetch failed') ||
  (error instanceof errors.JOSEError && error.code === errors.JOSEError.code)
