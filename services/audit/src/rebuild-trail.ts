import { RECORDED_TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { TopicEnd } from '@pennywire/kafka/consumer.ts'
import { bytesOf, type Chain, chainedRecordOf, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import { readTopics } from '@pennywire/kafka/read-topic.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { type ChainHead, readCheckpoint } from './checkpoint.ts'
import { loadChainHeads, loadHashesAt, loadLastCheckpoint } from './sql/checkpoints.ts'
import { loadEpochs } from './sql/epochs.ts'
import { compareRange, copyRows, createRebuilt } from './sql/rebuild.ts'
import { loadRecordsAfter, type StoredRecord } from './sql/records.ts'
import type { BrokenRecord } from './verify-chains.ts'

const CARRY_PAGE = 5_000
const COMPARE_PAGE = 20_000n
/** The live service may be behind the topics' ends for this long, while it goes on. */
const LIVE_WITHIN_MS = 15_000
const LIVE_LOOK_MS = 200

type Head = { chain: Chain; offset: bigint; hash: Buffer }
type Report = { add: (count: number) => void; end: () => void }

export type RebuildDeps = {
  /** As the owner. */
  sql: Database
  client: KafkaClient
  logger: Logger
  clock: Clock
  signal: AbortSignal
  progressOf: (what: string, total: number) => Report
}

export type Rebuilt = {
  /** Records read from the topics, and records that the topics no longer hold, taken over from the live trail. */
  replayed: number
  carried: number
  /** What an interrupted rebuild had done before. */
  resumed: number
  seconds: number
}

const placeOf = ({ topic, epoch, partition }: Chain, offset: bigint) =>
  `${topic} epoch ${epoch} partition ${partition} offset ${offset}`
const chainId = ({ topic, epoch, partition }: Chain) => `${topic}/${epoch}/${partition}`

/** The next row of a chain; the head goes on to it. */
const appendTo = (head: Head, record: Omit<StoredRecord, keyof Chain | 'hash'>): StoredRecord => {
  head.hash = hashAfter(head.hash, bytesOf(record))
  head.offset = record.offset
  return { ...head.chain, ...record, hash: head.hash }
}

/** The topics' first and last offsets now. */
const loadTopicEnds = async (client: KafkaClient): Promise<TopicEnd[]> => {
  const admin = client.admin()
  await admin.connect()
  try {
    const ends: TopicEnd[] = []
    for (const topic of RECORDED_TOPICS)
      for (const { partition, low, high } of await admin.fetchTopicOffsets(topic))
        ends.push({ topic, partition, first: BigInt(low), offset: BigInt(high) })
    return ends
  } finally {
    await admin.disconnect()
  }
}

/**
 * Rebuilds the whole trail in audit.records_rebuilt: what the topics hold from the topics, the rest (earlier epochs,
 * records that retention deleted) from the live trail, with every hash recomputed. The position is each chain's last
 * row, so an interrupted rebuild goes on where it was. Resolves with null if it was stopped.
 */
export const rebuildTrail = async (deps: RebuildDeps): Promise<Rebuilt | null> => {
  const { sql, client, logger, clock, signal, progressOf } = deps
  await createRebuilt(sql)
  const since = clock.elapsed()
  const epochs = await loadEpochs(sql)
  const ends = await loadTopicEnds(client)
  const heads = new Map<string, Head>()
  let resumed = 0
  for (const { offset, records, hash, ...chain } of await loadChainHeads(sql, 'audit.records_rebuilt')) {
    resumed += Number(records)
    heads.set(chainId(chain), {
      chain: { topic: chain.topic, epoch: chain.epoch, partition: chain.partition },
      ...{ offset, hash: Buffer.from(hash, 'hex') },
    })
  }
  const currentChain = ({ topic, partition }: { topic: string; partition: number }): Chain => ({
    topic,
    epoch: epochs.get(topic) ?? 0,
    partition,
  })
  const topicEnds = new Map(ends.map(end => [chainId(currentChain(end)), end]))

  /** Takes over a live chain's records before `before`, which no topic holds any more. */
  const carryOver = async (live: ChainHead, before: bigint): Promise<number> => {
    const chain = { topic: live.topic, epoch: live.epoch, partition: live.partition }
    const first = live.offset - live.records + 1n
    const head = heads.get(chainId(chain)) ?? { chain, offset: first - 1n, hash: genesisOf(chain) }
    let carried = 0
    while (head.offset + 1n < before && !signal.aborted) {
      const page = await loadRecordsAfter(sql, chain, head.offset, CARRY_PAGE)
      const rows: StoredRecord[] = []
      for (const { hash, ...record } of page) {
        if (record.offset >= before) break
        if (record.offset !== head.offset + 1n)
          throw new Error(`${placeOf(chain, head.offset + 1n)}: neither its topic nor the live trail has it`)
        const row = appendTo(head, record)
        if (!row.hash.equals(hash))
          throw new Error(
            `${placeOf(chain, record.offset)}: no topic holds it, and the live trail's record is broken`,
          )
        rows.push(row)
      }
      if (rows.length === 0)
        throw new Error(`${placeOf(chain, head.offset + 1n)}: neither its topic nor the live trail has it`)
      await copyRows(sql, rows)
      heads.set(chainId(chain), head)
      carried += rows.length
    }
    return carried
  }

  let carried = 0
  for (const live of await loadChainHeads(sql)) {
    const end = topicEnds.get(chainId(live))
    const before = end && end.first <= live.offset ? end.first : live.offset + 1n
    carried += await carryOver(live, before)
  }
  if (signal.aborted) return null

  const headOf = (at: { topic: Topic; partition: number }, first: bigint): Head => {
    const chain = currentChain(at)
    const known = heads.get(chainId(chain))
    if (known) return known
    const begun = { chain, offset: first - 1n, hash: genesisOf(chain) }
    heads.set(chainId(chain), begun)
    return begun
  }
  const left = ends.reduce((sum, end) => sum + Number(end.offset - headOf(end, end.first).offset - 1n), 0)
  const progress = progressOf('rebuilding', left)
  let replayed = 0
  const replay = async (records: IncomingRecord[]) => {
    const rows = records.map(record => {
      const head = heads.get(chainId(currentChain(record)))!
      if (record.offset !== head.offset + 1n)
        throw new Error(
          `${placeOf(head.chain, head.offset + 1n)}: the topic went on at offset ${record.offset}`,
        )
      return appendTo(head, chainedRecordOf(record))
    })
    await copyRows(sql, rows)
    replayed += rows.length
    progress.add(rows.length)
  }
  if (left > 0)
    await readTopics({
      ...{ client, logger, topics: RECORDED_TOPICS, bulk: true, signal, handle: replay },
      start: end => headOf(end, end.first).offset + 1n,
    })
  progress.end()
  if (signal.aborted) return null
  return { replayed, carried, resumed, seconds: (clock.elapsed() - since) / 1_000 }
}

export type Comparison = { equal: number; different: number; first: BrokenRecord | null }

const DIFFERENCES = {
  live: 'the live trail does not hold it',
  rebuilt: 'the live trail holds it, the topic does not',
  both: 'the live trail holds another record here than the topic',
}

/** Waits until the live trail has what was rebuilt, and resolves with its heads: it goes on meanwhile. */
const liveHeads = async (
  { sql, clock, signal }: RebuildDeps,
  rebuilt: ChainHead[],
): Promise<Map<string, ChainHead>> => {
  const until = clock.elapsed() + LIVE_WITHIN_MS
  for (;;) {
    const live = new Map((await loadChainHeads(sql)).map(head => [chainId(head), head]))
    const behind = rebuilt.some(head => (live.get(chainId(head))?.offset ?? -1n) < head.offset)
    if (!behind || clock.elapsed() > until || signal.aborted) return live
    await sleep(clock, LIVE_LOOK_MS, signal)
  }
}

/** Compares the rebuilt trail with the live one, every column of every row, up to where it was rebuilt. */
export const compareTrails = async (deps: RebuildDeps): Promise<Comparison> => {
  const { sql, signal, progressOf } = deps
  const rebuilt = await loadChainHeads(sql, 'audit.records_rebuilt')
  const live = await liveHeads(deps, rebuilt)
  const total = rebuilt.reduce((sum, { records }) => sum + Number(records), 0)
  const progress = progressOf('comparing', total)
  const result: Comparison = { equal: 0, different: 0, first: null }
  for (const head of rebuilt) {
    const chain = { topic: head.topic, epoch: head.epoch, partition: head.partition }
    const other = live.get(chainId(head))
    const firstOf = ({ offset, records }: ChainHead) => offset - records + 1n
    let from = firstOf(head)
    if (other && firstOf(other) < from) from = firstOf(other)
    for (; from <= head.offset && !signal.aborted; from += COMPARE_PAGE) {
      const to = from + COMPARE_PAGE - 1n < head.offset ? from + COMPARE_PAGE - 1n : head.offset
      const range = await compareRange(sql, chain, from, to)
      result.equal += Number(range.equal)
      result.different += Number(range.different)
      progress.add(Number(range.equal + range.different))
      if (range.first !== null)
        result.first ??= { ...chain, offset: range.first, reason: DIFFERENCES[range.missing ?? 'both'] }
    }
  }
  for (const [id, head] of live) {
    if (rebuilt.some(one => chainId(one) === id)) continue
    result.different += Number(head.records)
    const { topic, epoch, partition } = head
    const offset = head.offset - head.records + 1n
    result.first ??= { topic, epoch, partition, offset, reason: DIFFERENCES.rebuilt }
  }
  progress.end()
  return result
}

/**
 * Compares the rebuilt trail with the last checkpoint; returns what contradicts it, or null. Signatures are for
 * audit:verify.
 */
export const compareWithCheckpoint = async (sql: Database): Promise<string | null> => {
  const last = await loadLastCheckpoint(sql)
  const read = last && readCheckpoint(last.token, null)
  if (!read) return null
  if ('fault' in read) return `checkpoint ${last.sequence}: ${read.fault}`
  const ends = new Map(
    (await loadChainHeads(sql, 'audit.records_rebuilt')).map(head => [chainId(head), head.offset]),
  )
  const stated = read.checkpoint.chains.filter(head => head.offset <= (ends.get(chainId(head)) ?? -1n))
  const hashes = await loadHashesAt(sql, stated, 'audit.records_rebuilt')
  const index = stated.findIndex(({ hash }, at) => hash !== hashes[at])
  if (index < 0) return null
  return `${placeOf(stated[index]!, stated[index]!.offset)}: the topics hold another history than checkpoint ${last.sequence} states`
}
