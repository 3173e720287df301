import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readTransfers, readWalletsOf } from '../ledger/sql/ledger-reads.ts'
import type { RequestLog } from '../transfers/create-request-log.ts'
import type { Requesting } from '../transfers/create-transfers.ts'
import type { FindTransfer } from '../transfers/find-transfer.ts'
import { createRequestTransfer } from '../transfers/request-transfer.ts'
import { viewHold } from '../transfers/transfer-view.ts'
import { createEndHold } from './end-hold.ts'
import { startHoldTimer } from './expire-holds.ts'
import { holdRoutes } from './hold-routes.ts'
import { createListHolds } from './list-holds.ts'
import { countDueHolds, readDueHolds, readHoldPlaces } from './sql/hold-reads.ts'

/** Holds: placed, captured, voided, and expired. */
export const createHolds = (deps: {
  logger: Logger
  codec: Codec
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: LedgerDoor
  requestLog: RequestLog
  requesting: Requesting
  findTransfer: FindTransfer
  minSeconds: number
  /** How often to look for overdue holds; 0: never, because another gateway does. */
  expiryEveryMs: number
  clock: Clock
}): Room & { listHolds: ReturnType<typeof createListHolds> } => {
  const { logger, codec, guards, names, personKeys, ledger, requestLog, findTransfer, expiryEveryMs, clock } =
    deps
  const { ledgerRead, ask, readDecided } = ledger
  const timer =
    expiryEveryMs === 0
      ? undefined
      : startHoldTimer({
          readDue: (after, limit) => readDueHolds(ledgerRead, after, limit),
          publishCommand: ledger.publishUncounted,
          codec,
          clock,
          logger,
          everyMs: expiryEveryMs,
        })
  measuredGauge('gateway_due_holds', 'Holds that stand though their time is over', () =>
    countDueHolds(ledgerRead),
  )
  const listHolds = createListHolds({
    names,
    personKeys,
    readWalletsOf: userId => readWalletsOf(ledgerRead, userId),
    readHoldPlaces: (wallets, filter, before, limit) =>
      readHoldPlaces(ledgerRead, wallets, filter, before, limit),
    readTransfers: ids => readTransfers(ledgerRead, ids),
  })
  return {
    listHolds,
    routes: [
      holdRoutes({
        guards,
        requestHold: createRequestTransfer({ ...deps.requesting, view: viewHold }),
        endHold: createEndHold({
          ask,
          names,
          personKeys,
          readDecided,
          claimKey: requestLog.claimKey,
          clock,
        }),
        findTransfer,
        listHolds,
        minSeconds: deps.minSeconds,
      }),
    ],
    ...(timer ? { stop: timer.stop } : {}),
  }
}
