import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Registry } from '@pennywire/kafka/codec.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Progress } from '@pennywire/runtime/progress.ts'
import { startRelay } from './publish-journal.ts'
import { readJournalRows } from './sql/republish.ts'
import { readSchemasInUse } from './sql/schemas.ts'
import type { JournalRow, LedgerStore } from './store.ts'

/** Without an event acknowledged for so long, Kafka takes none. */
const STALLED_MS = 120_000
const LOOK_MS = 200

type CompareDeps = {
  sql: Database
  client: KafkaClient
  logger: Logger
  signal: AbortSignal
  progressOf: (what: string, total: number) => Progress
}

type PublishDeps = Pick<CompareDeps, 'logger' | 'signal' | 'progressOf'> & {
  store: Pick<LedgerStore, 'readJournalAfter'>
  publisher: Pick<Publisher, 'publishAll'>
  clock: Clock
}

/** The first record of ledger.events that is not the journal's continuation. */
export type Difference = { partition: number; offset: bigint; seq: bigint; reason: string }

export type Compared = {
  records: number
  /** Up to which `seq` each partition of the topic holds the journal, without a gap. */
  held: Map<number, bigint>
  difference: Difference | null
}

const isRow = (row: JournalRow, record: IncomingRecord): boolean => {
  const headers = Object.entries(row.headers)
  return (
    row.bytes.equals(record.value ?? Buffer.alloc(0)) &&
    row.key === record.key?.toString() &&
    headers.length === record.headers.length &&
    headers.every(([name, value]) => headerOf(record, name) === value)
  )
}

/**
 * Reads all of ledger.events and compares each record with the journal, byte for byte: value, key and headers. `ends`:
 * the journal's last `seq` of each partition.
 */
export const compareEvents = async (deps: CompareDeps, ends: Map<number, bigint>): Promise<Compared> => {
  const { sql, client, logger, signal, progressOf } = deps
  const compared: Compared = {
    records: 0,
    held: new Map([...ends.keys()].map(partition => [partition, 0n])),
    difference: null,
  }
  const admin = client.admin()
  await admin.connect()
  const offsets = await admin.fetchTopicOffsets('ledger.events').finally(() => admin.disconnect())
  const progress = progressOf(
    'comparing',
    offsets.reduce((sum, { low, high }) => sum + Number(high) - Number(low), 0),
  )

  const differenceOf = (record: IncomingRecord, row: JournalRow | undefined): string | undefined => {
    const { partition } = record
    const text = headerOf(record, 'seq') ?? ''
    if (!/^[1-9]\d{0,17}$/.test(text)) return "it is no ledger's event: it has no seq"
    const seq = BigInt(text)
    const reached = compared.held.get(partition) ?? 0n
    if (!row && seq > (ends.get(partition) ?? 0n))
      return `the journal ends at seq ${ends.get(partition) ?? 0n}: the database is behind its own events`
    if (!row || !isRow(row, record)) return 'the journal holds another event: these are two histories'
    if (seq > reached + 1n)
      return `it comes before the events from seq ${reached + 1n} on, which cannot be put in front of it`
    if (seq > reached) compared.held.set(partition, seq)
    return undefined
  }

  await readTopic({
    ...{ client, logger, signal, topic: 'ledger.events', bulk: true },
    handle: async records => {
      for (const [partition, all] of Map.groupBy(records, record => record.partition)) {
        const seqs = all.map(record => BigInt(/^\d{1,18}$/.exec(headerOf(record, 'seq') ?? '')?.[0] ?? '0'))
        const rows = await readJournalRows(sql, partition, [...new Set(seqs)])
        const rowAt = new Map(rows.map(row => [row.seq, row]))
        for (const [index, record] of all.entries()) {
          const reason = differenceOf(record, rowAt.get(seqs[index]!))
          if (reason !== undefined)
            compared.difference ??= { partition, offset: record.offset, seq: seqs[index]!, reason }
        }
      }
      compared.records += records.length
      progress.add(records.length)
    },
  })
  progress.end()
  return compared
}

/** Why the registry does not decode the events after these `seq`, or null: an event that nobody reads is not published. */
export const findSchemaFault = async (
  sql: Database,
  registry: Pick<Registry, 'schemaOf'>,
  held: Map<number, bigint>,
): Promise<string | null> => {
  const after = [...held].map(([partition, seq]) => ({ partition, seq }))
  for (const { id, type } of await readSchemasInUse(sql, after)) {
    const name = await registry.schemaOf(id).then(
      schema => schema.name,
      (error: Error) => error,
    )
    if (name instanceof Error) return `schema id ${id} of ${type}: ${name.message}`
    if (name !== type) return `schema id ${id} is ${name} in the registry, but events of ${type} carry it`
  }
  return null
}

/**
 * Publishes each partition's journal after `held` up to `ends`, by the ledger's own relay: the same bytes, keys and
 * headers, strictly in the order of `seq`. Resolves with how far each partition is acknowledged; early once `signal` is
 * aborted. `stillAlone` rejects where another publisher may have begun.
 */
export const publishAgain = async (
  deps: PublishDeps,
  held: Map<number, bigint>,
  ends: Map<number, bigint>,
  stillAlone: () => Promise<unknown>,
): Promise<Map<number, bigint>> => {
  const { store, publisher, logger, clock, signal, progressOf } = deps
  const reached = new Map(held)
  const left = () =>
    [...ends].reduce((sum, [partition, end]) => sum + Number(end - (reached.get(partition) ?? 0n)), 0)
  const progress = progressOf('publishing', left())
  const relay = startRelay({
    ...{ publisher, logger, clock },
    store: {
      readProgress: async partitions =>
        partitions.map(partition => ({
          partition,
          publishedThrough: reached.get(partition) ?? 0n,
          writtenThrough: ends.get(partition) ?? 0n,
        })),
      readJournalAfter: store.readJournalAfter,
      raisePublished: async marks => {
        const before = left()
        for (const [partition, seq] of marks)
          if (seq > (reached.get(partition) ?? 0n)) reached.set(partition, seq)
        progress.add(before - left())
      },
    },
  })
  relay.assign(
    [...ends].filter(([partition, end]) => end > (reached.get(partition) ?? 0n)).map(([one]) => one),
  )
  try {
    let [before, movedAt] = [left(), clock.elapsed()]
    while (left() > 0 && !signal.aborted) {
      await sleep(clock, LOOK_MS, signal)
      await stillAlone()
      if (left() < before) [before, movedAt] = [left(), clock.elapsed()]
      if (clock.elapsed() - movedAt > STALLED_MS)
        throw new Error(`Kafka has acknowledged no event for ${STALLED_MS / 1_000} s`)
    }
  } finally {
    await relay.stop()
    progress.end()
  }
  return reached
}
