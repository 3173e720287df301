// Creates the topics and registers the schemas: `node packages/kafka/src/set-up.ts`. May run any number of times.
import { RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { kafkaSettings, loadConfig, registrySettings } from '@pennywire/runtime/config.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { textOf } from '@pennywire/runtime/watch-foundation.ts'
import { z } from 'zod'
import { applyAccess } from './access.ts'
import { findTopicFaults, repairTopics, topicSettings, wantedSettings } from './check-topics.ts'
import { createKafkaClient, kafkaConnectionOf } from './client.ts'
import { connectRegistry, registryAccessOf } from './codec.ts'

const config = loadConfig(
  {
    ...kafkaSettings,
    ...registrySettings,
    /** Whether the brokers authenticate clients: then each user gets the rights of access.ts, and no more. */
    KAFKA_ACCESS_LISTS: z.enum(['true', 'false']).default('false'),
    ...topicSettings,
    /** If a topic exists with other settings: set the right ones, or end the set-up with an error that names them. */
    TOPIC_SETTINGS: z.enum(['repair', 'refuse']).default('repair'),
  },
  process.env,
)
const logger = createLogger('set-up', { level: 'warn', instance: 'set-up' })

const createTopics = async () => {
  const admin = createKafkaClient({
    connection: kafkaConnectionOf(config),
    clientId: 'set-up',
    logger,
  }).admin()
  const names = Object.keys(TOPICS) as Topic[]
  await admin.connect()
  try {
    await admin.createTopics({
      waitForLeaders: true,
      topics: names.map(topic => ({
        topic,
        numPartitions: TOPICS[topic].partitions,
        replicationFactor: config.REPLICATION_FACTOR,
        configEntries: Object.entries(wantedSettings(topic, config)).map(([name, value]) => ({
          name,
          value,
        })),
      })),
    })
    if (config.KAFKA_ACCESS_LISTS === 'true') await applyAccess(admin)
    const faults = await findTopicFaults(admin, names, config)
    const lasting = faults.filter(
      ({ of, setting }) =>
        config.TOPIC_SETTINGS === 'refuse' || !(setting in wantedSettings(of as Topic, config)),
    )
    if (lasting.length > 0)
      throw new Error(
        `the topics are not as they must be; their partition count changes by a drained migration only:\n${lasting.map(textOf).join('\n')}`,
      )
    for (const fault of faults) logger.warn(fault, `repaired: ${textOf(fault)}`)
    await repairTopics(admin, faults, config)
  } finally {
    await admin.disconnect()
  }
}

const registerSchemas = async () => {
  const registry = connectRegistry(config.REGISTRY_URL, registryAccessOf(config))
  // One after the other: a registry on a small machine takes parallel first registrations badly.
  for (const name of RECORD_NAMES) await registry.register(name)
}

await Promise.all([createTopics(), registerSchemas()])
