// What the notifier deletes, on a real Postgres, by the role that the service has.
import { randomUUID } from 'node:crypto'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { expect, inject, test } from 'vitest'
import { purgeOld } from './sql/purge.ts'
import { createNotifierDatabase } from './sql/test-database.ts'

test('mails that are over and old notifications are purged; what is due or young stays', async () => {
  const database = await createNotifierDatabase(inject('stack').superuserUrl)
  const sql = openDatabase(database.url('notifier'), { applicationName: 'test', maxConnections: 1 })
  const owner = openDatabase(database.url('pennywire_owner'), { applicationName: 'test', maxConnections: 1 })
  const mail = (state: 'due' | 'failed', days: number) => sql`
    insert into notifier.deliveries (command_id, user_id, template, secret, state, requested_at, expires_at)
    values (${randomUUID()}, ${randomUUID()}, ${`${state} ${days}`}, ${state === 'due' ? 'secret' : null}, ${state}, now(),
      now() - make_interval(days => ${days}))`
  const user = randomUUID()
  // As the version before adds them, into the list of this one.
  const notification = (days: number) => sql`
    insert into notifier.notifications (id, user_id, type, title, body, created_at)
    values (${randomUUID()}, ${user}, 'type', ${`${days} days`}, 'body', now() - make_interval(days => ${days}))`
  try {
    for (const days of [29, 31]) await Promise.all([mail('due', days), mail('failed', days)])
    await Promise.all([notification(364), notification(366), notification(367)])
    await owner`update notifier.notices set read_at = now() where title = '367 days'`
    await owner`update notifier.inboxes set unread = unread - 1`
    expect(await purgeOld(sql, { deliveryDays: 30, notificationDays: 365 })).toEqual({
      deleted: 3,
      more: false,
    })
    const mails = await sql<
      Array<{ template: string }>
    >`select template from notifier.deliveries order by template`
    expect(mails.map(({ template }) => template)).toEqual(['due 29', 'due 31', 'failed 29'])
    const kept = await sql<Array<{ title: string }>>`select title from notifier.notices`
    expect(kept).toEqual([{ title: '364 days' }])
    // The count of what is not read is right afterwards.
    expect(await sql`select last_seq, unread from notifier.inboxes`).toEqual([{ last_seq: 3n, unread: 1n }])
  } finally {
    await Promise.all([sql.end(), owner.end()])
    await database.drop()
  }
})
