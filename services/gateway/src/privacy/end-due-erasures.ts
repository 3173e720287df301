import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import type { ErasePerson } from './erase-person.ts'
import { claimErasure } from './sql/erasures.ts'

const POLL_MS = 1_000
/** Longer than one look takes; an erasure that a dying gateway has claimed is looked at again after it. */
const CLAIM_MS = 60_000

/**
 * Erases the persons whose time has come, ends what a gateway left that died, and looks once more at those who are
 * erased. Every gateway does so; one has an erasure at a time.
 */
export const startEndingErasures = (deps: {
  sql: Database
  erasePerson: Pick<ErasePerson, 'erase' | 'checkErased'>
  clock: Clock
  logger: Logger
}): Repeated => {
  const { sql, erasePerson, clock, logger } = deps
  return repeat({
    clock,
    everyMs: POLL_MS,
    work: async signal => {
      const claimed = await claimErasure(sql, CLAIM_MS)
      if (!claimed) return false
      const { userId, isErased } = claimed
      const traceparent = continueTrace(undefined)
      if (isErased) {
        if (!(await erasePerson.checkErased(userId, traceparent))) {
          logger.warn({ userId }, 'a wallet of an erased person is open; it is asked to close')
        }
      } else {
        const { state } = await erasePerson.erase(userId, traceparent, signal)
        logger.info({ userId, state }, 'an erasure was looked at')
      }
      return true
    },
    onError: error => logger.error({ err: error }, 'erasures that are due were not ended; trying again'),
  })
}
