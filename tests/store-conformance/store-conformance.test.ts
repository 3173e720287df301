// The simulator's store, which replaces Postgres, behaves as Postgres does: the same scripts have the same results.
import { readFileSync } from 'node:fs'
import { isLedgerEvent, RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import { OWNER } from '@pennywire/stack/database-passwords.ts'
import { createTestDatabase, type TestDatabase } from '@pennywire/stack/test-database.ts'
import type postgres from 'postgres'
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { NOTHING_USED, type Usage } from '../../packages/rules/src/limits.ts'
import { readDueHolds as readDueHoldsOnPostgres } from '../../services/gateway/src/holds/sql/hold-reads.ts'
import * as ledgerReads from '../../services/gateway/src/ledger/sql/ledger-reads.ts'
import { readLedgerStatuses as readLedgerStatusesOnPostgres } from '../../services/gateway/src/payments/sql/payment-reads.ts'
import * as payments from '../../services/gateway/src/payments/sql/payments.ts'
import * as pendingRequests from '../../services/gateway/src/transfers/sql/pending-requests.ts'
import { postgresStore } from '../../services/ledger/src/sql/store.ts'
import { setWalletStatus } from '../../services/ledger/src/sql/test-database.ts'
import { decodeNow } from '../../simulator/broken-promise.ts'
import {
  type GatewayTables,
  lookUpTransfers,
  markPaymentDone,
  markPaymentPending,
  readDueHolds,
  readLedgerStatuses,
  readOutcome,
  readPending,
  readTransfer,
  readWallets,
  settlePayment,
  writePending,
} from '../../simulator/gateway-store.ts'
import { createLedgerDatabase } from '../../simulator/ledger-store.ts'
import { LEDGER_TABLES, type LedgerRows, type Tables } from '../../simulator/ledger-tables.ts'
import { createSimulatedCodec } from '../../simulator/processes.ts'
import { createRandom } from '../../simulator/random.ts'
import { createWorld, EPOCH_MS } from '../../simulator/world.ts'
import { GATEWAY } from './gateway.ts'
import { OPERATIONS } from './operations.ts'
import { POSITIONS } from './positions.ts'
import { RIVALS } from './rivals.ts'
import { SEEDS } from './seeds.ts'
import { type GatewaySite, type StoreScript, TIMEOUTS } from './site.ts'
import { TRANSACTIONS } from './transactions.ts'

const { superuserUrl } = inject('stack')
let codec: Codec
let database: TestDatabase
let pools: Record<'superuser' | 'batches' | 'relay' | 'gateway' | 'reader', Database>

beforeAll(async () => {
  codec = await createSimulatedCodec()
  database = await createTestDatabase(superuserUrl, {
    schema: 'ledger',
    migrations: new URL('../../services/ledger/src/sql/migrations/', import.meta.url),
  })
  const directory = new URL('../../services/gateway/src/sql/migrations/', import.meta.url)
  await migrate({ url: database.url(OWNER), schema: 'gateway', directory })
  const open = (url: string, connection = {}) =>
    openDatabase(url, { applicationName: 'conformance', maxConnections: 6, connection })
  pools = {
    superuser: open(database.url()),
    batches: open(database.url('ledger'), {
      lock_timeout: TIMEOUTS.lockMs,
      idle_in_transaction_session_timeout: TIMEOUTS.idleMs,
      transaction_timeout: TIMEOUTS.transactionMs,
    }),
    relay: open(database.url('ledger')),
    gateway: open(database.url('gateway')),
    reader: open(database.url('ledger_reader')),
  }
})
afterAll(async () => {
  await Promise.all(Object.values(pools).map(pool => pool.end({ timeout: 1 })))
  await database.drop()
})
beforeEach(
  () => pools.superuser`
    truncate ${pools.superuser(tableNames.map(name => `ledger.${name}`))}, gateway.pending_requests, gateway.payments`,
)

// --- rows as text, in one form for both ---

type Row = Record<string, unknown>

const textOf = (value: unknown): unknown => {
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof Date) return value.toISOString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  return value
}
/** An event as text. A wallet's code is masked, because it is drawn anew in each run. */
const readEvent = (bytes: Buffer) => {
  const event = decodeNow(bytes)
  if (!event) return bytes.toString('hex')
  const told =
    event.type === 'pennywire.ledger.WalletOpened' ? { ...event.value, code: 'drawn' } : event.value
  return JSON.stringify(told, (_, value) => (typeof value === 'bigint' ? String(value) : value))
}
const rowText = (table: string, row: Row) => {
  const told = Object.keys(row)
    .toSorted()
    .map(column => {
      if (table === 'wallets' && column === 'code') return `code ${row.code !== null}`
      if (column === 'usage') return `usage ${row.usage}`
      if (column === 'bytes') return `bytes ${readEvent(row.bytes as Buffer)}`
      return `${column} ${textOf(row[column])}`
    })
  return `${table}: ${told.join(', ')}`
}
const dumpText = (tables: Record<string, Row[]>) =>
  Object.entries(tables)
    .flatMap(([table, rows]) => rows.map(row => rowText(table, row)))
    .toSorted()

/** A wallet's usage in the form of the table, which stores an empty array until the usage is first written. */
const usageText = ({ day, used: { send, deposit, withdrawal } }: Usage): string =>
  [day, ...[send, deposit, withdrawal].flatMap(({ day, month }) => [day, month])].join(' ')

/** Mappings for rows in memory whose columns differ from the table's. */
const COLUMNS: { [Name in keyof LedgerRows]?: (row: LedgerRows[Name]) => Row } = {
  journal: ({ headers, ...row }) => ({ ...row, headers: JSON.stringify(headers) }),
  wallets: ({ usage, ...row }) => ({ ...row, usage: usageText(usage) }),
  holds: ({ toWalletId: toWallet, placedMs, untilMs, ...row }) => ({
    ...row,
    toWallet,
    placedAt: new Date(placedMs),
    holdUntil: untilMs === null ? null : new Date(untilMs),
  }),
}
const tableNames = Object.keys(LEDGER_TABLES) as (keyof LedgerRows)[]
const tablesInMemory = (tables: Tables): Record<string, Row[]> =>
  Object.fromEntries(
    tableNames.map(name => {
      const columnsOf = (COLUMNS[name] ?? ((row: Row) => row)) as (row: object) => Row
      return [name, [...tables[name].values()].map(columnsOf)]
    }),
  )
const camelCase = (column: string) => column.replace(/_./g, found => found[1]!.toUpperCase())
const tablesInPostgres = async (superuser: Database): Promise<Record<string, Row[]>> => {
  const tables: Record<string, Row[]> = {}
  for (const table of tableNames) {
    const rows = await superuser<Row[]>`select * from ${superuser(`ledger.${table}`)}`
    tables[table] = rows.map(row =>
      Object.fromEntries(
        Object.entries(row).map(([column, value]) =>
          column === 'usage'
            ? [
                'usage',
                (value as unknown[]).length > 0 ? (value as unknown[]).join(' ') : usageText(NOTHING_USED),
              ]
            : [camelCase(column), value],
        ),
      ),
    )
  }
  return tables
}

/** Every refusal code in the source of the rules, and those that the ledger adds. */
const REFUSALS = ['decide', 'wallet-rules', 'limits']
  .map(name => readFileSync(new URL(`../../packages/rules/src/${name}.ts`, import.meta.url), 'utf8'))
  .flatMap(source => [...source.matchAll(/'([A-Z]+(?:_[A-Z]+)+)'/g)].map(([, code]) => code!))
  .concat('IDEMPOTENCY_KEY_REUSED', 'INTERNAL_ERROR')

// --- the two stores ---

const gatewayInMemory = (tables: Tables, now: () => number): GatewaySite => {
  const own: GatewayTables = { pending: new Map(), payments: new Map() }
  return {
    readTransfers: async ids => ids.flatMap(id => readTransfer(tables, id) ?? []),
    lookUpTransfers: async questions => questions.map(question => lookUpTransfers(tables, question)),
    readWallets: async ids => readWallets(tables, ids),
    writePending: async requests => writePending(own, requests),
    readPending: async id => readPending(own, id, now()),
    writePayment: async payment => own.payments.set(payment.id, { ...payment }),
    readPayment: async id => own.payments.get(id) && { ...own.payments.get(id)! },
    markPending: async (id, reference) => markPaymentPending(own, id, reference),
    settle: async (id, settlement) => settlePayment(own, id, settlement),
    markDone: async (id, status) => markPaymentDone(own, id, status),
    readLedgerStatuses: async ids => readLedgerStatuses(tables, ids),
    readOutcome: async id => readOutcome(tables, id),
    readDueHolds: async (after, limit) => readDueHolds(tables, now(), after, limit),
  }
}
const gatewayOnPostgres = (sql: Database, reader: Database): GatewaySite => ({
  readTransfers: ids => ledgerReads.readTransfers(reader, ids),
  lookUpTransfers: questions => ledgerReads.lookUpTransfers(reader, questions),
  readWallets: ids => ledgerReads.readWallets(reader, ids),
  writePending: requests => pendingRequests.writePending(sql, requests, 60_000),
  readPending: id => pendingRequests.readPending(sql, id, id),
  writePayment: payment => payments.writePayment(sql, payment, 0),
  readPayment: id => payments.readPayment(sql, id),
  markPending: (id, reference) => payments.markPaymentPending(sql, id, reference),
  settle: (id, settlement) => payments.settlePayment(sql, id, settlement),
  markDone: (id, status) => payments.markPaymentDone(sql, id, status),
  readLedgerStatuses: ids => readLedgerStatusesOnPostgres(reader, ids),
  readOutcome: async id => {
    const [outcome] = await ledgerReads.readOutcomes(reader, [id])
    return outcome && { fingerprint: outcome.fingerprint, bytes: outcome.bytes }
  },
  readDueHolds: (after, limit) => readDueHoldsOnPostgres(reader, after, limit),
})

const runInMemory = async (script: StoreScript): Promise<unknown> => {
  const world = createWorld(createRandom(1))
  const process = world.createProcess('script')
  const database = createLedgerDatabase({
    scheduler: { ...world, latency: () => 1 },
    lockTimeoutMs: TIMEOUTS.lockMs,
    idleTimeoutMs: TIMEOUTS.idleMs,
    transactionTimeoutMs: TIMEOUTS.transactionMs,
  })
  let done = false
  const running = script
    .run({
      store: database.connect(process),
      gateway: gatewayInMemory(database.tables, () => EPOCH_MS + world.now()),
      now: () => EPOCH_MS + world.now(),
      codec,
      pass: ms => world.sleep(ms, process, 'time passes'),
      setStatus: (...of) => database.setStatus(process, ...of),
      dump: async () => dumpText(tablesInMemory(database.tables)),
    })
    .finally(() => {
      done = true
    })
  running.catch(() => {})
  for (let turns = 0; !done; turns++) {
    if (turns === 1_000) throw new Error('the script waits for what never comes')
    await new Promise(setImmediate)
    await world.runUntil(() => done)
  }
  return running
}

const runOnPostgres = (script: StoreScript): Promise<unknown> => {
  const { superuser, batches, relay, gateway, reader } = pools
  return script.run({
    store: postgresStore(batches, relay),
    gateway: gatewayOnPostgres(gateway, reader),
    now: Date.now,
    codec,
    pass: ms => new Promise(resolve => setTimeout(resolve, ms)),
    setStatus: (id, status, freezeSource) =>
      setWalletStatus(superuser as unknown as postgres.Sql, id, status, freezeSource),
    dump: async () => dumpText(await tablesInPostgres(superuser)),
  })
}

const SCRIPTS = [...TRANSACTIONS, ...POSITIONS, ...OPERATIONS, ...RIVALS, ...GATEWAY, ...SEEDS]

test.each(SCRIPTS)('$name', async script => {
  const inMemory = await runInMemory(script)
  const onPostgres = await runOnPostgres(script)
  if (script.expected !== undefined) {
    expect(onPostgres).toEqual(script.expected)
    expect(inMemory).toEqual(script.expected)
  }
  expect(inMemory).toEqual(onPostgres)
})

/** The types of a seed's events, and the code of a refusal or the reason of a hold's end. */
const outcomesIn = (told: unknown): string[] => {
  if (told === null || typeof told !== 'object' || Buffer.isBuffer(told)) return []
  const { type, value } = told as { type?: unknown; value?: { code?: string; reason?: unknown } }
  if (typeof type !== 'string' || !isLedgerEvent(type)) return Object.values(told).flatMap(outcomesIn)
  const detail = type.endsWith('HoldEnded') ? value?.reason : value?.code
  return [type, ...(typeof detail === 'string' ? [detail] : [])]
}

test('the seeds meet every event of the ledger, and every refusal of its rules', async () => {
  const met = new Set((await Promise.all(SEEDS.map(runInMemory))).flatMap(outcomesIn))
  const missed = [...RECORD_NAMES.filter(isLedgerEvent), ...REFUSALS, 'voided', 'expired', 'payment_failed']
  expect(missed.filter(outcome => !met.has(outcome))).toEqual([])
})
