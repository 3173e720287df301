import type { Topic } from '@pennywire/contracts/topics.ts'
import { TOPICS } from '@pennywire/contracts/topics.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { textOf } from '@pennywire/runtime/watch-foundation.ts'
import kafkajs from 'kafkajs'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { findTopicFaults, repairTopics, wantedSettings } from './check-topics.ts'
import { createKafkaClient } from './client.ts'

const logger = createLogger('test', { level: 'silent', instance: 'test' })
const admin = createKafkaClient({
  connection: inject('stack').kafka,
  clientId: 'check-topics-test',
  logger,
}).admin()
const config = { REPLICATION_FACTOR: 1 }
// No service watches this one.
const TOPIC = 'notifier.dead-letters'

const set = (settings: Record<string, string>) =>
  admin.alterConfigs({
    validateOnly: false,
    resources: [
      {
        type: kafkajs.ConfigResourceTypes.TOPIC,
        name: TOPIC,
        configEntries: Object.entries({ ...wantedSettings(TOPIC, config), ...settings }).map(
          ([name, value]) => ({ name, value }),
        ),
      },
    ],
  })
const faults = async (wanted: Parameters<typeof findTopicFaults>[2] = config) =>
  (await findTopicFaults(admin, [TOPIC], wanted)).map(textOf)

beforeAll(() => admin.connect())
afterAll(async () => {
  await set({})
  await admin.disconnect()
})

test('O1: the topics that the set-up makes are as they must be', async () => {
  expect(await findTopicFaults(admin, Object.keys(TOPICS) as Topic[], config)).toEqual([])
})

test.each([
  ['retention.ms', '1000'],
  ['retention.bytes', '1000000'],
  ['cleanup.policy', 'compact'],
  ['max.message.bytes', '1048588'],
  ['unclean.leader.election.enable', 'true'],
])(
  'O1: a topic with another %s is named, and repaired without a change of what else is set',
  async (setting, value) => {
    await set({ [setting]: value, 'segment.ms': '86400000' })
    expect(await faults()).toEqual([
      `${TOPIC}: ${setting} is ${value}, must be ${wantedSettings(TOPIC, config)[setting]}`,
    ])
    await repairTopics(admin, await findTopicFaults(admin, [TOPIC], config), config)
    expect(await faults()).toEqual([])
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: kafkajs.ConfigResourceTypes.TOPIC, name: TOPIC, configNames: ['segment.ms'] }],
    })
    expect(resources[0]!.configEntries[0]!.configValue).toBe('86400000')
  },
)

test('O1: fewer replicas than the settings of production ask for are named', async () => {
  expect(await faults({ REPLICATION_FACTOR: 3 })).toEqual([
    `${TOPIC}: min.insync.replicas is 1, must be 2`,
    `${TOPIC}: replication factor is 1, must be 3`,
  ])
})
