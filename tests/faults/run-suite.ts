// Starts a system of its own, injects one fault after the other under load from many clients, and verifies all guarantees
// after each.
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Guard, startGuard } from '@pennywire/stack/connect-guard.ts'
import { startStack } from '@pennywire/stack/stack.ts'
import { startSystem } from '@pennywire/stack/system.ts'
import { startControl } from '../control.ts'
import { stackContextOf, systemContextOf, TEST_SETTINGS } from '../system-context.ts'
import { DRILLS } from './drills.ts'
import {
  commandsMadeAnew,
  connectionsTerminated,
  cutAtCommit,
  databaseBehind,
  decidedRecordsDeleted,
  everyCommandAgain,
  type Fault,
  frozen,
  hintsAtZero,
  killed,
  killedTogether,
  mailAway,
  oneOfThreeLedgersFrozen,
  oneOfThreeLedgersKilled,
  onePartitionHalted,
  rebalanceStorm,
  refusedByKafka,
  refusedByPostgres,
  registryAway,
  secondLedgerFromZero,
  serverKilled,
  serverRestarted,
  slowWrites,
  undecidedRecordsDeleted,
} from './faults.ts'
import { diskFull, enterNamespace, mountDisk, unmountDisk } from './full-disk.ts'
import { notifierKilled } from './notifier-killed.ts'
import { type FaultReport, openSuite, type Suite } from './run-fault.ts'
import { tableOf } from './table.ts'
import { openWorld } from './world.ts'

const PEOPLE = 24
const CLIENTS = 48
/** Step-up tokens are valid for longer than any fault takes; sessions are opened anew before each fault. */
const SETTINGS = { ...TEST_SETTINGS, STEP_UP_SECONDS: '900', LOG_LEVEL: 'info' }
/** Kinds of violations shown per fault; the rest is counted. */
const SHOWN_VIOLATIONS = 12
/** The timeout of a whole fault, for unforeseen hangs: each wait within a fault has its own, much shorter timeout. */
const OVER_WITHIN_SECONDS = 600
const KEEP_LOGS = process.env.FAULTS_KEEP_LOGS

/** All faults; that of a full disk only with a disk of its own. */
export const faultsOn = (disk: string | undefined): Fault[] => [
  killed('ledger', 2),
  frozen('ledger'),
  oneOfThreeLedgersKilled,
  oneOfThreeLedgersFrozen,
  rebalanceStorm(20),
  killed('gateway', 2),
  frozen('gateway'),
  killedTogether('notifier', 'audit'),
  frozen('notifier', 'audit'),
  notifierKilled,
  hintsAtZero,
  secondLedgerFromZero(3),
  everyCommandAgain,
  serverKilled('kafka', 0, 2),
  serverRestarted('kafka'),
  serverKilled('postgres', 0, 2),
  serverRestarted('postgres'),
  cutAtCommit(9),
  connectionsTerminated(4),
  ...(disk ? [diskFull(disk, 5)] : []),
  serverKilled('redis', 5_000),
  serverKilled('provider', 5_000),
  mailAway,
  registryAway,
  onePartitionHalted,
  refusedByPostgres,
  refusedByKafka,
  databaseBehind(5_000),
  slowWrites(20),
  decidedRecordsDeleted,
  undecidedRecordsDeleted,
  commandsMadeAnew,
  ...Object.values(DRILLS).flat(),
]

/** Progress and tables; with --json they go to stderr, as stdout is the document's. */
let say = (line: string) => console.log(line)
const NO_DISK =
  'Skipped: a full disk for Postgres. Only a disk of our own may be filled, and this machine allows no mount namespace.'
let guard: Guard | undefined
let ending = false

/** Runs the faults one after the other; an error in one is reported as a violation, and the table is still printed. */
const runEach = async (suite: Suite, faults: Fault[]): Promise<FaultReport[]> => {
  const reports: FaultReport[] = []
  for (const fault of faults) {
    const late = sleep(1_000 * OVER_WITHIN_SECONDS, undefined, { ref: false }).then(() => {
      throw new Error(`not over after ${OVER_WITHIN_SECONDS} s`)
    })
    const report = await Promise.race([suite.run(fault), late]).catch((error: Error) => notRun(fault, error))
    if (ending) break
    reports.push(report)
    say(
      `${report.fault}: ${report.requests} requests, served again after ${report.recovered.toFixed(1)} s, ` +
        `${report.violations.length} violations, ${report.seconds.toFixed(0)} s in all`,
    )
    showViolations(report)
    if (!report.stuck) continue
    say('The system did not come back: what would be injected now tells nothing.')
    break
  }
  return reports
}

const notRun = ({ name }: Fault, error: Error): FaultReport => ({
  fault: name,
  ...{ times: 0, requests: 0, longestOutage: 0, recovered: 0, healthy: 0, seconds: 0, stuck: true },
  answers: { completed: 0, refused: 0, reused: 0, pending: 0, unavailable: 0, error: 0, lost: 0 },
  kinds: new Map(),
  steps: [],
  violations: [error.stack ?? error.message],
})

/** Shows one violation of each kind, so that many of one kind do not hide another. */
const showViolations = ({ violations }: FaultReport) => {
  const kinds = Map.groupBy(violations, violation => violation.replaceAll(/[\da-f-]{36}|\d+/g, '#'))
  for (const [first, ...alike] of [...kinds.values()].slice(0, SHOWN_VIOLATIONS))
    say(`    ${first}${alike.length > 0 ? ` (and ${alike.length} like it)` : ''}`)
  if (kinds.size > SHOWN_VIOLATIONS) say(`    and ${kinds.size - SHOWN_VIOLATIONS} other kinds`)
}

const showAll = (faults: Fault[], reports: FaultReport[]) => {
  say(`\n${tableOf(reports)}\n`)
  for (const report of reports) {
    if (report.violations.length > 0) say(`VIOLATED under ${report.fault}:`)
    showViolations(report)
  }
  for (const { name } of faults.slice(reports.length)) say(`NOT RUN: ${name}`)
}

/** Runs the chosen faults; resolves with the exit code: 0 without any violation, 1 otherwise. */
const runChosen = async (
  choose: (faults: Fault[]) => Fault[],
  onReports: (reports: FaultReport[]) => void,
): Promise<number> => {
  const begun = performance.now()
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-faults-'))
  const end = async (code: number) => {
    ending = true
    await guard?.stop()
    if (KEEP_LOGS) {
      mkdirSync(KEEP_LOGS, { recursive: true })
      for (const file of readdirSync(join(dataDir, 'logs')))
        copyFileSync(join(dataDir, 'logs', file), join(KEEP_LOGS, file))
    }
    unmountDisk(join(dataDir, 'postgres'))
    rmSync(dataDir, { recursive: true, force: true })
    return code
  }
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      if (ending) return
      say(`${signal}: stopping everything ...`)
      void end(code).then(process.exit)
    })
  }

  try {
    guard = await startGuard(dataDir, say)
    const disk = join(dataDir, 'postgres')
    const hasDisk = mountDisk(disk)
    say('Starting a stack of its own ...')
    process.env.SANDBOX_DELAY_MS = SETTINGS.SANDBOX_DELAY_MS
    const stack = await startStack({ dataDir, guard })
    const system = await startSystem(stack, { env: { all: SETTINGS } })
    const control = await startControl(system)
    const world = await openWorld(stackContextOf(stack), systemContextOf(system, control.url))
    const { name, url, opsUrl } = await world.startInstance('gateway')
    world.furtherGateways.push(name)
    world.gateways.push(url)
    world.opsUrls.push(opsUrl)
    const suite = await openSuite(world, { people: PEOPLE, clients: CLIENTS, report: line => say(line) })
    const faults = choose(faultsOn(hasDisk ? disk : undefined))
    say(`${CLIENTS} clients on two gateways; a line for each fault as it is over`)
    if (!hasDisk) say(NO_DISK)

    const reports = await runEach(suite, faults)
    showAll(faults, reports)
    onReports(reports)
    const { follower } = suite
    say(
      `${follower.events()} events, ${follower.repeats()} repeats, seen by a consumer that only reads the topic`,
    )
    if (!hasDisk) say(NO_DISK)
    say(`${((performance.now() - begun) / 60_000).toFixed(1)} minutes`)
    await suite.stop()
    await world.close()
    await control.stop()
    const clean =
      reports.length === faults.length && reports.every(({ violations }) => violations.length === 0)
    return await end(clean ? 0 : 1)
  } catch (error) {
    if (!ending) console.error(error)
    return end(1)
  }
}

/** Runs the chosen faults on a system of their own, and ends the process. */
export const runSuite = async (
  choose: (faults: Fault[]) => Fault[],
  { json = false }: { json?: boolean } = {},
): Promise<void> => {
  // The run goes on in a namespace of its own, where there is one.
  if (enterNamespace()) return
  if (json) say = line => process.stderr.write(`${line}\n`)
  let told: FaultReport[] = []
  const code = await runChosen(choose, reports => {
    told = reports
  })
  if (json)
    process.stdout.write(
      `${JSON.stringify({ ok: code === 0, faults: told.map(({ kinds, ...report }) => ({ ...report, kinds: Object.fromEntries(kinds) })) }, null, 2)}\n`,
    )
  process.exit(code)
}
