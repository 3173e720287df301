import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import { backPressureLimitsOf, type GatewayConfig } from './config.ts'
import { createEndHold } from './holds/end-hold.ts'
import { startHoldTimer } from './holds/expire-holds.ts'
import { holdRoutes } from './holds/hold-routes.ts'
import { createListHolds } from './holds/list-holds.ts'
import { countDueHolds, readDueHolds, readHoldEndedBy, readHoldPlaces } from './holds/sql/hold-reads.ts'
import type { Routes } from './http/define-route.ts'
import type { Identity } from './identity/create-identity.ts'
import { findUser } from './identity/persons/sql/users.ts'
import { createAskLedger } from './ledger/ask-ledger.ts'
import { awaitOutcomes, createOutcomeWaiters } from './ledger/await-outcome.ts'
import { createBackPressure } from './ledger/back-pressure.ts'
import { createPublishCommand } from './ledger/publish-command.ts'
import * as ledger from './ledger/sql/ledger-reads.ts'
import { limitRoutes } from './limits/limit-routes.ts'
import { readLimitedWallets } from './limits/sql/limit-reads.ts'
import { notificationRoutes } from './notifications/notification-routes.ts'
import { countUnread, readNotifications } from './notifications/sql/notifications.ts'
import type { InTransaction } from './outbox/in-transaction.ts'
import { createWriteDeposit, writeClaimedPayment } from './payments/deposit-limits.ts'
import { depositRoutes } from './payments/deposit-routes.ts'
import { lookAfter } from './payments/pay-out.ts'
import { connectPaymentProvider } from './payments/payment-provider.ts'
import { createHandleCallback, createRequestDeposit, subjectOfPayment } from './payments/request-deposit.ts'
import { createRequestWithdrawal } from './payments/request-withdrawal.ts'
import { startPaymentWorker } from './payments/settle-payments.ts'
import { readStandings } from './payments/sql/payment-reads.ts'
import {
  claimPayments,
  countStuckPayments,
  markPaymentDone,
  markPaymentOrdering,
  markPaymentPending,
  type Payment,
  readPayment,
  readPaymentsBetween,
  type Settlement,
  settlePayment,
} from './payments/sql/payments.ts'
import { withdrawalRoutes } from './payments/withdrawal-routes.ts'
import { batchPerTick } from './queues/batch-per-tick.ts'
import { recipientRoutes } from './recipients/recipient-routes.ts'
import { createRequestReversal } from './reversals/request-reversal.ts'
import { adminTransferRoutes } from './reversals/transfer-staff-routes.ts'
import { checkDatabase } from './sql/check-database.ts'
import { readBalanceAt, readPeriod, readStatementEntries } from './statements/sql/statement-reads.ts'
import { createPdfPool } from './statements/statement-pdf-pool.ts'
import { statementRoutes } from './statements/statement-routes.ts'
import { createFindTransfer } from './transfers/find-transfer.ts'
import { createListTransfers } from './transfers/list-transfers.ts'
import { createPreviewTransfer } from './transfers/preview-transfer.ts'
import { createRequestTransfer } from './transfers/request-transfer.ts'
import { startSendingOverdueAgain } from './transfers/send-overdue-again.ts'
import { claimKeys, type KeyClaim } from './transfers/sql/key-claims.ts'
import {
  claimOverdue,
  countOverdue,
  markDecided,
  type NewPendingRequest,
  readPending,
  writePending,
} from './transfers/sql/pending-requests.ts'
import { transferRoutes } from './transfers/transfer-routes.ts'
import { viewHold, viewTransfer } from './transfers/transfer-view.ts'
import { createChangeWallet } from './wallets/change-wallet.ts'
import { startFreezeAfterPinLocks } from './wallets/freeze-after-pin-locks.ts'
import { walletRoutes } from './wallets/wallet-routes.ts'
import { adminWalletRoutes } from './wallets/wallet-staff-routes.ts'

export type Money = {
  routes: Routes[]
  /** What must answer before this gateway takes requests. */
  readiness: Record<string, () => unknown>
  stop: () => Promise<void>
}

/** A gateway whose clock is further off than this would let requests expire that are fresh, or the other way round. */
const MAX_CLOCK_DIFFERENCE_MS = 5_000
/** However long a payment has been waiting, it is looked at within this time. */
const LOOK_AGAIN_WITHIN_MS = 300_000
/** Whoever does not wait for a payout has it ordered by the worker, so that looks soon. */
const PAYOUT_LOOK_MS = 1_000

/** Everything that moves money or shows it, built in one place. */
export const createMoney = async (parts: {
  config: GatewayConfig
  logger: Logger
  sql: Database
  kafka: KafkaClient
  codec: Codec
  publisher: Publisher
  identity: Identity
  inTransaction: InTransaction
}): Promise<Money> => {
  const { config, logger, sql, kafka, codec, publisher, identity, inTransaction } = parts
  const { guards, names, personKeys, pins, tokens } = identity
  // Other services' published views, each over an URL of its own: never in one statement with our own tables.
  // All that is asked is found by keys. A connection keeps its plans, and those made while the tables were empty would
  // read whole tables just when many wait for their outcome.
  const ledgerRead = openDatabase(config.LEDGER_READ_URL, {
    applicationName: `${config.INSTANCE_ID}-reads-ledger`,
    connection: { enable_seqscan: 'off' },
  })
  const notifierRead = openDatabase(config.NOTIFIER_READ_URL, {
    applicationName: `${config.INSTANCE_ID}-reads-notifier`,
    maxConnections: 4,
  })
  const readDecided = batchPerTick(async (ids: string[]) => {
    const found = new Map((await ledger.readTransfers(ledgerRead, ids)).map(facts => [facts.id, facts]))
    return ids.map(id => found.get(id))
  })
  const now = () => Date.now()

  const waiters = createOutcomeWaiters(codec, systemClock, config.WAITS_PER_USER)
  const backPressure = createBackPressure({
    limits: backPressureLimitsOf(config),
    publisher,
    waitingRequests: waiters.waiting,
    makeRoom: waiters.makeRoom,
    findDecided: ids => ledger.readDecidedIds(ledgerRead, ids),
    forgetAfterMs: (config.REQUEST_EXPIRES_SECONDS + 60) * 1_000,
    clock: systemClock,
    logger,
  })
  const outcomes = await awaitOutcomes({
    kafka,
    logger,
    instanceId: config.INSTANCE_ID,
    waiters,
    onDecided: backPressure.decided,
  })
  measuredGauge('gateway_waiting_requests', 'Requests that wait for their outcome', waiters.waiting)
  measuredGauge(
    'gateway_undecided_requests',
    'Commands that this gateway sent and whose outcome it has not seen',
    backPressure.undecided,
  )
  measuredGauge(
    'gateway_oldest_undecided_seconds',
    'Age of the oldest of them',
    backPressure.oldestUndecidedSeconds,
  )
  measuredGauge(
    'gateway_publisher_waiting_records',
    'Records not yet acknowledged by Kafka',
    () => publisher.load().waiting,
  )
  measuredGauge(
    'gateway_publisher_oldest_seconds',
    'Age of the oldest of them',
    () => publisher.load().oldestMs / 1_000,
  )

  const ask = createAskLedger({
    logger,
    codec,
    admit: backPressure.admit,
    // Not counted as undecided: their outcomes are not among the transfers that are asked for there.
    publishCommand: createPublishCommand({ publisher, clock: systemClock, logger }),
    outcomes,
    readOutcome: batchPerTick(async (ids: string[]) => {
      const found = new Map((await ledger.readOutcomes(ledgerRead, ids)).map(row => [row.id, row]))
      return ids.map(id => found.get(id))
    }),
    clock: systemClock,
  })

  const changeWallet = createChangeWallet({
    ask,
    personKeys,
    readWallet: async id => (await ledger.readWallets(ledgerRead, [id]))[0],
    now,
  })
  const pinFreezes = startFreezeAfterPinLocks({
    inTransaction,
    codec,
    logger,
    readWalletsOf: userId => ledger.readWalletsOf(ledgerRead, userId),
    now,
  })

  const pendingLookMs = config.PENDING_LOOK_SECONDS * 1_000
  const claimKey = batchPerTick((claims: KeyClaim[]) => claimKeys(sql, claims))
  const sending = {
    logger,
    codec,
    admit: backPressure.admit,
    publisher: backPressure,
    outcomes,
    names,
    personKeys,
    lookUp: batchPerTick((questions: ledger.TransferQuestion[]) =>
      ledger.readGroundwork(ledgerRead, questions),
    ),
    readDecided,
    claimKey,
    writePending: batchPerTick(async (requests: NewPendingRequest[]) => {
      await writePending(sql, requests, pendingLookMs)
      return requests.map(() => undefined)
    }),
    verifyPin: pins.verifyPin,
    verifyStepUp: tokens.verifyStepUp,
    freshPinAbove: config.FRESH_PIN_ABOVE,
    expiresAfterMs: config.REQUEST_EXPIRES_SECONDS * 1_000,
    clock: systemClock,
  }

  const lookAfterMs = config.PAYMENT_LOOK_SECONDS * 1_000
  const payments = {
    logger,
    codec,
    admit: backPressure.admit,
    // Not counted as undecided: a withdrawal that is held is no transfer yet that could be asked for there.
    publishCommand: createPublishCommand({ publisher, clock: systemClock, logger }),
    outcomes,
    names,
    personKeys,
    provider: connectPaymentProvider({
      url: config.PROVIDER_URL,
      secrets: config.PROVIDER_SECRET_FILE,
      callbackUrl: config.CALLBACK_URL,
      now,
    }),
    readWallet: (userId: string, walletId: string) => ledger.readWalletOf(ledgerRead, userId, walletId),
    readDecided,
    isCommand: async (id: string) => (await ledger.readDecidedIds(ledgerRead, [id])).length > 0,
    isPending: async (id: string) => (await readPending(sql, id, id)).length > 0,
    readPayment: (id: string) => readPayment(sql, id),
    readStandings: (ids: string[]) => readStandings(ledgerRead, ids),
    markOrdering: (id: string, attempts: number) => markPaymentOrdering(sql, id, attempts),
    markPending: (id: string, reference: string | null) => markPaymentPending(sql, id, reference),
    depositExpiresAfterMs: config.DEPOSIT_EXPIRES_SECONDS * 1_000,
    settle: (id: string, settlement: Settlement) => settlePayment(sql, id, settlement),
    markDone: (id: string, status: Payment['status']) => markPaymentDone(sql, id, status),
    expiresAfterMs: config.REQUEST_EXPIRES_SECONDS * 1_000,
    now,
  }
  const paymentWorker = startPaymentWorker({
    logger,
    claim: limit => claimPayments(sql, limit, lookAfterMs, LOOK_AGAIN_WITHIN_MS),
    lookAfter: payment => lookAfter(payments, payment),
    pollMs: Math.min(lookAfterMs, 1_000),
  })
  measuredGauge(
    'gateway_stuck_payments',
    'Payments that have not come to an end within PAYMENT_STUCK_SECONDS',
    () => countStuckPayments(sql, config.PAYMENT_STUCK_SECONDS),
  )

  const overdue = startSendingOverdueAgain({
    claim: limit => claimOverdue(sql, limit, pendingLookMs),
    readDecidedIds: ids => ledger.readDecidedIds(ledgerRead, ids),
    markDecided: ids => markDecided(sql, ids),
    publishCommand: createPublishCommand({ publisher, clock: systemClock, logger }),
    clock: systemClock,
    logger,
    everyMs: Math.min(pendingLookMs, 1_000),
  })
  measuredGauge(
    'gateway_overdue_requests',
    'Requests that the ledger had not decided PENDING_LOOK_SECONDS after their expiry, and has not yet',
    () => countOverdue(sql),
  )

  const findTransfer = createFindTransfer({
    names,
    personKeys,
    readDecidedBetween: (first, last) => ledger.readTransfersBetween(ledgerRead, first, last),
    readPendingBetween: (first, last) => readPending(sql, first, last),
    readPaymentsBetween: async (first, last) =>
      (await readPaymentsBetween(sql, first, last)).map(payment => ({
        ...payment,
        subject: wallet => subjectOfPayment(payment, wallet),
      })),
    readHoldEndedBy: id => readHoldEndedBy(ledgerRead, id),
    readWallets: ids => ledger.readWallets(ledgerRead, ids),
  })
  const holdTimer =
    config.HOLD_EXPIRY_SECONDS === 0
      ? undefined
      : startHoldTimer({
          readDue: (after, limit) => readDueHolds(ledgerRead, after, limit),
          publishCommand: createPublishCommand({ publisher, clock: systemClock, logger }),
          codec,
          clock: systemClock,
          logger,
          everyMs: config.HOLD_EXPIRY_SECONDS * 1_000,
        })
  measuredGauge('gateway_due_holds', 'Holds that stand though their time is over', () =>
    countDueHolds(ledgerRead),
  )

  const pdfs = createPdfPool()

  return {
    routes: [
      walletRoutes({
        guards,
        names,
        personKeys,
        changeWallet,
        codec,
        admit: backPressure.admit,
        // Not counted as undecided: a refusal to open is in no view that could be asked for it.
        publishCommand: createPublishCommand({ publisher, clock: systemClock, logger }),
        outcomes,
        readWalletCounts: (userId, currency) => ledger.readWalletCounts(ledgerRead, userId, currency),
        readWalletOf: (userId, id) => ledger.readWalletOf(ledgerRead, userId, id),
        readWalletsOf: userId => ledger.readWalletsOf(ledgerRead, userId),
        readEntries: (walletId, before, limit) => ledger.readEntries(ledgerRead, walletId, before, limit),
      }),
      adminWalletRoutes({
        guards,
        names,
        personKeys,
        changeWallet,
        readWallets: ids => ledger.readWallets(ledgerRead, ids),
        readWalletsAbove: (filter, aboveId, limit) =>
          ledger.readWalletsAbove(ledgerRead, filter, aboveId, limit),
      }),
      statementRoutes({
        guards,
        names,
        personKeys,
        pdfs,
        readBalanceAt: (userId, walletId, at) => readBalanceAt(ledgerRead, userId, walletId, at),
        readPeriod: (userId, walletId, from, to) => readPeriod(ledgerRead, userId, walletId, from, to),
        readEntries: (walletId, above, last, limit) =>
          readStatementEntries(ledgerRead, walletId, above, last, limit),
      }),
      limitRoutes({ guards, ask, readLimitedWallets: wanted => readLimitedWallets(ledgerRead, wanted), now }),
      adminTransferRoutes({
        guards,
        names,
        personKeys,
        readDecided,
        requestReversal: createRequestReversal({
          codec,
          admit: backPressure.admit,
          publishCommand: createPublishCommand({ publisher: backPressure, clock: systemClock, logger }),
          outcomes,
          personKeys,
          readDecided,
          claimKey,
          writePending: request => writePending(sql, [request], pendingLookMs),
          now,
        }),
      }),
      recipientRoutes({ guards, names, readWalletByCode: code => ledger.readWalletByCode(ledgerRead, code) }),
      transferRoutes({
        guards,
        requestTransfer: createRequestTransfer({ ...sending, view: viewTransfer }),
        previewTransfer: createPreviewTransfer({
          lookUp: sending.lookUp,
          readWallets: ids => ledger.readWallets(ledgerRead, ids),
          readLimited: async walletId =>
            (await readLimitedWallets(ledgerRead, { userId: null, walletId }))[0],
          isDeactivated: async userId => (await findUser(sql, userId))?.disabled ?? false,
        }),
        findTransfer,
        listTransfers: createListTransfers({
          names,
          personKeys,
          readWalletsOf: userId => ledger.readWalletsOf(ledgerRead, userId),
          readPosted: (wallets, filter, limit) => ledger.readPosted(ledgerRead, wallets, filter, limit),
          readRejected: (userId, before, type, limit) =>
            ledger.readRejected(ledgerRead, userId, before, type, limit),
        }),
      }),
      holdRoutes({
        guards,
        requestHold: createRequestTransfer({ ...sending, view: viewHold }),
        endHold: createEndHold({ ask, names, personKeys, readDecided, claimKey, now }),
        findTransfer,
        listHolds: createListHolds({
          names,
          personKeys,
          readWalletsOf: userId => ledger.readWalletsOf(ledgerRead, userId),
          readHoldPlaces: (wallets, filter, before, limit) =>
            readHoldPlaces(ledgerRead, wallets, filter, before, limit),
          readTransfers: ids => ledger.readTransfers(ledgerRead, ids),
        }),
        minSeconds: config.HOLD_MIN_SECONDS,
      }),
      depositRoutes({
        guards,
        requestDeposit: createRequestDeposit({
          ...payments,
          writeDeposit: createWriteDeposit({ sql, ledgerRead, lookAfterMs }),
        }),
        handleCallback: createHandleCallback(payments),
      }),
      withdrawalRoutes({
        guards,
        requestWithdrawal: createRequestWithdrawal({
          ...payments,
          ...sending,
          publishCommand: payments.publishCommand,
          writePayment: payment =>
            sql.begin(tx =>
              writeClaimedPayment(tx, payment, Math.min(lookAfterMs, PAYOUT_LOOK_MS)),
            ) as Promise<Payment>,
        }),
      }),
      notificationRoutes({
        guards,
        readNotifications: (userId, before, unreadOnly, limit) =>
          readNotifications(notifierRead, userId, before, unreadOnly, limit),
        countUnread: userId => countUnread(notifierRead, userId),
      }),
    ],
    readiness: {
      outcomes: outcomes.check,
      ledgerViews: () => checkDatabase(ledgerRead),
      notifierViews: () => checkDatabase(notifierRead),
      clock: async () => {
        const difference = Math.abs(Date.now() - (await ledger.readClock(ledgerRead)).getTime())
        if (difference > MAX_CLOCK_DIFFERENCE_MS)
          throw new Error(`differs from the ledger's by ${difference} ms`)
      },
    },
    stop: async () => {
      await Promise.all([
        paymentWorker.stop(),
        overdue.stop(),
        pinFreezes.stop(),
        holdTimer?.stop(),
        outcomes.stop(),
        backPressure.stop(),
        pdfs.stop(),
      ])
      await Promise.all([ledgerRead.end(), notifierRead.end()])
    },
  }
}
