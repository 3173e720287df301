import { setTimeout as sleep } from 'node:timers/promises'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Outcomes } from './await-outcome.ts'
import { fingerprintOf } from './fingerprint.ts'
import type { Names } from './identity/names.ts'
import type { PersonKeys } from './identity/person-keys.ts'
import type { PaymentProvider } from './payment-provider.ts'
import { ProblemError } from './problems.ts'
import type { PublishCommand } from './publish-command.ts'
import { keyReused, rejectionProblem, type TransferAnswer } from './request-transfer.ts'
import type { SignedInUser } from './routes/define-route.ts'
import type { TransferFacts, WalletFacts } from './sql/ledger-reads.ts'
import type { Payment } from './sql/payments.ts'
import { type TransferSubject, viewDecided, viewTransfer } from './transfer-view.ts'

export type AskedDeposit = {
  user: SignedInUser
  idempotencyKey: string
  walletId: string
  amount: bigint
  currency: string
  /** Where the money comes from, for the provider; the sandbox knows magic values. */
  source: string
  waitMs: number
}

export type DepositParts = {
  logger: Logger
  codec: Codec
  /** Throws 503 where the request would only wait: asked before anything is stored or ordered. */
  admit: () => void
  publishCommand: PublishCommand
  outcomes: Outcomes
  names: Names
  personKeys: PersonKeys
  provider: PaymentProvider
  readWallet: (userId: string, walletId: string) => Promise<WalletFacts | undefined>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  isPending: (transferId: string) => Promise<boolean>
  writePayment: (payment: Omit<Payment, 'status' | 'providerReference' | 'failureReason'>) => Promise<Payment>
  readPayment: (id: string) => Promise<Payment | undefined>
  markPending: (id: string, providerReference: string) => Promise<void>
  settle: (
    id: string,
    status: 'confirmed' | 'failed',
    providerReference: string,
    failureReason: string | null,
  ) => Promise<boolean>
  now: () => number
}

/** How often a waiting deposit is looked for where the provider's answer went to another gateway. */
const ASK_EVERY_MS = 250

/**
 * Takes a deposit: writes it down, orders it from the provider, and waits for the ledger to book what the provider
 * confirms. Until then the user has no money, and the same key asks for the same payment.
 */
export const createRequestDeposit =
  (parts: DepositParts) =>
  async (asked: AskedDeposit): Promise<TransferAnswer> => {
    const { user, amount, currency } = asked
    const id = transferIdOf(user.userId, asked.idempotencyKey)
    const fingerprint = fingerprintOf({
      type: 'deposit',
      fromWalletId: null,
      toWalletId: asked.walletId,
      amount,
      currency,
      note: null,
      metadata: null,
      method: asked.source,
    })
    const decided = await parts.readDecided(id)
    if (decided) return answerDecided(parts, user.userId, decided, fingerprint, true)
    if (await parts.isPending(id)) throw keyReused()

    parts.admit()

    const wallet = await parts.readWallet(user.userId, asked.walletId)
    if (!wallet) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
    if (wallet.currency !== currency) {
      throw new ProblemError('CURRENCY_MISMATCH', `currency: the wallet holds ${wallet.currency}`, {
        final: false,
      })
    }
    if (wallet.status === 'closed')
      throw new ProblemError('WALLET_CLOSED', 'walletId: the wallet is closed', { final: false })

    const payment = await parts.writePayment({
      id,
      kind: 'deposit',
      userId: user.userId,
      walletId: wallet.id,
      amount,
      currency,
      method: await parts.personKeys.encryptFor(user.userId, asked.source, 'payment-method'),
      fingerprint,
      requestedAt: new Date(parts.now()),
    })
    if (!payment.fingerprint.equals(fingerprint)) throw keyReused()
    if (payment.status === 'failed') throw paymentFailed(payment, true)

    const waiter = parts.outcomes.wait(id, asked.waitMs, fingerprint)
    try {
      if (payment.status === 'created') {
        const { providerReference } = await parts.provider.order({
          id,
          kind: 'deposit',
          amount: formatAmount(amount, currency),
          currency,
          method: asked.source,
          reference: id,
        })
        await parts.markPending(id, providerReference)
      }
      const deadline = parts.now() + asked.waitMs
      let listening: Promise<unknown> | undefined = waiter.outcome
      do {
        const pause = sleep(Math.min(ASK_EVERY_MS, Math.max(0, deadline - parts.now())))
        // What is heard once is not heard again: from then on the pause alone sets the pace.
        if (listening && (await Promise.race([listening, pause])) !== undefined) listening = undefined
        else await pause
        const facts = await parts.readDecided(id)
        if (facts) return await answerDecided(parts, user.userId, facts, fingerprint, false)
        const now = await parts.readPayment(id)
        if (now?.status === 'failed') throw paymentFailed(now, false)
      } while (parts.now() < deadline)
    } finally {
      waiter.leave()
    }
    const transfer = await viewTransfer(parts.names, user.userId, subjectOfPayment(payment, wallet))
    return { status: 202, transfer, replayed: false }
  }

/** Books what the provider says of a payment. Any number of times is once; throws where it must be said again. */
export const createHandleCallback =
  (parts: DepositParts) =>
  async (signature: string | undefined, body: string, traceparent: string): Promise<void> => {
    const callback = parts.provider.readCallback(signature, body)
    const payment = await parts.readPayment(callback.id)
    if (!payment || payment.kind !== callback.kind) {
      throw new ProblemError('PAYMENT_NOT_FOUND', 'id: there is no such payment')
    }
    if (
      callback.amount !== formatAmount(payment.amount, payment.currency) ||
      callback.currency !== payment.currency
    ) {
      throw new ProblemError('VALIDATION_ERROR', 'amount: it is not the amount that was ordered')
    }
    if (callback.status === 'failed') {
      const first = await parts.settle(
        payment.id,
        'failed',
        callback.providerReference,
        callback.failureReason ?? null,
      )
      if (!first && payment.status === 'confirmed') {
        parts.logger.error(
          { paymentId: payment.id },
          'the provider calls a payment failed that it confirmed before',
        )
      }
      return
    }
    if (payment.status === 'failed') {
      // The money did arrive after all: a fact is booked, whatever was said before.
      parts.logger.error(
        { paymentId: payment.id },
        'the provider confirms a payment that it called failed before',
      )
    }
    // Published before it is marked: if we die in between, the provider calls again and the ledger knows the id.
    const request: TransferRequested = {
      transferId: payment.id,
      type: 'deposit',
      userId: payment.userId,
      fromWalletId: null,
      toWalletId: payment.walletId,
      amountMinor: payment.amount,
      currency: payment.currency,
      fingerprint: payment.fingerprint,
      requestedAt: payment.requestedAt.getTime(),
      expiresAt: null,
      authenticatedBy: 'provider',
      authenticatedAt: null,
      note: null,
      metadata: null,
      holdUntil: null,
    }
    await parts.publishCommand({
      topic: 'ledger.commands',
      key: payment.walletId,
      value: parts.codec.encode('pennywire.ledger.TransferRequested', request),
      headers: envelope({
        id: payment.id,
        type: 'pennywire.ledger.TransferRequested',
        source: 'gateway',
        time: parts.now(),
        subject: payment.id,
        traceparent,
      }),
    })
    await parts.settle(payment.id, 'confirmed', callback.providerReference, null)
  }

const answerDecided = async (
  parts: DepositParts,
  caller: string,
  facts: TransferFacts,
  fingerprint: Buffer,
  replayed: boolean,
): Promise<TransferAnswer> => {
  if (!facts.fingerprint.equals(fingerprint)) throw keyReused()
  if (facts.rejectionCode !== null) {
    throw rejectionProblem(facts.id, facts.rejectionCode, facts.rejectionDetail ?? '', replayed)
  }
  const [transfer] = await viewDecided(parts, caller, [facts])
  return { status: 201, transfer: transfer!, replayed }
}

const failureOf = (payment: Payment) =>
  `The payment provider refused the payment${payment.failureReason ? `: ${payment.failureReason}` : '.'}`

const paymentFailed = (payment: Payment, replayed: boolean) =>
  rejectionProblem(payment.id, 'PAYMENT_FAILED', failureOf(payment), replayed)

/** A payment that the ledger has not booked, as a transfer: pending, or rejected where the provider refused it. */
export const subjectOfPayment = (
  payment: Payment,
  wallet: Pick<WalletFacts, 'id' | 'userId' | 'code'>,
): TransferSubject => ({
  id: payment.id,
  type: payment.kind,
  status: payment.status === 'failed' ? 'rejected' : 'pending',
  userId: payment.userId,
  from: null,
  to: { walletId: wallet.id, userId: wallet.userId, code: wallet.code, balanceAfter: null },
  amount: payment.amount,
  currency: payment.currency,
  note: null,
  metadata: null,
  requestedAt: payment.requestedAt,
  decidedAt: null,
  rejection: payment.status === 'failed' ? { code: 'PAYMENT_FAILED', detail: failureOf(payment) } : null,
})
