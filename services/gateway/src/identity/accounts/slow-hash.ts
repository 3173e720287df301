import { type Clock, systemClock } from '@pennywire/runtime/clock.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import bcrypt from 'bcrypt'
import { ProblemError } from '../../problems/problem.ts'
import { createFairQueue, NotServed } from '../../queues/fair-queue.ts'
import { currentPlace } from '../../queues/request-scope.ts'

const hashes = counter(
  'gateway_slow_hashes_total',
  'bcrypt hashes that were made or compared, by what was hashed; a payment with a step-up token adds none',
  ['of'],
)
const refusals = counter(
  'gateway_slow_hashes_refused_total',
  'Hashes that were not made, by why: full (no place), late (no turn in time), gone (the client hung up)',
  ['of', 'reason'],
)

/** A request that waits longer is not worth hashing: its client has given up. */
const MAX_WAIT_MS = 10_000
/** Places in the queue for one account at one address. */
const MAX_PER_PATH = 10

export type SlowHash = {
  hash: (text: string, cost?: number) => Promise<string>
  matches: (text: string, hash: string) => Promise<boolean>
  /** Whether the hash has another cost than new hashes. */
  isOutdated: (hash: string) => boolean
  /** Whether no request waits for a turn. */
  isIdle: () => boolean
}

/**
 * Runs bcrypt in its thread pool, a few hashes at once, behind a bounded fair queue: each hash takes a core for a
 * quarter of a second, and password guessing must not starve the pool's other work (signatures, name look-ups). A
 * request without a place, or without a turn in time, is refused (503). The text must be at most 72 bytes: bcrypt
 * ignores the rest.
 */
export const createSlowHash = (options: {
  of: 'pin' | 'password'
  cost: number
  atOnce: number
  maxWaiting: number
  maxPerPath?: number
  clock?: Clock
}): SlowHash => {
  const { of, cost, atOnce, maxWaiting, maxPerPath = MAX_PER_PATH, clock = systemClock } = options
  const queue = createFairQueue({ atOnce, maxWaiting, maxPerPath, maxWaitMs: MAX_WAIT_MS, clock })

  const inTurn = <Result>(work: () => Promise<Result>): Promise<Result> =>
    queue
      .run(currentPlace(), () => {
        hashes.inc({ of })
        return work()
      })
      .catch(error => {
        if (!(error instanceof NotServed)) throw error
        refusals.inc({ of, reason: error.reason })
        throw new ProblemError(
          'SERVICE_UNAVAILABLE',
          'Too many sign-ins or PIN checks at once; try again shortly.',
        )
      })

  return {
    hash: (text, atCost = cost) => inTurn(() => bcrypt.hash(text, atCost)),
    matches: (text, hash) => inTurn(() => bcrypt.compare(text, hash)),
    isOutdated: hash => bcrypt.getRounds(hash) !== cost,
    isIdle: () => queue.waiting() === 0,
  }
}
