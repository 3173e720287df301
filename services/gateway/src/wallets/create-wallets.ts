import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import {
  findLongerWallets,
  readEntries,
  readEntriesAfter,
  readNewestEntry,
  readWalletCounts,
  readWalletOf,
  readWallets,
  readWalletsAbove,
  readWalletsOf,
} from '../ledger/sql/ledger-reads.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import type { InTurn } from '../queues/turns.ts'
import type { LiveStreams } from '../streams/live-streams.ts'
import { createChangeWallet } from './change-wallet.ts'
import { startFreezeAfterPinLocks } from './freeze-after-pin-locks.ts'
import { createOpenWallet } from './open-wallet.ts'
import { walletRoutes } from './wallet-routes.ts'
import { adminWalletRoutes } from './wallet-staff-routes.ts'

/** Wallets: opened, frozen and closed by their owner, by staff, and by PIN locks. */
export const createWallets = (deps: {
  logger: Logger
  codec: Codec
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: LedgerDoor
  inTransaction: InTransaction
  inReadTurn: InTurn
  streams: Pick<LiveStreams, 'open'>
  clock: Clock
}): Room => {
  const { logger, codec, guards, names, personKeys, ledger, inTransaction, clock } = deps
  const { ask, admit, outcomes, ledgerRead } = ledger
  const changeWallet = createChangeWallet({
    ask,
    personKeys,
    readWallet: async id => (await readWallets(ledgerRead, [id]))[0],
    clock,
  })
  const pinFreezes = startFreezeAfterPinLocks({
    inTransaction,
    codec,
    logger,
    readWalletsOf: userId => readWalletsOf(ledgerRead, userId),
    clock,
  })
  return {
    routes: [
      walletRoutes({
        guards,
        names,
        personKeys,
        changeWallet,
        openWallet: createOpenWallet({
          codec,
          admit,
          // Uncounted: a refusal to open is in no view that back-pressure could query.
          publishCommand: ledger.publishUncounted,
          outcomes,
          readWalletCounts: (userId, currency) => readWalletCounts(ledgerRead, userId, currency),
          readWalletOf: (userId, id) => readWalletOf(ledgerRead, userId, id),
          clock,
        }),
        readWalletOf: (userId, id) => readWalletOf(ledgerRead, userId, id),
        readWalletsOf: userId => readWalletsOf(ledgerRead, userId),
        readEntries: (walletId, before, limit) => readEntries(ledgerRead, walletId, before, limit),
        streams: deps.streams,
        feed: {
          name: 'entries',
          findLonger: lists => findLongerWallets(ledgerRead, lists),
          inTurn: deps.inReadTurn,
        },
        readNewestEntry: (userId, walletId) => readNewestEntry(ledgerRead, userId, walletId),
        readEntriesAfter: (walletId, after, limit) => readEntriesAfter(ledgerRead, walletId, after, limit),
      }),
      adminWalletRoutes({
        guards,
        names,
        personKeys,
        changeWallet,
        readWallets: ids => readWallets(ledgerRead, ids),
        readWalletsAbove: (filter, aboveId, limit) => readWalletsAbove(ledgerRead, filter, aboveId, limit),
      }),
    ],
    stop: pinFreezes.stop,
  }
}
