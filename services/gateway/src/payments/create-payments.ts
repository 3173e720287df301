import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Announce } from '../identity/events/announce.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readDecidedIds, readWalletOf } from '../ledger/sql/ledger-reads.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { createTurns } from '../queues/turns.ts'
import type { RequestLog } from '../transfers/create-request-log.ts'
import type { Requesting } from '../transfers/create-transfers.ts'
import { createWriteDeposit, writeClaimedPayment } from './deposit-limits.ts'
import { depositRoutes } from './deposit-routes.ts'
import { advancePayment } from './payment.ts'
import { connectPaymentProvider } from './payment-provider.ts'
import { createHandleCallback, createRequestDeposit } from './request-deposit.ts'
import { createRequestWithdrawal } from './request-withdrawal.ts'
import { startPaymentWorker } from './settle-payments.ts'
import { readLedgerStatuses } from './sql/payment-reads.ts'
import {
  claimPayments,
  countStuckPayments,
  markPaymentDone,
  markPaymentOrdering,
  markPaymentPending,
  type Payment,
  readPayment,
  type Settlement,
  settlePayment,
} from './sql/payments.ts'
import { withdrawalRoutes } from './withdrawal-routes.ts'

/** Longest interval between two looks at an open payment, no matter how long it has been waiting. */
const LOOK_AGAIN_WITHIN_MS = 300_000
/** Earlier first look at a withdrawal: if its requester does not wait, the worker orders the payout. */
const PAYOUT_LOOK_MS = 1_000

/** Deposits and withdrawals: ordered from the provider, booked by its result, and followed up until they end. */
export const createPayments = (deps: {
  logger: Logger
  sql: Database
  codec: Codec
  guards: Guards
  names: Names
  personKeys: PersonKeys
  ledger: LedgerDoor
  requestLog: RequestLog
  requesting: Requesting
  provider: Omit<Parameters<typeof connectPaymentProvider>[0], 'clock'>
  lookAfterMs: number
  stuckAfterSeconds: number
  depositExpiresAfterMs: number
  expiresAfterMs: number
  clock: Clock
  inTransaction: InTransaction
  announce: Pick<Announce, 'notice'>
}): Room => {
  const {
    logger,
    sql,
    codec,
    guards,
    names,
    personKeys,
    ledger,
    requestLog,
    requesting,
    lookAfterMs,
    clock,
    inTransaction,
    announce,
  } = deps
  const { ledgerRead } = ledger
  /** A deposit that fails ends here alone: no event of the ledger states it, so its payer is told by the gateway. */
  const settle = (id: string, settlement: Settlement): Promise<boolean> =>
    inTransaction(async tx => {
      if (!(await settlePayment(tx, id, settlement))) return false
      const payment = (await readPayment(tx, id))!
      if (payment.kind === 'deposit' && payment.status === 'failed') {
        const { userId, amount, currency, failureCode } = payment
        const data = {
          amount: formatAmount(amount, currency),
          currency,
          code: failureCode ?? 'PAYMENT_FAILED',
        }
        const notice = { userId, cause: id, transferId: id, type: 'deposit_rejected', data } as const
        await appendToOutbox(tx, [announce.notice(notice, undefined)])
      }
      return true
    })
  const payments = {
    logger,
    codec,
    admit: ledger.admit,
    // Uncounted: a held withdrawal is not yet a transfer that back-pressure could look up.
    publishCommand: ledger.publishUncounted,
    outcomes: ledger.outcomes,
    names,
    personKeys,
    provider: connectPaymentProvider({ ...deps.provider, clock }),
    readWallet: (userId: string, walletId: string) => readWalletOf(ledgerRead, userId, walletId),
    readDecided: ledger.readDecided,
    isCommand: async (id: string) => (await readDecidedIds(ledgerRead, [id])).length > 0,
    isPending: async (id: string) => (await requestLog.readPendingBetween(id, id)).length > 0,
    readPayment: (id: string) => readPayment(sql, id),
    readLedgerStatuses: (ids: string[]) => readLedgerStatuses(ledgerRead, ids),
    markOrdering: (id: string, attempts: number) => markPaymentOrdering(sql, id, attempts),
    markPending: (id: string, reference: string | null) => markPaymentPending(sql, id, reference),
    depositExpiresAfterMs: deps.depositExpiresAfterMs,
    settle: (id: string, settlement: Settlement) => settle(id, settlement),
    markDone: (id: string, status: Payment['status']) => markPaymentDone(sql, id, status),
    expiresAfterMs: deps.expiresAfterMs,
    clock,
  }
  // Deposits of one wallet wait for each other while they hold a connection, so they take turns.
  const inPaymentTurn = createTurns('payments', 'gateway', clock)
  const writeDeposit = createWriteDeposit({ sql, ledgerRead, lookAfterMs })
  const worker = startPaymentWorker({
    logger,
    claim: limit => claimPayments(sql, limit, lookAfterMs, LOOK_AGAIN_WITHIN_MS),
    advancePayment: payment => advancePayment(payments, payment),
    clock,
    pollMs: Math.min(lookAfterMs, 1_000),
  })
  measuredGauge(
    'gateway_stuck_payments',
    'Payments that have not come to an end within PAYMENT_STUCK_SECONDS',
    () => countStuckPayments(sql, deps.stuckAfterSeconds),
  )
  return {
    routes: [
      depositRoutes({
        guards,
        requestDeposit: createRequestDeposit({
          ...payments,
          writeDeposit: payment => inPaymentTurn(payment.userId, () => writeDeposit(payment)),
        }),
        handleCallback: createHandleCallback(payments),
      }),
      withdrawalRoutes({
        guards,
        requestWithdrawal: createRequestWithdrawal({
          ...requesting,
          ...payments,
          writePayment: payment =>
            inPaymentTurn(
              payment.userId,
              () =>
                sql.begin(tx =>
                  writeClaimedPayment(tx, payment, Math.min(lookAfterMs, PAYOUT_LOOK_MS)),
                ) as Promise<Payment>,
            ),
        }),
      }),
    ],
    stop: worker.stop,
  }
}
