import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { type Clock, systemClock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { gauge } from '@pennywire/runtime/metrics.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import { deleteFromOutbox, outboxOwner, readOutbox, takeOutboxLease } from './sql/outbox.ts'

const MAX_BATCH = 500
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000
/** Users whose records Kafka refuses are held back for a while; at most this many, since each read excludes them. */
const MAX_HELD = 5_000
/**
 * How long a relay that stalls, such as a frozen process, blocks the others. The publisher sends no record that has
 * waited for half as long, so a relay that resumes publishes nothing behind its successor's back.
 */
const LEASE_MS = 30_000

const failing = gauge('gateway_outbox_failing', '1 while records of the outbox cannot be published')

/**
 * Publishes the outbox's records and deletes them once all replicas have them. Order is kept per user, by id: if a
 * record cannot be published, the later records of its user wait behind it, and those of other users go on. One relay
 * works at a time, by the lock on the lease row; a crashed relay loses the lock with its connection. The next one finds
 * the remaining records, so a record may be sent twice but never not at all. `wake` after each commit makes it prompt;
 * the poll (every `pollMs`) finds commits of other processes.
 */
export const startOutboxRelay = (deps: {
  sql: Database
  publisher: Pick<Publisher, 'publishAll'>
  logger: Logger
  clock?: Clock
  pollMs?: number
  leaseMs?: number
}): Repeated => {
  const { sql, publisher, logger, clock = systemClock, pollMs = 1_000, leaseMs = LEASE_MS } = deps
  /** Owners whose records failed: the pause before the next try, and its time. */
  const held = new Map<string, { retryMs: number; until: number }>()

  const hold = (owner: string) => {
    const retryMs = Math.min(2 * (held.get(owner)?.retryMs ?? FIRST_RETRY_MS / 2), LAST_RETRY_MS)
    if (held.has(owner) || held.size < MAX_HELD)
      held.set(owner, { retryMs, until: clock.elapsed() + retryMs })
  }

  /** Publishes one batch; false if nothing is left for this relay. Throws if the whole batch failed. */
  const relayBatch = (): Promise<boolean> =>
    sql.begin(async tx => {
      if (!(await takeOutboxLease(tx, leaseMs))) return false
      const now = clock.elapsed()
      const except = [...held].filter(([, { until }]) => until > now).map(([owner]) => owner)
      const rows = await readOutbox(tx, MAX_BATCH, except)
      if (rows.length === 0) return false
      const byOwner = [...Map.groupBy(rows, ({ record }) => outboxOwner(record))]
      const results = await Promise.allSettled(
        byOwner.map(([, own]) => publisher.publishAll(own.map(({ record }) => record))),
      )
      const published: bigint[] = []
      let failure: { owner: string; reason: unknown } | undefined
      for (const [index, [owner, own]] of byOwner.entries()) {
        const result = results[index]!
        if (result.status === 'fulfilled') {
          held.delete(owner)
          published.push(...own.map(({ id }) => id))
        } else {
          hold(owner)
          failure ??= { owner, reason: result.reason }
        }
      }
      if (failure && published.length === 0) throw failure.reason
      if (failure)
        logger.error(
          { err: failure.reason, of: failure.owner },
          'records of the outbox could not be published; those behind them wait, others go on',
        )
      await deleteFromOutbox(tx, published)
      return rows.length === MAX_BATCH
    })

  return repeat({
    clock,
    everyMs: () =>
      Math.max(1, Math.min(pollMs, ...[...held.values()].map(({ until }) => until - clock.elapsed()))),
    retryMs: FIRST_RETRY_MS,
    lastRetryMs: LAST_RETRY_MS,
    work: async () => {
      const more = await relayBatch()
      if (!more) failing.set(held.size > 0 ? 1 : 0)
      return more
    },
    onError: (error, retryMs) => {
      failing.set(1)
      logger.error({ err: error, retryMs }, 'the outbox could not be published; trying again')
    },
  })
}
