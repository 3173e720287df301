import type { Database } from '@pennywire/runtime/database.ts'
import { bytesOf, type Chain, genesisOf, hashAfter } from './hash-chain.ts'
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
export async function* verifyChains(sql: Database): AsyncGenerator<ChainReport> {
  for (const chain of await loadChains(sql)) yield await verifyChain(sql, chain)
}

const verifyChain = async (sql: Database, chain: Chain): Promise<ChainReport> => {
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
        firstBroken ??= { ...chain, offset: record.offset, reason }
      }
      // The next record is checked against the stored hash, so that one edit is counted once, at its own offset.
      previous = record
      first ??= record.offset
    }
    records += page.length
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

const faultOf = (
  record: Parameters<typeof bytesOf>[0] & { hash: Buffer },
  previous: { offset: bigint; hash: Buffer } | null,
  chain: Chain,
): string | null => {
  const missing = previous ? record.offset - previous.offset - 1n : 0n
  if (missing > 0n) return `${missing} missing before it`
  if (hashAfter(previous?.hash ?? genesisOf(chain), bytesOf(record)).equals(record.hash)) return null
  return !previous && record.offset > 0n
    ? 'it is not what was recorded here, or records before it are missing'
    : 'it is not what was recorded here'
}
