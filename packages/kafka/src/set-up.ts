// Creates the topics and registers the schemas: `node packages/kafka/src/set-up.ts`. May run any number of times.
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { TOPICS } from '@pennywire/contracts/topics.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { z } from 'zod'
import { applyAccess } from './access.ts'
import { createKafkaClient, kafkaConnectionOf } from './client.ts'
import { connectRegistry, registryAccessOf } from './codec.ts'

const config = loadConfig(
  {
    ...kafkaSettings,
    ...registrySettings,
    /** Whether the brokers ask who somebody is: then each gets what access.ts gives, and no more. */
    KAFKA_ACCESS_LISTS: z.enum(['true', 'false']).default('false'),
    REPLICATION_FACTOR: z.coerce.number().int().min(1).max(9).default(1),
  },
  process.env,
)
const logger = createLogger('set-up', { level: 'warn', instance: 'set-up' })

/**
 * A dead letter is the record as received and its reason, so the largest record that any topic takes (1 MiB) must fit
 * with room to spare: one that does not would hold its partition for ever. Binary headers triple as text.
 */
const DEAD_LETTER_MAX_BYTES = String(4 * 1024 * 1024)

const createTopics = async () => {
  const admin = createKafkaClient({
    connection: kafkaConnectionOf(config),
    clientId: 'set-up',
    logger,
  }).admin()
  await admin.connect()
  await admin.createTopics({
    waitForLeaders: true,
    topics: Object.entries(TOPICS).map(([topic, { partitions, retentionMs }]) => ({
      topic,
      numPartitions: partitions,
      replicationFactor: config.REPLICATION_FACTOR,
      configEntries: [
        { name: 'retention.ms', value: String(retentionMs) },
        { name: 'cleanup.policy', value: 'delete' },
        ...(topic.endsWith('.dead-letters')
          ? [{ name: 'max.message.bytes', value: DEAD_LETTER_MAX_BYTES }]
          : []),
      ],
    })),
  })
  if (config.KAFKA_ACCESS_LISTS === 'true') await applyAccess(admin)
  const { topics } = await admin.fetchTopicMetadata({ topics: Object.keys(TOPICS) })
  await admin.disconnect()
  for (const { name, partitions } of topics) {
    const wanted = TOPICS[name as keyof typeof TOPICS].partitions
    if (partitions.length !== wanted) {
      throw new Error(
        `topic ${name} has ${partitions.length} partitions, not ${wanted}; changing that is a drained migration`,
      )
    }
  }
}

const registerSchemas = async () => {
  const registry = connectRegistry(config.REGISTRY_URL, registryAccessOf(config))
  // One after the other: a registry on a small machine takes parallel first registrations badly.
  for (const name of RECORD_NAMES) await registry.register(name)
}

await Promise.all([createTopics(), registerSchemas()])
