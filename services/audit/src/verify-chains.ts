import { bytesOf, type Chain, type ChainedRecord, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { loadChains, loadRecordsAfter } from './sql/records.ts'

/** How many records are in memory at once. */
const PAGE = 1_000

export type BrokenRecord = Chain & { offset: bigint; reason: string }
export type ChainReport = Chain & {
  records: number
  first: bigint
  last: bigint
  /** Hash of the last record: kept from an earlier run, it proves that nothing before it changed. */
  headHash: string
  broken: number
  firstBroken: BrokenRecord | null
}

/** Recomputes every chain from its genesis, a page at a time, and reports each when it is done. */
export async function* verifyChains(
  sql: Database,
  onVerified: (records: number) => void = () => {},
): AsyncGenerator<ChainReport> {
  for (const chain of await loadChains(sql)) yield await verifyChain(sql, chain, onVerified)
}

const verifyChain = async (
  sql: Database,
  chain: Chain,
  onVerified: (records: number) => void,
): Promise<ChainReport> => {
  let previous: { offset: bigint; hash: Buffer } | null = null
  let first: bigint | null = null
  let records = 0
  let broken = 0
  let firstBroken: BrokenRecord | null = null
  for (;;) {
    const page = await loadRecordsAfter(sql, chain, previous?.offset ?? null, PAGE)
    for (const record of page) {
      const reason = faultOf(record, previous, chain)
      if (reason) {
        broken += 1
        firstBroken ??= { ...chain, offset: record.offset, reason: await causeOf(sql, chain, record, reason) }
      }
      // The next record is checked against the stored hash, so that one edit is counted once, at its own offset.
      previous = record
      first ??= record.offset
    }
    records += page.length
    onVerified(page.length)
    if (page.length < PAGE) break
  }
  return {
    ...chain,
    records,
    first: first ?? 0n,
    last: previous?.offset ?? -1n,
    headHash: previous?.hash.toString('hex') ?? '',
    broken,
    firstBroken,
  }
}

type Hashed = ChainedRecord & { hash: Buffer }

/** Tells, by the records around it, in which way a record is not what was recorded, where that can be told. */
const causeOf = async (sql: Database, chain: Chain, record: Hashed, reason: string): Promise<string> => {
  if (reason !== CHANGED) return reason
  const around = await loadRecordsAfter(sql, chain, record.offset - 3n, 4)
  const at = (distance: bigint) => around.find(({ offset }) => offset === record.offset + distance)
  const hashOf = (distance: bigint) => at(distance)?.hash ?? genesisOf(chain)
  /** Whether `of` has the hash that it has if this content is chained to that hash. */
  const fits = (of: Hashed, previous: Buffer, content: ChainedRecord) =>
    hashAfter(previous, bytesOf(content)).equals(of.hash)
  const moved = fits(record, hashOf(-2n), { ...record, offset: record.offset - 1n })
  if (moved && !hashOf(-1n).equals(record.hash)) return `${reason}: a record was inserted before it`
  const next = at(1n)
  if (!next) return reason
  const exchanged =
    fits(record, next.hash, { ...record, offset: next.offset }) ||
    (['value', 'key', 'headers'] as const).some(
      field =>
        fits(record, hashOf(-1n), { ...record, [field]: next[field] }) &&
        fits(next, record.hash, { ...next, [field]: record[field] }),
    )
  return exchanged ? `${reason}: it and the next one were exchanged` : reason
}

const CHANGED = 'it is not what was recorded here'

const faultOf = (
  record: Hashed,
  previous: { offset: bigint; hash: Buffer } | null,
  chain: Chain,
): string | null => {
  const missing = previous ? record.offset - previous.offset - 1n : 0n
  if (missing > 0n) return `${missing} missing before it`
  if (hashAfter(previous?.hash ?? genesisOf(chain), bytesOf(record)).equals(record.hash)) return null
  return !previous && record.offset > 0n ? `${CHANGED}, or records before it are missing` : CHANGED
}
