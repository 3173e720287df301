import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import type { InTurn } from '../queues/turns.ts'
import { readBalanceAt, readPeriod, readStatementEntries } from './sql/statement-reads.ts'
import { createPdfPool } from './statement-pdf-pool.ts'
import { statementRoutes } from './statement-routes.ts'

/** Statements of a wallet as JSON, CSV and PDF. */
export const createStatements = (deps: {
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: Pick<LedgerDoor, 'ledgerRead'>
  inReadTurn: InTurn
}): Room => {
  const { guards, names, personKeys, inReadTurn } = deps
  const { ledgerRead } = deps.ledger
  const pdfs = createPdfPool()
  return {
    routes: [
      statementRoutes({
        guards,
        names,
        personKeys,
        pdfs,
        readBalanceAt: (userId, walletId, at) => readBalanceAt(ledgerRead, userId, walletId, at),
        readPeriod: (userId, walletId, from, to) =>
          inReadTurn(userId, () => readPeriod(ledgerRead, userId, walletId, from, to)),
        readEntries: (userId, walletId, above, last, limit) =>
          inReadTurn(userId, () => readStatementEntries(ledgerRead, walletId, above, last, limit)),
      }),
    ],
    stop: pdfs.stop,
  }
}
