import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Runs one SQL transaction, then wakes the relay for what it put into the outbox. */
export type InTransaction = <Result>(work: (tx: Tx) => Promise<Result>) => Promise<Result>

export const createInTransaction =
  (sql: Database, wakeRelay: () => void): InTransaction =>
  async <Result>(work: (tx: Tx) => Promise<Result>): Promise<Result> => {
    // In a box, because the driver would otherwise await the members of an array.
    const { result } = await sql.begin(async tx => ({ result: await work(tx) }))
    wakeRelay()
    return result
  }
