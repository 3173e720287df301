import { checkedSchema, type Sql, type Tx } from './tables.ts'

type Handled = { id: string; topic: string; partition: number; offset: bigint }

/**
 * Notes events as handled and tells which of them were not before: only for these may the effect run, in this very
 * transaction. Of two transactions with one event the later waits for the end of the earlier.
 */
export const takeNew = async (tx: Tx, schema: string, events: readonly Handled[]): Promise<Set<string>> => {
  const rows = await tx<{ id: string }[]>`
    insert into ${tx(`${checkedSchema(schema)}.inbox`)} (id, topic, partition, record_offset)
    select id, topic, partition, place::bigint from unnest(
      ${events.map(({ id }) => id)}::text[],
      ${events.map(({ topic }) => topic)}::text[],
      ${events.map(({ partition }) => partition)}::int[],
      ${events.map(({ offset }) => String(offset))}::text[]) as given (id, topic, partition, place)
    order by id
    on conflict do nothing
    returning id`
  return new Set(rows.map(({ id }) => id))
}

/** Forgets that events from these places on were handled: they are handled once more when they are read again. */
export const forgetFrom = async (
  tx: Tx,
  schema: string,
  { topic, partition, offset }: { topic: string; partition: number; offset: bigint },
): Promise<void> => {
  await tx`
    delete from ${tx(`${checkedSchema(schema)}.inbox`)}
    where topic = ${topic} and partition = ${partition} and record_offset >= ${String(offset)}::text::bigint`
}

/**
 * Deletes what was handled before this moment. An event that comes again after that is handled again, so the moment
 * must be further back than any replay goes.
 */
export const pruneInbox = async (sql: Sql, schema: string, before: Date): Promise<number> => {
  const { count } = await sql`
    delete from ${sql(`${checkedSchema(schema)}.inbox`)} where handled_at < ${before.toISOString()}::text::timestamptz`
  return count
}
