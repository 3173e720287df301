import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readWalletByCode, readWallets } from '../ledger/sql/ledger-reads.ts'
import type { RequestLog } from '../transfers/create-request-log.ts'
import type { createTransfers } from '../transfers/create-transfers.ts'
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
  transfers: Pick<ReturnType<typeof createTransfers>, 'findTransfer' | 'listSubjects' | 'listAll'>
  readPaymentIds: (providerReference: string) => Promise<string[]>
  clock: Clock
}): Room => {
  const { codec, guards, names, personKeys, ledger, requestLog, transfers } = deps
  const { admit, outcomes, readDecided, ledgerRead } = ledger
  return {
    routes: [
      adminTransferRoutes({
        guards,
        names,
        listSubjects: transfers.listSubjects,
        listAll: transfers.listAll,
        findSubjects: transfers.findTransfer.anybodys,
        readPaymentIds: deps.readPaymentIds,
        readWallets: ids => readWallets(ledgerRead, ids),
        readWalletByCode: code => readWalletByCode(ledgerRead, code),
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
