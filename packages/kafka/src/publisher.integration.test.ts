import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, inject, test } from 'vitest'
import { createKafkaClient } from './client.ts'
import { createPublisher } from './publisher.ts'

const { kafka } = inject('stack')

test('records that Kafka would refuse together are sent one batch after the other, in order', async () => {
  const logger = createLogger('test', { level: 'silent', instance: 'test' })
  const client = createKafkaClient({ connection: kafka, clientId: 'publisher-test', logger })
  const publisher = await createPublisher(client)
  const acknowledged: number[] = []
  try {
    await Promise.all(
      Array.from({ length: 2_000 }, async (_, index) => {
        await publisher.publish({
          topic: 'notifier.dead-letters',
          key: String(index),
          value: Buffer.alloc(3_000),
          headers: { large: 'x'.repeat(1_000) },
        })
        acknowledged.push(index)
      }),
    )
    // The largest record of other topics fits into a dead letter, with its reason.
    await publisher.publish({
      topic: 'notifier.dead-letters',
      key: 'key',
      value: Buffer.alloc(1024 * 1024),
      headers: { dead_letter_reason: 'x'.repeat(1_000) },
    })
  } finally {
    await publisher.stop()
  }
  expect(acknowledged).toEqual(Array.from({ length: 2_000 }, (_, index) => index))
})
