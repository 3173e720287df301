// Compares the payments, the ledger and the payment provider. Each is read by itself, page by page in id order, and
// compared here. An apparent difference is checked once more, because the payment may just be in flight.
import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { bookedDeposit, isAmountOf } from './payment.ts'
import type { PaymentState } from './payment-provider.ts'
import type { LedgerStatus, OutsideTransfer } from './sql/payment-reads.ts'
import type { Payment } from './sql/payments.ts'

export type Difference = {
  /** The payment's id, or the name of a suspense wallet. */
  id: string
  what: string
  /** The action for the person who reads it. */
  todo: string
}

export type CompareDeps = {
  readPaymentsAfter: (after: string) => Promise<Payment[]>
  readPayment: (id: string) => Promise<Payment | undefined>
  readLedgerStatuses: (ids: string[]) => Promise<Map<string, LedgerStatus>>
  readOutsideTransfers: (after: string) => Promise<OutsideTransfer[]>
  readHeldWithdrawals: (after: string) => Promise<{ id: string }[]>
  readSuspense: () => Promise<{ system: string; currency: string; balance: bigint }[]>
  listProvider: (after: string) => Promise<PaymentState[]>
  askProvider: (id: string) => Promise<PaymentState | undefined>
  /** An unfinished payment requested before then counts as stuck. */
  stuckBefore: Date
  /** Gives movements in flight time to arrive. */
  pause: () => Promise<void>
}

const FIRST = '00000000-0000-0000-0000-000000000000'

/** All pages, one after the other. */
async function* pages<Row extends { id: string }>(
  read: (after: string) => Promise<Row[]>,
): AsyncGenerator<Row[]> {
  for (let rows = await read(FIRST); rows.length > 0; rows = await read(rows.at(-1)!.id)) yield rows
}

async function* each<Row extends { id: string }>(
  read: (after: string) => Promise<Row[]>,
): AsyncGenerator<Row> {
  for await (const rows of pages(read)) yield* rows
}

const BY_ITSELF =
  'the worker sends it again until it is booked; if it stays, look at the ledger (runbook: lag)'
const ASKED = "the worker asks the provider; if it stays, look for the id in the gateways' logs"
const STRANGER =
  'find out who made it: the topic and the audit trail tell; settle it with a reversal, never by hand'
const WITH_PROVIDER =
  'settle it with the provider; a movement that is missing is made by staff, as one of its own'

/** The differences between a payment's row, the ledger and the provider. */
const differencesOf = (
  payment: Payment,
  ledgerStatuses: Map<string, LedgerStatus>,
  state: PaymentState | undefined,
  stuckBefore: Date,
): Difference[] => {
  const { id, kind, status, currency } = payment
  const found: Difference[] = []
  const differs = (what: string, todo: string) =>
    found.push({ id, what: `${kind} (${status}): ${what}`, todo })
  const amount = `${formatAmount(payment.amount, currency)} ${currency}`

  const ledgerStatus = ledgerStatuses.get(id)
  const own = ledgerStatus?.transfer?.fingerprint.equals(payment.fingerprint)
    ? ledgerStatus.transfer
    : undefined
  const booked =
    kind === 'deposit'
      ? bookedDeposit(payment, ledgerStatuses)
      : own?.status === 'completed'
        ? own
        : undefined
  const isPaid = status === 'confirmed' || status === 'returned'
  if (isPaid && own?.status === 'rejected') {
    differs(`${amount} are not in the ledger, which refused them: ${own.rejectionCode}`, WITH_PROVIDER)
  } else if (isPaid && !booked) differs(`${amount} are not in the ledger`, BY_ITSELF)
  if (!isPaid && booked) differs(`${amount} are in the ledger, which nobody confirmed`, STRANGER)
  if (booked && (booked.amount !== payment.amount || booked.currency !== currency || booked.type !== kind)) {
    differs(
      `the ledger has a ${booked.type} of ${formatAmount(booked.amount, booked.currency)} instead`,
      STRANGER,
    )
  }
  if (kind === 'withdrawal') {
    const reversed = own ? ledgerStatus!.reversed : 0n
    const due = status === 'returned' ? payment.amount : 0n
    if (reversed < due) differs('it came back, and the ledger has not reversed it', BY_ITSELF)
    if (reversed > due) {
      differs(
        `${formatAmount(reversed, currency)} ${currency} are reversed, which did not come back`,
        STRANGER,
      )
    }
    const hold = ledgerStatus?.hold?.fingerprint.equals(payment.fingerprint) ? ledgerStatus.hold : undefined
    if (status === 'failed' && hold?.status === 'active') differs('its money is still held', BY_ITSELF)
    if (status === 'pending' && hold?.status !== 'active') differs('its money is not held', WITH_PROVIDER)
  }

  const said = state?.status ?? 'nothing'
  const agrees = {
    created: ['nothing'],
    // An order in flight; the worker queries it.
    ordering: ['nothing'],
    pending: ['pending'],
    confirmed: ['succeeded'],
    returned: ['returned'],
    // A payment cancelled at the provider has failed there as well.
    failed:
      payment.failureCode === 'PAYMENT_FAILED'
        ? ['failed', 'nothing']
        : payment.failureCode === 'REQUEST_EXPIRED'
          ? ['nothing', 'failed']
          : ['nothing'],
  }[status]
  if (!agrees.includes(said)) {
    const isOpen = status === 'created' || status === 'ordering' || (status === 'pending' && state)
    differs(
      state ? `the provider says ${said}` : 'the provider does not know it',
      isOpen ? ASKED : WITH_PROVIDER,
    )
  }
  if (state && !isAmountOf(state, payment)) {
    differs(`the provider has ${state.amount} ${state.currency} instead of ${amount}`, WITH_PROVIDER)
  }
  if (found.length === 0 && !payment.done && payment.requestedAt < stuckBefore) {
    differs(`it is stuck since ${payment.requestedAt.toISOString()}`, 'ask the provider what holds it up')
  }
  return found
}

/** Compares everything; `payments` is their number. */
export const comparePayments = async (
  deps: CompareDeps,
): Promise<{ payments: number; differences: Difference[] }> => {
  const suspects = new Set<string>()
  const displaced = new Set<string>()
  let payments = 0

  // Merges the provider's list with the payments: both are in id order.
  const provider = each(deps.listProvider)
  let next = await provider.next()
  for await (const page of pages(deps.readPaymentsAfter)) {
    payments += page.length
    const ledgerStatuses = await deps.readLedgerStatuses(
      page.flatMap(({ id }) => [id, displacedDepositIdOf(id)]),
    )
    for (const payment of page) {
      for (; !next.done && next.value.id < payment.id; next = await provider.next())
        suspects.add(next.value.id)
      const state = !next.done && next.value.id === payment.id ? next.value : undefined
      if (state) next = await provider.next()
      const other = displacedDepositIdOf(payment.id)
      if (ledgerStatuses.has(other)) displaced.add(other)
      if (differencesOf(payment, ledgerStatuses, state, deps.stuckBefore).length > 0) suspects.add(payment.id)
    }
  }
  for (; !next.done; next = await provider.next()) suspects.add(next.value.id)

  // The other direction: each movement and hold of the ledger for the outside world must have a payment.
  for (const read of [deps.readOutsideTransfers, deps.readHeldWithdrawals]) {
    for await (const { id } of each<{ id: string }>(read)) {
      if (!displaced.has(id) && !(await deps.readPayment(id))) suspects.add(id)
    }
  }

  if (suspects.size > 0) await deps.pause()
  const differences: Difference[] = []
  for (const id of [...suspects].sort()) differences.push(...(await lookAgain(deps, id)))
  for (const { system, currency, balance } of await deps.readSuspense()) {
    differences.push({
      id: system,
      what: `${formatAmount(balance, currency)} ${currency} wait for a person`,
      todo: 'settle it with the user and the provider (runbook: money in suspense)',
    })
  }
  return { payments, differences }
}

const lookAgain = async (deps: CompareDeps, id: string): Promise<Difference[]> => {
  const payment = await deps.readPayment(id)
  const state = await deps.askProvider(id)
  const ledgerStatuses = await deps.readLedgerStatuses([id, displacedDepositIdOf(id)])
  if (payment) return differencesOf(payment, ledgerStatuses, state, deps.stuckBefore)
  const found: Difference[] = []
  if (state) {
    const what = `the provider has a ${state.kind} of ${state.amount} ${state.currency} (${state.status}) without a payment here`
    found.push({ id, what, todo: WITH_PROVIDER })
  }
  const { transfer, hold } = ledgerStatuses.get(id) ?? {}
  if (transfer || hold) {
    const what = transfer
      ? `the ledger has a ${transfer.type} of ${formatAmount(transfer.amount, transfer.currency)} ${transfer.currency} without a payment`
      : 'the ledger holds money for a withdrawal without a payment'
    found.push({ id, what, todo: STRANGER })
  }
  return found
}
