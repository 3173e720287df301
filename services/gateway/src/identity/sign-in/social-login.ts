import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Caller } from '../../access/requester.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError, validationProblem } from '../../problems/problem.ts'
import { type Accounts, bootstrapAdmin, replaceSignup } from '../accounts/accounts.ts'
import { canonicalEmail } from '../accounts/email-address.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { NAME_LENGTH_MAX, nameFault } from '../persons/person-name.ts'
import {
  findUser,
  findUserByEmail,
  insertUser,
  lockUserShared,
  markEmailVerified,
  markOwnerProved,
  type User,
} from '../persons/sql/users.ts'
import { sha256 } from '../sessions/sessions.ts'
import { shareOpenSession } from '../sessions/sql/sessions.ts'
import type { ExternalIdentities } from './external-identities.ts'
import type { ExternalIdentity } from './external-tokens.ts'
import type { Checks, OidcProviders, Profile } from './oidc-providers.ts'
import type { LinkedIdentity } from './sql/external-identities.ts'
import { insertOidcRequest, type OidcRequest, takeOidcRequest } from './sql/oidc-requests.ts'

/** Time to reach the provider, pass its pages, and return. */
export const REQUEST_SECONDS = 10 * 60
const SECRET_BYTES = 32
/** `SECRET_BYTES` as base64url; any other value in the cookie was not set by the gateway. */
const SECRET_FORM = /^[A-Za-z0-9_-]{43}$/
/** The name if the provider states none. Never a part of the address: strangers see the name. */
const NAMELESS = 'New user'

/** A sign-in or link to begin. `browser` is the value of the browser's cookie, if any. */
type Begun = { provider: string; returnTo: string | undefined; browser: string | undefined }
/** The URL for the browser, and the value that its cookie must contain from now on. */
type Sent = { url: URL; browser: string; expiresAt: Date }

/** The result of a callback: a user whom the provider authenticated, or a linked identity. */
export type Outcome = { user: User; newUser: boolean } | { linked: LinkedIdentity }

export type SocialLogin = {
  providers: OidcProviders['list']
  /** Throws OIDC_PROVIDER_NOT_FOUND, VALIDATION_ERROR (`returnTo` is not in the settings), SERVICE_UNAVAILABLE. */
  begin: (input: Begun) => Promise<Sent>
  /** Like `begin`, for an identity that the signed-in user links. Also throws PASSWORD_MISMATCH, NO_PASSWORD. */
  beginLink: (input: Begun & { userId: string; sessionId: string; password: string }) => Promise<Sent>
  /** Throws VALIDATION_ERROR if the settings do not contain the URL. */
  assertReturnTo: (returnTo: string | undefined) => void
  /**
   * Spends the request of a callback, even if the sign-in fails. Throws OIDC_STATE_INVALID if there is none for this
   * state, browser and provider; another browser's request is not spent.
   */
  take: (callback: {
    provider: string
    state: string | undefined
    browser: string | undefined
  }) => Promise<TakenRequest>
  /**
   * Completes the sign-in or link of a request with the callback's query. Throws OIDC_REFUSED, OIDC_STATE_INVALID,
   * SERVICE_UNAVAILABLE; for a sign-in ACCOUNT_DISABLED, EXTERNAL_EMAIL_NOT_VERIFIED, EXTERNAL_IDENTITY_NOT_LINKED; for
   * a link EXTERNAL_IDENTITY_TAKEN.
   */
  complete: (request: TakenRequest, search: string, caller: Caller) => Promise<Outcome>
}

type TakenRequest = OidcRequest & { checks: Checks }

/**
 * Nonce and PKCE verifier are derived from the state and a secret that only the browser stores. So the table alone, or
 * the table and the provider's logs, yield nothing that an attacker could send.
 */
const checksOf = (browser: string, state: string): Checks => {
  const derive = (purpose: string) =>
    createHmac('sha256', browser).update(`pennywire:oidc:${purpose}\0${state}`).digest('base64url')
  return { state, nonce: derive('nonce'), verifier: derive('verifier') }
}

/** Converts the provider's name claim to a valid name, or `NAMELESS`. */
const nameOf = ({ name }: Profile): string => {
  if (typeof name !== 'string') return NAMELESS
  const clean = name.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ').trim()
  const short = [...clean].slice(0, NAME_LENGTH_MAX).join('').toWellFormed().trim()
  return short.length > NAME_LENGTH_MAX || nameFault(short) ? NAMELESS : short
}

/** The address, if the provider states that it is verified: by `true`, and by no value that only looks like it. */
const verifiedAddressOf = ({ email, email_verified }: Profile): string => {
  const canonical = typeof email === 'string' ? canonicalEmail(email) : null
  if (email_verified === true && canonical !== null) return canonical
  throw new ProblemError(
    'EXTERNAL_EMAIL_NOT_VERIFIED',
    'The provider does not say that it has verified your e-mail address; sign up with a password instead.',
  )
}

const notLinked = () =>
  new ProblemError(
    'EXTERNAL_IDENTITY_NOT_LINKED',
    'The address has an account already; sign in to it as before and link the identity there.',
  )

/**
 * Sign-up, sign-in and linking through OpenID Connect providers. Users are identified by issuer and subject. A verified
 * e-mail address may create an account, or claim one that was never verified (its password is dropped). A verified
 * account is never signed in to by address: addresses change owners, and mailboxes are read.
 */
export const createSocialLogin = (deps: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  personKeys: PersonKeys
  accounts: Pick<Accounts, 'confirmPassword'>
  externalIdentities: Pick<ExternalIdentities, 'findLinked' | 'linkIn'>
  oidcProviders: OidcProviders
  returnUrls: string[]
  bootstrapAdminEmail: string | undefined
  clock: Clock
}): SocialLogin => {
  const { sql, inTransaction, announce, personKeys, accounts, externalIdentities, oidcProviders } = deps
  const { bootstrapAdminEmail, clock } = deps
  const returnUrls = new Set(deps.returnUrls)

  const assertReturnTo = (returnTo: string | undefined) => {
    if (returnTo === undefined || returnUrls.has(returnTo)) return
    throw validationProblem([{ field: 'returnTo', rule: 'must be one of the URLs of OIDC_RETURN_URLS' }])
  }

  const send = async (
    input: Begun,
    link: { userId: string; sessionId: string } | undefined,
  ): Promise<Sent> => {
    const { provider, returnTo } = input
    assertReturnTo(returnTo)
    // Reuse an existing value, so that sign-ins in two tabs do not invalidate each other.
    const browser = SECRET_FORM.test(input.browser ?? '')
      ? input.browser!
      : randomBytes(SECRET_BYTES).toString('base64url')
    const state = randomBytes(SECRET_BYTES).toString('base64url')
    const url = await oidcProviders.authorizationUrl(provider, checksOf(browser, state))
    await insertOidcRequest(sql, {
      stateHash: sha256(state),
      browserHash: sha256(browser),
      provider,
      returnTo: returnTo ?? null,
      userId: link?.userId ?? null,
      sessionId: link?.sessionId ?? null,
      seconds: REQUEST_SECONDS,
    })
    return { url, browser, expiresAt: new Date(clock.now() + REQUEST_SECONDS * 1_000) }
  }

  /** Creates the account of a verified address in one transaction. Throws if the address or identity has an account. */
  const makeAccount = async (
    tx: Tx,
    person: ExternalIdentity & { email: string; fullName: string },
    traceparent: string,
  ): Promise<string> => {
    const { email, fullName, issuer, subject } = person
    const id = randomUUID()
    const isNew = await insertUser(tx, { id, email, fullName, passwordHash: null, signupNetworkHash: null })
    // The insert has waited for concurrent ones, so the address's row is visible now.
    const userId = isNew ? id : (await findUserByEmail(tx, email))!.id
    if (isNew) {
      await personKeys.create(tx, id)
      await appendToOutbox(tx, [announce.identityEvent('UserRegistered', { userId }, traceparent)])
    } else {
      const signup = { userId, fullName, passwordHash: null, signupNetworkHash: null, how: 'oidc' as const }
      if (!(await replaceSignup(tx, announce, signup, traceparent))) throw notLinked()
    }
    await markEmailVerified(tx, userId)
    await markOwnerProved(tx, userId)
    await appendToOutbox(tx, [announce.identityEvent('EmailVerified', { userId }, traceparent)])
    await externalIdentities.linkIn(tx, { userId, issuer, subject, mail: false }, traceparent)
    if (bootstrapAdminEmail !== undefined) {
      await bootstrapAdmin(tx, announce, bootstrapAdminEmail, traceparent)
    }
    return userId
  }

  const signInOrUp = async (
    identity: ExternalIdentity,
    readProfile: () => Promise<Profile>,
    caller: Caller,
  ): Promise<Outcome> => {
    const known = await externalIdentities.findLinked(identity, 'oidc', caller)
    if (known) return { user: known, newUser: false }
    const profile = await readProfile()
    const person = { ...identity, email: verifiedAddressOf(profile), fullName: nameOf(profile) }
    try {
      const userId = await inTransaction(tx => makeAccount(tx, person, caller.traceparent))
      return { user: (await findUser(sql, userId))!, newUser: true }
    } catch (error) {
      const lost =
        error instanceof ProblemError &&
        (error.code === 'EXTERNAL_IDENTITY_NOT_LINKED' || error.code === 'EXTERNAL_IDENTITY_TAKEN')
      // The same person signed up in another tab, a moment earlier.
      const meanwhile = lost && (await externalIdentities.findLinked(identity, 'oidc', caller))
      if (meanwhile) return { user: meanwhile, newUser: false }
      throw error
    }
  }

  /** The callback carries no token: the browser's cookie stands for the session, which must still be open. */
  const link = (
    owner: { userId: string; sessionId: string },
    { issuer, subject }: ExternalIdentity,
    traceparent: string,
  ): Promise<LinkedIdentity> =>
    inTransaction(async tx => {
      // Lock order: the user before the session, as everywhere; else this and the end of the account deadlock.
      await lockUserShared(tx, owner.userId)
      if (!(await shareOpenSession(tx, owner.sessionId))) {
        throw new ProblemError('OIDC_STATE_INVALID', 'The session that asked for the link has ended.')
      }
      return externalIdentities.linkIn(tx, { userId: owner.userId, issuer, subject, mail: true }, traceparent)
    })

  return {
    providers: oidcProviders.list,
    assertReturnTo,
    begin: input => send(input, undefined),
    beginLink: async ({ userId, sessionId, password, ...input }) => {
      await accounts.confirmPassword(userId, password)
      return send(input, { userId, sessionId })
    },

    take: async ({ provider, state, browser }) => {
      const request =
        state === undefined || browser === undefined
          ? undefined
          : await takeOidcRequest(sql, { stateHash: sha256(state), browserHash: sha256(browser) })
      if (request?.provider !== provider) {
        throw new ProblemError(
          'OIDC_STATE_INVALID',
          'state: is unknown, expired (10 minutes), used, or of another browser or provider; sign in again.',
        )
      }
      return { ...request, checks: checksOf(browser!, state!) }
    },

    complete: async ({ provider, userId, sessionId, checks }, search, caller) => {
      const { profile, ...identity } = await oidcProviders.exchange(provider, search, checks)
      if (userId === null || sessionId === null) return signInOrUp(identity, profile, caller)
      return { linked: await link({ userId, sessionId }, identity, caller.traceparent) }
    },
  }
}
