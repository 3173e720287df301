// `npm run bench:rebuild`: how fast the audit trail and the books are rebuilt from the topics, as ratios to the live
// rates of the same run, while payments go on; on a stack of its own that is removed at the end. USAGE tells the options.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { type Guard, startGuard } from '@pennywire/stack/connect-guard.ts'
import { startStack } from '@pennywire/stack/stack.ts'
import { checkpointFile, type System, services, startSystem } from '@pennywire/stack/system.ts'
import { prepareBacklogs } from './backlog.ts'
import { runLoad } from './http-load.ts'
import type { LoadResult } from './load-generator.ts'
import { describeMachine, describeVersions, measureOthers } from './machine.ts'
import { makePeople, type Person } from './people.ts'
import { BENCH_SETTINGS } from './settings.ts'

const USAGE = `usage: npm run bench:rebuild -- [--transfers N] [--seconds N]

  --transfers N  Transfers that the ledger decides from a backlog: 100000 if it is left out.
  --seconds N    Duration of the load over HTTP: 8 if it is left out.
  --help         Writes this.

Exit codes: 0 the rebuilt trail and books equal the live ones; 1 they do not, or it failed; 2 wrong options.
`
const root = join(import.meta.dirname, '..')
const DEFAULT_TRANSFERS = 100_000
const MOST_TRANSFERS = 10_000_000
/** Transfers of one backlog: the topic's producers wait no longer than for these. */
const BACKLOG = 50_000
const CLIENTS = 64
const WARM_UP_SECONDS = 3
/** Payments a second while the rebuilds run. */
const TRAFFIC_PER_SECOND = 20
const TRAFFIC_CONNECTIONS = 4
/** Duration of one load of such payments; another follows until the rebuild ends. */
const TRAFFIC_SECONDS = 5
const AUDIT_WITHIN_MS = 600_000
const LOOK_MS = 500
/** What the rebuilds must reach: times the rate at which the whole system takes payments. */
const TARGETS = { audit: 10, books: 3 } as const
const NAME = 'rebuilt_books'

const usage = (message: string): never => {
  console.error(`${message}\n\n${USAGE}`)
  process.exit(2)
}
const readOptions = () => {
  try {
    return parseArgs({
      options: {
        transfers: { type: 'string', default: String(DEFAULT_TRANSFERS) },
        seconds: { type: 'string', default: '8' },
        help: { type: 'boolean', default: false },
      },
    }).values
  } catch (error) {
    return usage((error as Error).message)
  }
}
const options = readOptions()
if (options.help) {
  process.stdout.write(USAGE)
  process.exit(0)
}
const transfers = Number(options.transfers)
if (!Number.isInteger(transfers) || transfers < 1 || transfers > MOST_TRANSFERS)
  usage(`--transfers: a number from 1 to ${MOST_TRANSFERS}`)
const seconds = Number(options.seconds)
if (!(seconds >= 1 && seconds <= 600)) usage('--seconds: a number from 1 to 600')

const say = (line: string) => console.log(line)
const rate = (perSecond: number) => `${Math.round(perSecond)}/s`

/** Runs a command of the system; its JSON is on stdout. */
const runCommand = (
  script: string,
  args: string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; out: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, script), ...args], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      out += text
    })
    child.on('error', reject)
    child.on('close', code => resolve({ code: code ?? 1, out }))
  })

/** Runs `work` while payments go on over HTTP; resolves with both results. */
const beside = async <Result>(
  system: System,
  people: Person[],
  work: () => Promise<Result>,
): Promise<{ result: Result; traffic: LoadResult[] }> => {
  const traffic: LoadResult[] = []
  let isOver = false
  const paying = (async () => {
    while (!isOver)
      traffic.push(
        await runLoad({
          ...{ gatewayUrl: system.gatewayUrl, people, seconds: TRAFFIC_SECONDS, warmUpSeconds: 0 },
          ...{ kind: 'open', perSecond: TRAFFIC_PER_SECOND, connections: TRAFFIC_CONNECTIONS },
        }),
      )
  })()
  try {
    return { result: await work(), traffic }
  } finally {
    isOver = true
    await paying
  }
}

/** Waits until the audit service has recorded what the topics hold. */
const untilAudited = async (system: System): Promise<void> => {
  const until = Date.now() + AUDIT_WITHIN_MS
  for (;;) {
    const metrics = await (await fetch(`${system.opsUrl('audit')}/metrics`)).text()
    const lags = [...metrics.matchAll(/^pennywire_consumer_lag_records\{[^}]*\} (\d+)/gm)].map(([, lag]) =>
      Number(lag),
    )
    if (lags.length > 0 && lags.every(lag => lag === 0)) return
    if (Date.now() > until) throw new Error('the audit service does not reach the ends of the topics')
    await sleep(LOOK_MS)
  }
}

type Rebuild = { seconds: number; records: number; perSecond: number; different: number; ok: boolean }

const measure = async (system: System) => {
  const people = await makePeople(system, CLIENTS)
  const load = { gatewayUrl: system.gatewayUrl, people, seconds, warmUpSeconds: WARM_UP_SECONDS }
  const http = await runLoad({ ...load, kind: 'closed', clients: CLIENTS })
  say(`  the whole system, over HTTP, ${CLIENTS} clients: ${rate(http.perSecond)}`)

  const prepared = await prepareBacklogs(system)
  await prepared.openWallets()
  const ledger = system.service('ledger')
  for (const service of services) if (service !== 'ledger') await system.service(service).stop()
  const drained: number[] = []
  for (let left = transfers; left > 0; left -= BACKLOG) {
    await ledger.stop()
    drained.push((await prepared.drain('uniform', Math.min(left, BACKLOG), ledger.restart)).perSecond)
  }
  await prepared.close()
  const backlog = drained.reduce((sum, one) => sum + one, 0) / drained.length
  say(`  the ledger alone, from a backlog of ${transfers} transfers: ${rate(backlog)}`)
  for (const service of services) if (service !== 'ledger') await system.service(service).restart()
  await untilAudited(system)

  // Their tokens of a moment ago: the backlog may have taken longer than they live.
  const payers = await makePeople(system, TRAFFIC_CONNECTIONS)
  const owner = { OWNER_DATABASE_URL: system.databaseUrl('pennywire_owner') }
  const audit = await beside(system, payers, async (): Promise<Rebuild> => {
    const { code, out } = await runCommand('services/audit/src/rebuild.ts', ['--json'], {
      ...system.env('audit'),
      ...owner,
    })
    const { rebuilt, comparison, failure } = JSON.parse(out)
    if (failure !== null) throw new Error(`audit:rebuild: ${failure}`)
    const records = rebuilt.replayed as number
    return {
      ...{ seconds: rebuilt.seconds, records, perSecond: records / rebuilt.seconds },
      ...{ different: comparison.different, ok: code === 0 },
    }
  })
  say(`  audit:rebuild: ${audit.result.records} records, ${rate(audit.result.perSecond)}`)
  const books = await beside(system, payers, async (): Promise<Rebuild> => {
    const { code, out } = await runCommand('services/ledger/src/rebuild.ts', ['--into', NAME, '--json'], {
      ...system.env('ledger'),
      ...owner,
      SUPERUSER_DATABASE_URL: system.superuserUrl,
    })
    const { rebuilt, comparison, failure } = JSON.parse(out)
    if (failure !== null) throw new Error(`ledger:rebuild: ${failure}`)
    return {
      ...{ seconds: rebuilt.seconds, records: rebuilt.events, perSecond: rebuilt.events / rebuilt.seconds },
      ...{ different: comparison.different, ok: code === 0 },
    }
  })
  say(`  ledger:rebuild: ${books.result.records} events, ${rate(books.result.perSecond)}`)

  await untilAudited(system)
  const verified = await runCommand(
    'services/audit/src/verify.ts',
    [
      ...['--public-key', join(system.dataDir, 'keys', 'checkpoint-public.json')],
      ...['--checkpoint-file', checkpointFile(system.dataDir, 1)],
    ],
    { ...system.env('audit'), AUDIT_DATABASE_URL: system.databaseUrl('audit') },
  )
  const booksChecked = await runCommand('services/ledger/src/verify-books.ts', [], system.env('ledger'))
  return {
    transfers,
    http: http.perSecond,
    backlog,
    audit: audit.result,
    books: books.result,
    /** Payments a second beside the rebuilds, and their slowest hundredth. */
    traffic: {
      audit: audit.traffic.map(({ perSecond, p99Ms, others }) => ({ perSecond, p99Ms, others })),
      books: books.traffic.map(({ perSecond, p99Ms, others }) => ({ perSecond, p99Ms, others })),
    },
    auditVerified: verified.code === 0,
    booksVerified: booksChecked.code === 0,
  }
}

const tableOf = (figures: Awaited<ReturnType<typeof measure>>): { text: string; isEqual: boolean } => {
  const { http, backlog, audit, books } = figures
  const times = (one: number, of: number) => (one / of).toFixed(1)
  const line = (what: string, rebuilt: Rebuild, target: number) =>
    `| ${what} | ${rate(rebuilt.perSecond)} | ${times(rebuilt.perSecond, http)} | ${target} | ${rebuilt.perSecond / http >= target ? 'yes' : 'NO'} | ${times(rebuilt.perSecond, backlog)} | ${rebuilt.different} |`
  const text = `| Rebuild | Rate | Times the live rate | Must reach | Reached | Times the ledger's backlog rate | Rows that differ |
| --- | ---: | ---: | ---: | --- | ---: | ---: |
${line('audit trail, from all topics', audit, TARGETS.audit)}
${line('books, from ledger.events', books, TARGETS.books)}

The live rate is what the whole system takes over HTTP from ${CLIENTS} clients, each with its next payment once the last
is answered: ${rate(http)}. The backlog rate is the ledger's alone, with every other service stopped: ${rate(backlog)}.
audit:verify ${figures.auditVerified ? 'finds nothing' : 'FAILS'}, verify-books ${figures.booksVerified ? 'finds nothing' : 'FAILS'}.`
  const isEqual = audit.ok && books.ok && figures.auditVerified && figures.booksVerified
  return { text, isEqual }
}

const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-bench-'))
let guard: Guard | undefined
let ending = false
const end = async (code: number) => {
  ending = true
  await guard?.stop()
  rmSync(dataDir, { recursive: true, force: true })
  process.exit(code)
}
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)
  process.on(signal, () => {
    if (ending) return
    say(`${signal}: stopping everything ...`)
    void end(code)
  })

try {
  guard = await startGuard(dataDir, say)
  const othersBefore = await measureOthers()
  say(`Others take ${Math.round(100 * othersBefore)} % of this machine. Starting a stack of its own ...`)
  const stack = await startStack({ dataDir, guard })
  const figures = await measure(await startSystem(stack, { env: { all: BENCH_SETTINGS } }))
  const { text, isEqual } = tableOf(figures)
  const file = `rebuild-${new Date().toISOString().replaceAll(':', '').replace(/\.\d+/, '')}.json`
  mkdirSync(join(import.meta.dirname, 'results'), { recursive: true })
  const facts = { othersBefore, machine: describeMachine(), versions: await describeVersions(stack) }
  writeFileSync(
    join(import.meta.dirname, 'results', file),
    `${JSON.stringify({ ...facts, figures }, null, 2)}\n`,
  )
  say(`\n${text}\n\nWritten to bench/results/${file}`)
  await end(isEqual ? 0 : 1)
} catch (error) {
  if (!ending) {
    console.error(error instanceof Error ? error.message : error)
    await end(1)
  }
}
