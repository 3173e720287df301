// `npm run audit:rebuild`: replays the topics from their first offsets into a fresh table beside the running service,
// compares it with the live trail, and puts it in its place on request. USAGE tells the options and settings.
import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec, registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { compareLog, INDEX_WITHIN_MS, type LogComparison } from './compare-log.ts'
import {
  type Comparison,
  compareTrails,
  compareWithCheckpoint,
  type Rebuilt,
  rebuildTrail,
} from './rebuild-trail.ts'
import { dropRebuilt, swapTables } from './sql/rebuild.ts'

const USAGE = `usage: npm run audit:rebuild -- [--swap] [--restart | --drop] [--json]

Replays the topics from offset 0 into audit.records_rebuilt while the services go on, shows progress, rate and time left,
and compares every row with the live trail, and the index by which it is searched with one made anew. Ctrl-C stops it; the same command goes on where it was.

  --swap     Then puts the rebuilt table in the place of audit.records, and keeps the old one under another name.
             Safe beside running audit services of this version. Rows of the index that differ are put right.
  --restart  Forgets what an interrupted rebuild has done.
  --drop     Removes the rebuilt table, and does nothing else.
  --json     Writes one JSON document to stdout.
  --help     Writes this.

Settings: OWNER_DATABASE_URL, the database as the owner of its schemas; KAFKA_BROKERS (and KAFKA_TLS, KAFKA_SASL_…);
REGISTRY_URL (and REGISTRY_USERNAME …), without which the index is not compared.
Exit codes: 0 the two trails are equal, or they were exchanged; 1 they differ (the first difference is named), or the
rebuilt one contradicts a checkpoint and is not exchanged; 2 wrong options or settings; 3 it failed or was stopped.
Example: npm run audit:rebuild -- --swap
`
/** For how long the exchange may make the service's inserts wait behind it. */
const LOCK_WITHIN = '3s'

const flag = { type: 'boolean', default: false } as const
const { values: options } = beginCommand(
  USAGE,
  { options: { swap: flag, restart: flag, drop: flag, json: flag } },
  ({ values: { drop, swap, restart } }) => {
    if (drop && (swap || restart)) throw new Error('--drop goes with no other option')
  },
)

const { REGISTRY_URL, ...registryAccess } = registrySettings
const config = loadConfig(
  {
    OWNER_DATABASE_URL: databaseUrl,
    ...kafkaSettings,
    ...registryAccess,
    REGISTRY_URL: REGISTRY_URL.optional(),
  },
  process.env,
)
const logger = createLogger('audit-rebuild', { level: 'fatal', instance: 'rebuild' })
const sql = openDatabase(config.OWNER_DATABASE_URL, {
  applicationName: 'audit-rebuild',
  deadlineMs: LONG_DEADLINE_MS,
  maxConnections: 2,
})
const print = (line: string) => {
  if (!options.json) process.stdout.write(`${line}\n`)
}

const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    process.stderr.write('stopping after the running batch; the same command goes on from there\n')
    stopped.abort()
  })

const deps = {
  sql,
  client: createKafkaClient({ connection: kafkaConnectionOf(config), clientId: 'audit-rebuild', logger }),
  logger,
  clock: systemClock,
  signal: stopped.signal,
  progressOf: (what: string, total: number) =>
    showProgress({ what, total, clock: systemClock, stream: process.stderr }),
}

type Result = {
  rebuilt: Rebuilt | null
  comparison: Comparison | null
  index: LogComparison | null
  contradiction: string | null
  replaced: string | null
}
const result: Result = { rebuilt: null, comparison: null, index: null, contradiction: null, replaced: null }

const rebuild = async (): Promise<number> => {
  if (options.drop || options.restart) await dropRebuilt(sql)
  if (options.drop) {
    print('the rebuilt table is removed')
    return EXIT.ok
  }
  result.rebuilt = await rebuildTrail(deps)
  if (!result.rebuilt) {
    process.stderr.write('stopped; the same command goes on from there\n')
    return EXIT.failed
  }
  const { replayed, carried, resumed, seconds } = result.rebuilt
  print(
    `${replayed} records replayed in ${seconds.toFixed(1)} s, ${Math.round(replayed / Math.max(0.001, seconds))}/s` +
      `${carried > 0 ? `; ${carried} that no topic holds any more were taken over from the live trail` : ''}` +
      `${resumed > 0 ? `; ${resumed} were there from before` : ''}`,
  )
  result.comparison = await compareTrails(deps)
  const { equal, different, first } = result.comparison
  print(`${equal} rows are equal to the live trail, ${different} are not`)
  if (first)
    print(
      `first difference: ${first.topic} epoch ${first.epoch} partition ${first.partition} offset ${first.offset}: ${first.reason}`,
    )
  if (stopped.signal.aborted) return EXIT.failed
  result.contradiction = await compareWithCheckpoint(sql)
  if (result.contradiction) {
    print(`the rebuilt trail contradicts a checkpoint: ${result.contradiction}`)
    if (options.swap) print('it is not put in the place of the live trail')
    return EXIT.wrong
  }
  if (config.REGISTRY_URL === undefined) print('the index is not compared: REGISTRY_URL is not set')
  else
    result.index = await compareLog({
      ...{ ...deps, table: 'audit.records_rebuilt', repair: options.swap, withinMs: INDEX_WITHIN_MS },
      codec: await createCodec(connectRegistry(config.REGISTRY_URL, registryAccessOf(config))),
    })
  if (result.index) {
    const { equal, different, behind, replaced, first } = result.index
    print(
      `${equal} rows of the index are right, ${different} are not${first ? ` (the first: ${first})` : ''}` +
        `${behind > 0 ? `; ${behind} records are not indexed yet, or were before their schema was known` : ''}` +
        `${replaced > 0 ? `; ${replaced} are put right` : ''}`,
    )
  }
  if (stopped.signal.aborted) return EXIT.failed
  if (!options.swap) {
    print('audit.records_rebuilt stays until --swap or --drop')
    return different === 0 && (result.index?.different ?? 0) === 0 ? EXIT.ok : EXIT.wrong
  }
  result.replaced = await swapTables(sql, LOCK_WITHIN)
  print(`the rebuilt trail is live; the old one is ${result.replaced}`)
  return EXIT.ok
}

let exitCode: number
let failure: string | null = null
try {
  exitCode = await rebuild()
} catch (error) {
  failure = (error as Error).message || String((error as { code?: string }).code ?? error)
  process.stderr.write(`failed: ${failure}\n`)
  exitCode = EXIT.failed
}
await sql.end({ timeout: 5 })
if (options.json)
  process.stdout.write(
    `${JSON.stringify(
      { ok: exitCode === EXIT.ok, ...result, failure },
      (_name, value) => (typeof value === 'bigint' ? String(value) : value),
      2,
    )}\n`,
  )
process.exitCode = exitCode
