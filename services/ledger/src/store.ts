import type { Hold, Original, Wallet } from '@pennywire/rules/decide.ts'
import type { Limits, OwnLimits, Tier, Usage } from '@pennywire/rules/limits.ts'

/** A row of ledger.partitions: the next offset to decide, and the next `seq` of the partition's journal. */
export type PartitionRow = {
  partition: number
  nextOffset: bigint
  lastDigest: Buffer | null
  nextSeq: bigint
}

/** The positions that a process last read or committed: the database must not be behind them. */
export type Known = Map<number, Pick<PartitionRow, 'nextOffset' | 'nextSeq'>>

/** A partition's next offset and next `seq`, and the `seq` through which its events are known to be in Kafka. */
export type StoredPosition = Pick<PartitionRow, 'partition' | 'nextOffset' | 'nextSeq'> & {
  publishedThrough: bigint
}

/** An outcome recorded earlier under an id, and the journal position of the event that answers it. */
export type Earlier = { id: string; fingerprint: Buffer; partition: number; seq: bigint }

/** An event in the outbox, as it is published. */
export type JournalRow = {
  partition: number
  seq: bigint
  key: string
  headers: Record<string, string>
  bytes: Buffer
}

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
  /** If a limit refused the transfer: the limit, and how much of it was used. */
  rejectionLimit: bigint | null
  rejectionUsed: bigint | null
  /** Of a reversal: the transfer that it reverses. */
  originalId: string | null
  /** Of a linked transfer, such as a fee: the transfer to which it is linked. */
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

/** A user's wallet, as the opening of the next one in its currency needs it: closing must not reset the day's usage. */
export type UsersWallet = {
  id: string
  userId: string
  currency: string
  status: 'active' | 'frozen' | 'closed'
  tier: Tier
  usage: Usage
}

/** A change of a wallet's status. `reason` is the reason for a freeze, as ciphertext. */
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

/** How a hold ended: the command that ended it, and the amount captured. A hold ends once. */
export type HoldEnd = {
  id: string
  status: 'captured' | 'voided' | 'expired'
  captured: bigint
  commandId: string
  endedAt: Date
}

export type ReversalRow = { originalId: string; transferId: string; amount: bigint }
export type SystemWallet = { id: string; system: string; currency: string }

/** All rows that a batch writes. */
export type Writes = {
  partitions: PartitionRow[]
  balances: Wallet[]
  transfers: TransferRow[]
  entries: EntryRow[]
  opened: OpenedWallet[]
  statuses: StatusRow[]
  tiers: Pick<Wallet, 'id' | 'tier'>[]
  /** Labels given by the wallets' owners, as ciphertext. */
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

/** One transaction of the money path. Each call is a later statement than the one before: as fresh as the locks. */
export type LedgerTx = {
  /** Locks the partitions' rows in ascending order: the fence. Only a row's holder decides its partition's commands. */
  lockPartitions: (partitions: number[], skipLocked?: boolean) => Promise<PartitionRow[]>
  /** Locks wallets in ascending order of id: overlapping batches of ledgers queue instead of deadlocking (P1). */
  lockWallets: (ids: string[], skipLocked?: boolean) => Promise<Wallet[]>
  /** The ids of these wallets that exist: one that could not be locked is locked by another transaction. */
  findWallets: (ids: string[]) => Promise<string[]>
  /** The outcomes recorded under these ids, of commands of any kind. */
  findOutcomes: (ids: string[]) => Promise<Earlier[]>
  /** All wallets of these users, closed ones included, oldest first. */
  findWalletsOf: (userIds: string[]) => Promise<UsersWallet[]>
  /** The limits that users and staff have set on these wallets. */
  readLimits: (walletIds: string[]) => Promise<LimitRow[]>
  readHolds: (ids: string[]) => Promise<HoldRow[]>
  /** The originals of reversals, each with the sum already reversed. */
  readOriginals: (ids: string[]) => Promise<Original[]>
  /** The ledger's only clock. */
  readClock: () => Promise<Date>
  /** The run of the database server that executes the transaction, as `LedgerStore.readServer`. */
  readServer: () => Promise<string>
  /** Inserts the missing system wallets and locks them all. Only the owner of their partition calls this. */
  openSystemWallets: (wallets: SystemWallet[], now: Date) => Promise<Wallet[]>
  /** The journal's rows at these places, in any order. */
  readJournalAt: (places: Array<{ partition: number; seq: bigint }>) => Promise<JournalRow[]>
  writeBatch: (writes: Writes) => Promise<void>
}

/** The ledger's database: Postgres in production (sql/store.ts), an in-memory one in the simulator. */
export type LedgerStore = {
  /** Runs `work` in one transaction: committed if it resolves, rolled back if it rejects. */
  transact: <Result>(work: (tx: LedgerTx) => Promise<Result>) => Promise<Result>
  /** Whether the error means that a concurrent transaction wrote the same key first. */
  isRivalry: (error: unknown) => boolean
  /**
   * Why a transaction failed: the database is away, another transaction holds a row lock for too long, a column does
   * not accept a value, or anything else (time-outs included).
   */
  causeOf: (error: unknown) => 'away' | 'locked' | 'data' | 'other'
  /** Identifies the run of the database server: it changes with each restart, failover or restored backup. */
  readServer: () => Promise<string>
  /** The stored position of each partition of ledger.commands; inserts the rows of new partitions. */
  readPositions: (partitions: number[]) => Promise<StoredPosition[]>
  /**
   * The offset from which each partition's commands need a MAC. Set once, when the first ledger that checks MACs reads
   * the partition: to the given end of the topic, or to 0 if no ledger has decided a command in it.
   */
  readMacsFrom: (ends: { partition: number; offset: bigint }[]) => Promise<Map<number, bigint>>
  /** Through which `seq` each partition's events are known to be in Kafka, and through which they are written. */
  readProgress: (
    partitions: number[],
  ) => Promise<{ partition: number; publishedThrough: bigint; writtenThrough: bigint }[]>
  /** A partition's events after `seq`, in order, at most `limit` of them. */
  readJournalAfter: (partition: number, seq: bigint, limit: number) => Promise<JournalRow[]>
  /** Raises the published marks and never lowers them: a relay that writes an old mark late changes nothing. */
  raisePublished: (marks: Map<number, bigint>) => Promise<void>
}
