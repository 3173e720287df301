import { setTimeout as sleep } from 'node:timers/promises'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { gauge } from '@pennywire/runtime/metrics.ts'
import { deleteFromOutbox, readOutbox, takeOutboxLease } from './sql/outbox.ts'

const MAX_BATCH = 500
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000

const failing = gauge('gateway_outbox_failing', '1 while records of the outbox cannot be published')

export type OutboxRelay = { wake: () => void; stop: () => Promise<void> }

/**
 * Publishes what the outbox holds, in id order, and deletes it once all replicas have it. One relay works at a time,
 * by the lock on the lease row, which a crashed one loses with its connection; the next finds what is left, so a
 * record may be sent twice and never not at all. `wake` after each commit makes it prompt; the poll (every
 * `pollMs`) finds what another process committed.
 */
export const startOutboxRelay = (parts: {
  sql: Database
  publisher: Pick<Publisher, 'publishAll'>
  logger: Logger
  pollMs?: number
}): OutboxRelay => {
  const { sql, publisher, logger, pollMs = 1_000 } = parts
  const stopped = new AbortController()
  let woken = false
  let endSleep: () => void = () => {}

  /** Publishes one batch; false where nothing is left for this relay. */
  const relayBatch = (): Promise<boolean> =>
    sql.begin(async tx => {
      if (!(await takeOutboxLease(tx))) return false
      const rows = await readOutbox(tx, MAX_BATCH)
      if (rows.length === 0) return false
      await publisher.publishAll(rows.map(({ record }) => record))
      await deleteFromOutbox(
        tx,
        rows.map(({ id }) => id),
      )
      return rows.length === MAX_BATCH
    })

  const rest = async (ms: number) => {
    if (woken || stopped.signal.aborted) return
    const woke = new Promise<void>(resolve => {
      endSleep = resolve
    })
    const alarm = new AbortController()
    await Promise.race([woke, sleep(ms, undefined, { signal: alarm.signal }).catch(() => {})])
    alarm.abort()
  }

  const work = async () => {
    let retryMs = FIRST_RETRY_MS
    while (!stopped.signal.aborted) {
      woken = false
      try {
        while (!stopped.signal.aborted && (await relayBatch())) {}
        failing.set(0)
        retryMs = FIRST_RETRY_MS
        await rest(pollMs)
      } catch (error) {
        failing.set(1)
        logger.error({ err: error, retryMs }, 'the outbox could not be published; trying again')
        await sleep(retryMs, undefined, { signal: stopped.signal }).catch(() => {})
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)
      }
    }
  }

  const working = work()
  return {
    wake: () => {
      woken = true
      endSleep()
    },
    stop: async () => {
      stopped.abort()
      endSleep()
      await working
    },
  }
}
