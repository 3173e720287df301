// `npm run ledger:republish`: after Kafka lost ledger.events, or a part of its end, publishes the events from the journal
// again. USAGE tells the options and settings.

import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase, type Tx } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { compareEvents, type Difference, findSchemaFault, publishAgain } from './republish-journal.ts'
import { findSessions, lockPublished, markPublished, readJournalEnds } from './sql/republish.ts'
import { postgresStore } from './sql/store.ts'

const USAGE = `usage: npm run ledger:republish -- [--check] [--json]

Publishes the events of the journal that ledger.events no longer holds: with the same ids, keys, headers and bytes, each
partition in the order of its seq, from the first that the topic lacks. Compares every record that the topic holds with
the journal before. All ledgers must be stopped; none can begin to publish meanwhile. Ctrl-C stops it; the same command
goes on from there.

  --check  Only compares, beside running ledgers, and publishes nothing.
  --json   Writes one JSON document to stdout.
  --help   Writes this.

Settings: DATABASE_URL, as the ledger; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…); REGISTRY_URL (and REGISTRY_…).
Exit codes: 0 the topic holds every event of the journal; 1 it holds another history (the first difference is named), the
registry cannot decode the events, or with --check events are missing; 2 wrong options or settings; 3 it failed, a ledger
is running, or it was stopped.
Example: npm run ledger:republish -- --check
`
const NAME = 'ledger-republish'

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(USAGE, { options: { check: flag, json: flag } })

const config = loadConfig({ DATABASE_URL: databaseUrl, ...kafkaSettings, ...registrySettings }, process.env)
const logger = createLogger(NAME, { level: options.json ? 'fatal' : 'error', instance: NAME })
const openSql = (maxConnections: number) =>
  openDatabase(config.DATABASE_URL, { applicationName: NAME, deadlineMs: LONG_DEADLINE_MS, maxConnections })
const sql = openSql(4)
const store = postgresStore(sql, sql)
const client = createKafkaClient({ connection: kafkaConnectionOf(config), clientId: NAME, logger })
const registry = connectRegistry(config.REGISTRY_URL, registryAccessOf(config))
const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.stderr.write('stopping after the running batch; the same command goes on from there\n')
    stopped.abort()
  })

const result = {
  records: 0,
  missing: 0,
  published: 0,
  seconds: 0,
  difference: null as Difference | null,
  schemaFault: null as string | null,
  partitions: [] as Array<{ partition: number; held: bigint; journal: bigint }>,
}

/** Throws unless this command alone can publish until the transaction ends. */
const takeAlone = async (tx: Tx) => {
  await lockPublished(tx).catch(error => {
    throw new Error('a ledger is running, or this command is: stop it first', { cause: error })
  })
  await expectAlone(tx)
}
const expectAlone = async (tx: Tx) => {
  const others = await findSessions(tx, NAME)
  if (others.length === 0) return
  const names = [...new Set(others.map(({ name }) => name))].join(', ')
  throw new Error(`stop all ledgers first; with the ledger's role are connected: ${names}`)
}

const deps = {
  ...{ sql, client, logger, clock: systemClock, signal: stopped.signal },
  progressOf: (what: string, total: number) =>
    showProgress({ what, total, clock: systemClock, stream: process.stderr }),
}

const republish = async (tx: Tx): Promise<number> => {
  if (!options.check) await takeAlone(tx)
  const rows = await readJournalEnds(tx)
  const ends = new Map(Array.from({ length: LEDGER_PARTITIONS }, (_, partition) => [partition, 0n]))
  for (const { partition, last } of rows) ends.set(partition, last)
  const { held, records, difference } = await compareEvents(deps, ends)
  if (stopped.signal.aborted) return EXIT.failed
  result.records = records
  result.partitions = [...ends].map(([partition, journal]) => ({
    ...{ partition, journal },
    held: held.get(partition) ?? 0n,
  }))
  // Beside a running ledger the topic may hold more by now than the journal when it was read.
  result.missing = result.partitions.reduce(
    (sum, one) => sum + Math.max(0, Number(one.journal - one.held)),
    0,
  )
  print(`${records} records of ledger.events compared; ${result.missing} events of the journal are missing`)
  if (difference) {
    result.difference = difference
    const { partition, offset, seq, reason } = difference
    print(`first difference: ledger.events/${partition} offset ${offset} seq ${seq}: ${reason}`)
    return EXIT.wrong
  }
  if (result.missing > 0) {
    result.schemaFault = await findSchemaFault(sql, registry, held)
    if (result.schemaFault) {
      print(`the events cannot be decoded: ${result.schemaFault}; see npm run ledger:restore-schemas`)
      return EXIT.wrong
    }
  }
  if (options.check) return result.missing === 0 ? EXIT.ok : EXIT.wrong
  const since = systemClock.elapsed()
  const publisher = await createPublisher(client)
  // Also keeps the transaction from idling, which would end it, and the lock with it.
  const reached = await publishAgain({ ...deps, store, publisher }, held, ends, () =>
    expectAlone(tx),
  ).finally(publisher.stop)
  result.seconds = (systemClock.elapsed() - since) / 1_000
  for (const one of result.partitions) result.published += Number(reached.get(one.partition)! - one.held)
  const rate = Math.round(result.published / Math.max(0.001, result.seconds))
  print(`${result.published} events published in ${result.seconds.toFixed(1)} s, ${rate}/s`)
  if (stopped.signal.aborted) {
    process.stderr.write('stopped; the same command goes on from there\n')
    return EXIT.failed
  }
  await markPublished(tx, reached)
  print('ledger.events holds every event of the journal')
  return EXIT.ok
}

let exitCode: number
let failure: string | null = null
const lockSql = openSql(1)
try {
  exitCode = (await lockSql.begin(tx => republish(tx as Tx))) as number
} catch (error) {
  failure = (error as Error).message || String((error as { code?: string }).code ?? error)
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = EXIT.failed
}
await Promise.all([sql.end({ timeout: 5 }), lockSql.end({ timeout: 5 })])
if (options.json)
  process.stdout.write(
    `${JSON.stringify(
      { ok: exitCode === EXIT.ok, ...result, failure },
      (_name, value) => (typeof value === 'bigint' ? String(value) : value),
      2,
    )}\n`,
  )
process.exitCode = exitCode
