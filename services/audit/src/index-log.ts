import { logEntryOf } from '@pennywire/contracts/log-entry.ts'
import type { AnyRecord } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import { type Chain, type ChainedRecord, headersOf } from '@pennywire/kafka/hash-chain.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { loadChainHeads } from './sql/checkpoints.ts'
import { insertLog, type LogRow, loadIndexedOffsets } from './sql/log.ts'
import { loadRecordsAfter } from './sql/records.ts'

const indexed = counter('audit_indexed_total', 'Records added to the index by which the trail is searched')

/** Records of one chain that one statement adds. */
const PAGE = 500
/** How often the trail is looked at for new records. */
const LOOK_EVERY_MS = 500
const RETRY_MS = 1_000
const LAST_RETRY_MS = 30_000

/** What the index holds of a record. Rejects if the registry could not be asked about its schema. */
export const logRowOf = async (
  codec: Pick<Codec, 'decodeRecord'>,
  chain: Chain,
  record: ChainedRecord,
): Promise<LogRow> => {
  const headers = headersOf(record)
  let decoded: AnyRecord | null = null
  try {
    decoded = await codec.decodeRecord({ value: record.value, headers })
  } catch (error) {
    // Anybody with the right to write may put anything into a topic: such a record is found by its headers.
    if (!(error instanceof UndecodableRecord)) throw error
  }
  const { actorKey: _, ...entry } = logEntryOf(headers, decoded)
  return {
    ...{ topic: chain.topic, epoch: chain.epoch, partition: chain.partition },
    ...{ offset: record.offset, timeMs: record.timestampMs },
    ...entry,
  }
}

export type LogIndex = {
  /** Records of the trail that the index does not hold yet, after the last round. */
  behind: () => number
  stop: () => Promise<void>
}

/**
 * Fills the index by which the trail is searched, from the trail, in its order: each chain's position is the last indexed
 * row. What was recorded before there was an index is indexed likewise. It runs at most half of the time: the database is
 * shared with the money.
 */
export const startLogIndex = (deps: {
  sql: Database
  /** Connects to the schema registry, which may be away when the service starts. */
  openCodec: () => Promise<Codec>
  clock: Clock
  logger: Logger
}): LogIndex => {
  const { sql, openCodec, clock, logger } = deps
  let codec: Codec | undefined
  /** The last indexed offset of each chain that this instance has met. */
  const positions = new Map<string, bigint>()
  let workMs = 0
  let behind = 0

  const round = async (signal: AbortSignal): Promise<void> => {
    const began = clock.elapsed()
    const heads = await loadChainHeads(sql)
    const idOf = ({ topic, epoch, partition }: Chain) => `${topic}/${epoch}/${partition}`
    const unmet = heads.filter(head => !positions.has(idOf(head)))
    const found = unmet.length > 0 ? await loadIndexedOffsets(sql, unmet) : []
    for (const [n, head] of unmet.entries()) positions.set(idOf(head), found[n] ?? head.offset - head.records)
    const leftOf = (head: (typeof heads)[number]) => Number(head.offset - positions.get(idOf(head))!)
    behind = heads.reduce((sum, head) => sum + Math.max(0, leftOf(head)), 0)
    codec ??= await openCodec()
    for (const head of heads) {
      const id = idOf(head)
      const position = positions.get(id)!
      if (position >= head.offset || signal.aborted) continue
      const page = await loadRecordsAfter(sql, head, position, PAGE)
      const decoder = codec
      await insertLog(sql, await Promise.all(page.map(record => logRowOf(decoder, head, record))))
      const last = page.at(-1)?.offset ?? position
      positions.set(id, last)
      indexed.inc(page.length)
      behind -= page.length
    }
    workMs = clock.elapsed() - began
  }

  const working = repeat({
    clock,
    everyMs: () => (behind > 0 ? workMs : Math.max(workMs, LOOK_EVERY_MS)),
    retryMs: RETRY_MS,
    lastRetryMs: LAST_RETRY_MS,
    work: async signal => {
      try {
        await round(signal)
      } catch (error) {
        // What another instance did meanwhile, or an exchanged trail, is read again.
        positions.clear()
        throw error
      }
    },
    onError: (error, retryMs) =>
      logger.warn({ err: error, retryMs }, 'records were not indexed for the search; trying again'),
  })
  return { behind: () => behind, stop: working.stop }
}
