import { randomUUID } from 'node:crypto'
import type { Topic } from '@pennywire/contracts/topics.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { KafkaClient } from './client.ts'
import { type Position, startConsumer, type TopicEnd, type TopicPartition } from './consumer.ts'
import type { IncomingRecord } from './record.ts'

export type ReadTopicOptions = {
  client: KafkaClient
  logger: Logger
  handle: (records: IncomingRecord[]) => Promise<void> | void
  /** The offset at which to begin in each partition, instead of its first record. */
  start?: (end: TopicEnd) => bigint
  /** Rejects after this many milliseconds. */
  withinMs?: number
  /** Reads in large batches, for a rebuild. */
  bulk?: boolean
  /** Resolves early, after the running batch, once it is aborted. */
  signal?: AbortSignal
}

/** Most records of a batch: usually, and in bulk. */
const MAX_BATCH = 2_000
const MAX_BULK_BATCH = 10_000

/** Reads one topic: see readTopics. */
export const readTopic = ({ topic, ...options }: ReadTopicOptions & { topic: Topic }): Promise<void> =>
  readTopics({ ...options, topics: [topic] })

const idOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

/**
 * Reads topics from their start to the ends that they had when the reading began, then resolves: for checks and
 * rebuilds. `handle` receives batches, each partition's records in order and each record once. Deletes its consumer
 * group.
 */
export const readTopics = async (options: ReadTopicOptions & { topics: Topic[] }): Promise<void> => {
  const { client, logger, topics, handle, start, withinMs, bulk = false, signal } = options
  const groupId = `read-${topics.length === 1 ? topics[0] : 'topics'}-${randomUUID()}`
  const next = new Map<string, bigint>()
  const ends = new Map<string, bigint>()
  let finish: () => void = () => {}
  let fail: (error: unknown) => void = () => {}
  const finished = new Promise<void>((resolve, reject) => {
    finish = resolve
    fail = reject
  })
  // It may be too late before the consumer has started, when nothing waits for it yet.
  finished.catch(() => {})
  const finishAtEnd = () => {
    for (const [id, end] of ends) if ((next.get(id) ?? 0n) < end) return
    finish()
  }

  const late = () =>
    fail(new Error(`${topics.join(', ')} could not be read to the end within ${withinMs} ms`))
  const timer = withinMs === undefined ? undefined : setTimeout(late, withinMs)
  signal?.addEventListener('abort', finish, { once: true })
  if (signal?.aborted) finish()
  const consumer = await startConsumer({
    client,
    logger,
    groupId,
    topics,
    bulk,
    maxBatch: bulk ? MAX_BULK_BATCH : MAX_BATCH,
    positions: async (_assigned, readEnds) => {
      const topicEnds = await readEnds()
      // Called again after a rebalance: reading continues where it was.
      for (const end of topicEnds) {
        const id = idOf(end)
        if (!ends.has(id)) ends.set(id, end.offset)
        if (!next.has(id)) next.set(id, start?.(end) ?? end.first)
      }
      finishAtEnd()
      return topicEnds.map(
        (end): Position => ({ topic: end.topic, partition: end.partition, offset: next.get(idOf(end))! }),
      )
    },
    handle: async records => {
      if (signal?.aborted) return
      const fresh = records.filter(record => {
        const id = idOf(record)
        if (record.offset < (next.get(id) ?? 0n)) return false
        next.set(id, record.offset + 1n)
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
    signal?.removeEventListener('abort', finish)
    await consumer.stop()
    const admin = client.admin()
    await admin.connect()
    await admin.deleteGroups([groupId]).catch(error => logger.debug({ err: error }, 'group not deleted'))
    await admin.disconnect()
  }
}
