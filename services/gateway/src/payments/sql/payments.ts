import { type Database, type Tx, UUID } from '@pennywire/runtime/database.ts'
import type { RequestPlace } from '../../ledger/sql/ledger-reads.ts'
import type { SealedMethod } from '../../transfers/transfer-view.ts'

/** Money between a user and the outside world. `status` is the provider's result; the ledger stores the booking. */
export type Payment = {
  /** The transfer's id, and the provider's idempotency key. */
  id: string
  kind: 'deposit' | 'withdrawal'
  userId: string
  walletId: string
  amount: bigint
  currency: string
  /** The source of a deposit, or the destination of a withdrawal: ciphertext. */
  method: Buffer
  fingerprint: Buffer
  /** created: not ordered. ordering: the provider may have an order. pending: it has one. Then the outcome. */
  status: 'created' | 'ordering' | 'pending' | 'confirmed' | 'failed' | 'returned'
  providerReference: string | null
  failureCode: string | null
  failureReason: string | null
  /** How the user proved to be present; null for a deposit. */
  authenticatedBy: string | null
  authenticatedAt: Date | null
  requestedAt: Date
  /** Nothing is ordered any more for a request without effect by then. */
  expiresAt: Date | null
  /** When the last order was marked, by the database's clock. */
  orderedAt: Date | null
  /** How many orders were marked. */
  orderAttempts: number
  /** Nothing is left to do: the ledger has booked the provider's result, or there is nothing to book. */
  done: boolean
}

export type NewPayment = Omit<
  Payment,
  'status' | 'providerReference' | 'failureCode' | 'failureReason' | 'orderedAt' | 'orderAttempts' | 'done'
>

const columns = (sql: Database | Tx) => sql`
  id, kind, user_id as "userId", wallet_id as "walletId", amount, currency, method, fingerprint, status,
  provider_reference as "providerReference", failure_code as "failureCode", failure_reason as "failureReason",
  authenticated_by as "authenticatedBy", authenticated_at as "authenticatedAt", requested_at as "requestedAt",
  expires_at as "expiresAt", ordered_at as "orderedAt", order_attempts as "orderAttempts", done_at is not null as done`

/** Writes a payment, or returns the one with its id: the first write stands. `lookAfterMs`: see `claimPayments`. */
export const writePayment = async (
  sql: Database | Tx,
  payment: NewPayment,
  lookAfterMs: number,
): Promise<Payment> => {
  const { id, kind, userId, walletId, amount, currency, method, fingerprint, requestedAt } = payment
  const { authenticatedBy, authenticatedAt, expiresAt } = payment
  await sql`
    insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, requested_at,
      updated_at, authenticated_by, authenticated_at, expires_at, next_look_at)
    values (${id}, ${kind}, ${userId}, ${walletId}, ${amount}, ${currency}, ${method}, ${fingerprint}, ${requestedAt},
      ${requestedAt}, ${authenticatedBy}, ${authenticatedAt}, ${expiresAt}, now() + ${lookAfterMs} * interval '1 ms')
    on conflict (id) do nothing`
  return (await readPayment(sql, id))!
}

export const readPayment = async (sql: Database | Tx, id: string): Promise<Payment | undefined> => {
  const [row] = await sql<Payment[]>`select ${columns(sql)} from gateway.payments where id = ${id}`
  return row
}

/** Payments whose ids lie in a range: that of a reference, or one id. */
export const readPaymentsBetween = (sql: Database, first: string, last: string): Promise<Payment[]> =>
  sql<Payment[]>`select ${columns(sql)} from gateway.payments where id between ${first} and ${last}`

/** A user's payments, below a place and since a moment, newest first. */
export const readPaymentsOf = (
  sql: Database,
  userId: string,
  before: RequestPlace,
  since: Date | null,
  limit: number,
): Promise<Payment[]> =>
  sql<Payment[]>`
    select ${columns(sql)} from gateway.payments
    where user_id = ${userId} and (requested_at, id) < (${before.requestedAt}, ${before.id})
      ${since === null ? sql`` : sql`and requested_at >= ${since}`}
    order by requested_at desc, id desc limit ${limit}`

/** The sources and destinations of payments, as ciphertext. */
export const readMethods = (sql: Database, ids: string[]): Promise<SealedMethod[]> =>
  sql<SealedMethod[]>`
    select id, user_id as "userId", method from gateway.payments where id = any(${sql.array(ids, UUID)})`

/**
 * Marks that an order is about to be sent, and returns the time of the mark. Undefined if it must not be sent: another
 * gateway has marked one since, the payment's status is past ordering, or a deposit has expired.
 */
export const markPaymentOrdering = async (
  sql: Database,
  id: string,
  orderAttempts: number,
): Promise<Date | undefined> => {
  const [row] = await sql<{ orderedAt: Date }[]>`
    update gateway.payments
    set status = 'ordering', ordered_at = date_trunc('milliseconds', clock_timestamp()),
      order_attempts = order_attempts + 1, updated_at = now()
    where id = ${id} and status in ('created', 'ordering') and order_attempts = ${orderAttempts}
      and (kind = 'withdrawal' or expires_at > clock_timestamp())
    returning ordered_at as "orderedAt"`
  return row?.orderedAt
}

/** Marks that the provider has taken the payment. A result that arrived since stands. */
export const markPaymentPending = async (
  sql: Database,
  id: string,
  providerReference: string | null,
): Promise<void> => {
  await sql`
    update gateway.payments set status = 'pending', provider_reference = ${providerReference}, updated_at = now()
    where id = ${id} and status in ('created', 'ordering')`
}

export type Settlement = {
  status: 'confirmed' | 'failed' | 'returned'
  providerReference: string | null
  failureCode: string | null
  failureReason: string | null
  /**
   * Null: the provider's result. Else the gateway's own conclusion, which applies only as long as no further order was
   * marked and the provider has not taken one.
   */
  orderAttempts: number | null
}

/**
 * Stores the result of a payment; returns whether this changed the row. The first result stands, with two exceptions: a
 * confirmed payout may be returned, and a deposit that failed may have arrived after all.
 */
export const settlePayment = async (
  sql: Database | Tx,
  id: string,
  { status, providerReference, failureCode, failureReason, orderAttempts }: Settlement,
): Promise<boolean> => {
  const { count } = await sql`
    update gateway.payments
    set status = ${status}, provider_reference = coalesce(${providerReference}, provider_reference),
      failure_code = ${failureCode}, failure_reason = ${failureReason}, updated_at = now(), done_at = null,
      next_look_at = now(), looks = 0
    where id = ${id}
      and case when ${orderAttempts}::int is null
        then status in ('created', 'ordering', 'pending')
          or ${status} = 'returned' and status = 'confirmed'
          or ${status} = 'confirmed' and status = 'failed' and kind = 'deposit'
        else status in ('created', 'ordering') and order_attempts = ${orderAttempts}::int end`
  return count === 1
}

/** Marks a payment as done if it still has the status that was looked at. */
export const markPaymentDone = async (
  sql: Database,
  id: string,
  status: Payment['status'],
): Promise<boolean> => {
  const { count } = await sql`
    update gateway.payments set done_at = now(), updated_at = now()
    where id = ${id} and status = ${status} and done_at is null`
  return count === 1
}

/**
 * Claims due payments for this worker alone. Each is due again later, after twice the time for each look without
 * progress, up to `maxMs`, and as soon as its request has expired. A worker that dies delays its payments by that time
 * only.
 */
export const claimPayments = (
  sql: Database,
  limit: number,
  firstMs: number,
  maxMs: number,
): Promise<Payment[]> =>
  sql<Payment[]>`
    update gateway.payments
    set looks = looks + 1,
      next_look_at = least(
        now() + least(${firstMs} * power(2, least(looks, 20)), ${maxMs}) * interval '1 ms',
        case when status = 'created' and expires_at > now() then expires_at + interval '1 second' end)
    where id in (
      select id from gateway.payments where done_at is null and next_look_at <= now()
      order by next_look_at limit ${limit} for update skip locked)
    returning ${columns(sql)}`

/** The number of unfinished payments that were requested longer ago than this. */
export const countStuckPayments = async (sql: Database, seconds: number): Promise<number> => {
  const [row] = await sql<[{ count: number }]>`
    select count(*)::int from gateway.payments
    where done_at is null and requested_at < now() - ${seconds} * interval '1 second'`
  return row.count
}

/** Serialises the deposits of a wallet, until the transaction ends. */
export const lockDeposits = async (tx: Tx, walletId: string): Promise<void> => {
  await tx`insert into gateway.deposit_turns (wallet_id) values (${walletId}) on conflict do nothing`
  await tx`select 1 from gateway.deposit_turns where wallet_id = ${walletId} for update`
}

export type OpenDeposit = { id: string; amount: bigint; requestedAt: Date }

/** A wallet's deposits that may still be booked, or are booked but not marked as done. */
export const readOpenDeposits = (tx: Tx, walletId: string): Promise<OpenDeposit[]> =>
  tx<OpenDeposit[]>`
    select id, amount, requested_at as "requestedAt" from gateway.payments
    where wallet_id = ${walletId} and done_at is null and kind = 'deposit' and status <> 'failed'`

/** One page of all payments in id order, above `after`. */
export const readPaymentsAfter = (sql: Database, after: string, limit: number): Promise<Payment[]> =>
  sql<Payment[]>`select ${columns(sql)} from gateway.payments where id > ${after} order by id limit ${limit}`

/** Payments that the provider knows under this reference: one, or several if the provider uses it again. */
export const readPaymentIds = async (sql: Database, providerReference: string): Promise<string[]> => {
  const rows = await sql<{ id: string }[]>`
    select id from gateway.payments where provider_reference = ${providerReference} order by requested_at desc limit 20`
  return rows.map(({ id }) => id)
}
