import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import { type Database, isDatabaseAway } from '@pennywire/runtime/database.ts'
import type { Broken } from './sql/broken.ts'
import { readByKeys } from './sql/check-recent.ts'
import { createWalks, type Promised } from './sql/verify-books.ts'

/** Most rows of a table in one transaction: it takes tens of milliseconds, so that it keeps no dead rows for long. */
const RANGE_ROWS = 1_000
/** How often a range is tried if the database is away or slow, each time with half the rows. */
const RANGE_TRIES = 6
const AGAIN_MS = 1_000

/** The deadline of a range's statements: far above what they take, far below what would hurt the ledger. */
export const BOOKS_DEADLINE_MS = 15_000

export type Checked = { promise: Promised; what: string; broken: Broken }

/**
 * Checks all books, one range of a table per transaction. Resolves with each check and the first row that breaks it,
 * and with the row count of each table. Rows present at the start are checked; rows added meanwhile may be.
 */
export const checkBooks = async (deps: {
  sql: Database
  clock: Clock
  signal?: AbortSignal
  /** Called at once with the first broken row of each check. */
  onBroken?: (promise: Promised, broken: string) => void
  /** Called after each range with the share of the tables that is done, from 0 to 1. The next range waits for it. */
  afterRange?: (share: number) => Promise<void>
  rangeRows?: number | undefined
}): Promise<{ checks: Checked[]; rows: Map<string, number> }> => {
  const { sql, clock, signal, rangeRows = RANGE_ROWS } = deps
  const found = new Map<string, Checked>()
  const rows = new Map<string, number>()
  const note = (promise: Promised, what: string, broken: Broken) => {
    const known = found.get(what)
    if (known?.broken !== undefined) return
    found.set(what, { promise, what, broken })
    if (broken !== undefined) deps.onBroken?.(promise, broken)
  }

  const walks = createWalks()
  for (const [index, { table, read, checks, atEnd }] of walks.entries()) {
    for (const [promise, what] of checks) note(promise, what, undefined)
    let after: unknown
    let limit = rangeRows
    let tries = 1
    for (;;) {
      signal?.throwIfAborted()
      try {
        const size = limit
        const { keys, broken } = await sql.begin('isolation level repeatable read read only', async tx => {
          await readByKeys(tx)
          const keys = await read(tx, after, size)
          const broken: Broken[] = []
          if (keys.length > 0) for (const [, , check] of checks) broken.push(await check(tx, keys))
          return { keys, broken }
        })
        for (const [place, [promise, what]] of checks.entries()) note(promise, what, broken[place])
        rows.set(table, (rows.get(table) ?? 0) + keys.length)
        if (keys.length < size) break
        after = keys.at(-1)
        limit = Math.min(rangeRows, limit * 2)
        tries = 1
      } catch (error) {
        if (!isDatabaseAway(error) || tries++ >= RANGE_TRIES) throw error
        limit = Math.max(1, Math.floor(limit / 2))
        await sleep(clock, AGAIN_MS, signal)
        continue
      }
      await deps.afterRange?.(index / walks.length)
    }
    if (atEnd) note(atEnd[0], atEnd[1], await sql.begin(tx => atEnd[2](tx, [])))
    await deps.afterRange?.((index + 1) / walks.length)
  }
  return { checks: [...found.values()], rows }
}
