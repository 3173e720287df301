// `npm run bench:growth -- --rows N`: measures the cost of the ledger's tables as they grow, on a Postgres of its own
// that is removed at the end. N transfers (a million by default; each is five rows) are written by SQL, once with ids
// as they are (hashes) and once with ids in the order of time; then batches like the ledger's are measured.
// docs/scale.md draws the conclusions.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startGuard } from '@pennywire/stack/connect-guard.ts'
import { loadPasswords } from '@pennywire/stack/database-passwords.ts'
import { provision } from '@pennywire/stack/provision.ts'
import { startStack } from '@pennywire/stack/stack.ts'
import { createTestDatabase } from '@pennywire/stack/test-database.ts'
import postgres from 'postgres'

const DEFAULT_ROWS = 1_000_000
const MOST_ROWS = 100_000_000
/** Transfers that one statement writes while filling. */
const FILL = 100_000
const BATCH = 500
const BATCHES = 100
const WALLETS = 20_000

const given = process.argv.slice(2)
const rows = given.length === 0 ? DEFAULT_ROWS : Number(given[1])
if (given.length > 2 || (given.length > 0 && given[0] !== '--rows') || !(rows >= FILL && rows <= MOST_ROWS)) {
  console.error(`usage: npm run bench:growth -- --rows N, with N from ${FILL} to ${MOST_ROWS}`)
  process.exit(2)
}

const IDS = {
  'ids as they are (hashes)': `md5(i::text)::uuid`,
  'ids in the order of time': `(lpad(to_hex(i), 12, '0') || substr(md5(i::text), 13))::uuid`,
}

/** The ledger's rows for transfers `from` to `to`: one each in transfers, commands and journal, two in entries. */
const write = (id: string, from: number, to: number) => `
  with asked as materialized (
    select i, ${id} as id, md5('w' || i % ${WALLETS})::uuid as payer, md5('w' || (i + 7) % ${WALLETS})::uuid as payee
    from generate_series(${from}::bigint, ${to}::bigint) i),
  t as (insert into ledger.transfers (id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount,
      currency, fingerprint, requested_at, decided_at, partition, seq)
    select id, 'transfer', 'completed', payer, payer, 2 * i + 1, payee, 2 * i + 2, 100, 'USD', substr(decode(md5(id::text), 'hex'), 1, 16), now(),
      now(), i % 12, i + 1 from asked),
  c as (insert into ledger.commands (id, fingerprint, partition, seq)
    select id, decode(md5(id::text), 'hex'), i % 12, i + 1 from asked),
  j as (insert into ledger.journal (partition, seq, key, headers, bytes)
    select i % 12, i + 1, payer::text, repeat('h', 250), decode(repeat(md5(id::text), 14), 'hex') from asked)
  insert into ledger.entries (wallet_id, sequence, transfer_id, amount, balance_after)
  select payer, 2 * i + 1, id, -100, 100 from asked union all select payee, 2 * i + 2, id, 100, 100 from asked`

type Figures = Record<string, number>

const measure = async (superuserUrl: string, id: string): Promise<Figures> => {
  const database = await createTestDatabase(superuserUrl, {
    schema: 'ledger',
    migrations: new URL('../services/ledger/src/sql/migrations/', import.meta.url),
  })
  const sql = postgres(database.url(), { max: 1 })
  const one = async (query: string): Promise<number> =>
    Number(Object.values((await sql.unsafe(query))[0]!)[0])
  try {
    await sql`set synchronous_commit = off`
    for (let from = 0; from < rows; from += FILL) await sql.unsafe(write(id, from, from + FILL - 1))
    await sql.unsafe('vacuum (analyze)')
    const sizes: Figures = {}
    for (const table of ['transfers', 'commands', 'entries', 'journal']) {
      sizes[`${table}: bytes a transfer, rows`] =
        (await one(`select pg_table_size('ledger.${table}')`)) / rows
      sizes[`${table}: bytes a transfer, indexes`] =
        (await one(`select pg_indexes_size('ledger.${table}')`)) / rows
    }
    // As after a checkpoint under load: the first change of each page writes the whole page to the write-ahead log.
    await sql`checkpoint`
    await sql`set synchronous_commit = on`
    await sql`select pg_stat_reset()`
    const before = await one(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn`)
    const began = process.hrtime.bigint()
    for (let n = 0; n < BATCHES; n++) {
      const from = rows + n * BATCH
      await sql.unsafe(write(id, from, from + BATCH - 1))
    }
    const ms = Number(process.hrtime.bigint() - began) / 1e6
    const wal = (await one(`select pg_current_wal_insert_lsn() - '0/0'::pg_lsn`)) - before
    await sql`select pg_stat_force_next_flush()`
    const hits = await one(`
      select 100.0 * sum(idx_blks_hit) / nullif(sum(idx_blks_hit + idx_blks_read), 0) from pg_statio_user_indexes
      where schemaname = 'ledger' and relname in ('transfers', 'commands')`)
    return {
      ...sizes,
      'write-ahead log, bytes a transfer': wal / (BATCHES * BATCH),
      'ms a batch of 500': ms / BATCHES,
      'found in shared_buffers, % of index pages of transfers and commands': hits,
    }
  } finally {
    await sql.end()
    await database.drop()
  }
}

const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-growth-'))
const guard = await startGuard(dataDir, console.log)
try {
  const stack = await startStack({ dataDir, guard })
  await provision(stack.postgres.superuserUrl, loadPasswords(dataDir))
  console.log(`${rows} transfers, shared_buffers 256 MB`)
  const measured = new Map<string, Figures>()
  for (const [name, id] of Object.entries(IDS))
    measured.set(name, await measure(stack.postgres.superuserUrl, id))
  const [first] = measured.values()
  console.log(`| Measured | ${[...measured.keys()].join(' | ')} |\n| --- | ---: | ---: |`)
  for (const what of Object.keys(first!)) {
    console.log(
      `| ${what} | ${[...measured.values()].map(figures => figures[what]!.toFixed(1)).join(' | ')} |`,
    )
  }
} finally {
  await guard.stop()
  rmSync(dataDir, { recursive: true, force: true })
}
process.exit(0)
