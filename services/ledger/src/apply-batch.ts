import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { VerifyCommand } from '@pennywire/kafka/command-mac.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import { applyCommand, UNDECIDED } from './apply-command.ts'
import { type BatchState, openBatchState } from './batch-state.ts'
import { fence, type Mismatch } from './fence.ts'
import { lockSetOf, type ReceivedCommand } from './lock-set.ts'
import { type Command, readCommand } from './read-command.ts'
import type { JournalRow, Known, LedgerStore, LedgerTx } from './store.ts'

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
  mismatches: Mismatch[]
  /** For each partition with new commands: how many were set aside in a row, at its end and at most, with those before. */
  setAsideInARow: Map<number, { atEnd: number; most: number }>
  /** The partitions with new records. */
  decided: Set<number>
  /** How far the batch's partitions are decided, by it or before: a commit whose answer was lost is seen here. */
  seen: Known
  /** How many records were decided by outcome, for metrics. */
  counts: BatchState['counts'] & { poison: number; unsigned: number; dropped: number }
}

export type ApplyBatchDeps = {
  store: LedgerStore
  codec: Codec
  /** Why a record is no command of a gateway's; undefined where it is one. Without it every record counts as one. */
  refusalOf?: VerifyCommand
  /** The limits of wallets without limits of their own. */
  limitDefaults: LimitDefaults
  /** Sets a record aside for a person, durably; called before the batch commits, so that none is lost. */
  setAside: (record: IncomingRecord, reason: string) => Promise<void>
  /** For each partition, how many of the last commands before these were set aside in a row. */
  setAsideBefore?: ReadonlyMap<number, number>
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

/** How often a batch that met a rival is run again at once; after that it waits its turn like any failure. */
const RERUNS = 3

/**
 * The money path: applies a batch of commands of any partitions in one SQL transaction, and
 * returns the events it decided. Balances, entries, transfers, events and the consumed offsets are committed
 * together or not at all (M1-M4, X1, O1); run again, it finds its records below the stored offset and drops them.
 */
export const applyBatch = async (deps: ApplyBatchDeps, records: IncomingRecord[]): Promise<BatchResult> => {
  const commands: ReceivedCommand[] = []
  for (const record of records) {
    // Before anything else looks into it: a stranger's bytes ask nothing of the registry and lock no wallet.
    const reason = deps.refusalOf?.(record)
    const command: Command =
      reason === undefined ? await readCommand(deps.codec, record) : { type: 'unsigned', reason }
    const { refuse } = deps
    const unanswered = refuse && !refuse.answer && command.type !== 'unsigned'
    commands.push({ record, command: unanswered ? { type: 'poison', reason: refuse.reason } : command })
  }
  for (let run = 0; ; run++) {
    try {
      return await deps.store.transact(tx => applyInTransaction(deps, tx, commands))
    } catch (error) {
      // A rival wrote an id between our look and our write. Run again, we see it: it is never blamed on a record.
      if (!deps.store.isRivalry(error) || run === RERUNS) throw error
    }
  }
}

const applyInTransaction = async (
  deps: ApplyBatchDeps,
  tx: LedgerTx,
  commands: ReceivedCommand[],
): Promise<BatchResult> => {
  // 1. The fence, then the wallets, then what is as fresh as the locks. One trip: the server takes them in order.
  const reads = lockSetOf(commands)
  const some = <Row>(wanted: string[], read: (ids: string[]) => Promise<Row[]>): Promise<Row[]> | Row[] =>
    wanted.length > 0 ? read(wanted) : []
  const [partitionRows, walletRows, earlierRows, limitRows, holdRows, originalRows, usersWallets, now] =
    await Promise.all([
      tx.lockPartitions([...new Set(commands.map(({ record }) => record.partition))], deps.skipLocked),
      tx.lockWallets(reads.wallets, deps.skipLocked),
      tx.findOutcomes(reads.ids),
      some(reads.limited, tx.readLimits),
      some(reads.holds, tx.readHolds),
      some(reads.originals, tx.readOriginals),
      some(reads.openers, tx.findWalletsOf),
      tx.readClock(),
      refuseUncompared(deps, tx),
    ])
  const partitions = new Map(partitionRows.map(row => [row.partition, row]))
  const wallets = new Map(walletRows.map(wallet => [wallet.id, wallet]))
  const unlocked = deps.skipLocked ? reads.wallets.filter(id => !wallets.has(id)) : []
  const locked = new Set(unlocked.length > 0 ? await tx.findWallets(unlocked) : [])
  const missing = [...reads.systemWallets.values()].filter(({ id }) => !wallets.has(id) && !locked.has(id))
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
  const { accepted, gaps, held, mismatches, dropped } = fence(partitions, commands, deps, locked)

  // 3. Decide each in turn, in memory.
  const state = openBatchState(
    {
      now,
      partitions,
      wallets,
      usersWallets,
      inheritable,
      holds: holdRows,
      originals: originalRows,
      wantedOriginals: reads.originals,
      outcomes: earlierRows,
    },
    deps,
  )
  let poison = 0
  const unsigned: Promise<void>[] = []
  const setAsideInARow = new Map<number, { atEnd: number; most: number }>()
  for (const { record, command } of accepted) {
    if (command.type === 'unsigned') {
      // It never was a command: not answered, and not counted among those that stop the partition, or a client that may
      // write to the topic could stop it.
      unsigned.push(deps.setAside(record, command.reason))
      continue
    }
    const inARow = setAsideInARow.get(record.partition) ?? {
      atEnd: deps.setAsideBefore?.get(record.partition) ?? 0,
      most: 0,
    }
    setAsideInARow.set(record.partition, inARow)
    const before = countOutcomes(state)
    try {
      if (command.type === 'poison') throw new UndecodableRecord(command.reason)
      if (deps.refuse) throw new UndecodableRecord(deps.refuse.reason)
      applyCommand(state, record, command)
      inARow.atEnd = 0
    } catch (error) {
      // It fails for this record alone, and would again: set it aside, and answer its id where there is one.
      poison++
      inARow.most = Math.max(inARow.most, ++inARow.atEnd)
      await deps.setAside(record, error instanceof Error ? error.message : String(error))
      if (command.type !== 'poison') applyCommand(state, record, command, UNDECIDED)
    }
    const outcomes = countOutcomes(state) - before
    if (outcomes !== (command.type === 'poison' ? 0 : 1))
      throw new Error(`${command.type} at ${record.partition}/${record.offset} has ${outcomes} outcomes (X2)`)
  }

  await Promise.all(unsigned)

  // 4. Write what was decided, and what the repeated commands are answered with.
  const { writes, repeated } = state
  writes.balances = [...state.changed.values()]
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
    mismatches,
    setAsideInARow,
    decided: new Set(writes.partitions.map(({ partition }) => partition)),
    seen: new Map(
      partitionRows
        .filter(row => !mismatches.some(({ partition }) => partition === row.partition))
        .map(row => [row.partition, row]),
    ),
    counts: { ...state.counts, poison, unsigned: unsigned.length, dropped },
  }
}

const refuseUncompared = async (
  { comparedServer }: Pick<ApplyBatchDeps, 'comparedServer'>,
  tx: Pick<LedgerTx, 'readServer'>,
) => {
  if (comparedServer === undefined) return
  const server = await tx.readServer()
  if (server !== comparedServer)
    throw new UncomparedServer(
      `the database server that runs since ${server} is not compared with its events`,
    )
}

/** Events that were appended, and outcomes that a command has had before. */
const countOutcomes = ({ writes, repeated }: BatchState): number => writes.journal.length + repeated.length
