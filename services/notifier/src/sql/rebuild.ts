import type { Topic } from '@pennywire/contracts/topics.ts'
import { kindOfNotice } from '@pennywire/messages/notices.ts'
import {
  arrayOf,
  type Database,
  INT4,
  INT8,
  TEXT,
  TIMESTAMPTZ,
  type Tx,
  UUID,
} from '@pennywire/runtime/database.ts'
import type { Notice } from '../notices-for.ts'

/** A notice as the topics have it, and the record that tells it. */
export type RebuiltNotice = Notice & { topic: Topic }

/** A table of its own that nobody else reads; without a log, as it is made anew by each run. As the owner. */
export const createRebuilt = async (sql: Database): Promise<void> => {
  await sql`drop table if exists notifier.notices_rebuilt`
  await sql`
    create unlogged table notifier.notices_rebuilt (
      id uuid primary key,
      user_id uuid not null,
      type text not null,
      kind text not null,
      data jsonb not null,
      about_user_id uuid,
      transfer_id uuid,
      created_at timestamptz not null,
      topic text not null
    )`
}

export const dropRebuilt = (sql: Database) => sql`drop table if exists notifier.notices_rebuilt`

/** Adds notices once each; resolves with how many were new. */
export const addRebuilt = async (sql: Database, notices: RebuiltNotice[]): Promise<number> => {
  const column = <Value extends string | Date | null>(
    of: (notice: RebuiltNotice) => Value,
    type: typeof UUID | typeof TEXT | typeof TIMESTAMPTZ,
  ) => arrayOf(sql, notices.map(of), type)
  const { count } = await sql`
    insert into notifier.notices_rebuilt (id, user_id, type, kind, data, about_user_id, transfer_id, created_at, topic)
    select id, user_id, type, kind, data::jsonb, about_user_id, transfer_id, created_at, topic from unnest(
      ${column(({ id }) => id, UUID)}, ${column(({ userId }) => userId, UUID)}, ${column(({ type }) => type, TEXT)},
      ${column(({ type }) => kindOfNotice(type), TEXT)}, ${column(({ data }) => JSON.stringify(data), TEXT)},
      ${column(({ aboutUserId }) => aboutUserId, UUID)}, ${column(({ transferId }) => transferId, UUID)},
      ${column(({ createdAt }) => new Date(createdAt), TIMESTAMPTZ)}, ${column(({ topic }) => topic, TEXT)}
    ) as q (id, user_id, type, kind, data, about_user_id, transfer_id, created_at, topic)
    on conflict (id) do nothing`
  return count
}

/** Removes the notices of erased users; resolves with how many there were. */
export const eraseRebuilt = async (sql: Database, userIds: string[]): Promise<number> => {
  const { count } = await sql`
    delete from notifier.notices_rebuilt where user_id = any (${arrayOf(sql, userIds, UUID)})`
  return count
}

/** The positions of the live service. */
export const readLivePositions = (
  sql: Database,
): Promise<Array<{ topic: Topic; partition: number; offset: bigint }>> =>
  sql<Array<{ topic: Topic; partition: number; offset: bigint }>>`
    select topic, partition, next_offset as offset from notifier.positions`

/** How a page of rows, in the order of their ids, differs; `last` is null behind the last page. */
export type PageComparison = {
  equal: number
  different: number
  missing: number
  unwanted: number
  purged: number
  /** The lowest id among the different and the missing ones. */
  first: string | null
  last: string | null
}

// A notice of a version before this form has words instead of data, and its users could turn nothing off. The host of a
// user's webhook is in no topic, but as ciphertext that only gateways can read.
const SAME = (sql: Database | Tx) => sql`
  n.user_id = r.user_id and n.type = r.type and n.about_user_id is not distinct from r.about_user_id
  and n.transfer_id is not distinct from r.transfer_id and n.created_at = r.created_at
  and (n.data = r.data or (n.data is null and n.title is not null)
    or (r.data ->> 'url' = '' and n.data - 'url' = r.data - 'url'))`
const UNWANTED = (sql: Database | Tx) => sql`coalesce(r.kind || ':in_app' = any (p.turned_off), false)`
const PURGED = (sql: Database | Tx, keepDays: number) =>
  sql`r.created_at < now() - make_interval(days => ${keepDays})`

/**
 * Compares the rebuilt notices after an id with the live ones, column by column. One that is not there is unwanted where
 * its user has turned its kind off, purged where it is older than the service keeps it, and missing otherwise.
 */
export const compareRebuilt = async (
  sql: Database,
  after: string | null,
  { rows, keepDays }: { rows: number; keepDays: number },
): Promise<PageComparison> => {
  const [page] = await sql<[PageComparison]>`
    with page as (
      select * from notifier.notices_rebuilt
      ${after === null ? sql`` : sql`where id > ${after}`} order by id limit ${rows}
    ), compared as (
      select r.id, case when n.id is not null and ${SAME(sql)} then 'equal' when n.id is not null then 'different'
        when ${PURGED(sql, keepDays)} then 'purged' when ${UNWANTED(sql)} then 'unwanted' else 'missing' end as result
      from page r left join notifier.notices n on n.id = r.id left join notifier.preferences p on p.user_id = r.user_id
    )
    select count(*) filter (where result = 'equal')::int as equal,
      count(*) filter (where result = 'different')::int as different,
      count(*) filter (where result = 'missing')::int as missing,
      count(*) filter (where result = 'unwanted')::int as unwanted,
      count(*) filter (where result = 'purged')::int as purged,
      (array_agg(id order by id) filter (where result in ('different', 'missing')))[1] as first,
      (select id from page order by id desc limit 1) as last
    from compared`
  return page
}

/** What the notice with this id is in both tables, for a person; null where one lacks it. */
export const describeNotice = async (
  sql: Database,
  id: string,
): Promise<{ live: string | null; rebuilt: string | null }> => {
  const text = (table: string) => sql`
    (select concat_ws(' ', type, 'of user', user_id, 'transfer', transfer_id, 'about', about_user_id, 'at', created_at, data)
      from ${sql(`notifier.${table}`)} where id = ${id})`
  const [row] = await sql<[{ live: string | null; rebuilt: string | null }]>`
    select ${text('notices')} as live, ${text('notices_rebuilt')} as rebuilt`
  return row
}

export type LiveOnly = { id: string; type: string; createdAt: Date }

/** Live notices after an id that are not rebuilt, at most `limit` of them. */
export const readLiveOnly = (sql: Database, after: string | null, limit: number): Promise<LiveOnly[]> =>
  sql<LiveOnly[]>`
    select n.id, n.type, n.created_at as "createdAt" from notifier.notices n
    left join notifier.notices_rebuilt r on r.id = n.id
    where r.id is null ${after === null ? sql`` : sql`and n.id > ${after}`} order by n.id limit ${limit}`

/** Which of these ids are still not rebuilt. */
export const stillLiveOnly = async (sql: Database, ids: string[]): Promise<Set<string>> => {
  const rows = await sql<{ id: string }[]>`
    select q.id from unnest(${arrayOf(sql, ids, UUID)}) as q (id)
    where not exists (select from notifier.notices_rebuilt r where r.id = q.id)`
  return new Set(rows.map(({ id }) => id))
}

/** From which topics each type of notice was rebuilt. */
export const readOrigins = (sql: Database): Promise<Array<{ type: string; topic: Topic }>> =>
  sql<Array<{ type: string; topic: Topic }>>`select distinct type, topic from notifier.notices_rebuilt`

/** Users whose list counts otherwise than its notices: how many are unread, and the number of the newest. */
export const readWrongInboxes = (sql: Database): Promise<Array<{ userId: string }>> =>
  sql<Array<{ userId: string }>>`
    select coalesce(i.user_id, n.user_id) as "userId" from notifier.inboxes i
    full join (
      select user_id, count(*) filter (where read_at is null) as unread, max(seq) as last from notifier.notices group by user_id
    ) n using (user_id)
    where coalesce(i.unread, 0) <> coalesce(n.unread, 0) or coalesce(i.last_seq, 0) < coalesce(n.last, 0)
    order by 1 limit 10`

/**
 * Puts right what differs, in one transaction: missing notices come to the end of their users' lists as read, those with
 * other content get that of the topics. Numbers and what is read stay. Nothing is told: no mail, no webhook. Positions
 * that the service does not have yet are the topics' ends, so that it does not begin with what is put here.
 */
export const mendNotices = (
  sql: Database,
  {
    keepDays,
    positions,
  }: { keepDays: number; positions: Array<{ topic: string; partition: number; offset: bigint }> },
): Promise<{ added: number; corrected: number }> =>
  sql.begin(async tx => {
    await tx`lock table notifier.inboxes in share row exclusive mode`
    const corrected = await tx`
      update notifier.notices n
      set type = r.type, data = r.data, about_user_id = r.about_user_id, transfer_id = r.transfer_id, created_at = r.created_at
      from notifier.notices_rebuilt r where r.id = n.id and r.user_id = n.user_id and not (${SAME(tx)})`
    const added = await tx`
      with missing as (
        select r.*, row_number() over (partition by r.user_id order by r.created_at, r.id) as nth,
          count(*) over (partition by r.user_id) as many
        from notifier.notices_rebuilt r
          left join notifier.notices n on n.id = r.id left join notifier.preferences p on p.user_id = r.user_id
        where n.id is null and not (${PURGED(tx, keepDays)}) and not ${UNWANTED(tx)}
      ), inbox as (
        insert into notifier.inboxes as i (user_id, last_seq)
        select user_id, many from missing where nth = 1 order by user_id
        on conflict (user_id) do update set last_seq = i.last_seq + excluded.last_seq
        returning user_id, last_seq
      )
      insert into notifier.notices (user_id, seq, id, type, data, about_user_id, transfer_id, created_at, read_at)
      select m.user_id, i.last_seq - m.many + m.nth, m.id, m.type, m.data, m.about_user_id, m.transfer_id, m.created_at, now()
      from missing m join inbox i using (user_id)`
    await tx`
      insert into notifier.positions (topic, partition, next_offset, told_at)
      select topic, partition, next_offset, now() from unnest(
        ${arrayOf(
          tx,
          positions.map(({ topic }) => topic),
          TEXT,
        )},
        ${arrayOf(
          tx,
          positions.map(({ partition }) => partition),
          INT4,
        )},
        ${arrayOf(
          tx,
          positions.map(({ offset }) => offset),
          INT8,
        )}) as new (topic, partition, next_offset)
      on conflict (topic, partition) do nothing`
    return { added: added.count, corrected: corrected.count }
  })
