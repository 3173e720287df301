// Data of the version before, and that version still at work, on a real Postgres.
import { randomUUID } from 'node:crypto'
import { copyFileSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import { createTestDatabase } from '@pennywire/stack/test-database.ts'
import { expect, inject, test } from 'vitest'

const migrations = new URL('./sql/migrations/', import.meta.url)
const alice = randomUUID()
const bob = randomUUID()

const add = (sql: Database, userId: string, title: string, at: string, id: string = randomUUID()) => sql`
  insert into notifier.notifications (id, user_id, type, title, body, created_at)
  values (${id}, ${userId}, 'transfer_sent', ${title}, 'body', ${at}) on conflict (id) do nothing`

test('notifications become numbered notices, and those that the version before still adds do as well', async () => {
  const before = mkdtempSync(join(tmpdir(), 'pennywire-migrations-'))
  for (const file of readdirSync(migrations).filter(file => file < '0003'))
    copyFileSync(new URL(file, migrations), join(before, file))
  const database = await createTestDatabase(inject('stack').superuserUrl, {
    schema: 'notifier',
    migrations: pathToFileURL(`${before}/`),
  })
  const superuser = openDatabase(database.url(), { applicationName: 'test', maxConnections: 1 })
  const old = openDatabase(database.url('notifier'), { applicationName: 'test', maxConnections: 1 })
  try {
    await add(old, alice, 'second', '2026-01-02')
    await add(old, alice, 'first', '2026-01-01')
    await add(old, bob, 'only', '2026-01-01')
    await superuser`update notifier.notifications set read_at = now() where title = 'first'`
    await old`insert into notifier.positions values ('ledger.events', 0, 7)`
    await migrate({ url: database.url('pennywire_owner'), schema: 'notifier', directory: migrations })

    const id = randomUUID()
    await add(old, alice, 'third', '2026-01-01', id)
    await add(old, alice, 'third', '2026-01-01', id)
    const seen = await superuser`
      select n.seq::int, n.title, n.read_at is not null as read, i.unread::int, i.last_seq::int as last
      from notifier_api.notices n join notifier_api.inboxes i using (user_id) where user_id = ${alice} order by seq`
    expect(seen).toEqual([
      { seq: 1, title: 'first', read: true, unread: 2, last: 3 },
      { seq: 2, title: 'second', read: false, unread: 2, last: 3 },
      { seq: 3, title: 'third', read: false, unread: 2, last: 3 },
    ])
    // The gateway of the version before reads them all.
    expect(
      await superuser`select title, body from notifier_api.notifications where user_id = ${bob}`,
    ).toEqual([{ title: 'only', body: 'body' }])
    // What happened to accounts before is nobody's news.
    expect(await superuser`select topic from notifier.topic_starts`).toEqual([{ topic: 'identity.events' }])
  } finally {
    await Promise.all([superuser.end(), old.end()])
    await database.drop()
    rmSync(before, { recursive: true })
  }
})
