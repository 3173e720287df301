import type { Hold, Original, Wallet } from '@pennywire/rules/decide.ts'
import type { Limits, OwnLimits, Tier, Usage } from '@pennywire/rules/limits.ts'

/** A partition's row: how far its commands are decided, and the next number in its journal. */
export type PartitionRow = {
  partition: number
  nextOffset: bigint
  lastDigest: Buffer | null
  nextSeq: bigint
}

/** What a process knows of partitions from its own last look or commit: the database must not be behind it. */
export type Known = Map<number, Pick<PartitionRow, 'nextOffset' | 'nextSeq'>>

/** How far a partition's commands are decided, its journal is written, and that is in Kafka for certain. */
export type StoredPosition = Pick<PartitionRow, 'partition' | 'nextOffset' | 'nextSeq'> & {
  publishedThrough: bigint
}

/** What was decided under an id before, and where the event that answers it stands in the journal. */
export type Earlier = { id: string; fingerprint: Buffer; partition: number; seq: bigint }

/** An event in the outbox, as it is published. `headers` is JSON. */
export type JournalRow = { partition: number; seq: bigint; key: string; headers: string; bytes: Buffer }

export type TransferRow = {
  id: string
  type: string
  status: 'completed' | 'rejected'
  userId: string
  fromWallet: string | null
  fromSequence: number | null
  toWallet: string | null
  toSequence: number | null
  amount: bigint
  currency: string
  fingerprint: Buffer
  note: Buffer | null
  metadata: Buffer | null
  requestedAt: Date
  decidedAt: Date
  rejectionCode: string | null
  rejectionDetail: string | null
  /** Where a limit refused it: the limit and what of it was used. */
  rejectionLimit: bigint | null
  rejectionUsed: bigint | null
  /** Of a reversal: the transfer that it gives back. */
  originalId: string | null
  /** Of a movement that came with a transfer, such as a fee: that transfer. */
  linkedTo: string | null
  partition: number
  seq: bigint
}

export type EntryRow = {
  walletId: string
  sequence: number
  transferId: string
  amount: bigint
  balanceAfter: bigint
}

export type OpenedWallet = {
  id: string
  userId: string
  code: string
  currency: string
  tier: Tier
  usage: Usage
  openedAt: Date
}

/** A wallet as far as the opening of the next one in its currency asks: closing one must not begin the day anew. */
export type UsersWallet = {
  id: string
  userId: string
  currency: string
  status: 'active' | 'frozen' | 'closed'
  tier: Tier
  usage: Usage
}

/** What becomes of a wallet beside its balance. `reason` says why it is frozen, as ciphertext. */
export type StatusRow = Pick<Wallet, 'id' | 'status' | 'freezeSource'> & {
  reason: Buffer | null
  closedAt: Date | null
}

export type LimitRow = OwnLimits & { walletId: string } & Limits

export type HoldRow = Hold & {
  fingerprint: Buffer
  note: Buffer | null
  metadata: Buffer | null
  requestedAt: Date
}

/** How a hold ended, once: by which command, and how much of it was taken. */
export type HoldEnd = {
  id: string
  status: 'captured' | 'voided' | 'expired'
  captured: bigint
  commandId: string
  endedAt: Date
}

export type ReversalRow = { originalId: string; transferId: string; amount: bigint }
export type SystemWallet = { id: string; system: string; currency: string }

/** All that a batch writes. */
export type Writes = {
  partitions: PartitionRow[]
  balances: Wallet[]
  transfers: TransferRow[]
  entries: EntryRow[]
  opened: OpenedWallet[]
  statuses: StatusRow[]
  tiers: Pick<Wallet, 'id' | 'tier'>[]
  /** Names of their owners', as ciphertext. */
  labels: { id: string; label: Buffer | null }[]
  limits: LimitRow[]
  holds: HoldRow[]
  holdEnds: HoldEnd[]
  reversals: ReversalRow[]
  commands: Earlier[]
  journal: JournalRow[]
}

export const noWrites = (): Writes => ({
  partitions: [],
  balances: [],
  transfers: [],
  entries: [],
  opened: [],
  statuses: [],
  tiers: [],
  labels: [],
  limits: [],
  holds: [],
  holdEnds: [],
  reversals: [],
  commands: [],
  journal: [],
})

/** One transaction of the money path. Each step is a later statement than the one before: as fresh as its locks. */
export type LedgerTx = {
  /** Locks the partitions' rows, in order: the fence. Its holder alone decides their commands. */
  lockPartitions: (partitions: number[], skipLocked?: boolean) => Promise<PartitionRow[]>
  /** Locks wallets in ascending id: batches of several ledgers that cross queue up instead of deadlocking (P1). */
  lockWallets: (ids: string[], skipLocked?: boolean) => Promise<Wallet[]>
  /** Which of these wallets exist: those of them that could not be locked are locked by somebody else. */
  findWallets: (ids: string[]) => Promise<string[]>
  /** The outcomes recorded under these ids, of commands of any kind. */
  findOutcomes: (ids: string[]) => Promise<Earlier[]>
  /** All wallets that these users have or had, oldest first. */
  findWalletsOf: (userIds: string[]) => Promise<UsersWallet[]>
  /** What users and staff have set for these wallets. */
  readLimits: (walletIds: string[]) => Promise<LimitRow[]>
  readHolds: (ids: string[]) => Promise<HoldRow[]>
  /** Transfers that are to be given back, with what of them is given back already. */
  readOriginals: (ids: string[]) => Promise<Original[]>
  /** The ledger's only clock. */
  readClock: () => Promise<Date>
  /** The run of the database server that has the transaction, as `LedgerStore.readServer`. */
  readServer: () => Promise<string>
  /** Makes the system wallets that do not exist yet and locks them. Only their partition's owner ever comes here. */
  openSystemWallets: (wallets: SystemWallet[], now: Date) => Promise<Wallet[]>
  /** The journal's rows at these places, in any order. */
  readJournalAt: (places: Array<{ partition: number; seq: bigint }>) => Promise<JournalRow[]>
  writeBatch: (writes: Writes) => Promise<void>
}

/** What the ledger needs of a database: Postgres in production (sql/store.ts), another one in the simulator. */
export type LedgerStore = {
  /** Runs the work in one transaction: committed where it resolves, undone where it rejects. */
  transact: <Result>(work: (tx: LedgerTx) => Promise<Result>) => Promise<Result>
  /** Whether an error means that a rival wrote the same key first. */
  isRivalry: (error: unknown) => boolean
  /**
   * What a transaction failed of: the database is away, a row is locked by somebody else for too long, a value that a
   * column does not take, or anything else (time-outs among it).
   */
  causeOf: (error: unknown) => 'away' | 'locked' | 'data' | 'other'
  /** Which run of a database server answers: another one after each restart, failover or restored backup. */
  readServer: () => Promise<string>
  /** Where each partition of ledger.commands goes on; makes the rows of partitions seen for the first time. */
  readPositions: (partitions: number[]) => Promise<StoredPosition[]>
  /**
   * From which offset on each partition's commands need a MAC. Set once, when the first ledger that checks MACs reads
   * the partition: at the topic's end as given, or at 0 where no ledger has decided anything in it.
   */
  readMacsFrom: (ends: { partition: number; offset: bigint }[]) => Promise<Map<number, bigint>>
  /** How far each partition's events are in Kafka for certain, and how far they are written. */
  readProgress: (
    partitions: number[],
  ) => Promise<{ partition: number; publishedThrough: bigint; writtenThrough: bigint }[]>
  /** A partition's events after `seq`, in order, at most `limit` of them. */
  readJournalAfter: (partition: number, seq: bigint, limit: number) => Promise<JournalRow[]>
  /** Raises the published marks, never lowers them: a relay that comes late with an old one changes nothing. */
  raisePublished: (marks: Map<number, bigint>) => Promise<void>
}
