import { type Database, INT2, INT8 } from '@pennywire/runtime/database.ts'
import type { StoredPosition } from '../store.ts'

/** The stored position of each partition of ledger.commands; inserts the rows of partitions seen for the first time. */
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
 * The offset from which each partition's commands need a MAC. Set once, when the first ledger that checks MACs reads
 * the partition: commands of an earlier version's gateways stay valid, and omitting the MAC later gains nothing.
 */
export const readMacsFrom = async (
  sql: Database,
  ends: { partition: number; offset: bigint }[],
): Promise<Map<number, bigint>> => {
  const partitions = sql.array(
    ends.map(({ partition }) => partition),
    INT2,
  )
  const offsets = sql.array(
    ends.map(({ offset }) => offset),
    INT8,
  )
  await sql`
    update ledger.partitions p set macs_from = case when p.next_offset = 0 then 0 else ends.offset end
    from unnest(${partitions}, ${offsets}) as ends (partition, "offset")
    where p.partition = ends.partition and p.macs_from is null`
  const rows = await sql<{ partition: number; macsFrom: bigint }[]>`
    select partition, macs_from as "macsFrom" from ledger.partitions where partition = any(${partitions})`
  return new Map(rows.map(({ partition, macsFrom }) => [partition, macsFrom]))
}

/**
 * Adopts these partitions as new ones: reading begins at the first offset of each, under the next epoch. Repeated
 * commands are recognised by their ids, so nothing is applied twice. Every command needs a MAC.
 */
export const adoptTopic = (
  sql: Database,
  begins: { partition: number; first: bigint }[],
): Promise<{ partition: number; epoch: number; nextOffset: bigint }[]> => {
  const partitions = sql.array(
    begins.map(({ partition }) => partition),
    INT2,
  )
  const firsts = sql.array(
    begins.map(({ first }) => first),
    INT8,
  )
  return sql<{ partition: number; epoch: number; nextOffset: bigint }[]>`
    update ledger.partitions p set epoch = p.epoch + 1, next_offset = begins.first, last_digest = null, macs_from = 0
    from unnest(${partitions}, ${firsts}) as begins (partition, first) where begins.partition = p.partition
    returning p.partition, p.epoch, p.next_offset as "nextOffset"`
}
