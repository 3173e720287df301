import type { Database } from '@pennywire/runtime/database.ts'

export type NotificationFacts = {
  id: string
  type: string
  title: string
  body: string
  transferId: string | null
  readAt: Date | null
  createdAt: Date
}

/** A user's notifications older than a moment (exact to the millisecond) and id, newest first. */
export const readNotifications = (
  sql: Database,
  userId: string,
  before: { createdAt: Date; id: string },
  unreadOnly: boolean,
  limit: number,
): Promise<NotificationFacts[]> =>
  sql<NotificationFacts[]>`
    select id, type, title, body, transfer_id as "transferId", read_at as "readAt", created_at as "createdAt"
    from notifier_api.notifications
    where user_id = ${userId} and (created_at, id) < (${before.createdAt}, ${before.id})
      and (${unreadOnly} = false or read_at is null)
    order by created_at desc, id desc limit ${limit}`

export const countUnread = async (sql: Database, userId: string): Promise<number> => {
  const [row] = await sql<[{ unread: number }]>`
    select count(*)::int as unread from notifier_api.notifications where user_id = ${userId} and read_at is null`
  return row.unread
}
