// `npm run ledger:rebuild`: builds the ledger's books from ledger.events alone, in a database of their own beside the
// running ledger, and compares them with the live ones. USAGE tells the options and settings.

import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { type Database, LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { TwoHistories } from './catch-up-books.ts'
import { type BooksComparison, compareBooks } from './compare-books.ts'
import { createReadFrom } from './read-events.ts'
import { NotEmpty, type RebuiltBooks, rebuildBooks } from './rebuild-books.ts'
import {
  createDatabaseOf,
  dropDatabase,
  dropRun,
  hasDatabase,
  readHorizon,
  readPhase,
} from './sql/rebuild.ts'

const USAGE = `usage: npm run ledger:rebuild -- --into NAME [--no-compare] [--restart | --drop] [--json]

Builds the ledger's books (wallets, transfers, entries, holds, reversals, limits, commands, journal, positions) from
ledger.events alone in the database NAME, while the services go on: with progress, rate and time left. Then compares
every row with the live books as they were at one moment. Ctrl-C stops it; the same command goes on where it was.

  --into NAME   The database on the server of OWNER_DATABASE_URL. It is created if it is missing; one that is neither
                empty nor the unfinished rebuild of an earlier run is refused.
  --no-compare  Does not read the live books. Default without DATABASE_URL.
  --restart     Forgets what is rebuilt in NAME, and begins again.
  --drop        Removes the database NAME, if it is a rebuild, and does nothing else.
  --json        Writes one JSON document to stdout.
  --help        Writes this.

Settings: OWNER_DATABASE_URL, the live database as the owner of its schemas; DATABASE_URL, the live database as the
ledger's role, to compare with; SUPERUSER_DATABASE_URL, only to create NAME where the owner may not;
KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…), REGISTRY_URL.
Exit codes: 0 the books are equal (or built, where nothing is compared); 1 they differ (differences are named), or the
topic tells two histories; 2 wrong options or settings; 3 it failed or was stopped.
Example: npm run ledger:rebuild -- --into rebuilt_books
`
const NAME = /^[a-z][a-z0-9_]{0,62}$/
/** The parts of a database's URL: up to its name, the name, parameters. */
const URL_PARTS = /^(postgres(?:ql)?:\/\/[^/]+\/)([^?]*)(.*)$/

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(
  USAGE,
  { options: { into: { type: 'string' }, 'no-compare': flag, restart: flag, drop: flag, json: flag } },
  ({ values: { into = '', drop, restart, 'no-compare': noCompare } }) => {
    if (!NAME.test(into)) throw new Error('--into names the new database: lower-case letters, digits and _')
    if (drop && (restart || noCompare)) throw new Error('--drop goes with --into alone')
  },
)
const { into = '' } = options

const config = loadConfig(
  {
    OWNER_DATABASE_URL: databaseUrl,
    DATABASE_URL: databaseUrl.optional(),
    SUPERUSER_DATABASE_URL: databaseUrl.optional(),
    ...kafkaSettings,
    ...registrySettings,
  },
  process.env,
)
const refuseUsage = (message: string): never => {
  process.stderr.write(`${message}\n`)
  process.exit(EXIT.usage)
}
const [, server, liveName, parameters] =
  URL_PARTS.exec(config.OWNER_DATABASE_URL) ?? refuseUsage('OWNER_DATABASE_URL names no database')
if (liveName === into) refuseUsage(`--into ${into} is the live database`)
const targetUrl = `${server}${into}${parameters}`

/** One text form of each value on both servers. */
const connection = { TimeZone: 'UTC', bytea_output: 'hex', extra_float_digits: 1 }
const open = (url: string, more: Record<string, string | number> = {}): Database =>
  openDatabase(url, {
    applicationName: 'ledger-rebuild',
    deadlineMs: LONG_DEADLINE_MS,
    maxConnections: 2,
    connection: { ...connection, ...more },
  })
// What an interrupted rebuild has not flushed is read again.
const target = open(targetUrl, { synchronous_commit: 'off' })
const live =
  config.DATABASE_URL === undefined || options['no-compare']
    ? undefined
    : open(config.DATABASE_URL, { default_transaction_read_only: 'on' })
const logger = createLogger('ledger-rebuild', { level: 'fatal', instance: 'rebuild' })
const client = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: 'ledger-rebuild',
  logger,
})
const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.stderr.write('stopping after the running portion; the same command goes on from there\n')
    stopped.abort()
  })
const progressOf = (what: string, total: number) =>
  showProgress({ what, total, clock: systemClock, stream: process.stderr })

type Result = { rebuilt: RebuiltBooks | null; comparison: BooksComparison | null }
const result: Result = { rebuilt: null, comparison: null }

/** Runs `work` in the owner's own database, or as the superuser where one is set. */
const onServer = async <Value>(work: (sql: Database) => Promise<Value>): Promise<Value> => {
  const sql = open(config.SUPERUSER_DATABASE_URL ?? config.OWNER_DATABASE_URL)
  try {
    return await work(sql)
  } finally {
    await sql.end({ timeout: 5 })
  }
}

const drop = async (): Promise<number> => {
  const exists = await onServer(sql => hasDatabase(sql, into))
  if (exists && (await readPhase(target)) === undefined)
    throw new NotEmpty(`the database ${into} is no rebuild; it stays`)
  await target.end({ timeout: 5 })
  if (exists) await onServer(sql => dropDatabase(sql, into))
  print(exists ? `the database ${into} is removed` : `there is no database ${into}`)
  return EXIT.ok
}

const rebuild = async (): Promise<number> => {
  if (!(await onServer(sql => hasDatabase(sql, into)))) {
    const owner = decodeURIComponent(/\/\/([^:@/]+)/.exec(config.OWNER_DATABASE_URL)?.[1] ?? '')
    await onServer(sql => createDatabaseOf(sql, into, owner))
  }
  if (options.restart && (await readPhase(target)) !== undefined) await dropRun(target)
  const registry = connectRegistry(config.REGISTRY_URL, registryAccessOf(config))
  const codec = await createCodec(registry)
  result.rebuilt = await rebuildBooks({
    ...{ target, live, codec, clock: systemClock, signal: stopped.signal, progressOf },
    migrate: () =>
      migrate({
        url: targetUrl,
        schema: 'ledger',
        directory: new URL('./sql/migrations/', import.meta.url),
      }),
    readFrom: createReadFrom({ client, logger, signal: stopped.signal }),
  })
  if (!result.rebuilt) {
    process.stderr.write('stopped; the same command goes on from there\n')
    return EXIT.failed
  }
  const { events, resumed, repeats, wallets, seconds } = result.rebuilt
  print(
    `${events} events replayed in ${seconds.toFixed(1)} s with all tables and indexes, ${Math.round(events / Math.max(0.001, seconds))}/s; ${wallets} wallets` +
      `${repeats > 0 ? `; ${repeats} records repeat an event` : ''}${resumed > 0 ? `; ${resumed} events were there from before` : ''}`,
  )
  if (!live) {
    print('the books are built and not compared')
    return EXIT.ok
  }
  const horizon = await readHorizon(target)
  if (horizon.size === 0) throw new Error(`${into} was built without live books to compare with: --restart`)
  result.comparison = await compareBooks({
    ...{ live, rebuilt: target, horizon, signal: stopped.signal, progressOf },
    tells: async (bytes, field) => {
      const writer = (await registry.schemaOf(bytes.readUInt32BE(1))) as unknown as {
        fields: { name: string }[]
      }
      return writer.fields.some(({ name }) => name === field)
    },
  })
  if (stopped.signal.aborted) return EXIT.failed
  const { tables, different, untold, named } = result.comparison
  print(tables.map(({ table, rows }) => `${rows} ${table}`).join(', '))
  print(
    different === 0 ? 'every row is equal to the live books' : `${different} rows differ from the live books`,
  )
  if (untold > 0)
    print(`${untold} values are told by no event: older versions wrote theirs without the field`)
  for (const { table, key, column, live, rebuilt } of named)
    print(
      column === null
        ? `${table} ${key}: ${live === null ? 'an event tells it, the live books lack it' : 'the live books hold it, no event tells it'}`
        : `${table} ${key}, ${column}: live ${live}, by the events ${rebuilt}`,
    )
  return different === 0 ? EXIT.ok : EXIT.wrong
}

let exitCode: number
let failure: string | null = null
try {
  exitCode = await (options.drop ? drop() : rebuild())
} catch (error) {
  failure = (error as Error).message || String((error as { code?: string }).code ?? error)
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = error instanceof NotEmpty ? EXIT.usage : error instanceof TwoHistories ? EXIT.wrong : EXIT.failed
}
await Promise.all([target.end({ timeout: 5 }), live?.end({ timeout: 5 })])
if (options.json)
  process.stdout.write(
    `${JSON.stringify(
      { ok: exitCode === EXIT.ok, ...result, failure },
      (_name, value) =>
        typeof value === 'bigint' ? String(value) : value instanceof Map ? Object.fromEntries(value) : value,
      2,
    )}\n`,
  )
process.exitCode = exitCode
