import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

export type Guard = {
  /** Registers a child's process group; a group added after the stop is killed at once. */
  add(group: { group: number; name: string; order: number; signal: NodeJS.Signals }): void
  gone(group: number): void
  /** Stops every group in order; resolves when nothing is left. */
  stop(): Promise<void>
  /** SIGKILL to every group, at once. */
  kill(): void
}

const PREDECESSOR_WAIT_MS = 60_000

const spawnGuard = async (dataDir: string, report: (line: string) => void): Promise<Guard | undefined> => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'guard.ts'), dataDir], {
    detached: true,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const groups = new Set<number>()
  let ended = false
  const killGroup = (group: number) => {
    try {
      process.kill(-group, 'SIGKILL')
    } catch {
      // It is gone already.
    }
  }
  const exited = new Promise<void>(resolve =>
    child.once('exit', () => {
      ended = true
      for (const group of groups) killGroup(group) // if the guard itself has died, nothing may run unguarded
      resolve()
    }),
  )
  child.stdin.on('error', () => {}) // the guard has ended; its groups are stopped
  const write = (message: object) => void child.stdin.write(`${JSON.stringify(message)}\n`)
  const lines = createInterface({ input: child.stdout })
  const answer = await new Promise<string>((resolve, reject) => {
    lines.once('line', resolve)
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`The stack's guard process ended with code ${code}.`)))
  })
  if (answer === 'busy') return undefined
  lines.on('line', report)
  return {
    add: group => {
      groups.add(group.group)
      if (ended) killGroup(group.group)
      else write({ add: group })
    },
    gone: group => {
      groups.delete(group)
      write({ gone: group })
    },
    kill: () => write({ kill: true }),
    stop: () => {
      write({ stop: true })
      return exited
    },
  }
}

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/**
 * Starts the process that stops all children when this one ends, and that holds the data folder's lock until
 * they are gone. Throws when another stack runs on that folder; waits while one is still stopping there.
 */
export const startGuard = async (dataDir: string, report: (line: string) => void): Promise<Guard> => {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const holderFile = join(dataDir, 'stack.pid') // only names the lock's holder; the lock itself decides
  const end = performance.now() + PREDECESSOR_WAIT_MS
  for (let round = 0; ; round++) {
    const guard = await spawnGuard(dataDir, report)
    if (guard) {
      writeFileSync(holderFile, `${process.pid}\n`)
      return guard
    }
    const holder = Number(readFileSync(holderFile, { encoding: 'utf8', flag: 'a+' }))
    if (isAlive(holder) || performance.now() > end)
      throw new Error(
        `A stack already runs on ${dataDir} (process ${holder}): stop it first, or set PENNYWIRE_DATA.`,
      )
    if (round === 0) report('waiting for the previous run on this data folder to stop ...')
    await sleep(250)
  }
}
