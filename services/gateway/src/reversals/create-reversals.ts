import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import type { RequestLog } from '../transfers/create-request-log.ts'
import { createRequestReversal } from './request-reversal.ts'
import { adminTransferRoutes } from './transfer-staff-routes.ts'

/** Staff read transfers and reverse them. */
export const createReversals = (deps: {
  codec: Codec
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: LedgerDoor
  requestLog: RequestLog
  clock: Clock
}): Room => {
  const { codec, guards, names, personKeys, ledger, requestLog } = deps
  const { admit, outcomes, readDecided } = ledger
  return {
    routes: [
      adminTransferRoutes({
        guards,
        names,
        personKeys,
        readDecided,
        requestReversal: createRequestReversal({
          codec,
          admit,
          publishCommand: ledger.publishCounted,
          outcomes,
          personKeys,
          readDecided,
          claimKey: requestLog.claimKey,
          writePending: requestLog.writePending,
          clock: deps.clock,
        }),
      }),
    ],
  }
}
