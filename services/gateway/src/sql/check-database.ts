import type { Database } from '@pennywire/runtime/database.ts'

/** Asks Postgres for anything at all; rejects where it does not answer. For readiness. */
export const checkDatabase = async (sql: Database): Promise<void> => {
  await sql`select 1`
}
