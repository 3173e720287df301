import type { Position, TopicPartition } from '@pennywire/kafka/consumer.ts'
import { type Database, INT8, type Tx } from '@pennywire/runtime/database.ts'

const topicsOf = (of: TopicPartition[]) => of.map(({ topic }) => topic)
const partitionsOf = (of: TopicPartition[]) => of.map(({ partition }) => partition)

/** The stored positions of these partitions; one that was never handled has none. */
export const readPositions = (sql: Database, of: TopicPartition[]): Promise<Position[]> => sql<Position[]>`
  select topic, partition, next_offset as offset
  from notifier.positions
  join unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]) as wanted (topic, partition)
    using (topic, partition)`

/**
 * The same, locked until the transaction ends. One order for all, so that two instances that handle the same
 * partitions (a zombie and its successor) wait for each other instead of deadlocking.
 */
export const lockPositions = (tx: Tx, of: TopicPartition[]): Promise<Position[]> => tx<Position[]>`
  select topic, partition, next_offset as offset
  from notifier.positions
  where (topic, partition) in (
    select * from unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]))
  order by topic, partition
  for update`

/** Sets positions, forward or back. */
export const writePositions = (sql: Database | Tx, positions: Position[]) => sql`
  insert into notifier.positions (topic, partition, next_offset)
  select * from unnest(
    ${topicsOf(positions)}::text[],
    ${partitionsOf(positions)}::int[],
    ${sql.array(
      positions.map(({ offset }) => offset),
      INT8,
    )})
  order by 1, 2
  on conflict (topic, partition) do update set next_offset = excluded.next_offset`
