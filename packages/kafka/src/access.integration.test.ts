// The brokers refuse any access beyond ARCHITECTURE.md's table of topics; tested with each service's own credentials.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { applyAccess, KAFKA_ACCESS, KAFKA_USERS, type KafkaUser } from './access.ts'
import { createKafkaClient, type KafkaClient } from './client.ts'

const { kafka, kafkaEnv } = inject('stack')
const logger = createLogger('test', { level: 'silent', instance: 'test' })
const TOPIC_NAMES = Object.keys(TOPICS) as Topic[]

const clientOf = (username: string, password: string) =>
  createKafkaClient({
    connection: { brokers: kafka.brokers, sasl: { mechanism: 'plain', username, password } },
    clientId: 'access-test',
    logger,
  })
const passwordOf = (user: KafkaUser) => readFileSync(kafkaEnv[user].KAFKA_SASL_PASSWORD_FILE!, 'utf8').trim()
const outcomeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'allowed',
    error => String(error.type ?? error.cause?.type ?? error.name),
  )

describe.each(KAFKA_USERS)('%s', user => {
  let client: KafkaClient
  let admin: ReturnType<KafkaClient['admin']>
  let producer: ReturnType<KafkaClient['producer']>
  beforeAll(async () => {
    client = clientOf(user, passwordOf(user))
    admin = client.admin({ retry: { retries: 0 } })
    producer = client.producer({ retry: { retries: 0 }, allowAutoTopicCreation: false })
    await Promise.all([admin.connect(), producer.connect()])
  })
  afterAll(() => Promise.all([admin.disconnect(), producer.disconnect()]))

  const others = TOPIC_NAMES.filter(topic => !(KAFKA_ACCESS[user].writes as readonly Topic[]).includes(topic))
  test.each(others)('M1: may not write %s', async topic => {
    const send = producer.send({ topic, messages: [{ key: 'x', value: 'forged' }] })
    // kafkajs finds no partitions of a topic that the user may not describe.
    expect(await outcomeOf(send)).toMatch(/^(TOPIC_AUTHORIZATION_FAILED|KafkaJSNonRetriableError)$/)
  })

  const unread = TOPIC_NAMES.filter(topic => {
    const { reads, writes } = KAFKA_ACCESS[user] as { reads: readonly Topic[]; writes: readonly Topic[] }
    return !reads.includes(topic) && !writes.includes(topic)
  })
  test('may not see the topics that are none of its business', async () => {
    for (const topic of unread)
      expect(await outcomeOf(admin.fetchTopicOffsets(topic)), topic).toBe('TOPIC_AUTHORIZATION_FAILED')
  })

  test('may not make a topic, give itself rights, or move the ledger’s group', async () => {
    const topic = `made-by-${user}`
    expect(await outcomeOf(admin.createTopics({ topics: [{ topic }] }))).not.toBe('allowed')
    expect(await outcomeOf(applyAccess(admin))).toBe('CLUSTER_AUTHORIZATION_FAILED')
    if (user === 'ledger') return
    const partitions = [{ partition: 0, offset: '0' }]
    expect(
      await outcomeOf(admin.setOffsets({ groupId: 'ledger', topic: 'ledger.commands', partitions })),
    ).not.toBe('allowed')
  })
})

test.each([
  ['nobody in particular', undefined],
  [
    'a user with a wrong password',
    { mechanism: 'plain' as const, username: 'gateway', password: randomUUID() },
  ],
  ['a user whom nobody knows', { mechanism: 'plain' as const, username: 'mallory', password: 'mallory' }],
])('the brokers do not speak with %s', async (_who, sasl) => {
  const connection = { brokers: kafka.brokers, ...(sasl ? { sasl } : {}) }
  const admin = createKafkaClient({ connection, clientId: 'access-test', logger }).admin({
    retry: { retries: 0 },
  })
  expect(await outcomeOf(admin.connect().then(() => admin.listTopics()))).not.toBe('allowed')
  await admin.disconnect()
})
