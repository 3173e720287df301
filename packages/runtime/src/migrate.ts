import { readdirSync, readFileSync } from 'node:fs'
import postgres from 'postgres'
import { LONG_DEADLINE_MS, openDatabase } from './database.ts'

/** Postgres' unique violation, duplicate object (a table's row type), schema and table. */
const MADE_BY_RIVAL = new Set(['23505', '42710', '42P06', '42P07'])

/** "If not exists" still fails if another process creates the object at the same moment; then the object exists. */
const unlessRival = async (create: () => Promise<unknown>): Promise<void> => {
  try {
    await create()
  } catch (error) {
    if (!(error instanceof postgres.PostgresError && MADE_BY_RIVAL.has(error.code))) throw error
  }
}

/**
 * Brings one schema up to date: runs the folder's numbered `.sql` files that have not run yet, in order, each in a
 * transaction of its own together with its row in `<schema>.migrations`. Forward only; a file that has run is never
 * edited. Two at once are safe: the second waits for the first's lock and then finds nothing to do.
 */
export const migrate = async (options: {
  url: string
  schema: string
  directory: URL
}): Promise<string[]> => {
  const sql = openDatabase(options.url, {
    applicationName: 'migrate',
    maxConnections: 1,
    deadlineMs: LONG_DEADLINE_MS,
  })
  const ran: string[] = []
  try {
    await unlessRival(() => sql`create schema if not exists ${sql(options.schema)}`)
    await unlessRival(
      () => sql`create table if not exists ${sql(options.schema)}.migrations (
        file text primary key, ran_at timestamptz not null default now())`,
    )
    const files = readdirSync(options.directory)
      .filter(file => /^\d{4}-.*\.sql$/.test(file))
      .sort()
    for (const file of files) {
      const text = readFileSync(new URL(file, options.directory), 'utf8')
      await sql.begin(async tx => {
        await tx`lock table ${tx(options.schema)}.migrations in exclusive mode`
        const [done] = await tx`select 1 from ${tx(options.schema)}.migrations where file = ${file}`
        if (done) return
        await tx.unsafe(text)
        await tx`insert into ${tx(options.schema)}.migrations (file) values (${file})`
        ran.push(file)
      })
    }
    return ran
  } finally {
    await sql.end()
  }
}
