import type { KafkaUser } from '@pennywire/kafka/access.ts'
import type { KafkaConnection } from '@pennywire/kafka/client.ts'
import type { KAFKA_ADMIN } from '@pennywire/stack/server-passwords.ts'

/** The servers that a run's integration tests share, and those of its whole system: `inject('stack')`. */
export type StackContext = {
  dataDir: string
  superuserUrl: string
  /** The connection as the admin user, who has all permissions. */
  kafka: KafkaConnection
  /** The settings of a process that connects to Kafka as the given user, or as the admin user. */
  kafkaEnv: Record<KafkaUser | typeof KAFKA_ADMIN, Record<string, string>>
  registryUrl: string
  /** As the user with all rights. */
  redisUrl: string
  /** As the gateway's user. */
  gatewayRedisUrl: string
  mail: { smtpUrl: string; httpUrl: string }
  providerUrl: string
}

/** The whole system on a stack of its own: `inject('system')`. Only the files in tests/ have one. */
export type SystemContext = {
  gatewayUrl: string
  /** The URL of each service's `/readyz` and `/metrics`. */
  opsUrls: Record<'gateway' | 'ledger' | 'notifier' | 'audit', string>
  /** The URL at which processes are killed, stopped and started: see control.ts. */
  controlUrl: string
  dataDir: string
  /** The system's database, by role. */
  databaseUrls: Record<
    'superuser' | 'owner' | 'ledger' | 'gateway' | 'audit' | 'ledger_reader' | 'notifier_reader',
    string
  >
  /** The environment of each service, for a command that a test starts. */
  env: Record<'gateway' | 'ledger' | 'notifier' | 'audit', Record<string, string>>
}

declare module 'vitest' {
  interface ProvidedContext {
    stack: StackContext
    system: SystemContext
  }
}
