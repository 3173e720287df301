// Runs one of the system's commands against the stack that `npm start` has running (or ran last) on the data folder:
// `node packages/stack/src/run-command.ts services/ledger/src/verify-books.ts ...`. Settings already in the environment
// win, so that the same commands work against any other system.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { EXIT } from '@pennywire/runtime/command.ts'
import { endpointsFile } from './endpoints.ts'
import { readSettings } from './read-settings.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const [script, ...args] = process.argv.slice(2)
if (!script) {
  console.error('usage: run-command.ts SCRIPT [ARGUMENT ...]')
  process.exit(EXIT.usage)
}
const ANSWERS_WITHIN_MS = 2_000

type Endpoints = { kafka?: Record<string, Record<string, string>> } & Record<string, unknown>
const readEndpoints = (): Endpoints => {
  const { dataDir } = readSettings(process.env)
  try {
    return JSON.parse(readFileSync(endpointsFile(dataDir), 'utf8')) as Endpoints
  } catch {
    return {}
  }
}
const { kafka = {}, ...endpoints } = readEndpoints()
// A service's commands use its own roles, as the service does; the example is `downstream`, other commands `operator`.
const service = /^services\/(\w+)\//.exec(script)?.[1]
const kafkaUser = service ?? (script.startsWith('examples/') ? 'downstream' : 'operator')
const env: NodeJS.ProcessEnv = {
  ...(endpoints as Record<string, string>),
  // Another system's brokers have other passwords.
  ...(process.env.KAFKA_BROKERS === undefined ? kafka[kafkaUser] : {}),
  ...process.env,
}
env.DATABASE_URL ??= env[`${service?.toUpperCase()}_DATABASE_URL`]
// A command that only tells how it is used needs no system, and one with wrong options says so first.
const tells = args.includes('--help')
if (!tells && !env.DATABASE_URL && !env.GATEWAY_URL && !env.KAFKA_BROKERS) {
  console.error(
    'No stack was started on this data folder: run `npm start` first, or set the URLs of another system.',
  )
  process.exit(EXIT.usage)
}

/** Whether something listens at the first host of a URL. */
const listens = (url: string): Promise<boolean> =>
  new Promise(resolve => {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), timeout: ANSWERS_WITHIN_MS })
    const end = (answers: boolean) => {
      socket.destroy()
      resolve(answers)
    }
    socket.once('connect', () => end(true))
    socket.once('timeout', () => end(false))
    socket.once('error', () => end(false))
  })
// Only of the stack of this folder: another system's servers are told by the command itself, with its reason.
const database = 'OWNER_DATABASE_URL'
if (!tells && env[database] !== undefined && env[database] === endpoints[database]) {
  if (!(await listens(env[database]))) {
    console.error('The stack of this data folder is stopped: `npm start` starts it.')
    process.exit(EXIT.failed)
  }
}
const { status } = spawnSync(process.execPath, [join(root, script), ...args], { env, stdio: 'inherit' })
process.exit(status ?? EXIT.failed)
