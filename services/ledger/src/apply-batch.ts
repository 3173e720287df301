import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { LedgerCommand } from '@pennywire/contracts/schemas.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { VerifyCommand } from '@pennywire/kafka/command-mac.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import { applyCommand, UNDECIDED } from './apply-command.ts'
import { type BatchState, openBatchState } from './batch-state.ts'
import type { Refused } from './commands/handler.ts'
import { fence, type Mismatch } from './fence.ts'
import { lockSetOf, type ReceivedCommand } from './lock-set.ts'
import { type Command, readCommand } from './read-command.ts'
import type { JournalRow, Known, LedgerStore, LedgerTx, SystemWallet } from './store.ts'
import { MissingSystemWallet } from './system-wallets.ts'

export type BatchResult = {
  /** The batch's events as written to the journal, each partition's in order: committed, not yet published. */
  events: JournalRow[]
  /** Events decided earlier whose commands were received again: to be published again, unchanged. */
  repeats: JournalRow[]
  /** Partitions with a gap before their next record: nothing after the gap was applied; read again from `offset`. */
  gaps: Array<{ partition: number; offset: bigint }>
  /** With `skipLocked`: partitions whose next record needs a row that another transaction has locked. */
  held: Array<{ partition: number; offset: bigint }>
  /** Partitions whose topic or database is not the remembered one; `behind`: how many events the database lacks. */
  mismatches: Mismatch[]
  /**
   * For each partition with new commands: how many were set aside in a row, at its end and at most, with those before.
   */
  setAsideInARow: Map<number, { atEnd: number; most: number }>
  /** The partitions with new records. */
  decided: Set<number>
  /** The positions of the batch's partitions after it: they include an earlier commit whose answer was lost. */
  seen: Known
  /** How many records were decided by outcome, for metrics. */
  counts: BatchState['counts'] & { poison: number; unsigned: number; dropped: number }
}

export type ApplyBatchDeps = {
  store: LedgerStore
  codec: Codec
  /** Why a record is not a gateway's command; undefined if it is. Without this function every record counts as one. */
  refusalOf?: VerifyCommand
  /** The limits of wallets without limits of their own. */
  limitDefaults: LimitDefaults
  /** Tests only: the largest balance of a system wallet, in place of MAX_MINOR. No amount may be larger. */
  systemBound?: bigint
  /** Sets a record aside for an operator, durably; called before the batch commits, so that no record is lost. */
  setAside: (record: IncomingRecord, reason: string) => Promise<void>
  /** For each partition: how many commands directly before this batch were set aside in a row. */
  setAsideBefore?: ReadonlyMap<number, number>
  /** Sets all these records aside undecided: for a record that only Postgres refused. */
  refuse?: Refusal
  /** Skips rows locked by another transaction instead of waiting for them; records that need these rows are held. */
  skipLocked?: boolean
  /** The positions that this process last read or committed: the database must not be behind them. */
  known?: Known
  /** The run of the database server whose books were compared with the events: the batch must run on no other. */
  comparedServer?: string | undefined
}

/** The database server is not the one that was compared, or it has restarted: its books may be older. */
export class UncomparedServer extends Error {}

/** Why records are set aside; `answer`: whether their ids get an outcome, which the database may refuse as well. */
export type Refusal = { reason: string; answer: boolean }

/** How often a batch is rerun at once after a unique violation; after that it is retried like any failed batch. */
const RERUNS = 3

/**
 * The money path: applies a batch of commands of any partitions in one SQL transaction, and returns the events it
 * decided. Balances, entries, transfers, events and the consumed offsets are committed together or not at all (M1-M4,
 * X1, O1). A repeated batch finds its records below the stored offset and drops them.
 */
export const applyBatch = async (deps: ApplyBatchDeps, records: IncomingRecord[]): Promise<BatchResult> => {
  const commands: ReceivedCommand[] = []
  for (const record of records) {
    // Verified first: a record without a valid MAC causes no registry request and locks no wallet.
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
      // A concurrent transaction wrote an id between our read and our write. The rerun finds it; no record is to blame.
      if (!deps.store.isRivalry(error) || run === RERUNS) throw error
    }
  }
}

const applyInTransaction = async (
  deps: ApplyBatchDeps,
  tx: LedgerTx,
  commands: ReceivedCommand[],
): Promise<BatchResult> => {
  // 1. Lock partitions, then wallets; read the rest only after both locks are held. Pipelined: one ordered round trip.
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
  const open = async (missing: SystemWallet[]) => {
    for (const wallet of await tx.openSystemWallets(missing, now)) wallets.set(wallet.id, wallet)
  }
  const unlocked = deps.skipLocked ? reads.wallets.filter(id => !wallets.has(id)) : []
  const locked = new Set(unlocked.length > 0 ? await tx.findWallets(unlocked) : [])
  const missing = [...reads.systemWallets.values()].filter(({ id }) => !wallets.has(id) && !locked.has(id))
  if (missing.length > 0) await open(missing)
  for (const [walletId, own] of Map.groupBy(limitRows, row => row.walletId)) {
    const wallet = wallets.get(walletId)
    if (wallet) wallet.ownLimits = own
  }
  const closed = usersWallets.filter(({ status }) => status === 'closed').map(({ id }) => id)
  const inheritable = await some(closed, tx.readLimits)

  // 2. Accept the new records: neither applied before nor behind a gap.
  const { accepted, gaps, held, mismatches, dropped } = fence(partitions, commands, deps, locked)

  // 3. Decide each command in turn, in memory.
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
    { ...deps, systemBound: deps.systemBound ?? MAX_MINOR },
  )
  /** Applies a command, unless it needs a successor of a full system wallet that is not locked: returns the successor. */
  const attempt = (...command: [IncomingRecord, LedgerCommand, Refused?]): SystemWallet | undefined => {
    try {
      applyCommand(state, ...command)
      return undefined
    } catch (error) {
      if (error instanceof MissingSystemWallet) return error.wallet
      throw error
    }
  }
  let poison = 0
  const unsigned: Promise<void>[] = []
  const setAsideInARow = new Map<number, { atEnd: number; most: number }>()
  for (const { record, command } of accepted) {
    if (command.type === 'unsigned') {
      // Not a gateway's command: it gets no answer and does not count towards halting the partition. Otherwise a client
      // that may write to the topic could halt it.
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
      for (let missing = attempt(record, command); missing; missing = attempt(record, command))
        await open([missing])
      inARow.atEnd = 0
    } catch (error) {
      // The failure is this record's alone and would recur: set it aside, and answer its id if it has one.
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

  // 4. Write the decisions, and read the events that answer repeated commands.
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

/** The number of events appended and of repeats found so far. */
const countOutcomes = ({ writes, repeated }: BatchState): number => writes.journal.length + repeated.length
