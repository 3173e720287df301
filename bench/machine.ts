import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Stack } from '@pennywire/stack/stack.ts'
import postgres from 'postgres'
import { findPgbench } from './pgbench.ts'

const root = join(import.meta.dirname, '..')

export type Machine = { cpu: string; cores: number; memoryGiB: number; platform: string }

export const describeMachine = (): Machine => ({
  cpu: cpus()[0]?.model.trim() ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 2 ** 30),
  platform: `${process.platform}-${process.arch}`,
})

/** The share of CPU time that other processes take; measured before anything is started. */
export const measureOthers = async (): Promise<number> => {
  const read = () => {
    const times = cpus().map(cpu => cpu.times)
    const sum = (part: (time: (typeof times)[number]) => number) =>
      times.reduce((total, time) => total + part(time), 0)
    return {
      idle: sum(time => time.idle),
      all: sum(({ user, nice, sys, idle, irq }) => user + nice + sys + idle + irq),
    }
  }
  const before = read()
  await sleep(2_000)
  const after = read()
  return 1 - (after.idle - before.idle) / (after.all - before.all)
}

const git = (...args: string[]): string | null => {
  try {
    return execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return null // not a clone
  }
}

export const describeVersions = async (stack: Stack) => {
  const sql = postgres(stack.postgres.superuserUrl, { max: 1 })
  const [row] = await sql`show server_version`
  await sql.end()
  const pom = readFileSync(join(root, 'packages', 'stack', 'pom.xml'), 'utf8')
  return {
    commit: git('rev-parse', '--short=12', 'HEAD'),
    /** Whether the work tree has uncommitted changes. */
    changed: git('status', '--porcelain', '--', 'packages', 'services', 'bench/*.ts') !== '',
    node: process.version,
    postgres: row?.server_version as string,
    kafka: /<artifactId>kafka_[\d.]+<\/artifactId>\s*<version>([^<]+)</.exec(pom)?.[1] ?? null,
    pgbench: findPgbench(),
  }
}
