import type { Logger } from '@pennywire/runtime/logger.ts'
import { LRUCache } from 'lru-cache'
import * as oidc from 'openid-client'
import { z } from 'zod'
import { ProblemError } from '../../problems/problem.ts'
import { type ExternalIdentity, isSubject, secureUrl } from './external-tokens.ts'

export const oidcProvider = z.strictObject({
  /** Stands in the provider's path, and in the redirect URL that is registered there. */
  name: z.string().regex(/^[a-z0-9-]{1,32}$/, 'must be 1 to 32 of a-z 0-9 -'),
  /** What the button says. */
  label: z.string().min(1).max(64),
  /** Exactly as the provider's metadata and tokens say it. */
  issuer: secureUrl.max(256).refine(url => !/[?#]/.test(url), 'must have no query and no fragment'),
  clientId: z.string().min(1).max(256),
  clientSecret: z.string().min(1).max(1_024),
  scopes: z
    .string()
    .max(1_024)
    .refine(scopes => scopes.split(' ').includes('openid'), 'must have openid')
    .default('openid email profile'),
})
export type OidcProvider = z.output<typeof oidcProvider>

const TIMEOUT_SECONDS = 10
/** Metadata and keys are read again after so long; while the provider is away, what was read goes on. */
const METADATA_MS = 60 * 60 * 1_000
/** RFC 6749, 4.1.2.1: what a provider may call an error, here short. */
const ERROR_NAME = /^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}$/

/** What binds a sign-in to the request for it. */
export type Checks = { state: string; nonce: string; verifier: string }

/** What a provider says about somebody (claims of OpenID Connect Core, 5.1), each as it says it. */
export type Profile = { [claim: string]: unknown }

/** Who came back from a provider. */
export type ProvenIdentity = ExternalIdentity & {
  /** Their address and name; asked of the provider where its token does not say them. Throws SERVICE_UNAVAILABLE. */
  profile: () => Promise<Profile>
}

export type OidcProviders = {
  list: Array<{ name: string; label: string }>
  /** Where the browser is sent. Throws OIDC_PROVIDER_NOT_FOUND, SERVICE_UNAVAILABLE. */
  authorizationUrl: (name: string, checks: Checks) => Promise<URL>
  /**
   * Who it is that a provider sent back with these parameters: exchanges the code. Throws OIDC_REFUSED (the
   * provider's or the person's own word), OIDC_STATE_INVALID (code, issuer, nonce or verifier do not fit),
   * SERVICE_UNAVAILABLE.
   */
  exchange: (name: string, search: string, checks: Checks) => Promise<ProvenIdentity>
}

const misfit = () =>
  new ProblemError('OIDC_STATE_INVALID', 'What the provider answered does not fit; sign in again.')

const away = () => new ProblemError('SERVICE_UNAVAILABLE', 'The provider cannot be asked now; try again.')

/** HTTP Basic, which every provider must know (RFC 6749, 2.3.1), unless it says that it does not. */
const authenticateBy =
  (secret: string): oidc.ClientAuth =>
  (server, client, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
    const by = methods.includes('client_secret_basic') ? oidc.ClientSecretBasic : oidc.ClientSecretPost
    return by(secret)(server, client, body, headers)
  }

/** What a provider calls its error, where it has the form of a name. */
const errorName = (error: unknown): string | undefined => {
  if (error instanceof oidc.WWWAuthenticateChallengeError) {
    return ERROR_NAME.exec(error.cause[0]?.parameters.error ?? '')?.[0]
  }
  const named = error instanceof oidc.AuthorizationResponseError || error instanceof oidc.ResponseBodyError
  return named ? ERROR_NAME.exec(error.error)?.[0] : undefined
}

/** What does not fit the request, as openid-client names it; everything else is the provider's own trouble. */
const MISFITS = new Set<unknown>([
  'OAUTH_INVALID_RESPONSE',
  'OAUTH_JWT_CLAIM_COMPARISON_FAILED',
  'OAUTH_JWT_TIMESTAMP_CHECK_FAILED',
  'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED',
])

/**
 * The OpenID Connect providers of the settings: code flow with PKCE, by openid-client, which checks state, issuer (RFC
 * 9207), audience, nonce, times and signature. Nothing is asked of a provider before somebody wants to sign in with it, so
 * one that is away holds up nothing else. Of its errors only the library's own words are logged: what hangs on them may be
 * codes and tokens.
 */
export const createOidcProviders = (deps: {
  providers: OidcProvider[]
  /** Where clients reach the gateway; each provider has a callback of its own below it. */
  publicUrl: string
  logger: Logger
}): OidcProviders => {
  const { publicUrl, logger } = deps
  const providers = new Map(deps.providers.map(provider => [provider.name, provider]))

  const callbackUrl = (name: string) => new URL(`${publicUrl}/v1/auth/oidc/${name}/callback`)

  const discover = async (name: string): Promise<oidc.Configuration> => {
    const { issuer, clientId, clientSecret } = providers.get(name)!
    const found = await oidc.discovery(new URL(issuer), clientId, undefined, authenticateBy(clientSecret), {
      timeout: TIMEOUT_SECONDS,
      execute: [
        oidc.enableNonRepudiationChecks,
        // The settings take http on this machine only.
        ...(issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : []),
      ],
    })
    const named = found.serverMetadata().issuer
    // openid-client makes exceptions for some providers; links hang on the issuer, so here are none.
    if (named !== issuer) throw new Error('the metadata name another issuer than the settings')
    return found
  }

  const configurations = new LRUCache<string, oidc.Configuration>({
    max: Math.max(1, providers.size),
    ttl: METADATA_MS,
    allowStaleOnFetchRejection: true,
    noDeleteOnFetchRejection: true,
    fetchMethod: discover,
  })

  const logTrouble = (provider: string, error: unknown) => {
    const { message, cause } = error as Error & { cause?: { code?: unknown } }
    const why = [message, errorName(error), cause?.code].filter(Boolean).join('; ')
    logger.warn({ provider, why }, 'an OpenID provider did not do its part')
  }

  const configurationOf = async (name: string): Promise<oidc.Configuration> => {
    if (!providers.has(name)) {
      throw new ProblemError('OIDC_PROVIDER_NOT_FOUND', 'provider: there is none of this name.')
    }
    const found = await configurations.fetch(name).catch(error => logTrouble(name, error))
    if (!found) throw away()
    return found
  }

  /** What an error of the provider, or of openid-client about it, means to the person who signs in. */
  const problemOf = (provider: string, error: unknown): ProblemError => {
    const reason = errorName(error)
    if (error instanceof oidc.AuthorizationResponseError) {
      return new ProblemError('OIDC_REFUSED', 'The provider did not confirm the sign-in.', {
        ...(reason === undefined ? {} : { error: reason }),
      })
    }
    if (reason === 'invalid_grant' || MISFITS.has((error as { code?: unknown }).code)) {
      logger.info({ provider, code: (error as { code?: unknown }).code }, 'a sign-in did not fit its request')
      return misfit()
    }
    logTrouble(provider, error)
    return away()
  }

  return {
    list: deps.providers.map(({ name, label }) => ({ name, label })),

    authorizationUrl: async (name, { state, nonce, verifier }) =>
      oidc.buildAuthorizationUrl(await configurationOf(name), {
        redirect_uri: callbackUrl(name).href,
        scope: providers.get(name)!.scopes,
        state,
        nonce,
        code_challenge: await oidc.calculatePKCECodeChallenge(verifier),
        code_challenge_method: 'S256',
      }),

    exchange: async (name, search, { state, nonce, verifier }) => {
      const configuration = await configurationOf(name)
      const url = callbackUrl(name)
      url.search = search
      // openid-client would take that for something the provider does in its own way.
      if (url.searchParams.has('id_token') || url.searchParams.has('token')) throw misfit()
      try {
        const tokens = await oidc.authorizationCodeGrant(configuration, url, {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: verifier,
          idTokenExpected: true,
        })
        const claims = tokens.claims()!
        if (!isSubject(claims.sub)) {
          throw new ProblemError('OIDC_STATE_INVALID', 'The provider names nobody who could be kept.')
        }
        return {
          issuer: claims.iss,
          subject: claims.sub,
          // Address and whether it is verified come from one place: never the word of one on that of the other.
          profile: async () => {
            if (claims.email !== undefined) return claims
            if (configuration.serverMetadata().userinfo_endpoint === undefined) return {}
            return oidc
              .fetchUserInfo(configuration, tokens.access_token, claims.sub)
              .catch(error => Promise.reject(problemOf(name, error)))
          },
        }
      } catch (error) {
        throw error instanceof ProblemError ? error : problemOf(name, error)
      }
    },
  }
}
