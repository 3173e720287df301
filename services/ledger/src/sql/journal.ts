import { type Database, INT2, INT8 } from '@pennywire/runtime/database.ts'
import type { JournalRow } from '../store.ts'

/** Through which `seq` each partition's events are known to be in Kafka, and through which they are written. */
export const readProgress = (
  sql: Database,
  partitions: number[],
): Promise<{ partition: number; publishedThrough: bigint; writtenThrough: bigint }[]> =>
  sql<{ partition: number; publishedThrough: bigint; writtenThrough: bigint }[]>`
    select partition, published_through as "publishedThrough", next_seq - 1 as "writtenThrough"
    from ledger.published join ledger.partitions using (partition)
    where partition = any(${sql.array(partitions, INT2)})`

/** A partition's events after `seq`, in order, at most `limit` of them. */
export const readJournalAfter = (
  sql: Database,
  partition: number,
  seq: bigint,
  limit: number,
): Promise<JournalRow[]> =>
  sql<JournalRow[]>`
    select partition, seq, key, headers::json as headers, bytes from ledger.journal
    where partition = ${partition} and seq > ${seq} order by seq limit ${limit}`

/** Raises the published marks and never lowers them: a relay that writes an old mark late changes nothing. */
export const raisePublished = async (sql: Database, marks: Map<number, bigint>): Promise<void> => {
  await sql`
    update ledger.published as published set published_through = new.seq
    from unnest(${sql.array([...marks.keys()], INT2)}, ${sql.array([...marks.values()], INT8)}) as new (partition, seq)
    where published.partition = new.partition and published.published_through < new.seq`
}

/** The age in seconds of the oldest event not yet marked as published; 0 if there is none. */
export const readOldestUnpublished = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ seconds: number }]>`
    select coalesce(max(extract(epoch from clock_timestamp() - (headers::json ->> 'ce_time')::timestamptz)), 0)::float8
      as seconds
    from ledger.published join ledger.partitions using (partition)
    join ledger.journal using (partition)
    where next_seq - 1 > published_through and seq = published_through + 1`
  return Math.max(0, row.seconds)
}

/** The number of events not yet marked as published, over all partitions. */
export const readBacklog = async (sql: Database): Promise<bigint> => {
  const [row] = await sql<[{ backlog: bigint }]>`
    select coalesce(sum(next_seq - 1 - published_through), 0)::bigint as backlog
    from ledger.published join ledger.partitions using (partition)`
  return row.backlog
}
