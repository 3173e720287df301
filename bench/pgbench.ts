import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { runToEnd } from '@pennywire/stack/managed-process.ts'
import type { Stack } from '@pennywire/stack/stack.ts'
import { createDatabase } from './create-database.ts'

const SCALE = 10
const CLIENTS = 32

/** The output of `pgbench --version`, or null if pgbench is not on the PATH. */
export const findPgbench = (): string | null => {
  const { status, stdout } = spawnSync('pgbench', ['--version'], { encoding: 'utf8' })
  return status === 0 ? stdout.trim() : null
}

/** pgbench's own TPC-B-like transaction, with prepared statements, over TCP; transactions per second. */
export const measurePgbench = async (stack: Stack, seconds: number): Promise<number> => {
  const { url, drop } = await createDatabase(stack.postgres.superuserUrl, 'bench_pgbench')
  const { hostname, port, username, password, pathname } = new URL(url)
  const database = pathname.slice(1)
  const logFile = stack.logFile('pgbench')
  const run = async (...args: string[]) => {
    rmSync(logFile, { force: true })
    const connection = ['-h', hostname, '-p', port, '-U', username]
    await runToEnd(stack.guard, {
      name: 'pgbench',
      file: 'pgbench',
      args: [...connection, ...args, database],
      env: { ...process.env, PGPASSWORD: password },
      logFile,
      order: 0,
    })
    return readFileSync(logFile, 'utf8')
  }
  try {
    await run('--initialize', '--quiet', '--scale', String(SCALE))
    const report = await run('-M', 'prepared', '-c', String(CLIENTS), '-j', '2', '-T', String(seconds))
    const rate = /tps = ([\d.]+)/.exec(report)?.[1]
    if (rate === undefined) throw new Error(`pgbench told no rate:\n${report}`)
    return Number(rate)
  } finally {
    await drop()
  }
}
