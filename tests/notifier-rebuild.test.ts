// The notices are built again from the topics beside the running notifier, compared, and mended; nothing is sent.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { env, databaseUrls } = inject('system')
const sql = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 2 })

let alice: Person
let bob: Person
let to: Wallet
let sent = 0
beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  await openWallet(alice, 'USD', '1000')
  to = await openWallet(bob, 'USD')
}, 60_000)
afterAll(() => sql.end())

const rebuild = (...args: string[]) =>
  new Promise<{ exitCode: number; out: string; err: string }>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', 'notifier', 'src', 'rebuild.ts'), ...args],
      { env: { ...env.notifier, OWNER_DATABASE_URL: databaseUrls.owner } },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )

const toldTo = async (person: Person) => {
  const rows = await sql<{ id: string; seq: number; type: string; isRead: boolean }[]>`
    select id, seq::int, type, read_at is not null as "isRead" from notifier.notices
    where user_id = ${person.id} order by seq`
  return rows
}
const isPaid = ({ type }: { type: string }) => type === 'transfer_received'
const countDeliveries = async () => {
  const [row] = await sql<[{ count: number }]>`select count(*)::int as count from notifier.deliveries`
  return row.count
}

test('R1: under traffic the notices built from the topics are the live ones', {
  timeout: 120_000,
}, async () => {
  let stop = false
  const traffic = (async () => {
    while (!stop) {
      expect([200, 201, 202]).toContain((await send(alice, to, '0.01')).status)
      sent++
    }
  })()
  try {
    const { exitCode, out, err } = await rebuild()
    expect(err + out).toMatch(/^\d+ notices are equal to the live ones, 0 are not$/m)
    expect(exitCode).toBe(0)
  } finally {
    stop = true
    await traffic
  }
})

test('R1: a lost, a changed and an invented notice are found; --mend puts back what the topics tell, and sends nothing', {
  timeout: 120_000,
}, async () => {
  await vi.waitFor(async () => expect((await toldTo(bob)).filter(isPaid)).toHaveLength(sent), {
    timeout: 20_000,
  })
  const before = await toldTo(bob)
  const [lost, changed] = [before[0]!, before[1]!]
  const invented = randomUUID()
  // The list goes on to count what is unread, so that the notices alone are wrong.
  await sql`delete from notifier.notices where id = ${lost.id}`
  await sql`update notifier.inboxes set unread = unread - 1 where user_id = ${bob.id}`
  await sql`update notifier.notices set data = '{"amount":"1000000.00"}' where id = ${changed.id}`
  const found = await rebuild('--json')
  expect(found.exitCode).toBe(1)
  expect(JSON.parse(found.out)).toMatchObject({
    ok: false,
    comparison: {
      different: 1,
      missing: 1,
      invented: 0,
      wrongInboxes: 0,
      first: expect.stringContaining('notice '),
    },
    mended: null,
  })

  const deliveries = await countDeliveries()
  const mended = await rebuild('--mend', '--json')
  expect([mended.exitCode, JSON.parse(mended.out).mended]).toEqual([0, { added: 1, corrected: 1 }])
  expect(await countDeliveries()).toBe(deliveries)
  const after = await toldTo(bob)
  expect(after.filter(({ id }) => id !== lost.id)).toEqual(before.slice(1))
  expect(after.at(-1)).toMatchObject({ id: lost.id, type: lost.type, isRead: true })
  expect((await rebuild()).exitCode).toBe(0)

  await sql`
    insert into notifier.notices (user_id, seq, id, type, data, created_at, read_at)
    values (${bob.id}, 0, ${invented}, 'transfer_received', '{}', now(), now())`
  try {
    const { exitCode, out } = await rebuild()
    expect(out).toContain(`first difference: notice ${invented} (transfer_received): no topic tells it`)
    expect(exitCode).toBe(1)
  } finally {
    await sql`delete from notifier.notices where id = ${invented}`
  }
})

test('its options are told, and unknown ones refused', async () => {
  const told = await rebuild('--help', '--mend')
  expect(told).toMatchObject({ exitCode: 0, out: expect.stringContaining('usage: npm run notifier:rebuild') })
  expect(await rebuild('--swap')).toMatchObject({ exitCode: 2, err: expect.stringContaining('usage:') })
})
