import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Who decided that a person is erased: themselves, a member of staff, or an operator by the command. */
export type ErasureSource = 'self' | 'staff' | 'command'

/** What stands in the way of an erasure. */
export type Blocker =
  | { code: 'WALLET_HAS_BALANCE' | 'WALLET_HAS_HOLDS'; walletId: string; amount: string; currency: string }
  | { code: 'WALLET_FROZEN'; walletId: string; source: string }
  | { code: 'PAYMENT_PENDING' | 'REQUEST_PENDING'; transferId: string }
  | { code: 'HAS_STAFF_ROLE'; role: string }
  | { code: 'DEACTIVATED_BY_STAFF' }

export type Erasure = {
  userId: string
  id: string
  source: ErasureSource
  byUserId: string | null
  reason: Buffer | null
  requestedAt: Date
  dueAt: Date
  attempt: number
  blocked: Blocker[] | null
  erasedAt: Date | null
}

const COLUMNS = (sql: Database | Tx) => sql`
  user_id as "userId", id, source, by_user_id as "byUserId", reason, requested_at as "requestedAt", due_at as "dueAt",
  attempt, blocked, erased_at as "erasedAt"`

/**
 * Stores that a person is to be erased. What staff or an operator decide takes the place of what the user asked for;
 * an erasure that was asked for already stays as it is otherwise.
 */
export const insertErasure = async (
  tx: Tx,
  erasure: Pick<Erasure, 'userId' | 'id' | 'source' | 'byUserId' | 'reason' | 'dueAt'>,
): Promise<boolean> => {
  const { userId, id, source, byUserId, reason, dueAt } = erasure
  const { count } = await tx`
    insert into gateway.erasures as e (user_id, id, source, by_user_id, reason, due_at, look_at)
    values (${userId}, ${id}, ${source}, ${byUserId}, ${reason}, ${dueAt}, ${dueAt})
    on conflict (user_id) do update
      set source = excluded.source, by_user_id = excluded.by_user_id, reason = excluded.reason,
        requested_at = now(), due_at = excluded.due_at, look_at = excluded.look_at, blocked = null
      where e.source = 'self' and excluded.source <> 'self' and e.erased_at is null`
  return count === 1
}

export const readErasure = async (sql: Database, userId: string): Promise<Erasure | undefined> => {
  const [row] = await sql<Erasure[]>`
    select ${COLUMNS(sql)} from gateway.erasures where user_id = ${userId}`
  return row
}

/** Locks a person's erasure, so that one gateway at a time ends it. */
export const lockErasure = async (tx: Tx, userId: string): Promise<Erasure | undefined> => {
  const [row] = await tx<Erasure[]>`
    select ${COLUMNS(tx)} from gateway.erasures where user_id = ${userId} for update`
  return row
}

/** Forgets an erasure that has not happened; of one source alone where it is named. False if there is none. */
export const deleteErasure = async (
  tx: Tx,
  userId: string,
  source: ErasureSource | null,
): Promise<boolean> => {
  const { count } = await tx`
    delete from gateway.erasures
    where user_id = ${userId} and erased_at is null ${source === null ? tx`` : tx`and source = ${source}`}`
  return count === 1
}

/** Claims an erasure that a gateway has to look at: others look at it again after `claimMs`. */
export const claimErasure = async (
  sql: Database,
  claimMs: number,
): Promise<{ userId: string; isErased: boolean } | undefined> => {
  const [row] = await sql<Array<{ userId: string; isErased: boolean }>>`
    update gateway.erasures set look_at = now() + ${claimMs} * interval '1 millisecond'
    where user_id = (
      select user_id from gateway.erasures where checked_at is null and look_at <= now()
      order by look_at limit 1 for update skip locked)
    returning user_id as "userId", erased_at is not null as "isErased"`
  return row
}

/** Stores what stands in the way; true the first time, when its user is to be told. */
export const blockErasure = async (
  tx: Tx,
  userId: string,
  blocked: Blocker[],
  pauseMs: number,
): Promise<boolean> => {
  const [row] = await tx<Array<{ isFirst: boolean }>>`
    select blocked is null as "isFirst" from gateway.erasures
    where user_id = ${userId} and erased_at is null for update`
  await tx`
    update gateway.erasures set blocked = ${JSON.stringify(blocked)}::text::jsonb,
      look_at = now() + ${pauseMs} * interval '1 millisecond'
    where user_id = ${userId} and erased_at is null`
  return row?.isFirst ?? false
}

/** Begins another attempt to close the wallets, unless another gateway has begun it. */
export const beginAttempt = async (tx: Tx, userId: string, attempt: number): Promise<void> => {
  await tx`
    update gateway.erasures set attempt = ${attempt + 1}
    where user_id = ${userId} and attempt = ${attempt} and erased_at is null`
}

/** Marks that the person is erased, and returns when; a gateway looks once more after `lookAfterMs`. */
export const markErased = async (tx: Tx, userId: string, lookAfterMs: number): Promise<Date> => {
  const [row] = await tx<[{ erasedAt: Date }]>`
    update gateway.erasures
    set erased_at = now(), blocked = null, look_at = now() + ${lookAfterMs} * interval '1 millisecond'
    where user_id = ${userId}
    returning erased_at as "erasedAt"`
  return row.erasedAt
}

export const markChecked = async (tx: Tx, userId: string): Promise<void> => {
  await tx`update gateway.erasures set checked_at = now() where user_id = ${userId}`
}

/** How many erasures are due and not done, and for how many seconds the oldest has been. */
export const measureErasures = async (sql: Database): Promise<{ due: number; overdueSeconds: number }> => {
  const [row] = await sql<[{ due: number; overdueSeconds: number }]>`
    select count(*)::int as due,
      coalesce(greatest(extract(epoch from now() - min(due_at)), 0), 0)::float8 as "overdueSeconds"
    from gateway.erasures where checked_at is null and erased_at is null and due_at <= now()`
  return row
}

/** Whether staff deactivated the account. */
export const isDeactivatedByStaff = async (sql: Database | Tx, userId: string): Promise<boolean> =>
  (await sql`select from gateway.users where id = ${userId} and disabled_source = 'staff'`).length === 1

/** A user's payments that the provider or the ledger has not finished. */
export const readOpenPayments = async (
  sql: Database | Tx,
  userId: string,
  limit: number,
): Promise<string[]> => {
  const rows = await sql<Array<{ id: string }>>`
    select id from gateway.payments where user_id = ${userId} and done_at is null order by id limit ${limit}`
  return rows.map(({ id }) => id)
}

/** A user's requests that the ledger may still decide, as far as the gateways have looked. */
export const readOpenRequests = async (
  sql: Database | Tx,
  userId: string,
  limit: number,
): Promise<string[]> => {
  const rows = await sql<Array<{ id: string }>>`
    select transfer_id as id from gateway.pending_requests
    where user_id = ${userId} and decided_at is null and expires_at > now() order by transfer_id limit ${limit}`
  return rows.map(({ id }) => id)
}
