import type { Chain } from '@pennywire/kafka/hash-chain.ts'
import { type Database, INT4, INT8, TEXT } from '@pennywire/runtime/database.ts'
import type { ChainHead } from '../checkpoint.ts'
import type { TrailTable } from './records.ts'

export type StoredCheckpoint = { sequence: bigint; token: string }

/** Whether the database has the table of checkpoints: one of an older version has not. */
export const hasCheckpoints = async (sql: Database): Promise<boolean> => {
  const [row] = await sql<[{ found: boolean }]>`select to_regclass('audit.checkpoints') is not null as found`
  return row.found
}

/** Adds one checkpoint; a unique violation means that another instance has signed this one. */
export const insertCheckpoint = (sql: Database, { sequence, token }: StoredCheckpoint) => sql`
  insert into audit.checkpoints (sequence, token) values (${sequence}, ${token})`

/** The last checkpoint, and how long ago it was signed by the database's clock. */
export const loadLastCheckpoint = async (
  sql: Database,
): Promise<(StoredCheckpoint & { ageSeconds: number }) | undefined> => {
  const [row] = await sql<Array<StoredCheckpoint & { ageSeconds: number }>>`
    select sequence, token, extract(epoch from now() - signed_at)::float8 as "ageSeconds"
    from audit.checkpoints order by sequence desc limit 1`
  return row
}

/** The checkpoints after this one, in order. */
export const loadCheckpointsAfter = (
  sql: Database,
  after: bigint,
  limit: number,
): Promise<StoredCheckpoint[]> => sql<StoredCheckpoint[]>`
  select sequence, token from audit.checkpoints where sequence > ${after} order by sequence limit ${limit}`

/**
 * The heads of all chains at one moment, in order: one statement, so that they belong together. A chain's offsets have
 * no gaps, so the number of its records is told by its ends.
 */
export const loadChainHeads = (
  sql: Database,
  table: TrailTable = 'audit.records',
): Promise<ChainHead[]> => sql<ChainHead[]>`
  with recursive chains as (
    (select topic, epoch, partition, record_offset as first
      from ${sql(table)} as records order by topic, epoch, partition, record_offset limit 1)
    union all
    select next.* from chains cross join lateral (
      select topic, epoch, partition, record_offset as first from ${sql(table)} as records
      where (records.topic, records.epoch, records.partition) > (chains.topic, chains.epoch, chains.partition)
      order by topic, epoch, partition, record_offset
      limit 1) next)
  select chains.topic, chains.epoch, chains.partition, last.record_offset as "offset",
    last.record_offset - chains.first + 1 as records, encode(last.hash, 'hex') as hash
  from chains cross join lateral (
    select record_offset, hash from ${sql(table)} as records
    where records.topic = chains.topic and records.epoch = chains.epoch and records.partition = chains.partition
    order by record_offset desc
    limit 1) last`

/** The stored hash at each of these places, in their order; null where no record is. */
export const loadHashesAt = async (
  sql: Database,
  places: ReadonlyArray<Chain & { offset: bigint }>,
  table: TrailTable = 'audit.records',
): Promise<Array<string | null>> => {
  const column = (values: unknown[], type: number) => sql.array(values as never[], type)
  const rows = await sql<Array<{ hash: string | null }>>`
    select encode(records.hash, 'hex') as hash
    from unnest(
      ${column(
        places.map(({ topic }) => topic),
        TEXT,
      )}, ${column(
        places.map(({ epoch }) => epoch),
        INT4,
      )},
      ${column(
        places.map(({ partition }) => partition),
        INT4,
      )}, ${column(
        places.map(({ offset }) => offset),
        INT8,
      )}) with ordinality as place (topic, epoch, partition, record_offset, number)
    left join ${sql(table)} as records using (topic, epoch, partition, record_offset)
    order by place.number`
  return rows.map(({ hash }) => hash)
}
