// `npm run ledger:rebuild` on a running system with real traffic: the books from ledger.events alone equal the live ones.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { env, databaseUrls } = inject('system')
const NAME = 'books_from_events_test'

type Run = { exitCode: number; out: string; err: string }
const run = (script: string, args: string[], more: Record<string, string> = {}) =>
  new Promise<Run>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', 'services', 'ledger', 'src', script), ...args],
      {
        env: {
          ...env.ledger,
          OWNER_DATABASE_URL: databaseUrls.owner,
          SUPERUSER_DATABASE_URL: databaseUrls.superuser,
          ...more,
        },
      },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )
const rebuild = (...args: string[]) => run('rebuild.ts', args)

let superuser: Database
let alice: Person
let to: Wallet
beforeAll(async () => {
  superuser = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  const [one, bob] = [await makePerson('Alice Smith'), await makePerson('Bob Brown')]
  alice = one
  await openWallet(alice, 'USD', '1000')
  to = await openWallet(bob, 'USD')
}, 60_000)
afterAll(async () => {
  await rebuild('--into', NAME, '--drop')
  await superuser.end()
}, 60_000)

/** Sends payments all the while. */
const underTraffic = async <Result>(work: () => Promise<Result>): Promise<Result> => {
  let stop = false
  const traffic = Promise.all(
    Array.from({ length: 4 }, async () => {
      while (!stop) expect([200, 201, 202]).toContain((await send(alice, to, '0.01')).status)
    }),
  )
  try {
    return await work()
  } finally {
    stop = true
    await traffic
  }
}

describe('ledger:rebuild', () => {
  test('O1, M2: under traffic the books from the events equal the live ones, row by row', {
    timeout: 240_000,
  }, async () => {
    const { exitCode, out, err } = await underTraffic(() => rebuild('--into', NAME, '--json'))
    expect(err).not.toContain('failed')
    const result = JSON.parse(out)
    expect(result).toMatchObject({
      ok: true,
      failure: null,
      comparison: { different: 0, untold: 0, named: [] },
    })
    expect(exitCode).toBe(0)
    const rows = Object.fromEntries(
      result.comparison.tables.map((one: { table: string; rows: number }) => [one.table, one.rows]),
    )
    expect(rows.journal).toBe(result.rebuilt.events)
    expect(rows.transfers).toBeGreaterThan(0)
    expect(rows.wallets).toBeGreaterThan(1)

    // It is built: the same command compares again, and finds what was changed by hand meanwhile.
    const [transfer] = await superuser<{ id: string; amount: bigint }[]>`
      select id, amount from ledger.transfers where status = 'completed' order by decided_at desc limit 1 offset 200`
    const [row] = transfer
      ? [transfer]
      : await superuser<{ id: string; amount: bigint }[]>`
          select id, amount from ledger.transfers where status = 'completed' order by decided_at limit 1`
    const change = (by: bigint) =>
      superuser`update ledger.transfers set amount = amount + ${by} where id = ${row!.id}`
    await change(1n)
    try {
      const differing = await rebuild('--into', NAME)
      expect(differing.out).toContain(
        `transfers ${row!.id}, amount: live ${row!.amount + 1n}, by the events ${row!.amount}`,
      )
      expect(differing.exitCode).toBe(1)
    } finally {
      await change(-1n)
    }
  })

  test('the live database, one that is no rebuild, and unknown options are refused; help has no effect', async () => {
    const live = await rebuild('--into', 'pennywire')
    expect([live.exitCode, live.err]).toEqual([2, expect.stringContaining('is the live database')])
    const other = await rebuild('--into', 'postgres', '--drop')
    expect([other.exitCode, other.err]).toEqual([expect.any(Number), expect.stringContaining('failed')])
    expect(other.exitCode).not.toBe(0)
    for (const args of [
      [],
      ['--into', 'Books'],
      ['--into', 'books', '--nope'],
      ['--into', 'books', '--drop', '--restart'],
    ])
      expect((await rebuild(...args)).exitCode).toBe(2)
    const help = await run('rebuild.ts', ['--help', '--into', 'never_made'], { KAFKA_BROKERS: '' })
    expect([help.exitCode, help.out]).toEqual([0, expect.stringContaining('Exit codes')])
    const [made] = await superuser`select 1 from pg_database where datname = 'never_made'`
    expect(made).toBeUndefined()
  })
})

test('ledger:catch-up on a database that is not behind changes nothing', async () => {
  const readPartitions = () => superuser`select sum(next_seq) as seq from ledger.partitions`
  const before = await readPartitions()
  const { exitCode, out } = await run('catch-up.ts', ['--json'])
  expect(JSON.parse(out)).toMatchObject({ ok: true, partitions: [], events: 0, failure: null })
  expect(exitCode).toBe(0)
  expect(await readPartitions()).toEqual(before)
  expect((await run('catch-up.ts', ['--nope'])).exitCode).toBe(2)
  const help = await run('catch-up.ts', ['--help'], { KAFKA_BROKERS: '' })
  expect([help.exitCode, help.out]).toEqual([0, expect.stringContaining('Exit codes')])
})
