// Starts one stack and the whole system on it for a test run, on free ports with data of their own, and removes all.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startStack } from '@pennywire/stack/stack.ts'
import { startSystem } from '@pennywire/stack/system.ts'
import type { TestProject } from 'vitest/node'
import { startControl } from './control.ts'

/** Limits that a test of hundreds of requests does not meet; tests of the limits run gateways of their own. */
const MANY = '100000/60'

const TEST_SETTINGS = {
  ALLOW_CHEAP_HASHES: 'true',
  BCRYPT_COST: '4',
  ...Object.fromEntries(
    ['SIGNUP', 'LOGIN', 'PIN', 'TRANSFER', 'DEPOSIT', 'WITHDRAWAL', 'RECIPIENT', 'DEFAULT', 'MAIL'].map(
      limit => [`RATE_LIMIT_${limit}`, MANY],
    ),
  ),
  SANDBOX_DELAY_MS: '1000',
}

const withoutUndefined = (env: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined))

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-test-'))
  // The servers inherit this process's environment.
  process.env.SANDBOX_DELAY_MS = TEST_SETTINGS.SANDBOX_DELAY_MS
  const report = (line: string) => console.log(`  ${line}`)
  const stack = await startStack({ dataDir, report })
  const system = await startSystem(stack, { env: { all: TEST_SETTINGS }, report })
  const control = await startControl(system)

  project.provide('stack', {
    superuserUrl: stack.postgres.superuserUrl,
    kafkaBrokers: stack.kafkaBrokers,
    registryUrl: stack.registryUrl,
    redisUrl: stack.redisUrl,
    mail: stack.mail,
    providerUrl: stack.providerUrl,
  })
  project.provide('system', {
    gatewayUrl: system.gatewayUrl,
    ledgerUrl: system.serviceUrl('ledger'),
    notifierUrl: system.serviceUrl('notifier'),
    auditUrl: system.serviceUrl('audit'),
    controlUrl: control.url,
    dataDir,
    databaseUrls: {
      superuser: system.superuserUrl.replace(/\/postgres$/, '/pennywire'),
      ledger: system.databaseUrl('ledger'),
      gateway: system.databaseUrl('gateway'),
      audit: system.databaseUrl('audit'),
      ledger_reader: system.databaseUrl('ledger_reader'),
    },
    env: {
      gateway: withoutUndefined(system.env('gateway')),
      ledger: withoutUndefined(system.env('ledger')),
      notifier: withoutUndefined(system.env('notifier')),
      audit: withoutUndefined(system.env('audit')),
    },
  })
  return async () => {
    await control.stop()
    await system.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}
