import type { Clock } from '@pennywire/runtime/clock.ts'
import { collectedGauge, counter } from '@pennywire/runtime/metrics.ts'
import { ProblemError } from '../problems/problem.ts'
import { createFairQueue, type FairQueue, NotServed } from './fair-queue.ts'
import { currentRequest } from './request-scope.ts'

const refusals = counter(
  'gateway_turns_refused_total',
  'Reads and payments that were not begun, by why: full (too many of one user), late (no turn in time), gone (the client hung up)',
  ['of', 'database', 'reason'],
)

type Of = 'reads' | 'payments'
const queues = new Map<string, { labels: { of: Of; database: string }; queue: FairQueue }>()
collectedGauge(
  'gateway_waiting_turns',
  'Reads and payments that wait for their turn',
  ['of', 'database'],
  () => [...queues.values()].map(({ labels, queue }) => ({ labels, value: queue.waiting() })),
)

/** Fewer than a pool has connections, so that transfers always find one. */
const AT_ONCE = 4
/** Of one user, over all keys, sessions and addresses. */
const MAX_PER_USER = 400
const MAX_WAITING = 1_000
/** Work that waits longer than its client is not worth starting. */
const MAX_WAIT_MS = 10_000

/** Runs a user's work when its turn comes. Throws RATE_LIMIT_EXCEEDED or SERVICE_UNAVAILABLE if it was not started. */
export type InTurn = <Result>(userId: string, work: () => Promise<Result>) => Promise<Result>

/**
 * A few at once and a fair queue behind them, for work that occupies the event loop or a connection for milliseconds:
 * hundreds at once would delay every transfer. The next turn goes to the user with the fewest recent turns. Each
 * database has a queue of its own, so that a hanging database delays no read of another.
 */
export const createTurns = (of: Of, database: 'gateway' | 'ledger' | 'notifier', clock: Clock): InTurn => {
  const labels = { of, database }
  const queue = createFairQueue({
    atOnce: AT_ONCE,
    maxWaiting: MAX_WAITING,
    maxPerPath: MAX_PER_USER,
    maxWaitMs: MAX_WAIT_MS,
    clock,
  })
  queues.set(`${of} ${database}`, { labels, queue })

  return async (userId, work) => {
    try {
      return await queue.run({ path: [userId], known: true, gone: currentRequest()?.gone }, work)
    } catch (error) {
      if (!(error instanceof NotServed)) throw error
      refusals.inc({ ...labels, reason: error.reason })
      throw error.reason === 'full'
        ? new ProblemError('RATE_LIMIT_EXCEEDED', `At most ${MAX_PER_USER} of your ${of} wait at a time.`)
        : new ProblemError('SERVICE_UNAVAILABLE', `Too many ${of} at once; try again shortly.`)
    }
  }
}
