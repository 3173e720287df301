import { payoutCaptureIdOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Requester } from '../access/requester.ts'
import { keyReused } from '../http/idempotency.ts'
import { askUntilAnswered } from '../ledger/await-outcome.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import { ProblemError } from '../problems/problem.ts'
import { authenticate, type RequestTransferDeps, type TransferAnswer } from '../transfers/request-transfer.ts'
import { METHOD_PURPOSE, viewTransfer } from '../transfers/transfer-view.ts'
import { orderPayment, publishWithdrawal, refusalOf } from './payment.ts'
import { answerBooked, type DepositDeps, paymentFailed, subjectOfPayment } from './request-deposit.ts'
import type { NewPayment, Payment } from './sql/payments.ts'

/** A signed-in client's request for a withdrawal: validated, the amount in minor units. */
export type WithdrawalInput = {
  user: Requester
  idempotencyKey: string
  walletId: string
  amount: bigint
  currency: string
  /** The destination of the money, for the provider; the sandbox recognises magic values. */
  destination: string
  pin: string | null
  stepUpToken: string | null
  waitMs: number
  traceparent: string
}

export type WithdrawalDeps = Omit<DepositDeps, 'writeDeposit'> &
  Pick<RequestTransferDeps<unknown>, 'verifyPin' | 'verifyStepUp' | 'freshPinAbove'> & {
    /** Claims the key and writes the payment, or returns the one with its id. */
    writePayment: (payment: NewPayment) => Promise<Payment>
    clock: Clock
  }

/**
 * Takes a withdrawal: the money is held first, then the payout is ordered, and the money leaves the wallet when the
 * provider confirms the payout. Throws ProblemError for a refusal here (nothing is stored) and for a failed payment
 * (final). The worker (settle-payments.ts) completes the rest after the answer.
 */
export const createRequestWithdrawal =
  (deps: WithdrawalDeps) =>
  async (input: WithdrawalInput): Promise<TransferAnswer> => {
    const { user, amount, currency, traceparent } = input
    const id = transferIdOf(user.userId, input.idempotencyKey)
    const fingerprint = fingerprintOf({
      type: 'withdrawal',
      fromWalletId: input.walletId,
      toWalletId: null,
      amount,
      currency,
      note: null,
      metadata: null,
      method: input.destination,
    })
    // Look for an existing answer before the PIN: a repeat uses up no PIN try, and needs no PIN.
    const answered = await answerKnown(deps, user.userId, id, fingerprint, input.destination, true)
    if (answered) return answered
    // The command first: a withdrawal's row is older than its command, so that a repeat of this request finds both.
    const isCommand = await deps.isCommand(id)
    const earlier = await deps.readPayment(id)
    if (earlier && !earlier.fingerprint.equals(fingerprint)) throw keyReused()
    if (await deps.isPending(id)) throw keyReused()
    if (isCommand && !earlier) throw keyReused()

    deps.admit(input.walletId)

    const wallet = await deps.readWallet(user.userId, input.walletId)
    if (!wallet) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
    const payment = earlier ?? (await write(deps, input, id, fingerprint))
    if (!payment.fingerprint.equals(fingerprint)) throw keyReused()

    const waiters = [id, payoutCaptureIdOf(id)].map(each =>
      deps.outcomes.wait(each, input.waitMs, fingerprint),
    )
    try {
      if (payment.status === 'created') await ask(deps, payment, traceparent)
      let ordered = false
      const answer = await askUntilAnswered(
        waiters,
        async () => {
          const known = await answerKnown(deps, user.userId, id, fingerprint, input.destination, false)
          if (!known && !ordered) ordered = await orderWhenHeld(deps, id, traceparent)
          return known
        },
        deps.clock,
      )
      if (answer) return answer
    } finally {
      for (const waiter of waiters) waiter.leave()
    }
    const subject = { ...subjectOfPayment(payment, wallet), method: input.destination }
    const transfer = await viewTransfer(deps.names, user.userId, subject)
    return { status: 202, transfer, replayed: false }
  }

/** The answer, if the ledger or the provider has decided. Throws a refusal as a problem. */
const answerKnown = async (
  deps: WithdrawalDeps,
  caller: string,
  id: string,
  fingerprint: Buffer,
  method: string,
  replayed: boolean,
): Promise<TransferAnswer | undefined> => {
  const ledgerStatus = (await deps.readLedgerStatuses([id])).get(id)
  if (refusalOf(ledgerStatus, fingerprint)?.failureCode === 'IDEMPOTENCY_KEY_REUSED') throw keyReused()
  if (ledgerStatus?.transfer) {
    const facts = await deps.readDecided(id)
    if (facts) return answerBooked(deps, caller, facts, fingerprint, method, replayed)
  }
  const payment = await deps.readPayment(id)
  if (payment?.status === 'failed' && payment.fingerprint.equals(fingerprint)) {
    throw paymentFailed(payment, replayed)
  }
  return undefined
}

const write = async (
  deps: WithdrawalDeps,
  input: WithdrawalInput,
  id: string,
  fingerprint: Buffer,
): Promise<Payment> => {
  const { user, amount, currency } = input
  const authenticated = await authenticate(deps, input)
  const requestedAt = deps.clock.now()
  return deps.writePayment({
    id,
    kind: 'withdrawal',
    userId: user.userId,
    walletId: input.walletId,
    amount,
    currency,
    method: await deps.personKeys.encryptFor(user.userId, input.destination, METHOD_PURPOSE),
    fingerprint,
    authenticatedBy: authenticated.by,
    authenticatedAt: new Date(authenticated.at),
    requestedAt: new Date(requestedAt),
    expiresAt: new Date(requestedAt + deps.expiresAfterMs),
  })
}

/** Requests the hold from the ledger. A client without an outcome must be able to find the withdrawal. */
const ask = async (deps: WithdrawalDeps, payment: Payment, traceparent: string): Promise<void> => {
  try {
    await publishWithdrawal(deps, payment, traceparent)
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

/** Orders the payout once the money is held; true if there is nothing more to order here. */
const orderWhenHeld = async (deps: WithdrawalDeps, id: string, traceparent: string): Promise<boolean> => {
  const payment = (await deps.readPayment(id))!
  if (payment.status !== 'created') return true
  const ledgerStatus = (await deps.readLedgerStatuses([id])).get(id)
  if (ledgerStatus?.hold?.status !== 'active') return false
  try {
    await orderPayment(deps, payment, traceparent)
  } catch (error) {
    if (!(error instanceof ProblemError) || error.code !== 'SERVICE_UNAVAILABLE') throw error
    // The money is held, and the worker retries until the provider has taken the order.
    deps.logger.warn({ paymentId: id }, 'the payment provider could not be asked for a payout; it is later')
  }
  return true
}
