import type { Wallet } from './decide.ts'

/** A partition's row: how far its commands are decided, and the next number in its journal. */
export type PartitionRow = {
  partition: number
  nextOffset: bigint
  lastDigest: Buffer | null
  nextSeq: bigint
}

/** What was decided under an id before, and where its event stands in the journal. */
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

export type OpenedWallet = { id: string; userId: string; code: string; currency: string; openedAt: Date }
export type SystemWallet = { id: string; system: string; currency: string }

/** All that a batch writes. */
export type Writes = {
  partitions: PartitionRow[]
  balances: Wallet[]
  transfers: TransferRow[]
  entries: EntryRow[]
  opened: OpenedWallet[]
  commands: Earlier[]
  journal: JournalRow[]
}

/** One transaction of the money path. Each step is a later statement than the one before: as fresh as its locks. */
export type LedgerTx = {
  /** Locks the partitions' rows, in order: the fence. Whoever holds it is alone in deciding their commands. */
  lockPartitions: (partitions: number[]) => Promise<PartitionRow[]>
  /** Locks wallets in ascending id: batches of several ledgers that cross queue up instead of deadlocking (P1). */
  lockWallets: (ids: string[]) => Promise<Wallet[]>
  findEarlier: (ids: string[]) => Promise<Earlier[]>
  /** Which of these users have an open wallet in which currency. */
  findOpenWallets: (userIds: string[]) => Promise<{ userId: string; currency: string }[]>
  /** The ledger's only clock. */
  readClock: () => Promise<Date>
  /** Makes the system wallets that do not exist yet and locks them. Only their partition's owner ever comes here. */
  openSystemWallets: (wallets: SystemWallet[], now: Date) => Promise<Wallet[]>
  /** The journal's rows at these places, whatever their order. */
  readJournalAt: (places: Array<{ partition: number; seq: bigint }>) => Promise<JournalRow[]>
  writeBatch: (writes: Writes) => Promise<void>
}

/** What the ledger needs of a database: Postgres in production (sql/store.ts), another one in the simulator. */
export type LedgerStore = {
  /** Runs the work in one transaction: committed where it resolves, undone where it rejects. */
  transact: <Result>(work: (tx: LedgerTx) => Promise<Result>) => Promise<Result>
  /** Whether an error means that a rival wrote the same key first. */
  isRivalry: (error: unknown) => boolean
  /** Where each partition of ledger.commands goes on; makes the rows of partitions seen for the first time. */
  readPositions: (partitions: number[]) => Promise<{ partition: number; nextOffset: bigint }[]>
  /** How far each partition's events are in Kafka for certain, and how far they are written. */
  readProgress: (
    partitions: number[],
  ) => Promise<{ partition: number; publishedThrough: bigint; writtenThrough: bigint }[]>
  /** A partition's events after `seq`, in order, at most `limit` of them. */
  readJournalAfter: (partition: number, seq: bigint, limit: number) => Promise<JournalRow[]>
  /** Raises the published marks, never lowers them: a relay that comes late with an old one changes nothing. */
  raisePublished: (marks: Map<number, bigint>) => Promise<void>
}
