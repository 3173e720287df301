import {
  type ChainHead,
  checkpointHash,
  GENESIS,
  type PublicKeys,
  type ReadCheckpoint,
  readCheckpoint,
} from './checkpoint.ts'
import type { BrokenRecord } from './verify-chains.ts'

export type CheckpointSource = 'the database' | 'the topic' | 'the file'
export type BrokenCheckpoint = { source: CheckpointSource; sequence: bigint | null; reason: string }

export type SourceReport = {
  source: CheckpointSource
  checkpoints: number
  /** The last one, and when and with which key it was signed. */
  last: { sequence: bigint; time: number; kid: string; hash: string } | null
  broken: number
  firstBroken: BrokenCheckpoint | null
  /** Checkpoints at the end that this source has not, but another one has, for too short a time to be a fault. */
  late: number
}
export type CheckpointReport = {
  sources: SourceReport[]
  checked: number
  brokenChains: number
  firstBrokenRecord: BrokenRecord | null
}

/** A source may be this much behind another one: a full disk or a broker that is away heals by itself. */
const MAY_LAG_MS = 300_000
/** How many checkpoints' heads are compared with the trail in one statement. */
const PAGE = 50

const chainId = ({ topic, epoch, partition }: ChainHead) => `${topic}/${epoch}/${partition}`

/**
 * Verifies the checkpoints of all sources: every signature, every number from 1 on without a gap, the chain of hashes,
 * the equality of the sources, and the trail against the heads that the checkpoints state. Give each source's
 * checkpoints in its order to `read`, then call `end`. Without keys (`null`) no signature is checked.
 */
export const createCheckpointVerifier = (options: {
  keys: PublicKeys | null
  /** The stored hash at each of these places, in their order; null where the trail has no record. */
  loadHashesAt: (places: ChainHead[]) => Promise<Array<string | null>>
  /** The first and the last offset of each chain, by topic/epoch/partition. */
  chains: ReadonlyMap<string, { first: bigint; last: bigint }>
}) => {
  const { keys, loadHashesAt, chains } = options
  /** Each number's hash and time, and the source that had it first. */
  const seen = new Map<bigint, { hash: string; time: number; source: CheckpointSource }>()
  const sources = new Map<CheckpointSource, ReturnType<typeof startSource>>()
  const brokenChains = new Set<string>()
  let firstBrokenRecord: BrokenRecord | null = null
  let checked = 0
  /** The heads of checkpoints that are not compared yet. */
  let waiting: Array<{ sequence: bigint; head: ChainHead; before: ChainHead | undefined }> = []
  let pending = 0
  /** The last compared head of each chain: what has not changed since is not compared again. */
  const lastHeads = new Map<string, ChainHead>()

  const startSource = (source: CheckpointSource) => ({
    report: { source, checkpoints: 0, last: null, broken: 0, firstBroken: null, late: 0 } as SourceReport,
    expected: 1n,
    previous: GENESIS,
    /** Numbers that did not come when they should: each range, and the number that came instead. */
    missing: [] as Array<{ from: bigint; to: bigint; at: bigint }>,
  })
  type Source = ReturnType<typeof startSource>
  const sourceOf = (name: CheckpointSource): Source => {
    const known = sources.get(name)
    if (known) return known
    const started = startSource(name)
    sources.set(name, started)
    return started
  }

  const breaks = ({ report }: Source, sequence: bigint | null, reason: string) => {
    report.broken += 1
    const earlier = report.firstBroken?.sequence ?? null
    if (!report.firstBroken || (sequence !== null && earlier !== null && sequence < earlier))
      report.firstBroken = { source: report.source, sequence, reason }
  }

  const compareHeads = async () => {
    const heads = waiting
    waiting = []
    pending = 0
    if (heads.length === 0) return
    const hashes = await loadHashesAt(heads.map(({ head }) => head))
    for (const [index, { sequence, head, before }] of heads.entries()) {
      const id = chainId(head)
      const reason = headFault(sequence, head, before, hashes[index]!)
      // A chain that is broken here is broken for every later checkpoint too.
      if (reason === null || brokenChains.has(id)) continue
      brokenChains.add(id)
      const { topic, epoch, partition } = head
      const end = chains.get(id)?.last ?? -1n
      const offset = hashes[index] === null && end < head.offset ? end + 1n : head.offset
      firstBrokenRecord ??= { topic, epoch, partition, offset, reason }
    }
  }

  const headFault = (
    sequence: bigint,
    head: ChainHead,
    before: ChainHead | undefined,
    hash: string | null,
  ): string | null => {
    const ends = chains.get(chainId(head))
    if (hash === null)
      return !ends || ends.last < head.offset
        ? `cut off: checkpoint ${sequence} states records to offset ${head.offset}, the chain ends at ${ends?.last ?? 'none'}`
        : `checkpoint ${sequence} states this record, the chain does not hold it`
    if (hash !== head.hash)
      return `rewritten: checkpoint ${sequence} states another history of the records ${before ? `after offset ${before.offset} ` : ''}to this one`
    if (ends && head.records !== head.offset - ends.first + 1n)
      return `checkpoint ${sequence} states ${head.records} records to this one, the chain has ${head.offset - ends.first + 1n}`
    return null
  }

  const accept = async (source: Source, checkpoint: ReadCheckpoint) => {
    const { sequence, time, kid, hash } = checkpoint
    const other = seen.get(sequence)
    if (other && other.hash !== hash) {
      breaks(source, sequence, `it is another one than checkpoint ${sequence} in ${other.source}`)
      return
    }
    if (!other) {
      seen.set(sequence, { hash, time, source: source.report.source })
      checked += 1
      for (const head of checkpoint.chains) {
        const id = chainId(head)
        const before = lastHeads.get(id)
        if (before?.hash === head.hash && before.offset === head.offset) continue
        waiting.push({ sequence, head, before })
        lastHeads.set(id, head)
      }
      if (++pending >= PAGE) await compareHeads()
    }
    source.report.last = { sequence, time, kid, hash }
  }

  const splitMissing = (source: Source, sequence: bigint): boolean => {
    const index = source.missing.findIndex(({ from, to }) => from <= sequence && sequence <= to)
    if (index < 0) return false
    const { from, to, at } = source.missing[index]!
    const rest = [
      { from, to: sequence - 1n, at },
      { from: sequence + 1n, to, at },
    ].filter(range => range.from <= range.to)
    source.missing.splice(index, 1, ...rest)
    return true
  }

  /** The next checkpoint of a source; `row` is the number by which the source keeps it, where it keeps one. */
  const read = async (name: CheckpointSource, token: string, row?: bigint): Promise<void> => {
    const source = sourceOf(name)
    const result = readCheckpoint(token, keys)
    if ('fault' in result) {
      const sequence = result.sequence ?? row ?? source.expected
      breaks(source, sequence, result.fault)
      // It stands where it belongs, so that what follows is not taken for broken as well.
      if (sequence >= source.expected) source.expected = sequence + 1n
      source.previous = checkpointHash(token)
      return
    }
    const { checkpoint } = result
    const { sequence, hash, previous } = checkpoint
    if (row !== undefined && row !== sequence) {
      breaks(source, row, `its row holds checkpoint ${sequence}: checkpoints were exchanged`)
      if (row >= source.expected) source.expected = row + 1n
      source.previous = hash
      return
    }
    if (sequence < source.expected) {
      if (splitMissing(source, sequence))
        breaks(source, sequence, `it stands behind checkpoint ${source.expected - 1n}: the order was changed`)
      // A repeat: a producer that did not learn that its record had arrived sends it again.
      else if (seen.get(sequence)?.hash !== hash)
        breaks(source, sequence, `another checkpoint ${sequence} stands before it`)
      return
    }
    source.report.checkpoints += 1
    const inOrder = sequence === source.expected
    if (!inOrder) source.missing.push({ from: source.expected, to: sequence - 1n, at: sequence })
    else if (previous !== source.previous)
      breaks(
        source,
        sequence,
        `it is not chained to checkpoint ${sequence - 1n}: one of the two was replaced`,
      )
    source.expected = sequence + 1n
    source.previous = hash
    await accept(source, checkpoint)
  }

  /** `now` is the time by which a source that lags behind another one is judged. */
  const end = async (names: readonly CheckpointSource[], now: number): Promise<CheckpointReport> => {
    await compareHeads()
    const all = names.map(sourceOf)
    let greatest = 1n
    for (const { expected } of all) if (expected > greatest) greatest = expected
    for (const source of all) {
      for (const { from, to, at } of source.missing)
        breaks(
          source,
          from,
          `${from === to ? 'it is' : `it and those to ${to} are`} missing before checkpoint ${at}`,
        )
      if (source.expected === greatest) continue
      const first = seen.get(source.expected)
      if (first && now - first.time < MAY_LAG_MS) source.report.late = Number(greatest - source.expected)
      else
        breaks(
          source,
          source.expected,
          `it is missing at the end; ${first ? first.source : 'another source'} has it`,
        )
    }
    return {
      sources: all.map(({ report }) => report),
      checked,
      brokenChains: brokenChains.size,
      firstBrokenRecord,
    }
  }

  return { read, end }
}
