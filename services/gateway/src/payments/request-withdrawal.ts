import { payoutCaptureIdOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Requester } from '../access/requester.ts'
import { keyReused } from '../http/idempotency.ts'
import { askUntilAnswered } from '../ledger/await-outcome.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import { ProblemError } from '../problems/problem.ts'
import {
  authenticate,
  type RequestTransferParts,
  type TransferAnswer,
} from '../transfers/request-transfer.ts'
import { viewTransfer } from '../transfers/transfer-view.ts'
import { METHOD_PURPOSE, orderPayment, publishWithdrawal, refusalOf } from './payment.ts'
import { answerBooked, type DepositParts, paymentFailed, subjectOfPayment } from './request-deposit.ts'
import type { NewPayment, Payment } from './sql/payments.ts'

/** A withdrawal as a signed-in client asks for it; the form is checked, the amount in minor units. */
export type AskedWithdrawal = {
  user: Requester
  idempotencyKey: string
  walletId: string
  amount: bigint
  currency: string
  /** Where the money goes, for the provider; the sandbox knows magic values. */
  destination: string
  pin: string | null
  stepUpToken: string | null
  waitMs: number
  traceparent: string
}

export type WithdrawalParts = Omit<DepositParts, 'writeDeposit'> &
  Pick<RequestTransferParts<unknown>, 'verifyPin' | 'verifyStepUp' | 'freshPinAbove'> & {
    /** Takes the key and writes it, or finds the one with its id. */
    writePayment: (payment: NewPayment) => Promise<Payment>
    clock: Clock
  }

/**
 * Takes a withdrawal: the money is held first, then ordered to be paid out, and leaves the wallet when the provider
 * says that it was. Throws ProblemError for what is refused here (nothing is stored) and for what came to nothing
 * (final). The worker (settle-payments.ts) does what is left when the answer is given.
 */
export const createRequestWithdrawal =
  (parts: WithdrawalParts) =>
  async (asked: AskedWithdrawal): Promise<TransferAnswer> => {
    const { user, amount, currency, traceparent } = asked
    const id = transferIdOf(user.userId, asked.idempotencyKey)
    const fingerprint = fingerprintOf({
      type: 'withdrawal',
      fromWalletId: asked.walletId,
      toWalletId: null,
      amount,
      currency,
      note: null,
      metadata: null,
      method: asked.destination,
    })
    // Is the answer known already? Before the PIN: a repeat costs no try, and needs none.
    const answered = await answerKnown(parts, user.userId, id, fingerprint, true)
    if (answered) return answered
    // The command first: a withdrawal's row is older than its command, so that of its own repeat both are seen.
    const isCommand = await parts.isCommand(id)
    const earlier = await parts.readPayment(id)
    if (earlier && !earlier.fingerprint.equals(fingerprint)) throw keyReused()
    if (await parts.isPending(id)) throw keyReused()
    if (isCommand && !earlier) throw keyReused()

    parts.admit(asked.walletId)

    const wallet = await parts.readWallet(user.userId, asked.walletId)
    if (!wallet) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
    const payment = earlier ?? (await write(parts, asked, id, fingerprint))
    if (!payment.fingerprint.equals(fingerprint)) throw keyReused()

    const waiters = [id, payoutCaptureIdOf(id)].map(each =>
      parts.outcomes.wait(each, asked.waitMs, fingerprint),
    )
    try {
      if (payment.status === 'created') await ask(parts, payment, traceparent)
      let ordered = false
      const answer = await askUntilAnswered(
        waiters,
        async () => {
          const known = await answerKnown(parts, user.userId, id, fingerprint, false)
          if (!known && !ordered) ordered = await orderWhenHeld(parts, id, traceparent)
          return known
        },
        parts.clock,
      )
      if (answer) return answer
    } finally {
      for (const waiter of waiters) waiter.leave()
    }
    const transfer = await viewTransfer(parts.names, user.userId, subjectOfPayment(payment, wallet))
    return { status: 202, transfer, replayed: false }
  }

/** The answer, where the ledger or the provider has given it. Throws the problem where that is one. */
const answerKnown = async (
  parts: WithdrawalParts,
  caller: string,
  id: string,
  fingerprint: Buffer,
  replayed: boolean,
): Promise<TransferAnswer | undefined> => {
  const ledgerStatus = (await parts.readLedgerStatuses([id])).get(id)
  if (refusalOf(ledgerStatus, fingerprint)?.failureCode === 'IDEMPOTENCY_KEY_REUSED') throw keyReused()
  if (ledgerStatus?.transfer) {
    const facts = await parts.readDecided(id)
    if (facts) return answerBooked(parts, caller, facts, fingerprint, replayed)
  }
  const payment = await parts.readPayment(id)
  if (payment?.status === 'failed' && payment.fingerprint.equals(fingerprint)) {
    throw paymentFailed(payment, replayed)
  }
  return undefined
}

const write = async (
  parts: WithdrawalParts,
  asked: AskedWithdrawal,
  id: string,
  fingerprint: Buffer,
): Promise<Payment> => {
  const { user, amount, currency } = asked
  const authenticated = await authenticate(parts, asked)
  const requestedAt = parts.clock.now()
  return parts.writePayment({
    id,
    kind: 'withdrawal',
    userId: user.userId,
    walletId: asked.walletId,
    amount,
    currency,
    method: await parts.personKeys.encryptFor(user.userId, asked.destination, METHOD_PURPOSE),
    fingerprint,
    authenticatedBy: authenticated.by,
    authenticatedAt: new Date(authenticated.at),
    requestedAt: new Date(requestedAt),
    expiresAt: new Date(requestedAt + parts.expiresAfterMs),
  })
}

/** Asks the ledger to hold the money. A client that hears nothing of it must find the withdrawal by its id. */
const ask = async (parts: WithdrawalParts, payment: Payment, traceparent: string): Promise<void> => {
  try {
    await publishWithdrawal(parts, payment, traceparent)
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error
    throw new ProblemError(
      error.code,
      error.detail,
      { ...error.members, transferId: payment.id },
      { ...error.headers, location: `/v1/transfers/${payment.id}` },
    )
  }
}

/** Orders the payout once the money is held; true where there is nothing more to order here. */
const orderWhenHeld = async (parts: WithdrawalParts, id: string, traceparent: string): Promise<boolean> => {
  const payment = (await parts.readPayment(id))!
  if (payment.status !== 'created') return true
  const ledgerStatus = (await parts.readLedgerStatuses([id])).get(id)
  if (ledgerStatus?.hold?.status !== 'active') return false
  try {
    await orderPayment(parts, payment, traceparent)
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== 'SERVICE_UNAVAILABLE') throw error
    // The money is held, and the worker asks again until the provider has taken it.
    parts.logger.warn({ paymentId: id }, 'the payment provider could not be asked for a payout; it is later')
  }
  return true
}
