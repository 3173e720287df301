import { serviceSettings } from '@pennywire/runtime/config.ts'
import { z } from 'zod'

export const ledgerSettings = {
  ...serviceSettings,
  /** Most commands in one SQL transaction: more gains little, and each waits for all of them. */
  MAX_BATCH: z.coerce.number().int().min(1).max(5_000).default(500),
}
