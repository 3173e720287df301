// The contract of the ledger's store, as scripts that run against any store: the simulator's
// (simulator/ledger-store.ts) and Postgres' (store-conformance.test.ts). They verify that both behave alike.
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Wallet } from '../../packages/rules/src/decide.ts'
import { NOTHING_USED, type Usage } from '../../packages/rules/src/limits.ts'
import type { DueHold } from '../../services/gateway/src/holds/sql/hold-reads.ts'
import type {
  TransferFacts,
  TransferLookup,
  TransferLookupKeys,
  WalletFacts,
} from '../../services/gateway/src/ledger/sql/ledger-reads.ts'
import type { LedgerStatus } from '../../services/gateway/src/payments/sql/payment-reads.ts'
import type { Payment, Settlement } from '../../services/gateway/src/payments/sql/payments.ts'
import type {
  NewPendingRequest,
  PendingRequest,
} from '../../services/gateway/src/transfers/sql/pending-requests.ts'
import {
  type Earlier,
  type EntryRow,
  type HoldEnd,
  type HoldRow,
  type JournalRow,
  type LedgerStore,
  type LedgerTx,
  type LimitRow,
  noWrites,
  type StatusRow,
  type TransferRow,
  type Writes,
} from '../../services/ledger/src/store.ts'

/** The timeouts of both stores: shorter than the ledger's own (main.ts), in the same order. */
export const TIMEOUTS = { lockMs: 1_500, idleMs: 2_500, transactionMs: 4_000 }

/** The gateway's reads of the ledger, and its own tables. */
export type GatewaySite = {
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  lookUpTransfers: (questions: TransferLookupKeys[]) => Promise<TransferLookup[]>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  writePending: (requests: NewPendingRequest[]) => Promise<void>
  readPending: (id: string) => Promise<PendingRequest[]>
  /** Written as the provider's order leaves it. */
  writePayment: (payment: Payment) => Promise<unknown>
  readPayment: (id: string) => Promise<Payment | undefined>
  markPending: (id: string, reference: string) => Promise<unknown>
  settle: (id: string, settlement: Settlement) => Promise<boolean>
  markDone: (id: string, status: Payment['status']) => Promise<boolean>
  readLedgerStatuses: (ids: string[]) => Promise<Map<string, LedgerStatus>>
  readOutcome: (id: string) => Promise<{ fingerprint: Buffer; bytes: Buffer } | undefined>
  readDueHolds: (after: { until: Date; id: string }, limit: number) => Promise<DueHold[]>
}

/** One store, and the other functions that a script needs. */
export type StoreSite = {
  store: LedgerStore
  gateway: GatewaySite
  /** The time by the store's own clock. */
  now: () => number
  codec: Codec
  pass: (ms: number) => Promise<void>
  /** Sets a wallet's status, bypassing all rules. */
  setStatus: (
    id: string,
    status: Wallet['status'],
    freezeSource: 'self' | 'pin' | 'staff' | null,
  ) => Promise<unknown>
  /** All rows of all tables, each as text, in an order that is the same for every store. */
  dump: () => Promise<string[]>
}

export type StoreScript = {
  name: string
  run: (site: StoreSite) => Promise<unknown>
  /** The result on every store; if absent, the results are only compared with each other. */
  expected?: unknown
}

// --- rows ---

export const id = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
export const ALICE = id(1)
export const BOB = id(2)
export const OUTSIDE = { id: id(90), system: 'external:USD:00', currency: 'USD' }
export const NOW = new Date(1_800_000_000_000)
export const bytes = (text: string) => Buffer.from(text)

export const writesOf = (some: Partial<Writes>): Writes => ({ ...noWrites(), ...some })
export const opened = (wallet: string, code: string, user = wallet, currency = 'USD') => ({
  id: wallet,
  userId: user,
  code,
  currency,
  tier: 'unverified' as const,
  usage: NOTHING_USED,
  openedAt: NOW,
})
export const transfer = (number: number, over: Partial<TransferRow> = {}): TransferRow => ({
  id: id(1_000 + number),
  type: 'transfer',
  status: 'completed',
  userId: ALICE,
  fromWallet: ALICE,
  fromSequence: 1,
  toWallet: BOB,
  toSequence: 1,
  amount: 5n,
  currency: 'USD',
  fingerprint: bytes(`fingerprint ${number}`),
  note: null,
  metadata: null,
  requestedAt: NOW,
  decidedAt: NOW,
  rejectionCode: null,
  rejectionDetail: null,
  rejectionLimit: null,
  rejectionUsed: null,
  originalId: null,
  linkedTo: null,
  partition: 0,
  seq: BigInt(number),
  ...over,
})
/** The row of ledger.commands that belongs to a transfer. */
export const claim = (number: number): Earlier => {
  const { id, fingerprint, partition, seq } = transfer(number)
  return { id, fingerprint, partition, seq }
}
export const entry = (walletId: string, sequence: number, amount = 5n): EntryRow => ({
  walletId,
  sequence,
  transferId: id(1_001),
  amount,
  balanceAfter: 5n,
})
export const event = (partition: number, seq: bigint): JournalRow => ({
  partition,
  seq,
  key: ALICE,
  headers: { seq: String(seq), odd: '\\ " {}' },
  bytes: Buffer.from([0, 255, Number(seq)]),
})
export const holdRow = (number: number, over: Partial<HoldRow> = {}): HoldRow => ({
  id: id(1_500 + number),
  type: 'hold',
  status: 'active',
  userId: ALICE,
  walletId: ALICE,
  toWalletId: BOB,
  amount: 50n,
  currency: 'USD',
  placedMs: NOW.getTime(),
  untilMs: NOW.getTime() + 60_000,
  fingerprint: bytes(`hold ${number}`),
  note: null,
  metadata: null,
  requestedAt: NOW,
  ...over,
})
export const holdEnd = (number: number, over: Partial<HoldEnd> = {}): HoldEnd => ({
  id: id(1_500 + number),
  status: 'captured',
  captured: 20n,
  commandId: id(1_700 + number),
  endedAt: NOW,
  ...over,
})
export const status = (wallet: string, over: Partial<StatusRow> = {}): StatusRow => ({
  id: wallet,
  status: 'frozen',
  freezeSource: 'self',
  reason: bytes('why'),
  closedAt: null,
  ...over,
})
export const closed = (wallet: string) =>
  status(wallet, { status: 'closed', freezeSource: null, reason: null, closedAt: NOW })
export const limit = (wallet: string, over: Partial<LimitRow> = {}): LimitRow => ({
  walletId: wallet,
  action: 'send',
  source: 'self',
  perTransaction: 1n,
  daily: null,
  monthly: 0n,
  ...over,
})
export const USED: Usage = {
  day: 20_833,
  used: { send: { day: 1n, month: 2n }, deposit: { day: 3n, month: 4n }, withdrawal: { day: 5n, month: 6n } },
}
export const balance = (
  wallet: string,
  amount: bigint,
  sequence: number,
  over: Partial<Wallet> = {},
): Wallet => ({
  id: wallet,
  userId: wallet,
  currency: 'USD',
  status: 'active',
  freezeSource: null,
  balance: amount,
  held: 0n,
  sequence,
  tier: 'unverified',
  usage: NOTHING_USED,
  ownLimits: [],
  ...over,
})

// --- transactions that a script controls step by step ---

class RolledBack extends Error {}

/** A transaction whose statements and end are controlled by the script. */
export const begin = async (store: LedgerStore) => {
  const begun = Promise.withResolvers<LedgerTx>()
  const over = Promise.withResolvers<void>()
  const ended = store.transact(async tx => {
    begun.resolve(tx)
    await over.promise
  })
  ended.catch(begun.reject)
  return {
    tx: await begun.promise,
    ended,
    commit: () => {
      over.resolve()
      return ended
    },
    rollback: async () => {
      over.reject(new RolledBack())
      await ended.catch(error => {
        if (!(error instanceof RolledBack)) throw error
      })
    },
  }
}

export const write = (store: LedgerStore, some: Partial<Writes>): Promise<void> =>
  store.transact(tx => tx.writeBatch(writesOf(some)))

/** The end of a promise: 'done', or the error's code, or its text if it has no code. */
export const endOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'done',
    error => String((error as { code?: string }).code ?? (error as Error).message),
  )

const WAITING_MS = 250
/** Whether a promise waits: it is neither done nor failed after WAITING_MS, which is long for anything not blocked. */
export const isWaiting = ({ pass }: StoreSite, promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([pass(WAITING_MS).then(() => true), endOf(promise).then(() => false)])

export const twoWallets = (store: LedgerStore) =>
  store.transact(async tx => {
    await tx.writeBatch(writesOf({ opened: [opened(ALICE, 'A'), opened(BOB, 'B')] }))
    await tx.writeBatch(writesOf({ balances: [balance(ALICE, 100n, 0)] }))
  })
export const balancesOf = (wallets: Wallet[]) =>
  wallets.map(wallet => [wallet.id, wallet.balance, wallet.sequence])

export const byPartition = (a: { partition: number }, b: { partition: number }) => a.partition - b.partition
