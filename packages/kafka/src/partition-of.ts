import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import kafkajs from 'kafkajs'

const partitioner = kafkajs.Partitioners.DefaultPartitioner()

const partitionsOf = Object.fromEntries(
  Object.entries(TOPICS).map(([topic, { partitions }]) => [
    topic,
    Array.from({ length: partitions }, (_, partitionId) => ({ partitionId, leader: 0 })),
  ]),
) as Record<Topic, Array<{ partitionId: number; leader: number }>>

/**
 * The partition of a key: murmur2 over the key, modulo the topic's partition count, as in every Kafka client. The count
 * is the contract's, so partitions that are added by mistake move no key.
 */
export const partitionOf = (topic: Topic, key: string | Buffer | null): number =>
  partitioner({
    topic,
    // A test's own topic has one partition, or its records name their partition.
    partitionMetadata: (partitionsOf[topic] ?? [{ partitionId: 0, leader: 0 }]) as Parameters<
      typeof partitioner
    >[0]['partitionMetadata'],
    message: { key, value: null },
  })
