// Reads of the audit trail: its index finds records, and what is shown is the records.
import type { Subject } from '@pennywire/contracts/log-entry.ts'
import type { ChainedRecord } from '@pennywire/kafka/hash-chain.ts'
import { arrayOf, type Database, INT4, INT8, TEXT } from '@pennywire/runtime/database.ts'

/** Where a record stands. */
export type Place = { topic: string; epoch: number; partition: number; offset: bigint }
/** A position in the order of the index: by time, and those of one time by number. */
export type LogPosition = { timeMs: bigint; id: bigint }

/** The wanted records; what is missing is any. */
export type LogFilter = {
  subjects: Subject[]
  requestId?: string | undefined
  /** 32 hexadecimal digits. */
  traceId?: string | undefined
  addressHash?: string | undefined
  actorId?: string | undefined
  actorRole?: string | undefined
  refusal?: string | undefined
  /** Refusals alone. */
  refused?: boolean | undefined
  action?: string | undefined
  topic?: string | undefined
  /** Milliseconds since 1970: from the first on, and before the second. */
  since?: number | undefined
  until?: number | undefined
}

export type FoundRecord = Place & LogPosition

/** Rows of the leading index that one page reads at most: a page of a rare combination may hold fewer records. */
export const SCAN_ROWS = 10_000

/**
 * Finds a page of records, newest first, below a position. The most selective filter leads, by an index in the order of
 * the result; the others are checked on at most SCAN_ROWS of its rows. `end` is the last row that was read.
 */
export const findRecordsQuery = (
  sql: Database,
  filter: LogFilter,
  before: LogPosition | null,
  limit: number,
) => {
  const { subjects, since, until } = filter
  const isOfStaff = filter.actorRole !== undefined && filter.actorRole !== 'user'
  // The most selective first. What an index holds in part is stated, so that any plan knows that the index is enough.
  const leading = [
    filter.requestId !== undefined && sql`l.request_id = ${filter.requestId}`,
    filter.traceId !== undefined && sql`l.trace_id = ${filter.traceId}::uuid`,
    filter.addressHash !== undefined && sql`l.address_hash = ${filter.addressHash}`,
    filter.actorId !== undefined && sql`l.actor_id = ${filter.actorId}`,
    isOfStaff && sql`l.actor_role = ${filter.actorRole!} and l.actor_role <> 'user'`,
    filter.refusal !== undefined && sql`l.refusal = ${filter.refusal}`,
    filter.action !== undefined && sql`l.action = ${filter.action}`,
    filter.refused && sql`l.refusal is not null`,
    filter.topic !== undefined && sql`l.topic = ${filter.topic}`,
  ].filter(condition => condition !== false && condition !== undefined)
  // Nearly all records are of users: no index has them.
  const checked = filter.actorRole === 'user' ? [sql`l.actor_role = 'user'`] : []
  const isOf = ({ kind, id }: Subject) => sql`exists (
    select 1 from audit_api.log_subjects s
    where s.kind = ${kind} and s.subject_id = ${id} and s.time_ms = l.time_ms and s.log_id = l.id)`
  const bounds = (timeMs: string, id: string) => sql`
    ${since === undefined ? sql`` : sql`and ${sql(timeMs)} >= ${since}::bigint`}
    ${until === undefined ? sql`` : sql`and ${sql(timeMs)} < ${until}::bigint`}
    ${before === null ? sql`` : sql`and (${sql(timeMs)}, ${sql(id)}) < (${before.timeMs}::bigint, ${before.id}::bigint)`}`
  const all = (conditions: ReturnType<typeof isOf>[]) =>
    conditions.reduce((before, condition) => sql`${before} and ${condition}`, sql`true`)
  // A request or a trace has a few records; a subject may have more than anything else.
  const isNarrow = filter.requestId !== undefined || filter.traceId !== undefined
  const subject = isNarrow ? undefined : subjects[0]
  const moreSubjects = subject ? subjects.slice(1) : subjects
  const [first, ...more] = leading
  const rest = [...(subject ? leading : more), ...moreSubjects.map(isOf), ...checked]
  const scan = rest.length === 0 ? limit : SCAN_ROWS
  const driver = subject
    ? sql`
        select s.log_id as id, s.time_ms from audit_api.log_subjects s
        where s.kind = ${subject.kind} and s.subject_id = ${subject.id} ${bounds('s.time_ms', 's.log_id')}
        order by s.time_ms desc, s.log_id desc limit ${scan}`
    : sql`
        select l.id, l.time_ms from audit_api.log l
        where ${first ?? sql`true`} ${bounds('l.time_ms', 'l.id')}
        order by l.time_ms desc, l.id desc limit ${scan}`
  return sql`
    with driven as materialized (${driver}),
    found as (
      select l.topic, l.epoch, l.partition, l.record_offset as offset, l.time_ms as "timeMs", l.id
      from driven d join audit_api.log l on l.id = d.id
      where ${all(rest)}
      order by d.time_ms desc, d.id desc limit ${limit})
    select found.*, ends.rows, ends."endTimeMs", ends."endId"
    from (
      select count(*)::int as rows, (array_agg(time_ms order by time_ms, id))[1] as "endTimeMs",
        (array_agg(id order by time_ms, id))[1] as "endId"
      from driven) ends
    left join found on true
    order by found."timeMs" desc, found.id desc`
}

/** A page: up to `limit` records, and where the next page begins; null where there is none. */
export const findRecords = async (
  sql: Database,
  filter: LogFilter,
  before: LogPosition | null,
  limit: number,
): Promise<{ found: FoundRecord[]; next: LogPosition | null }> => {
  const rows = await sql<
    Array<
      { [Name in keyof FoundRecord]: FoundRecord[Name] | null } & {
        rows: number
        endTimeMs: bigint | null
        endId: bigint | null
      }
    >
  >`${findRecordsQuery(sql, filter, before, limit + 1)}`
  const matched = rows.filter(({ id }) => id !== null) as FoundRecord[]
  const found = matched.slice(0, limit)
  if (matched.length > limit) {
    const { timeMs, id } = found.at(-1)!
    return { found, next: { timeMs, id } }
  }
  const [first] = rows
  const isCut = first !== undefined && first.rows >= SCAN_ROWS
  return { found, next: isCut ? { timeMs: first.endTimeMs!, id: first.endId! } : null }
}

/** A record of the trail, with the hash before it; null for the first of a chain, or where that is missing. */
export type TrailRecord = Place & ChainedRecord & { hash: Buffer; previous: Buffer | null; recordedAt: Date }

/** The records at these places, in their order; a place without a record is left out. */
export const readRecords = (sql: Database, places: readonly Place[]): Promise<TrailRecord[]> => sql<
  TrailRecord[]
>`
  select r.topic, r.epoch, r.partition, r.record_offset as offset, r.record_time_ms as "timestampMs", r.key, r.headers,
    r.value, r.hash, p.hash as previous, r.recorded_at as "recordedAt"
  from unnest(
    ${arrayOf(
      sql,
      places.map(({ topic }) => topic),
      TEXT,
    )}, ${arrayOf(
      sql,
      places.map(({ epoch }) => epoch),
      INT4,
    )},
    ${arrayOf(
      sql,
      places.map(({ partition }) => partition),
      INT4,
    )}, ${arrayOf(
      sql,
      places.map(({ offset }) => offset),
      INT8,
    )})
    with ordinality as place (topic, epoch, partition, record_offset, n)
  join audit_api.records r using (topic, epoch, partition, record_offset)
  left join audit_api.records p on p.topic = place.topic and p.epoch = place.epoch and p.partition = place.partition
    and p.record_offset = place.record_offset - 1
  order by place.n`

/** Records that one transfer's timeline shows at most. */
const MOST_OF_TRANSFER = 300

/** Where the records that name any of these stand, oldest first; `topics`: of these alone. */
export const findRecordsOf = (
  sql: Database,
  subjects: readonly Subject[],
  topics: readonly string[],
): Promise<Place[]> => sql<Place[]>`
  select distinct l.topic, l.epoch, l.partition, l.record_offset as offset, l.time_ms
  from unnest(
    ${subjects.map(({ kind }) => kind)}::text[],
    ${subjects.map(({ id }) => id)}::uuid[]) as wanted (kind, subject_id)
  join audit_api.log_subjects s using (kind, subject_id)
  join audit_api.log l on l.id = s.log_id
  where l.topic = any (${[...topics]}::text[])
  order by l.time_ms, l.topic, l.partition, l.record_offset
  limit ${MOST_OF_TRANSFER}`

/** The transfers whose ids are in a reference's range and that any record names. */
export const findTransferIds = async (sql: Database, first: string, last: string): Promise<string[]> => {
  const rows = await sql<Array<{ id: string }>>`
    select distinct subject_id as id from audit_api.log_subjects
    where kind = 'transfer' and subject_id between ${first} and ${last} order by subject_id limit 10`
  return rows.map(({ id }) => id)
}
