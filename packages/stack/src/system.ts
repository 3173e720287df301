import { join } from 'node:path'
import { loadPasswords, OWNER, type Role } from './database-passwords.ts'
import { keysFolder } from './keys.ts'
import { type ManagedProcess, runToEnd } from './managed-process.ts'
import { findFreePort } from './ports.ts'
import { DATABASE, provision } from './provision.ts'
import { KAFKA_ADMIN } from './server-passwords.ts'
import type { Stack } from './stack.ts'

/** In stop order: services that accept work first, services that only consume last. */
export const services = ['gateway', 'ledger', 'notifier', 'audit'] as const
export type Service = (typeof services)[number]

type Env = Record<string, string>

export type SystemOptions = {
  /** Settings for every service, and for one; they win over this process's own environment. */
  env?: Partial<Record<Service | 'all', Env>>
  report?: (line: string) => void
}

/** A further instance: its process, its API where it is a gateway, and its `/readyz` and `/metrics`. */
export type Instance = { process: ManagedProcess; url: string; opsUrl: string }

export type System = {
  stack: Stack
  dataDir: string
  gatewayUrl: string
  /** The base URL of a service's `/readyz` and `/metrics`. */
  opsUrl(service: Service): string
  /** A service's whole environment, for a test that starts a process itself. */
  env(service: Service): NodeJS.ProcessEnv
  service(service: Service): ManagedProcess
  /** A further instance of a service on a free port, with the given settings over the usual ones. */
  startInstance(service: Service, overrides?: Env): Promise<Instance>
  superuserUrl: string
  databaseUrl(role: Role): string
  logFile(name: string): string
  /** Stops the services in order, then the servers. */
  stop(): Promise<void>
}

const root = join(import.meta.dirname, '..', '..', '..')

/**
 * Brings the whole system up on running servers: database and roles, migrations, topics, schemas, then the four
 * services at once. Resolves when all are ready; when anything fails, everything is stopped and the reason thrown.
 */
export const startSystem = async (stack: Stack, options: SystemOptions = {}): Promise<System> => {
  try {
    return await startServices(stack, options)
  } catch (error) {
    await stack.stop()
    throw error
  }
}

/** For the reasons see docs/operations.md, Memory. The Dockerfile and the compose files set the same values. */
const boundedMemory = (service: Service) => ({
  NODE_OPTIONS: `--max-old-space-size=${service === 'gateway' ? 512 : 2048} --max-semi-space-size=16`,
  MALLOC_ARENA_MAX: '2',
})

/** Where an audit service of this data folder writes the checkpoints that it signs. */
export const checkpointFile = (dataDir: string, instance: number): string =>
  join(dataDir, 'audit', `checkpoints-${instance}.txt`)

const databaseUrlOf = ({ dataDir, postgres: { host, port } }: Stack, role: Role): string =>
  `postgres://${role}:${loadPasswords(dataDir)[role]}@${host}:${port}/${DATABASE}`

/** Sets running servers up for the services: database, roles, migrations, topics and schemas. */
export const setUpServers = async (
  stack: Stack,
  report: (line: string) => void = () => {},
): Promise<void> => {
  const { dataDir, guard, logFile } = stack
  const runScript = (name: string, script: string, scriptEnv: Env) =>
    runToEnd(guard, {
      name,
      file: process.execPath,
      args: [join(root, script)],
      env: { ...process.env, ...scriptEnv },
      logFile: logFile('set-up'),
      order: 0,
    })

  const migrate = async () => {
    await provision(stack.postgres.superuserUrl, loadPasswords(dataDir))
    // Sequential: two concurrent grants on the database would fail on each other's rows.
    for (const service of ['ledger', 'gateway', 'notifier', 'audit'] as const) {
      const migrateEnv = { MIGRATE_DATABASE_URL: databaseUrlOf(stack, OWNER) }
      await runScript(`migrations of ${service}`, `services/${service}/src/migrate.ts`, migrateEnv)
    }
  }
  const setUpKafka = () =>
    runScript('topics and schemas', 'packages/kafka/src/set-up.ts', {
      ...stack.kafkaEnv(KAFKA_ADMIN),
      KAFKA_ACCESS_LISTS: 'true',
      REGISTRY_URL: stack.registryUrl,
    })
  report('Database, topics and schemas: setting up ...')
  await Promise.all([migrate(), setUpKafka()])
}

const startServices = async (
  stack: Stack,
  { env = {}, report = () => {} }: SystemOptions,
): Promise<System> => {
  const { dataDir, logFile } = stack
  const databaseUrl = (role: Role) => databaseUrlOf(stack, role)
  await setUpServers(stack, report)

  const gatewayPort = stack.ports.gateway ?? (await findFreePort())
  const opsPorts: Record<Service, number> = {
    gateway: await findFreePort(),
    ledger: await findFreePort(),
    notifier: await findFreePort(),
    audit: await findFreePort(),
  }
  const urlAt = (port: number) => `http://127.0.0.1:${port}`
  const key = (file: string) => join(keysFolder(dataDir), file)
  const publicUrl = urlAt(gatewayPort)

  const ownEnv: Record<Service, Env> = {
    gateway: {
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: String(gatewayPort),
      LEDGER_READ_URL: databaseUrl('ledger_reader'),
      NOTIFIER_URL: databaseUrl('notifier_client'),
      AUDIT_READ_URL: databaseUrl('audit_reader'),
      REDIS_URL: stack.gatewayRedisUrl,
      JWT_KEY_FILE: key('jwt.json'),
      COMMAND_MAC_FILE: key('command-mac.json'),
      RECEIPT_KEY_FILE: key('receipt.json'),
      PIN_PEPPER_FILE: key('pin-pepper.json'),
      SECOND_FACTOR_KEY_FILE: key('second-factor.json'),
      PERSON_KEK_FILE: key('person-kek.json'),
      ADDRESS_HMAC_FILE: key('address-hmac.json'),
      NOTIFIER_PUBLIC_KEY_FILE: key('notifier-public.json'),
      PROVIDER_URL: stack.providerUrl,
      PROVIDER_SECRET_FILE: key('provider-secret.json'),
      PUBLIC_URL: publicUrl,
      CALLBACK_URL: `${publicUrl}/v1/provider/callbacks`,
    },
    ledger: { COMMAND_MAC_FILE: key('command-mac.json') },
    notifier: {
      GATEWAY_READ_URL: databaseUrl('gateway_reader'),
      LEDGER_READ_URL: databaseUrl('ledger_reader'),
      NOTIFIER_PRIVATE_KEY_FILE: key('notifier-private.json'),
      RECEIPT_KEY_FILE: key('receipt.json'),
      PUBLIC_URL: publicUrl,
      SMTP_URL: stack.mail.smtpUrl,
      MAIL_FROM: 'Pennywire <no-reply@pennywire.example>',
    },
    audit: { CHECKPOINT_KEY_FILE: key('checkpoint-key.json') },
  }

  const envOf = (service: Service, opsPort: number, instance: number): NodeJS.ProcessEnv => ({
    LOG_LEVEL: 'info',
    ...boundedMemory(service),
    ...process.env,
    ...stack.kafkaEnv(service),
    REGISTRY_URL: stack.registryUrl,
    OPS_HOST: '127.0.0.1',
    OPS_PORT: String(opsPort),
    DATABASE_URL: databaseUrl(service),
    INSTANCE_ID: `${service}-${instance}`,
    ...ownEnv[service],
    // Each instance has a file of its own.
    ...(service === 'audit' ? { CHECKPOINT_FILE: checkpointFile(dataDir, instance) } : {}),
    ...env.all,
    ...env[service],
  })

  const spawn = (service: Service, name: string, opsPort: number, serviceEnv: NodeJS.ProcessEnv) =>
    stack.spawnService({
      name,
      script: join(root, 'services', service, 'src', 'main.ts'),
      env: serviceEnv,
      opsPort,
      order: services.indexOf(service),
    })

  const instances: Record<Service, number> = { gateway: 1, ledger: 1, notifier: 1, audit: 1 }
  report('Services: starting ...')
  const running = Object.fromEntries(
    await Promise.all(
      services.map(async service => {
        const opsPort = opsPorts[service]
        return [service, await spawn(service, service, opsPort, envOf(service, opsPort, 1))] as const
      }),
    ),
  ) as Record<Service, ManagedProcess>

  return {
    stack,
    dataDir,
    gatewayUrl: publicUrl,
    opsUrl: service => urlAt(opsPorts[service]),
    env: service => envOf(service, opsPorts[service], 1),
    service: service => running[service],
    startInstance: async (service, overrides = {}) => {
      const [port, opsPort] = [await findFreePort(), await findFreePort()]
      const instance = ++instances[service]
      const own = service === 'gateway' ? { HTTP_PORT: String(port) } : {}
      const instanceEnv = { ...envOf(service, opsPort, instance), ...own, ...overrides }
      const process = await spawn(service, `${service}-${instance}`, opsPort, instanceEnv)
      return { process, url: urlAt(port), opsUrl: urlAt(opsPort) }
    },
    superuserUrl: stack.postgres.superuserUrl,
    databaseUrl,
    logFile,
    stop: stack.stop,
  }
}
