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
  const inFlight = new Set<Promise<void>>()

  const attempt = async (delivery: ClaimedDelivery): Promise<void> => {
    const { id, attempts } = delivery
    let outcome: 'sent' | 'suppressed'
    try {
      outcome = await channel.deliver(delivery)
    } catch (error) {
      const code = codeOf(error)
      if (channel.isFinal(error)) {
        tries.inc({ channel: name, outcome: 'failed' })
        logger.error({ channel: name, id, attempts, code }, 'delivery given up')
        await endDelivery(sql, delivery, { state: 'failed', error: code })
      } else {
        tries.inc({ channel: name, outcome: 'postponed' })
        const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** (attempts - 1), channel.lastPauseMs)
        logger.warn({ channel: name, id, attempts, code, pauseMs }, 'not delivered; trying again')
        await postponeDelivery(sql, delivery, code, pauseMs)
      }
      return
    }
    tries.inc({ channel: name, outcome })
    await endDelivery(sql, delivery, { state: outcome, error: null })
  }

  /** Begins as many as there is room for; one that is slow leaves the others' room alone. */
  const deliverDue = async (): Promise<boolean> => {
    if (inFlight.size >= atOnce) await Promise.race(inFlight)
    const free = atOnce - inFlight.size
    tries.inc({ channel: name, outcome: 'expired' }, await expireDeliveries(sql, name))
    const claimed = await claimDeliveries(sql, { channel: name, limit: free, claimMs })
    for (const delivery of claimed) {
      const trying: Promise<void> = attempt(delivery)
        // The claim runs out, and it is tried again.
        .catch(error =>
          logger.warn({ channel: name, id: delivery.id, code: codeOf(error) }, 'not written down'),
        )
        .finally(() => inFlight.delete(trying))
      inFlight.add(trying)
    }
    return claimed.length === free
  }

  const repeated = repeat({
    ...{ clock, everyMs: POLL_MS, work: deliverDue },
    onError: error =>
      logger.warn(
        { channel: name, code: codeOf(error) },
        'the database does not tell which deliveries are due',
      ),
  })
  return {
    wake: repeated.wake,
    stop: async () => {
      await repeated.stop()
      await Promise.all(inFlight)
    },
  }
}
