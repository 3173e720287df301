import type { Chain, ChainedRecord } from '@pennywire/kafka/hash-chain.ts'
import { BYTEA, type Database, INT4, INT8, TEXT } from '@pennywire/runtime/database.ts'

/** The trail, and the table into which it is rebuilt. */
export type TrailTable = 'audit.records' | 'audit.records_rebuilt'

export type StoredRecord = Chain & ChainedRecord & { hash: Buffer }

/** Which table audit.records is: a rebuilt one that was put in its place has another number. */
export const loadIncarnation = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ incarnation: number }]>`select incarnation from audit.trail`
  return row.incarnation
}

/**
 * Inserts records, all or none; a unique violation means that another insert has stored some of them. With an
 * incarnation it resolves with false, and has stored nothing, if audit.records has become another table: this statement
 * then waited for the exchange.
 */
export const insertRecords = async (
  sql: Database,
  records: StoredRecord[],
  incarnation?: number,
): Promise<boolean> => {
  const column = <Value>(value: (record: StoredRecord) => Value, type: number) =>
    sql.array(records.map(value) as never[], type)
  const { count } = await sql`
    insert into audit.records (topic, epoch, partition, record_offset, record_time_ms, key, headers, value, hash)
    select * from unnest(
      ${column(record => record.topic, TEXT)}, ${column(record => record.epoch, INT4)},
      ${column(record => record.partition, INT4)}, ${column(record => record.offset, INT8)},
      ${column(record => record.timestampMs, INT8)}, ${column(record => record.key, BYTEA)},
      ${column(record => record.headers, BYTEA)}, ${column(record => record.value, BYTEA)},
      ${column(record => record.hash, BYTEA)})
    where ${incarnation ?? null}::int is null
      or ${incarnation ?? null}::int = (select trail.incarnation from audit.trail)`
  return count === records.length
}

/** The last record of each of these chains; chains without one are left out. */
export const loadLastRecords = (
  sql: Database,
  chains: Chain[],
  table: TrailTable = 'audit.records',
): Promise<StoredRecord[]> => sql<StoredRecord[]>`
  select chain.topic, chain.epoch, chain.partition, last.*
  from unnest(
    ${chains.map(chain => chain.topic)}::text[],
    ${chains.map(chain => chain.epoch)}::int[],
    ${chains.map(chain => chain.partition)}::int[]) as chain (topic, epoch, partition)
  cross join lateral (
    select record_offset as offset, record_time_ms as "timestampMs", key, headers, value, hash
    from ${sql(table)} as records
    where records.topic = chain.topic and records.epoch = chain.epoch and records.partition = chain.partition
    order by record_offset desc
    limit 1) last`

/** All chains in order: one step in the primary key for each, however many records it has. */
export const loadChains = (sql: Database): Promise<Chain[]> => sql<Chain[]>`
  with recursive chains as (
    (select topic, epoch, partition from audit.records order by topic, epoch, partition limit 1)
    union all
    select next.* from chains cross join lateral (
      select topic, epoch, partition from audit.records
      where (records.topic, records.epoch, records.partition) > (chains.topic, chains.epoch, chains.partition)
      order by topic, epoch, partition
      limit 1) next)
  select topic, epoch, partition from chains`

/** A chain's next records in order, after this offset (null: from its first). */
export const loadRecordsAfter = (
  sql: Database,
  chain: Chain,
  after: bigint | null,
  limit: number,
  table: TrailTable = 'audit.records',
): Promise<Array<ChainedRecord & { hash: Buffer }>> => sql<Array<ChainedRecord & { hash: Buffer }>>`
  select record_offset as offset, record_time_ms as "timestampMs", key, headers, value, hash
  from ${sql(table)} as records
  where topic = ${chain.topic} and epoch = ${chain.epoch} and partition = ${chain.partition}
    and (${after}::bigint is null or record_offset > ${after})
  order by record_offset
  limit ${limit}`
