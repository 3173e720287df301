import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type { FoundationFault } from '@pennywire/runtime/watch-foundation.ts'
import kafkajs from 'kafkajs'
import { z } from 'zod'
import type { KafkaClient } from './client.ts'

/** The topic settings of an installation: the set-up and every service that checks topics use the same ones. */
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

/** The topic settings on which the promises rest. */
export const wantedSettings = (topic: Topic, config: TopicConfig): Record<string, string> => ({
  'retention.ms': String(TOPICS[topic].retentionMs),
  'retention.bytes': '-1',
  'cleanup.policy': 'delete',
  'max.message.bytes': String(TOPICS[topic].maxMessageBytes),
  'min.insync.replicas': String(config.MIN_INSYNC_REPLICAS ?? Math.floor(config.REPLICATION_FACTOR / 2) + 1),
  'unclean.leader.election.enable': 'false',
})

/** Minimums: a topic may exceed the wanted value. */
const AT_LEAST = new Set(['max.message.bytes', 'min.insync.replicas', 'replication factor'])
/** Too small a value stops records but loses none. */
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

/** Sets some settings of a topic and keeps its others, which Kafka would reset to their defaults. */
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

/** Repairs the faulty settings and keeps the topic's others; sends all, because Kafka's request replaces them all. */
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

/** Checks the topics' settings repeatedly, over one connection. */
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
