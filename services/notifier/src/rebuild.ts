// `npm run notifier:rebuild`: builds the notices again from the topics in a table of their own, and compares them with the
// live ones. USAGE tells the options and settings.

import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { notifierSettings } from './config.ts'
import { type Comparison, compareNotices, type Rebuilt, rebuildNotices } from './rebuild-notices.ts'
import { createRebuilt, dropRebuilt, mendNotices } from './sql/rebuild.ts'

const USAGE = `usage: npm run notifier:rebuild -- [--mend] [--json]

Builds every notice again from ledger.events, identity.events and notifier.commands while the services go on, by the code
that tells them, and compares them with the live ones, row by row and column by column. No mail and no webhook is sent.
Ctrl-C stops it and leaves everything as it is.

  --mend  Then adds what is missing to the end of the users' lists, as read, and puts other content right. On an empty
          database, before the service's first start, it also sets the positions to the topics' ends.
  --json  Writes one JSON document to stdout.
  --help  Writes this.

In no topic are: what users have read and the numbers of their lists, preferences, webhook endpoints and their secrets,
the hosts that notices of webhooks name, how far each delivery is, and notices of webhooks that it disabled. They stay as they are; a backup has them.

Settings: OWNER_DATABASE_URL, the database as the owner of its schemas; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…);
REGISTRY_URL (and REGISTRY_…); NOTIFICATION_KEEP_DAYS, as the service has it.
Exit codes: 0 the notices are equal, or were mended; 1 they differ (the first difference is named); 2 wrong options or
settings; 3 it failed or was stopped.
Example: npm run notifier:rebuild -- --mend
`

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(USAGE, { options: { mend: flag, json: flag } })

const config = loadConfig(
  {
    OWNER_DATABASE_URL: databaseUrl,
    ...kafkaSettings,
    ...registrySettings,
    NOTIFICATION_KEEP_DAYS: notifierSettings.NOTIFICATION_KEEP_DAYS,
  },
  process.env,
)
const logger = createLogger('notifier-rebuild', { level: 'fatal', instance: 'rebuild' })
const sql = openDatabase(config.OWNER_DATABASE_URL, {
  applicationName: 'notifier-rebuild',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 2,
})
const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.stderr.write('stopping after the running batch; nothing is changed\n')
    stopped.abort()
  })

const result: {
  rebuilt: Omit<Rebuilt, 'ends' | 'begins' | 'erased'> | null
  comparison: Comparison | null
  mended: { added: number; corrected: number } | null
} = { rebuilt: null, comparison: null, mended: null }

const rebuild = async (): Promise<number> => {
  const deps = {
    ...{ sql, logger, clock: systemClock, signal: stopped.signal, keepDays: config.NOTIFICATION_KEEP_DAYS },
    client: createKafkaClient({
      connection: kafkaConnectionOf(config),
      clientId: 'notifier-rebuild',
      logger,
    }),
    codec: await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config))),
    progressOf: (what: string, total: number) =>
      showProgress({ what, total, clock: systemClock, stream: process.stderr }),
  }
  await createRebuilt(sql)
  const rebuilt = await rebuildNotices(deps)
  if (stopped.signal.aborted) return EXIT.failed
  const { records, notices, undecodable, seconds } = rebuilt
  result.rebuilt = { records, notices, undecodable, seconds }
  print(
    `${records} records read in ${seconds.toFixed(1)} s, ${Math.round(records / Math.max(0.001, seconds))}/s: ${notices} notices` +
      `${undecodable > 0 ? `; ${undecodable} records are the dead letters'` : ''}`,
  )
  const comparison = await compareNotices(deps, rebuilt)
  if (stopped.signal.aborted) return EXIT.failed
  result.comparison = comparison
  const { equal, different, missing, unwanted, purged, older, own, invented, wrongInboxes, first } =
    comparison
  const wrong = different + missing + invented + wrongInboxes
  print(`${equal} notices are equal to the live ones, ${different + missing + invented} are not`)
  print(
    `${unwanted} are turned off by their users, ${purged} purged; ${older} live ones are of records that no topic holds any more, ${own} of the notifier's own deliveries`,
  )
  if (wrongInboxes > 0) print(`${wrongInboxes} lists count otherwise than their notices`)
  if (first) print(`first difference: ${first}`)
  if (!options.mend) return wrong === 0 ? EXIT.ok : EXIT.wrong
  result.mended = await mendNotices(sql, { keepDays: config.NOTIFICATION_KEEP_DAYS, positions: rebuilt.ends })
  print(`${result.mended.added} notices added as read, ${result.mended.corrected} put right`)
  return invented + wrongInboxes === 0 ? EXIT.ok : EXIT.wrong
}

let exitCode: number
let failure: string | null = null
try {
  exitCode = await rebuild().finally(() => dropRebuilt(sql))
} catch (error) {
  failure = (error as Error).message || String((error as { code?: string }).code ?? error)
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = EXIT.failed
}
await sql.end({ timeout: 5 })
if (options.json)
  process.stdout.write(`${JSON.stringify({ ok: exitCode === EXIT.ok, ...result, failure }, null, 2)}\n`)
process.exitCode = exitCode
