import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { JournalRow, LedgerStore } from './store.ts'

/** How often the tables are checked for events that were not offered: those of a predecessor that committed late. */
const TABLE_CHECK_MS = 1_000
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000
/** Most events of a partition read from the table, or sent, at once. */
const MAX_ROUND = 1_000
/** Most events of all partitions in flight to Kafka: half of what the publisher accepts, however many partitions. */
const MAX_ON_THE_WAY = 10_000
/**
 * While Kafka is away the journal keeps all events; above this number memory is cleared, and they are read again later.
 */
const MAX_OFFERED_PER_PARTITION = 5_000

export type Relay = {
  /** Sets the partitions whose events this relay publishes from now on. */
  assign: (partitions: number[]) => void
  /** Takes events just committed: sent from memory, without reading the table, if they follow without a gap. */
  offer: (events: JournalRow[]) => void
  /** Publishes events again, unchanged, if their partition is assigned and they were published before. */
  repeat: (events: JournalRow[]) => void
  /** Events that were published since the start, repeats included. */
  published: () => number
  stop: () => Promise<void>
}

type Lane = {
  publishedThrough: bigint
  offered: JournalRow[]
  /** To be published once more. */
  repeats: JournalRow[]
  /** Whether the table contains events that memory lacks. */
  behind: boolean
  /** Whether its events are being published now, and whether events arrived since the last round began. */
  working: boolean
  woken: boolean
}

/**
 * Publishes the journal to ledger.events, each partition strictly from `published_through + 1` on, and raises that mark
 * only after Kafka's acknowledgement: no event is lost or invented, at any crash (O1). Partitions publish
 * independently: one that Kafka refuses holds only itself (P1). Two relays of one partition (one of them a zombie) are
 * harmless: events are repeated, never changed, and the mark only rises.
 */
export const startRelay = (options: {
  store: Pick<LedgerStore, 'readProgress' | 'readJournalAfter' | 'raisePublished'>
  publisher: Pick<Publisher, 'publishAll'>
  logger: Logger
  clock: Clock
}): Relay => {
  const { store, publisher, logger, clock } = options
  const stopped = new AbortController()
  let lanes = new Map<number, Lane | null>()
  const working = new Set<Promise<void>>()
  let publishedCount = 0
  let tableCheckedAt = 0
  const marks = new Map<number, bigint>()
  let raising: Promise<void> | undefined

  /** Writes the marks asynchronously, one write at a time: a late mark only means more repeats after a crash. */
  const raise = () => {
    raising ??= (async () => {
      while (marks.size > 0) {
        const due = new Map(marks)
        marks.clear()
        await store.raisePublished(due)
      }
    })()
      .catch(error =>
        logger.warn({ err: error }, 'published mark not raised; events may be repeated after a restart'),
      )
      .finally(() => {
        raising = undefined
      })
  }

  /** Opens new lanes at their mark, and finds lanes whose table is ahead of memory. */
  const checkTable = async () => {
    const mine = lanes
    for (const { partition, publishedThrough, writtenThrough } of await store.readProgress([
      ...mine.keys(),
    ])) {
      const lane = mine.get(partition)
      if (lane === undefined) continue
      if (lane === null) {
        mine.set(partition, {
          ...{ publishedThrough, offered: [], repeats: [], behind: writtenThrough > publishedThrough },
          ...{ working: false, woken: false },
        })
      } else {
        if (writtenThrough > (lane.offered.at(-1)?.seq ?? lane.publishedThrough)) lane.behind = true
        // A mark whose write failed, or was lost with the server, would otherwise be missing until the next event.
        if (publishedThrough < lane.publishedThrough) marks.set(partition, lane.publishedThrough)
      }
    }
    if (marks.size > 0) raise()
    tableCheckedAt = clock.elapsed()
  }

  /** A lane's next events without a gap, from memory if possible, else from the table. */
  const nextOf = async (partition: number, lane: Lane): Promise<JournalRow[]> => {
    const most = Math.min(MAX_ROUND, Math.ceil(MAX_ON_THE_WAY / lanes.size))
    const expected = lane.publishedThrough + 1n
    while (lane.offered[0] && lane.offered[0].seq < expected) lane.offered.shift()
    if (lane.offered[0] && lane.offered[0].seq !== expected) lane.behind = true
    if (!lane.behind) return lane.offered.slice(0, most)
    const rows = await store.readJournalAfter(partition, lane.publishedThrough, most)
    // Events are written under the partition's lock: the first missing one is not committed yet, nor is any after it.
    const hole = rows.findIndex((row, index) => row.seq !== expected + BigInt(index))
    const whole = hole === -1 ? rows : rows.slice(0, hole)
    if (rows.length < most) lane.behind = false
    return whole
  }

  /** Publishes a partition's next events; false if there are none. */
  const publishRound = async (partition: number, lane: Lane): Promise<boolean> => {
    lane.woken = false
    const rows = await nextOf(partition, lane)
    // Repeat only events that are already in Kafka: an event is first published in its turn, by its partition's owner.
    const repeatsTaken = lane.repeats.length
    const again = lane.repeats.filter(({ seq }) => seq <= lane.publishedThrough)
    const sent = [...rows, ...again]
    if (sent.length > 0) {
      await publisher.publishAll(
        sent.map(({ key, headers, bytes }) => ({
          topic: 'ledger.events' as const,
          partition,
          key,
          value: bytes,
          headers,
        })),
      )
    }
    // What was asked for while these were sent is the next round's.
    lane.repeats.splice(0, repeatsTaken)
    publishedCount += sent.length
    const through = rows.at(-1)?.seq
    if (through !== undefined) {
      lane.publishedThrough = through
      while (lane.offered[0] && lane.offered[0].seq <= through) lane.offered.shift()
      marks.set(partition, through)
      raise()
    }
    return sent.length > 0
  }

  /** Publishes a partition's events until none is left, retrying however often Kafka refuses them. */
  const workOn = async (partition: number, lane: Lane) => {
    let retryMs = FIRST_RETRY_MS
    while (!stopped.signal.aborted && lanes.get(partition) === lane) {
      try {
        const busy = await publishRound(partition, lane)
        retryMs = FIRST_RETRY_MS
        if (!busy && !lane.woken) break
      } catch (error) {
        logger.error(
          { err: error, partition, retryMs },
          'events could not be published; they are in the journal, trying again',
        )
        await sleep(clock, retryMs, stopped.signal)
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)
      }
    }
    lane.working = false
  }

  const workOnAll = () => {
    for (const [partition, lane] of lanes) {
      if (!lane || lane.working) continue
      lane.working = true
      const publishing = workOn(partition, lane).finally(() => working.delete(publishing))
      working.add(publishing)
    }
  }

  const watching = repeat({
    clock,
    everyMs: TABLE_CHECK_MS,
    retryMs: FIRST_RETRY_MS,
    work: async () => {
      try {
        if (clock.elapsed() - tableCheckedAt >= TABLE_CHECK_MS || [...lanes.values()].includes(null))
          await checkTable()
      } finally {
        // Publish events in memory even if the tables could not be read.
        workOnAll()
      }
    },
    onError: error => logger.error({ err: error }, 'the journal could not be asked for events; trying again'),
  })
  const { wake } = watching

  return {
    assign: partitions => {
      lanes = new Map(partitions.map(partition => [partition, lanes.get(partition) ?? null]))
      wake()
    },
    offer: events => {
      for (const event of events) {
        const lane = lanes.get(event.partition)
        if (!lane) continue
        lane.woken = true
        if (lane.behind) continue
        const last = lane.offered.at(-1)
        // Gap in memory: a predecessor committed, or the answer to our own commit was lost. Read from the table.
        if (last && event.seq !== last.seq + 1n) {
          lane.behind = true
          continue
        }
        lane.offered.push(event)
        if (lane.offered.length > MAX_OFFERED_PER_PARTITION) {
          lane.offered = []
          lane.behind = true
        }
      }
      wake()
    },
    repeat: events => {
      for (const event of events) {
        const lane = lanes.get(event.partition)
        if (!lane || lane.repeats.length >= MAX_OFFERED_PER_PARTITION) continue
        lane.repeats.push(event)
        lane.woken = true
      }
      wake()
    },
    published: () => publishedCount,
    stop: async () => {
      stopped.abort()
      await watching.stop()
      await Promise.all(working)
      await raising
    },
  }
}
