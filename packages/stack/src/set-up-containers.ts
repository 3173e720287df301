// docker-compose.yml runs this once before the services: `database` creates keys, roles, databases and tables, `topics`
// creates topics and registers schemas. Each may run any number of times.
import { spawnSync } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { loadConfig } from '@pennywire/runtime/config.ts'
import postgres from 'postgres'
import { z } from 'zod'
import { keysFolder, makeKeys } from './keys.ts'
import { DATABASE, provision } from './provision.ts'
import { waitUntil } from './wait-until.ts'

const root = join(import.meta.dirname, '..', '..', '..')

const run = (script: string, env: Record<string, string>) => {
  const { status } = spawnSync(process.execPath, [join(root, script)], {
    env: { ...process.env, ...env },
    stdio: 'inherit',
  })
  if (status !== 0) throw new Error(`${script} ended with ${status}`)
}

// Passwords are inserted into URLs and into statements that take no parameters.
const password = z.string().regex(/^[A-Za-z0-9_-]{8,128}$/, 'must be 8 to 128 of A-Z a-z 0-9 _ -')

/** The registry's own role and database: the registry stores the schemas' ids there, and is no service of ours. */
const provisionRegistry = async (superuserUrl: string, registryPassword: string) => {
  const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} })
  try {
    const [role] = await sql`select 1 from pg_roles where rolname = 'registry'`
    await sql.unsafe(`${role ? 'alter' : 'create'} role registry login password '${registryPassword}'`)
    const [database] = await sql`select 1 from pg_database where datname = 'registry'`
    if (!database) await sql.unsafe('create database registry owner registry')
    await sql.unsafe('revoke all on database registry from public')
  } finally {
    await sql.end()
  }
}

/** The keys that each container gets, in a volume of its own. */
const KEYS_OF: Record<string, string[]> = {
  gateway: [
    ...['jwt.json', 'pin-pepper.json', 'second-factor.json', 'person-kek.json', 'address-hmac.json'],
    ...['notifier-public.json', 'provider-secret.json', 'command-mac.json', 'receipt.json'],
  ],
  ledger: ['command-mac.json'],
  notifier: ['notifier-private.json', 'receipt.json'],
  audit: ['checkpoint-key.json'],
  provider: ['provider-secret.json'],
}

const setUpDatabase = async () => {
  const config = loadConfig(
    {
      KEYS_DATA: z.string().min(1),
      /** A folder for each container that has keys, below this one. */
      KEYS_OF_SERVICES: z.string().min(1),
      POSTGRES_HOST: z.string().min(1),
      POSTGRES_PASSWORD: password,
      PENNYWIRE_OWNER_PASSWORD: password,
      GATEWAY_PASSWORD: password,
      LEDGER_PASSWORD: password,
      NOTIFIER_PASSWORD: password,
      AUDIT_PASSWORD: password,
      LEDGER_READER_PASSWORD: password,
      GATEWAY_READER_PASSWORD: password,
      NOTIFIER_READER_PASSWORD: password,
      AUDIT_READER_PASSWORD: password,
      NOTIFIER_CLIENT_PASSWORD: password,
      REGISTRY_PASSWORD: password,
    },
    process.env,
  )
  await makeKeys(config.KEYS_DATA)
  for (const [service, files] of Object.entries(KEYS_OF))
    for (const file of files)
      copyFileSync(join(keysFolder(config.KEYS_DATA), file), join(config.KEYS_OF_SERVICES, service, file))
  const superuserUrl = `postgres://postgres:${config.POSTGRES_PASSWORD}@${config.POSTGRES_HOST}/postgres`
  await provision(superuserUrl, {
    postgres: config.POSTGRES_PASSWORD,
    pennywire_owner: config.PENNYWIRE_OWNER_PASSWORD,
    gateway: config.GATEWAY_PASSWORD,
    ledger: config.LEDGER_PASSWORD,
    notifier: config.NOTIFIER_PASSWORD,
    audit: config.AUDIT_PASSWORD,
    ledger_reader: config.LEDGER_READER_PASSWORD,
    gateway_reader: config.GATEWAY_READER_PASSWORD,
    notifier_reader: config.NOTIFIER_READER_PASSWORD,
    audit_reader: config.AUDIT_READER_PASSWORD,
    notifier_client: config.NOTIFIER_CLIENT_PASSWORD,
  })
  await provisionRegistry(superuserUrl, config.REGISTRY_PASSWORD)
  const MIGRATE_DATABASE_URL = `postgres://pennywire_owner:${config.PENNYWIRE_OWNER_PASSWORD}@${config.POSTGRES_HOST}/${DATABASE}`
  for (const service of ['ledger', 'gateway', 'notifier', 'audit'])
    run(`services/${service}/src/migrate.ts`, { MIGRATE_DATABASE_URL })
}

const setUpTopics = async () => {
  const { REGISTRY_URL } = loadConfig({ REGISTRY_URL: z.url() }, process.env)
  // The registry's image contains no client for a health check.
  await waitUntil('the schema registry', async () => (await fetch(`${REGISTRY_URL}/subjects`)).ok, {
    deadlineMs: 180_000,
  })
  run('packages/kafka/src/set-up.ts', {})
}

const parts: Record<string, () => Promise<void>> = { database: setUpDatabase, topics: setUpTopics }
const part = parts[process.argv[2] ?? '']
if (!part) {
  console.error(`usage: set-up-containers.ts ${Object.keys(parts).join('|')}`)
  process.exit(2)
}
await part()
