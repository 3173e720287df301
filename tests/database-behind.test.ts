// The database is set back by an hour while Kafka is not, as after an asynchronous failover or a restored backup: the
// real Postgres runs on an older copy of its data folder.
import { execFileSync } from 'node:child_process'
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import { balanceOf, control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { dataDir, env, opsUrls, databaseUrls } = inject('system')
const data = join(dataDir, 'postgres', 'data')
const copy = join(dataDir, 'postgres', 'an-hour-ago')
const current = join(dataDir, 'postgres', 'now')
const OTHERS = ['gateway', 'notifier', 'audit']

let alice: Person
let bob: Person
let wallets: { alice: Wallet; bob: Wallet }
beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  wallets = { alice: await openWallet(alice, 'USD', '100'), bob: await openWallet(bob, 'USD') }
}, 60_000)

/** Restores the system for the next file, even if the test fails. */
afterAll(async () => {
  if (!existsSync(current)) return
  await Promise.all(['ledger', ...OTHERS].map(name => control(name, 'stop')))
  await control('postgres', 'stop')
  rmSync(data, { recursive: true, force: true })
  renameSync(current, data)
  rmSync(copy, { recursive: true, force: true })
  await control('postgres', 'restart')
  await Promise.all(['ledger', ...OTHERS].map(name => control(name, 'restart')))
}, 180_000)

const stopped = async (work: () => void) => {
  await Promise.all(['ledger', ...OTHERS].map(name => control(name, 'stop')))
  await control('postgres', 'stop')
  work()
  await control('postgres', 'restart')
}

const inDatabase = async <Result>(ask: (sql: Database) => Promise<Result>): Promise<Result> => {
  const sql = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  try {
    return await ask(sql)
  } finally {
    await sql.end()
  }
}

const journalOf = (partition: number) =>
  inDatabase(sql => sql`select count(*)::int as events from ledger.journal where partition = ${partition}`)

const runCatchUp = (...args: string[]) =>
  execFileSync(
    process.execPath,
    [join(import.meta.dirname, '..', 'services', 'ledger', 'src', 'catch-up.ts'), ...args],
    { env: env.ledger, encoding: 'utf8' },
  )

const isHalted = async () => {
  const answer = await fetch(`${opsUrls.ledger}/readyz`)
  const { checks } = (await answer.json()) as { checks: { consumer: string } }
  expect([answer.status, checks.consumer]).toEqual([
    503,
    expect.stringMatching(/is halted: the database is behind its own events by [1-9]/),
  ])
}

/** Copies the ledger's tables, or puts the copies in their place: an older state of these books alone. */
const TABLES = [
  'wallets',
  'transfers',
  'entries',
  'commands',
  'holds',
  'reversals',
  'limits',
  'journal',
  'partitions',
]
const copyBooks = () =>
  inDatabase(sql =>
    sql.begin(async tx => {
      await tx`create schema an_hour_ago`
      for (const table of [...TABLES, 'published'])
        await tx`create table ${tx(`an_hour_ago.${table}`)} as select * from ${tx(`ledger.${table}`)}`
    }),
  )
const putBooksBack = () =>
  inDatabase(sql =>
    sql.begin(async tx => {
      for (const table of [...TABLES, 'published']) {
        await tx`truncate ${tx(`ledger.${table}`)}`
        await tx`insert into ${tx(`ledger.${table}`)} select * from ${tx(`an_hour_ago.${table}`)}`
      }
      await tx`drop schema an_hour_ago cascade`
    }),
  )

test('X1, X2, O1, M1: caught up by its events it goes on: a 201 stays a 201, and what no event answers is decided', {
  timeout: 300_000,
}, async () => {
  await copyBooks()
  const sent = await send(alice, wallets.bob, '7', 'pay-7')
  expect([sent.status, sent.body.status]).toEqual([201, 'completed'])
  const before = await balanceOf(alice, wallets.alice)
  const readPartitions = () =>
    inDatabase(
      sql => sql`select partition, next_offset, next_seq, last_digest from ledger.partitions order by 1`,
    )
  const positions = await readPartitions()

  await control('ledger', 'stop')
  await putBooksBack()
  // A command that no ledger has decided.
  const undecided = send(alice, wallets.bob, '2', 'pay-2')
  const starting = control('ledger', 'restart').catch((error: Error) => error)
  await vi.waitFor(isHalted, { timeout: 60_000, interval: 200 })
  // Beside the halted ledger: first without effect, then in earnest, then with nothing left to do.
  expect(runCatchUp('--dry-run')).toContain('dry run: nothing is changed')
  await isHalted()
  const result = JSON.parse(runCatchUp('--json')) as { ok: boolean; events: number }
  expect(result).toMatchObject({ ok: true })
  expect(result.events).toBeGreaterThanOrEqual(1)
  expect(runCatchUp()).toContain('nothing to do')
  expect(await readPartitions()).toEqual(positions)
  expect(await balanceOf(alice, wallets.alice)).toBe(before)

  await control('ledger', 'stop')
  await starting
  await control('ledger', 'restart')
  expect((await undecided).body.id).toEqual(expect.any(String))
  await vi.waitFor(
    async () => expect((await send(alice, wallets.bob, '2', 'pay-2')).body.status).toBe('completed'),
    { timeout: 60_000, interval: 500 },
  )
  const again = await send(alice, wallets.bob, '7', 'pay-7')
  expect([again.status, again.body.id, again.body.status]).toEqual([201, sent.body.id, 'completed'])
  expect(Number(await balanceOf(alice, wallets.alice))).toBe(Number(before) - 2)
  expectBooksToBeRight()
  // The other test has the balance of before.
  expect((await send(bob, wallets.alice, '9')).status).toBe(201)
})

test('X1, O1: its partition halts with an alarm, no command gets a second outcome, and the books go on where it is back', {
  timeout: 300_000,
}, async () => {
  await stopped(() => execFileSync('cp', ['-a', data, copy]))
  await Promise.all(['ledger', ...OTHERS].map(name => control(name, 'restart')))
  const sent = await send(alice, wallets.bob, '40')
  expect([sent.status, sent.body.status]).toEqual([201, 'completed'])
  const [decided] = await inDatabase(
    sql => sql<{ partition: number }[]>`select partition from ledger.commands where id = ${sent.body.id}`,
  )
  const { partition } = decided!

  await stopped(() => {
    renameSync(data, current)
    execFileSync('cp', ['-a', copy, data])
  })
  const before = await journalOf(partition)
  const starting = control('ledger', 'restart').catch((error: Error) => error)
  await vi.waitFor(
    async () => {
      const answer = await fetch(`${opsUrls.ledger}/readyz`)
      const { checks } = (await answer.json()) as { checks: { consumer: string } }
      expect([answer.status, checks.consumer]).toEqual([
        503,
        expect.stringMatching(/is halted: the database is behind its own events by [1-9]/),
      ])
    },
    { timeout: 60_000, interval: 200 },
  )
  const metrics = await (await fetch(`${opsUrls.ledger}/metrics`)).text()
  expect(metrics).toMatch(
    new RegExp(`pennywire_ledger_behind_events\\{[^}]*partition="${partition}"[^}]*\\} [1-9]`),
  )
  // The command is in the topic and its id is unused in this database: the ledger must not decide it again.
  expect(await journalOf(partition)).toEqual(before)

  await stopped(() => {
    rmSync(data, { recursive: true })
    renameSync(current, data)
    rmSync(copy, { recursive: true })
  })
  await starting
  await Promise.all(['ledger', ...OTHERS].map(name => control(name, 'restart')))
  expect(await balanceOf(alice, wallets.alice)).toBe('60.00')
  expect((await send(alice, wallets.bob, '1')).status).toBe(201)
  expectBooksToBeRight()
})
