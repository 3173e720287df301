import { randomBytes, randomUUID } from 'node:crypto'
import { isIP } from 'node:net'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Caller } from '../../access/requester.ts'
import { highestRole } from '../../access/roles.ts'
import { addressSubject, networksOf } from '../../http/client-address.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError, validationProblem } from '../../problems/problem.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import {
  countMailedTokens,
  findUser,
  findUserByEmail,
  grantSuperAdmin,
  insertMailedToken,
  insertUser,
  isSignupNetwork,
  lockUsers,
  markEmailVerified,
  markOwnerProved,
  readMailedToken,
  renameUser,
  renewPasswordHash,
  replaceUnverifiedUser,
  setPasswordHash,
  spendMailedToken,
  spendMailedTokensOf,
  type User,
} from '../persons/sql/users.ts'
import type { LoginHistory } from '../sessions/login-history.ts'
import { type Sessions, sha256 } from '../sessions/sessions.ts'
import type { PasswordMeter } from './password-meter.ts'
import { GUESSED_FIRST, noPassword, type Passwords, passwordFaults } from './passwords.ts'
import { tellSuperAdmins } from './tell-super-admins.ts'

const TOKEN_BYTES = 32
const VERIFICATION_MS = 24 * 60 * 60 * 1_000
const RESET_MS = 60 * 60 * 1_000
/** While the link of a sign-up is valid, no other sign-up takes over its address. */
const SIGNUP_HOURS = VERIFICATION_MS / 3_600_000
/** At most `many` mails of a kind go to an address within `seconds`, regardless of where the requests come from. */
const MAILS = { many: 3, seconds: 15 * 60 }

/** A mailed token and the proof of who created the account: none, its password, or a new one, with an optional name. */
export type VerificationProof = {
  token: string
  password?: string | undefined
  newPassword?: string | undefined
  fullName?: string | undefined
}

export type Accounts = {
  /**
   * Creates an account with an unverified address. An existing account that was never verified is taken over once its
   * sign-up is older than 24 hours, so that a sign-up with a stranger's address does not lock its owner out. Throws
   * VALIDATION_ERROR, EMAIL_ALREADY_REGISTERED.
   */
  signUp: (person: { email: string; password: string; fullName: string }, caller: Caller) => Promise<User>
  /**
   * Spends a mailed token if the request contains the account's password or a new one that replaces it, or comes from
   * the network of the sign-up. Else the owner of an address would verify a stranger's password. Throws
   * INVALID_VERIFICATION_TOKEN if the token is unknown, expired or used; VERIFICATION_PROOF_REQUIRED, PASSWORD_MISMATCH
   * and VALIDATION_ERROR leave the token valid.
   */
  verifyEmail: (proof: VerificationProof, caller: Caller) => Promise<User>
  /** Mails a new token if the account needs one. Returns before the lookup, so it reveals nothing about the account. */
  resendVerification: (email: string, traceparent: string) => void
  /**
   * Returns the user with this address and password. A wrong password and an unknown address throw the same
   * INVALID_CREDENTIALS after the same time; EMAIL_NOT_VERIFIED and ACCOUNT_DISABLED need the correct password.
   */
  checkPassword: (email: string, password: string, caller: Caller) => Promise<User>
  /** Returns the signed-in user. Throws PASSWORD_MISMATCH or NO_PASSWORD unless the password is theirs. */
  confirmPassword: (userId: string, password: string) => Promise<User>
  /**
   * Mails a link to set a new password if the account exists and is enabled. Returns before the lookup, so it reveals
   * nothing about the account. An unverified address gets the verification link, which also accepts a new password.
   */
  forgotPassword: (email: string, caller: Caller) => void
  /**
   * Sets a new password, ends all sessions, revokes all API keys and spends the token in one transaction. Returns the
   * user id. Throws INVALID_RESET_TOKEN; VALIDATION_ERROR and SAME_PASSWORD leave the token valid. An account created
   * through a provider gets its first password this way.
   */
  resetPassword: (token: string, password: string, caller: Caller) => Promise<{ userId: string }>
  /** Sets a new password and ends all other sessions. Throws as `confirmPassword`, VALIDATION_ERROR, SAME_PASSWORD. */
  changePassword: (
    session: { userId: string; sessionId: string },
    passwords: { current: string; next: string },
    caller: Caller,
  ) => Promise<void>
  rename: (userId: string, fullName: string, traceparent: string) => Promise<User>
}

export const createAccounts = (deps: {
  sql: Database
  inTransaction: InTransaction
  logger: Logger
  passwords: Passwords
  passwordMeter: Pick<PasswordMeter, 'isGuessedFirst'>
  announce: Announce
  personKeys: PersonKeys
  sessions: Sessions
  logins: LoginHistory
  /** Target URLs of mailed links; the notifier appends `?token=`. */
  urls: { verification: string; newPassword: string }
  /** The address whose owner becomes super_admin after proving that the account's password is theirs. */
  bootstrapAdminEmail: string | undefined
  /** Revokes all API keys of a user in the transaction of a password reset: an attacker may have had the account. */
  endApiKeys: (
    tx: Tx,
    announce: Announce,
    of: { userId: string; reason: 'password_reset' },
    traceparent: string,
  ) => Promise<unknown>
  /** Deletes the user's pending link requests at OpenID providers. */
  forgetOidcRequests: (tx: Tx, userId: string) => Promise<void>
  hashAddress: (text: string) => string
  clock: Clock
}): Accounts => {
  const {
    sql,
    inTransaction,
    logger,
    passwords,
    passwordMeter,
    announce,
    personKeys,
    sessions,
    logins,
    urls,
  } = deps
  const { bootstrapAdminEmail, endApiKeys, forgetOidcRequests, hashAddress, clock } = deps

  /** Hashes the subscriber's network, because a phone's address changes between two requests. */
  const networkHashOf = ({ address }: Caller) => hashAddress(`signup\0${addressSubject(address)}`)

  const mailToken = async (
    tx: Tx,
    mail: {
      userId: string
      purpose: 'verify_email' | 'reset_password'
      url: string
      lifeMs: number
      /** Further values for the mail. */
      told?: Record<string, string>
    },
    traceparent: string,
  ) => {
    const { userId, purpose, url, lifeMs, told } = mail
    const token = randomBytes(TOKEN_BYTES).toString('base64url')
    const expiresAt = new Date(clock.now() + lifeMs)
    await insertMailedToken(tx, { hash: sha256(token), userId, purpose, expiresAt })
    return announce.mailWithSecret(
      { userId, template: purpose, secret: { token, url, ...told }, expiresAt },
      traceparent,
    )
  }
  const mailVerification = (tx: Tx, userId: string, traceparent: string, told: Record<string, string> = {}) =>
    mailToken(
      tx,
      { userId, purpose: 'verify_email', url: urls.verification, lifeMs: VERIFICATION_MS, told },
      traceparent,
    )
  /** Lets the owner of the address recognise their own sign-up. Widest network only: the address is personal data. */
  const signupOf = ({ address }: Caller): Record<string, string> => ({
    signedUpAt: new Date().toISOString(),
    ...(isIP(address) === 0 ? {} : { network: networksOf(address)[0]! }),
  })
  const remailVerification = (user: User, traceparent: string): Promise<void> =>
    inTransaction(async tx => {
      if (await isFlooded(tx, user.id, 'verify_email')) return
      await appendToOutbox(tx, [await mailVerification(tx, user.id, traceparent)])
    })
  /** Has no effect unless the account of `bootstrapAdminEmail` qualifies. */
  const bootstrap = async (tx: Tx, traceparent: string) => {
    if (bootstrapAdminEmail !== undefined)
      await bootstrapAdmin(tx, announce, bootstrapAdminEmail, traceparent)
  }

  /** Counts under the user's lock, so that concurrent requests do not exceed the limit. */
  const isFlooded = async (tx: Tx, userId: string, purpose: 'verify_email' | 'reset_password') => {
    await lockUsers(tx, [userId])
    return (await countMailedTokens(tx, userId, purpose, MAILS.seconds)) >= MAILS.many
  }

  const assertForm = (field: string, password: string) => {
    const faults = passwordFaults(password)
    if (faults.length > 0) throw validationProblem(faults.map(rule => ({ field, rule })))
  }

  /** Call this check last: it takes a core for a while. */
  const assertGood = async (
    field: string,
    password: string,
    { fullName, email }: Pick<User, 'fullName' | 'email'>,
  ) => {
    assertForm(field, password)
    if (await passwordMeter.isGuessedFirst(password, [fullName, email])) {
      throw validationProblem([{ field, rule: GUESSED_FIRST }])
    }
  }

  /** A hash of another cost reveals by its timing that the account exists. A failed rehash is no reason to refuse. */
  const renewHash = async ({ id, passwordHash }: User, password: string) => {
    try {
      const renewed = await passwords.renew(password, passwordHash!)
      if (renewed) await renewPasswordHash(sql, { id, passwordHash: renewed, insteadOf: passwordHash! })
    } catch (error) {
      logger.warn({ err: error, userId: id }, 'a password was not hashed anew')
    }
  }

  const confirmPassword = async (userId: string, password: string): Promise<User> => {
    const user = await findUser(sql, userId)
    if (user?.passwordHash === null) throw noPassword()
    if (!user || !(await passwords.matches(password, user.passwordHash))) {
      throw new ProblemError('PASSWORD_MISMATCH', 'The current password is wrong.')
    }
    return user
  }

  /** Hashes a new password. Throws SAME_PASSWORD if it equals the old one. */
  const hashOfNew = async (password: string, user: User): Promise<string> => {
    if (await passwords.matches(password, user.passwordHash)) {
      throw new ProblemError('SAME_PASSWORD', 'The new password must not be the old one.')
    }
    return passwords.hash(password)
  }

  /** Applies a password change: password hash, mailed links, link requests, API keys, sessions, event and mail. */
  const settlePassword = async (
    tx: Tx,
    change: { userId: string; hash: string; how: 'changed' | 'reset'; exceptSessionId?: string },
    { addressHash, traceparent }: Caller,
  ) => {
    const { userId, hash, how, exceptSessionId } = change
    await setPasswordHash(tx, userId, hash)
    await spendMailedTokensOf(tx, userId, 'reset_password')
    // Pending link requests were authorised with the old password.
    await forgetOidcRequests(tx, userId)
    // On reset only: a forgotten password may be in other hands; a user who changes it is aware of their back ends.
    if (how === 'reset') await endApiKeys(tx, announce, { userId, reason: 'password_reset' }, traceparent)
    const broadcast = await sessions.endIn(
      tx,
      { userId, reason: `password_${how}`, ...(exceptSessionId === undefined ? {} : { exceptSessionId }) },
      traceparent,
    )
    await appendToOutbox(tx, [
      announce.identityEvent('PasswordChanged', { userId, how, addressHash }, traceparent),
      await announce.mail({ userId, template: 'password_changed' }, traceparent),
    ])
    return broadcast
  }

  return {
    signUp: async ({ email, password, fullName }, caller) => {
      const { traceparent } = caller
      const signupNetworkHash = networkHashOf(caller)
      assertForm('password', password)
      const taken = () =>
        new ProblemError(
          'EMAIL_ALREADY_REGISTERED',
          'email: has an account already; sign in instead, or set a new password with POST /v1/auth/forgot-password.',
        )
      const known = await findUserByEmail(sql, email)
      if (known?.emailVerified || known?.disabled) throw taken()
      await assertGood('password', password, { fullName, email })
      const id = known?.id ?? randomUUID()
      const passwordHash = await passwords.hash(password)
      await inTransaction(async tx => {
        if (known) {
          const signup = { userId: id, fullName, passwordHash, signupNetworkHash, how: 'signup' as const }
          if (!(await replaceSignup(tx, announce, signup, traceparent))) throw taken()
        } else {
          if (!(await insertUser(tx, { id, email, fullName, passwordHash, signupNetworkHash }))) throw taken()
          await personKeys.create(tx, id)
          await appendToOutbox(tx, [announce.identityEvent('UserRegistered', { userId: id }, traceparent)])
        }
        await appendToOutbox(tx, [await mailVerification(tx, id, traceparent, signupOf(caller))])
      })
      return (await findUser(sql, id))!
    },

    verifyEmail: async ({ token, password, newPassword, fullName }, caller) => {
      const { traceparent } = caller
      const invalid = () =>
        new ProblemError(
          'INVALID_VERIFICATION_TOKEN',
          'token: is unknown, expired (24 hours) or used before.',
        )
      const found = await readMailedToken(sql, sha256(token), 'verify_email')
      const user = found === undefined ? undefined : await findUser(sql, found)
      if (!user) throw invalid()
      let hash: string | undefined
      if (newPassword !== undefined) {
        await assertGood('newPassword', newPassword, {
          fullName: fullName ?? user.fullName,
          email: user.email,
        })
        hash = await passwords.hash(newPassword)
      } else if (password !== undefined) {
        if (!(await passwords.matches(password, user.passwordHash))) {
          throw new ProblemError('PASSWORD_MISMATCH', 'password: is not the one of the sign-up.')
        }
      } else if (!(await isSignupNetwork(sql, user.id, networkHashOf(caller)))) {
        throw new ProblemError(
          'VERIFICATION_PROOF_REQUIRED',
          'password: is needed, the one of the sign-up, because that came from another network; or set your own as newPassword.',
        )
      }
      await inTransaction(async tx => {
        if (!(await spendMailedToken(tx, sha256(token), 'verify_email'))) throw invalid()
        const isFirst = await markEmailVerified(tx, user.id)
        if (isFirst) {
          await appendToOutbox(tx, [
            announce.identityEvent('EmailVerified', { userId: user.id }, traceparent),
          ])
        }
        if (hash !== undefined) {
          // A verified account changes its password by a reset, which ends sessions and API keys.
          if (!isFirst) throw invalid()
          await setPasswordHash(tx, user.id, hash)
          if (fullName !== undefined) await renameUser(tx, user.id, fullName)
          // Other links of the sign-up have nothing left to verify.
          await spendMailedTokensOf(tx, user.id, 'verify_email')
          await appendToOutbox(tx, [
            announce.identityEvent('SignupReplaced', { userId: user.id, how: 'mail' }, traceparent),
          ])
        }
        await markOwnerProved(tx, user.id)
        await bootstrap(tx, traceparent)
      })
      return (await findUser(sql, user.id))!
    },

    resendVerification: (email, traceparent) => {
      const resend = async () => {
        const user = await findUserByEmail(sql, email)
        if (!user || user.emailVerified || user.disabled) return
        await remailVerification(user, traceparent)
      }
      resend().catch(error => logger.error({ err: error }, 'a verification mail was not requested'))
    },

    checkPassword: async (email, password, caller) => {
      const user = await findUserByEmail(sql, email)
      const right = await passwords.matches(password, user?.passwordHash)
      if (!user || !right) {
        if (user && !user.erased)
          logins.failed(user.id, { method: 'password', reason: 'wrong_password' }, caller)
        throw new ProblemError('INVALID_CREDENTIALS', 'email or password: is wrong.')
      }
      await renewHash(user, password)
      if (!user.emailVerified) {
        logins.failed(user.id, { method: 'password', reason: 'email_not_verified' }, caller)
        throw new ProblemError(
          'EMAIL_NOT_VERIFIED',
          'email: must be verified first, by the link that was mailed.',
        )
      }
      if (user.disabled) {
        logins.failed(user.id, { method: 'password', reason: 'account_disabled' }, caller)
        throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
      }
      return user
    },

    confirmPassword,

    forgotPassword: (email, { addressHash, traceparent }) => {
      const mailLink = async () => {
        const user = await findUserByEmail(sql, email)
        if (!user || user.disabled) return
        // The verification link sets a new password as well, which invalidates the sign-up's password and links.
        if (!user.emailVerified) return remailVerification(user, traceparent)
        const userId = user.id
        await inTransaction(async tx => {
          if (await isFlooded(tx, userId, 'reset_password')) return
          await appendToOutbox(tx, [
            announce.identityEvent('PasswordResetRequested', { userId, addressHash }, traceparent),
            await mailToken(
              tx,
              { userId, purpose: 'reset_password', url: urls.newPassword, lifeMs: RESET_MS },
              traceparent,
            ),
          ])
        })
      }
      mailLink().catch(error => logger.error({ err: error }, 'a mail for a new password was not requested'))
    },

    resetPassword: async (token, password, caller) => {
      const invalid = () =>
        new ProblemError('INVALID_RESET_TOKEN', 'token: is unknown, expired (1 hour) or used before.')
      const found = await readMailedToken(sql, sha256(token), 'reset_password')
      const user = found === undefined ? undefined : await findUser(sql, found)
      if (!user || user.disabled) throw invalid()
      await assertGood('password', password, user)
      const hash = await hashOfNew(password, user)
      const broadcast = await inTransaction(async tx => {
        // Lock order: the user first, as in each password change; else two requests that spend two links deadlock.
        const [current] = await lockUsers(tx, [user.id])
        if (!current || current.disabled) return undefined
        if (!(await spendMailedToken(tx, sha256(token), 'reset_password'))) return undefined
        await markOwnerProved(tx, user.id)
        const settled = await settlePassword(tx, { userId: user.id, hash, how: 'reset' }, caller)
        await bootstrap(tx, caller.traceparent)
        return settled
      })
      if (!broadcast) throw invalid()
      await broadcast()
      return { userId: user.id }
    },

    changePassword: async ({ userId, sessionId }, { current, next }, caller) => {
      const user = await confirmPassword(userId, current)
      await assertGood('newPassword', next, user)
      const hash = await hashOfNew(next, user)
      const broadcast = await inTransaction(async tx => {
        const [known] = await lockUsers(tx, [userId])
        // Of two concurrent changes the second was confirmed with an outdated password.
        if (known?.passwordVersion !== user.passwordVersion) {
          throw new ProblemError('PASSWORD_MISMATCH', 'The current password is wrong.')
        }
        return settlePassword(tx, { userId, hash, how: 'changed', exceptSessionId: sessionId }, caller)
      })
      await broadcast()
    },

    rename: async (userId, fullName, traceparent) =>
      inTransaction(async tx => {
        const user = await renameUser(tx, userId, fullName)
        if (!user) throw new ProblemError('TOKEN_INVALID', 'The user of this token does not exist.')
        await appendToOutbox(tx, [
          announce.identityEvent('ProfileChanged', { userId, fields: ['fullName'] }, traceparent),
        ])
        return user
      }),
  }
}

/**
 * Reassigns an unverified account and invalidates its old password and links. A sign-up may do so once the previous one
 * is older than 24 hours; a provider that has verified the address, at once. False if the account cannot be reassigned:
 * the caller must then roll back. Spends the links first, as `verifyEmail` does, so that the two cannot deadlock.
 */
export const replaceSignup = async (
  tx: Tx,
  announce: Announce,
  signup: { userId: string; fullName: string } & (
    | { how: 'signup'; passwordHash: string; signupNetworkHash: string }
    | { how: 'oidc'; passwordHash: null; signupNetworkHash: null }
  ),
  traceparent: string,
): Promise<boolean> => {
  const { userId, fullName, passwordHash, signupNetworkHash, how } = signup
  await spendMailedTokensOf(tx, userId, 'verify_email')
  const user = { id: userId, fullName, passwordHash, signupNetworkHash }
  if (!(await replaceUnverifiedUser(tx, user, how === 'signup' ? SIGNUP_HOURS : 0))) return false
  await appendToOutbox(tx, [announce.identityEvent('SignupReplaced', { userId, how }, traceparent)])
  return true
}

/** Makes the proven owner of an address super_admin if they never had the role; returns their id, or undefined. */
export const bootstrapAdmin = async (
  tx: Tx,
  announce: Announce,
  email: string,
  traceparent: string,
): Promise<string | undefined> => {
  const user = await grantSuperAdmin(tx, email)
  if (!user) return undefined
  const previousRole = highestRole({ roles: user.roles.filter(role => role !== 'super_admin') })
  await appendToOutbox(tx, [
    announce.identityEvent(
      'RoleChanged',
      { userId: user.id, byUserId: null, previousRole, role: 'super_admin' },
      traceparent,
    ),
  ])
  await tellSuperAdmins(tx, announce, user.id, traceparent)
  return user.id
}
