import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ManagedProcess } from '@pennywire/stack/managed-process.ts'

/** Linux counts CPU time in hundredths of a second for every program (USER_HZ). */
const MS_PER_TICK = 10
const CALM_MS = 1_000
const CALM_SHARE = 0.2
const CALM_WITHIN_MS = 20_000

/** Milliseconds of CPU by name. Postgres' processes are named by whom they work for. */
export type CpuTimes = Map<string, number>

type Stat = { pid: number; parent: number; own: number; ofEnded: number; command: string }

const readStats = (): Stat[] =>
  readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(name => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
        // The name in parentheses may contain spaces.
        const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
        const [utime, stime, cutime, cstime] = fields.slice(11, 15).map(Number) as [
          number,
          number,
          number,
          number,
        ]
        const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ')
        const [own, ofEnded] = [(utime + stime) * MS_PER_TICK, (cutime + cstime) * MS_PER_TICK]
        return [{ pid: Number(name), parent: Number(fields[1]), own, ofEnded, command }]
      } catch {
        return [] // it has ended meanwhile
      }
    })

/** "postgres: ledger pennywire 127.0.0.1(4711) idle" works for the role ledger; the rest is Postgres' own. */
const nameOf = (name: string, { command }: Stat): string => {
  const [, role] = /^postgres: (\w+) \w+ [\d.]+\(\d+\)/.exec(command) ?? []
  return role ? `${name} for ${role}` : name
}

/** CPU time since its start of each process and its descendants; empty where there is no /proc. */
export const readCpuTimes = (processes: ManagedProcess[]): CpuTimes => {
  const times: CpuTimes = new Map()
  if (process.platform !== 'linux') return times
  const stats = readStats()
  for (const { name, pid } of processes) {
    const add = (stat: Stat) => {
      const named = nameOf(name, stat)
      times.set(named, (times.get(named) ?? 0) + stat.own + stat.ofEnded)
      for (const child of stats) if (child.parent === stat.pid) add(child)
    }
    const root = stats.find(stat => stat.pid === pid)
    if (root) add(root)
  }
  return times
}

const sum = (times: CpuTimes) => [...times.values()].reduce((total, ms) => total + ms, 0)

/** Resolves with the CPU times once the work that a load left behind is done. */
export const readCalmCpuTimes = async (processes: ManagedProcess[]): Promise<CpuTimes> => {
  let last = readCpuTimes(processes)
  for (const end = performance.now() + CALM_WITHIN_MS; performance.now() < end; ) {
    await sleep(CALM_MS)
    const now = readCpuTimes(processes)
    const isCalm = sum(now) - sum(last) < CALM_SHARE * CALM_MS
    last = now
    if (isCalm) break
  }
  return last
}

/** Microseconds of CPU per transfer, by process, the largest first. */
export const microsPerTransfer = (
  before: CpuTimes,
  after: CpuTimes,
  transfers: number,
): Record<string, number> =>
  Object.fromEntries(
    [...after]
      .map(([name, ms]) => [name, (1_000 * (ms - (before.get(name) ?? 0))) / transfers] as const)
      .filter(([, micros]) => micros >= 0.5)
      .sort(([, a], [, b]) => b - a),
  )
