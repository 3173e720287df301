import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Machine } from './machine.ts'
import type { Figures } from './measure-all.ts'
import type { SignInFigures } from './sign-in.ts'

/** One line of the table; the ratios are to the mean of the baselines before and after. */
export type Line = {
  measure: string
  figure: string
  ofPerTransfer?: number | undefined
  ofPgbench?: number | undefined
  mustReach?: string
  /** Undefined where there is no target, or nothing to compare with. */
  reached?: boolean | undefined
}

// Design section 9.
const BACKLOG_OF_PER_TRANSFER = 5
const BACKLOG_OF_PGBENCH = 3
const HOT_OF_UNIFORM = 0.9
const HTTP_OF_PGBENCH = 1
const P99_AT_A_TENTH_MS = 50
const MEMORY_MIB = 256
const CPU_MICROS = 500
const CPU_SHOWN_MICROS = 5

const mean = (values: number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length

const totalOf = (micros: Record<string, number>) =>
  Object.values(micros).reduce((total, one) => total + one, 0)

/** "1000 µs: gateway 320, ledger 110, ..."; the JSON has those that are left out. */
const describeCpu = (micros: Record<string, number>): string => {
  const named = Object.entries(micros).filter(([, one]) => one >= CPU_SHOWN_MICROS)
  if (named.length === 0) return 'not known on this system'
  return `${Math.round(totalOf(micros))} µs: ${named.map(([name, one]) => `${name} ${Math.round(one)}`).join(', ')}`
}

const twoDigits = (value: number) => value.toFixed(2)
const rate = (perSecond: number) => `${Math.round(perSecond)}/s`

export const judge = (figures: Figures): Line[] => {
  const perTransfer = mean(figures.perTransfer)!
  const pgbench = mean(figures.pgbench)
  const ratios = (perSecond: number) => ({
    ofPerTransfer: perSecond / perTransfer,
    ofPgbench: pgbench === undefined ? undefined : perSecond / pgbench,
  })
  const beforeAndAfter = (rates: number[]) => rates.map(one => Math.round(one)).join(' and ')
  const uniform = figures.backlogs[0]!

  const lines: Line[] = [
    {
      measure: 'per-transfer (before and after)',
      figure: `${beforeAndAfter(figures.perTransfer)}/s`,
      ofPgbench: ratios(perTransfer).ofPgbench,
    },
    {
      measure: 'pgbench TPC-B (before and after)',
      figure: pgbench === undefined ? 'not installed' : `${beforeAndAfter(figures.pgbench)}/s`,
      ofPerTransfer: pgbench === undefined ? undefined : pgbench / perTransfer,
    },
  ]
  for (const { shape, perSecond } of figures.backlogs) {
    const line = { measure: `ledger from a backlog, ${shape}`, figure: rate(perSecond), ...ratios(perSecond) }
    if (shape === 'uniform')
      lines.push({
        ...line,
        mustReach: `${BACKLOG_OF_PER_TRANSFER} × per-transfer, ${BACKLOG_OF_PGBENCH} × TPC-B`,
        reached:
          line.ofPerTransfer >= BACKLOG_OF_PER_TRANSFER &&
          (line.ofPgbench === undefined || line.ofPgbench >= BACKLOG_OF_PGBENCH),
      })
    else {
      const share = perSecond / uniform.perSecond
      lines.push({
        ...line,
        figure: `${line.figure}, ${twoDigits(share)} × uniform`,
        mustReach: `${HOT_OF_UNIFORM} × uniform`,
        reached: share >= HOT_OF_UNIFORM,
      })
    }
  }
  lines.push({
    measure: 'CPU of one transfer from a backlog, uniform',
    figure: describeCpu(uniform.cpuMicros),
  })
  const most = figures.http.at(-1)!
  for (const load of figures.http) {
    const line = {
      measure: `HTTP to final answer, ${load.clients} ${load.clients === 1 ? 'client' : 'clients'}`,
      figure: `${rate(load.perSecond)}, p50 ${load.p50Ms.toFixed(1)} ms, p99 ${load.p99Ms.toFixed(1)} ms`,
      ...ratios(load.perSecond),
    }
    if (load !== most) lines.push(line)
    else
      lines.push({
        ...line,
        mustReach: `${HTTP_OF_PGBENCH} × TPC-B`,
        reached: line.ofPgbench === undefined ? undefined : line.ofPgbench >= HTTP_OF_PGBENCH,
      })
  }
  lines.push(
    ...figures.http.map(({ clients, cpuMicros }) => {
      const inAll = totalOf(cpuMicros)
      const line = {
        measure: `CPU of one transfer over HTTP, ${clients} ${clients === 1 ? 'client' : 'clients'}`,
        figure: describeCpu(cpuMicros),
      }
      if (clients !== most.clients || inAll === 0) return line
      return { ...line, mustReach: `≤ ${CPU_MICROS} µs`, reached: inAll <= CPU_MICROS }
    }),
  )
  const { atATenth } = figures
  lines.push({
    measure: 'HTTP at a tenth of that, evenly paced',
    figure: `${rate(atATenth.perSecond)}, p50 ${atATenth.p50Ms.toFixed(1)} ms, p99 ${atATenth.p99Ms.toFixed(1)} ms`,
    mustReach: `p99 < ${P99_AT_A_TENTH_MS} ms`,
    reached: atATenth.p99Ms < P99_AT_A_TENTH_MS,
  })
  const others = [...figures.http, atATenth].flatMap(load => Object.entries(load.others))
  lines.push({
    measure: 'HTTP answers that were not 201 completed',
    figure: others.map(([what, count]) => `${count} × ${what}`).join(', ') || 'none',
    mustReach: 'none',
    reached: others.length === 0,
  })
  lines.push(...signInLines(figures.signIns, ratios))
  for (const [service, mib] of Object.entries(figures.memoryMiB))
    lines.push({
      measure: `memory of ${service} after the HTTP load`,
      figure: `${Math.round(mib)} MiB`,
      mustReach: `< ${MEMORY_MIB} MiB`,
      reached: mib < MEMORY_MIB,
    })
  lines.push({
    measure: 'memory of ledger after the backlogs',
    figure: `${Math.round(figures.ledgerMemoryAfterBacklogsMiB)} MiB`,
    mustReach: `< ${MEMORY_MIB} MiB`,
    reached: figures.ledgerMemoryAfterBacklogsMiB < MEMORY_MIB,
  })
  return lines
}

/** Signing in has no target, because a hash is meant to be expensive. Payments have one: they run without any hash. */
const signInLines = (
  { bcryptCost, flood, transfers, hashesOfTransfers, ...signIns }: SignInFigures,
  ratios: (perSecond: number) => Pick<Line, 'ofPerTransfer' | 'ofPgbench'>,
): Line[] => {
  const slow = (perSecond: number) => `${perSecond.toFixed(1)}/s`
  const { before, during, after } = transfers
  const alone = (before.perSecond + after.perSecond) / 2
  const others = [before, during, after].flatMap(load => Object.entries(load.others))
  const rateOf = (count: number) => slow(count / flood.seconds)
  return [
    { measure: `logins by password, bcrypt cost ${bcryptCost}`, figure: slow(signIns.loginsPerSecond) },
    { measure: 'logins by password and code', figure: slow(signIns.secondFactorLoginsPerSecond) },
    { measure: 'refreshes', figure: rate(signIns.refreshesPerSecond) },
    { measure: 'PIN verifications', figure: slow(signIns.pinVerificationsPerSecond) },
    {
      measure: 'transfers by step-up token, 64 clients (before and after)',
      figure: `${Math.round(before.perSecond)} and ${Math.round(after.perSecond)}/s`,
      ...ratios(alone),
    },
    {
      measure: `the same beside ${rateOf(flood.logins)} logins and ${rateOf(flood.pinVerifications)} PIN verifications`,
      figure: `${rate(during.perSecond)}, ${twoDigits(during.perSecond / alone)} × alone, p99 ${during.p99Ms.toFixed(1)} ms`,
      ...ratios(during.perSecond),
    },
    {
      measure: 'answers of these that were not 201 completed',
      figure: others.map(([what, count]) => `${count} × ${what}`).join(', ') || 'none',
      mustReach: 'none',
      reached: others.length === 0,
    },
    {
      measure: 'hashes that these transfers made',
      figure: String(hashesOfTransfers),
      mustReach: '0',
      reached: hashesOfTransfers === 0,
    },
  ]
}

const HEADINGS = ['Measure', 'Figure', '× per-transfer', '× TPC-B', 'Must reach', '']

export const tableOf = (lines: Line[], { cpu, cores, memoryGiB }: Machine): string => {
  const rows = lines.map(line => [
    line.measure,
    line.figure,
    line.ofPerTransfer === undefined ? '' : twoDigits(line.ofPerTransfer),
    line.ofPgbench === undefined ? '' : twoDigits(line.ofPgbench),
    line.mustReach ?? '',
    line.reached === undefined ? '' : line.reached ? 'reached' : 'MISSED',
  ])
  const widths = HEADINGS.map((heading, column) =>
    Math.max(heading.length, ...rows.map(row => row[column]!.length)),
  )
  const format = (row: string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join('  ')
      .trimEnd()
  const rule = widths.map(width => '-'.repeat(width)).join('  ')
  return [
    `${cores} cores (${cpu}), ${memoryGiB} GiB, shared by servers, services and load; the books were right after each load.`,
    '',
    ...[HEADINGS, ...rows].map(format).toSpliced(1, 0, rule),
  ].join('\n')
}

/** Writes everything to a file of its own and returns its name. */
export const writeResults = (results: object): string => {
  const folder = join(import.meta.dirname, 'results')
  mkdirSync(folder, { recursive: true })
  const name = `${new Date().toISOString().slice(0, 19).replaceAll(':', '')}Z.json`
  writeFileSync(join(folder, name), `${JSON.stringify(results, null, 2)}\n`)
  return name
}
