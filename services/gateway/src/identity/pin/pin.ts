import { createHmac, randomInt, randomUUID, timingSafeEqual } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError, validationProblem } from '../../problems/problem.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { SlowHash } from '../accounts/slow-hash.ts'
import type { Announce } from '../events/announce.ts'
import type { KeyRing, SecretKey } from '../persons/secret-box.ts'
import type { Revocations } from '../sessions/revocations.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { isSignInFresh } from '../sessions/sql/sessions.ts'
import {
  beginResetAttempt,
  forgiveResetAttempt,
  insertPinReset,
  readResetPause,
  spendPinReset,
} from './sql/pin-resets.ts'
import {
  beginPinAttempt,
  forgetDuePinFreezes,
  forgivePinAttempts,
  hasPin,
  insertPin,
  readPinState,
  rehashPin,
  rememberPinLock,
  replacePin,
  settleWrongPin,
} from './sql/pins.ts'

/** The format of a PIN. Any such PIN may be tried; `pinFault` allows fewer to be set. */
export const PIN_FORM = /^[0-9]{4,6}$/

const RULE = { maxAttempts: 3, lockHours: 24 }
/** `many` locks within `days` freeze the user's wallets; see freeze-after-pin-locks.ts. */
const FREEZE_RULE = { many: 3, days: 30 }

/** Within this time after a sign-in its session may set the first PIN without another proof (ASVS 5.0, 7.5.1). */
const FRESH_MINUTES = 5

/** An attacker with the user's session but not the mailbox can try some 25 of 1,000,000 codes a day. */
const RESET_RULE = { minutes: 15, maxAttempts: 5, maxRequests: 5 }

/** The rule that a new PIN breaks, or undefined. Refused are the PINs that attackers try first. */
export const pinFault = (pin: string): string | undefined => {
  if (!PIN_FORM.test(pin)) return 'must be 4 to 6 digits'
  const digits = [...pin].map(Number)
  const steps = digits.slice(1).map((digit, index) => (digit - digits[index]! + 10) % 10)
  if (steps.every(step => step === steps[0]) && [0, 1, 9].includes(steps[0]!)) {
    return 'must not be one digit repeated or a run such as 1234 or 4321'
  }
  const repeats = (block: number) =>
    pin.length % block === 0 && pin === pin.slice(0, block).repeat(pin.length / block)
  if (repeats(2) || (pin.length === 6 && repeats(3))) return 'must not be a group of digits repeated'
  return undefined
}

/** The requesting session. */
type Session = { userId: string; sessionId: string }

export type Pins = {
  /**
   * Sets a user's first PIN, which pays from then on: an access token alone is not enough. So the password is required,
   * or a sign-in of the last 5 minutes; `resetPin` sets the first PIN with a mailed code. Throws VALIDATION_ERROR for a
   * trivial PIN, PIN_ALREADY_SET, REAUTHENTICATION_REQUIRED, PASSWORD_MISMATCH, NO_PASSWORD.
   */
  setPin: (
    session: Session,
    first: { pin: string; password: string | undefined },
    traceparent: string,
  ) => Promise<void>
  /**
   * Resolves if the PIN is correct. Throws INVALID_PIN with `attemptsRemaining`, PIN_LOCKED with `lockedUntil` (already
   * with the third wrong attempt), PIN_NOT_SET, or SERVICE_UNAVAILABLE if too many PINs are being checked.
   */
  verifyPin: (userId: string, pin: string, traceparent?: string) => Promise<void>
  hasPin: (userId: string) => Promise<boolean>
  /** Whether a PIN is set, how many wrong attempts are left, and until when the PIN is locked (null: not locked). */
  readPin: (userId: string) => Promise<{ set: boolean; attemptsRemaining: number; lockedUntil: Date | null }>
  /**
   * Replaces the PIN after checking the current one, and ends all other sessions: a step-up token issued there for the
   * old PIN dies with its session. Throws as `verifyPin`, and VALIDATION_ERROR.
   */
  changePin: (
    session: Session,
    pins: { currentPin: string; newPin: string },
    traceparent: string,
  ) => Promise<void>
  /** Mails a code for `resetPin`. Throws RATE_LIMIT_EXCEEDED if too many codes were requested. */
  requestReset: (userId: string, traceparent: string) => Promise<{ expiresAt: Date }>
  /**
   * Spends the mailed code and sets another PIN, or the first one, in one transaction, which also ends a PIN lock and
   * all other sessions and requests that freezes after wrong PINs are lifted. Throws the same INVALID_OTP for a wrong,
   * spent, expired or too often tried code, and VALIDATION_ERROR for a PIN that must not be set.
   */
  resetPin: (session: Session, reset: { otp: string; newPin: string }, traceparent: string) => Promise<void>
}

/** At most this many PIN checks of one user wait for each other on a gateway. */
const MAX_TURNS = 200

/** A mail about a change of the account is worth sending for this long. */
const NEWS_MS = 7 * 24 * 60 * 60 * 1_000

const mailedCodeHash = ({ key }: SecretKey, userId: string, resetId: string, code: string): Buffer =>
  createHmac('sha256', key).update(`pin-reset\0${userId}\0${resetId}\0${code}`).digest()

/** The same problem for a wrong, spent or expired code and one tried too often. */
const invalidOtp = (attemptsRemaining: number) =>
  new ProblemError(
    'INVALID_OTP',
    'otp: is wrong, used, expired (15 minutes) or was tried too often; ask for another with POST /v1/pin/reset-request.',
    { attemptsRemaining },
  )

const locked = (until: Date) =>
  new ProblemError(
    'PIN_LOCKED',
    `pin: is locked after ${RULE.maxAttempts} wrong tries, until ${until.toISOString()}.`,
    {
      lockedUntil: until.toISOString(),
    },
  )

export const createPins = (deps: {
  sql: Database
  inTransaction: InTransaction
  slowHash: SlowHash
  pepper: KeyRing
  announce: Announce
  accounts: Pick<Accounts, 'confirmPassword'>
  sessions: Pick<Sessions, 'endIn'>
  revocations: Pick<Revocations, 'pushPinLock'>
  clock: Clock
}): Pins => {
  const { sql, inTransaction, slowHash, pepper, announce, accounts, sessions, revocations, clock } = deps
  const turns = new Map<string, { last: Promise<unknown>; many: number }>()

  /** 10,000 PINs are guessed from a bare hash within the hour: the pepper makes the hash alone insufficient. */
  const peppered = ({ key }: SecretKey, userId: string, pin: string) =>
    createHmac('sha256', key).update(`${userId}\0${pin}`).digest('base64')

  const hashOf = (userId: string, pin: string) => slowHash.hash(peppered(pepper.current, userId, pin))

  /** The key of a stored hash. Keys come from the settings only, so a missing one is our error, not the client's. */
  const pepperOf = (kid: string): SecretKey => {
    const key = pepper.get(kid)
    if (!key) throw new Error(`something was hashed under the pepper ${kid}, which is not here`)
    return { kid, key }
  }

  const refuseTrivial = (field: string, pin: string) => {
    const fault = pinFault(pin)
    if (fault) throw validationProblem([{ field, rule: fault }])
  }

  /**
   * One check per user at a time on this gateway: else four concurrent transfers with the correct PIN would count as
   * four attempts before the first is confirmed, and lock the PIN. Several gateways do not help an attacker, because
   * Postgres counts the attempts.
   */
  const inTurnOf = async <Result>(userId: string, work: () => Promise<Result>): Promise<Result> => {
    const before = turns.get(userId)
    if (before && before.many >= MAX_TURNS) {
      throw new ProblemError('SERVICE_UNAVAILABLE', 'pin: too many of yours are being checked; try again.')
    }
    const mine = before ? before.last.then(work, work) : work()
    const turn = { last: mine, many: (before?.many ?? 0) + 1 }
    turns.set(userId, turn)
    try {
      return await mine
    } finally {
      const newest = turns.get(userId)!
      if (newest === turn) turns.delete(userId)
      else newest.many--
    }
  }

  const news = (
    userId: string,
    template: 'pin_set' | 'pin_changed' | 'pin_locked',
    traceparent: string | undefined,
  ) => {
    const expiresAt = new Date(clock.now() + NEWS_MS)
    return announce.mailWithSecret({ userId, template, secret: {}, expiresAt }, traceparent)
  }

  /** Records a new PIN by event and mail, and ends other sessions; resolves with the function to call after commit. */
  const settleChange = async (
    tx: Tx,
    { userId, sessionId }: Session,
    how: 'PinChanged' | 'PinReset' | 'PinSet',
    traceparent: string,
  ) => {
    await appendToOutbox(tx, [
      announce.identityEvent(how, { userId }, traceparent),
      await news(userId, how === 'PinSet' ? 'pin_set' : 'pin_changed', traceparent),
    ])
    const reason = how === 'PinChanged' ? 'pin_changed' : 'pin_reset'
    return sessions.endIn(tx, { userId, exceptSessionId: sessionId, reason }, traceparent)
  }

  const refuseWithoutAttempt = async (userId: string): Promise<never> => {
    const pin = await readPinState(sql, userId)
    if (!pin) throw new ProblemError('PIN_NOT_SET', 'pin: set one first, with POST /v1/pin.')
    if (pin.lockedUntil) throw locked(pin.lockedUntil)
    throw new ProblemError('SERVICE_UNAVAILABLE', 'The PIN was being checked elsewhere; try again.')
  }

  /**
   * Rehashes under the current pepper and cost, at the first correct PIN after one changed. A refused rehash is no
   * reason to refuse the PIN.
   */
  const renew = async (userId: string, pin: string, hash: string): Promise<string> => {
    try {
      const renewed = await hashOf(userId, pin)
      await rehashPin(sql, { userId, pepperId: pepper.current.kid, hash: renewed, insteadOf: hash })
      return renewed
    } catch (error) {
      if (error instanceof ProblemError) return hash
      throw error
    }
  }

  /** Resolves with the stored hash if the PIN is correct. */
  const check = async (userId: string, pin: string, traceparent: string | undefined): Promise<string> => {
    const begun = await beginPinAttempt(sql, userId, RULE)
    if (!begun) return refuseWithoutAttempt(userId)
    const { attempt, pepperId, hash } = begun
    const key = pepperOf(pepperId)
    const right = await slowHash.matches(peppered(key, userId, pin), hash).catch(async error => {
      // Refused before hashing: the caller learned nothing, so the attempt does not count.
      if (error instanceof ProblemError) await forgivePinAttempts(sql, userId, attempt)
      throw error
    })
    if (right) {
      await forgivePinAttempts(sql, userId, attempt)
      const isCurrent = pepperId === pepper.current.kid && !slowHash.isOutdated(hash)
      return isCurrent ? hash : renew(userId, pin, hash)
    }
    const { attempts, lockedUntil } = await inTransaction(async tx => {
      const state = await settleWrongPin(tx, userId)
      const events = [announce.identityEvent('PinFailed', { userId, attempt }, traceparent)]
      const lock = state.lockedUntil && { userId, lockedUntil: state.lockedUntil }
      if (lock && (await rememberPinLock(tx, lock, FREEZE_RULE))) {
        const until = lock.lockedUntil.getTime()
        // Notify the owner, because the attempt came from their session.
        events.push(
          announce.identityEvent('PinLocked', { userId, lockedUntil: until }, traceparent),
          await news(userId, 'pin_locked', traceparent),
        )
      }
      await appendToOutbox(tx, events)
      return state
    })
    if (lockedUntil) {
      // Step-up tokens from before the lock authorise no more payments, in any session.
      await revocations.pushPinLock(userId)
      throw locked(lockedUntil)
    }
    const attemptsRemaining = RULE.maxAttempts - attempts
    throw new ProblemError('INVALID_PIN', `pin: is wrong; ${attemptsRemaining} more wrong tries lock it.`, {
      attemptsRemaining,
    })
  }

  /** A thief of an access token has neither the password nor, after a few minutes, a fresh sign-in. */
  const proveOwner = async ({ userId, sessionId }: Session, password: string | undefined): Promise<void> => {
    if (password !== undefined) {
      await accounts.confirmPassword(userId, password)
      return
    }
    if (await isSignInFresh(sql, sessionId, FRESH_MINUTES)) return
    throw new ProblemError(
      'REAUTHENTICATION_REQUIRED',
      `password: is needed for the first PIN, because the sign-in is older than ${FRESH_MINUTES} minutes; or set the PIN ` +
        'with a mailed code, POST /v1/pin/reset-request.',
    )
  }

  return {
    setPin: async (session, { pin, password }, traceparent) => {
      const { userId } = session
      refuseTrivial('pin', pin)
      const alreadySet = () => new ProblemError('PIN_ALREADY_SET', 'pin: is set already.')
      if (await hasPin(sql, userId)) throw alreadySet()
      await proveOwner(session, password)
      const hash = await hashOf(userId, pin)
      const inserted = await inTransaction(async tx => {
        if (!(await insertPin(tx, { userId, pepperId: pepper.current.kid, hash }))) return false
        // The PIN alone authorises payments from now on, so the owner is notified.
        await appendToOutbox(tx, [
          announce.identityEvent('PinSet', { userId }, traceparent),
          await news(userId, 'pin_set', traceparent),
        ])
        return true
      })
      if (!inserted) throw alreadySet()
    },
    verifyPin: async (userId, pin, traceparent) => {
      await inTurnOf(userId, () => check(userId, pin, traceparent))
    },
    hasPin: userId => hasPin(sql, userId),
    readPin: async userId => {
      const state = await readPinState(sql, userId)
      return {
        set: state !== undefined,
        attemptsRemaining: Math.max(0, RULE.maxAttempts - (state?.attempts ?? 0)),
        lockedUntil: state?.lockedUntil ?? null,
      }
    },

    changePin: (session, { currentPin, newPin }, traceparent) =>
      inTurnOf(session.userId, async () => {
        const { userId } = session
        refuseTrivial('newPin', newPin)
        if (newPin === currentPin)
          throw validationProblem([{ field: 'newPin', rule: 'must not be the PIN that is set' }])
        const insteadOf = await check(userId, currentPin, traceparent)
        const hash = await hashOf(userId, newPin)
        const broadcast = await inTransaction(async tx => {
          const pepperId = pepper.current.kid
          if (!(await replacePin(tx, { userId, pepperId, hash, insteadOf }))) {
            throw new ProblemError('SERVICE_UNAVAILABLE', 'The PIN was being changed elsewhere; try again.')
          }
          return settleChange(tx, session, 'PinChanged', traceparent)
        })
        await broadcast()
      }),

    requestReset: async (userId, traceparent) => {
      const id = randomUUID()
      const code = String(randomInt(1_000_000)).padStart(6, '0')
      const hash = mailedCodeHash(pepper.current, userId, id, code)
      const expiresAt = new Date(clock.now() + RESET_RULE.minutes * 60_000)
      const secret = { code }
      const mail = await announce.mailWithSecret(
        { userId, template: 'pin_reset', secret, expiresAt },
        traceparent,
      )
      const pause = await inTransaction(async tx => {
        const reset = { userId, id, pepperId: pepper.current.kid, hash }
        if (!(await insertPinReset(tx, reset, RESET_RULE))) return readResetPause(tx, userId)
        await appendToOutbox(tx, [announce.identityEvent('PinResetRequested', { userId }, traceparent), mail])
        return 0
      })
      if (pause > 0) {
        throw new ProblemError(
          'RATE_LIMIT_EXCEEDED',
          `At most ${RESET_RULE.maxRequests} codes within 24 hours; try again in ${pause} seconds.`,
          { limit: RESET_RULE.maxRequests, windowSeconds: 24 * 60 * 60 },
          { 'retry-after': String(pause) },
        )
      }
      return { expiresAt }
    },

    resetPin: (session, { otp, newPin }, traceparent) =>
      inTurnOf(session.userId, async () => {
        const { userId } = session
        refuseTrivial('newPin', newPin)
        const begun = await beginResetAttempt(sql, userId, RESET_RULE)
        if (!begun) throw invalidOtp(0)
        const given = mailedCodeHash(pepperOf(begun.pepperId), userId, begun.id, otp)
        if (!timingSafeEqual(given, begun.hash)) {
          const failed = announce.identityEvent(
            'PinResetFailed',
            { userId, attempt: begun.attempt },
            traceparent,
          )
          await inTransaction(tx => appendToOutbox(tx, [failed]))
          throw invalidOtp(RESET_RULE.maxAttempts - begun.attempt)
        }
        const hash = await hashOf(userId, newPin).catch(async error => {
          await forgiveResetAttempt(sql, userId, begun.id)
          throw error
        })
        const broadcast = await inTransaction(async tx => {
          if (!(await spendPinReset(tx, userId, begun.id))) throw invalidOtp(0)
          const pin = { userId, pepperId: pepper.current.kid, hash }
          const isFirst = !(await replacePin(tx, { ...pin, insteadOf: undefined }))
          if (isFirst && !(await insertPin(tx, pin)))
            throw new ProblemError('SERVICE_UNAVAILABLE', 'The PIN was being set elsewhere; try again.')
          await forgetDuePinFreezes(tx, userId)
          return settleChange(tx, session, isFirst ? 'PinSet' : 'PinReset', traceparent)
        })
        await broadcast()
      }),
  }
}
