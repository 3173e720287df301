import { createHash } from 'node:crypto'
import type { RecordName, Records } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { VerifyCommand } from '@pennywire/kafka/command-mac.ts'
import { envelope, headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import { answerUndecided, applyCommand, type Books } from './apply-command.ts'
import { wentBack } from './check-events.ts'
import { type Command, needsOf } from './needs.ts'
import { type Asked, readCommand } from './read-command.ts'
import type { JournalRow, LedgerStore, LedgerTx, PartitionRow } from './store.ts'

export type BatchResult = {
  /** The batch's events as written to the journal, each partition's in order: committed, not yet published. */
  events: JournalRow[]
  /** Events decided earlier whose command came again: to be published once more, unchanged. */
  repeats: JournalRow[]
  /** Partitions whose next record did not come: nothing of them was applied, read again from here. */
  gaps: Array<{ partition: number; offset: bigint }>
  /** Partitions whose next record waits for a row that somebody else has locked, with `skipLocked`. */
  held: Array<{ partition: number; offset: bigint }>
  /** Partitions whose topic or database is not the one remembered; `behind`: by how many events the database is. */
  strangers: Stranger[]
  /** For each partition with new commands: how many of the last ones, in a row, were set aside; and if all were. */
  setAsideInARow: Map<number, { count: number; all: boolean }>
  /** The partitions with new records. */
  decided: Set<number>
  /** How far the batch's partitions are decided, by it or before: a commit whose answer was lost is seen here. */
  seen: Known
  /** How many records were decided by outcome, for metrics. */
  counts: Books['counts'] & { poison: number; unsigned: number; dropped: number }
}

type Stranger = { partition: number; reason: string; behind?: bigint }

export type ApplyBatchParts = {
  store: LedgerStore
  codec: Codec
  /** Why a record is no command of a gateway's; undefined where it is one. Without it every record counts as one. */
  refusalOf?: VerifyCommand
  /** The limits of whoever has none of their own. */
  limitDefaults: LimitDefaults
  /** Sets a record aside for a person, durably; called before the batch commits, so that none is lost. */
  setAside: (record: IncomingRecord, reason: string) => Promise<void>
  /** Sets all these records aside undecided: for one that Postgres alone has refused. */
  refuse?: Refusal
  /** Passes over rows that somebody else has locked instead of waiting for them; what needs them is held. */
  skipLocked?: boolean
  /** What this process knows of partitions from its own last look or commit: the database must not be behind it. */
  known?: Known
  /** The run of the database server whose books were compared with the events: the batch is for no other. */
  comparedServer?: string | undefined
}

/** Another server answers than the one that was compared, or it started anew: its books may be older. */
export class UncomparedServer extends Error {}

/** Why records are set aside; `answer`: whether their ids are answered, where the database takes that. */
export type Refusal = { reason: string; answer: boolean }

export type Known = Map<number, Pick<PartitionRow, 'nextOffset' | 'nextSeq'>>

/** How often a batch that met a rival is run again at once; after that it waits its turn like any failure. */
const RERUNS = 3

/**
 * The money path: applies a batch of commands, whatever has come over all partitions, in one SQL transaction, and
 * returns the events it decided. Balances, entries, transfers, events and the consumed offsets are committed
 * together or not at all (M1-M4, X1, O1); run again, it finds its records below the stored offset and drops them.
 */
export const applyBatch = async (parts: ApplyBatchParts, records: IncomingRecord[]): Promise<BatchResult> => {
  const commands: Command[] = []
  for (const record of records) {
    // Before anything else looks into it: a stranger's bytes ask nothing of the registry and lock no wallet.
    const reason = parts.refusalOf?.(record)
    const asked: Asked =
      reason === undefined ? await readCommand(parts.codec, record) : { type: 'unsigned', reason }
    const { refuse } = parts
    const unanswered = refuse && !refuse.answer && asked.type !== 'unsigned'
    commands.push({ record, asked: unanswered ? { type: 'poison', reason: refuse.reason } : asked })
  }
  for (let run = 0; ; run++) {
    try {
      return await parts.store.transact(tx => applyInTransaction(parts, tx, commands))
    } catch (error) {
      // A rival wrote an id between our look and our write. Run again, we see it: it is never blamed on a record.
      if (!parts.store.isRivalry(error) || run === RERUNS) throw error
    }
  }
}

const applyInTransaction = async (
  parts: ApplyBatchParts,
  tx: LedgerTx,
  commands: Command[],
): Promise<BatchResult> => {
  // 1. The fence, then the wallets, then what is as fresh as the locks. One trip: the server takes them in order.
  const needs = needsOf(commands)
  const some = <Row>(wanted: string[], read: (ids: string[]) => Promise<Row[]>): Promise<Row[]> | Row[] =>
    wanted.length > 0 ? read(wanted) : []
  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, originalRows, usersWallets, now] =
    await Promise.all([
      tx.lockPartitions([...new Set(commands.map(({ record }) => record.partition))], parts.skipLocked),
      tx.lockWallets(needs.wallets, parts.skipLocked),
      tx.findEarlier(needs.ids),
      some(needs.limited, tx.readLimits),
      some(needs.holds, tx.readHolds),
      some(needs.originals, tx.readOriginals),
      some(needs.openers, tx.findWalletsOf),
      tx.readClock(),
      refuseUncompared(parts, tx),
    ])
  const partitions = new Map(partitionRows.map(row => [row.partition, row]))
  const wallets = new Map(walletRows.map(wallet => [wallet.id, wallet]))
  const unlocked = parts.skipLocked ? needs.wallets.filter(id => !wallets.has(id)) : []
  const locked = new Set(unlocked.length > 0 ? await tx.findWallets(unlocked) : [])
  const missing = [...needs.systemWallets.values()].filter(({ id }) => !wallets.has(id) && !locked.has(id))
  if (missing.length > 0) {
    for (const wallet of await tx.openSystemWallets(missing, now)) wallets.set(wallet.id, wallet)
  }
  for (const [walletId, own] of Map.groupBy(limitRows, row => row.walletId)) {
    const wallet = wallets.get(walletId)
    if (wallet) wallet.ownLimits = own
  }
  const closed = usersWallets.filter(({ status }) => status === 'closed').map(({ id }) => id)
  const inheritable = await some(closed, tx.readLimits)

  // 2. What is new: neither seen before nor ahead of what is still to come.
  const { accepted, gaps, held, strangers, dropped } = fence(partitions, commands, parts, locked)

  // 3. Decide each in turn, in memory.
  const books: Books = {
    now,
    limitDefaults: parts.limitDefaults,
    wallets,
    usersWallets,
    inheritable,
    holds: new Map(holdRows.map(hold => [hold.id, hold])),
    originals: new Map(originalRows.map(original => [original.id, original])),
    wantedOriginals: new Set(needs.originals),
    earlier: new Map(earlierRows.map(row => [row.id, row])),
    repeated: [],
    changed: new Map(),
    writes: {
      partitions: [],
      balances: [],
      transfers: [],
      entries: [],
      opened: [],
      statuses: [],
      tiers: [],
      limits: [],
      holds: [],
      holdEnds: [],
      reversals: [],
      commands: [],
      journal: [],
    },
    counts: {
      completed: 0,
      rejected: 0,
      held: 0,
      released: 0,
      opened: 0,
      changed: 0,
      refused: 0,
      repeated: 0,
      suspense: 0,
    },
    append: <Name extends RecordName>(
      record: IncomingRecord,
      name: Name,
      value: Records[Name],
      subject: string,
    ): JournalRow => {
      const row = partitions.get(record.partition)!
      const seq = row.nextSeq
      const headers = {
        ...envelope({
          id: `${record.partition}-${seq}`,
          type: name,
          source: 'ledger',
          time: now.getTime(),
          subject,
          traceparent: traceOf(record),
        }),
        seq: String(seq),
      }
      const entry = {
        partition: record.partition,
        seq,
        key: record.key?.toString('utf8') ?? '',
        headers: JSON.stringify(headers),
        bytes: parts.codec.encode(name, value),
      }
      row.nextSeq = seq + 1n
      books.writes.journal.push(entry)
      return entry
    },
  }
  let poison = 0
  const unsigned: Promise<void>[] = []
  const setAsideInARow = new Map<number, { count: number; all: boolean }>()
  for (const { record, asked } of accepted) {
    if (asked.type === 'unsigned') {
      // It never was a command: not answered, and not counted among those that stop the partition, or whoever may
      // write to the topic could stop it.
      unsigned.push(parts.setAside(record, asked.reason))
      continue
    }
    const inARow = setAsideInARow.get(record.partition) ?? { count: 0, all: true }
    setAsideInARow.set(record.partition, inARow)
    try {
      if (asked.type === 'poison') throw new UndecodableRecord(asked.reason)
      if (parts.refuse) throw new UndecodableRecord(parts.refuse.reason)
      applyCommand(books, record, asked)
      inARow.count = 0
      inARow.all = false
    } catch (error) {
      // It fails for this record alone, and would again: set it aside, and answer its id where there is one.
      poison++
      inARow.count++
      await parts.setAside(record, error instanceof Error ? error.message : String(error))
      if (asked.type !== 'poison') answerUndecided(books, record, asked)
    }
  }

  await Promise.all(unsigned)

  // 4. Write what was decided, and what the repeated commands are answered with.
  const { writes, repeated } = books
  writes.balances = [...books.changed.values()]
  writes.partitions = partitionRows.filter(row =>
    accepted.some(({ record }) => record.partition === row.partition),
  )
  const places = repeated.filter(
    first => !writes.journal.some(row => row.partition === first.partition && row.seq === first.seq),
  )
  const repeats = places.length > 0 ? await tx.readJournalAt(places) : []
  if (accepted.length > 0) await tx.writeBatch(writes)
  return {
    events: writes.journal,
    repeats,
    gaps,
    held,
    strangers,
    setAsideInARow,
    decided: new Set(writes.partitions.map(({ partition }) => partition)),
    seen: new Map(
      partitionRows
        .filter(row => !strangers.some(({ partition }) => partition === row.partition))
        .map(row => [row.partition, row]),
    ),
    counts: { ...books.counts, poison, unsigned: unsigned.length, dropped },
  }
}

const refuseUncompared = async (
  { comparedServer }: Pick<ApplyBatchParts, 'comparedServer'>,
  tx: Pick<LedgerTx, 'readServer'>,
) => {
  if (comparedServer === undefined) return
  const server = await tx.readServer()
  if (server !== comparedServer)
    throw new UncomparedServer(
      `the database server that runs since ${server} is not compared with its events`,
    )
}

/**
 * Takes exactly the next records of each partition. One below the stored offset was applied before (a redelivery, or
 * we are a zombie that lost the partition): dropped. One above it is a gap: nothing of what follows is applied. The
 * record just before the stored offset must be the one remembered: else this is another topic of the same name.
 */
const fence = (
  partitions: Map<number, PartitionRow>,
  commands: Command[],
  { skipLocked, known }: Pick<ApplyBatchParts, 'skipLocked' | 'known'>,
  locked: ReadonlySet<string>,
) => {
  const accepted: Command[] = []
  const gaps = new Map<number, { partition: number; offset: bigint }>()
  const held = new Map<number, { partition: number; offset: bigint }>()
  const strangers = new Map<number, Stranger>()
  for (const [partition, { nextOffset, nextSeq }] of known ?? []) {
    const row = partitions.get(partition)
    if (row && (row.nextOffset < nextOffset || row.nextSeq < nextSeq)) {
      strangers.set(partition, wentBack(partition, nextSeq - row.nextSeq, nextOffset - row.nextOffset))
    }
  }
  const last = new Map<number, IncomingRecord>()
  let dropped = 0
  for (const command of commands) {
    const { partition, offset } = command.record
    const row = partitions.get(partition)
    if (gaps.has(partition) || held.has(partition) || strangers.has(partition)) continue
    if (!row) {
      if (!skipLocked) throw new Error(`partition ${partition} has no row in ledger.partitions`)
      held.set(partition, { partition, offset })
      continue
    }
    if (offset < row.nextOffset) {
      dropped++
      const remembered = last.has(partition) ? null : row.lastDigest
      if (offset === row.nextOffset - 1n && remembered && !digestOf(command.record).equals(remembered)) {
        strangers.set(partition, {
          partition,
          reason: `the record at offset ${offset} is not the one that was decided; the topic was made anew or changed`,
        })
      }
    } else if (offset > row.nextOffset) {
      gaps.set(partition, { partition, offset: row.nextOffset })
    } else if (locked.size > 0 && needsOf([command]).wallets.some(id => locked.has(id))) {
      held.set(partition, { partition, offset })
    } else {
      accepted.push(command)
      row.nextOffset = offset + 1n
      last.set(partition, command.record)
    }
  }
  for (const [partition, record] of last) partitions.get(partition)!.lastDigest = digestOf(record)
  return {
    accepted,
    gaps: [...gaps.values()],
    held: [...held.values()],
    strangers: [...strangers.values()],
    dropped,
  }
}

/** Tells a record from any other: over its key and value, lengths included. */
const digestOf = (record: IncomingRecord): Buffer => {
  const hash = createHash('sha256')
  for (const part of [record.key, record.value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
  return hash.digest()
}

/** The command's trace goes on in its event; anything else in that header is left behind. */
const traceOf = (record: IncomingRecord): string | undefined => {
  const traceparent = headerOf(record, 'traceparent')
  return traceparent && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)
    ? traceparent
    : undefined
}
