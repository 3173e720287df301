import type { Position, TopicPartition } from '@pennywire/kafka/consumer.ts'
import { arrayOf, BYTEA, type Database, INT8, TIMESTAMPTZ, type Tx } from '@pennywire/runtime/database.ts'

/** How far a partition is handled, and by what a topic that was made anew is recognised. */
export type HandledPosition = Position & {
  /** The digest of the record before `offset`; null where it is not known. */
  lastDigest: Buffer | null
  /** The latest time of a handled record, in milliseconds. */
  toldAt: number | null
  /** What happened before is no news any more. */
  newsSince: number | null
}

type Row = Position & { lastDigest: Buffer | null; toldAt: Date | null; newsSince: Date | null }

const positionOf = ({ toldAt, newsSince, ...row }: Row): HandledPosition => ({
  ...row,
  toldAt: toldAt?.getTime() ?? null,
  newsSince: newsSince?.getTime() ?? null,
})

const columnsOf = (sql: Database | Tx) => sql`
  topic, partition, next_offset as offset, told_at as "toldAt", news_since as "newsSince",
  case when last_offset = next_offset - 1 then last_digest end as "lastDigest"`

const topicsOf = (of: TopicPartition[]) => of.map(({ topic }) => topic)
const partitionsOf = (of: TopicPartition[]) => of.map(({ partition }) => partition)

/** The stored positions of these partitions; one that was never handled has none. */
export const readPositions = async (sql: Database, of: TopicPartition[]): Promise<HandledPosition[]> =>
  (
    await sql<Row[]>`
      select ${columnsOf(sql)}
      from notifier.positions
      join unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]) as wanted (topic, partition)
        using (topic, partition)`
  ).map(positionOf)

/**
 * The same, locked until the transaction ends. One order for all, so that two instances that handle the same
 * partitions (a zombie and its successor) wait for each other instead of deadlocking.
 */
export const lockPositions = async (tx: Tx, of: TopicPartition[]): Promise<HandledPosition[]> =>
  (
    await tx<Row[]>`
      select ${columnsOf(tx)}
      from notifier.positions
      where (topic, partition) in (
        select * from unnest(${topicsOf(of)}::text[], ${partitionsOf(of)}::int[]))
      order by topic, partition
      for update`
  ).map(positionOf)

const timeOf = (ms: number | null) => (ms === null ? null : new Date(ms))

/** Sets positions, forward or back. */
export const writePositions = (sql: Database | Tx, positions: HandledPosition[]) => sql`
  insert into notifier.positions (topic, partition, next_offset, last_offset, last_digest, told_at, news_since)
  select topic, partition, next_offset, case when last_digest is not null then next_offset - 1 end, last_digest,
    -- A record may claim any time: none of later ones is older news for that.
    case when told_at is not null then least(told_at, now()) end, news_since
  from unnest(
    ${topicsOf(positions)}::text[],
    ${partitionsOf(positions)}::int[],
    ${sql.array(
      positions.map(({ offset }) => offset),
      INT8,
    )},
    ${arrayOf(
      sql,
      positions.map(({ lastDigest }) => lastDigest),
      BYTEA,
    )},
    ${arrayOf(
      sql,
      positions.map(({ toldAt }) => timeOf(toldAt)),
      TIMESTAMPTZ,
    )},
    ${arrayOf(
      sql,
      positions.map(({ newsSince }) => timeOf(newsSince)),
      TIMESTAMPTZ,
    )}) as new (topic, partition, next_offset, last_digest, told_at, news_since)
  order by 1, 2
  on conflict (topic, partition) do update
    set next_offset = excluded.next_offset, last_offset = excluded.last_offset, last_digest = excluded.last_digest,
      told_at = excluded.told_at, news_since = excluded.news_since`
