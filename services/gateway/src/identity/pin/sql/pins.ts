import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Stores a first PIN; false if the user already has one. */
export const insertPin = async (
  tx: Tx,
  pin: { userId: string; pepperId: string; hash: string },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.pins (user_id, pepper_id, hash) values (${pin.userId}, ${pin.pepperId}, ${pin.hash})
    on conflict (user_id) do nothing`
  return count === 1
}

/** Replaces the PIN with hash `insteadOf`, or any PIN if undefined, and ends a lock; false if there is no such PIN. */
export const replacePin = async (
  tx: Tx,
  pin: { userId: string; pepperId: string; hash: string; insteadOf: string | undefined },
): Promise<boolean> => {
  const only = pin.insteadOf === undefined ? tx`` : tx`and hash = ${pin.insteadOf}`
  const { count } = await tx`
    update gateway.pins
    set pepper_id = ${pin.pepperId}, hash = ${pin.hash}, attempts = 0, locked_until = null, set_at = now()
    where user_id = ${pin.userId} ${only}`
  return count === 1
}

/** Stores the same PIN's hash under another pepper, unless the PIN has changed. */
export const rehashPin = async (
  sql: Database,
  pin: { userId: string; pepperId: string; hash: string; insteadOf: string },
): Promise<void> => {
  await sql`
    update gateway.pins set pepper_id = ${pin.pepperId}, hash = ${pin.hash}
    where user_id = ${pin.userId} and hash = ${pin.insteadOf}`
}

export const hasPin = async (sql: Database, userId: string): Promise<boolean> =>
  (await sql`select 1 from gateway.pins where user_id = ${userId}`).length === 1

export type PinAttempt = { attempt: number; pepperId: string; hash: string }

/**
 * Counts an attempt before hashing, in one statement: concurrent attempts each get their own number. The attempt with
 * the last number locks the PIN at once, and a correct PIN lifts the lock again: a crash while hashing leaves a lock,
 * never a free attempt. An expired lock counts as none. Returns undefined if the PIN is locked or not set:
 * `readPinState` shows which.
 */
export const beginPinAttempt = async (
  sql: Database,
  userId: string,
  rule: { maxAttempts: number; lockHours: number },
): Promise<PinAttempt | undefined> => {
  const [attempt] = await sql<PinAttempt[]>`
    update gateway.pins set
      attempts = case when locked_until <= now() then 1 else attempts + 1 end,
      locked_until = case when (case when locked_until <= now() then 1 else attempts + 1 end) >= ${rule.maxAttempts}
        then now() + make_interval(hours => ${rule.lockHours}) end
    where user_id = ${userId} and (locked_until is null or locked_until <= now())
    returning attempts as attempt, pepper_id as "pepperId", hash`
  return attempt
}

/** Subtracts a correct PIN's own attempt and those before it from the count; attempts that began later stay counted. */
export const forgivePinAttempts = async (sql: Database, userId: string, attempt: number): Promise<void> => {
  await sql`
    update gateway.pins set attempts = greatest(attempts - ${attempt}, 0), locked_until = null
    where user_id = ${userId}`
}

/** Locks and reads the PIN's state after a wrong attempt; a concurrent correct PIN may have lowered the count. */
export const settleWrongPin = async (
  tx: Tx,
  userId: string,
): Promise<{ attempts: number; lockedUntil: Date | null }> => {
  const [pin] = await tx<Array<{ attempts: number; lockedUntil: Date | null }>>`
    select attempts, locked_until as "lockedUntil" from gateway.pins where user_id = ${userId} for update`
  return pin!
}

export type PinState = { attempts: number; lockedUntil: Date | null; setAt: Date }

/** The current state of a user's PIN: an expired lock counts as none, and its attempts as zero. */
export const readPinState = async (sql: Database, userId: string): Promise<PinState | undefined> => {
  const [pin] = await sql<PinState[]>`
    select case when locked_until <= now() then 0 else attempts end as attempts,
      case when locked_until > now() then locked_until end as "lockedUntil", set_at as "setAt"
    from gateway.pins where user_id = ${userId}`
  return pin
}

/**
 * Records a lock; false if another attempt has recorded it. The user's `many`-th lock within `days` requests a freeze
 * of the wallets. Call it under the PIN's row lock, see `settleWrongPin`, so that locks are counted one by one.
 */
export const rememberPinLock = async (
  tx: Tx,
  lock: { userId: string; lockedUntil: Date },
  rule: { many: number; days: number },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.pin_locks (user_id, locked_until, freeze_due)
    select ${lock.userId}, ${lock.lockedUntil}, 1 + count(*) >= ${rule.many}
    from gateway.pin_locks
    where user_id = ${lock.userId} and locked_at > now() - make_interval(days => ${rule.days})
    on conflict do nothing`
  return count === 1
}

export type DuePinFreeze = { userId: string; lockedUntil: Date }

/** A lock whose freezes are not requested yet, locked for this transaction; other gateways skip this row. */
export const takeDuePinFreeze = async (tx: Tx): Promise<DuePinFreeze | undefined> => {
  const [due] = await tx<DuePinFreeze[]>`
    select user_id as "userId", locked_until as "lockedUntil" from gateway.pin_locks
    where freeze_due order by locked_at limit 1 for update skip locked`
  return due
}

export const settlePinFreeze = async (tx: Tx, { userId, lockedUntil }: DuePinFreeze): Promise<void> => {
  await tx`
    update gateway.pin_locks set freeze_due = false where user_id = ${userId} and locked_until = ${lockedUntil}`
}

/** Cancels the user's freezes that are not requested yet. */
export const forgetDuePinFreezes = async (tx: Tx, userId: string): Promise<void> => {
  await tx`update gateway.pin_locks set freeze_due = false where user_id = ${userId} and freeze_due`
}

/** Whether the PIN was locked within the last `hours`: a freeze for that lock may be in flight. */
export const wasPinLockedWithin = async (tx: Tx, userId: string, hours: number): Promise<boolean> =>
  (
    await tx`
      select 1 from gateway.pin_locks
      where user_id = ${userId} and locked_at > now() - make_interval(hours => ${hours}) limit 1`
  ).length === 1
