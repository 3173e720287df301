// What the promises rest on, each as a check with what to do. The services check their share of it at their start and
// every 30 s (watchFoundation): where both look at a setting, both use the same code.
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { LEDGER_PARTITIONS, TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createRegistryCheck } from '@pennywire/kafka/check-registry.ts'
import { findTopicFaults, type TopicConfig, wantedSettings } from '@pennywire/kafka/check-topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { connectRegistry, type RegistryAccess } from '@pennywire/kafka/codec.ts'
import { DEAD_LETTER_CONSUMERS, deadLetterTopicOf, readDeadLetters } from '@pennywire/kafka/dead-letters.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { inOneLine } from '@pennywire/runtime/command.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { findUnsafeSettings } from '@pennywire/runtime/unsafe-settings.ts'
import {
  type FoundationFault,
  findPostgresFaults,
  findRedisFaults,
  textOf,
} from '@pennywire/runtime/watch-foundation.ts'
import { askRedisInfo } from './ask-redis.ts'
import { SERVICE_ROLES } from './database-passwords.ts'

export type State = 'ok' | 'warning' | 'failure' | 'unchecked'
export type Finding = { check: string; state: State; found: string; todo?: string }
type Result = Omit<Finding, 'check'>
export type Check = { name: string; look: () => Promise<Result[]> | Result[] }

const root = join(import.meta.dirname, '..', '..', '..')

const ok = (found: string): Result[] => [{ state: 'ok', found }]
const found = (state: State, text: string, todo: string): Result => ({ state, found: text, todo })
/** The faults, or that there are none. */
const orOk = (results: Result[], fine: string): Result[] => (results.length > 0 ? results : ok(fine))
const ofFaults = (faults: readonly FoundationFault[], todo: string): Result[] =>
  faults.map(fault => found(fault.losesMoney ? 'failure' : 'warning', textOf(fault), todo))

/** A server may be silent for ever: a check that waits for it is given up. */
const CHECKED_WITHIN_MS = 30_000
const within = async <Value>(ms: number, value: Promise<Value> | Value): Promise<Value> => {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms / 1_000} s`)), ms)
  })
  try {
    return await Promise.race([value, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Runs checks one after the other. One that cannot look is a finding of its own, and the others go on. */
export const runChecks = async (
  checks: readonly Check[],
  done: (findings: Finding[]) => void,
): Promise<Finding[]> => {
  const all: Finding[] = []
  for (const { name, look } of checks) {
    let results: Result[]
    try {
      results = await within(CHECKED_WITHIN_MS, look())
    } catch (error) {
      const todo = 'See that it runs and that the settings lead to it; then run the doctor again.'
      results = [found('unchecked', inOneLine(error), todo)]
    }
    const findings = results.map(result => ({ check: name, ...result }))
    all.push(...findings)
    done(findings)
  }
  return all
}

const NEWEST_POSTGRES = 17
/** Clocks that differ by more are a warning, or a failure. */
const CLOCK_MS = { warning: 2_000, failure: 10_000 }
const SNAPSHOT_SECONDS = { warning: 60, failure: 3_600 }
const BOOKS_SECONDS = 2 * 3_600
const CHECKPOINT_SECONDS = 600
const LAG_RECORDS = 10_000
const ASKED_WITHIN_MS = 5_000
const READ_WITHIN_MS = 20_000

// --- this machine

export const settingsCheck = (env: NodeJS.ProcessEnv): Check => ({
  name: 'settings',
  look: () => {
    const unsafe = findUnsafeSettings(env, Object.keys(env))
    return orOk(
      unsafe.map(({ name, message }) =>
        found('failure', `${name}: ${message}`, 'Change the setting: docs/settings.md.'),
      ),
      'no unsafe setting',
    )
  },
})

export const nodeCheck = (version: string): Check => ({
  name: 'Node',
  look: () => {
    const text = readFileSync(join(root, 'bootstrap.mjs'), 'utf8')
    const pinned = /^const NODE = '(.*)'/m.exec(text)?.[1]
    return version === `v${pinned}`
      ? ok(version)
      : [found('warning', `${version}, tested is v${pinned}`, 'Run the services on the pinned version.')]
  },
})

export const javaCheck = (findJava: () => Promise<string>): Check => ({
  name: 'Java',
  look: async () => {
    try {
      return ok(await findJava())
    } catch (error) {
      return [found('failure', inOneLine(error), 'Install it: the embedded Kafka and registry need it.')]
    }
  },
})

/** Public halves of keys, which others may read. */
const PUBLIC_KEY = /-public\.json$/

/** Folders of secrets, and files that settings name: there, and readable by their owner alone. */
export const keysCheck = (folder: string, files: readonly string[]): Check => ({
  name: 'keys',
  look: () => {
    const results: Result[] = []
    const paths = new Set(files)
    const isThere = (path: string) => statSync(path, { throwIfNoEntry: false })
    const modeOf = (path: string) => (isThere(path)!.mode & 0o777).toString(8)
    if (isThere(folder)) {
      if (isThere(folder)!.mode & 0o077)
        results.push(found('failure', `${folder} has the mode ${modeOf(folder)}`, `chmod 700 ${folder}`))
      for (const file of readdirSync(folder)) paths.add(join(folder, file))
    }
    for (const path of paths) {
      const file = isThere(path)
      if (!file)
        results.push(found('failure', `${path} is missing`, 'Restore it from a backup: data depends on it.'))
      else if (file.isFile() && file.mode & 0o077 && !PUBLIC_KEY.test(path))
        results.push(found('failure', `${path} has the mode ${modeOf(path)}`, `chmod 600 ${path}`))
    }
    return orOk(results, `${paths.size} files, readable by their owner alone`)
  },
})

// --- Kafka and the registry

type Admin = ReturnType<KafkaClient['admin']>
const ALL_TOPICS = Object.keys(TOPICS) as Topic[]

export const kafkaChecks = (admin: Admin, config: TopicConfig): Check[] => [
  {
    name: 'Kafka',
    look: async () => {
      const { brokers } = await admin.describeCluster()
      return brokers.length >= config.REPLICATION_FACTOR
        ? ok(`${brokers.length} ${brokers.length === 1 ? 'broker answers' : 'brokers answer'}`)
        : [
            found(
              'failure',
              `${brokers.length} brokers for ${config.REPLICATION_FACTOR} copies`,
              'Start the missing brokers: docs/runbook.md.',
            ),
          ]
    },
  },
  {
    name: 'topics',
    look: async () =>
      orOk(
        ofFaults(
          await findTopicFaults(admin, ALL_TOPICS, config),
          'The set-up repairs settings of topics: start the system again, or run packages/kafka/src/set-up.ts. A partition count it cannot.',
        ),
        `${ALL_TOPICS.length} topics: partitions, retention, cleanup, copies and leader election as they must be`,
      ),
  },
  {
    name: 'copies',
    look: async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: ALL_TOPICS })
      const results = topics.flatMap(({ name, partitions }) => {
        const least = Number(wantedSettings(name as Topic, config)['min.insync.replicas'])
        return partitions.flatMap(({ partitionId, leader, isr, replicas }) => {
          const where = `${name}/${partitionId}`
          const todo = 'See which broker is away or behind: docs/runbook.md.'
          if (leader < 0) return [found('failure', `${where} has no leader`, todo)]
          if (isr.length < least)
            return [
              found(
                'failure',
                `${where} takes no writes: ${isr.length} of ${least} copies are in sync`,
                todo,
              ),
            ]
          if (isr.length < replicas.length)
            return [
              found('warning', `${where}: ${isr.length} of ${replicas.length} copies are in sync`, todo),
            ]
          return []
        })
      })
      return orOk(results, 'every partition has a leader and all its copies in sync')
    },
  },
]

export const deadLettersCheck = (client: KafkaClient, logger: Logger): Check => ({
  name: 'dead letters',
  look: async () => {
    const results: Result[] = []
    for (const consumer of DEAD_LETTER_CONSUMERS) {
      const records: IncomingRecord[] = []
      const handle = (batch: IncomingRecord[]) => void records.push(...batch)
      await readTopic({
        client,
        logger,
        topic: deadLetterTopicOf(consumer),
        handle,
        withinMs: READ_WITHIN_MS,
      })
      const waiting = readDeadLetters(records).filter(({ redriven }) => redriven.length === 0).length
      if (waiting > 0)
        results.push(
          found('warning', `${waiting} of the ${consumer} wait`, `npm run dead-letters -- list ${consumer}`),
        )
    }
    return orOk(results, 'none waits')
  },
})

export const registryChecks = (url: string, access: RegistryAccess): Check[] => [
  {
    name: 'registry',
    look: async () =>
      orOk(
        ofFaults(await createRegistryCheck(url, access)(), 'Start the system again: the set-up sets it.'),
        `${RECORD_NAMES.length} subjects refuse incompatible schemas`,
      ),
  },
  {
    name: 'schemas',
    look: async () => {
      const registry = connectRegistry(url, access)
      const missing: string[] = []
      let away: unknown
      for (const name of RECORD_NAMES)
        await registry.idOf(name).catch(error => {
          if ((error as { status?: number }).status === 404) missing.push(name)
          else away ??= error
        })
      if (away !== undefined) throw away
      return orOk(
        missing.map(name =>
          found(
            'failure',
            `${name} is not registered as this version has it`,
            'Run the set-up of this version.',
          ),
        ),
        `${RECORD_NAMES.length} records are registered as this version has them`,
      )
    },
  },
]

// --- Postgres

const MIGRATED = ['ledger', 'gateway', 'notifier', 'audit'] as const

/** `ledger` sees the settings as the ledger has them, `owner` all schemas. */
export const postgresChecks = (ledger: Database, owner: Database): Check[] => [
  {
    name: 'Postgres',
    look: async () => {
      const [row] = await ledger<[{ version: string; number: number }]>`
        select current_setting('server_version') as version, current_setting('server_version_num')::int as number`
      return row.number >= NEWEST_POSTGRES * 10_000
        ? ok(row.version)
        : [
            found(
              'failure',
              `version ${row.version}`,
              `Use Postgres ${NEWEST_POSTGRES} or newer: the ledger needs its transaction_timeout.`,
            ),
          ]
    },
  },
  {
    name: 'durability',
    look: async () =>
      orOk(
        ofFaults(
          await findPostgresFaults(ledger),
          'Change the setting on the server or the role, and reload.',
        ),
        'fsync, full_page_writes and synchronous_commit are on',
      ),
  },
  {
    name: 'partitions',
    look: async () => {
      const rows = await owner<{ partition: number }[]>`
        select partition from ledger.partitions where partition >= ${LEDGER_PARTITIONS}`
      return orOk(
        rows.map(({ partition }) =>
          found(
            'failure',
            `the database knows partition ${partition} of ${LEDGER_PARTITIONS}`,
            'It was written with a topic of more partitions: docs/operations.md.',
          ),
        ),
        `none beyond ${LEDGER_PARTITIONS}`,
      )
    },
  },
  {
    name: 'migrations',
    look: async () => {
      const results: Result[] = []
      let count = 0
      for (const schema of MIGRATED) {
        const files = readdirSync(join(root, 'services', schema, 'src', 'sql', 'migrations'))
        const rows = await owner<{ file: string }[]>`select file from ${owner(schema)}.migrations`
        const ran = new Set(rows.map(({ file }) => file))
        count += ran.size
        const missing = files.filter(file => /^\d{4}-.*\.sql$/.test(file) && !ran.has(file)).sort()
        if (missing.length > 0)
          results.push(
            found('failure', `${schema} lacks ${missing.join(', ')}`, 'Run the migrations of this version.'),
          )
        const newer = [...ran].filter(file => !files.includes(file)).sort()
        if (newer.length > 0)
          results.push(
            found(
              'warning',
              `${schema} has ${newer.join(', ')} of a later version`,
              'Finish the update of all services.',
            ),
          )
      }
      return orOk(results, `${count} have run, none is missing`)
    },
  },
  { name: 'rights', look: () => findExcessRights(owner) },
  {
    name: 'clock',
    look: async () => {
      const before = Date.now()
      const [row] = await ledger<[{ ms: number }]>`
        select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`
      return clockResults([['Postgres', row.ms - (before + Date.now()) / 2]])
    },
  },
  {
    name: 'snapshots',
    look: async () => {
      const [row] = await ledger<[{ seconds: number; by: string | null }]>`
        select coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8 as seconds,
          usename || ' ' || application_name as by
        from pg_stat_activity where backend_xmin is not null and pid <> pg_backend_pid() and xact_start is not null
        union all select 0, null
        order by 1 desc limit 1`
      const text = `the oldest transaction is ${Math.round(row.seconds)} s old${row.by ? ` (${row.by})` : ''}`
      const todo = 'End it: it keeps dead rows, which make the ledger slow. docs/runbook.md.'
      if (row.seconds >= SNAPSHOT_SECONDS.failure) return [found('failure', text, todo)]
      return row.seconds >= SNAPSHOT_SECONDS.warning ? [found('warning', text, todo)] : ok(text)
    },
  },
  {
    name: 'checkpoints',
    look: async () => {
      const [row] = await owner<[{ bare: number | null; signed: Date | null }]>`
        select (select max(signed_at) from audit.checkpoints) as signed, (
          select extract(epoch from now() - min(recorded_at))::float8 from (
            select recorded_at from audit.records
            where recorded_at > coalesce((select max(signed_at) from audit.checkpoints), '-infinity')
            order by recorded_at limit 1
          ) later
        ) as bare`
      if (row.bare !== null && row.bare > CHECKPOINT_SECONDS)
        return [
          found(
            'failure',
            `records of the audit trail have been without a signed checkpoint for ${Math.round(row.bare)} s`,
            'See why the audit service does not sign: its log, audit_checkpoints_failing. docs/audit.md.',
          ),
        ]
      return ok(
        row.signed
          ? `the last was signed at ${row.signed.toISOString()}`
          : 'none yet: the trail has just begun',
      )
    },
  },
]

/** Tables that only grow: not even their own service may change them. */
const APPEND_ONLY: readonly (readonly [role: string, table: string])[] = [
  ['audit', 'audit.records'],
  ['audit', 'audit.checkpoints'],
  ['ledger', 'ledger.transfers'],
  ['ledger', 'ledger.entries'],
  ['ledger', 'ledger.journal'],
]

const findExcessRights = async (owner: Database): Promise<Result[]> => {
  const todo = 'Revoke it, and find out who granted it.'
  const results: Result[] = []
  for (const [role, table] of APPEND_ONLY) {
    const [row] = await owner<[{ may: string | null; lacks: string | null }]>`
      select
        (select string_agg(p, ', ') from unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) p
          where has_table_privilege(${role}, ${table}, p)) as may,
        (select string_agg(p, ', ') from unnest(array['SELECT', 'INSERT']) p
          where not has_table_privilege(${role}, ${table}, p)) as lacks`
    if (row.may) results.push(found('failure', `${role} may ${row.may} on ${table}`, todo))
    if (row.lacks)
      results.push(
        found('failure', `${role} may not ${row.lacks} on ${table}`, 'Run the migrations of this version.'),
      )
  }
  const foreign = await owner<{ role: string; schema: string }[]>`
    select role, schema from unnest(${[...SERVICE_ROLES]}::text[]) role, unnest(${[...MIGRATED]}::text[]) schema
    where role <> schema and has_schema_privilege(role, schema, 'USAGE')`
  for (const { role, schema } of foreign)
    results.push(found('failure', `${role} may use the schema ${schema}`, todo))
  const powerful = await owner<{ role: string }[]>`
    select rolname as role from pg_roles
    where rolname = any(${[...SERVICE_ROLES]}::text[])
      and (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls or rolreplication)`
  for (const { role } of powerful)
    results.push(found('failure', `${role} has rights over the whole server`, todo))
  return orOk(
    results,
    'audit and ledger may only add to what must not change; no service reaches another’s tables',
  )
}

// --- Redis and the services

export const redisCheck = (url: string, ca?: string): Check => ({
  name: 'Redis',
  look: async () =>
    orOk(
      ofFaults(findRedisFaults(await askRedisInfo(url, ca)), 'Set maxmemory-policy to noeviction.'),
      'answers, and evicts nothing',
    ),
})

/** How far clocks are from this machine's, in milliseconds. */
const clockResults = (differences: readonly (readonly [of: string, ms: number])[]): Result[] =>
  differences.map(([of, ms]): Result => {
    const text = `${of} is ${(Math.abs(ms) / 1_000).toFixed(1)} s ${ms < 0 ? 'behind' : 'ahead'}`
    const todo = 'Let all machines follow one time server (NTP): limits and expiries depend on it.'
    if (Math.abs(ms) >= CLOCK_MS.failure) return found('failure', text, todo)
    return Math.abs(ms) >= CLOCK_MS.warning ? found('warning', text, todo) : { state: 'ok', found: text }
  })

const ask = async (url: string) => {
  const before = Date.now()
  const answer = await fetch(url, { signal: AbortSignal.timeout(ASKED_WITHIN_MS) })
  const text = await answer.text()
  const date = Date.parse(answer.headers.get('date') ?? '')
  // The header counts seconds, so its time is half a second later on average.
  return { text, aheadMs: Number.isNaN(date) ? 0 : date + 500 - (before + Date.now()) / 2 }
}

/** The values of a metric: Prometheus' text form. */
export const metricValues = (text: string, name: string): number[] =>
  [...text.matchAll(new RegExp(`^pennywire_${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].map(([, value]) =>
    Number(value),
  )
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

/** One service by its operations listener: readiness, what it halted, lag, and what it says of books and checkpoints. */
export const serviceCheck = (url: string): Check => ({
  name: `service at ${url}`,
  look: async () => {
    const ready = await ask(`${url}/readyz`)
    const { text: metrics } = await ask(`${url}/metrics`)
    const { checks } = JSON.parse(ready.text) as { checks: Record<string, string> }
    const results = Object.entries(checks)
      .filter(([, answer]) => answer !== 'ok')
      .map(([what, answer]) =>
        found('failure', `${what}: ${answer}`, 'docs/runbook.md has a page for each alarm.'),
      )
    const value = (name: string) => sum(metricValues(metrics, name).filter(Number.isFinite))
    const halted = value('consumer_halted_partitions') + value('audit_halted_partitions')
    if (halted > 0)
      results.push(
        found('failure', `${halted} partitions are halted`, 'docs/operations.md, Halted partitions.'),
      )
    const lag = value('consumer_lag_records')
    if (lag > LAG_RECORDS)
      results.push(
        found('warning', `${lag} records wait`, 'See whether it catches up; if not, add an instance.'),
      )
    if (value('ledger_books_broken') > 0)
      results.push(found('failure', 'a check found the books broken', 'npm run verify-books'))
    const [checkedAt] = metricValues(metrics, 'ledger_books_full_check_timestamp_seconds')
    if (checkedAt) {
      const age = Date.now() / 1_000 - checkedAt
      if (age > BOOKS_SECONDS)
        results.push(
          found('warning', `all books were checked ${Math.round(age)} s ago`, 'npm run verify-books'),
        )
    }
    if (value('audit_checkpoints_failing') > 0)
      results.push(found('failure', 'checkpoints cannot be signed or stored', 'See its log. docs/audit.md.'))
    const clocks = clockResults([['its clock', ready.aheadMs]]).filter(({ state }) => state !== 'ok')
    const books = checkedAt ? `, all books checked at ${new Date(checkedAt * 1_000).toISOString()}` : ''
    return orOk([...results, ...clocks], `ready, ${lag} records behind, nothing halted${books}`)
  },
})
