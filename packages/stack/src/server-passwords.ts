import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { KAFKA_USERS, type KafkaUser } from '@pennywire/kafka/access.ts'
import type { KafkaConnection } from '@pennywire/kafka/client.ts'
import { keysFolder, writeOnce } from './keys.ts'

/** The user that sets Kafka up; no other user may create topics or change access control lists. */
export const KAFKA_ADMIN = 'admin'
export const REDIS_ADMIN = 'default'
export const REDIS_USER = 'gateway'

const passwordFile = (dataDir: string, server: 'kafka' | 'redis', user: string) =>
  join(keysFolder(dataDir), `${server}-${user}.password`)

const loadPassword = (dataDir: string, server: 'kafka' | 'redis', user: string): string => {
  const file = passwordFile(dataDir, server, user)
  writeOnce(keysFolder(dataDir), `${server}-${user}.password`, `${randomBytes(24).toString('hex')}\n`)
  return readFileSync(file, 'utf8').trim()
}

/** Kafka's users with their passwords; generates missing ones. */
export const loadKafkaPasswords = (dataDir: string): Map<string, string> =>
  new Map([KAFKA_ADMIN, ...KAFKA_USERS].map(user => [user, loadPassword(dataDir, 'kafka', user)]))

export const loadRedisPassword = (dataDir: string, user: typeof REDIS_ADMIN | typeof REDIS_USER): string =>
  loadPassword(dataDir, 'redis', user)

/** The environment of a process that connects to Kafka as this user. */
export const kafkaEnv = (
  dataDir: string,
  brokers: string,
  user: KafkaUser | typeof KAFKA_ADMIN,
): Record<string, string> => ({
  KAFKA_BROKERS: brokers,
  KAFKA_SASL_MECHANISM: 'plain',
  KAFKA_SASL_USERNAME: user,
  KAFKA_SASL_PASSWORD_FILE: passwordFile(dataDir, 'kafka', user),
})

/** The same for a client in this process. */
export const kafkaConnection = (
  dataDir: string,
  brokers: string,
  user: KafkaUser | typeof KAFKA_ADMIN,
): KafkaConnection => ({
  brokers: brokers.split(','),
  sasl: { mechanism: 'plain', username: user, password: loadPassword(dataDir, 'kafka', user) },
})
