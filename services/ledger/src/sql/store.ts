import { type Database, isUniqueViolation } from '@pennywire/runtime/database.ts'
import type { LedgerStore } from '../store.ts'
import * as batch from './batch.ts'
import { raisePublished, readJournalAfter, readProgress } from './journal.ts'
import { readMacsFrom, readPositions } from './positions.ts'

/**
 * The ledger's store in Postgres. `relay` is a pool of its own: its marks need not wait for the disk, and it must
 * never wait for a batch.
 */
export const postgresStore = (sql: Database, relay: Database): LedgerStore => ({
  transact: work =>
    sql.begin(tx =>
      work({
        lockPartitions: partitions => batch.lockPartitions(tx, partitions),
        lockWallets: ids => batch.lockWallets(tx, ids),
        findEarlier: ids => batch.findEarlier(tx, ids),
        findWalletsOf: userIds => batch.findWalletsOf(tx, userIds),
        readLimits: walletIds => batch.readLimits(tx, walletIds),
        readHolds: ids => batch.readHolds(tx, ids),
        readOriginals: ids => batch.readOriginals(tx, ids),
        readClock: () => batch.readClock(tx),
        openSystemWallets: (wallets, now) => batch.openSystemWallets(tx, wallets, now),
        readJournalAt: places => batch.readJournalAt(tx, places),
        writeBatch: writes => batch.writeBatch(tx, writes),
      }),
    ) as ReturnType<typeof work>,
  isRivalry: error => isUniqueViolation(error),
  readPositions: partitions => readPositions(sql, partitions),
  readMacsFrom: ends => readMacsFrom(sql, ends),
  readProgress: partitions => readProgress(relay, partitions),
  readJournalAfter: (partition, seq, limit) => readJournalAfter(relay, partition, seq, limit),
  raisePublished: marks => raisePublished(relay, marks),
})
