import type { Language } from '@pennywire/messages/render-notice.ts'
import { type Database, INT8, UUID } from '@pennywire/runtime/database.ts'

/** A notice as the notifier stores it; `data` is null where it came with its words. */
export type NoticeFacts = {
  seq: bigint
  id: string
  type: string
  data: object | null
  title: string | null
  body: string | null
  aboutUserId: string | null
  transferId: string | null
  readAt: Date | null
  createdAt: Date
}

const selectNotices = (sql: Database) => sql`
  select seq, id, type, data, title, body, about_user_id as "aboutUserId", transfer_id as "transferId",
    read_at as "readAt", created_at as "createdAt"
  from notifier_api.notices`

/** A user's notices with numbers below `before`, newest first. */
export const readNotices = (
  sql: Database,
  userId: string,
  before: bigint,
  unreadOnly: boolean,
  limit: number,
): Promise<NoticeFacts[]> =>
  sql<NoticeFacts[]>`
    ${selectNotices(sql)}
    where user_id = ${userId} and seq < ${before} and (${unreadOnly} = false or read_at is null)
    order by seq desc limit ${limit}`

/** A user's notices with numbers above `after`, oldest first. */
export const readNoticesAfter = (
  sql: Database,
  userId: string,
  after: bigint,
  limit: number,
): Promise<NoticeFacts[]> =>
  sql<NoticeFacts[]>`
    ${selectNotices(sql)}
    where user_id = ${userId} and seq > ${after}
    order by seq limit ${limit}`

/** The number of a user's newest notice; 0 without one. */
export const readLastSeq = async (sql: Database, userId: string): Promise<bigint> => {
  const [inbox] = await sql<[{ last: bigint }?]>`
    select last_seq as last from notifier_api.inboxes where user_id = ${userId}`
  return inbox?.last ?? 0n
}

/** Of users' lists read up to a number, the last numbers of those that have more. */
export const findLongerInboxes = (
  sql: Database,
  lists: { key: string; readTo: bigint }[],
): Promise<{ key: string; last: bigint }[]> =>
  sql<{ key: string; last: bigint }[]>`
    select inbox.user_id as key, inbox.last_seq as last
    from unnest(${sql.array(
      lists.map(({ key }) => key),
      UUID,
    )}, ${sql.array(
      lists.map(({ readTo }) => readTo),
      INT8,
    )}) as list (user_id, read_to)
    join notifier_api.inboxes inbox using (user_id)
    where inbox.last_seq > list.read_to`

/** How many notices a user has not read. */
export const countUnread = async (sql: Database, userId: string): Promise<number> => {
  const [inbox] = await sql<[{ unread: number }?]>`
    select unread::int as unread from notifier_api.inboxes where user_id = ${userId}`
  return inbox?.unread ?? 0
}

/**
 * Marks a notice as read, where it is the user's and is not read yet. The list is locked first, as by the notifier, so
 * that its count of unread notices and its notices change together.
 */
export const markRead = async (sql: Database, userId: string, id: string): Promise<NoticeFacts | undefined> =>
  sql.begin(async tx => {
    await tx`select from notifier_api.inboxes where user_id = ${userId} for update`
    await tx`
      with marked as (
        update notifier_api.notices set read_at = now()
        where id = ${id} and user_id = ${userId} and read_at is null returning 1
      )
      update notifier_api.inboxes set unread = unread - 1 where user_id = ${userId} and exists (select from marked)`
    const [notice] = await tx<NoticeFacts[]>`
      ${selectNotices(sql)} where id = ${id} and user_id = ${userId}`
    return notice
  })

/** Marks all of a user's notices as read and tells how many were not. Those up to `read_to` need no second look. */
export const markAllRead = (sql: Database, userId: string): Promise<number> =>
  sql.begin(async tx => {
    const [inbox] = await tx<[{ lastSeq: bigint; readTo: bigint }?]>`
      select last_seq as "lastSeq", read_to as "readTo" from notifier_api.inboxes where user_id = ${userId} for update`
    if (!inbox) return 0
    const { count } = await tx`
      update notifier_api.notices set read_at = now()
      where user_id = ${userId} and seq > ${inbox.readTo} and seq <= ${inbox.lastSeq} and read_at is null`
    await tx`
      update notifier_api.inboxes set unread = unread - ${count}, read_to = ${inbox.lastSeq} where user_id = ${userId}`
    return count
  })

/** What a user chose of how they are told; `turnedOff` and `turnedOn` hold `kind:channel`. */
export type Preferences = {
  language: Language | null
  turnedOn: string[]
  turnedOff: string[]
  attachReceipts: boolean
}

const NOTHING_CHOSEN: Preferences = { language: null, turnedOn: [], turnedOff: [], attachReceipts: false }

export const readPreferences = async (sql: Database, userId: string): Promise<Preferences> => {
  const [chosen] = await sql<[Preferences?]>`
    select language, turned_on as "turnedOn", turned_off as "turnedOff", attach_receipts as "attachReceipts"
    from notifier_api.preferences where user_id = ${userId}`
  return chosen ?? NOTHING_CHOSEN
}

/** The kinds of notices that are mailed to users who have not chosen. */
export const readMailedKinds = async (sql: Database): Promise<string[]> => {
  const rows = await sql<{ kind: string }[]>`select kind from notifier_api.mailed_kinds`
  return rows.map(({ kind }) => kind)
}

/** What two devices of a user choose at once is applied one after the other. */
export const changePreferences = (
  sql: Database,
  userId: string,
  change: (now: Preferences) => Preferences,
): Promise<Preferences> =>
  sql.begin(async tx => {
    await tx`insert into notifier_api.preferences (user_id) values (${userId}) on conflict do nothing`
    const [now] = await tx<[Preferences]>`
      select language, turned_on as "turnedOn", turned_off as "turnedOff", attach_receipts as "attachReceipts"
      from notifier_api.preferences where user_id = ${userId} for update`
    const next = change(now)
    await tx`
      update notifier_api.preferences
      set language = ${next.language}, turned_on = ${next.turnedOn}, turned_off = ${next.turnedOff},
        attach_receipts = ${next.attachReceipts}
      where user_id = ${userId}`
    return next
  })
