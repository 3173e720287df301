import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import {
  isLedgerEvent,
  type LedgerCommandName,
  type LedgerEvent,
  type Records,
} from '@pennywire/contracts/schemas.ts'
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { findBehind, isBehind, type ReadTails } from './check-events.ts'
import { HANDLERS } from './commands/index.ts'
import { outcomeOf } from './event-rows.ts'
import { digestOf } from './fence.ts'
import { readCommand } from './read-command.ts'
import { createReplay, type JournaledEvent, type ReplayBase, storedWallet } from './replay-events.ts'
import {
  type HoldEnd,
  type JournalRow,
  type LedgerStore,
  type LedgerTx,
  noWrites,
  type PartitionRow,
} from './store.ts'
import { MissingEvents, writeInSlices, writeWallets } from './write-replayed.ts'

/** The topic and the database tell two histories: an operator must find out which one is true. */
export class TwoHistories extends Error {
  override name = 'TwoHistories'
}

/** Most rows of a statement. */
const SLICE = 5_000
const ALL_PARTITIONS = Array.from({ length: LEDGER_PARTITIONS }, (_, partition) => partition)
/** The digest of no record: the ledger halts a partition whose topic holds another command than its last event's. */
const NO_DIGEST = Buffer.alloc(32)
const SEQ = /^[1-9]\d{0,17}$/

export type CatchUpDeps = {
  store: LedgerStore
  codec: Codec
  readTails: ReadTails
  /**
   * Reads ledger.events from these events on, or from somewhere before them, to its end; `whole`: from its first
   * record. Each partition's records come in order.
   */
  readEvents: (
    from: Map<number, bigint>,
    whole: boolean,
    handle: (records: IncomingRecord[]) => Promise<void>,
  ) => Promise<void>
  /** Reads these records of ledger.commands; those that are deleted are missing in the result. */
  readCommands: (at: Map<number, bigint>) => Promise<IncomingRecord[]>
  /** Rolls back at the end. */
  dryRun?: boolean
}

export type CaughtUp = {
  partitions: Array<{
    partition: number
    /** The first and the last event that were added. */
    from: bigint
    through: bigint
    /** The offset of ledger.commands at which deciding goes on; `isKnown`: told by the last event. */
    nextOffset: bigint
    isKnown: boolean
    /** Why the partition will halt still. */
    halts: string | null
  }>
  events: number
  compared: number
  wallets: number
}

/** A record of ledger.events as the journal's row; undefined if no ledger wrote it. */
export const journalRowOf = (record: IncomingRecord): JournalRow | undefined => {
  const seq = headerOf(record, 'seq') ?? ''
  if (!SEQ.test(seq) || !record.value) return undefined
  return {
    partition: record.partition,
    seq: BigInt(seq),
    key: record.key?.toString('utf8') ?? '',
    headers: Object.fromEntries(record.headers.map(([name, value]) => [name, value.toString('utf8')])),
    bytes: record.value,
  }
}

/** Decodes an event of any version. Rejects if it is none: then the topic cannot be followed. */
export const decodeEvent = async (codec: Codec, record: IncomingRecord): Promise<LedgerEvent> => {
  const decoded = await codec.decodeRecord(record)
  if (!isLedgerEvent(decoded.type))
    throw new UndecodableRecord(
      `${decoded.type} at ledger.events/${record.partition} offset ${record.offset} is no event of the ledger`,
    )
  return decoded as LedgerEvent
}

/**
 * Brings a database that is behind its own events up to them (F13), in one transaction that holds the lock of every
 * partition: no command is decided meanwhile, and nothing is changed if anything fails. No command is decided here
 * either: what the events tell is written as they tell it, so every published outcome stays (X1, O1, M1). Each event
 * that both hold must be the same in both.
 */
export const catchUpBooks = async (deps: CatchUpDeps): Promise<CaughtUp> => {
  const { store, dryRun = false } = deps
  const stored = await store.readPositions(ALL_PARTITIONS)
  const behind = (await findBehind(deps, stored, new Map())).filter(isBehind)
  const nothing: CaughtUp = { partitions: [], events: 0, compared: 0, wallets: 0 }
  // Without a lock so far: a database that is not behind may have a ledger at work.
  if (behind.length === 0) return nothing
  const other = behind.find(({ otherAt }) => otherAt !== undefined)
  if (other) throw new TwoHistories(`${other.reason}: nothing is changed`)
  const run = async (whole: boolean): Promise<CaughtUp> => {
    let result = nothing
    const undone = new Error('dry run')
    try {
      await store.transact(async tx => {
        result = await catchUpInTransaction(deps, tx, whole)
        if (dryRun) throw undone
      })
    } catch (error) {
      if (error !== undone) throw error
    }
    return result
  }
  const result = await run(false).catch(error => {
    if (!(error instanceof MissingEvents)) throw error
    return run(true)
  })
  if (!dryRun && result.partitions.length > 0)
    await store.raisePublished(
      new Map(result.partitions.map(({ partition, through }) => [partition, through])),
    )
  return result
}

const catchUpInTransaction = async (deps: CatchUpDeps, tx: LedgerTx, whole: boolean): Promise<CaughtUp> => {
  const { codec } = deps
  const rows = await tx.lockPartitions(ALL_PARTITIONS)
  const next = new Map(rows.map(({ partition, nextSeq }) => [partition, nextSeq]))
  const replay = createReplay()
  const holdEnds: HoldEnd[] = []
  const last = new Map<number, { record: IncomingRecord; event: LedgerEvent }>()
  let events = 0
  let compared = 0

  const base: ReplayBase = {
    findWallets: async ids => (await tx.lockWallets(ids)).map(storedWallet),
    findHolds: tx.readHolds,
  }
  const handle = async (records: IncomingRecord[]) => {
    const fresh: JournaledEvent[] = []
    const known: JournalRow[] = []
    for (const record of records) {
      const row = journalRowOf(record)
      const expected = next.get(record.partition)
      if (!row || expected === undefined) continue
      if (row.seq > expected)
        throw new MissingEvents(
          `ledger.events/${row.partition} goes on with seq ${row.seq} at offset ${record.offset}; the database lacks ${expected} to ${row.seq - 1n} and the topic does not hold them there`,
        )
      if (row.seq < expected) {
        known.push(row)
        continue
      }
      const event = await decodeEvent(codec, record)
      fresh.push({ event, row })
      next.set(row.partition, row.seq + 1n)
      last.set(row.partition, { record, event })
    }
    const { touched: _, ...added } = await replay.add(fresh, base)
    holdEnds.push(...added.holdEnds)
    await writeInSlices(tx, { ...added, holdEnds: [] })
    await compareWithJournal(tx, known)
    events += fresh.length
    compared += known.length
  }
  await deps.readEvents(next, whole, handle)

  const [unmatched] = replay.unmatched.keys()
  if (unmatched !== undefined) throw new MissingEvents(`hold ${unmatched} ends, and no event places it`)
  await writeWallets(tx, replay)
  await writeInSlices(tx, { holdEnds })
  const before = new Map(rows.map(row => [row.partition, row]))
  const positions = await findPositions(deps, before, last)
  await tx.writeBatch({
    ...noWrites(),
    partitions: positions.map(({ partition, nextOffset, lastDigest }) => ({
      ...{ partition, nextOffset, lastDigest, nextSeq: next.get(partition)! },
    })),
  })
  return {
    partitions: positions.map(({ partition, nextOffset, isKnown, halts }) => ({
      ...{ partition, from: before.get(partition)!.nextSeq, through: next.get(partition)! - 1n },
      ...{ nextOffset, isKnown, halts },
    })),
    events,
    compared,
    wallets: replay.wallets.size,
  }
}

/** Events that the journal holds must be the topic's, byte for byte. */
const compareWithJournal = async (tx: LedgerTx, known: JournalRow[]) => {
  for (let at = 0; at < known.length; at += SLICE) {
    const slice = known.slice(at, at + SLICE)
    const rows = await tx.readJournalAt(slice)
    const journal = new Map(rows.map(row => [`${row.partition}/${row.seq}`, row]))
    for (const { partition, seq, key, bytes } of slice) {
      const own = journal.get(`${partition}/${seq}`)
      if (!own?.bytes.equals(bytes) || own.key !== key)
        throw new TwoHistories(
          `ledger.events/${partition} holds another event at seq ${seq} than the journal: nothing is changed`,
        )
    }
  }
}

type Position = Pick<PartitionRow, 'partition' | 'nextOffset' | 'lastDigest'> & {
  isKnown: boolean
  halts: string | null
}

/**
 * Where deciding goes on in each partition: behind the command of its last event, which the event's header names.
 * Commands behind it have no event yet. Events of older versions name none: then reading goes on where the database
 * was, and commands with an event are answered by it.
 */
const findPositions = async (
  { codec, readCommands }: CatchUpDeps,
  before: Map<number, PartitionRow>,
  last: Map<number, { record: IncomingRecord; event: LedgerEvent }>,
): Promise<Position[]> => {
  const offsets = new Map<number, bigint>()
  for (const [partition, { record }] of last) {
    const offset = headerOf(record, 'command_offset')
    if (offset !== undefined && /^\d{1,18}$/.test(offset)) offsets.set(partition, BigInt(offset))
  }
  const commands = offsets.size === 0 ? [] : await readCommands(offsets)
  const positions: Position[] = []
  for (const [partition, { event, record }] of last) {
    const offset = offsets.get(partition)
    if (offset === undefined) {
      const { nextOffset, lastDigest } = before.get(partition)!
      positions.push({ partition, nextOffset, lastDigest, isKnown: false, halts: null })
      continue
    }
    const command = commands.find(one => one.partition === partition)
    const isRight = command === undefined || (await isCommandOf(codec, command, event, record))
    positions.push({
      ...{ partition, nextOffset: offset + 1n, isKnown: true },
      lastDigest: command === undefined ? null : isRight ? digestOf(command) : NO_DIGEST,
      halts: isRight
        ? null
        : `ledger.commands/${partition} holds another command at offset ${offset} than the one of the last event: the topic was made anew`,
    })
  }
  return positions
}

/** Whether the event is the outcome of this command. */
const isCommandOf = async (
  codec: Codec,
  record: IncomingRecord,
  event: LedgerEvent,
  { partition }: IncomingRecord,
) => {
  const command = await readCommand(codec, record)
  if (command.type === 'poison' || command.type === 'unsigned') return false
  const identify = <Name extends LedgerCommandName>(name: Name, value: Records[Name]) =>
    HANDLERS[name].identify(value, new Map()).id
  const id = identify(command.type, command.value as never)
  const told =
    event.type === 'pennywire.ledger.CommandRefused'
      ? event.value.commandId
      : outcomeOf(event, { partition, seq: 0n })!.id
  return told === id || told === displacedDepositIdOf(id)
}
