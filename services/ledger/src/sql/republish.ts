import { type Database, INT2, INT8, type Tx } from '@pennywire/runtime/database.ts'
import type { JournalRow } from '../store.ts'

/**
 * Keeps every ledger from beginning to publish until the transaction ends: a ledger reads this table before it takes a
 * partition. Throws if a session that runs holds the table now.
 */
export const lockPublished = (tx: Tx) => tx`lock table ledger.published in access exclusive mode nowait`

/** The ledger's role has further sessions in this database: those of ledgers, frozen ones included. */
export const findSessions = (tx: Tx, applicationName: string) =>
  tx<{ name: string; pid: number }[]>`
    select coalesce(nullif(application_name, ''), 'unnamed') as name, pid from pg_stat_activity
    where datname = current_database() and usename = 'ledger' and application_name <> ${applicationName}
    order by name, pid`

/** The last `seq` of each partition's journal, and through which its events are marked as published. */
export const readJournalEnds = (
  tx: Tx,
): Promise<Array<{ partition: number; last: bigint; marked: bigint }>> =>
  tx<Array<{ partition: number; last: bigint; marked: bigint }>>`
    select partition, next_seq - 1 as last, published_through as marked
    from ledger.partitions join ledger.published using (partition) order by partition`

/** A partition's journal rows with these numbers, as far as it has them, in any order. */
export const readJournalRows = (sql: Database, partition: number, seqs: bigint[]): Promise<JournalRow[]> =>
  sql<JournalRow[]>`
    select partition, seq, key, headers::json as headers, bytes from ledger.journal
    where partition = ${partition} and seq = any(${sql.array(seqs, INT8)})`

/** Marks these partitions' events as published through their `seq`. */
export const markPublished = (tx: Tx, marks: Map<number, bigint>) => tx`
  update ledger.published p set published_through = greatest(p.published_through, new.seq)
  from unnest(${tx.array([...marks.keys()], INT2)}, ${tx.array([...marks.values()], INT8)}) as new (partition, seq)
  where p.partition = new.partition`
