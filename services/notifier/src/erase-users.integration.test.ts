// What the notifier deletes of an erased user, in all of its tables, by the role that the service has.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { eraseLate, eraseUsers } from './sql/erasures.ts'
import { createNotifierDatabase } from './sql/test-database.ts'

let database: Awaited<ReturnType<typeof createNotifierDatabase>>
let sql: Database
let owner: Database

beforeAll(async () => {
  database = await createNotifierDatabase(inject('stack').superuserUrl)
  sql = openDatabase(database.url('notifier'), { applicationName: 'test', maxConnections: 2 })
  owner = openDatabase(database.url('pennywire_owner'), { applicationName: 'test', maxConnections: 2 })
})
afterAll(async () => {
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

/** One row in every table that names a user; in the old one of notifications nothing stays. */
const fill = (userId: string) =>
  owner.begin(async tx => {
    const endpoint = randomUUID()
    await tx`
      insert into notifier.webhook_endpoints (id, owner_id, url, secrets)
      values (${endpoint}, ${userId}, 'https://alice.example/x', '[]')`
    await tx`update notifier.webhook_endpoints set url = 'https://alice.example/y' where id = ${endpoint}`
    await tx`
      insert into notifier.deliveries (command_id, user_id, channel, endpoint_id, event_type, payload, requested_at, expires_at)
      values (gen_random_uuid(), ${userId}, 'webhook', ${endpoint}, 'x', '{}', now(), now())`
    await tx`
      insert into notifier.deliveries (command_id, user_id, template, secret, requested_at, expires_at)
      values (gen_random_uuid(), ${userId}, 'x', 'x', now(), now())`
    await tx`insert into notifier.inboxes (user_id, last_seq, unread) values (${userId}, 1, 1)`
    await tx`
      insert into notifier.notices (user_id, seq, id, type, data, created_at)
      values (${userId}, 1, gen_random_uuid(), 'x', '{}', now())`
    await tx`insert into notifier.preferences (user_id, language) values (${userId}, 'de')`
  })

const TABLES = [...['changed_urls', 'deliveries', 'inboxes', 'notices', 'preferences', 'webhook_endpoints']]
/** The number of a user's rows, by table. */
const countOf = async (userId: string) => {
  const counts: Record<string, number> = {}
  for (const table of TABLES) {
    const column = ['changed_urls', 'webhook_endpoints'].includes(table) ? 'owner_id' : 'user_id'
    const rows = await owner`select from ${owner(`notifier.${table}`)} where ${owner(column)} = ${userId}`
    counts[table] = rows.length
  }
  return counts
}
const NONE = Object.fromEntries(TABLES.map(table => [table, 0]))

test('every table that names a user is known here', async () => {
  const rows = await owner<Array<{ name: string }>>`
    select distinct c.table_name as name from information_schema.columns c
      join information_schema.tables t using (table_schema, table_name)
    where c.table_schema = 'notifier' and t.table_type = 'BASE TABLE' and c.column_name in ('user_id', 'owner_id')
    order by 1`
  // Ids of erased users, the old table that is always empty, and what a gateway takes within moments.
  const others = ['erasures', 'notifications', 'webhook_changes']
  expect(rows.map(({ name }) => name)).toEqual([...TABLES, ...others].sort())
})

test('all rows of an erased user go, and those of others stay; no change of a webhook is told', async () => {
  const [gone, other] = [randomUUID(), randomUUID()]
  await Promise.all([fill(gone), fill(other)])
  const before = await countOf(other)
  expect(before).toEqual({ ...NONE, ...before })
  expect(Object.values(await countOf(gone)).every(count => count > 0)).toBe(true)
  await sql.begin(tx => eraseUsers(tx, [gone, gone]))
  expect(await countOf(gone)).toEqual(NONE)
  expect(await countOf(other)).toEqual(before)
  // An event that comes again changes nothing, and others' webhooks are told as ever.
  await sql.begin(tx => eraseUsers(tx, [gone]))
  await owner`delete from notifier.webhook_endpoints where owner_id = ${other}`
  const told = await owner`select kind from notifier.webhook_changes where owner_id = ${other} order by seq`
  expect(told.map(({ kind }) => kind)).toEqual(['added', 'changed', 'removed'])
})

test('what comes late is cleared by the next round, for a week', async () => {
  const userId = randomUUID()
  await sql.begin(tx => eraseUsers(tx, [userId]))
  await fill(userId)
  await eraseLate(sql)
  expect(await countOf(userId)).toEqual(NONE)
  await owner`update notifier.erasures set erased_at = now() - interval '9 days' where user_id = ${userId}`
  await fill(userId)
  await eraseLate(sql)
  expect((await countOf(userId)).notices).toBe(1)
})
