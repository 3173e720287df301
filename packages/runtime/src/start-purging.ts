import { type Clock, sleep } from './clock.ts'
import type { Logger } from './logger.ts'

/**
 * Deletes what no one needs any more, every `everyMs`: one short statement after the other until none finds more. Every
 * instance of a service does; two at once only share the work.
 */
export const startPurging = (parts: {
  /** Deletes some rows, and tells how many and whether there may be more. */
  purge: () => Promise<{ deleted: number; more: boolean }>
  purged: { inc: (labels: object, rows: number) => void }
  clock: Clock
  logger: Logger
  everyMs: number
}): { stop: () => Promise<void> } => {
  const { clock, logger, everyMs } = parts
  const stopped = new AbortController()

  const purgeAll = async () => {
    let more = true
    while (more && !stopped.signal.aborted) {
      const result = await parts.purge()
      parts.purged.inc({}, result.deleted)
      more = result.more
    }
  }

  const working = (async () => {
    while (!stopped.signal.aborted) {
      await sleep(clock, everyMs, stopped.signal)
      if (stopped.signal.aborted) return
      await purgeAll().catch(error => logger.warn({ err: error }, 'old rows were not purged; trying again'))
    }
  })()

  return {
    stop: async () => {
      stopped.abort()
      await working
    },
  }
}
