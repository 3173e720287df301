import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { findUser } from '../identity/persons/sql/users.ts'
import type { Pins } from '../identity/pin/pin.ts'
import type { Tokens } from '../identity/sessions/tokens.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import {
  lookUpTransfers,
  readDecidedAfter,
  readOwnEntries,
  readPosted,
  readRejected,
  readTransfers,
  readTransfersBetween,
  readWalletByCode,
  readWallets,
  readWalletsOf,
  type TransferLookupKeys,
} from '../ledger/sql/ledger-reads.ts'
import { readLimitedWallets } from '../limits/sql/limit-reads.ts'
import { batchPerTick } from '../queues/batch-per-tick.ts'
import type { RequestLog } from './create-request-log.ts'
import { createFindTransfer, type FindTransfer, type FindTransferDeps } from './find-transfer.ts'
import { createListAllTransfers } from './list-all-transfers.ts'
import { createListSubjects, createListTransfers, type ListTransfersDeps } from './list-transfers.ts'
import { createPreviewTransfer } from './preview-transfer.ts'
import { createRequestTransfer, type RequestTransferDeps } from './request-transfer.ts'
import { readRequestIds, readRequestsOf } from './sql/pending-requests.ts'
import { transferRoutes } from './transfer-routes.ts'
import { viewTransfer } from './transfer-view.ts'

/** Rows that one page of the list reads with a filter: a tenth of a second of the database. */
const MOST_READ = { entries: 10_000, requests: 500 }

/** Dependencies of requests that holds and payments share. */
export type Requesting = Omit<RequestTransferDeps<never>, 'view'>

/** Transfers between wallets, and the lookup of all movements. */
export const createTransfers = (deps: {
  logger: Logger
  sql: Database
  codec: Codec
  guards: Guards
  names: Names
  personKeys: PersonKeys
  pins: Pick<Pins, 'verifyPin'>
  tokens: Pick<Tokens, 'verifyStepUp'>
  ledger: LedgerDoor
  requestLog: RequestLog
  clock: Clock
  /** Amounts above it need a fresh PIN, in major units of any currency. */
  freshPinAbove: RequestTransferDeps<never>['freshPinAbove']
  expiresAfterMs: number
  readHoldEndedBy: FindTransferDeps['readHoldEndedBy']
  readPaymentsBetween: FindTransferDeps['readPaymentsBetween']
  readPaymentsOf: ListTransfersDeps['readPaymentsOf']
  readMethods: ListTransfersDeps['readMethods']
}): Room & {
  requesting: Requesting
  findTransfer: FindTransfer
  listTransfers: ReturnType<typeof createListTransfers>
  /** For staff. */
  listSubjects: ReturnType<typeof createListSubjects>
  listAll: ReturnType<typeof createListAllTransfers>
} => {
  const { logger, sql, codec, guards, names, personKeys, ledger, requestLog } = deps
  const { ledgerRead, readDecided } = ledger
  const requesting: Requesting = {
    logger,
    codec,
    admit: ledger.admit,
    publisher: ledger.countedPublisher,
    outcomes: ledger.outcomes,
    names,
    personKeys,
    lookUp: batchPerTick((questions: TransferLookupKeys[]) => lookUpTransfers(ledgerRead, questions)),
    readDecided,
    claimKey: requestLog.claimKey,
    writePending: requestLog.writePending,
    verifyPin: deps.pins.verifyPin,
    verifyStepUp: deps.tokens.verifyStepUp,
    freshPinAbove: deps.freshPinAbove,
    expiresAfterMs: deps.expiresAfterMs,
    clock: deps.clock,
  }
  const findTransfer = createFindTransfer({
    names,
    personKeys,
    readDecidedBetween: (first, last) => readTransfersBetween(ledgerRead, first, last),
    readPendingBetween: requestLog.readPendingBetween,
    readPaymentsBetween: deps.readPaymentsBetween,
    readMethods: deps.readMethods,
    readHoldEndedBy: deps.readHoldEndedBy,
    readWallets: ids => readWallets(ledgerRead, ids),
  })
  const lists: ListTransfersDeps = {
    names,
    personKeys,
    readWalletsOf: userId => readWalletsOf(ledgerRead, userId),
    readPosted: (...asked) => readPosted(ledgerRead, ...asked),
    readRejected: (...asked) => readRejected(ledgerRead, ...asked),
    readRequestsOf: (...asked) => readRequestsOf(sql, ...asked),
    readRequestIds: ids => readRequestIds(sql, ids),
    readPaymentsOf: deps.readPaymentsOf,
    readMethods: deps.readMethods,
    readTransfers: ids => readTransfers(ledgerRead, ids),
    readWallets: ids => readWallets(ledgerRead, ids),
    mostRead: MOST_READ,
  }
  const listTransfers = createListTransfers(lists)
  return {
    requesting,
    findTransfer,
    listTransfers,
    listSubjects: createListSubjects(lists),
    listAll: createListAllTransfers({
      personKeys,
      readDecidedAfter: (...asked) => readDecidedAfter(ledgerRead, ...asked),
      readTransfers: lists.readTransfers,
      mostRead: MOST_READ.entries,
      clock: deps.clock,
    }),
    routes: [
      transferRoutes({
        guards,
        requestTransfer: createRequestTransfer({ ...requesting, view: viewTransfer }),
        previewTransfer: createPreviewTransfer({
          lookUp: requesting.lookUp,
          readWallets: ids => readWallets(ledgerRead, ids),
          readLimited: async walletId =>
            (await readLimitedWallets(ledgerRead, { userId: null, walletId }))[0],
          isDeactivated: async userId => (await findUser(sql, userId))?.disabled ?? false,
        }),
        findTransfer,
        listTransfers,
        readOwnEntries: (userId, transferId) => readOwnEntries(ledgerRead, userId, transferId),
        readWalletByCode: code => readWalletByCode(ledgerRead, code),
        names,
      }),
    ],
  }
}
