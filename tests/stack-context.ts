import type { KafkaUser } from '@pennywire/kafka/access.ts'
import type { KafkaConnection } from '@pennywire/kafka/client.ts'
import type { KAFKA_ADMIN } from '@pennywire/stack/server-passwords.ts'

/** What tests with real servers get of the one stack that is started for all of them: `inject('stack')`. */
export type StackContext = {
  superuserUrl: string
  /** As the user who may do everything. */
  kafka: KafkaConnection
  /** The settings of a process that asks Kafka as a user of its own, or as who may do everything. */
  kafkaEnv: Record<KafkaUser | typeof KAFKA_ADMIN, Record<string, string>>
  registryUrl: string
  redisUrl: string
  mail: { smtpUrl: string; httpUrl: string }
  providerUrl: string
}

/** And of the whole system that runs on it: `inject('system')`. */
export type SystemContext = {
  gatewayUrl: string
  /** Where each service's `/readyz` and `/metrics` are. */
  opsUrls: Record<'gateway' | 'ledger' | 'notifier' | 'audit', string>
  /** Where processes are killed, stopped and started: see control.ts. */
  controlUrl: string
  dataDir: string
  /** The system's database, by role. */
  databaseUrls: Record<
    'superuser' | 'owner' | 'ledger' | 'gateway' | 'audit' | 'ledger_reader' | 'notifier_reader',
    string
  >
  /** The environment of each service, for a command that a test starts itself. */
  env: Record<'gateway' | 'ledger' | 'notifier' | 'audit', Record<string, string>>
}

declare module 'vitest' {
  interface ProvidedContext {
    stack: StackContext
    system: SystemContext
  }
}
