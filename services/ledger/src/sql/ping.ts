import type { Database } from '@pennywire/runtime/database.ts'

/** Asks the database for a sign of life; rejects where it is away. For readiness. */
export const ping = (sql: Database) => sql`select 1`
