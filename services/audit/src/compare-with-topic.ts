import type { Topic } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { bytesOf, type Chain, chainedRecordOf } from '@pennywire/kafka/hash-chain.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { loadRecordsAfter } from './sql/records.ts'
import type { BrokenRecord } from './verify-chains.ts'

export type TopicComparison = { compared: number; broken: number; firstBroken: BrokenRecord | null }

/**
 * Compares the recorded bytes of one topic with the topic's records, from its first offset to the last recorded one in
 * `lastOffsets` (by partition). It finds a forgery that the chain cannot show: a record changed by a user with write
 * access to the table, with all later hashes recomputed. Records that retention has deleted are not compared.
 */
export const compareWithTopic = async (options: {
  sql: Database
  client: KafkaClient
  logger: Logger
  topic: Topic
  epoch: number
  lastOffsets: Map<number, bigint>
  onCompared?: (records: number) => void
}): Promise<TopicComparison> => {
  const { sql, client, logger, topic, epoch, lastOffsets } = options
  const result: TopicComparison = { compared: 0, broken: 0, firstBroken: null }

  const differs = (chain: Chain, offset: bigint, reason: string) => {
    result.broken += 1
    result.firstBroken ??= { ...chain, offset, reason }
  }

  await readTopic({
    client,
    logger,
    topic,
    handle: async records => {
      options.onCompared?.(records.length)
      for (const [partition, ofPartition] of Map.groupBy(records, record => record.partition)) {
        const last = lastOffsets.get(partition) ?? -1n
        const recorded = ofPartition.filter(({ offset }) => offset <= last)
        const first = recorded[0]
        if (!first) continue
        const chain = { topic, epoch, partition }
        const rows = await loadRecordsAfter(sql, chain, first.offset - 1n, recorded.length)
        const byOffset = new Map(rows.map(row => [row.offset, row]))
        for (const record of recorded) {
          result.compared += 1
          const row = byOffset.get(record.offset)
          if (!row) differs(chain, record.offset, 'the topic holds it, the chain does not')
          else if (!bytesOf(row).equals(bytesOf(chainedRecordOf(record))))
            differs(chain, record.offset, 'the topic holds another record here')
        }
      }
    },
  })
  return result
}
