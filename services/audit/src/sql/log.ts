import type { LogEntry, Subject } from '@pennywire/contracts/log-entry.ts'
import type { Chain } from '@pennywire/kafka/hash-chain.ts'
import { arrayOf, type Database, INT4, INT8, TEXT, type Tx, UUID } from '@pennywire/runtime/database.ts'

/** A row of the index, with what its record names. */
export type LogRow = Chain & { offset: bigint; timeMs: bigint } & Omit<LogEntry, 'actorKey'>

/** The last indexed offset of each of these chains; null where there is none. */
export const loadIndexedOffsets = async (sql: Database, chains: Chain[]): Promise<Array<bigint | null>> => {
  const rows = await sql<Array<{ last: bigint | null }>>`
    select (select record_offset from audit.log
      where log.topic = chain.topic and log.epoch = chain.epoch and log.partition = chain.partition
      order by record_offset desc limit 1) as last
    from unnest(
      ${chains.map(({ topic }) => topic)}::text[],
      ${chains.map(({ epoch }) => epoch)}::int[],
      ${chains.map(({ partition }) => partition)}::int[]) with ordinality as chain (topic, epoch, partition, n)
    order by chain.n`
  return rows.map(({ last }) => last)
}

/** Adds rows; those that another instance has added already are left as they are. */
export const insertLog = async (sql: Database | Tx, rows: LogRow[]): Promise<void> => {
  if (rows.length === 0) return
  const named = rows.flatMap(({ subjects }, n) => subjects.map(subject => ({ ...subject, n: n + 1 })))
  await sql`
    with given as (
      select * from unnest(
        ${arrayOf(
          sql,
          rows.map(row => row.topic),
          TEXT,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.epoch),
          INT4,
        )},
        ${arrayOf(
          sql,
          rows.map(row => row.partition),
          INT4,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.offset),
          INT8,
        )},
        ${arrayOf(
          sql,
          rows.map(row => row.timeMs),
          INT8,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.action),
          TEXT,
        )},
        ${arrayOf(
          sql,
          rows.map(row => row.actorId),
          UUID,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.actorRole),
          TEXT,
        )},
        ${arrayOf(
          sql,
          rows.map(row => row.requestId),
          TEXT,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.traceId),
          UUID,
        )},
        ${arrayOf(
          sql,
          rows.map(row => row.addressHash),
          TEXT,
        )}, ${arrayOf(
          sql,
          rows.map(row => row.refusal),
          TEXT,
        )})
        with ordinality as q (topic, epoch, partition, record_offset, time_ms, action, actor_id, actor_role, request_id,
          trace_id, address_hash, refusal, n)
    ), added as (
      insert into audit.log (topic, epoch, partition, record_offset, time_ms, action, actor_id, actor_role, request_id,
        trace_id, address_hash, refusal)
      select topic, epoch, partition, record_offset, time_ms, action, actor_id, actor_role, request_id, trace_id,
        address_hash, refusal
      from given order by n
      on conflict (topic, epoch, partition, record_offset) do nothing
      returning id, topic, epoch, partition, record_offset, time_ms
    )
    insert into audit.log_subjects (kind, subject_id, time_ms, log_id)
    select named.kind, named.id, added.time_ms, added.id
    from unnest(
      ${arrayOf(
        sql,
        named.map(({ kind }) => kind),
        TEXT,
      )}, ${arrayOf(
        sql,
        named.map(({ id }) => id),
        UUID,
      )},
      ${arrayOf(
        sql,
        named.map(({ n }) => n),
        INT8,
      )}) as named (kind, id, n)
      join given using (n)
      join added using (topic, epoch, partition, record_offset)`
}

/** A chain's indexed rows from one offset to another one (inclusive), in order, as the index has them. */
export const loadLogRange = (
  sql: Database,
  chain: Chain,
  from: bigint,
  to: bigint,
): Promise<Array<Omit<LogRow, 'subjects'> & { id: bigint }>> => sql<
  Array<Omit<LogRow, 'subjects'> & { id: bigint }>
>`
  select id, topic, epoch, partition, record_offset as offset, time_ms as "timeMs", action, actor_id as "actorId",
    actor_role as "actorRole", request_id as "requestId", replace(trace_id::text, '-', '') as "traceId",
    address_hash as "addressHash", refusal
  from audit.log
  where topic = ${chain.topic} and epoch = ${chain.epoch} and partition = ${chain.partition}
    and record_offset between ${from} and ${to}
  order by record_offset`

/** Which of the rows with these ids name all of these subjects, each by one look-up of its key. */
export const findIncomplete = async (
  sql: Database,
  rows: Array<{ id: bigint; timeMs: bigint; subjects: Subject[] }>,
): Promise<Set<bigint>> => {
  const wanted = rows.flatMap(({ id, timeMs, subjects }) =>
    subjects.map(subject => ({ id, timeMs, subject })),
  )
  const missing = await sql<Array<{ id: bigint }>>`
    select distinct wanted.log_id as id
    from unnest(
      ${arrayOf(
        sql,
        wanted.map(({ subject }) => subject.kind),
        TEXT,
      )}, ${arrayOf(
        sql,
        wanted.map(({ subject }) => subject.id),
        UUID,
      )},
      ${arrayOf(
        sql,
        wanted.map(({ timeMs }) => timeMs),
        INT8,
      )}, ${arrayOf(
        sql,
        wanted.map(({ id }) => id),
        INT8,
      )}) as wanted (kind, subject_id, time_ms, log_id)
    left join audit.log_subjects as found using (kind, subject_id, time_ms, log_id)
    where found.log_id is null`
  return new Set(missing.map(({ id }) => id))
}

/** Puts right rows of the index, as the owner: the service's role may delete none. */
export const replaceLog = (sql: Database, rows: LogRow[]): Promise<void> =>
  sql.begin(async tx => {
    await tx`
      delete from audit.log using unnest(
        ${rows.map(({ topic }) => topic)}::text[],
        ${rows.map(({ epoch }) => epoch)}::int[],
        ${rows.map(({ partition }) => partition)}::int[],
        ${arrayOf(
          tx,
          rows.map(({ offset }) => offset),
          INT8,
        )}) as gone (topic, epoch, partition, record_offset)
      where log.topic = gone.topic and log.epoch = gone.epoch and log.partition = gone.partition
        and log.record_offset = gone.record_offset`
    await insertLog(tx, rows)
  }) as Promise<void>
