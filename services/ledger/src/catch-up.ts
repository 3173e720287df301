// `npm run ledger:catch-up`: brings a database that is behind its own events up to them, by the events. USAGE tells the
// options and settings.

import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { type Progress, showProgress } from '@pennywire/runtime/progress.ts'
import { type CaughtUp, catchUpBooks, TwoHistories } from './catch-up-books.ts'
import { createReadTails } from './check-events.ts'
import { createReadCommands, createReadEvents } from './read-events.ts'
import { postgresStore } from './sql/store.ts'

const USAGE = `usage: npm run ledger:catch-up -- [--dry-run] [--json]

For a ledger's database that is behind its own events, after a failover that lost commits or an older backup: adds what
ledger.events tells and the database lacks, in one transaction. No command is decided. Deciding goes on at the first
command that has no event. A database that is not behind stays as it is. All of it is done or nothing, so that the
command may be stopped and run again at any time, also beside a running ledger, which must be restarted afterwards.

  --dry-run  Does everything and rolls it back at the end.
  --json     Writes one JSON document to stdout.
  --help     Writes this.

Settings: DATABASE_URL, the database as the ledger's role; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…), REGISTRY_URL.
Exit codes: 0 the database holds every event, now or already; 1 the topic and the database tell two histories (nothing
is changed, the place is named); 2 wrong options or settings; 3 it failed or was stopped (nothing is changed).
Example: npm run ledger:catch-up -- --dry-run
`
/** For how long it waits for a ledger's batch that holds a partition. */
const LOCK_TIMEOUT_MS = 20_000

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(USAGE, { options: { 'dry-run': flag, json: flag } })

const config = loadConfig({ DATABASE_URL: databaseUrl, ...kafkaSettings, ...registrySettings }, process.env)
const logger = createLogger('ledger-catch-up', { level: 'fatal', instance: 'catch-up' })
const sql = openDatabase(config.DATABASE_URL, {
  applicationName: 'ledger-catch-up',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 2,
  connection: { lock_timeout: LOCK_TIMEOUT_MS },
})
const client = createKafkaClient({
  connection: kafkaConnectionOf(config),
  clientId: 'ledger-catch-up',
  logger,
})
const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.stderr.write('stopping; nothing is changed\n')
    stopped.abort(new Error('stopped'))
  })

let progress: Progress | undefined
const catchUp = async (): Promise<CaughtUp> =>
  catchUpBooks({
    store: postgresStore(sql, sql),
    codec: await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config))),
    readTails: createReadTails(client, logger),
    readEvents: createReadEvents({
      ...{ client, logger, signal: stopped.signal },
      onTotal: total => {
        progress?.end()
        progress = showProgress({ what: 'catching up', total, clock: systemClock, stream: process.stderr })
      },
      onRead: count => progress?.add(count),
    }),
    readCommands: createReadCommands(client, logger),
    dryRun: options['dry-run'],
  })

const tell = ({ partitions, events, compared, wallets }: CaughtUp) => {
  if (partitions.length === 0) {
    print('the database is not behind its own events: nothing to do')
    return
  }
  print(
    `${events} events added in ${partitions.length} partitions, ${wallets} wallets brought up to date; ${compared} events before them are the journal's`,
  )
  for (const { partition, from, through, nextOffset, isKnown, halts } of partitions) {
    print(
      `partition ${partition}: seq ${from} to ${through}; deciding goes on at offset ${nextOffset}` +
        `${isKnown ? '' : ", as before: its last event is an older version's, and commands with an event are answered by it"}`,
    )
    if (halts !== null) print(`partition ${partition} will halt still: ${halts}`)
  }
  print(options['dry-run'] ? 'dry run: nothing is changed' : 'restart the ledger')
}

let exitCode: number = EXIT.ok
let result: CaughtUp | null = null
let failure: string | null = null
try {
  result = await catchUp()
  progress?.end()
  tell(result)
} catch (error) {
  progress?.end()
  failure = (error as Error).message || String((error as { code?: string }).code ?? error)
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = error instanceof TwoHistories ? EXIT.wrong : EXIT.failed
}
await sql.end({ timeout: 5 })
if (options.json)
  process.stdout.write(
    `${JSON.stringify(
      { ok: exitCode === EXIT.ok, dryRun: options['dry-run'], ...result, failure },
      (_name, value) => (typeof value === 'bigint' ? String(value) : value),
      2,
    )}\n`,
  )
process.exitCode = exitCode
