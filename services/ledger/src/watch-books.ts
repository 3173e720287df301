import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter, gauge } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { checkBooks } from './check-books.ts'
import type { Broken } from './sql/broken.ts'
import {
  checkBalancesOf,
  checkChainsOf,
  checkEntriesOf,
  checkEventsOf,
  checkOverdraftOf,
  type RecentEvent,
  readByKeys,
  readEvents,
  readLinked,
  readWritten,
} from './sql/check-recent.ts'

export const WATCHED = ['M1', 'M2', 'M3', 'O1', 'X1'] as const
export type Watched = (typeof WATCHED)[number]

const booksBroken = gauge(
  'ledger_books_broken',
  '1 where a check of the books found this promise broken; back to 0 when all books were checked and it holds',
  ['promise'],
)
const checked = counter(
  'ledger_books_checked_events_total',
  'Events whose transfers, entries and wallets were checked',
)
const passedOver = counter(
  'ledger_books_passed_over_events_total',
  'Events too many for the check of what is new; the check of all books covers them',
)
const fullSeconds = gauge('ledger_books_full_check_seconds', 'How long the last check of all books took')
const fullAt = gauge('ledger_books_full_check_timestamp_seconds', 'When it ended, in seconds since 1970')

const fullShare = gauge(
  'ledger_books_full_check_share',
  'How much of the tables the check of all books that is under way has read, from 0 to 1; 1 between two',
)

/** Events checked in one snapshot: few, so that the check never keeps a snapshot for long. */
const CHUNK = 500

const STATUS_OF: Record<string, string> = {
  'pennywire.ledger.TransferCompleted': 'completed',
  'pennywire.ledger.TransferReversed': 'completed',
  'pennywire.ledger.TransferRejected': 'rejected',
}

export type BooksWatch = { stop: () => Promise<void> }

/**
 * Checks the books while the ledger runs: every few seconds the events decided in these partitions since the last
 * check, by primary keys alone, and now and then all books in short ranges, as verify-books does. It uses its own
 * connection, off the hot path. The first broken row is logged and raises a gauge. It halts nothing: that is for an
 * operator to decide.
 */
export const watchBooks = (deps: {
  sql: Database
  logger: Logger
  clock: Clock
  /** The partitions to check. */
  partitions: () => number[]
  /** The intervals of the check of new events and of the full check; 0 for never. */
  everyMs: number
  everyMsFull: number
  /** Most events in one check of new events. Beyond that only the newest are checked. */
  maxEvents: number
  /** Most rows of a table in one transaction of the full check. */
  rangeRows?: number | undefined
}): BooksWatch => {
  const { sql, logger, clock, everyMs, everyMsFull, maxEvents } = deps
  const stopped = new AbortController()
  const seen = new Map<number, bigint>()
  for (const promise of WATCHED) booksBroken.set({ promise }, 0)

  const raise = (promise: Watched, broken: Broken) => {
    if (broken === undefined) return
    booksBroken.set({ promise }, 1)
    logger.fatal({ promise, broken }, 'the books are broken')
  }

  /** Checks a partition's events after `after`; resolves with the last `seq` checked. */
  const checkEvents = (partition: number, after: bigint, through: bigint): Promise<bigint> =>
    sql.begin('isolation level repeatable read read only', async tx => {
      await readByKeys(tx)
      const events = await readEvents(tx, partition, after, through)
      const hole = events.findIndex(({ seq }, index) => seq !== after + 1n + BigInt(index))
      if (hole !== -1 || BigInt(events.length) !== through - after)
        raise('O1', `the journal has a hole: partition=${partition} after=${after} through=${through}`)
      const transfers = events.flatMap((event): Array<RecentEvent & { status: string }> => {
        const status = STATUS_OF[event.type]
        return status === undefined ? [] : [{ ...event, status }]
      })
      if (transfers.length > 0) {
        const transferIds = transfers.map(({ subject }) => subject)
        const ids = [...transferIds, ...(await readLinked(tx, transferIds))]
        raise('O1', await checkEventsOf(tx, transfers))
        raise('M1', await checkEntriesOf(tx, ids))
        raise('M2', (await checkChainsOf(tx, ids)) ?? (await checkBalancesOf(tx, ids)))
        raise('M3', await checkOverdraftOf(tx, ids))
      }
      checked.inc(events.length)
      return through
    })

  const checkNew = async () => {
    const partitions = deps.partitions()
    if (partitions.length === 0) return
    const share = BigInt(Math.ceil(maxEvents / partitions.length))
    const written = await sql.begin(tx => readWritten(tx, partitions))
    for (const { partition, seq } of written) {
      // The last events of a predecessor are checked too.
      let from = seen.get(partition) ?? (seq > share ? seq - share : 0n)
      if (seq - from > share) {
        passedOver.inc(Number(seq - share - from))
        from = seq - share
      }
      while (from < seq && !stopped.signal.aborted) {
        const through = from + BigInt(CHUNK) < seq ? from + BigInt(CHUNK) : seq
        from = await checkEvents(partition, from, through)
      }
      seen.set(partition, from)
    }
    // Forget partitions that another ledger has now: they may be assigned here again later.
    for (const partition of seen.keys()) if (!partitions.includes(partition)) seen.delete(partition)
  }

  const checkAll = async () => {
    const began = clock.elapsed()
    fullShare.set(0)
    let rangeBegan = began
    const { checks } = await checkBooks({
      sql,
      clock,
      signal: stopped.signal,
      rangeRows: deps.rangeRows,
      onBroken: raise,
      // Sleeps as long as the range took, so that the check takes at most half of a core from the payments.
      afterRange: async share => {
        fullShare.set(share)
        await sleep(clock, clock.elapsed() - rangeBegan, stopped.signal)
        rangeBegan = clock.elapsed()
      },
    })
    for (const promise of WATCHED)
      if (checks.every(check => check.promise !== promise || check.broken === undefined))
        booksBroken.set({ promise }, 0)
    fullSeconds.set((clock.elapsed() - began) / 1_000)
    fullAt.set(clock.now() / 1_000)
  }

  const onError = (error: unknown) =>
    logger.warn({ err: error }, 'the books could not be checked; trying again')
  const checks = [
    { everyMs, work: checkNew },
    { everyMs: everyMsFull, work: checkAll },
  ]
    .filter(check => check.everyMs > 0)
    .map(check => repeat({ ...check, clock, pauseFirst: true, onError }))

  return {
    stop: async () => {
      stopped.abort()
      const stopping = Promise.all(checks.map(check => check.stop()))
      // Cuts off a check in progress.
      await sql.end({ timeout: 0 })
      await stopping
    },
  }
}
