// `npm start`: the whole system on this machine, until Ctrl-C.
import { join, relative } from 'node:path'
import { beginCommand } from '@pennywire/runtime/command.ts'
import { type Guard, startGuard } from './connect-guard.ts'
import { OWNER, passwordFile } from './database-passwords.ts'
import { curlToTry, runDemo } from './demo.ts'
import { writeEndpoints } from './endpoints.ts'
import { keysFolder } from './keys.ts'
import { describeExit, lastLines } from './managed-process.ts'
import { DATABASE } from './provision.ts'
import { readSettings } from './read-settings.ts'
import { startStack } from './stack.ts'
import { type System, services, startSystem } from './system.ts'

beginCommand(`usage: npm start

Starts the whole system on this machine, until Ctrl-C: Postgres, Kafka, the registry and Redis with their data in
.pennywire, then the services. The first start downloads the servers. It ends with a line \`ready URL\`.

  --help  Writes this, and starts nothing.

Settings: STACK (embedded or docker), PENNYWIRE_DATA, and the ports: see README.md.
Exit codes: 0 to 1 as the system ended, 2 wrong options, 130 after Ctrl-C.
Example: npm start`)

let guard: Guard | undefined
let stopping = false

const print = (line: string) => console.log(line)
process.stdout.on('error', () => {}) // the terminal is gone; the stop goes on

const end = async (code: number) => {
  stopping = true
  await guard?.stop()
  process.exit(code)
}

const onSignal = (signal: NodeJS.Signals) => {
  if (stopping) {
    print(`${signal} again: killing what is left`)
    guard?.kill()
    return
  }
  print(`${signal}: stopping everything in order (again to kill) ...`)
  const code = signal === 'SIGINT' ? 130 : 143
  end(code)
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal)

// Under npm the parent is bootstrap.mjs, which forwards signals. When it is killed, the terminal can no longer stop
// this process, so the process stops itself. Started by hand it may outlive its shell.
const parent = process.ppid
if (process.env.npm_lifecycle_event)
  setInterval(() => {
    if (process.ppid !== parent && !stopping) onSignal('SIGHUP')
  }, 1_000).unref()

const fail = async (error: unknown) => {
  if (stopping) return // children that are being stopped fail, as expected
  console.error(error instanceof Error ? error.message : error)
  await end(1)
}

const shortPath = (path: string) => {
  const fromHere = relative(process.cwd(), path)
  return fromHere.startsWith('..') ? path : fromHere
}

const summaryOf = ({ stack, dataDir, gatewayUrl, opsUrl }: System) => {
  const psql = `PGPASSFILE=${shortPath(passwordFile(dataDir))} psql -h ${stack.postgres.host} -p ${stack.postgres.port} -U ${OWNER} ${DATABASE}`
  const rows = [
    ['API', gatewayUrl],
    ['API docs', `${gatewayUrl}/docs`],
    ['Mail', stack.mail.httpUrl],
    ['Kafka', `${stack.kafkaBrokers} (SASL PLAIN, passwords in ${shortPath(keysFolder(dataDir))})`],
    ['Schema registry', stack.registryUrl],
    ['Redis', stack.redisUrl.replace(/\/\/.*@/, '//')],
    ['Postgres', psql],
    ['Payment provider', stack.providerUrl],
    ...services.map(name => [`${name}'s health`, `${opsUrl(name)}/readyz, /metrics`]),
    ['Data and logs', `${shortPath(dataDir)}, ${shortPath(join(dataDir, 'logs'))}`],
  ]
  return rows.map(([name, where]) => `  ${name?.padEnd(18)}${where}`).join('\n')
}

const watch = ({ stack }: System) => {
  for (const child of stack.processes())
    child.exited.then(exit =>
      fail(
        new Error(
          `${child.name} ended ${describeExit(exit)}, which nobody asked for. The last lines of ${child.logFile}:\n${lastLines(child.logFile)}\nStopping everything.`,
        ),
      ),
    )
}

try {
  const { kind, dataDir, ports } = readSettings(process.env)
  guard = await startGuard(dataDir, print)
  const stack = await startStack({ kind, dataDir, ports, guard, report: print })
  const system = await startSystem(stack, { report: print })
  watch(system)
  writeEndpoints(system)
  const settings = {
    GATEWAY_URL: system.gatewayUrl,
    MAIL_URL: stack.mail.httpUrl,
    kafka: stack.kafka,
    REGISTRY_URL: stack.registryUrl,
    AUDIT_DATABASE_URL: system.databaseUrl('audit'),
  }
  const { codes } = await runDemo(settings, print)
  print(`\nPennywire runs. Ctrl-C stops it; \`npm run reset\` clears its data.\n${summaryOf(system)}\n`)
  print(`Try it in another terminal:\n${curlToTry(system.gatewayUrl, codes.bob)}\n`)
  print(`ready ${system.gatewayUrl}`)
} catch (error) {
  await fail(error)
}
