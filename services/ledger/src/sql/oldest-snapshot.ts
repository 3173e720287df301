import type { Database } from '@pennywire/runtime/database.ts'

/** The age in seconds of the server's oldest transaction that keeps dead row versions; needs pg_read_all_stats. */
export const readOldestSnapshotSeconds = async (sql: Database): Promise<number> => {
  const [row] = await sql<Array<{ seconds: number }>>`
    select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 as seconds
    from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid()`
  return row!.seconds
}
