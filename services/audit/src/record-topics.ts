import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type {
  Consumer,
  ConsumerOptions,
  Position,
  TopicEnd,
  TopicPartition,
} from '@pennywire/kafka/consumer.ts'
import { bytesOf, type Chain, chainedRecordOf, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Database, isUniqueViolation } from '@pennywire/runtime/database.ts'
import { counter, gauge } from '@pennywire/runtime/metrics.ts'
import { loadEpochs } from './sql/epochs.ts'
import { insertRecords, loadIncarnation, loadLastRecords, type StoredRecord } from './sql/records.ts'

const recorded = counter('audit_records_total', 'Records added to the audit trail', ['topic'])
const position = gauge('audit_position', 'Offset of the last record in the audit trail', [
  'topic',
  'partition',
])
const haltedPartitions = gauge(
  'audit_halted_partitions',
  'Partitions halted because topic and chain contradict each other',
)

/** A gap seen this often without progress is a loss, not a race with a rebalance. */
const MAX_GAPS = 3

/** The end of a chain, as this instance has it in memory. */
type Head = {
  chain: Chain & { topic: Topic }
  /** The last record's; of an empty chain, the one before the first record to come. */
  offset: bigint
  hash: Buffer
  /** The last record's bytes, to compare with the topic's record at that offset; null for an empty chain. */
  bytes: Buffer | null
  /** Whether the last record was read from the topic again: nothing is added to a chain before that. */
  proven: boolean
  /** Gaps seen since the last progress. */
  gaps: number
}

const idOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

/** The next offset to read: that of the last record itself until it is proven. */
const nextOffsetOf = (head: Head) => (head.proven ? head.offset + 1n : head.offset)

/** The head of an empty chain whose topic begins at `first`. */
const startOf = (chain: Head['chain'], first: bigint): Head => ({
  chain,
  offset: first - 1n,
  hash: genesisOf(chain),
  bytes: null,
  proven: true,
  gaps: 0,
})

/** Why a topic's range and its chain cannot both be right, or null. */
const contradictionOf = (end: TopicEnd, last: Head | undefined): string | null => {
  if (!last) {
    const incomplete = end.first > 0n && TOPICS[end.topic].retentionMs < 0
    return incomplete ? `the topic is kept for ever, but begins at offset ${end.first}` : null
  }
  if (end.offset <= last.offset)
    return `the topic ends before offset ${end.offset}, the last recorded one is ${last.offset}`
  if (end.first > last.offset + 1n)
    return `the topic begins at offset ${end.first}, the last recorded one is ${last.offset}`
  return null
}

/** Extends a chain by one partition's records, up to the first that does not belong there. */
const extend = (
  from: Head,
  records: IncomingRecord[],
): { head: Head; rows: StoredRecord[]; problem?: 'gap' | 'mismatch' } => {
  const head = { ...from }
  const rows: StoredRecord[] = []
  for (const record of records) {
    if (record.offset < head.offset) continue
    if (record.offset > nextOffsetOf(head)) return { head, rows, problem: 'gap' }
    const chained = chainedRecordOf(record)
    const bytes = bytesOf(chained)
    if (record.offset === head.offset) {
      if (head.bytes && !bytes.equals(head.bytes)) return { head, rows, problem: 'mismatch' }
      head.proven = true
      continue
    }
    Object.assign(head, { offset: record.offset, hash: hashAfter(head.hash, bytes), bytes, gaps: 0 })
    rows.push({ ...head.chain, ...chained, hash: head.hash })
  }
  return { head, rows }
}

/**
 * Stores every record as received, in one hash chain for each partition. The position is the chain's last row, and the
 * primary key alone decides which instance adds the next one, so any number of instances may handle the same partition
 * at the same time. A partition whose topic and chain contradict each other is halted: nothing is added to its chain
 * until an operator has investigated.
 */
export const createRecorder = (
  sql: Database,
  /** Called with the number of records of each commit. */
  onRecorded: (records: number) => void = () => {},
) => {
  const heads = new Map<string, Head>()
  /** The table that the heads are of: a rebuilt one may be put in its place. */
  let incarnation = 0

  const halt = (consumer: Consumer, { topic, partition }: TopicPartition, reason: string) => {
    heads.delete(idOf({ topic, partition }))
    consumer.halt({ topic, partition }, reason)
    haltedPartitions.inc()
  }

  const loadHeads = async (chains: Head['chain'][]): Promise<Map<string, Head>> => {
    const lastRecords = await loadLastRecords(sql, chains)
    return new Map(
      lastRecords.map(({ topic, epoch, partition, hash, ...record }) => {
        const chain = { topic: topic as Topic, epoch, partition }
        const head = { chain, offset: record.offset, hash, bytes: bytesOf(record), proven: false, gaps: 0 }
        return [idOf(chain), head]
      }),
    )
  }

  /**
   * A rebuilt table was put in the place of the one that the heads are of. A chain that ends there as it did is gone on
   * with; of any other, the last record must be read from the topic again first, as after a restart.
   */
  const reloadHeads = async () => {
    incarnation = await loadIncarnation(sql)
    const loaded = await loadHeads([...heads.values()].map(({ chain }) => chain))
    for (const [id, head] of [...heads]) {
      const stored = loaded.get(id)
      if (stored && !(stored.offset === head.offset && stored.hash.equals(head.hash))) heads.set(id, stored)
      if (!stored && head.bytes) heads.set(id, startOf(head.chain, 0n))
    }
  }

  /** Reading starts at the last record, not after it: it must be read again before anything is added. */
  const positions: ConsumerOptions['positions'] = async (assigned, readEnds, consumer) => {
    heads.clear()
    incarnation = await loadIncarnation(sql)
    const epochs = await loadEpochs(sql)
    const chainOf = ({ topic, partition }: TopicPartition) => ({
      topic,
      epoch: epochs.get(topic) ?? 0,
      partition,
    })
    const loaded = await loadHeads(assigned.map(chainOf))

    const from: Position[] = []
    for (const end of await readEnds()) {
      const last = loaded.get(idOf(end))
      const reason = contradictionOf(end, last)
      if (reason) {
        halt(consumer, end, reason)
        continue
      }
      const head = last ?? startOf(chainOf(end), end.first)
      // Retention has deleted the last record since it was stored: nothing to compare, and nothing missing.
      if (end.first === head.offset + 1n) head.proven = true
      heads.set(idOf(end), head)
      from.push({ topic: end.topic, partition: end.partition, offset: nextOffsetOf(head) })
    }
    return from
  }

  /** One insert for the whole batch; heads advance only once it is committed. */
  const handle = async (records: IncomingRecord[], consumer: Consumer): Promise<void> => {
    const extended: Array<[id: string, Head]> = []
    const rows: StoredRecord[] = []
    for (const [id, ofPartition] of Map.groupBy(records, idOf)) {
      const from = heads.get(id)
      // Without a head the partition is halted, or it is not positioned yet and these records are delivered again.
      if (!from) continue
      const { head, rows: added, problem } = extend(from, ofPartition)
      if (problem === 'mismatch') {
        halt(consumer, head.chain, `the topic's record at offset ${head.offset} is not the one recorded`)
        continue
      }
      if (problem === 'gap') {
        head.gaps += 1
        from.gaps = head.gaps
        if (head.gaps >= MAX_GAPS)
          halt(consumer, head.chain, `the topic no longer holds offset ${nextOffsetOf(head)}`)
        else consumer.seek({ ...head.chain, offset: nextOffsetOf(head) })
      }
      extended.push([id, head])
      rows.push(...added)
    }
    if (rows.length > 0) {
      try {
        if (!(await insertRecords(sql, rows, incarnation))) {
          await reloadHeads()
          return handle(records, consumer)
        }
      } catch (error) {
        if (!isUniqueViolation(error)) throw error
        // Another instance has stored some of these records, or our own insert was committed and its answer lost. At
        // each retry at least one more record is already stored, so this ends.
        const rivals = await loadHeads(extended.map(([, head]) => head.chain))
        for (const [id, head] of rivals) if (heads.has(id)) heads.set(id, head)
        return handle(records, consumer)
      }
    }
    for (const [id, head] of extended) {
      const current = heads.get(id)
      if (current && current.offset <= head.offset) heads.set(id, head)
      position.set({ topic: head.chain.topic, partition: head.chain.partition }, Number(head.offset))
    }
    for (const [topic, added] of Map.groupBy(rows, row => row.topic)) recorded.inc({ topic }, added.length)
    if (rows.length > 0) onRecorded(rows.length)
  }

  return { positions, handle }
}
