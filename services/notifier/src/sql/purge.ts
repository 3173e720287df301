import type { Database } from '@pennywire/runtime/database.ts'

/** One statement deletes so many rows: none holds locks for long. */
const ROWS = 5_000

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
      delete from notifier.deliveries where command_id in (
        select command_id from notifier.deliveries
        where state <> 'due' and expires_at < now() - make_interval(days => ${deliveryDays}) limit ${ROWS})`,
    await sql`
      delete from notifier.notifications where id in (
        select id from notifier.notifications
        where created_at < now() - make_interval(days => ${notificationDays}) limit ${ROWS})`,
  ].map(({ count }) => count)
  return {
    deleted: counts.reduce((sum, count) => sum + count, 0),
    more: counts.some(count => count === ROWS),
  }
}
