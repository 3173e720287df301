import type { Receipt } from '@pennywire/documents/describe-receipt.ts'
import { createReceiptCodes } from '@pennywire/documents/receipt-code.ts'
import { RECEIPT_POOL } from '@pennywire/documents/receipt-pool.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { MacKeys } from '@pennywire/runtime/mac-keys.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readTransfers, readTransfersBetween } from '../ledger/sql/ledger-reads.ts'
import { readPreferences } from '../notifications/sql/notifications.ts'
import type { InTurn } from '../queues/turns.ts'
import { createWorkerPool } from '../queues/worker-pool.ts'
import type { FindTransfer } from '../transfers/find-transfer.ts'
import { createCheckReceipt } from './check-receipt.ts'
import { RECEIPT_PURPOSE, startMakingReceipts } from './make-receipts.ts'
import { MAX_WAITING, MAX_WAITING_OF_USER, receiptRoutes } from './receipt-routes.ts'
import {
  claimReceipts,
  dropReceipt,
  measureWaiting,
  postponeReceipt,
  readReceipt,
  requestReceipt,
  storeReceipt,
} from './sql/receipts.ts'

/** Receipts of completed transfers as PDF, and the page that checks them. */
export const createReceipts = (deps: {
  logger: Logger
  sql: Database
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: Pick<LedgerDoor, 'ledgerRead' | 'readDecided'>
  /** The notifier's views: the language that a user has chosen. */
  notifier: Database
  findTransfer: FindTransfer
  inReadTurn: InTurn
  keys: MacKeys
  publicUrl: string
  clock: Clock
}): Room => {
  const { logger, sql, guards, names, personKeys, notifier, findTransfer, inReadTurn, publicUrl, clock } =
    deps
  const { ledgerRead, readDecided } = deps.ledger
  const codes = createReceiptCodes(deps.keys)
  const pool = createWorkerPool<Receipt, Uint8Array>(RECEIPT_POOL)
  const making = startMakingReceipts({
    ...{ names, codes, publicUrl, personKeys, clock, logger },
    claim: (limit, claimMs) => claimReceipts(sql, limit, claimMs),
    readTransfers: ids => readTransfers(ledgerRead, ids),
    render: (receipt, userId) => pool.run(receipt, userId),
    store: (receipt, pdf) => storeReceipt(sql, receipt, pdf),
    postpone: (receipt, pauseMs) => postponeReceipt(sql, receipt, pauseMs),
    drop: receipt => dropReceipt(sql, receipt),
  })
  measuredGauge(
    'gateway_receipts_waiting',
    'Receipts that wait to be made, of all gateways',
    async () => (await measureWaiting(sql)).waiting,
  )
  measuredGauge(
    'gateway_receipts_waiting_seconds',
    'Age of the oldest of them',
    async () => (await measureWaiting(sql)).oldestSeconds,
  )
  return {
    routes: [
      receiptRoutes({
        guards,
        findTransfer,
        readDecided,
        inReadTurn,
        readLanguage: async userId => (await readPreferences(notifier, userId)).language,
        request: async receipt => {
          const bounds = { maxWaiting: MAX_WAITING, maxPerUser: MAX_WAITING_OF_USER }
          const requested = await requestReceipt(sql, receipt, bounds)
          if (requested === 'waiting') making.wake()
          return requested
        },
        read: async (transferId, userId) => {
          const found = await readReceipt(sql, transferId, userId)
          if (!found?.pdf) return found?.pdf
          const text = await personKeys.decryptFor(userId, found.pdf, RECEIPT_PURPOSE)
          return text === null ? undefined : Buffer.from(text, 'base64')
        },
        check: createCheckReceipt({
          codes,
          readTransfersBetween: (first, last) => readTransfersBetween(ledgerRead, first, last),
        }),
      }),
    ],
    // What is being rendered is given up and waits for the next gateway.
    stop: () => Promise.all([making.stop(), pool.stop()]),
  }
}
