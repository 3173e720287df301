// `npm run doctor`: checks everything that the promises rest on. USAGE tells the options, settings and exit codes.
import { existsSync } from 'node:fs'
import { topicSettings } from '@pennywire/kafka/check-topics.ts'
import { createKafkaClient, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { registryAccessOf } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { beginCommand, EXIT, endCommand } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig, registrySettings, textFile } from '@pennywire/runtime/config.ts'
import { LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { showProgress } from '@pennywire/runtime/progress.ts'
import { z } from 'zod'
import {
  type Check,
  deadLettersCheck,
  type Finding,
  javaCheck,
  kafkaChecks,
  keysCheck,
  nodeCheck,
  postgresChecks,
  redisCheck,
  registryChecks,
  runChecks,
  serviceCheck,
  settingsCheck,
} from './doctor-checks.ts'
import { findJava } from './embedded/java.ts'
import { endpointsFile } from './endpoints.ts'
import { keysFolder } from './keys.ts'
import { readSettings } from './read-settings.ts'

const { values: options } = beginCommand(
  `usage: npm run doctor -- [--strict] [--json]

Checks everything that the promises rest on: settings, versions, keys, topics and their copies, schemas, the durability,
rights and migrations of Postgres, clocks, snapshots, Redis, dead letters, checkpoints, and each service's readiness, lag,
halted partitions and last check of the books. It changes nothing and may run beside a running system. Each line is ok, a
WARNING or a FAILURE with what to do, or UNCHECKED.

  --strict  Warnings count as failures.
  --json    Writes one JSON document to stdout.
  --help    Writes this.

Settings, for another system than the local stack: OWNER_DATABASE_URL, LEDGER_DATABASE_URL, KAFKA_BROKERS (and KAFKA_TLS,
KAFKA_SASL_…), REGISTRY_URL, REDIS_URL, OPS_URLS (the operations listeners of all instances, between commas),
REPLICATION_FACTOR, MIN_INSYNC_REPLICAS, and the settings of key files.
Exit codes: 0 nothing fails, 1 something does, 2 wrong options or settings, 3 nothing fails, but not all could be checked.
Example: npm run doctor`,
  { options: { strict: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } } },
)

const config = loadConfig(
  {
    OWNER_DATABASE_URL: databaseUrl,
    LEDGER_DATABASE_URL: databaseUrl,
    ...kafkaSettings,
    ...registrySettings,
    ...topicSettings,
    REDIS_URL: z.url().optional(),
    REDIS_CA_FILE: textFile.optional(),
    OPS_URLS: z
      .string()
      .transform(list => list.split(',').filter(url => url !== ''))
      .optional(),
  },
  process.env,
)
const { kind, dataDir } = readSettings(process.env)
const logger = createLogger('doctor', { level: 'silent', instance: 'doctor' })
const open = (url: string) =>
  openDatabase(url, { applicationName: 'doctor', maxConnections: 1, deadlineMs: LONG_DEADLINE_MS })
const [ledger, owner] = [open(config.LEDGER_DATABASE_URL), open(config.OWNER_DATABASE_URL)]
const client = createKafkaClient({ connection: kafkaConnectionOf(config), clientId: 'doctor', logger })
const admin = client.admin()

/** The files of keys that settings name. */
const keyFiles = Object.entries(process.env).flatMap(([name, path]) =>
  /_(KEY|MAC|PEPPER|KEK|HMAC|SECRET|PUBLIC)_FILE$/.test(name) && path ? [path] : [],
)
const missing = (name: string, setting: string): Check => ({
  name,
  look: () => [
    { state: 'unchecked', found: `${setting} is not set`, todo: `Set ${setting} to have it checked.` },
  ],
})
const checks: Check[] = [
  settingsCheck(process.env),
  nodeCheck(process.version),
  // Only the local stack has its servers, and so its Java, on this machine.
  ...(kind === 'embedded' && existsSync(endpointsFile(dataDir)) ? [javaCheck(findJava)] : []),
  keysCheck(keysFolder(dataDir), keyFiles),
  ...postgresChecks(ledger, owner),
  ...kafkaChecks(admin, config),
  deadLettersCheck(client, logger),
  ...registryChecks(config.REGISTRY_URL, registryAccessOf(config)),
  config.REDIS_URL ? redisCheck(config.REDIS_URL, config.REDIS_CA_FILE) : missing('Redis', 'REDIS_URL'),
  ...(config.OPS_URLS?.map(serviceCheck) ?? [missing('services', 'OPS_URLS')]),
]

const SHOWN = { ok: 'ok', warning: 'WARNING', failure: 'FAILURE', unchecked: 'UNCHECKED' } as const
const progress = showProgress({
  what: 'checks',
  total: checks.length,
  clock: systemClock,
  // Without --json each line shows by itself how far it is.
  stream: options.json ? process.stderr : { write: () => {} },
})
const show = (findings: Finding[]) => {
  progress.add(1)
  if (options.json) return
  for (const { check, state, found, todo } of findings) {
    console.log(`${SHOWN[state].padEnd(10)} ${check}: ${found}`)
    if (todo) console.log(`${' '.repeat(11)}do: ${todo}`)
  }
}
// Kafka that is away is found by its own checks.
await admin.connect().catch(() => {})
const findings = await runChecks(checks, show)
progress.end()
await Promise.allSettled([admin.disconnect(), ledger.end({ timeout: 5 }), owner.end({ timeout: 5 })])

const count = (state: Finding['state']) => findings.filter(finding => finding.state === state).length
const fails = count('failure') + (options.strict ? count('warning') : 0)
const exitCode = fails > 0 ? EXIT.wrong : count('unchecked') > 0 ? EXIT.failed : EXIT.ok
if (options.json) console.log(JSON.stringify({ ok: exitCode === EXIT.ok, findings }, null, 2))
else
  console.log(
    `${findings.length} findings: ${count('failure')} failures, ${count('warning')} warnings, ${count('unchecked')} unchecked`,
  )
endCommand(exitCode)
