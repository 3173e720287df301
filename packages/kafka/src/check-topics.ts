import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type { FoundationFault } from '@pennywire/runtime/watch-foundation.ts'
import kafkajs from 'kafkajs'
import { z } from 'zod'
import type { KafkaClient } from './client.ts'

/** What the topics of an installation are like: the same for the set-up and for every service that checks them. */
export const topicSettings = {
  REPLICATION_FACTOR: z.coerce
    .number()
    .int()
    .min(1)
    .max(9)
    .default(1)
    .describe('Copies of each partition, at least. In production 3.'),
  MIN_INSYNC_REPLICAS: z.coerce
    .number()
    .int()
    .min(1)
    .max(9)
    .optional()
    .describe(
      'Copies that must have a record before it counts as written; without it a majority of `REPLICATION_FACTOR`.',
    ),
}
export type TopicConfig = { REPLICATION_FACTOR: number; MIN_INSYNC_REPLICAS?: number | undefined }

/** The settings on which the promises rest. */
export const wantedSettings = (topic: Topic, config: TopicConfig): Record<string, string> => ({
  'retention.ms': String(TOPICS[topic].retentionMs),
  'retention.bytes': '-1',
  'cleanup.policy': 'delete',
  'max.message.bytes': String(TOPICS[topic].maxMessageBytes),
  'min.insync.replicas': String(config.MIN_INSYNC_REPLICAS ?? Math.floor(config.REPLICATION_FACTOR / 2) + 1),
  'unclean.leader.election.enable': 'false',
})

/** A topic may have more of these than wanted, not less. */
const AT_LEAST = new Set(['max.message.bytes', 'min.insync.replicas', 'replication factor'])
/** Too small, it stops records and loses none. */
const HARMLESS = new Set(['max.message.bytes'])

type Admin = ReturnType<KafkaClient['admin']>

/** Every setting of these topics that is not as wanted. Rejects where a topic is missing or Kafka does not answer. */
export const findTopicFaults = async (
  admin: Admin,
  topics: readonly Topic[],
  config: TopicConfig,
): Promise<FoundationFault[]> => {
  const [{ topics: metadata }, { resources }] = await Promise.all([
    admin.fetchTopicMetadata({ topics: [...topics] }),
    admin.describeConfigs({
      includeSynonyms: false,
      resources: topics.map(name => ({ type: kafkajs.ConfigResourceTypes.TOPIC, name })),
    }),
  ])
  return topics.flatMap(topic => {
    const partitions = metadata.find(({ name }) => name === topic)?.partitions ?? []
    const entries = resources.find(({ resourceName }) => resourceName === topic)?.configEntries ?? []
    const found: Record<string, string> = {
      ...Object.fromEntries(entries.map(({ configName, configValue }) => [configName, configValue])),
      partitions: String(partitions.length),
      'replication factor': String(Math.min(...partitions.map(({ replicas }) => replicas.length))),
    }
    const wanted: Record<string, string> = {
      ...wantedSettings(topic, config),
      partitions: String(TOPICS[topic].partitions),
      'replication factor': String(config.REPLICATION_FACTOR),
    }
    return Object.entries(wanted).flatMap(([setting, value]) => {
      const is = found[setting]
      if (is === value || (AT_LEAST.has(setting) && Number(is) > Number(value))) return []
      return [
        { of: topic, setting, found: is ?? 'nothing', wanted: value, losesMoney: !HARMLESS.has(setting) },
      ]
    })
  })
}

/** Sets settings of a topic and leaves its others alone, which Kafka would put back to their defaults. */
export const changeTopic = async (
  admin: Admin,
  name: Topic,
  settings: Record<string, string>,
): Promise<void> => {
  const topic = { type: kafkajs.ConfigResourceTypes.TOPIC, name }
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [topic] })
  const own = resources[0]!.configEntries
    .filter(({ isDefault, isSensitive, readOnly }) => !isDefault && !isSensitive && !readOnly)
    .map(({ configName, configValue }) => [configName, configValue] as const)
  await admin.alterConfigs({
    validateOnly: false,
    resources: [
      {
        ...topic,
        configEntries: Object.entries({ ...Object.fromEntries(own), ...settings }).map(([name, value]) => ({
          name,
          value,
        })),
      },
    ],
  })
}

/** Sets what is not as wanted and keeps what else was set; replaces all of a topic's settings, as Kafka's request does. */
export const repairTopics = async (
  admin: Admin,
  faults: readonly FoundationFault[],
  config: TopicConfig,
): Promise<void> => {
  for (const [name, own] of Map.groupBy(faults, ({ of }) => of as Topic)) {
    const wanted = wantedSettings(name, config)
    await changeTopic(admin, name, Object.fromEntries(own.map(({ setting }) => [setting, wanted[setting]!])))
  }
}

/** Asks for the topics' settings again and again, over one connection. */
export const createTopicCheck = (client: KafkaClient, topics: readonly Topic[], config: TopicConfig) => {
  const admin = client.admin()
  let connected: Promise<void> | undefined
  return {
    find: async (): Promise<FoundationFault[]> => {
      connected ??= admin.connect().catch(error => {
        connected = undefined
        throw error
      })
      await connected
      return findTopicFaults(admin, topics, config)
    },
    close: async (): Promise<void> => {
      if (connected) await admin.disconnect()
    },
  }
}
