import { type Clock, systemClock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import {
  type ClaimedDelivery,
  claimDeliveries,
  endDelivery,
  expireDeliveries,
  postponeDelivery,
} from './sql/deliveries.ts'

const tries = counter('notifier_deliveries_total', 'Deliveries by what became of each attempt', [
  'channel',
  'outcome',
])

/** How long a new delivery may wait where nobody calls `wake`: another instance stored it, or its pause is over. */
const POLL_MS = 1_000
const FIRST_PAUSE_MS = 1_000

/** A way out of the system. Each is one file in `channels/`. */
export type Channel = {
  name: string
  /** Deliveries on their way at the same time, in this instance. */
  atOnce: number
  /** Longer than the slowest try, so that no two instances make the same one. */
  claimMs: number
  /** The longest pause between two tries; the first is a second, and each doubles. */
  lastPauseMs: number
  /** Throws where it did not go out. `suppressed`: it must not, and is over. */
  deliver: (delivery: ClaimedDelivery) => Promise<'sent' | 'suppressed'>
  /** Whether the other side has refused it for good, so that another try is pointless. */
  isFinal: (error: unknown) => boolean
}

/** The error's code alone: its text may name an address, or hold what could not be parsed of a secret. */
const codeOf = (error: unknown): string => {
  const { code, responseCode, name } = error as { code?: string; responseCode?: number; name?: string }
  return [code ?? name ?? 'Error', responseCode].filter(part => part !== undefined).join(' ')
}

/** Counts tries of a channel by their outcome. */
export const countTry = (channel: string, outcome: string, times = 1): void =>
  tries.inc({ channel, outcome }, times)

/**
 * Works on what is due in so many slots at once: a job that is slow holds its own slot and no other. A job that fails is not
 * lost: its claim runs out, and an instance claims it again.
 */
export const startSlots = <Job>(options: {
  name: string
  atOnce: number
  /** A job that has lasted so long leaves its slot to others and goes on beside them, where so many do not do so already. */
  slow?: { afterMs: number; atOnce: number }
  /** How often what is due is looked for where nobody calls `wake`. */
  pollMs?: number
  /** Claims at most so many jobs for this instance. */
  claim: (limit: number) => Promise<Job[]>
  work: (job: Job) => Promise<void>
  logger: Logger
  clock: Clock
}): Repeated => {
  const { name, atOnce, slow, pollMs = POLL_MS, claim, work, logger, clock } = options
  const inSlots = new Set<Promise<void>>()
  const beside = new Set<Promise<void>>()
  let freed = Promise.withResolvers<void>()
  const leave = (working: Promise<void>) => {
    if (!inSlots.delete(working)) return
    freed.resolve()
    freed = Promise.withResolvers()
  }
  const start = (job: Job) => {
    const working: Promise<void> = work(job)
      .catch(error => logger.warn({ channel: name, code: codeOf(error) }, 'not written down; trying again'))
      .finally(() => {
        cancel()
        leave(working)
        beside.delete(working)
      })
    const cancel =
      slow === undefined
        ? () => {}
        : clock.after(slow.afterMs, () => {
            if (beside.size >= slow.atOnce) return
            beside.add(working)
            leave(working)
          })
    inSlots.add(working)
  }
  const begin = async (signal: AbortSignal): Promise<boolean> => {
    if (inSlots.size >= atOnce) await freed.promise
    if (signal.aborted) return false
    const free = atOnce - inSlots.size
    const jobs = await claim(free)
    for (const job of jobs) start(job)
    return jobs.length === free
  }
  const repeated = repeat({
    ...{ clock, everyMs: pollMs, work: begin },
    onError: error =>
      logger.warn(
        { channel: name, code: codeOf(error) },
        'the database does not say what is due; trying again',
      ),
  })
  return {
    wake: repeated.wake,
    stop: async () => {
      const stopped = repeated.stop()
      // A round that waits for a slot ends as well.
      freed.resolve()
      await stopped
      await Promise.all([...inSlots, ...beside])
    },
  }
}

/**
 * Delivers what is due by a channel, apart from the consumer: a server that is away holds no notice and no partition. A try
 * whose answer is lost is made once more, under the same id. Several instances share the work; what is given up stays in
 * the table with its error.
 */
export const startDelivering = (deps: {
  sql: Database
  channel: Channel
  logger: Logger
  clock?: Clock
}): Repeated => {
  const { sql, channel, logger, clock = systemClock } = deps
  const { name, atOnce, claimMs } = channel

  const attempt = async (delivery: ClaimedDelivery): Promise<void> => {
    const { id, attempts } = delivery
    let outcome: 'sent' | 'suppressed'
    try {
      outcome = await channel.deliver(delivery)
    } catch (error) {
      const code = codeOf(error)
      if (channel.isFinal(error)) {
        countTry(name, 'failed')
        logger.error({ channel: name, id, attempts, code }, 'delivery given up')
        await endDelivery(sql, delivery, { state: 'failed', error: code })
      } else {
        countTry(name, 'postponed')
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), channel.lastPauseMs)
        logger.warn({ channel: name, id, attempts, code, pauseMs }, 'not delivered; trying again')
        await postponeDelivery(sql, delivery, code, pauseMs)
      }
      return
    }
    countTry(name, outcome)
    await endDelivery(sql, delivery, { state: outcome, error: null })
  }

  return startSlots({
    ...{ name, atOnce, logger, clock, work: attempt },
    claim: async limit => {
      countTry(name, 'expired', await expireDeliveries(sql, name))
      return claimDeliveries(sql, { channel: name, limit, claimMs })
    },
  })
}
