import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { composeExport, type ExportSections } from './compose-export.ts'
import {
  claimExport,
  clearExportParts,
  dropExport,
  insertExportPart,
  markExportMade,
  postponeExport,
  type WaitingExport,
} from './sql/exports.ts'

const POLL_MS = 1_000
/** Longer than the largest export takes. */
const CLAIM_MS = 10 * 60_000
const MAX_ATTEMPTS = 3
const RETRY_MS = 10_000
export const EXPORT_PURPOSE = 'export'

/**
 * Makes the exports that wait, one at a time, apart from the requests for them. Every gateway does so. What a gateway
 * leaves that dies is made again from its beginning; one whose person is erased meanwhile ends.
 */
export const startMakingExports = (deps: {
  sql: Database
  sectionsOf: (userId: string) => ExportSections
  personKeys: Pick<PersonKeys, 'encryptFor'>
  clock: Clock
  logger: Logger
}): Repeated => {
  const { sql, sectionsOf, personKeys, clock, logger } = deps

  const make = async (waiting: WaitingExport): Promise<void> => {
    if (!(await clearExportParts(sql, waiting))) return
    let part = 0
    for await (const piece of composeExport(sectionsOf(waiting.userId))) {
      const cipher = await personKeys.encryptFor(waiting.userId, piece, EXPORT_PURPOSE)
      if (!(await insertExportPart(sql, waiting, part++, cipher))) return
    }
    await markExportMade(sql, waiting)
  }

  return repeat({
    clock,
    everyMs: POLL_MS,
    work: async () => {
      const waiting = await claimExport(sql, CLAIM_MS)
      if (!waiting) return false
      try {
        await make(waiting)
      } catch (error) {
        const { userId, attempts } = waiting
        if (attempts < MAX_ATTEMPTS) {
          logger.warn({ err: error, userId, attempts }, 'an export was not made; trying again')
          await postponeExport(sql, waiting, RETRY_MS)
        } else {
          logger.error({ err: error, userId, attempts }, 'an export cannot be made')
          await dropExport(sql, waiting)
        }
      }
      return true
    },
    onError: error => logger.warn({ err: error }, 'exports that wait were not made; trying again'),
  })
}
