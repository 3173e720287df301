import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { runToEnd } from '@pennywire/stack/managed-process.ts'
import type { Stack } from '@pennywire/stack/stack.ts'
import { type Service, type System, services } from '@pennywire/stack/system.ts'
import { type Drained, prepareBacklogs, type Shape } from './backlog.ts'
import { microsPerTransfer, readCalmCpuTimes, readCpuTimes } from './cpu-time.ts'
import { runLoad } from './http-load.ts'
import type { LoadResult } from './load-generator.ts'
import { makePeople } from './people.ts'
import { measurePerTransfer } from './per-transfer.ts'
import { findPgbench, measurePgbench } from './pgbench.ts'
import { measureSignIns, readSlowHashes, type SignInFigures } from './sign-in.ts'

export type Plan = {
  baselineSeconds: number
  httpSeconds: number
  httpWarmUpSeconds: number
  clients: number[]
  /** Duration of each sign-in measurement, and of each load of transfers beside it. */
  signInSeconds: number
  backlog: number
}

export type Figures = {
  /** Transfers per second, before and after everything else. */
  perTransfer: number[]
  /** Transactions per second; empty where pgbench is not installed. */
  pgbench: number[]
  /** `cpuMicros`: CPU per transfer by process, with what the load leaves behind for the notifier and the audit service. */
  http: Array<{ clients: number; cpuMicros: Record<string, number> } & LoadResult>
  atATenth: { offeredPerSecond: number } & LoadResult
  /** Resident memory at the end of the load over HTTP. */
  memoryMiB: Record<Service, number>
  signIns: SignInFigures
  backlogs: Drained[]
  ledgerMemoryAfterBacklogsMiB: number
}

const SHAPES: Shape[] = ['uniform', 'hot receiver', 'hot sender']
const verifyBooksScript = join(import.meta.dirname, '..', 'services', 'ledger', 'src', 'verify-books.ts')

/** Measures all in one run, so that the ratios compare one machine at one time; the baselines run first and last. */
export const measureAll = async (
  stack: Stack,
  start: () => Promise<System>,
  plan: Plan,
  say: (line: string) => void,
): Promise<Figures> => {
  const perTransfer: number[] = []
  const pgbench: number[] = []
  const measureBaselines = async () => {
    perTransfer.push(await measurePerTransfer(stack.postgres.superuserUrl, plan.baselineSeconds))
    say(`  per-transfer ${rate(perTransfer.at(-1)!)}`)
    if (!findPgbench()) return say('  pgbench: not installed')
    pgbench.push(await measurePgbench(stack, plan.baselineSeconds))
    say(`  pgbench TPC-B ${rate(pgbench.at(-1)!)}`)
  }

  say('Baselines, before:')
  await measureBaselines()

  say('Starting the system ...')
  const system = await start()
  const most = Math.max(...plan.clients)
  say(`HTTP: making ${most} signed-in users ...`)
  const people = await makePeople(system, most)
  const load = {
    gatewayUrl: system.gatewayUrl,
    people,
    seconds: plan.httpSeconds,
    warmUpSeconds: plan.httpWarmUpSeconds,
  }
  const hashesBefore = await readSlowHashes(system.opsUrl('gateway'))
  const http: Figures['http'] = []
  const prepared = await prepareBacklogs(system)
  for (const clients of plan.clients) {
    const [before, decidedBefore] = [readCpuTimes(stack.processes()), await prepared.countDecided()]
    const result = await runLoad({ ...load, kind: 'closed', clients })
    const transfers = (await prepared.countDecided()) - decidedBefore
    const cpuMicros = microsPerTransfer(before, await readCalmCpuTimes(stack.processes()), transfers)
    http.push({ clients, ...result, cpuMicros })
    say(`  ${clients} clients: ${describe(result)}`)
  }
  const memoryMiB = await readMemory(system)
  const offeredPerSecond = Math.round(http.at(-1)!.perSecond / 10)
  const open = { ...load, kind: 'open', perSecond: offeredPerSecond, connections: 64 } as const
  const atATenth = { offeredPerSecond, ...(await runLoad(open)) }
  say(`  evenly paced, ${offeredPerSecond}/s: ${describe(atATenth)}`)
  const { pin, password } = await readSlowHashes(system.opsUrl('gateway'))
  const hashes = pin - hashesBefore.pin + (password - hashesBefore.password)
  if (hashes !== 0) throw new Error(`${hashes} hashes were made though every transfer had a step-up token`)
  say('  nothing was hashed meanwhile: every transfer had a step-up token')
  await verifyBooks(system)

  say('Signing in, with hashes of the real cost:')
  const signIns = await measureSignIns(system, people, plan.signInSeconds, say)
  await verifyBooks(system)

  say('Ledger from a backlog:')
  const ledger = system.service('ledger')
  for (const service of services) if (service !== 'ledger') await system.service(service).stop()
  await prepared.openWallets()
  const backlogs: Drained[] = []
  for (const shape of SHAPES) {
    await ledger.stop()
    backlogs.push(await prepared.drain(shape, plan.backlog, ledger.restart))
    say(`  ${shape}: ${rate(backlogs.at(-1)!.perSecond)}`)
    await verifyBooks(system)
  }
  const ledgerMemoryAfterBacklogsMiB = await readServiceMemory(system, 'ledger')
  await prepared.close()
  await verifyBooks(system, stack.kafkaEnv('ledger'))
  await ledger.stop()

  say('Baselines, after:')
  await measureBaselines()
  return {
    perTransfer,
    pgbench,
    http,
    atATenth,
    memoryMiB,
    signIns,
    backlogs,
    ledgerMemoryAfterBacklogsMiB,
  }
}

const rate = (perSecond: number) => `${Math.round(perSecond)}/s`

const describe = ({ perSecond, p50Ms, p99Ms, others }: LoadResult) => {
  const odd = Object.entries(others).map(([what, count]) => `, ${count} × ${what}`)
  return `${rate(perSecond)}, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms${odd.join('')}`
}

const readServiceMemory = async (system: System, service: Service): Promise<number> => {
  const metrics = await (await fetch(`${system.opsUrl(service)}/metrics`)).text()
  return Number(/^process_resident_memory_bytes (\S+)/m.exec(metrics)?.[1]) / 2 ** 20
}

const readMemory = async (system: System): Promise<Record<Service, number>> =>
  Object.fromEntries(
    await Promise.all(services.map(async name => [name, await readServiceMemory(system, name)] as const)),
  ) as Record<Service, number>

/** A rate counts only while the books are right: a broken promise ends the run. */
const verifyBooks = async (system: System, env: Record<string, string> = {}): Promise<void> => {
  if (!existsSync(verifyBooksScript)) return
  await runToEnd(system.stack.guard, {
    name: 'verify-books',
    file: process.execPath,
    args: [verifyBooksScript],
    env: { ...process.env, DATABASE_URL: system.databaseUrl('ledger'), ...env },
    logFile: system.logFile('verify-books'),
    order: 0,
  })
}
