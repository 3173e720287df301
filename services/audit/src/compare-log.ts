import { UNKNOWN_ACTION } from '@pennywire/contracts/log-entry.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Chain } from '@pennywire/kafka/hash-chain.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { ChainHead } from './checkpoint.ts'
import { logRowOf } from './index-log.ts'
import { loadChainHeads } from './sql/checkpoints.ts'
import { findIncomplete, type LogRow, loadIndexedOffsets, loadLogRange, replaceLog } from './sql/log.ts'
import { loadRecordsAfter, type TrailTable } from './sql/records.ts'

const PAGE = 2_000
/** For how long the index may be behind the trail, while it goes on. */
export const INDEX_WITHIN_MS = 15_000
const LOOK_MS = 200

export type LogComparison = {
  equal: number
  different: number
  /** Records after the last indexed one of their chain, and those whose schema was unknown when they were indexed. */
  behind: number
  replaced: number
  first: string | null
}

/** What a row of the index says, without its number and what it names. */
const saying = ({ timeMs, action, actorId, actorRole, ...row }: Omit<LogRow, 'subjects'>) =>
  JSON.stringify([
    ...[String(timeMs), action, actorId, actorRole],
    ...[row.requestId, row.traceId, row.addressHash, row.refusal],
  ])

/** Resolves with the indexed offsets once the index holds the trail to these heads, or after a while. */
const untilIndexed = async (
  sql: Database,
  heads: ChainHead[],
  withinMs: number,
  clock: Clock,
  signal: AbortSignal,
): Promise<Array<bigint | null>> => {
  const until = clock.elapsed() + withinMs
  for (;;) {
    const indexed = await loadIndexedOffsets(sql, heads)
    const isBehind = heads.some(({ offset }, n) => (indexed[n] ?? -1n) < offset)
    if (!isBehind || clock.elapsed() > until || signal.aborted) return indexed
    await sleep(clock, LOOK_MS, signal)
  }
}

/**
 * Makes the index anew from a trail, page by page, and compares each row with the live index: all columns, and that
 * everything that a record names is there. With `repair` (as the owner) what differs is put right in place, while the
 * service goes on.
 */
export const compareLog = async (deps: {
  sql: Database
  codec: Pick<Codec, 'decodeRecord'>
  table: TrailTable
  repair: boolean
  /** How long the index is waited for. */
  withinMs: number
  clock: Clock
  signal: AbortSignal
  progressOf: (what: string, total: number) => { add: (count: number) => void; end: () => void }
}): Promise<LogComparison> => {
  const { sql, codec, table, repair, withinMs, clock, signal, progressOf } = deps
  const heads = await loadChainHeads(sql, table)
  const indexed = await untilIndexed(sql, heads, withinMs, clock, signal)
  const progress = progressOf(
    'comparing the index',
    heads.reduce((sum, { records }) => sum + Number(records), 0),
  )
  const result: LogComparison = { equal: 0, different: 0, behind: 0, replaced: 0, first: null }
  for (const [n, head] of heads.entries()) {
    const indexedTo = indexed[n] ?? -1n
    const chain: Chain = { topic: head.topic, epoch: head.epoch, partition: head.partition }
    let after: bigint | null = null
    while (after !== head.offset && !signal.aborted) {
      const page: Awaited<ReturnType<typeof loadRecordsAfter>> = await loadRecordsAfter(
        sql,
        chain,
        after,
        PAGE,
        table,
      )
      const records = page.filter(({ offset }) => offset <= head.offset)
      const last = records.at(-1)?.offset
      if (last === undefined) break
      after = last
      const rows = await Promise.all(records.map(record => logRowOf(codec, chain, record)))
      const live = new Map(
        (await loadLogRange(sql, chain, records[0]!.offset, last)).map(row => [row.offset, row]),
      )
      const same = rows.flatMap(row => {
        const found = live.get(row.offset)
        return found && saying(found) === saying(row) ? [{ ...row, id: found.id }] : []
      })
      const incomplete = await findIncomplete(sql, same)
      const right = new Set(same.filter(({ id }) => !incomplete.has(id)).map(({ offset }) => offset))
      const wrong = rows.filter(({ offset }) => !right.has(offset))
      result.equal += right.size
      const different = wrong.filter(
        ({ offset }) => offset <= indexedTo && live.get(offset)?.action !== UNKNOWN_ACTION,
      )
      result.different += different.length
      result.behind += wrong.length - different.length
      if (different[0])
        result.first ??= `${chain.topic} epoch ${chain.epoch} partition ${chain.partition} offset ${different[0].offset}`
      if (repair && wrong.length > 0) {
        await replaceLog(sql, wrong)
        result.replaced += wrong.length
      }
      progress.add(rows.length)
    }
  }
  progress.end()
  return result
}
