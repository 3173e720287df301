import { type Database, TEXT } from '../database.ts'

/** Postgres' settings as a connection of this pool has them. */
export const readSettings = (
  sql: Database,
  names: string[],
): Promise<Array<{ name: string; setting: string }>> =>
  sql<Array<{ name: string; setting: string }>>`
    select name, setting from pg_settings where name = any(${sql.array(names, TEXT)})`
