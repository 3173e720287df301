import type { Database } from '@pennywire/runtime/database.ts'

/** One statement deletes so many rows: none holds locks for long. */
const ROWS = 5_000
/** A change of a webhook is told within moments, and after an outage within days. */
const UNTOLD_DAYS = 30

/** Their users' lists are locked first, in the order of the ids, as by what adds to them. */
const purgeNotices = (sql: Database, days: number) =>
  sql.begin(async tx => {
    const old = await tx<{ id: string; userId: string }[]>`
      select id, user_id as "userId" from notifier.notices
      where created_at < now() - make_interval(days => ${days}) limit ${ROWS}`
    if (old.length === 0) return { count: 0 }
    await tx`
      select from notifier.inboxes where user_id = any (${old.map(({ userId }) => userId)}::uuid[])
      order by user_id for update`
    return tx`
      with gone as (
        delete from notifier.notices where id = any (${old.map(({ id }) => id)}::uuid[]) returning user_id, read_at
      ), unread as (
        select user_id, count(*) as many from gone where read_at is null group by user_id
      ), told as (
        update notifier.inboxes i set unread = i.unread - u.many from unread u where u.user_id = i.user_id
      )
      select from gone`
  })

/**
 * Deletes some of the mails that are over since `deliveryDays`, and of the notifications older than `notificationDays`.
 * Never a mail that is due. A mail's command that comes again after its row is gone has expired, and is not sent.
 */
export const purgeOld = async (
  sql: Database,
  { deliveryDays, notificationDays }: { deliveryDays: number; notificationDays: number },
): Promise<{ deleted: number; more: boolean }> => {
  const counts = [
    await sql`
      delete from notifier.deliveries where command_id = any (array(
        select command_id from notifier.deliveries
        where state <> 'due' and expires_at < now() - make_interval(days => ${deliveryDays})
        order by expires_at limit ${ROWS}))`,
    await purgeNotices(sql, notificationDays),
    // Of changes whose event tells nobody anything.
    await sql`
      delete from notifier.changed_urls where id = any (array(
        select id from notifier.changed_urls
        where changed_at < now() - make_interval(days => ${UNTOLD_DAYS}) limit ${ROWS}))`,
  ].map(({ count }) => count)
  return {
    deleted: counts.reduce((sum, count) => sum + count, 0),
    more: counts.some(count => count === ROWS),
  }
}
