import type { Database } from '@pennywire/runtime/database.ts'
import {
  COMPARED_TABLES,
  type ComparedTable,
  estimateRows,
  isInRebuilt,
  type Key,
  type Range,
  readBound,
  readDigest,
  readEventBytes,
  readRows,
  type Side,
  TABLES,
} from './sql/compare-books.ts'
import type { Horizon } from './sql/rebuild.ts'

/** Rows of one range. */
const RANGE_ROWS = 5_000
/** Differences that are named; all are counted. */
const MOST_NAMED = 20
/** Characters of a value that are shown. */
const MOST_SHOWN = 80

export type Difference = {
  table: ComparedTable
  key: string
  /** Null: one side lacks the row. */
  column: string | null
  live: string | null
  rebuilt: string | null
}

export type BooksComparison = {
  tables: Array<{ table: ComparedTable; rows: number; different: number }>
  /** Rows that differ. */
  different: number
  /** Columns that an event of an older version does not tell; they are empty in the rebuilt books. */
  untold: number
  named: Difference[]
}

export type CompareDeps = {
  live: Database
  rebuilt: Database
  horizon: Horizon
  /** Whether the version with which an event was written has this field. */
  tells: (bytes: Buffer, field: string) => Promise<boolean>
  signal: AbortSignal
  progressOf: (what: string, total: number) => { add: (count: number) => void; end: () => void }
}

/** The fields of rejections that older versions lack, by column of ledger.transfers. */
const LATER_FIELDS: Record<string, string> = {
  note: 'note',
  metadata: 'metadata',
  original_id: 'originalId',
  rejection_limit: 'limitMinor',
  rejection_used: 'usedMinor',
}
/** How Postgres writes the fingerprint of a command whose event does not contain it. */
const NO_FINGERPRINT = '\\x'

const shown = (value: string | null): string | null =>
  value !== null && value.length > MOST_SHOWN
    ? `${value.slice(0, MOST_SHOWN)}… (${value.length} characters)`
    : value

/** Compares the rebuilt books with the live ones at the horizon: every row of every table, every column. */
export const compareBooks = async (deps: CompareDeps): Promise<BooksComparison> => {
  const { rebuilt, horizon, signal } = deps
  const result: BooksComparison = { tables: [], different: 0, untold: 0, named: [] }
  const progress = deps.progressOf('comparing', await estimateRows(rebuilt))
  const sqlOf = (table: ComparedTable, side: Side) => (isInRebuilt(table, side) ? rebuilt : deps.live)

  /** Whether a column is empty because the row's event is of a version that lacks it. */
  const isUntold = async (table: ComparedTable, column: string, row: Record<string, string | null>) => {
    if (table === 'commands' && column === 'fingerprint') return row.fingerprint === NO_FINGERPRINT
    const field = LATER_FIELDS[column]
    if (table !== 'transfers' || field === undefined || row[column] !== null || row.status !== 'rejected')
      return false
    const bytes = await readEventBytes(rebuilt, row.partition!, row.seq!)
    return bytes !== undefined && !(await deps.tells(bytes, field))
  }

  const compareRows = async (table: ComparedTable, range: Range): Promise<number> => {
    const [live, own] = await Promise.all(
      (['live', 'rebuilt'] as const).map(side => readRows(sqlOf(table, side), table, side, range, horizon)),
    )
    let different = 0
    for (const key of new Set([...live!.keys(), ...own!.keys()])) {
      const [there, here] = [live!.get(key), own!.get(key)]
      const found: Difference[] = []
      if (!there || !here) {
        const rowOf = (row: object | undefined) => (row ? 'a row' : null)
        found.push({ table, key, column: null, live: rowOf(there), rebuilt: rowOf(here) })
      } else {
        for (const column of TABLES[table].columns) {
          if (there[column] === here[column]) continue
          if (await isUntold(table, column, here)) result.untold++
          else found.push({ table, key, column, live: shown(there[column]!), rebuilt: shown(here[column]!) })
        }
      }
      if (found.length === 0) continue
      different++
      result.named.push(...found.slice(0, MOST_NAMED - result.named.length))
    }
    return different
  }

  for (const table of COMPARED_TABLES) {
    const counts = { table, rows: 0, different: 0 }
    result.tables.push(counts)
    for (let after: Key | null = null; !signal.aborted; ) {
      const through: Key | undefined = await readBound(rebuilt, table, after, RANGE_ROWS)
      // The last range is open: rows that only the live books hold may be behind the last rebuilt one.
      const range: Range = { after, through: through ?? null }
      const [live, own] = await Promise.all(
        (['live', 'rebuilt'] as const).map(side =>
          readDigest(sqlOf(table, side), table, side, range, horizon),
        ),
      )
      if (live!.digest !== own!.digest) counts.different += await compareRows(table, range)
      counts.rows += own!.rows
      progress.add(own!.rows)
      if (!through) break
      after = through
    }
    result.different += counts.different
  }
  progress.end()
  return result
}
