// Reads of Kafka that catch-up needs beside the tails of ledger.events.
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { CatchUpDeps } from './catch-up-books.ts'
import type { RebuildDeps } from './rebuild-books.ts'

/** How many events before the first missing one are read too, to be compared with the journal. */
const COMPARED = 1_000n
const COMMANDS_WITHIN_MS = 60_000

/**
 * An event's offset is never below its `seq` minus one in a topic that began with the first event: reading begins
 * there, some events sooner. In any other topic the gap is seen, and all of it is read.
 */
export const createReadEvents = (deps: {
  client: KafkaClient
  logger: Logger
  signal?: AbortSignal
  /** Called with the number of records to read, then with how many of them were handled. */
  onTotal?: (total: number) => void
  onRead?: (count: number) => void
}): CatchUpDeps['readEvents'] => {
  const { client, logger, signal } = deps
  return async (from, whole, handle) => {
    let total = 0n
    let told = false
    await readTopic({
      ...{ client, logger, topic: 'ledger.events', bulk: true, ...(signal ? { signal } : {}) },
      start: ({ partition, first, offset: end }) => {
        const seq = from.get(partition)
        if (seq === undefined) return end
        const guess = seq - 1n - COMPARED
        const start = whole || guess < first ? first : guess < end ? guess : end
        total += end - start
        return start
      },
      handle: async records => {
        if (!told) deps.onTotal?.(Number(total))
        told = true
        await handle(records)
        deps.onRead?.(records.length)
      },
    })
    signal?.throwIfAborted()
  }
}

/** Reads single records of ledger.commands, and no further. */
export const createReadCommands =
  (client: KafkaClient, logger: Logger): CatchUpDeps['readCommands'] =>
  async at => {
    const found = new Map<number, IncomingRecord>()
    const open = new Set(at.keys())
    const done = new AbortController()
    await readTopic({
      ...{ client, logger, topic: 'ledger.commands', withinMs: COMMANDS_WITHIN_MS, signal: done.signal },
      start: ({ partition, first, offset: end }) => {
        const offset = at.get(partition)
        if (offset !== undefined && offset >= first && offset < end) return offset
        open.delete(partition)
        return end
      },
      handle: records => {
        for (const record of records) {
          if (record.offset !== at.get(record.partition)) continue
          found.set(record.partition, record)
          open.delete(record.partition)
        }
        if (open.size === 0) done.abort()
      },
    })
    return [...found.values()]
  }

/** Reads ledger.events from these offsets, or from the first records, to the ends that it has now. */
export const createReadFrom =
  (deps: { client: KafkaClient; logger: Logger; signal: AbortSignal }): RebuildDeps['readFrom'] =>
  async (offsets, onTotal, handle) => {
    let total = 0n
    let told = false
    await readTopic({
      ...deps,
      topic: 'ledger.events',
      bulk: true,
      start: ({ partition, first, offset: end }) => {
        const wanted = offsets.get(partition) ?? 0n
        const start = wanted < first ? first : wanted < end ? wanted : end
        total += end - start
        return start
      },
      handle: async records => {
        if (!told) onTotal(Number(total))
        told = true
        await handle(records)
      },
    })
  }
