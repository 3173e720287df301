import { serviceSettings } from '@pennywire/runtime/config.ts'
import { z } from 'zod'

export const ledgerSettings = {
  ...serviceSettings,
  /** Most commands in one SQL transaction: more gains little, and each waits for all of them. */
  MAX_BATCH: z.coerce.number().int().min(1).max(5_000).default(500),
  /** How often the books of what was decided since are checked; 0: never. By primary keys, so it costs little. */
  BOOKS_CHECK_SECONDS: z.coerce.number().min(0).max(3_600).default(10),
  /** Most events in one such check. Beyond that the newest are checked, and the full check covers the others. */
  BOOKS_CHECK_EVENTS: z.coerce.number().int().min(1).max(1_000_000).default(2_000),
  /** How often all books are checked, as `npm run verify-books` does; 0: never. It reads every table. */
  BOOKS_FULL_CHECK_SECONDS: z.coerce.number().min(0).max(604_800).default(3_600),
}
