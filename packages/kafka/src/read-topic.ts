import { randomUUID } from 'node:crypto'
import type { Topic } from '@pennywire/contracts/topics.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { KafkaClient } from './client.ts'
import { type Position, startConsumer, type TopicEnd } from './consumer.ts'
import type { IncomingRecord } from './record.ts'

/**
 * Reads a topic from its start to the end that it had when the reading began, then resolves: for checks and rebuilds.
 * `handle` receives batches, each partition's records in order and each record once. Deletes its consumer group.
 */
export const readTopic = async (options: {
  client: KafkaClient
  logger: Logger
  topic: Topic
  handle: (records: IncomingRecord[]) => Promise<void> | void
  /** The offset at which to begin in each partition, instead of its first record. */
  start?: (end: TopicEnd) => bigint
  /** Rejects after this many milliseconds. */
  withinMs?: number
}): Promise<void> => {
  const { client, logger, topic, handle, start, withinMs } = options
  const groupId = `read-${topic}-${randomUUID()}`
  const next = new Map<number, bigint>()
  const ends = new Map<number, bigint>()
  let finish: () => void = () => {}
  let fail: (error: unknown) => void = () => {}
  const finished = new Promise<void>((resolve, reject) => {
    finish = resolve
    fail = reject
  })
  const finishAtEnd = () => {
    for (const [partition, end] of ends) if ((next.get(partition) ?? 0n) < end) return
    finish()
  }

  const late = () => fail(new Error(`${topic} could not be read to its end within ${withinMs} ms`))
  const timer = withinMs === undefined ? undefined : setTimeout(late, withinMs)
  const consumer = await startConsumer({
    client,
    logger,
    groupId,
    topics: [topic],
    maxBatch: 2_000,
    positions: async (_assigned, readEnds) => {
      const topicEnds = await readEnds()
      // Called again after a rebalance: reading continues where it was.
      for (const end of topicEnds) {
        if (!ends.has(end.partition)) ends.set(end.partition, end.offset)
        if (!next.has(end.partition)) next.set(end.partition, start?.(end) ?? end.first)
      }
      finishAtEnd()
      return topicEnds.map(({ partition }): Position => ({ topic, partition, offset: next.get(partition)! }))
    },
    handle: async records => {
      const fresh = records.filter(({ partition, offset }) => {
        if (offset < (next.get(partition) ?? 0n)) return false
        next.set(partition, offset + 1n)
        return true
      })
      try {
        await handle(fresh)
        finishAtEnd()
      } catch (error) {
        fail(error)
      }
    },
  })
  try {
    await finished
  } finally {
    clearTimeout(timer)
    await consumer.stop()
    const admin = client.admin()
    await admin.connect()
    await admin.deleteGroups([groupId]).catch(error => logger.debug({ err: error }, 'group not deleted'))
    await admin.disconnect()
  }
}
