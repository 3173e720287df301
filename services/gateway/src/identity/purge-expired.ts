import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { purgeExpired } from '../sql/purge.ts'

const purged = counter(
  'gateway_purged_rows_total',
  'Rows of expired tokens, old sign-ins and addresses that were deleted',
)

/** Deletes what has expired, now and then. Every gateway does; two at once only share the work. */
export const startPurging = (parts: {
  sql: Database
  clock: Clock
  logger: Logger
  everyMs: number
}): { stop: () => Promise<void> } => {
  const { sql, clock, logger, everyMs } = parts
  const stopped = new AbortController()

  const purge = async () => {
    let more = true
    while (more && !stopped.signal.aborted) {
      const result = await purgeExpired(sql)
      purged.inc({}, result.deleted)
      more = result.more
    }
  }

  const working = (async () => {
    while (!stopped.signal.aborted) {
      await sleep(clock, everyMs, stopped.signal)
      if (stopped.signal.aborted) return
      await purge().catch(error =>
        logger.warn({ err: error }, 'expired tokens were not purged; trying again'),
      )
    }
  })()

  return {
    stop: async () => {
      stopped.abort()
      await working
    },
  }
}
