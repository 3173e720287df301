import { type Database, isDatabaseAway, isUniqueViolation, type Tx } from '@pennywire/runtime/database.ts'
import type { LedgerStore, LedgerTx } from '../store.ts'
import * as batch from './batch.ts'
import { raisePublished, readJournalAfter, readProgress } from './journal.ts'
import { readMacsFrom, readPositions } from './positions.ts'

const LOCK_NOT_AVAILABLE = '55P03'
/** statement_timeout, idle_in_transaction_session_timeout, transaction_timeout: the batch is too large. */
const TOO_SLOW = ['57014', '25P03', '25P04']

/** The ledger's statements in a transaction of Postgres. */
export const ledgerTxOf = (tx: Tx): LedgerTx => ({
  lockPartitions: (partitions, skipLocked) => batch.lockPartitions(tx, partitions, skipLocked),
  lockWallets: (ids, skipLocked) => batch.lockWallets(tx, ids, skipLocked),
  findWallets: ids => batch.findWallets(tx, ids),
  findOutcomes: ids => batch.findOutcomes(tx, ids),
  findWalletsOf: userIds => batch.findWalletsOf(tx, userIds),
  readLimits: walletIds => batch.readLimits(tx, walletIds),
  readHolds: ids => batch.readHolds(tx, ids),
  readOriginals: ids => batch.readOriginals(tx, ids),
  readClock: () => batch.readClock(tx),
  readServer: () => batch.readServer(tx),
  openSystemWallets: (wallets, now) => batch.openSystemWallets(tx, wallets, now),
  readJournalAt: places => batch.readJournalAt(tx, places),
  writeBatch: writes => batch.writeBatch(tx, writes),
})

/**
 * The ledger's store in Postgres. `relay` is a pool of its own: its marks need not wait for the disk, and it must never
 * wait for a batch.
 */
export const postgresStore = (sql: Database, relay: Database): LedgerStore => ({
  transact: work => sql.begin(tx => work(ledgerTxOf(tx))) as ReturnType<typeof work>,
  isRivalry: error => isUniqueViolation(error),
  causeOf: error => {
    const code = String((error as { code?: unknown })?.code)
    if (code === LOCK_NOT_AVAILABLE) return 'locked'
    if (TOO_SLOW.includes(code)) return 'other'
    if (isDatabaseAway(error)) return 'away'
    // A data exception or a violated constraint. Unique violations come from concurrent transactions, never from the
    // record.
    return /^2[23][0-9A-Z]{3}$/.test(code) && !isUniqueViolation(error) ? 'data' : 'other'
  },
  readServer: () => batch.readServer(sql),
  readPositions: partitions => readPositions(sql, partitions),
  readMacsFrom: ends => readMacsFrom(sql, ends),
  readProgress: partitions => readProgress(relay, partitions),
  readJournalAfter: (partition, seq, limit) => readJournalAfter(relay, partition, seq, limit),
  raisePublished: marks => raisePublished(relay, marks),
})
