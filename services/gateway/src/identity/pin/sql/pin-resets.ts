import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Limits on guessing a mailed code: its lifetime, attempts per code, and codes per 24 hours. */
export type ResetRule = { minutes: number; maxAttempts: number; maxRequests: number }

/**
 * Stores a new code in place of the previous one; false if the user has requested too many within 24 hours. One
 * statement, so that concurrent requests are counted one by one.
 */
export const insertPinReset = async (
  tx: Tx,
  code: { userId: string; id: string; pepperId: string; hash: Buffer },
  rule: ResetRule,
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.pin_resets as r (user_id, id, pepper_id, hash, expires_at)
    values (${code.userId}, ${code.id}, ${code.pepperId}, ${code.hash}, now() + make_interval(mins => ${rule.minutes}))
    on conflict (user_id) do update set
      id = excluded.id, pepper_id = excluded.pepper_id, hash = excluded.hash, expires_at = excluded.expires_at,
      attempts = 0, used_at = null,
      asked = case when r.asked_since <= now() - interval '24 hours' then 1 else r.asked + 1 end,
      asked_since = case when r.asked_since <= now() - interval '24 hours' then now() else r.asked_since end
    where r.asked < ${rule.maxRequests} or r.asked_since <= now() - interval '24 hours'`
  return count === 1
}

/** Seconds until the user may ask for a code again. */
export const readResetPause = async (tx: Tx, userId: string): Promise<number> => {
  const [row] = await tx<Array<{ seconds: number }>>`
    select ceil(extract(epoch from asked_since + interval '24 hours' - now()))::int as seconds
    from gateway.pin_resets where user_id = ${userId}`
  return Math.max(1, row?.seconds ?? 1)
}

export type ResetAttempt = { id: string; attempt: number; pepperId: string; hash: Buffer }

/** Counts an attempt before the code is compared; undefined if the code is missing, spent, expired or exhausted. */
export const beginResetAttempt = async (
  sql: Database,
  userId: string,
  rule: ResetRule,
): Promise<ResetAttempt | undefined> => {
  const [attempt] = await sql<ResetAttempt[]>`
    update gateway.pin_resets set attempts = attempts + 1
    where user_id = ${userId} and used_at is null and expires_at > now() and attempts < ${rule.maxAttempts}
    returning id, attempts as attempt, pepper_id as "pepperId", hash`
  return attempt
}

/** Gives back an attempt that failed on the server's side. */
export const forgiveResetAttempt = async (sql: Database, userId: string, id: string): Promise<void> => {
  await sql`
    update gateway.pin_resets set attempts = greatest(attempts - 1, 0) where user_id = ${userId} and id = ${id}`
}

/** Spends the code and requests that freezes after wrong PINs are lifted; false if another request spent it. */
export const spendPinReset = async (tx: Tx, userId: string, id: string): Promise<boolean> => {
  const { count } = await tx`
    update gateway.pin_resets set used_at = now(), unfreeze_due = true
    where user_id = ${userId} and id = ${id} and used_at is null`
  return count === 1
}

export type DuePinUnfreeze = { userId: string; id: string }

/** A new PIN whose wallets are not unfrozen yet, locked for this transaction; other gateways skip this row. */
export const takeDuePinUnfreeze = async (tx: Tx): Promise<DuePinUnfreeze | undefined> => {
  const [due] = await tx<DuePinUnfreeze[]>`
    select user_id as "userId", id from gateway.pin_resets
    where unfreeze_due order by used_at limit 1 for update skip locked`
  return due
}

export const settlePinUnfreeze = async (tx: Tx, userId: string): Promise<void> => {
  await tx`update gateway.pin_resets set unfreeze_due = false where user_id = ${userId}`
}
