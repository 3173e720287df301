import { checkedSchema, type Sql, type Tx } from './tables.ts'

/** A record as it was received: Kafka's headers may be of any bytes, and repeated. */
export type RawRecord = {
  topic: string
  partition: number
  offset: bigint
  publishedAt: number
  key: Buffer | null
  value: Buffer | null
  /** In hexadecimal, because a header may be no text. */
  headers: Record<string, string[]>
}
export type DeadLetter = RawRecord & { reason: string; setAsideAt: Date }

/** Sets a record aside, to the byte as received. */
export const insertDeadLetter = async (
  tx: Tx,
  schema: string,
  { topic, partition, offset, publishedAt, key, value, headers }: RawRecord,
  reason: string,
): Promise<void> => {
  await tx`
    insert into ${tx(`${checkedSchema(schema)}.dead_letters`)}
      (topic, partition, record_offset, key, value, headers, published_at, reason)
    values (
      ${topic}, ${partition}, ${String(offset)}::text::bigint, ${key}, ${value}, ${JSON.stringify(headers)}::text::jsonb,
      to_timestamp(${publishedAt / 1_000}::float8), ${reason.replaceAll('\0', ' ').slice(0, 1_000)})
    on conflict (topic, partition, record_offset) do update set reason = excluded.reason, set_aside_at = now()`
}

type Row = {
  topic: string
  partition: number
  place: string
  published: number
  key: Buffer | null
  value: Buffer | null
  headers: string
  reason: string
  aside: number
}

/** The records that were set aside, the oldest first. */
export const readDeadLetters = async (
  sql: Sql | Tx,
  schema: string,
  atMost = 1_000,
): Promise<DeadLetter[]> => {
  const rows = await sql<Row[]>`
    select topic, partition, record_offset::text as place, key, value, headers::text as headers, reason,
      (extract(epoch from published_at) * 1000)::float8 as published,
      (extract(epoch from set_aside_at) * 1000)::float8 as aside
    from ${sql(`${checkedSchema(schema)}.dead_letters`)}
    order by set_aside_at, topic, partition, record_offset limit ${atMost}`
  return rows.map(({ place, published, headers, aside, ...row }) => ({
    ...row,
    offset: BigInt(place),
    publishedAt: published,
    headers: JSON.parse(headers) as Record<string, string[]>,
    setAsideAt: new Date(aside),
  }))
}

/** Locks a dead letter and tells whether it is still there: another instance may have handled it. */
export const takeDeadLetter = async (
  tx: Tx,
  schema: string,
  { topic, partition, offset }: { topic: string; partition: number; offset: bigint },
): Promise<boolean> => {
  const rows = await tx`
    delete from ${tx(`${checkedSchema(schema)}.dead_letters`)}
    where topic = ${topic} and partition = ${partition} and record_offset = ${String(offset)}::text::bigint
    returning 1 as there`
  return rows.length > 0
}
