// `npm run bench`: measures the ledger and the whole system against baselines on this machine, in one run, on a stack
// of its own that is removed at the end. `-- --quick` runs shorter forms, for trying.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Guard, startGuard } from '@pennywire/stack/connect-guard.ts'
import { startStack } from '@pennywire/stack/stack.ts'
import { startSystem } from '@pennywire/stack/system.ts'
import { describeMachine, describeVersions, measureOthers } from './machine.ts'
import { measureAll, type Plan } from './measure-all.ts'
import { judge, tableOf, writeResults } from './report.ts'
import { BENCH_SETTINGS } from './settings.ts'

const FULL: Plan = {
  baselineSeconds: 8,
  httpSeconds: 8,
  httpWarmUpSeconds: 3,
  clients: [1, 64, 256],
  signInSeconds: 4,
  backlog: 50_000,
}
const QUICK: Plan = {
  baselineSeconds: 3,
  httpSeconds: 3,
  httpWarmUpSeconds: 2,
  clients: [1, 64, 256],
  signInSeconds: 2,
  backlog: 15_000,
}

const BUSY_PERCENT = 10

const unknown = process.argv.slice(2).filter(argument => argument !== '--quick')
if (unknown.length > 0) {
  console.error(`unknown argument ${unknown[0]}; there is only --quick`)
  process.exit(2)
}
const quick = process.argv.includes('--quick')
const say = (line: string) => console.log(line)

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
] as const) {
  process.on(signal, () => {
    if (ending) return
    say(`${signal}: stopping everything ...`)
    void end(code)
  })
}

try {
  guard = await startGuard(dataDir, say)
  const othersBefore = await measureOthers()
  const percent = Math.round(100 * othersBefore)
  if (percent >= BUSY_PERCENT)
    say(`Others take ${percent} % of this machine: the figures will tell of them too.`)
  say('Starting a stack of its own ...')
  const stack = await startStack({ dataDir, guard })
  const figures = await measureAll(
    stack,
    () => startSystem(stack, { env: { all: BENCH_SETTINGS } }),
    quick ? QUICK : FULL,
    say,
  )
  const lines = judge(figures)
  const facts = { quick, othersBefore, machine: describeMachine(), versions: await describeVersions(stack) }
  say(`\n${tableOf(lines, facts.machine)}\n`)
  say(`Written to bench/results/${writeResults({ ...facts, figures, lines })}`)
  await end(0)
} catch (error) {
  if (!ending) {
    console.error(error instanceof Error ? error.message : error)
    await end(1)
  }
}
