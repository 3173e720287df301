import { type Database, INT2 } from '@pennywire/runtime/database.ts'
import type { StoredPosition } from '../store.ts'

/** Where each partition of ledger.commands goes on; makes the rows of partitions seen for the first time. */
export const readPositions = async (sql: Database, partitions: number[]): Promise<StoredPosition[]> => {
  await sql`
    insert into ledger.partitions (partition) select unnest(${sql.array(partitions, INT2)}) on conflict do nothing`
  await sql`
    insert into ledger.published (partition) select unnest(${sql.array(partitions, INT2)}) on conflict do nothing`
  return sql<StoredPosition[]>`
    select partition, next_offset as "nextOffset", next_seq as "nextSeq", published_through as "publishedThrough"
    from ledger.partitions join ledger.published using (partition)
    where partition = any(${sql.array(partitions, INT2)})`
}

/**
 * Takes the topic as it is now for a new one: reading begins at its start, under the next epoch. What its records ask
 * for a second time is recognised by its ids, so nothing is applied twice.
 */
export const adoptTopic = (sql: Database): Promise<{ partition: number; epoch: number }[]> =>
  sql<{ partition: number; epoch: number }[]>`
    update ledger.partitions set epoch = epoch + 1, next_offset = 0, last_digest = null
    returning partition, epoch`
