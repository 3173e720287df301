import { randomUUIDv7 } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import type { InTransaction } from '../in-transaction.ts'
import { ProblemError } from '../problems.ts'
import {
  deleteExternalIdentity,
  findLinkedUser,
  insertExternalIdentity,
  type LinkedIdentity,
  listExternalIdentities,
} from '../sql/external-identities.ts'
import { appendToOutbox } from '../sql/outbox.ts'
import { findUser, type User } from '../sql/users.ts'
import type { Accounts } from './accounts.ts'
import type { Announce } from './announce.ts'
import type { ExternalTokens } from './external-tokens.ts'
import type { LoginHistory } from './login-history.ts'
import type { Caller } from './sessions.ts'

export type ExternalIdentities = {
  /**
   * Whom a trusted issuer's token signs in: the account that its subject is linked to. Throws EXTERNAL_TOKEN_INVALID,
   * EXTERNAL_IDENTITY_UNKNOWN, ACCOUNT_DISABLED.
   */
  signIn: (token: string, caller: Caller) => Promise<User>
  /** Links the identity of a token to the signed-in user. Throws PASSWORD_MISMATCH, EXTERNAL_IDENTITY_TAKEN. */
  link: (
    asked: { userId: string; token: string; password: string },
    traceparent: string,
  ) => Promise<LinkedIdentity>
  list: (userId: string) => Promise<LinkedIdentity[]>
  /** Throws EXTERNAL_IDENTITY_NOT_FOUND where it is not the user's. */
  unlink: (link: { id: string; userId: string }, traceparent: string) => Promise<void>
}

/**
 * Identities at other issuers. An account is found by issuer and subject, never by an address that the issuer claims:
 * any issuer could then name any account, and an address that was given to somebody else would bring the account with
 * it. So each link is made once by its owner, signed in and with the password.
 */
export const createExternalIdentities = (parts: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  accounts: Pick<Accounts, 'confirmPassword'>
  tokens: ExternalTokens
  logins: Pick<LoginHistory, 'failed'>
}): ExternalIdentities => {
  const { sql, inTransaction, announce, accounts, tokens, logins } = parts

  return {
    signIn: async (token, caller) => {
      const userId = await findLinkedUser(sql, await tokens.verify(token))
      const user = userId === undefined ? undefined : await findUser(sql, userId)
      if (!user) {
        throw new ProblemError(
          'EXTERNAL_IDENTITY_UNKNOWN',
          'token: its identity is linked to no account; sign in with the password and link it first.',
        )
      }
      if (user.disabled) {
        logins.failed(user.id, { method: 'external', reason: 'account_disabled' }, caller)
        throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
      }
      return user
    },

    link: async ({ userId, token, password }, traceparent) => {
      await accounts.confirmPassword(userId, password)
      const identity = await tokens.verify(token)
      const id = randomUUIDv7()
      const linkedAt = new Date()
      const linked = await inTransaction(async tx => {
        if (!(await insertExternalIdentity(tx, { id, userId, ...identity }))) return false
        await appendToOutbox(tx, [
          announce.identityEvent('ExternalIdentityLinked', { userId, issuer: identity.issuer }, traceparent),
          await announce.mail({ userId, template: 'external_identity_linked' }, traceparent),
        ])
        return true
      })
      if (!linked) {
        throw new ProblemError(
          'EXTERNAL_IDENTITY_TAKEN',
          'token: its identity is linked to an account already.',
        )
      }
      return { id, ...identity, linkedAt }
    },

    list: userId => listExternalIdentities(sql, userId),

    unlink: async (link, traceparent) =>
      inTransaction(async tx => {
        const issuer = await deleteExternalIdentity(tx, link)
        if (issuer === undefined) {
          throw new ProblemError('EXTERNAL_IDENTITY_NOT_FOUND', 'id: there is no such identity of yours.')
        }
        await appendToOutbox(tx, [
          announce.identityEvent('ExternalIdentityUnlinked', { userId: link.userId, issuer }, traceparent),
        ])
      }),
  }
}
