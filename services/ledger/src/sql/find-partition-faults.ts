import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { FoundationFault } from '@pennywire/runtime/watch-foundation.ts'

/**
 * Finds rows of partitions that the topic does not have: this database was written with a topic of more partitions, and
 * keys map to other partitions now. A partition's row is inserted on first assignment, so a missing row is no fault.
 */
export const findPartitionFaults = async (sql: Database): Promise<FoundationFault[]> => {
  const rows = await sql<Array<{ of: string; partition: number }>>`
    select 'ledger.partitions' as of, partition from ledger.partitions where partition >= ${LEDGER_PARTITIONS}
    union all
    select 'ledger.published', partition from ledger.published where partition >= ${LEDGER_PARTITIONS}`
  const wanted = `below ${LEDGER_PARTITIONS}`
  return rows.map(({ of, partition }) => ({
    of,
    setting: 'partition',
    found: String(partition),
    wanted,
    losesMoney: true,
  }))
}
