import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { breachedLimit, limitsInForce, usedNow } from '@pennywire/rules/limits.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { keyReused } from '../http/idempotency.ts'
import { readLimitedWallets } from '../limits/sql/limit-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import { claimKeys } from '../transfers/sql/key-claims.ts'
import { limitMembers } from '../transfers/transfer-view.ts'
import { readLedgerStatuses } from './sql/payment-reads.ts'
import {
  lockDeposits,
  type NewPayment,
  type OpenDeposit,
  type Payment,
  readOpenDeposits,
  readPayment,
  writePayment,
} from './sql/payments.ts'

const PERIODS = {
  PER_TRANSACTION_LIMIT_EXCEEDED: 'in one transaction',
  DAILY_LIMIT_EXCEEDED: 'in one day (UTC)',
  MONTHLY_LIMIT_EXCEEDED: 'in one month (UTC)',
}

/**
 * Writes a deposit before it is ordered, or returns the one with its id. A payment that the provider confirms is never
 * refused, so the limits are enforced here: against the ledger's counters and this wallet's deposits in flight. One
 * deposit of a wallet at a time, across all gateways. Throws 422 if a limit would be exceeded; then nothing is written.
 */
export const createWriteDeposit =
  (deps: { sql: Database; ledgerRead: Database; lookAfterMs: number }) =>
  (payment: NewPayment): Promise<Payment> =>
    deps.sql.begin(async tx => {
      await lockDeposits(tx, payment.walletId)
      const earlier = await readPayment(tx, payment.id)
      if (earlier) return earlier
      const open = await readOpenDeposits(tx, payment.walletId)
      await holdAgainstLimits(deps.ledgerRead, payment, open)
      return writeClaimedPayment(tx, payment, deps.lookAfterMs)
    }) as Promise<Payment>

/** Claims a payment's key and writes it, or returns the one with its id. Throws if another request has the key. */
export const writeClaimedPayment = async (
  tx: Tx,
  payment: NewPayment,
  lookAfterMs: number,
): Promise<Payment> => {
  const { id, fingerprint } = payment
  const [holder] = await claimKeys(tx, [{ id, fingerprint, recipientId: null }])
  if (holder === 'another') throw keyReused()
  return writePayment(tx, payment, lookAfterMs)
}

const holdAgainstLimits = async (
  ledgerRead: Database,
  { walletId, userId, amount, currency }: NewPayment,
  open: OpenDeposit[],
): Promise<void> => {
  // One snapshot of the ledger: each deposit in flight is in its counter or is not.
  const ids = open.flatMap(({ id }) => [id, displacedDepositIdOf(id)])
  const { wallet, ledgerStatuses } = await ledgerRead.begin(
    'isolation level repeatable read read only',
    async tx => ({
      wallet: (await readLimitedWallets(tx, { userId, walletId }))[0],
      ledgerStatuses: ids.length === 0 ? new Map<string, never>() : await readLedgerStatuses(tx, ids),
    }),
  )
  if (!wallet) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
  const isBooked = (id: string) =>
    [id, displacedDepositIdOf(id)].some(known => ledgerStatuses.get(known)?.transfer?.type === 'deposit')
  // Each counts in the day and month of its request; once booked, the ledger counts it in those of the booking.
  const underWay = (prefixLength: number) => {
    const period = (ms: number) => new Date(ms).toISOString().slice(0, prefixLength)
    return open
      .filter(
        ({ id, requestedAt }) => !isBooked(id) && period(requestedAt.getTime()) === period(wallet.nowMs),
      )
      .reduce((sum, deposit) => sum + deposit.amount, 0n)
  }
  const { limits } = limitsInForce('deposit', wallet.defaults, wallet.own)
  const counted = usedNow(wallet.usage, 'deposit', wallet.nowMs)
  const used = {
    day: counted.day + underWay('2026-01-01'.length),
    month: counted.month + underWay('2026-01'.length),
  }
  const breach = breachedLimit(limits, used, amount)
  if (!breach) return
  throw new ProblemError(
    breach.code,
    `amount: at most ${formatAmount(breach.limit, currency)} ${currency} may be brought in ${PERIODS[breach.code]}.`,
    { ...limitMembers(breach, amount, currency), final: false },
  )
}
