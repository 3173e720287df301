import type { Clock } from './clock.ts'
import type { Logger } from './logger.ts'
import { repeat } from './repeat.ts'

/**
 * Deletes rows that are no longer needed, every `everyMs`: one short statement after the other until none finds more.
 * Every instance of a service does so; two at once only share the work.
 */
export const startPurging = (deps: {
  /** Deletes some rows; returns how many, and whether there may be more. */
  purge: () => Promise<{ deleted: number; more: boolean }>
  purged: { inc: (labels: object, rows: number) => void }
  clock: Clock
  logger: Logger
  everyMs: number
}): { stop: () => Promise<void> } => {
  const { clock, logger, everyMs } = deps
  return repeat({
    clock,
    everyMs,
    pauseFirst: true,
    work: async () => {
      const { deleted, more } = await deps.purge()
      deps.purged.inc({}, deleted)
      return more
    },
    onError: error => logger.warn({ err: error }, 'old rows were not purged; trying again'),
  })
}
