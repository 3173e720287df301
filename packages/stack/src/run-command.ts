// Runs one of the system's commands against the stack that `npm start` has running (or ran last) on the data folder:
// `node packages/stack/src/run-command.ts services/ledger/src/verify-books.ts ...`. Settings that are there already
// win, so that the same commands work against any other system.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { endpointsFile } from './endpoints.ts'
import { readSettings } from './read-settings.ts'

const root = join(import.meta.dirname, '..', '..', '..')
const [script, ...args] = process.argv.slice(2)
if (!script) {
  console.error('usage: run-command.ts SCRIPT [ARGUMENT ...]')
  process.exit(2)
}

const readEndpoints = (): Record<string, string> => {
  const { dataDir } = readSettings(process.env)
  try {
    return JSON.parse(readFileSync(endpointsFile(dataDir), 'utf8')) as Record<string, string>
  } catch {
    return {}
  }
}
const env = { ...readEndpoints(), ...process.env }
// Each service's commands work under its own role, as the service does.
const service = /^services\/(\w+)\//.exec(script)?.[1]?.toUpperCase()
env.DATABASE_URL ??= env[`${service}_DATABASE_URL`]
if (!env.DATABASE_URL && !env.GATEWAY_URL && !env.KAFKA_BROKERS) {
  console.error(
    'No stack was started on this data folder: run `npm start` first, or set the URLs of another system.',
  )
  process.exit(2)
}
const { status } = spawnSync(process.execPath, [join(root, script), ...args], { env, stdio: 'inherit' })
process.exit(status ?? 1)
