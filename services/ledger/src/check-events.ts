import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { headerOf } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Known, LedgerStore, StoredPosition } from './store.ts'

/** The last events of a partition of ledger.events, oldest first; `whole`: whether the partition contains no others. */
export type Tail = { events: Array<{ seq: bigint; value: Buffer }>; whole: boolean }
/** Reads the last `count` records of these partitions of ledger.events. */
export type ReadTails = (partitions: number[], count: number) => Promise<Map<number, Tail>>

/**
 * How many of the last records are read, in steps: until an event is found that is marked as published. The last
 * records may be repeats of older events, so the highest `seq` among them counts.
 */
const TAIL_RECORDS = [1_000, 8_000, 64_000]
/** The number of events whose bytes are compared with the journal. */
const COMPARED_EVENTS = 1_000
const TAIL_WITHIN_MS = 30_000

export const createReadTails =
  (client: KafkaClient, logger: Logger): ReadTails =>
  async (partitions, count) => {
    const tails = new Map<number, Tail>()
    await readTopic({
      client,
      logger,
      topic: 'ledger.events',
      withinMs: TAIL_WITHIN_MS,
      start: ({ partition, first, offset: end }) => {
        if (!partitions.includes(partition)) return end
        const from = end - BigInt(count)
        tails.set(partition, { events: [], whole: from <= first })
        return from > first ? from : first
      },
      handle: records => {
        for (const record of records) {
          const seq = headerOf(record, 'seq') ?? ''
          // Not a ledger's: every event of a ledger has its `seq`.
          if (!/^[1-9]\d{0,17}$/.test(seq) || !record.value) continue
          tails.get(record.partition)?.events.push({ seq: BigInt(seq), value: record.value })
        }
      },
    })
    return tails
  }

/** How far a partition's database is behind; `otherAt`: the `seq` at which it holds another event than the topic. */
export type Behind = { partition: number; reason: string; behind: bigint; otherAt?: bigint }
/** What contradicts a partition's journal: the database is behind, or the topic lost published events. */
export type Contradiction = Behind | { partition: number; reason: string; behind?: undefined }
export const isBehind = (one: Contradiction): one is Behind => one.behind !== undefined

/**
 * Finds partitions whose database is behind its own events (an asynchronous failover, an older backup), or contains
 * other events than were published: by the tail of ledger.events, and by the positions that this process saw committed
 * (`known`). Deciding there would give commands a second outcome (X1, O1). Also finds partitions whose topic ends before
 * the last event that Kafka acknowledged: it lost events, and the next one would stand before them for ever (O1, O2).
 */
export const findBehind = async (
  deps: { store: Pick<LedgerStore, 'readJournalAfter' | 'readPositions'>; readTails: ReadTails },
  stored: StoredPosition[],
  known: Known,
): Promise<Contradiction[]> => {
  const found = new Map<number, Contradiction>()
  for (const { partition, nextOffset, nextSeq } of stored) {
    const own = known.get(partition)
    if (own && (nextSeq < own.nextSeq || nextOffset < own.nextOffset))
      found.set(partition, wentBack(partition, own.nextSeq - nextSeq, own.nextOffset - nextOffset))
  }
  let open = stored.filter(({ partition }) => !found.has(partition))
  for (const count of TAIL_RECORDS) {
    if (open.length === 0) break
    const tails = await deps.readTails(
      open.map(({ partition }) => partition),
      count,
    )
    const further: StoredPosition[] = []
    for (const row of open) {
      const tail = tails.get(row.partition) ?? { events: [], whole: false }
      const highest = tail.events.reduce((most, { seq }) => (seq > most ? seq : most), 0n)
      // A predecessor may have committed between our reads of the database and of the topic: read the database again.
      const nextSeq =
        highest < row.nextSeq
          ? row.nextSeq
          : ((await deps.store.readPositions([row.partition]))[0]?.nextSeq ?? row.nextSeq)
      if (highest >= nextSeq) {
        const behind = highest - nextSeq + 1n
        found.set(row.partition, {
          partition: row.partition,
          reason: `the database is behind its own events by ${behind}: ledger.events/${row.partition} holds seq ${highest}, the journal ends at ${nextSeq - 1n}`,
          behind,
        })
        continue
      }
      if (highest < row.publishedThrough && !tail.whole) further.push(row)
      const other = await findOther(deps.store, row.partition, tail, highest)
      if (other !== undefined) {
        found.set(row.partition, {
          partition: row.partition,
          reason: `ledger.events/${row.partition} holds another event at seq ${other} than the journal`,
          behind: highest - other + 1n,
          otherAt: other,
        })
      } else if (highest < row.publishedThrough && tail.whole) {
        found.set(row.partition, {
          partition: row.partition,
          reason: `ledger.events/${row.partition} ends with seq ${highest}, but seq ${row.publishedThrough} was published; it was made anew or lost: publish the journal again`,
        })
      }
    }
    open = further.filter(({ partition }) => !found.has(partition))
  }
  return [...found.values()]
}

/** The lowest `seq` of the tail's newest events whose bytes differ from the journal's. */
const findOther = async (
  store: Pick<LedgerStore, 'readJournalAfter'>,
  partition: number,
  { events }: Tail,
  highest: bigint,
): Promise<bigint | undefined> => {
  if (events.length === 0) return undefined
  const after = highest - BigInt(COMPARED_EVENTS)
  const rows = await store.readJournalAfter(partition, after > 0n ? after : 0n, COMPARED_EVENTS)
  const bytesAt = new Map(rows.map(({ seq, bytes }) => [seq, bytes]))
  const differs = events.filter(({ seq, value }) => bytesAt.get(seq)?.equals(value) === false)
  return differs.reduce<bigint | undefined>(
    (lowest, { seq }) => (lowest === undefined || seq < lowest ? seq : lowest),
    undefined,
  )
}

/** The mismatch of a database that lacks commits which this process saw. */
export const wentBack = (partition: number, events: bigint, commands: bigint) => ({
  partition,
  reason: `the database went back by ${events} events and ${commands} commands that this ledger saw committed`,
  behind: events,
})
