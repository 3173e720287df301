import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Stores a first PIN; false where there is one already. */
export const insertPin = async (
  tx: Tx,
  pin: { userId: string; pepperId: string; hash: string },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.pins (user_id, pepper_id, hash) values (${pin.userId}, ${pin.pepperId}, ${pin.hash})
    on conflict (user_id) do nothing`
  return count === 1
}

/** Puts another PIN in the place of the one with the given hash, or of any where none is given; a lock ends. */
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

/** Keeps the same PIN's hash under another pepper, where it is still that PIN. */
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
 * Counts a try before it is hashed, in one statement: of any number that come at once, each gets a number of its
 * own. The try that reaches the last number locks at once, and a right PIN lifts that again; so a crash while
 * hashing leaves a lock, never a free try. A lock that has run out counts as none. Returns nothing where the PIN is
 * locked or not set: `readPinLock` tells which.
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

/** A right PIN forgives its own try and those before it; tries that began later stay counted. */
export const forgivePinAttempts = async (sql: Database, userId: string, attempt: number): Promise<void> => {
  await sql`
    update gateway.pins set attempts = greatest(attempts - ${attempt}, 0), locked_until = null
    where user_id = ${userId}`
}

/** What a wrong try came to: a right one that began beside it may have forgiven it. */
export const settleWrongPin = async (
  tx: Tx,
  userId: string,
): Promise<{ attempts: number; lockedUntil: Date | null }> => {
  const [pin] = await tx<Array<{ attempts: number; lockedUntil: Date | null }>>`
    select attempts, locked_until as "lockedUntil" from gateway.pins where user_id = ${userId} for update`
  return pin!
}

export type PinState = { attempts: number; lockedUntil: Date | null; setAt: Date }

/** What stands of a user's PIN now: a lock that has run out is none, and its tries are forgotten. */
export const readPinState = async (sql: Database, userId: string): Promise<PinState | undefined> => {
  const [pin] = await sql<PinState[]>`
    select case when locked_until <= now() then 0 else attempts end as attempts,
      case when locked_until > now() then locked_until end as "lockedUntil", set_at as "setAt"
    from gateway.pins where user_id = ${userId}`
  return pin
}

/**
 * Remembers a lock, and says whether it is news: several tries may have seen it. The one that is the `many`-th of its
 * user within so many days asks for the wallets to be frozen. Under the lock of the user's PIN, see `settleWrongPin`, so
 * that they are counted one after the other.
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

/** A lock whose freezes nobody has asked for yet, held for this transaction; another gateway finds another. */
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

/** The freezes that nobody has asked for yet are not wanted any more. */
export const forgetDuePinFreezes = async (tx: Tx, userId: string): Promise<void> => {
  await tx`update gateway.pin_locks set freeze_due = false where user_id = ${userId} and freeze_due`
}

/** Whether a PIN was locked within the last so many hours: a freeze for it may be on its way. */
export const wasPinLockedWithin = async (tx: Tx, userId: string, hours: number): Promise<boolean> =>
  (
    await tx`
      select 1 from gateway.pin_locks
      where user_id = ${userId} and locked_at > now() - make_interval(hours => ${hours}) limit 1`
  ).length === 1
