import type { kafkaSettings } from '@pennywire/runtime/config.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import kafkajs from 'kafkajs'
import type { z } from 'zod'

const { Kafka, logLevel } = kafkajs

/** kafkajs is used only inside this package: correctness never depends on it, and it can be replaced here. */
export type KafkaClient = kafkajs.Kafka

const LEVELS = {
  [logLevel.ERROR]: 'warn',
  [logLevel.WARN]: 'warn',
  [logLevel.INFO]: 'debug',
  [logLevel.DEBUG]: 'trace',
  [logLevel.NOTHING]: 'trace',
} as const

const RETRY = { initialRetryTime: 100, maxRetryTime: 1_000, retries: 8 }
/**
 * About a minute. A kafkajs consumer that gives up rejoins as a new member of its group, and its partitions wait until
 * the old member's session ends; a consumer that keeps trying is still a member when the brokers are back.
 */
export const CONSUMER_RETRY = { ...RETRY, retries: 60 }

/** The brokers, and the credentials for them. Certificates are PEM texts. */
export type KafkaConnection = {
  brokers: string[]
  ssl?: { ca?: string; cert?: string; key?: string }
  sasl?: { mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; username: string; password: string }
}

/** The connection that kafkaSettings describe. Throws if the SASL settings are incomplete. */
export const kafkaConnectionOf = (
  settings: {
    [Name in keyof typeof kafkaSettings]?: z.output<(typeof kafkaSettings)[Name]> | undefined
  },
): KafkaConnection => {
  const { KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD } = settings
  const given = [KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD].filter(
    one => one !== undefined,
  )
  if (given.length !== 0 && given.length !== 3)
    throw new Error('KAFKA_SASL_MECHANISM, KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD(_FILE) go together')
  const ssl = {
    ...(settings.KAFKA_CA_FILE === undefined ? {} : { ca: settings.KAFKA_CA_FILE }),
    ...(settings.KAFKA_CERT_FILE === undefined ? {} : { cert: settings.KAFKA_CERT_FILE }),
    ...(settings.KAFKA_KEY_FILE === undefined ? {} : { key: settings.KAFKA_KEY_FILE }),
  }
  return {
    brokers: settings.KAFKA_BROKERS!,
    ...(settings.KAFKA_TLS === 'true' ? { ssl } : {}),
    ...(KAFKA_SASL_MECHANISM
      ? {
          sasl: {
            mechanism: KAFKA_SASL_MECHANISM,
            username: KAFKA_SASL_USERNAME!,
            password: KAFKA_SASL_PASSWORD!,
          },
        }
      : {}),
  }
}

/** A client for the brokers. Connects on first use. kafkajs retries its own errors, so they are logged as warnings. */
export const createKafkaClient = (options: {
  connection: KafkaConnection
  clientId: string
  logger: Logger
}): KafkaClient => {
  const { brokers, ssl, sasl } = options.connection
  const settings: kafkajs.KafkaConfig = {
    brokers,
    ...(ssl ? { ssl } : {}),
    ...(sasl ? { sasl: sasl as kafkajs.SASLOptions } : {}),
    clientId: options.clientId,
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: RETRY,
    logCreator: () => entry => {
      const { message, timestamp: _, logger: __, ...details } = entry.log
      options.logger[LEVELS[entry.level]]({ kafka: details }, message)
    },
  }
  const client = new Kafka(settings)
  const patient = new Kafka({ ...settings, retry: CONSUMER_RETRY })
  client.consumer = config => patient.consumer(config)
  return client
}

/** Requests the brokers' metadata; rejects if none answers. For readiness. */
export const createBrokerCheck = (client: KafkaClient) => {
  const admin = client.admin()
  let connected: Promise<void> | undefined
  return {
    check: async (): Promise<void> => {
      connected ??= admin.connect().catch(error => {
        connected = undefined
        throw error
      })
      await connected
      await admin.describeCluster()
    },
    close: async (): Promise<void> => {
      if (connected) await admin.disconnect()
    },
  }
}
