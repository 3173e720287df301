import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import type { KafkaUser } from '@pennywire/kafka/access.ts'
import type { KafkaConnection } from '@pennywire/kafka/client.ts'
import { type Guard, startGuard } from './connect-guard.ts'
import { loadPasswords, SUPERUSER } from './database-passwords.ts'
import { asNobody, assertNotRoot, ownFolder } from './embedded/as-nobody.ts'
import { findJava } from './embedded/java.ts'
import { startKafka } from './embedded/kafka.ts'
import { assertFetchable } from './embedded/maven.ts'
import { startPostgres } from './embedded/postgres.ts'
import { startRedis } from './embedded/redis.ts'
import { REGISTRY_PATH, startRegistry } from './embedded/registry.ts'
import type { ServerContext } from './embedded/server-context.ts'
import { keysFolder, makeKeys } from './keys.ts'
import { type ManagedProcess, startProcess } from './managed-process.ts'
import { assertPortsFree, findFreePort, type Ports } from './ports.ts'
import {
  KAFKA_ADMIN,
  kafkaConnection,
  kafkaEnv,
  loadRedisPassword,
  REDIS_ADMIN,
  REDIS_USER,
} from './server-passwords.ts'

export type Server = 'kafka' | 'registry' | 'postgres' | 'redis' | 'mail' | 'provider'

export type StackOptions = {
  dataDir: string
  kind?: 'embedded' | 'docker'
  /** Missing ones are free ports. The gateway's is only checked and kept here, so that a conflict shows at once. */
  ports?: Ports
  /** One line of progress at a time; silent without it. */
  report?: (line: string) => void
  /** For a caller that must be able to stop a stack which is still starting. */
  guard?: Guard
}

export type ServiceSpec = {
  name: string
  /** Absolute path of the TypeScript file to run. */
  script: string
  /** The whole environment. */
  env: NodeJS.ProcessEnv
  /** The port of its `GET /readyz`. */
  opsPort: number
  /** Lower ones stop first; all of them before the servers. */
  order: number
}

export type Stack = {
  dataDir: string
  ports: Ports
  kafkaBrokers: string
  /** As the user that sets Kafka up, which has all rights. */
  kafka: KafkaConnection
  /** The settings of a process that connects to Kafka as this user. */
  kafkaEnv(user: KafkaUser | typeof KAFKA_ADMIN): Record<string, string>
  /** With the path of the Confluent-compatible API. */
  registryUrl: string
  /** As the user with all rights. */
  redisUrl: string
  /** As the gateway's user. */
  gatewayRedisUrl: string
  postgres: { host: string; port: number; superuserUrl: string }
  mail: { smtpUrl: string; httpUrl: string }
  providerUrl: string
  guard: Guard
  process(name: Server): ManagedProcess
  /** The servers and services started so far. */
  processes(): ManagedProcess[]
  logFile(name: string): string
  /** Starts a Node process of the system and resolves when its `/readyz` answers 200. */
  spawnService(spec: ServiceSpec): Promise<ManagedProcess>
  /** Stops services and servers in order; resolves when nothing is left. */
  stop(): Promise<void>
}

const AFTER_SERVICES = 100
const SERVICE_READY_MS = 90_000

const answersOk = (url: string) => async () => (await fetch(url, { signal: AbortSignal.timeout(5_000) })).ok

/**
 * Starts the servers that the system needs, all on loopback and all at once, and resolves when each of them
 * answers. When one fails, everything is stopped and the reason thrown.
 */
export const startStack = async (options: StackOptions): Promise<Stack> => {
  if (options.kind === 'docker')
    throw new Error(
      'STACK=docker is not there yet: it comes with the production work. Leave STACK unset for the embedded stack.',
    )
  const { dataDir, ports = {}, report = () => {} } = options
  const guard = options.guard ?? (await startGuard(dataDir, report))
  let failed = false
  // After a failure the other starts report no progress.
  const say = (line: string) => failed || report(line)
  try {
    await assertPortsFree(ports)
    assertFetchable('kafka')
    assertFetchable('registry')
    assertNotRoot()
    const java = await findJava()
    await makeKeys(dataDir)
    return await startServers(dataDir, ports, guard, java, say)
  } catch (error) {
    failed = true
    await guard.stop()
    throw error
  }
}

const startServers = async (
  dataDir: string,
  ports: Ports,
  guard: Guard,
  java: string,
  report: (line: string) => void,
): Promise<Stack> => {
  const logs = join(dataDir, 'logs')
  if (existsSync(logs)) {
    // One folder per run, the previous one is kept: logs neither grow without end nor vanish before they can be read.
    rmSync(`${logs}-previous`, { recursive: true, force: true })
    renameSync(logs, `${logs}-previous`)
  }
  mkdirSync(logs)
  const logFile = (name: string) => join(logs, `${name}.log`)

  const kafkaPort = ports.kafka ?? (await findFreePort())
  const registryPort = ports.registry ?? (await findFreePort())
  const postgresPort = ports.postgres ?? (await findFreePort())
  const redisPort = ports.redis ?? (await findFreePort())
  const mailHttpPort = ports.mailHttp ?? (await findFreePort())
  const mailSmtpPort = await findFreePort()
  const providerPort = await findFreePort()
  const mail = { smtpUrl: `smtp://127.0.0.1:${mailSmtpPort}`, httpUrl: `http://127.0.0.1:${mailHttpPort}` }
  const providerUrl = `http://127.0.0.1:${providerPort}`

  const kafkaBrokers = `127.0.0.1:${kafkaPort}`
  const redisUrl = (user: typeof REDIS_ADMIN | typeof REDIS_USER) =>
    `redis://${user}:${loadRedisPassword(dataDir, user)}@127.0.0.1:${redisPort}`

  const started: ManagedProcess[] = []
  const servers: ServerContext = { dataDir, guard, java, order: AFTER_SERVICES + 1, logFile, report }

  const track = async (title: string, starting: Promise<ManagedProcess>) => {
    const from = performance.now()
    const server = await starting
    started.push(server)
    report(`${title}: ready after ${((performance.now() - from) / 1_000).toFixed(1)} s`)
    return server
  }

  const startOwn = (
    name: string,
    script: string,
    env: Record<string, string>,
    isReady: () => Promise<boolean>,
  ) =>
    startProcess(guard, {
      name,
      ...asNobody(process.execPath, [join(import.meta.dirname, script)]),
      env: { ...process.env, ...env },
      logFile: logFile(script.replace('.ts', '')),
      order: AFTER_SERVICES,
      isReady,
      readyWithinMs: 30_000,
    })

  const startMail = () =>
    startOwn(
      'Mail sink',
      'mail-sink.ts',
      { SMTP_PORT: String(mailSmtpPort), HTTP_PORT: String(mailHttpPort) },
      answersOk(`${mail.httpUrl}/messages`),
    )

  const startProvider = () =>
    startOwn(
      'Payment provider',
      'sandbox-provider.ts',
      {
        HTTP_PORT: String(providerPort),
        PROVIDER_SECRET_FILE: join(keysFolder(dataDir), 'provider-secret.json'),
        PROVIDER_STATE_FILE: join(ownFolder(join(dataDir, 'provider')), 'payments.jsonl'),
      },
      // Unsigned, so the provider refuses with 401: it works.
      async () => (await fetch(`${providerUrl}/payments/none`)).status === 401,
    )

  const [kafka, registry, postgres, redis, mailSink, provider] = await Promise.all([
    track('Kafka', startKafka(servers, kafkaPort)),
    track('Schema registry', startRegistry(servers, registryPort)),
    track('Postgres', startPostgres(servers, postgresPort)),
    track('Redis', startRedis(servers, redisPort)),
    track('Mail sink', startMail()),
    track('Payment provider', startProvider()),
  ])
  const byName: Record<Server, ManagedProcess> = {
    kafka,
    registry,
    postgres,
    redis,
    mail: mailSink,
    provider,
  }

  return {
    dataDir,
    ports,
    kafkaBrokers,
    kafka: kafkaConnection(dataDir, kafkaBrokers, KAFKA_ADMIN),
    kafkaEnv: user => kafkaEnv(dataDir, kafkaBrokers, user),
    registryUrl: `http://127.0.0.1:${registryPort}${REGISTRY_PATH}`,
    redisUrl: redisUrl(REDIS_ADMIN),
    gatewayRedisUrl: redisUrl(REDIS_USER),
    postgres: {
      host: '127.0.0.1',
      port: postgresPort,
      superuserUrl: `postgres://${SUPERUSER}:${loadPasswords(dataDir)[SUPERUSER]}@127.0.0.1:${postgresPort}/postgres`,
    },
    mail,
    providerUrl,
    guard,
    process: name => byName[name],
    processes: () => [...started],
    logFile,
    spawnService: async ({ name, script, env, opsPort, order }) => {
      const service = await startProcess(guard, {
        name,
        file: process.execPath,
        args: [script],
        env,
        logFile: logFile(name),
        order,
        isReady: answersOk(`http://127.0.0.1:${opsPort}/readyz`),
        readyWithinMs: SERVICE_READY_MS,
      })
      started.push(service)
      return service
    },
    stop: () => guard.stop(),
  }
}
