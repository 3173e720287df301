// The next step of a payment by its row, with the provider and with the ledger. Any gateway may run any step, at any
// time and any number of times: the ids of orders and of bookings are derived from the payment's id.
import {
  displacedDepositIdOf,
  payoutCaptureIdOf,
  payoutReturnIdOf,
  payoutVoidIdOf,
} from '@pennywire/contracts/ids.ts'
import { formatAmount, parseAmount } from '@pennywire/contracts/money.ts'
import type { LedgerCommandName, Records, TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { PublishCommand } from '../ledger/publish-command.ts'
import { ProblemError } from '../problems/problem.ts'
import { METHOD_PURPOSE } from '../transfers/transfer-view.ts'
import { OrderRefused, type PaymentProvider, type PaymentState } from './payment-provider.ts'
import type { LedgerStatus } from './sql/payment-reads.ts'
import type { Payment, Settlement } from './sql/payments.ts'

export type PaymentDeps = {
  logger: Logger
  codec: Pick<Codec, 'encode'>
  publishCommand: PublishCommand
  personKeys: Pick<PersonKeys, 'decryptFor'>
  provider: PaymentProvider
  readPayment: (id: string) => Promise<Payment | undefined>
  /** The ledger's statuses of payments, by their ids; ids unknown to the ledger are missing. */
  readLedgerStatuses: (ids: string[]) => Promise<Map<string, LedgerStatus>>
  /** Whether the ledger has decided a command with this id: a capture, which is not a transfer of its own. */
  isCommand: (id: string) => Promise<boolean>
  /** Marks an order before it is sent, if `orderAttempts` were marked before; undefined: it must not be sent. */
  markOrdering: (id: string, orderAttempts: number) => Promise<Date | undefined>
  markPending: (id: string, providerReference: string | null) => Promise<void>
  settle: (id: string, settlement: Settlement) => Promise<boolean>
  markDone: (id: string, status: Payment['status']) => Promise<boolean>
  /** How long a deposit may be pending with the provider before it is cancelled there. */
  depositExpiresAfterMs: number
  clock: Clock
}

/** The provider refuses an order that arrives later than this after its mark. */
const ORDER_VALID_MS = 30_000
/** No order of a mark can arrive later than this, even if the provider's clock is off. */
const ORDER_GONE_MS = 60_000

const contradictions = counter(
  'gateway_payment_contradictions_total',
  'Words of the payment provider that contradict what it said before; nothing was moved for them',
  ['kind'],
)
const inSuspense = counter(
  'gateway_payments_in_suspense_total',
  "Payments whose money waits in a suspense wallet, because the user's could not take it",
  ['kind'],
)

const STATUS_OF = { succeeded: 'confirmed', failed: 'failed', returned: 'returned' } as const

/**
 * Applies the provider's state to a payment: stores it first, then books it. Throws if the provider must send it again.
 */
export const applyProviderState = async (
  deps: PaymentDeps,
  payment: Payment,
  state: PaymentState,
  traceparent?: string,
): Promise<void> => {
  if (payment.kind !== state.kind) throw new ProblemError('PAYMENT_NOT_FOUND', 'id: there is no such payment')
  if (!isAmountOf(state, payment)) {
    throw new ProblemError('VALIDATION_ERROR', 'amount: it is not the amount that was ordered')
  }
  if (state.status === 'pending') return deps.markPending(payment.id, state.providerReference)
  if (payment.kind === 'withdrawal' && isOrderable(payment)) {
    // A payout is ordered only after its money is held. The ledger would refuse a capture without a hold, for good.
    const ledgerStatus = (await deps.readLedgerStatuses([payment.id])).get(payment.id)
    const hold = ownOf(ledgerStatus?.hold, payment.fingerprint)
    const isPaidOut = state.status !== 'failed'
    if (!hold || (isPaidOut && (hold.status === 'voided' || hold.status === 'expired'))) {
      contradictions.inc({ kind: payment.kind })
      deps.logger.error(
        { paymentId: payment.id, hold: hold?.status },
        'the provider speaks of a payout whose money is not held',
      )
      throw new ProblemError('PAYMENT_NOT_FOUND', 'id: this payment was not ordered')
    }
  }
  const status = STATUS_OF[state.status]
  const changed = await deps.settle(payment.id, {
    status,
    providerReference: state.providerReference,
    failureCode: status === 'failed' ? 'PAYMENT_FAILED' : null,
    failureReason: status === 'confirmed' ? null : (state.failureReason ?? null),
    orderAttempts: null,
  })
  const settled = (await deps.readPayment(payment.id))!
  if (settled.status !== status || (changed && payment.failureCode === 'PAYMENT_FAILED')) {
    // A returned payout was paid out before: a late confirmation is no contradiction.
    if (settled.status === 'returned' && status === 'confirmed') return
    contradictions.inc({ kind: payment.kind })
    deps.logger.error(
      { paymentId: payment.id, kind: payment.kind, before: payment.status, said: state.status },
      changed
        ? 'the provider confirms a deposit that it called failed before; it is booked'
        : 'the provider contradicts what it said before; nothing is moved for it',
    )
  }
  // Book again on a repeat: the gateway that received the state first may have died.
  if (settled.status === status && !settled.done) await book(deps, settled, traceparent)
}

/** Whether the provider's amount equals the payment's, regardless of trailing zeros. */
export const isAmountOf = (
  state: Pick<PaymentState, 'amount' | 'currency'>,
  { amount, currency }: Pick<Payment, 'amount' | 'currency'>,
): boolean => {
  if (state.currency !== currency) return false
  const said = parseAmount(state.amount.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, ''), currency)
  return 'minor' in said && said.minor === amount
}

/** Whether the provider is not known to have the payment. */
const isOrderable = ({ status }: Payment) => status === 'created' || status === 'ordering'

/** Sends the ledger the commands that book a settled payment. */
const book = async (deps: PaymentDeps, payment: Payment, traceparent?: string): Promise<void> => {
  const { id, walletId, userId, currency, amount } = payment
  const requestedAt = deps.clock.now()
  const send = <Name extends LedgerCommandName>(name: Name, command: Records[Name]) =>
    deps.publishCommand(commandRecord(deps.codec, name, walletId, command, traceparent))
  if (payment.kind === 'deposit') {
    if (payment.status === 'confirmed') {
      await send('pennywire.ledger.TransferRequested', requestOf(payment))
    }
    return
  }
  if (payment.status === 'failed') {
    const commandId = payoutVoidIdOf(id)
    await send('pennywire.ledger.HoldVoidRequested', {
      commandId,
      holdId: id,
      walletId,
      toWalletId: null,
      userId,
      source: 'provider',
      fingerprint: fingerprintOfCommand('void', { holdId: id, source: 'provider' }),
      requestedAt,
    })
  }
  if (payment.status === 'confirmed' || payment.status === 'returned') {
    // A returned payout was paid out before. One key, one partition: the ledger applies the two in this order.
    const commandId = payoutCaptureIdOf(id)
    await send('pennywire.ledger.HoldCaptureRequested', {
      commandId,
      holdId: id,
      walletId,
      toWalletId: null,
      userId,
      source: 'provider',
      amountMinor: null,
      currency,
      fingerprint: fingerprintOfCommand('capture', { holdId: id, source: 'provider' }),
      requestedAt,
    })
  }
  if (payment.status === 'returned') {
    const transferId = payoutReturnIdOf(id)
    await send('pennywire.ledger.ReversalRequested', {
      transferId,
      originalId: id,
      userId,
      source: 'provider',
      fromWalletId: null,
      toWalletId: walletId,
      amountMinor: amount,
      currency,
      fingerprint: fingerprintOfCommand('return', { originalId: id, source: 'provider' }),
      requestedAt,
      note: null,
    })
  }
}

/** The TransferRequested of a payment: the same from each gateway, each time. */
const requestOf = (payment: Payment): TransferRequested => {
  const outgoing = payment.kind === 'withdrawal'
  return {
    transferId: payment.id,
    type: payment.kind,
    userId: payment.userId,
    fromWalletId: outgoing ? payment.walletId : null,
    toWalletId: outgoing ? null : payment.walletId,
    amountMinor: payment.amount,
    currency: payment.currency,
    fingerprint: payment.fingerprint,
    requestedAt: payment.requestedAt.getTime(),
    // A confirmed deposit is a fact, and never expires.
    expiresAt: outgoing ? payment.expiresAt!.getTime() : null,
    authenticatedBy: payment.authenticatedBy ?? 'provider',
    authenticatedAt: payment.authenticatedAt?.getTime() ?? null,
    note: null,
    metadata: null,
    holdUntil: null,
  }
}

/** Sends the ledger the TransferRequested of a withdrawal. Throws 503 if it is unknown whether Kafka has it. */
export const publishWithdrawal = (deps: PaymentDeps, payment: Payment, traceparent?: string): Promise<void> =>
  deps.publishCommand(
    commandRecord(
      deps.codec,
      'pennywire.ledger.TransferRequested',
      payment.walletId,
      requestOf(payment),
      traceparent,
    ),
  )

/**
 * Orders a payment from the provider. The order is marked before it is sent, so that each gateway finds that the
 * provider may have it; a payout is sent only while its money is held. A refusal is final if the payment is unknown to
 * the provider and no earlier order can still arrive. Throws 503 if the provider does not answer.
 */
export const orderPayment = async (
  deps: PaymentDeps,
  payment: Payment,
  traceparent?: string,
): Promise<void> => {
  const { id, kind, amount, currency } = payment
  const method = await deps.personKeys.decryptFor(payment.userId, payment.method, METHOD_PURPOSE)
  if (method === null) {
    // The person was erased meanwhile.
    return concludeRefusal(deps, payment, 'PAYMENT_FAILED', 'The account is gone.', traceparent)
  }
  const orderedAt = await deps.markOrdering(id, payment.orderAttempts)
  if (!orderedAt) return
  const marked: Payment = {
    ...payment,
    status: 'ordering',
    orderAttempts: payment.orderAttempts + 1,
  }
  // Read the hold after the mark: an earlier end is visible then, and only the provider's result ends the hold later.
  if (kind === 'withdrawal') {
    const hold = ownOf((await deps.readLedgerStatuses([id])).get(id)?.hold, payment.fingerprint)
    if (hold?.status !== 'active') {
      return concludeRefusal(deps, marked, 'PAYMENT_FAILED', 'The money is not held.', traceparent)
    }
  }
  const validUntilMs = orderedAt.getTime() + ORDER_VALID_MS
  // This gateway stalled after the mark; the worker orders again.
  if (validUntilMs < deps.clock.now()) return
  try {
    const { providerReference } = await deps.provider.order({
      id,
      kind,
      amount: formatAmount(amount, currency),
      currency,
      method,
      reference: id,
      validUntil: new Date(validUntilMs).toISOString(),
    })
    await deps.markPending(id, providerReference)
  } catch (error) {
    if (!(error instanceof OrderRefused)) throw error
    const field = kind === 'deposit' ? 'source' : 'destination'
    await concludeRefusal(
      deps,
      marked,
      'VALIDATION_ERROR',
      `${field}: the payment provider does not take it`,
      traceparent,
    )
  }
}

/** Whether an order that was marked before may still reach the provider. */
const mayArrive = (deps: PaymentDeps, { orderedAt }: Payment): boolean =>
  orderedAt !== null && orderedAt.getTime() + ORDER_GONE_MS > deps.clock.now()

/**
 * Concludes an order that the provider did not take: applies the provider's state if it has the payment from an earlier
 * order; fails the payment if it does not and never will; does nothing while an earlier order may still arrive.
 * `payment` contains the time of the last order before this one, and counts this one among its attempts.
 */
const concludeRefusal = async (
  deps: PaymentDeps,
  payment: Payment,
  failureCode: string,
  failureReason: string,
  traceparent?: string,
): Promise<void> => {
  // Query the provider after reading the clock: a gateway that stalls in between must not take an old answer for a last
  // one.
  const arrivesLater = mayArrive(deps, payment)
  const state = await deps.provider.ask(payment.id)
  if (state) return applyProviderState(deps, payment, state, traceparent)
  if (arrivesLater) return
  const { id, orderAttempts } = payment
  const settlement = { status: 'failed', providerReference: null, failureCode, failureReason } as const
  if (!(await deps.settle(id, { ...settlement, orderAttempts }))) return
  await book(deps, (await deps.readPayment(id))!, traceparent)
}

/** Advances a payment that may be unattended: runs its next step, or marks it as done. */
export const advancePayment = async (deps: PaymentDeps, payment: Payment): Promise<void> => {
  const ids = payment.kind === 'deposit' ? [payment.id, displacedDepositIdOf(payment.id)] : [payment.id]
  // Read first: a command with the payment's id that is neither a hold nor a transfer afterwards belongs to another
  // request.
  const isDecided =
    payment.kind === 'withdrawal' && payment.status === 'created' && (await deps.isCommand(payment.id))
  const ledgerStatuses = await deps.readLedgerStatuses(ids)
  await (payment.kind === 'deposit'
    ? advanceDeposit(deps, payment, ledgerStatuses)
    : advanceWithdrawal(deps, payment, ledgerStatuses.get(payment.id), isDecided))
}

/** The transfer that books a deposit: under its own id, or, if another request has that id, under the derived one. */
export const bookedDeposit = (payment: Payment, ledgerStatuses: Map<string, LedgerStatus>) =>
  [payment.id, displacedDepositIdOf(payment.id)]
    .map(id => ledgerStatuses.get(id)?.transfer)
    .find(transfer => transfer?.status === 'completed' && transfer.fingerprint.equals(payment.fingerprint))

const expired = (deps: PaymentDeps, { expiresAt }: Payment) =>
  expiresAt === null || expiresAt.getTime() < deps.clock.now()

const finish = async (deps: PaymentDeps, payment: Payment, waitsInSuspense: boolean) => {
  if ((await deps.markDone(payment.id, payment.status)) && waitsInSuspense) {
    inSuspense.inc({ kind: payment.kind })
    deps.logger.error(
      { paymentId: payment.id, kind: payment.kind },
      "the money waits in a suspense wallet: the user's cannot take it",
    )
  }
}

const advanceDeposit = async (
  deps: PaymentDeps,
  payment: Payment,
  ledgerStatuses: Map<string, LedgerStatus>,
): Promise<void> => {
  const booked = bookedDeposit(payment, ledgerStatuses)
  if (payment.status === 'failed') return finish(deps, payment, false)
  if (payment.status === 'confirmed') {
    return booked ? finish(deps, payment, booked.inSuspense) : book(deps, payment)
  }
  const arrivesLater = mayArrive(deps, payment)
  const state = await deps.provider.ask(payment.id)
  if (state?.status === 'pending' && isAbandoned(deps, payment)) return cancelDeposit(deps, payment, state)
  if (state) return applyProviderState(deps, payment, state)
  if (payment.status === 'pending') {
    deps.logger.error({ paymentId: payment.id }, 'the provider does not know a deposit that it had taken')
  } else if (expired(deps, payment) && !arrivesLater) {
    // Only its request orders a deposit: no card may be charged hours later.
    await deps.settle(payment.id, {
      status: 'failed',
      providerReference: null,
      failureCode: 'REQUEST_EXPIRED',
      failureReason: 'The payment provider could not be asked in time; nothing was paid.',
      orderAttempts: payment.orderAttempts,
    })
  }
}

const isAbandoned = (deps: PaymentDeps, { requestedAt }: Payment): boolean =>
  requestedAt.getTime() + deps.depositExpiresAfterMs < deps.clock.now()

/** Ends an abandoned deposit, at the provider first: it may have succeeded meanwhile. */
const cancelDeposit = async (deps: PaymentDeps, payment: Payment, known: PaymentState): Promise<void> => {
  const state = (await deps.provider.cancel(payment.id)) ?? known
  if (state.status !== 'failed') return applyProviderState(deps, payment, state)
  await deps.settle(payment.id, {
    status: 'failed',
    providerReference: state.providerReference,
    failureCode: 'REQUEST_EXPIRED',
    failureReason: 'The payment was not completed in time; nothing was paid.',
    orderAttempts: null,
  })
}

const advanceWithdrawal = async (
  deps: PaymentDeps,
  payment: Payment,
  ledgerStatus: LedgerStatus | undefined,
  isDecided: boolean,
): Promise<void> => {
  const { id, fingerprint } = payment
  const own = {
    ...ledgerStatus,
    hold: ownOf(ledgerStatus?.hold, fingerprint),
    transfer: ownOf(ledgerStatus?.transfer, fingerprint),
  }
  switch (payment.status) {
    case 'created': {
      const refusal =
        refusalOf(ledgerStatus, fingerprint) ?? (isDecided && !ledgerStatus ? KEY_REUSED : undefined)
      if (refusal) {
        const settlement = { status: 'failed', providerReference: null, ...refusal } as const
        await deps.settle(id, { ...settlement, orderAttempts: payment.orderAttempts })
        await deps.markDone(id, 'failed')
      } else if (own.hold) await orderPayment(deps, payment)
      // The ledger refuses it unless it decided it before: after the refusal it is certain that nothing is held.
      else if (expired(deps, payment)) await publishWithdrawal(deps, payment)
      return
    }
    case 'ordering': {
      const state = await deps.provider.ask(id)
      if (state) return applyProviderState(deps, payment, state)
      // Ordered a second time at once, as the first order may be lost. From then on only where the last one cannot arrive
      // any more: a refusal is the outcome then, and each further order would put that off.
      return payment.orderAttempts > 1 && mayArrive(deps, payment) ? undefined : orderPayment(deps, payment)
    }
    case 'pending': {
      const state = await deps.provider.ask(id)
      if (state) return applyProviderState(deps, payment, state)
      // Not ordered again: a provider that has lost its records may have paid it out.
      deps.logger.error({ paymentId: id }, 'the provider does not know a payout that it had taken')
      return
    }
    case 'confirmed':
      return own.transfer ? finish(deps, payment, false) : book(deps, payment)
    case 'failed':
      return own.hold?.status === 'active' ? book(deps, payment) : finish(deps, payment, false)
    case 'returned': {
      if ((ledgerStatus?.reversed ?? 0n) < payment.amount) return book(deps, payment)
      const back = (await deps.readLedgerStatuses([payoutReturnIdOf(id)])).get(payoutReturnIdOf(id))
      return finish(deps, payment, back?.transfer?.inSuspense ?? false)
    }
  }
}

const ownOf = <Found extends { fingerprint: Buffer }>(
  found: Found | null | undefined,
  fingerprint: Buffer,
) => (found?.fingerprint.equals(fingerprint) ? found : undefined)

const KEY_REUSED = {
  failureCode: 'IDEMPOTENCY_KEY_REUSED',
  failureReason: 'Another request has this Idempotency-Key.',
}

/** The reason why the ledger refuses a payment for good; undefined if it does not. */
export const refusalOf = (
  ledgerStatus: LedgerStatus | undefined,
  fingerprint: Buffer,
): { failureCode: string; failureReason: string } | undefined => {
  const { hold, transfer } = ledgerStatus ?? {}
  const another = [hold, transfer].some(found => found && !found.fingerprint.equals(fingerprint))
  if (another) return KEY_REUSED
  if (transfer?.status !== 'rejected') return undefined
  return { failureCode: transfer.rejectionCode!, failureReason: transfer.rejectionDetail ?? '' }
}
