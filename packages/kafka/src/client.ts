import type { Logger } from '@pennywire/runtime/logger.ts'
import kafkajs from 'kafkajs'

const { Kafka, logLevel } = kafkajs

/** kafkajs speaks only inside this package: correctness never rests on it, and it can be replaced here. */
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
 * About a minute. A consumer of kafkajs that gives up starts again as a new member of its group, and its partitions wait
 * until the old one's session has ended; one that keeps trying is still a member when the brokers are back.
 */
export const CONSUMER_RETRY = { ...RETRY, retries: 60 }

/** A client for the brokers. Connections are made on first use; the client's own errors are retried, so they warn. */
export const createKafkaClient = (options: {
  brokers: string[]
  clientId: string
  logger: Logger
}): KafkaClient => {
  const settings: kafkajs.KafkaConfig = {
    brokers: options.brokers,
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

/** Asks the brokers for their metadata; rejects where none answers. For readiness. */
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
