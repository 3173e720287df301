import type { Topic } from '@pennywire/contracts/topics.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import { type Database, INT8, TEXT, type Tx } from '@pennywire/runtime/database.ts'

/** Writes records for Kafka in the transaction of the change they describe: both commit or neither. */
export const appendToOutbox = async (tx: Tx, records: OutgoingRecord[]): Promise<void> => {
  if (records.length === 0) return
  const rows = records.map(({ topic, key, headers, value }) => ({
    topic,
    key,
    headers: JSON.stringify(headers),
    bytes: value,
  }))
  await tx`insert into gateway.outbox ${tx(rows, 'topic', 'key', 'headers', 'bytes')}`
}

/**
 * Takes the relay's lease for this transaction; false if another relay has it. Postgres ends the transaction of a
 * process that sends no statement for `leaseMs`: a frozen one must not keep the lease.
 */
export const takeOutboxLease = async (tx: Tx, leaseMs: number): Promise<boolean> => {
  await tx`select set_config('idle_in_transaction_session_timeout', ${String(leaseMs)}, true)`
  const rows = await tx`select 1 from gateway.outbox_lease for update skip locked`
  return rows.length === 1
}

export type OutboxRow = { id: bigint; record: OutgoingRecord }

/** The scope of a record's order: a user, within a topic. */
export const outboxOwner = ({ topic, key }: Pick<OutgoingRecord, 'topic' | 'key'>): string =>
  `${topic} ${key}`

/**
 * The oldest waiting records, except those of the owners in `except`. By presence, not above a watermark: ids are drawn
 * before commits, and may lag.
 */
export const readOutbox = async (
  tx: Tx,
  limit: number,
  except: readonly string[] = [],
): Promise<OutboxRow[]> => {
  const rows = await tx<Array<{ id: bigint; topic: Topic; key: string; headers: string; bytes: Buffer }>>`
    select id, topic, key, headers, bytes from gateway.outbox
    where (topic || ' ' || key) <> all(${tx.array([...except], TEXT)})
    order by id limit ${limit}`
  return rows.map(({ id, topic, key, headers, bytes }) => ({
    id,
    record: { topic, key, headers: JSON.parse(headers) as Record<string, string>, value: bytes },
  }))
}

/** The number of waiting records, and the age of the oldest in seconds. */
export const readOutboxAge = async (sql: Database): Promise<{ records: number; oldestSeconds: number }> => {
  const [row] = await sql<[{ records: number; seconds: number }]>`
    select (select count(*)::int from gateway.outbox) as records,
      coalesce((
        select extract(epoch from clock_timestamp() - (headers::json ->> 'ce_time')::timestamptz)::float8
        from gateway.outbox order by id limit 1), 0) as seconds`
  return { records: row.records, oldestSeconds: Math.max(0, row.seconds) }
}

/** The ids as text: the driver would send an array of bigint as a single one. */
export const deleteFromOutbox = async (tx: Tx, ids: bigint[]): Promise<void> => {
  await tx`delete from gateway.outbox where id = any(${tx.array(ids, INT8)})`
}
