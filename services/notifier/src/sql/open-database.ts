import { type Database, openDatabase } from '@pennywire/runtime/database.ts'

/**
 * Opens the notifier's own database. Its statements find their rows by keys. A connection keeps its plans, and a plan
 * made while a table was small would scan it whole for each batch, long after it has grown.
 */
export const openNotifierDatabase = (
  url: string,
  options: { applicationName: string; maxConnections?: number },
): Database => openDatabase(url, { ...options, connection: { enable_seqscan: 'off' } })
