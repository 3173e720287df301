import type { Language } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'

/** A receipt that waits, claimed by this gateway. */
export type WaitingReceipt = {
  transferId: string
  userId: string
  language: Language
  attempts: number
  claim: string
}

/** What became of a request: it is there, it waits, or there is no place in the queue. */
export type Requested = 'made' | 'waiting' | 'full' | 'too_many'

/**
 * Lets a receipt wait to be made. A receipt that is there or waits already stays, in its language; in another language
 * it is made again. Requests of one moment may pass the bounds by their number.
 */
export const requestReceipt = async (
  sql: Database,
  { transferId, userId, language }: { transferId: string; userId: string; language: Language },
  { maxWaiting, maxPerUser }: { maxWaiting: number; maxPerUser: number },
): Promise<Requested> => {
  const [row] = await sql<[{ made: boolean | null; waiting: number; own: number }]>`
    select
      (select pdf is not null from gateway.receipts
        where transfer_id = ${transferId} and user_id = ${userId} and language = ${language}) as made,
      (select count(*)::int from (
        select from gateway.receipts where pdf is null limit ${maxWaiting}) as waiting) as waiting,
      (select count(*)::int from (
        select from gateway.receipts where pdf is null and user_id = ${userId} limit ${maxPerUser}) as own) as own`
  if (row.made !== null) return row.made ? 'made' : 'waiting'
  if (row.own >= maxPerUser) return 'too_many'
  if (row.waiting >= maxWaiting) return 'full'
  await sql`
    insert into gateway.receipts (transfer_id, user_id, language) values (${transferId}, ${userId}, ${language})
    on conflict (transfer_id, user_id) do update
      set language = excluded.language, requested_at = now(), pdf = null, attempts = 0, next_attempt_at = now(),
        claim = null
      where receipts.language <> excluded.language`
  return 'waiting'
}

/** A user's receipt: its cipher, null while it waits; undefined if the user has asked for none. */
export const readReceipt = async (
  sql: Database,
  transferId: string,
  userId: string,
): Promise<{ pdf: Buffer | null } | undefined> => {
  const [row] = await sql<[{ pdf: Buffer | null }?]>`
    select pdf from gateway.receipts where transfer_id = ${transferId} and user_id = ${userId}`
  return row
}

/**
 * Claims the receipts that have waited longest, each for this gateway alone. The attempt is counted before it is made;
 * what a dying gateway had claimed is due again after `claimMs`.
 */
export const claimReceipts = (sql: Database, limit: number, claimMs: number): Promise<WaitingReceipt[]> =>
  sql<WaitingReceipt[]>`
    with due as (
      select transfer_id, user_id from gateway.receipts
      where pdf is null and next_attempt_at <= now()
      order by next_attempt_at limit ${limit} for update skip locked)
    update gateway.receipts r
    set attempts = attempts + 1, next_attempt_at = now() + ${claimMs} * interval '1 millisecond',
      claim = gen_random_uuid()
    from due where r.transfer_id = due.transfer_id and r.user_id = due.user_id
    returning r.transfer_id as "transferId", r.user_id as "userId", r.language, r.attempts, r.claim`

/** Stores a receipt that was made. */
export const storeReceipt = async (
  sql: Database,
  { transferId, userId, claim }: WaitingReceipt,
  pdf: Buffer,
): Promise<void> => {
  await sql`
    update gateway.receipts set pdf = ${pdf}, claim = null
    where transfer_id = ${transferId} and user_id = ${userId} and claim = ${claim}`
}

/** Lets a receipt wait for another attempt. */
export const postponeReceipt = async (
  sql: Database,
  { transferId, userId, claim }: WaitingReceipt,
  pauseMs: number,
): Promise<void> => {
  await sql`
    update gateway.receipts set next_attempt_at = now() + ${pauseMs} * interval '1 millisecond', claim = null
    where transfer_id = ${transferId} and user_id = ${userId} and claim = ${claim}`
}

/** Forgets a receipt that cannot be made: its user may ask again. */
export const dropReceipt = async (
  sql: Database,
  { transferId, userId, claim }: WaitingReceipt,
): Promise<void> => {
  await sql`
    delete from gateway.receipts
    where transfer_id = ${transferId} and user_id = ${userId} and claim = ${claim}`
}

/** How many receipts wait, and for how many seconds the oldest. */
export const measureWaiting = async (sql: Database): Promise<{ waiting: number; oldestSeconds: number }> => {
  const [row] = await sql<[{ waiting: number; oldestSeconds: number }]>`
    select count(*)::int as waiting,
      coalesce(greatest(extract(epoch from now() - min(requested_at)), 0), 0)::float8 as "oldestSeconds"
    from gateway.receipts where pdf is null`
  return row
}
