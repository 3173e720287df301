import { type ChildProcess, spawn } from 'node:child_process'
import { appendFileSync, closeSync, existsSync, mkdirSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Guard } from './connect-guard.ts'
import { waitUntil } from './wait-until.ts'

export type Exit = { code: number | null; signal: NodeJS.Signals | null }

export type Command = {
  name: string
  file: string
  args: string[]
  cwd?: string
  env?: NodeJS.ProcessEnv
  logFile: string
  /** When everything stops, a lower order stops first; equal ones stop together. */
  order: number
  /** The signal for an orderly stop; SIGTERM by default. */
  stopSignal?: NodeJS.Signals
}

export type ServerCommand = Command & {
  /** True once it really answers. */
  isReady: () => Promise<boolean>
  readyWithinMs: number
  /** Runs before each start, the first and each restart. */
  beforeStart?: () => Promise<void>
  /** Matches a last log line that means "my predecessor is still ending": the start is tried again. */
  tryAgainAfter?: RegExp
}

/** A child process in a group of its own, with its log in a file. */
export type ManagedProcess = {
  readonly name: string
  readonly logFile: string
  /** Of the current run; of the last one when it is not running. */
  readonly pid: number
  /** Settles when the current run ends. */
  readonly exited: Promise<Exit>
  /** Sends a signal to the whole group and does not wait. */
  kill(signal: NodeJS.Signals): void
  /** Stops it in an orderly way, and by SIGKILL after 10 s; nothing happens when it is not running. */
  stop(): Promise<void>
  /** Stops it if it runs and starts it again, on the same port and data; resolves when it answers. */
  restart(): Promise<void>
}

type Run = { pid: number; exited: Promise<Exit>; exit: Exit | undefined }

const STOP_GRACE_MS = 10_000
const TAIL_BYTES = 4_096
const TAIL_LINES = 20

/** The last lines of a log file, indented, for an error message; empty when there are none. */
export const lastLines = (logFile: string, from = 0): string => {
  if (!existsSync(logFile)) return ''
  const size = statSync(logFile).size
  const start = Math.max(from, size - TAIL_BYTES)
  const buffer = Buffer.alloc(Math.max(0, size - start))
  const file = openSync(logFile, 'r')
  readSync(file, buffer, 0, buffer.length, start)
  closeSync(file)
  const lines = buffer.toString().trimEnd().split('\n').slice(-TAIL_LINES)
  return lines.map(line => `    ${line}`).join('\n')
}

export const describeExit = ({ code, signal }: Exit) => (signal ? `by ${signal}` : `with code ${code}`)

const launch = async (guard: Guard, command: Command): Promise<Run> => {
  mkdirSync(dirname(command.logFile), { recursive: true })
  const log = openSync(command.logFile, 'a', 0o600)
  let child: ChildProcess
  try {
    child = spawn(command.file, command.args, {
      cwd: command.cwd,
      env: command.env ?? process.env,
      detached: true, // a group of its own: Ctrl-C in the terminal reaches only the parent, which stops in order
      stdio: ['ignore', log, log],
    })
  } finally {
    closeSync(log)
  }
  const { pid } = child
  if (pid)
    guard.add({
      group: pid,
      name: command.name,
      order: command.order,
      signal: command.stopSignal ?? 'SIGTERM',
    })
  const run: Run = {
    pid: pid ?? 0,
    exit: undefined,
    exited: new Promise<Exit>((resolve, reject) => {
      child.once('error', error =>
        reject(new Error(`${command.name}: ${command.file} does not start: ${error.message}`)),
      )
      child.once('exit', (code, signal) => {
        guard.gone(pid!)
        run.exit = { code, signal }
        resolve(run.exit)
      })
    }),
  }
  if (!pid) await run.exited
  return run
}

/** Runs a command to its end; throws with its last log lines unless it ends with code 0. */
export const runToEnd = async (guard: Guard, command: Command): Promise<void> => {
  const from = existsSync(command.logFile) ? statSync(command.logFile).size : 0
  const exit = await (await launch(guard, command)).exited
  if (exit.code === 0) return
  throw new Error(
    `${command.name} ended ${describeExit(exit)}; ${command.logFile} says:\n${lastLines(command.logFile, from)}`,
  )
}

/**
 * Starts a server and resolves when it answers. Throws with its last log lines as soon as it ends before that,
 * or when its time is up.
 */
export const startProcess = async (guard: Guard, command: ServerCommand): Promise<ManagedProcess> => {
  let run: Run

  const start = async () => {
    const from = existsSync(command.logFile) ? statSync(command.logFile).size : 0
    const triesEnd = performance.now() + command.readyWithinMs
    await command.beforeStart?.()
    for (;;) {
      run = await launch(guard, command)
      const current = run
      const gaveUp = () =>
        current.exit &&
        `${command.name} ended ${describeExit(current.exit)} before it was ready; ${command.logFile} says:\n${lastLines(command.logFile, from)}`
      try {
        // An answer counts only while the process runs: something else might answer on its port.
        const isReady = async () => (await command.isReady()) && !current.exit
        await waitUntil(command.name, isReady, { deadlineMs: command.readyWithinMs, gaveUp })
        return
      } catch (error) {
        const text = lastLines(command.logFile, from)
        const again = current.exit && command.tryAgainAfter?.test(text) && performance.now() < triesEnd
        if (again) {
          appendFileSync(command.logFile, '(its predecessor is still ending: started again)\n')
          await sleep(200)
          continue
        }
        if (current.exit) throw error
        kill('SIGKILL') // the caller gets no handle, so it could not stop the process
        throw new Error(`${(error as Error).message}; ${command.logFile} says:\n${text}`)
      }
    }
  }

  const kill = (signal: NodeJS.Signals) => {
    if (run.exit) return
    try {
      process.kill(-run.pid, signal)
    } catch {
      // It ended between the check and the signal.
    }
  }

  const stop = async () => {
    if (run.exit) return
    kill(command.stopSignal ?? 'SIGTERM')
    const timer = setTimeout(() => kill('SIGKILL'), STOP_GRACE_MS)
    await run.exited
    clearTimeout(timer)
  }

  await start()
  return {
    name: command.name,
    logFile: command.logFile,
    get pid() {
      return run.pid
    },
    get exited() {
      return run.exited
    },
    kill,
    stop,
    restart: async () => {
      await stop()
      await start()
    },
  }
}
