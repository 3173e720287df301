import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { KAFKA_USERS } from '@pennywire/kafka/access.ts'
import { keysFolder } from './keys.ts'
import { checkpointFile, type System, services } from './system.ts'

/** The file with a running system's addresses, for commands in other terminals. It contains passwords: mode 0600. */
export const endpointsFile = (dataDir: string): string => join(dataDir, 'keys', 'endpoints.json')

export const writeEndpoints = (system: System): void => {
  const { stack } = system
  const endpoints = {
    GATEWAY_URL: system.gatewayUrl,
    MAIL_URL: stack.mail.httpUrl,
    kafka: Object.fromEntries(KAFKA_USERS.map(user => [user, stack.kafkaEnv(user)])),
    REGISTRY_URL: stack.registryUrl,
    ...Object.fromEntries(
      services.map(service => [`${service.toUpperCase()}_DATABASE_URL`, system.databaseUrl(service)]),
    ),
    OWNER_DATABASE_URL: system.databaseUrl('pennywire_owner'),
    // Only ledger:rebuild uses it, to create a database.
    SUPERUSER_DATABASE_URL: system.superuserUrl,
    NOTIFIER_URL: system.databaseUrl('notifier_client'),
    LEDGER_READ_URL: system.databaseUrl('ledger_reader'),
    AUDIT_READ_URL: system.databaseUrl('audit_reader'),
    REDIS_URL: stack.gatewayRedisUrl,
    OPS_URLS: services.map(service => system.opsUrl(service)).join(','),
    PROVIDER_URL: stack.providerUrl,
    COMMAND_MAC_FILE: join(keysFolder(system.dataDir), 'command-mac.json'),
    CHECKPOINT_PUBLIC_FILE: join(keysFolder(system.dataDir), 'checkpoint-public.json'),
    CHECKPOINT_FILE: checkpointFile(system.dataDir, 1),
    PROVIDER_SECRET_FILE: join(keysFolder(system.dataDir), 'provider-secret.json'),
  }
  writeFileSync(endpointsFile(system.dataDir), `${JSON.stringify(endpoints, null, 2)}\n`, { mode: 0o600 })
}
