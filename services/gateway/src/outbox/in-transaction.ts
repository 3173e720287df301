import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Runs one SQL transaction, then wakes the relay for its outbox records. */
export type InTransaction = <Result>(work: (tx: Tx) => Promise<Result>) => Promise<Result>

export const createInTransaction =
  (sql: Database, wakeRelay: () => void): InTransaction =>
  async <Result>(work: (tx: Tx) => Promise<Result>): Promise<Result> => {
    // Wrapped in an object, because the driver would otherwise await the members of an array.
    const { result } = await sql.begin(async tx => ({ result: await work(tx) }))
    wakeRelay()
    return result
  }
