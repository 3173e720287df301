// Positions in topics, in the transaction of what was done: a crash at any moment is harmless. The table is `positions`
// of the kit, or one of the same columns.
import type { Sql, Tx } from './tables.ts'

export type Position<Topic extends string = string> = { topic: Topic; partition: number; offset: bigint }
type Of<Topic extends string> = readonly { topic: Topic; partition: number }[]
type Row = { topic: string; partition: number; next: string }

const topicsOf = (of: Of<string>) => of.map(({ topic }) => topic)
const partitionsOf = (of: Of<string>) => of.map(({ partition }) => partition)
const positionsOf = <Topic extends string>(rows: readonly Row[]): Position<Topic>[] =>
  rows.map(({ topic, partition, next }) => ({ topic: topic as Topic, partition, offset: BigInt(next) }))

/** The stored positions of these partitions; one that was never handled has none. */
export const readPositions = async <Topic extends string>(
  sql: Sql,
  table: string,
  of: Of<Topic>,
): Promise<Position<Topic>[]> =>
  positionsOf(
    await sql<Row[]>`
      select topic, partition, next_offset::text as next
      from ${sql(table)}
      join unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]) as wanted (topic, partition)
        using (topic, partition)`,
  )

/**
 * The same, locked until the transaction ends. One order for all, so that two instances that handle the same
 * partitions (a zombie and its successor) wait for each other instead of deadlocking.
 */
export const lockPositions = async <Topic extends string>(
  tx: Tx,
  table: string,
  of: Of<Topic>,
): Promise<Position<Topic>[]> =>
  positionsOf(
    await tx<Row[]>`
      select topic, partition, next_offset::text as next
      from ${tx(table)}
      where (topic, partition) in (
        select * from unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]))
      order by topic, partition
      for update`,
  )

/** Sets positions, forward or back. */
export const writePositions = async (
  sql: Sql | Tx,
  table: string,
  positions: readonly Position[],
): Promise<void> => {
  await sql`
    insert into ${sql(table)} (topic, partition, next_offset)
    select topic, partition, next::bigint from unnest(
      ${topicsOf(positions)}::text[],
      ${partitionsOf(positions)}::int[],
      ${positions.map(({ offset }) => String(offset))}::text[]) as given (topic, partition, next)
    order by 1, 2
    on conflict (topic, partition) do update set next_offset = excluded.next_offset`
}

/** Writes positions of partitions that have none; those that are there stay. */
export const beginAt = async (sql: Sql, table: string, positions: readonly Position[]): Promise<void> => {
  await sql`
    insert into ${sql(table)} (topic, partition, next_offset)
    select topic, partition, next::bigint from unnest(
      ${topicsOf(positions)}::text[],
      ${partitionsOf(positions)}::int[],
      ${positions.map(({ offset }) => String(offset))}::text[]) as given (topic, partition, next)
    order by 1, 2
    on conflict do nothing`
}
