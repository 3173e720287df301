import { randomBytes, randomUUID } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { InTransaction } from '../in-transaction.ts'
import { ProblemError, validationProblem } from '../problems.ts'
import { appendToOutbox } from '../sql/outbox.ts'
import {
  findUser,
  findUserByEmail,
  grantRole,
  insertMailedToken,
  insertUser,
  markEmailVerified,
  spendMailedToken,
  type User,
} from '../sql/users.ts'
import type { Announce } from './announce.ts'
import { type Passwords, passwordFaults } from './passwords.ts'
import type { PersonKeys } from './person-keys.ts'
import { type Caller, sha256 } from './sessions.ts'

const TOKEN_BYTES = 32
const VERIFICATION_MS = 24 * 60 * 60 * 1_000

export type Accounts = {
  /** Makes an account whose address is not verified yet. Throws VALIDATION_ERROR, EMAIL_ALREADY_REGISTERED. */
  signUp: (
    person: { email: string; password: string; fullName: string },
    traceparent: string,
  ) => Promise<User>
  /** Spends a mailed token. Throws INVALID_VERIFICATION_TOKEN where it is unknown, expired or used. */
  verifyEmail: (token: string, traceparent: string) => Promise<User>
  /** Mails a new token where that makes sense; says nothing about whether it did, and takes no time to decide. */
  resendVerification: (email: string, traceparent: string) => void
  /**
   * The user with this address and password. Throws INVALID_CREDENTIALS alike, and after as long, for a wrong
   * password and an unknown address; only then EMAIL_NOT_VERIFIED and ACCOUNT_DISABLED.
   */
  checkPassword: (email: string, password: string, caller: Caller) => Promise<User>
}

export const createAccounts = (parts: {
  sql: Database
  inTransaction: InTransaction
  logger: Logger
  passwords: Passwords
  announce: Announce
  personKeys: PersonKeys
  /** Where a mailed link leads; `?token=` is added by the notifier. */
  verificationUrl: string
  /** The address whose owner becomes super_admin with its verification. */
  bootstrapAdminEmail: string | undefined
}): Accounts => {
  const { sql, inTransaction, logger, passwords, announce, personKeys, verificationUrl } = parts
  const { bootstrapAdminEmail } = parts

  const mailVerification = async (tx: Tx, userId: string, traceparent: string) => {
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    const expiresAt = new Date(Date.now() + VERIFICATION_MS)
    await insertMailedToken(tx, { hash: sha256(token), userId, purpose: 'verify_email', expiresAt })
    return announce.mailWithSecret(
      { userId, template: 'verify_email', secret: { token, url: verificationUrl }, expiresAt },
      traceparent,
    )
  }

  /** In the background: a wrong password must take as long for a known address as for an unknown one. */
  const announceLoginFailed = (user: User, reason: string, { addressHash, traceparent }: Caller) => {
    const event = announce.identityEvent('LoginFailed', { userId: user.id, reason, addressHash }, traceparent)
    inTransaction(tx => appendToOutbox(tx, [event])).catch(error =>
      logger.error({ err: error }, 'a failed sign-in was not recorded'),
    )
  }

  return {
    signUp: async ({ email, password, fullName }, traceparent) => {
      const faults = passwordFaults(password)
      if (faults.length > 0) throw validationProblem(faults.map(rule => ({ field: 'password', rule })))
      const taken = () =>
        new ProblemError('EMAIL_ALREADY_REGISTERED', 'email: has an account already; sign in instead.')
      if (await findUserByEmail(sql, email)) throw taken()
      const id = randomUUID()
      const passwordHash = await passwords.hash(password)
      const inserted = await inTransaction(async tx => {
        if (!(await insertUser(tx, { id, email, fullName, passwordHash }))) return false
        await personKeys.create(tx, id)
        await appendToOutbox(tx, [
          announce.identityEvent('UserRegistered', { userId: id }, traceparent),
          await mailVerification(tx, id, traceparent),
        ])
        return true
      })
      if (!inserted) throw taken()
      return (await findUser(sql, id))!
    },

    verifyEmail: async (token, traceparent) => {
      const userId = await inTransaction(async tx => {
        const id = await spendMailedToken(tx, sha256(token), 'verify_email')
        if (id && (await markEmailVerified(tx, id))) {
          await appendToOutbox(tx, [announce.identityEvent('EmailVerified', { userId: id }, traceparent)])
          // Does nothing where it is another's address.
          if (bootstrapAdminEmail !== undefined) await grantRole(tx, bootstrapAdminEmail, 'super_admin')
        }
        return id
      })
      if (!userId) {
        throw new ProblemError(
          'INVALID_VERIFICATION_TOKEN',
          'token: is unknown, expired (24 hours) or used before.',
        )
      }
      return (await findUser(sql, userId))!
    },

    resendVerification: (email, traceparent) => {
      const resend = async () => {
        const user = await findUserByEmail(sql, email)
        if (!user || user.emailVerified || user.disabled) return
        await inTransaction(async tx =>
          appendToOutbox(tx, [await mailVerification(tx, user.id, traceparent)]),
        )
      }
      resend().catch(error => logger.error({ err: error }, 'a verification mail was not requested'))
    },

    checkPassword: async (email, password, caller) => {
      const user = await findUserByEmail(sql, email)
      const right = await passwords.matches(password, user?.passwordHash)
      if (!user || !right) {
        if (user) announceLoginFailed(user, 'wrong_password', caller)
        throw new ProblemError('INVALID_CREDENTIALS', 'email or password: is wrong.')
      }
      if (!user.emailVerified) {
        announceLoginFailed(user, 'email_not_verified', caller)
        throw new ProblemError(
          'EMAIL_NOT_VERIFIED',
          'email: must be verified first, by the link that was mailed.',
        )
      }
      if (user.disabled) {
        announceLoginFailed(user, 'account_disabled', caller)
        throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
      }
      return user
    },
  }
}
