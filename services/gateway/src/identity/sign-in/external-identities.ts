import { randomUUIDv7 } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Caller } from '../../access/requester.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError } from '../../problems/problem.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { Announce } from '../events/announce.ts'
import { findLinkedUser, lockUserShared, lockUsers, type User } from '../persons/sql/users.ts'
import { changeSecondFactorVersion } from '../second-factor/sql/second-factors.ts'
import type { LoginHistory, LoginMethod } from '../sessions/login-history.ts'
import { type Sessions, sha256 } from '../sessions/sessions.ts'
import type { ExternalIdentity, ExternalTokens } from './external-tokens.ts'
import {
  countExternalIdentities,
  deleteExternalIdentity,
  insertExternalIdentity,
  type LinkedIdentity,
  listExternalIdentities,
  spendExternalToken,
} from './sql/external-identities.ts'

export type ExternalIdentities = {
  /**
   * Returns the user linked to the subject of a trusted issuer's token; each token is accepted once. Throws
   * EXTERNAL_TOKEN_INVALID, EXTERNAL_IDENTITY_UNKNOWN, ACCOUNT_DISABLED.
   */
  signIn: (token: string, caller: Caller) => Promise<User>
  /** The user linked to an identity, if any. Throws ACCOUNT_DISABLED, which the sign-in history records. */
  findLinked: (identity: ExternalIdentity, method: LoginMethod, caller: Caller) => Promise<User | undefined>
  /**
   * Links an identity in the caller's transaction, with its event, and with a mail if the account is not new. Throws
   * EXTERNAL_IDENTITY_TAKEN.
   */
  linkIn: (
    tx: Tx,
    link: ExternalIdentity & { userId: string; mail: boolean },
    traceparent: string,
  ) => Promise<LinkedIdentity>
  /**
   * Links the identity of a token to the signed-in user. Throws PASSWORD_MISMATCH, NO_PASSWORD,
   * EXTERNAL_TOKEN_INVALID, EXTERNAL_IDENTITY_TAKEN.
   */
  link: (
    input: { userId: string; token: string; password: string },
    traceparent: string,
  ) => Promise<LinkedIdentity>
  list: (userId: string) => Promise<LinkedIdentity[]>
  /**
   * Deletes a link and ends all other sessions, because no table stores which of them the link started. Requires no
   * password: the account may have none, and unlinking grants no access. Throws EXTERNAL_IDENTITY_NOT_FOUND if the link
   * is not the user's, LAST_SIGN_IN_METHOD if no other sign-in method is left.
   */
  unlink: (link: { id: string; userId: string; sessionId: string }, traceparent: string) => Promise<void>
}

/**
 * Identities at other issuers. An account is found by issuer and subject, never by an address that the issuer claims:
 * any issuer could then name any account, and an address reassigned to another person would bring the account with it.
 * So the owner makes each link once, signed in and with the password.
 */
export const createExternalIdentities = (deps: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  accounts: Pick<Accounts, 'confirmPassword'>
  tokens: ExternalTokens
  logins: Pick<LoginHistory, 'failed'>
  sessions: Pick<Sessions, 'endIn'>
}): ExternalIdentities => {
  const { sql, inTransaction, announce, accounts, tokens, logins, sessions } = deps

  const findLinked: ExternalIdentities['findLinked'] = async (identity, method, caller) => {
    const user = await findLinkedUser(sql, identity)
    if (user?.disabled) {
      logins.failed(user.id, { method, reason: 'account_disabled' }, caller)
      throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
    }
    return user
  }

  const linkIn: ExternalIdentities['linkIn'] = async (tx, link, traceparent) => {
    const { userId, issuer, subject } = link
    const linked = { id: randomUUIDv7(), issuer, subject }
    if (!(await insertExternalIdentity(tx, { ...linked, userId }))) {
      throw new ProblemError('EXTERNAL_IDENTITY_TAKEN', 'The identity is linked to an account already.')
    }
    const event = announce.identityEvent('ExternalIdentityLinked', { userId, issuer }, traceparent)
    const mails = link.mail
      ? [await announce.mail({ userId, template: 'external_identity_linked' }, traceparent)]
      : []
    await appendToOutbox(tx, [event, ...mails])
    return { ...linked, linkedAt: new Date() }
  }

  return {
    signIn: async (token, caller) => {
      const { expiresAt, ...identity } = await tokens.verify(token)
      const user = await findLinked(identity, 'external', caller)
      if (user) {
        if (await spendExternalToken(sql, { hash: sha256(token), expiresAt })) return user
        throw new ProblemError('EXTERNAL_TOKEN_INVALID', 'token: has signed in before; each is good once.')
      }
      throw new ProblemError(
        'EXTERNAL_IDENTITY_UNKNOWN',
        'token: its identity is linked to no account; sign in with the password and link it first.',
      )
    },

    findLinked,
    linkIn,

    link: async ({ userId, token, password }, traceparent) => {
      const user = await accounts.confirmPassword(userId, password)
      const { issuer, subject } = await tokens.verify(token)
      return inTransaction(async tx => {
        // Checked again under a lock, because the issuer may take long: no link outlives the password that allowed it.
        const known = await lockUserShared(tx, userId)
        if (!known || known.disabled) throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
        if (known.passwordVersion !== user.passwordVersion) {
          throw new ProblemError('PASSWORD_MISMATCH', 'The current password is wrong.')
        }
        return linkIn(tx, { userId, issuer, subject, mail: true }, traceparent)
      })
    },

    list: userId => listExternalIdentities(sql, userId),

    unlink: async ({ id, userId, sessionId }, traceparent) => {
      const broadcast = await inTransaction(async tx => {
        // Under a lock: of two concurrent unlinks each would otherwise count the other's link as the remaining one.
        const [user] = await lockUsers(tx, [userId])
        const link = { id, userId }
        const issuer = await deleteExternalIdentity(tx, link)
        if (issuer === undefined) {
          throw new ProblemError('EXTERNAL_IDENTITY_NOT_FOUND', 'id: there is no such identity of yours.')
        }
        if (user?.passwordHash === null && (await countExternalIdentities(tx, userId)) === 0) {
          throw new ProblemError(
            'LAST_SIGN_IN_METHOD',
            'id: is the only way to sign in; set a password first, with POST /v1/auth/forgot-password.',
          )
        }
        await appendToOutbox(tx, [
          announce.identityEvent('ExternalIdentityUnlinked', { userId, issuer }, traceparent),
          await announce.mail({ userId, template: 'external_identity_unlinked' }, traceparent),
        ])
        // Also invalidates sign-ins in progress through the identity.
        await changeSecondFactorVersion(tx, userId)
        const others = { userId, exceptSessionId: sessionId, reason: 'identity_unlinked' }
        return sessions.endIn(tx, others, traceparent)
      })
      await broadcast()
    },
  }
}
