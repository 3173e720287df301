import { createHmac } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import type { InTransaction } from '../in-transaction.ts'
import { ProblemError, validationProblem } from '../problems.ts'
import { appendToOutbox } from '../sql/outbox.ts'
import {
  beginPinAttempt,
  forgivePinAttempts,
  hasPin,
  insertPin,
  readPinLock,
  rememberPinLock,
  settleWrongPin,
} from '../sql/pins.ts'
import type { Announce } from './announce.ts'
import type { SlowHash } from './slow-hash.ts'

/** What a PIN looks like. Any such PIN may be tried; fewer may be set. */
export const PIN_FORM = /^[0-9]{4,6}$/

const RULE = { maxAttempts: 3, lockHours: 24 }
/** So many locks within so many days freeze the user's wallets; see freeze-after-pin-locks.ts. */
const FREEZE_RULE = { many: 3, days: 30 }

/** Why a PIN must not be set, or undefined: the ones that everybody tries first. */
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

export type Pins = {
  /** Sets a user's first PIN. Throws VALIDATION_ERROR for a trivial one, PIN_ALREADY_SET. */
  setPin: (userId: string, pin: string, traceparent: string) => Promise<void>
  /**
   * Resolves where the PIN is right. Throws INVALID_PIN with `attemptsRemaining`, PIN_LOCKED with `lockedUntil` (at
   * once with the third wrong try), PIN_NOT_SET, or SERVICE_UNAVAILABLE when too many are being checked.
   */
  verifyPin: (userId: string, pin: string, traceparent?: string) => Promise<void>
  hasPin: (userId: string) => Promise<boolean>
}

const locked = (until: Date) =>
  new ProblemError(
    'PIN_LOCKED',
    `pin: is locked after ${RULE.maxAttempts} wrong tries, until ${until.toISOString()}.`,
    {
      lockedUntil: until.toISOString(),
    },
  )

export const createPins = (parts: {
  sql: Database
  inTransaction: InTransaction
  slowHash: SlowHash
  pepper: { kid: string; key: Buffer }
  announce: Announce
}): Pins => {
  const { sql, inTransaction, slowHash, pepper, announce } = parts
  const turns = new Map<string, Promise<unknown>>()

  /** 10,000 PINs are guessed from a bare hash within the hour, so the hash alone must not be enough: the pepper. */
  const peppered = (userId: string, pin: string) =>
    createHmac('sha256', pepper.key).update(`${userId}\0${pin}`).digest('base64')

  /**
   * One check per user at a time on this gateway: else four transfers with the right PIN at once would count as
   * four tries before the first is known to be right, and lock it. Guessing gains nothing by several gateways, since
   * the count is Postgres's.
   */
  const inTurnOf = async <Result>(userId: string, work: () => Promise<Result>): Promise<Result> => {
    const before = turns.get(userId)
    const mine = before ? before.then(work, work) : work()
    turns.set(userId, mine)
    try {
      return await mine
    } finally {
      if (turns.get(userId) === mine) turns.delete(userId)
    }
  }

  const refuseWithoutAttempt = async (userId: string): Promise<never> => {
    const pin = await readPinLock(sql, userId)
    if (!pin) throw new ProblemError('PIN_NOT_SET', 'pin: set one first, with POST /v1/pin.')
    if (pin.lockedUntil) throw locked(pin.lockedUntil)
    throw new ProblemError('SERVICE_UNAVAILABLE', 'The PIN was being checked elsewhere; try again.')
  }

  const check = async (userId: string, pin: string, traceparent: string | undefined): Promise<void> => {
    const begun = await beginPinAttempt(sql, userId, RULE)
    if (!begun) return refuseWithoutAttempt(userId)
    const { attempt, pepperId, hash } = begun
    if (pepperId !== pepper.kid)
      throw new Error(`a PIN was set under the pepper ${pepperId}, which is not here`)
    const right = await slowHash.matches(peppered(userId, pin), hash).catch(async error => {
      // Refused before it was hashed: it told the caller nothing and is no try.
      if (error instanceof ProblemError) await forgivePinAttempts(sql, userId, attempt)
      throw error
    })
    if (right) return forgivePinAttempts(sql, userId, attempt)
    const { attempts, lockedUntil } = await inTransaction(async tx => {
      const state = await settleWrongPin(tx, userId)
      const events = [announce.identityEvent('PinFailed', { userId, attempt }, traceparent)]
      if (state.lockedUntil) {
        await rememberPinLock(tx, { userId, lockedUntil: state.lockedUntil }, FREEZE_RULE)
        const until = state.lockedUntil.getTime()
        events.push(announce.identityEvent('PinLocked', { userId, lockedUntil: until }, traceparent))
      }
      await appendToOutbox(tx, events)
      return state
    })
    if (lockedUntil) throw locked(lockedUntil)
    const attemptsRemaining = RULE.maxAttempts - attempts
    throw new ProblemError('INVALID_PIN', `pin: is wrong; ${attemptsRemaining} more wrong tries lock it.`, {
      attemptsRemaining,
    })
  }

  return {
    setPin: async (userId, pin, traceparent) => {
      const fault = pinFault(pin)
      if (fault) throw validationProblem([{ field: 'pin', rule: fault }])
      const alreadySet = () => new ProblemError('PIN_ALREADY_SET', 'pin: is set already.')
      if (await hasPin(sql, userId)) throw alreadySet()
      const hash = await slowHash.hash(peppered(userId, pin))
      const inserted = await inTransaction(async tx => {
        if (!(await insertPin(tx, { userId, pepperId: pepper.kid, hash }))) return false
        await appendToOutbox(tx, [announce.identityEvent('PinSet', { userId }, traceparent)])
        return true
      })
      if (!inserted) throw alreadySet()
    },
    verifyPin: (userId, pin, traceparent) => inTurnOf(userId, () => check(userId, pin, traceparent)),
    hasPin: userId => hasPin(sql, userId),
  }
}
