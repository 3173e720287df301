import type { Wallet } from '../packages/rules/src/decide.ts'
import { NOTHING_USED } from '../packages/rules/src/limits.ts'
import type {
  Earlier,
  EntryRow,
  HoldRow,
  JournalRow,
  LimitRow,
  PartitionRow,
  ReversalRow,
  TransferRow,
} from '../services/ledger/src/store.ts'
import type { BackupOf, ChangesOf, Specs, TablesOf } from './postgres.ts'

// The ledger's tables with the keys and constraints of its migrations (services/ledger/src/sql/migrations/).

export type WalletRow = Omit<Wallet, 'ownLimits'> & {
  system: string | null
  code: string | null
  freezeReason: Buffer | null
  label: Buffer | null
  openedAt: Date
  closedAt: Date | null
}
/** The column values of a newly opened wallet. */
export const NEW_WALLET = {
  status: 'active',
  freezeSource: null,
  freezeReason: null,
  label: null,
  balance: 0n,
  held: 0n,
  sequence: 0,
  tier: 'unverified',
  usage: NOTHING_USED,
  closedAt: null,
} as const
/** The lists in a batch's writes that only set columns of wallets. */
export const WALLET_COLUMNS = ['tiers', 'labels'] as const
/** A hold with the columns of its end, which are null while the hold is active. */
export type HoldTableRow = HoldRow & {
  captured: bigint | null
  endCommand: string | null
  endedAt: Date | null
}
export type PartitionTableRow = PartitionRow & { epoch: number; macsFrom: bigint | null }

export type LedgerRows = {
  wallets: WalletRow
  transfers: TransferRow
  entries: EntryRow
  commands: Earlier
  holds: HoldTableRow
  reversals: ReversalRow
  limits: LimitRow
  journal: JournalRow
  partitions: PartitionTableRow
  published: { partition: number; publishedThrough: bigint }
}
export type Tables = TablesOf<LedgerRows>
export type Changes = ChangesOf<LedgerRows>
export type Backup = BackupOf<LedgerRows>

const MAX_BALANCE = 9_007_199_254_740_990n

/** Wallets that a constraint of the database refuses; no service has this rule. */
export const isRefusedWallet = (id: string): boolean => id.startsWith('00000000-0000-4000-c')

export const entryKey = (walletId: string, sequence: number): string => `${walletId} ${sequence}`
export const eventKey = (partition: number, seq: bigint | number): string => `${partition} ${seq}`
export const partitionKey = (partition: number): string => String(partition)

export const LEDGER_TABLES: Specs<LedgerRows> = {
  wallets: {
    key: ({ id }) => id,
    unique: {
      system: ({ system }) => system,
      code: ({ code }) => code,
      open: ({ userId, currency, status }) =>
        userId === null || status === 'closed' ? null : `${userId} ${currency}`,
    },
    group: ({ userId }) => userId ?? '',
    checks: {
      'no such wallet': ({ id }) => !isRefusedWallet(id),
      'a frozen wallet says by whom': ({ status, freezeSource }) =>
        (status === 'frozen') === (freezeSource !== null),
      'a wallet has a user or a name': ({ userId, system }) => (userId === null) === (system !== null),
      'a user wallet has a code': ({ userId, code }) => (userId === null) === (code === null),
      'a tier that there is': ({ tier }) => tier === 'unverified' || tier === 'verified',
      'nothing held below zero': ({ held }) => held >= 0n,
      'no wallet of a user below zero (M3)': ({ system, balance, held }) =>
        system !== null || balance - held >= 0n,
      'balance within 2^53 - 2': ({ balance }) => balance >= -MAX_BALANCE && balance <= MAX_BALANCE,
    },
  },
  transfers: {
    key: ({ id }) => id,
    checks: {
      'a rejection has its code': ({ status, rejectionCode }) =>
        (status === 'rejected') === (rejectionCode !== null),
      'what is linked is completed, and not to itself': ({ id, status, linkedTo }) =>
        linkedTo === null || (status === 'completed' && linkedTo !== id),
    },
  },
  entries: {
    key: ({ walletId, sequence }) => entryKey(walletId, sequence),
    checks: {
      'sequence above zero': ({ sequence }) => sequence > 0,
      'amount not zero': ({ amount }) => amount !== 0n,
    },
    group: ({ walletId }) => walletId,
  },
  commands: { key: ({ id }) => id },
  holds: {
    key: ({ id }) => id,
    unique: { end: ({ endCommand }) => endCommand },
    checks: {
      'amount above zero': ({ amount }) => amount > 0n,
      'a withdrawal goes to no wallet': ({ type, toWalletId }) =>
        (type === 'withdrawal') === (toWalletId === null),
      'captured within what was held': ({ captured, amount }) =>
        captured === null || (captured >= 0n && captured <= amount),
      'captured above zero': ({ status, captured }) => (status === 'captured') === (captured ?? 0n) > 0n,
    },
  },
  reversals: {
    key: ({ originalId, transferId }) => `${originalId} ${transferId}`,
    unique: { transfer: ({ transferId }) => transferId },
    checks: { 'amount above zero': ({ amount }) => amount > 0n },
    group: ({ originalId }) => originalId,
  },
  limits: {
    key: ({ walletId, action, source }) => `${walletId} ${action} ${source}`,
    checks: {
      'limits are not negative': ({ perTransaction, daily, monthly }) =>
        [perTransaction, daily, monthly].every(limit => limit === null || limit >= 0n),
    },
    group: ({ walletId }) => walletId,
  },
  journal: {
    key: ({ partition, seq }) => eventKey(partition, seq),
    checks: { 'seq above zero': ({ seq }) => seq > 0n },
    group: ({ partition }) => partitionKey(partition),
  },
  partitions: { key: ({ partition }) => partitionKey(partition) },
  published: { key: ({ partition }) => partitionKey(partition) },
}
