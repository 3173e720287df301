import type { Logger } from '@pennywire/runtime/logger.ts'
import { LRUCache } from 'lru-cache'
import * as oidc from 'openid-client'
import { z } from 'zod'
import { ProblemError } from '../../problems/problem.ts'
import { type ExternalIdentity, isSubject, secureUrl } from './external-tokens.ts'

export const oidcProvider = z.strictObject({
  /** Part of the provider's path, and of the redirect URL registered at the provider. */
  name: z.string().regex(/^[a-z0-9-]{1,32}$/, 'must be 1 to 32 of a-z 0-9 -'),
  /** The text of the button. */
  label: z.string().min(1).max(64),
  /** Exactly as in the provider's metadata and tokens. */
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
/** Metadata and keys are read again after this time; while the provider is unavailable, the cached ones stay in use. */
const METADATA_MS = 60 * 60 * 1_000
/** The error codes of RFC 6749, 4.1.2.1, limited to 64 characters. */
const ERROR_NAME = /^[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}$/

/** Binds a callback to the request that began the sign-in. */
export type Checks = { state: string; nonce: string; verifier: string }

/** A provider's claims about a user (OpenID Connect Core, 5.1), in the provider's own form. */
export type Profile = { [claim: string]: unknown }

/** An identity that a provider authenticated. */
export type ProvenIdentity = ExternalIdentity & {
  /** Address and name; requested from the provider if its token has no address. Throws SERVICE_UNAVAILABLE. */
  profile: () => Promise<Profile>
}

export type OidcProviders = {
  list: Array<{ name: string; label: string }>
  /** The URL that the browser is sent to. Throws OIDC_PROVIDER_NOT_FOUND, SERVICE_UNAVAILABLE. */
  authorizationUrl: (name: string, checks: Checks) => Promise<URL>
  /**
   * Exchanges the code in a callback's query for the identity. Throws OIDC_REFUSED (by the provider or the user),
   * OIDC_STATE_INVALID (code, issuer, nonce or verifier do not match), SERVICE_UNAVAILABLE.
   */
  exchange: (name: string, search: string, checks: Checks) => Promise<ProvenIdentity>
}

const misfit = () =>
  new ProblemError('OIDC_STATE_INVALID', 'What the provider answered does not fit; sign in again.')

const away = () => new ProblemError('SERVICE_UNAVAILABLE', 'The provider cannot be asked now; try again.')

/** HTTP Basic, which every provider must support (RFC 6749, 2.3.1), unless its metadata states otherwise. */
const authenticateBy =
  (secret: string): oidc.ClientAuth =>
  (server, client, body, headers) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ['client_secret_basic']
    const by = methods.includes('client_secret_basic') ? oidc.ClientSecretBasic : oidc.ClientSecretPost
    return by(secret)(server, client, body, headers)
  }

/** The provider's error code, if it has the form of one. */
const errorName = (error: unknown): string | undefined => {
  if (error instanceof oidc.WWWAuthenticateChallengeError) {
    return ERROR_NAME.exec(error.cause[0]?.parameters.error ?? '')?.[0]
  }
  const named = error instanceof oidc.AuthorizationResponseError || error instanceof oidc.ResponseBodyError
  return named ? ERROR_NAME.exec(error.error)?.[0] : undefined
}

/** openid-client's codes for a response that does not match its request; other errors are the provider's failures. */
const MISFITS = new Set<unknown>([
  'OAUTH_INVALID_RESPONSE',
  'OAUTH_JWT_CLAIM_COMPARISON_FAILED',
  'OAUTH_JWT_TIMESTAMP_CHECK_FAILED',
  'OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED',
])

/**
 * The OpenID Connect providers of the settings: code flow with PKCE, by openid-client, which checks state, issuer (RFC
 * 9207), audience, nonce, times and signature. A provider is first contacted when a user signs in with it, so an
 * unavailable one blocks nothing else. Only messages and codes of its errors are logged, because attached data may
 * contain authorization codes and tokens.
 */
export const createOidcProviders = (deps: {
  providers: OidcProvider[]
  /** The gateway's public URL; each provider has its own callback below it. */
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
        // The settings allow http on loopback only.
        ...(issuer.startsWith('http:') ? [oidc.allowInsecureRequests] : []),
      ],
    })
    const named = found.serverMetadata().issuer
    // openid-client makes exceptions for some providers; none are made here, because links depend on the issuer.
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

  /** Maps an error of the provider or of openid-client to the problem for the user who signs in. */
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
      // openid-client would accept these parameters as provider-specific.
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
          // The address and its verification come from one source: ID token and userinfo claims are never combined.
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
