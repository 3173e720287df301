// The context of a running system for tests, and the settings with which tests run it.
import { KAFKA_USERS } from '@pennywire/kafka/access.ts'
import { KAFKA_ADMIN } from '@pennywire/stack/server-passwords.ts'
import type { Stack } from '@pennywire/stack/stack.ts'
import type { System } from '@pennywire/stack/system.ts'
import type { StackContext, SystemContext } from './stack-context.ts'

/** A limit that a test of hundreds of requests does not reach; tests of the limits start their own gateways. */
const MANY = '100000/60'

export const TEST_SETTINGS = {
  ALLOW_CHEAP_HASHES: 'true',
  BCRYPT_COST: '4',
  BOOTSTRAP_ADMIN_EMAIL: 'root@example.com',
  // Only users who choose receipts get them: thousands of test payments are not mailed.
  MAILED_KINDS: '',
  // Receivers of webhooks are tests on this machine.
  WEBHOOK_ALLOW_PRIVATE: 'true',
  MAIL_CALLBACK_SECRET: 'the mail server of the tests, and nobody else',
  // Unfinished payments of a test are looked at within moments.
  PAYMENT_LOOK_SECONDS: '0.5',
  ...Object.fromEntries(
    [
      'SIGNUP',
      'LOGIN',
      'LOGIN_ACCOUNT',
      'PIN',
      'TRANSFER',
      'DEPOSIT',
      'WITHDRAWAL',
      'RECIPIENT',
      'STATEMENT',
      'RECEIPT',
      'DEFAULT',
      'MAIL',
      'API_KEY',
      'API_KEYS',
    ].map(limit => [`RATE_LIMIT_${limit}`, MANY]),
  ),
  // High, because tests fill wallets by the thousand; tests of the limits set their own.
  LIMITS_UNVERIFIED: '*=900000000000/900000000000/900000000000',
  SANDBOX_DELAY_MS: '1000',
  // Metrics are not cached.
  OPS_KEEP_SECONDS: '0',
  // A test that waits for a signed checkpoint waits a moment.
  CHECKPOINT_SECONDS: '1',
  // Holds expire while a test waits.
  HOLD_MIN_SECONDS: '1',
  HOLD_EXPIRY_SECONDS: '0.2',
}

const withoutUndefined = (env: NodeJS.ProcessEnv): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined))

export const stackContextOf = (stack: Stack): StackContext => ({
  dataDir: stack.dataDir,
  superuserUrl: stack.postgres.superuserUrl,
  kafka: stack.kafka,
  kafkaEnv: Object.fromEntries(
    ([KAFKA_ADMIN, ...KAFKA_USERS] as const).map(user => [user, stack.kafkaEnv(user)]),
  ) as StackContext['kafkaEnv'],
  registryUrl: stack.registryUrl,
  redisUrl: stack.redisUrl,
  gatewayRedisUrl: stack.gatewayRedisUrl,
  mail: stack.mail,
  providerUrl: stack.providerUrl,
})

export const systemContextOf = (system: System, controlUrl: string): SystemContext => ({
  gatewayUrl: system.gatewayUrl,
  opsUrls: {
    gateway: system.opsUrl('gateway'),
    ledger: system.opsUrl('ledger'),
    notifier: system.opsUrl('notifier'),
    audit: system.opsUrl('audit'),
  },
  controlUrl,
  dataDir: system.dataDir,
  databaseUrls: {
    superuser: system.superuserUrl.replace(/\/postgres$/, '/pennywire'),
    owner: system.databaseUrl('pennywire_owner'),
    ledger: system.databaseUrl('ledger'),
    gateway: system.databaseUrl('gateway'),
    audit: system.databaseUrl('audit'),
    ledger_reader: system.databaseUrl('ledger_reader'),
    notifier_reader: system.databaseUrl('notifier_reader'),
  },
  env: {
    gateway: withoutUndefined(system.env('gateway')),
    ledger: withoutUndefined(system.env('ledger')),
    notifier: withoutUndefined(system.env('notifier')),
    audit: withoutUndefined(system.env('audit')),
  },
})
