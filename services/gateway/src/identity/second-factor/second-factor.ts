import { randomBytes } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Caller } from '../../access/requester.ts'
import { highestRole } from '../../access/roles.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError } from '../../problems/problem.ts'
import { noPassword, type Passwords } from '../accounts/passwords.ts'
import type { Announce } from '../events/announce.ts'
import { type KeyRing, seal, unseal } from '../persons/secret-box.ts'
import { findUser, lockUsers, type User } from '../persons/sql/users.ts'
import type { LoginHistory } from '../sessions/login-history.ts'
import { type Sessions, sha256 } from '../sessions/sessions.ts'
import { markSecondFactor, shareOpenSession } from '../sessions/sql/sessions.ts'
import { newRecoveryCodes, recoveryCodeHash } from './recovery-codes.ts'
import {
  beginCodeAttempt,
  type CodeAttempt,
  changeSecondFactorVersion,
  countRecoveryCodes,
  deleteOldChallenges,
  deleteSecondFactor,
  enableSecondFactor,
  insertChallenge,
  offerSecondFactor,
  readChallenge,
  readCodeLock,
  readSecondFactor,
  replaceRecoveryCodes,
  resealSecret,
  spendChallenge,
  spendRecoveryCode,
  spendStep,
} from './sql/second-factors.ts'
import { newTotpSecret, presentTotpSecret, totpStepOf } from './totp.ts'

/** Three codes are valid at once: an attacker can try some 30 of 1,000,000 a day once the lock has grown. */
const RULE = { maxAttempts: 5, lockMinutes: 15, maxLockMinutes: 24 * 60 }
const OFFER_MINUTES = 10
/** Time between the first and the second step of a sign-in. */
export const CHALLENGE_SECONDS = 5 * 60
const TOKEN_BYTES = 32
/** A mail about a change of the account is worth sending for this long. */
const NEWS_MS = 7 * 24 * 60 * 60 * 1_000

/** Proof of the second factor: a code of the authenticator, or a recovery code. */
export type Proof = { code: string } | { recoveryCode: string }

/** The requesting session. */
type Session = { userId: string; sessionId: string }

/**
 * Changing a sign-in method ends the user's other sessions and pending challenges: they were opened under the old rule.
 */
export type SecondFactor = {
  read: (
    userId: string,
  ) => Promise<{ enabledAt: Date | null; recoveryCodesLeft: number; lockedUntil: Date | null }>
  /** Offers a secret; nothing changes before `confirm`. Throws PASSWORD_MISMATCH, 2FA_ALREADY_ENABLED. */
  enable: (
    userId: string,
    password: string,
  ) => Promise<{ secret: string; otpauthUrl: string; expiresAt: Date }>
  /**
   * Turns the second factor on with the first code; resolves with the recovery codes, which cannot be read again.
   * Throws 2FA_INVALID, 2FA_NOT_ENABLED if no secret is on offer, 2FA_ALREADY_ENABLED.
   */
  confirm: (session: Session, code: string, traceparent: string) => Promise<string[]>
  /** Replaces the recovery codes; resolves with the new ones. Throws as `disable`. */
  replaceCodes: (session: Session, password: string, proof: Proof, traceparent: string) => Promise<string[]>
  /**
   * Turns the second factor off; a member of staff is signed out. Throws PASSWORD_MISMATCH, 2FA_INVALID, 2FA_LOCKED,
   * 2FA_NOT_ENABLED.
   */
  disable: (session: Session, password: string, proof: Proof, traceparent: string) => Promise<void>
  /** Checks a code of an open session; resolves with the time. Throws 2FA_INVALID, 2FA_LOCKED, 2FA_NOT_ENABLED. */
  confirmPresence: (session: Session, code: string, traceparent: string) => Promise<Date>
  /** Called after a correct first step of a sign-in: a token for `verify`, or undefined if no second step is needed. */
  challengeFor: (user: User) => Promise<string | undefined>
  /**
   * The second step of a sign-in; resolves with the user. Throws CHALLENGE_INVALID (unknown, expired, used),
   * 2FA_INVALID, 2FA_LOCKED, ACCOUNT_DISABLED.
   */
  verify: (challengeToken: string, proof: Proof, caller: Caller) => Promise<User>
}

const lockedProblem = (until: Date) =>
  new ProblemError(
    '2FA_LOCKED',
    `code: is locked after ${RULE.maxAttempts} wrong ones, until ${until.toISOString()}; a recovery code is taken.`,
    { lockedUntil: until.toISOString() },
  )

const notEnabled = () => new ProblemError('2FA_NOT_ENABLED', 'The second factor is not turned on.')
const passwordMismatch = () => new ProblemError('PASSWORD_MISMATCH', 'password: is wrong.')
const alreadyEnabled = () =>
  new ProblemError('2FA_ALREADY_ENABLED', 'The second factor is on already; turn it off first.')
const challengeInvalid = () =>
  new ProblemError(
    'CHALLENGE_INVALID',
    'challengeToken: is unknown, expired (5 minutes) or used; sign in again.',
  )

/** A digest that changes with every new password and every change of the second factor, and reveals neither. */
const provenBy = (user: User): Buffer =>
  sha256(`challenge\0${user.secondFactorVersion}\0${user.passwordHash}`)

/**
 * One-time codes as the second factor. A code is valid once: a conditional update takes its step, so that of two
 * requests with one code one is refused. Attempts are counted before the code is checked. A lock refuses codes but
 * accepts recovery codes: an attacker who has the password and guesses codes does not lock the owner out.
 */
export const createSecondFactor = (deps: {
  sql: Database
  inTransaction: InTransaction
  announce: Announce
  passwords: Passwords
  logins: LoginHistory
  sessions: Pick<Sessions, 'endIn'>
  keys: KeyRing
  pepper: KeyRing
  /** Shown by the authenticator above the code. */
  issuer: string
  clock: Clock
}): SecondFactor => {
  const { sql, inTransaction, announce, passwords, logins, sessions, keys, pepper, issuer, clock } = deps

  const bindingOf = (userId: string, keyId: string) => `pennywire:second-factor:${keyId}:${userId}`
  const sealSecret = (userId: string, secret: Buffer) => ({
    keyId: keys.current.kid,
    sealedSecret: seal(keys.current.key, secret, bindingOf(userId, keys.current.kid)),
  })
  const openSecret = (userId: string, { keyId, sealedSecret }: Omit<CodeAttempt, 'attempt'>): Buffer => {
    const key = keys.get(keyId)
    if (!key) throw new Error(`a second factor is sealed by ${keyId}, which is not here`)
    return unseal(key, sealedSecret, bindingOf(userId, keyId))
  }

  const hashesOf = (userId: string, codes: string[]) =>
    codes.map(code => recoveryCodeHash(pepper.current, userId, code))

  const mail = (userId: string, template: string, traceparent: string) =>
    announce.mailWithSecret(
      { userId, template, secret: {}, expiresAt: new Date(clock.now() + NEWS_MS) },
      traceparent,
    )

  /** Required before a session changes a sign-in method: a stranger at an open session does not have the password. */
  const requirePassword = async (userId: string, password: string): Promise<User> => {
    const user = await findUser(sql, userId)
    if (user?.passwordHash === null) throw noPassword()
    if (!(await passwords.matches(password, user?.passwordHash)) || !user) throw passwordMismatch()
    return user
  }

  /**
   * Follows each change of the second factor: a new version, and the end of all other sessions. Resolves with the
   * function to call after the commit.
   */
  const settleChange = async (tx: Tx, { userId, sessionId }: Session, traceparent: string) => {
    await changeSecondFactorVersion(tx, userId)
    return sessions.endIn(
      tx,
      { userId, exceptSessionId: sessionId, reason: 'second_factor_changed' },
      traceparent,
    )
  }

  const refuseWrongCode = async (userId: string, attempt: number, traceparent: string): Promise<never> => {
    const lockedUntil = await inTransaction(async tx => {
      const until = (await readCodeLock(tx, userId))?.lockedUntil ?? null
      const events = [announce.identityEvent('SecondFactorFailed', { userId, attempt }, traceparent)]
      // Published once: by the attempt that caused the lock.
      if (until && attempt >= RULE.maxAttempts) {
        const lock = { userId, lockedUntil: until.getTime() }
        // Notify the owner, because the attempt came with the password.
        events.push(
          announce.identityEvent('SecondFactorLocked', lock, traceparent),
          await mail(userId, 'second_factor_locked', traceparent),
        )
      }
      await appendToOutbox(tx, events)
      return until
    })
    if (lockedUntil) throw lockedProblem(lockedUntil)
    const attemptsRemaining = Math.max(0, RULE.maxAttempts - attempt)
    throw new ProblemError('2FA_INVALID', `code: is wrong or was used; ${attemptsRemaining} more lock it.`, {
      attemptsRemaining,
    })
  }

  /** Runs `run` in the transaction that accepts a proof; throws `changed` if the account has changed meanwhile. */
  type Then<Result> = { changed: () => ProblemError; run: (tx: Tx) => Promise<Result> }

  /**
   * Locks the user's row and checks that the credentials of the proof are unchanged. Always the first lock, so that
   * changes of an account cannot deadlock.
   */
  const lockUnchanged = async (tx: Tx, user: User, { changed }: Pick<Then<unknown>, 'changed'>) => {
    const [known] = await lockUsers(tx, [user.id])
    if (!known || known.disabled || !provenBy(known).equals(provenBy(user))) throw changed()
  }

  const byCode = async <Result>(user: User, code: string, traceparent: string, then: Then<Result>) => {
    const userId = user.id
    const begun = await beginCodeAttempt(sql, userId, RULE)
    if (!begun) {
      const state = await readSecondFactor(sql, userId, OFFER_MINUTES)
      if (!state?.enabledAt) throw notEnabled()
      if (state.lockedUntil) throw lockedProblem(state.lockedUntil)
      throw new ProblemError('SERVICE_UNAVAILABLE', 'The code was being checked elsewhere; try again.')
    }
    const { attempt } = begun
    const secret = openSecret(userId, begun)
    const step = totpStepOf(secret, code, clock.now())
    if (step !== undefined) {
      const taken = await inTransaction(async tx => {
        await lockUnchanged(tx, user, then)
        if (!(await spendStep(tx, { userId, attempt, step }))) return undefined
        if (begun.keyId !== keys.current.kid)
          await resealSecret(tx, { userId, ...sealSecret(userId, secret) })
        return { result: await then.run(tx) }
      })
      if (taken) return taken.result
    }
    return refuseWrongCode(userId, attempt, traceparent)
  }

  const byRecoveryCode = async <Result>(
    user: User,
    recoveryCode: string,
    traceparent: string,
    then: Then<Result>,
  ) => {
    const userId = user.id
    const hashes = pepper.all.map(key => ({
      pepperId: key.kid,
      hash: recoveryCodeHash(key, userId, recoveryCode),
    }))
    const news = await mail(userId, 'second_factor_recovery', traceparent)
    const taken = await inTransaction(async tx => {
      await lockUnchanged(tx, user, then)
      if (!(await spendRecoveryCode(tx, userId, hashes))) return undefined
      const codesLeft = await countRecoveryCodes(tx, userId)
      await appendToOutbox(tx, [
        announce.identityEvent('RecoveryCodeUsed', { userId, codesLeft }, traceparent),
        news,
      ])
      return { result: await then.run(tx) }
    })
    if (taken) return taken.result
    const failed = announce.identityEvent('SecondFactorFailed', { userId, attempt: null }, traceparent)
    await inTransaction(tx => appendToOutbox(tx, [failed]))
    throw new ProblemError('2FA_INVALID', 'recoveryCode: is wrong or was used.')
  }

  /** Accepts a proof and runs `then` in the same transaction. */
  const prove = <Result>(user: User, proof: Proof, traceparent: string, then: Then<Result>) =>
    'code' in proof
      ? byCode(user, proof.code, traceparent, then)
      : byRecoveryCode(user, proof.recoveryCode, traceparent, then)

  const changedElsewhere = () =>
    new ProblemError('SERVICE_UNAVAILABLE', 'The account was being changed elsewhere; try again.')

  return {
    read: async userId => {
      const state = await readSecondFactor(sql, userId, OFFER_MINUTES)
      if (!state?.enabledAt) return { enabledAt: null, recoveryCodesLeft: 0, lockedUntil: null }
      const { enabledAt, lockedUntil } = state
      return { enabledAt, recoveryCodesLeft: await countRecoveryCodes(sql, userId), lockedUntil }
    },

    enable: async (userId, password) => {
      const user = await requirePassword(userId, password)
      const secret = newTotpSecret()
      if (!(await offerSecondFactor(sql, { userId, ...sealSecret(userId, secret) }))) throw alreadyEnabled()
      return {
        ...presentTotpSecret(secret, { issuer, label: user.email }),
        expiresAt: new Date(clock.now() + OFFER_MINUTES * 60_000),
      }
    },

    // Attempts are not counted, because this session has received the secret.
    confirm: async (session, code, traceparent) => {
      const { userId } = session
      const offer = await readSecondFactor(sql, userId, OFFER_MINUTES)
      if (offer?.enabledAt) throw alreadyEnabled()
      if (!offer?.fresh) throw notEnabled()
      const step = totpStepOf(openSecret(userId, offer), code, clock.now())
      if (step === undefined) throw new ProblemError('2FA_INVALID', 'code: is wrong.')
      const codes = newRecoveryCodes()
      const news = await mail(userId, 'second_factor_enabled', traceparent)
      const broadcast = await inTransaction(async tx => {
        const { sealedSecret } = offer
        const ended = await settleChange(tx, session, traceparent)
        // Under the user's lock: a session that ended meanwhile, such as by a new password, changes nothing.
        if (!(await shareOpenSession(tx, session.sessionId))) {
          throw new ProblemError('TOKEN_REVOKED', 'The session has ended; sign in again.')
        }
        if (!(await enableSecondFactor(tx, { userId, sealedSecret, step }))) throw alreadyEnabled()
        await markSecondFactor(tx, session.sessionId)
        await replaceRecoveryCodes(tx, {
          userId,
          pepperId: pepper.current.kid,
          hashes: hashesOf(userId, codes),
        })
        await appendToOutbox(tx, [
          announce.identityEvent('SecondFactorEnabled', { userId }, traceparent),
          news,
        ])
        return ended
      })
      await broadcast()
      return codes
    },

    replaceCodes: async (session, password, proof, traceparent) => {
      const { userId } = session
      const user = await requirePassword(userId, password)
      const codes = newRecoveryCodes()
      const news = await mail(userId, 'recovery_codes_replaced', traceparent)
      const replace = async (tx: Tx) => {
        await replaceRecoveryCodes(tx, {
          userId,
          pepperId: pepper.current.kid,
          hashes: hashesOf(userId, codes),
        })
        const event = announce.identityEvent('RecoveryCodesReplaced', { userId }, traceparent)
        await appendToOutbox(tx, [event, news])
        return settleChange(tx, session, traceparent)
      }
      const broadcast = await prove(user, proof, traceparent, { changed: changedElsewhere, run: replace })
      await broadcast()
      return codes
    },

    disable: async (session, password, proof, traceparent) => {
      const { userId } = session
      const user = await requirePassword(userId, password)
      const news = await mail(userId, 'second_factor_disabled', traceparent)
      const turnOff = async (tx: Tx) => {
        if (!(await deleteSecondFactor(tx, userId))) throw notEnabled()
        const off = { userId, byUserId: userId, reason: null }
        await appendToOutbox(tx, [announce.identityEvent('SecondFactorDisabled', off, traceparent), news])
        const broadcast = await settleChange(tx, session, traceparent)
        if (highestRole(user) === 'user') return broadcast
        // End this session, too: its token contains a role that requires the second factor.
        const { sessionId } = session
        const own = { userId, sessionId, reason: 'second_factor_changed' }
        const toldOwn = await sessions.endIn(tx, own, traceparent)
        return async () => void (await Promise.all([broadcast(), toldOwn()]))
      }
      const broadcast = await prove(user, proof, traceparent, { changed: changedElsewhere, run: turnOff })
      await broadcast()
    },

    confirmPresence: async ({ userId, sessionId }, code, traceparent) => {
      const user = await findUser(sql, userId)
      if (!user) throw notEnabled()
      const run = (tx: Tx) => markSecondFactor(tx, sessionId)
      await prove(user, { code }, traceparent, { changed: changedElsewhere, run })
      return new Date(clock.now())
    },

    challengeFor: async user => {
      const token = randomBytes(TOKEN_BYTES).toString('base64url')
      const challenge = { hash: sha256(token), userId: user.id, proven: provenBy(user) }
      if (!(await insertChallenge(sql, { ...challenge, seconds: CHALLENGE_SECONDS }))) return undefined
      await deleteOldChallenges(sql, user.id)
      return token
    },

    verify: async (challengeToken, proof, caller) => {
      const hash = sha256(challengeToken)
      const challenge = await readChallenge(sql, hash)
      const user = challenge && (await findUser(sql, challenge.userId))
      if (!user || !challenge.proven.equals(provenBy(user))) throw challengeInvalid()
      if (user.disabled) {
        logins.failed(user.id, { method: 'second_factor', reason: 'account_disabled' }, caller)
        throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
      }
      const spend = async (tx: Tx) => {
        if (!(await spendChallenge(tx, hash))) throw challengeInvalid()
      }
      try {
        await prove(user, proof, caller.traceparent, { changed: challengeInvalid, run: spend })
      } catch (error) {
        if (error instanceof ProblemError && (error.code === '2FA_INVALID' || error.code === '2FA_LOCKED')) {
          logins.failed(user.id, { method: 'second_factor', reason: 'wrong_second_factor' }, caller)
        }
        throw error
      }
      return user
    },
  }
}
