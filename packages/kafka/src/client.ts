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

/** A client for the brokers. Connections are made on first use; the client's own errors are retried, so they warn. */
export const createKafkaClient = (options: {
  brokers: string[]
  clientId: string
  logger: Logger
}): KafkaClient =>
  new Kafka({
    brokers: options.brokers,
    clientId: options.clientId,
    connectionTimeout: 3_000,
    requestTimeout: 10_000,
    retry: { initialRetryTime: 100, maxRetryTime: 2_000, retries: 8 },
    logCreator: () => entry => {
      const { message, timestamp: _, logger: __, ...details } = entry.log
      options.logger[LEVELS[entry.level]]({ kafka: details }, message)
    },
  })

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
