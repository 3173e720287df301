import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { decodeEvent, journalRowOf, TwoHistories } from './catch-up-books.ts'
import { createReplay, type JournaledEvent, type Replay, type ReplayBase } from './replay-events.ts'
import {
  analyze,
  copyMoment,
  copyReplayed,
  countIndexes,
  countRebuiltWallets,
  createNextIndex,
  createRun,
  dropIndexes,
  endHolds,
  findContents,
  findOtherRepeat,
  type Horizon,
  loadSystemWallets,
  loadUnmatched,
  loadWallets,
  loadWalletsOfNextUsers,
  type RebuiltPosition,
  readHorizon,
  readPhase,
  readRebuiltPositions,
  saveUnmatched,
  saveWallets,
  sealWallets,
  setPhase,
  writePartitions,
  writeRebuiltPositions,
} from './sql/rebuild.ts'
import { ledgerTxOf } from './sql/store.ts'
import type { JournalRow } from './store.ts'
import { MissingEvents, writeInSlices, writeWallets } from './write-replayed.ts'

/** Wallets kept in memory, about a kilobyte each; beyond that they are read again when they are needed. */
const MOST_WALLETS_IN_MEMORY = 200_000
/** Users whose wallets are written in one go. */
const USERS_AT_ONCE = 2_000
/** The relay may be behind the ledger for this long, while it goes on. */
const PUBLISHED_WITHIN_MS = 60_000
const PUBLISHED_LOOK_MS = 200

/** How often a topic is read to its ends, until they are of one moment. */
const MOST_ENDS = 10

/** The database is neither empty nor a rebuild's. */
export class NotEmpty extends Error {
  override name = 'NotEmpty'
}

export type RebuildDeps = {
  /** The new database, as its owner. */
  target: Database
  /** The live ledger's database, to compare with; undefined: not compared. */
  live: Database | undefined
  /** Runs the ledger's migrations in the new database. */
  migrate: () => Promise<unknown>
  codec: Codec
  /** Reads ledger.events from these offsets (or from the first records) to its end, each partition in order. */
  readFrom: (
    offsets: Map<number, bigint>,
    onTotal: (total: number) => void,
    handle: (records: IncomingRecord[]) => Promise<void>,
  ) => Promise<void>
  clock: Clock
  signal: AbortSignal
  progressOf: (what: string, total: number) => { add: (count: number) => void; end: () => void }
}

export type RebuiltBooks = {
  /** Events read now, and those that an interrupted rebuild had read before. */
  events: number
  resumed: number
  repeats: number
  wallets: number
  /** Seconds of this run: reading, and all tables and indexes. */
  seconds: number
  readSeconds: number
  /** The last event of each partition that is in the rebuilt books. */
  through: Horizon
}

/**
 * Makes the database ready: an empty one gets the ledger's tables, an unfinished rebuild is gone on with. Rejects with
 * NotEmpty for any other.
 */
const prepare = async ({ target, migrate }: RebuildDeps): Promise<void> => {
  let phase = await readPhase(target)
  if (phase === undefined) {
    const found = await findContents(target)
    if (found !== undefined)
      throw new NotEmpty(`the database is not empty (it has ${found}), and no rebuild of ours`)
    await createRun(target)
    phase = 'made'
  }
  if (phase !== 'made') return
  await migrate()
  await dropIndexes(target)
}

/**
 * Rebuilds the books from ledger.events alone: the same code that writes a decided event's rows writes them again. With
 * live books, up to one moment of theirs. Resolves with null if it was stopped; the same call goes on from there.
 */
export const rebuildBooks = async (deps: RebuildDeps): Promise<RebuiltBooks | null> => {
  const { target, live, clock, signal } = deps
  const since = clock.elapsed()
  await prepare(deps)
  const reader = await createReader(deps)
  const resumed = reader.count()
  let readSeconds = 0
  if ((await readPhase(target)) === 'reading') {
    let horizon = await readHorizon(target)
    if (horizon.size === 0) await reader.read()
    if (signal.aborted) return null
    if (live) {
      if (horizon.size === 0) horizon = await copyMoment(target, live)
      await reader.readThrough(horizon)
    }
    if (signal.aborted) return null
    readSeconds = (clock.elapsed() - since) / 1_000
    for (let tries = 1; ; tries++) {
      try {
        await finish(deps, reader.unmatched())
        break
      } catch (error) {
        // Without live books, the partitions' ends are of several moments: one may lack what another builds on.
        if (live || !(error instanceof MissingEvents) || tries === MOST_ENDS) throw error
        await sleep(clock, PUBLISHED_LOOK_MS, signal)
        await reader.read()
        if (signal.aborted) return null
      }
    }
  }
  const progress = deps.progressOf('indexing', await countIndexes(target))
  while (!signal.aborted && (await createNextIndex(target))) progress.add(1)
  progress.end()
  if (signal.aborted) return null
  const other = await findOtherRepeat(target)
  if (other)
    throw new TwoHistories(
      `ledger.events/${other.partition} holds two different events with seq ${other.seq}`,
    )
  await analyze(target)
  await setPhase(target, 'built')
  return {
    events: reader.count() - resumed,
    resumed,
    repeats: reader.repeats(),
    wallets: await countRebuiltWallets(target),
    seconds: (clock.elapsed() - since) / 1_000,
    readSeconds,
    through: new Map([...reader.positions()].map(([partition, { seq }]) => [partition, seq])),
  }
}

const createReader = async ({ target, codec, readFrom, clock, signal, progressOf }: RebuildDeps) => {
  const positions = new Map<number, RebuiltPosition>(
    (await readRebuiltPositions(target)).map(position => [position.partition, position]),
  )
  const replay = createReplay()
  for (const [hold, returned] of await loadUnmatched<
    Replay['unmatched'] extends Map<string, infer One> ? One : never
  >(target))
    replay.unmatched.set(hold, returned)
  /** Whether wallets may be in the table that are not in memory. */
  let isPartOnly = positions.size > 0
  let repeats = 0
  /** The transaction of the portion before, which is written while the next is decoded. */
  let writing: Promise<unknown> = Promise.resolve()

  const base: ReplayBase = {
    findWallets: async ids => {
      if (!isPartOnly) return []
      await writing
      return loadWallets(target, ids)
    },
    findHolds: async ids => {
      await writing
      return target.begin(tx => ledgerTxOf(tx).readHolds(ids)) as ReturnType<ReplayBase['findHolds']>
    },
  }

  const handle = async (records: IncomingRecord[], horizon: Horizon | undefined) => {
    const fresh: JournaledEvent[] = []
    const again: JournalRow[] = []
    const moved = new Set<number>()
    const next = new Map(positions)
    for (const record of records) {
      const { partition, offset } = record
      const row = journalRowOf(record)
      const before = next.get(partition) ?? { partition, seq: 0n, offset: -1n, commandOffset: null }
      if (offset <= before.offset) continue
      const expected = before.seq + 1n
      // Behind the horizon: read again when the books go on.
      if (horizon && before.seq >= (horizon.get(partition) ?? 0n)) continue
      if (row && row.seq > expected)
        throw new MissingEvents(
          `ledger.events/${partition} goes on with seq ${row.seq} at offset ${offset}; it does not hold ${expected} to ${row.seq - 1n}`,
        )
      moved.add(partition)
      if (!row || row.seq < expected) {
        if (row) again.push(row)
        next.set(partition, { ...before, offset })
        continue
      }
      fresh.push({ event: await decodeEvent(codec, record), row })
      const command = headerOf(record, 'command_offset')
      const commandOffset = command !== undefined && /^\d{1,18}$/.test(command) ? BigInt(command) : null
      next.set(partition, { partition, seq: row.seq, offset, commandOffset })
    }
    if (moved.size === 0) return
    const { touched, ...rows } = await replay.add(fresh, base)
    const wallets = sealWallets([...touched].map(id => replay.wallets.get(id)!))
    const unmatched = new Map(replay.unmatched)
    const moves = [...moved].map(partition => ({
      from: positions.get(partition)?.offset ?? -1n,
      to: next.get(partition)!,
    }))
    await writing
    writing = target.begin(async tx => {
      await copyReplayed(tx, { ...rows, repeats: again })
      await writeInSlices(ledgerTxOf(tx), { holds: rows.holds, reversals: rows.reversals })
      await saveWallets(tx, wallets)
      await saveUnmatched(tx, unmatched)
      await writeRebuiltPositions(tx, moves)
    })
    // It is awaited before the next portion is written, and at the end of a read.
    writing.catch(() => {})
    for (const [partition, position] of next) positions.set(partition, position)
    repeats += again.length
    if (replay.wallets.size <= MOST_WALLETS_IN_MEMORY) return
    await writing
    replay.wallets.clear()
    isPartOnly = true
  }

  const read = async (horizon?: Horizon) => {
    let progress: ReturnType<typeof progressOf> | undefined
    const offsets = new Map([...positions].map(([partition, { offset }]) => [partition, offset + 1n]))
    try {
      await readFrom(
        offsets,
        total => {
          progress = progressOf('rebuilding', total)
        },
        async records => {
          await handle(records, horizon)
          progress?.add(records.length)
        },
      )
    } finally {
      await writing
      progress?.end()
    }
  }

  const seqOf = (partition: number) => positions.get(partition)?.seq ?? 0n
  return {
    positions: () => positions,
    unmatched: () => replay.unmatched.size,
    repeats: () => repeats,
    count: () => Number([...positions.values()].reduce((sum, { seq }) => sum + seq, 0n)),
    /** Reads to the topic's end. */
    read: () => read(),
    /** Reads up to these events; those of the last moments may not be published yet. */
    readThrough: async (horizon: Horizon) => {
      for (const partition of Array.from({ length: LEDGER_PARTITIONS }, (_, index) => index))
        if (seqOf(partition) > (horizon.get(partition) ?? 0n))
          throw new MissingEvents(
            `the live database is behind its own events in partition ${partition}: it ends at seq ${horizon.get(partition) ?? 0n}, the topic holds ${seqOf(partition)}; npm run ledger:catch-up adds them`,
          )
      const missing = () => [...horizon].find(([partition, seq]) => seqOf(partition) < seq)
      const until = clock.elapsed() + PUBLISHED_WITHIN_MS
      for (;;) {
        if (missing() && !signal.aborted) await read(horizon)
        const left = missing()
        if (!left || signal.aborted) return
        if (clock.elapsed() > until)
          throw new MissingEvents(
            `ledger.events/${left[0]} ends at seq ${seqOf(left[0])}, the live database at ${left[1]}: its relay does not publish`,
          )
        await sleep(clock, PUBLISHED_LOOK_MS, signal)
      }
    },
  }
}

/** Writes what the events leave: wallets, limits, the ends of holds, positions. All or nothing. */
const finish = async ({ target, progressOf }: RebuildDeps, unmatched: number): Promise<void> => {
  if (unmatched > 0) throw new MissingEvents(`${unmatched} holds end, and no event places them`)
  const progress = progressOf('writing wallets', await countRebuiltWallets(target))
  await target.begin(async tx => {
    const write = async (wallets: Awaited<ReturnType<typeof loadSystemWallets>>) => {
      await writeWallets(ledgerTxOf(tx), { wallets: new Map(wallets.map(wallet => [wallet.id, wallet])) })
      progress.add(wallets.length)
    }
    await write(await loadSystemWallets(tx))
    let after: string | undefined
    for (;;) {
      const wallets = await loadWalletsOfNextUsers(tx, after, USERS_AT_ONCE)
      if (wallets.length === 0) break
      await write(wallets)
      after = wallets.at(-1)!.userId!
    }
    const lost = await endHolds(tx)
    if (lost > 0n) throw new MissingEvents(`${lost} ends of holds found no active hold`)
    await writePartitions(tx)
    await setPhase(tx, 'indexing')
  })
  progress.end()
}
