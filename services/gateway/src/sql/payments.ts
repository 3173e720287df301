import type { Database } from '@pennywire/runtime/database.ts'

export type Payment = {
  id: string
  kind: 'deposit'
  userId: string
  walletId: string
  amount: bigint
  currency: string
  method: Buffer
  fingerprint: Buffer
  status: 'created' | 'pending' | 'confirmed' | 'failed'
  providerReference: string | null
  failureReason: string | null
  requestedAt: Date
}

const columns = (sql: Database) => sql`
  id, kind, user_id as "userId", wallet_id as "walletId", amount, currency, method, fingerprint, status,
  provider_reference as "providerReference", failure_reason as "failureReason", requested_at as "requestedAt"`

/** Writes a payment, or finds the one with its id: the first one written stands. */
export const writePayment = async (
  sql: Database,
  payment: Omit<Payment, 'status' | 'providerReference' | 'failureReason'>,
): Promise<Payment> => {
  const { id, kind, userId, walletId, amount, currency, method, fingerprint, requestedAt } = payment
  await sql`
    insert into gateway.payments (id, kind, user_id, wallet_id, amount, currency, method, fingerprint, requested_at, updated_at)
    values (${id}, ${kind}, ${userId}, ${walletId}, ${amount}, ${currency}, ${method}, ${fingerprint}, ${requestedAt}, ${requestedAt})
    on conflict (id) do nothing`
  return (await readPayment(sql, id))!
}

export const readPayment = async (sql: Database, id: string): Promise<Payment | undefined> => {
  const [row] = await sql<Payment[]>`select ${columns(sql)} from gateway.payments where id = ${id}`
  return row
}

/** Payments whose ids lie in a range: that of a reference, or one id. */
export const readPaymentsBetween = (sql: Database, first: string, last: string): Promise<Payment[]> =>
  sql<Payment[]>`select ${columns(sql)} from gateway.payments where id between ${first} and ${last}`

/** The provider has taken the payment. What the provider said since stands. */
export const markPaymentPending = async (
  sql: Database,
  id: string,
  providerReference: string,
): Promise<void> => {
  await sql`
    update gateway.payments set status = 'pending', provider_reference = ${providerReference}, updated_at = now()
    where id = ${id} and status = 'created'`
}

/** The provider's last word; the first one stands. Returns whether this is it. */
export const settlePayment = async (
  sql: Database,
  id: string,
  status: 'confirmed' | 'failed',
  providerReference: string,
  failureReason: string | null,
): Promise<boolean> => {
  const { count } = await sql`
    update gateway.payments
    set status = ${status}, provider_reference = ${providerReference}, failure_reason = ${failureReason}, updated_at = now()
    where id = ${id} and status in ('created', 'pending')`
  return count === 1
}
