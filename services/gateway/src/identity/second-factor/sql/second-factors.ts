import { BYTEA, type Database, type Tx } from '@pennywire/runtime/database.ts'

/** Stores an offered secret; false if the second factor is already on. */
export const offerSecondFactor = async (
  sql: Database,
  offer: { userId: string; keyId: string; sealedSecret: Buffer },
): Promise<boolean> => {
  const { count } = await sql`
    insert into gateway.second_factors as f (user_id, key_id, sealed_secret)
    values (${offer.userId}, ${offer.keyId}, ${offer.sealedSecret})
    on conflict (user_id) do update set
      key_id = excluded.key_id, sealed_secret = excluded.sealed_secret, made_at = now()
    where f.enabled_at is null`
  return count === 1
}

export type SecondFactorState = {
  keyId: string
  sealedSecret: Buffer
  /** Null while it is only offered. */
  enabledAt: Date | null
  /** Whether the offer can still be confirmed. */
  fresh: boolean
  lockedUntil: Date | null
}

/** The attempts and lock after a wrong code. */
export const readCodeLock = async (
  tx: Tx,
  userId: string,
): Promise<{ attempts: number; lockedUntil: Date | null } | undefined> => {
  const [state] = await tx<Array<{ attempts: number; lockedUntil: Date | null }>>`
    select attempts, locked_until as "lockedUntil" from gateway.second_factors where user_id = ${userId}`
  return state
}

/** The current state of a user's second factor; an expired lock counts as none. */
export const readSecondFactor = async (
  sql: Database,
  userId: string,
  offerMinutes: number,
): Promise<SecondFactorState | undefined> => {
  const [state] = await sql<SecondFactorState[]>`
    select key_id as "keyId", sealed_secret as "sealedSecret", enabled_at as "enabledAt",
      made_at > now() - make_interval(mins => ${offerMinutes}) as fresh,
      case when locked_until > now() then locked_until end as "lockedUntil"
    from gateway.second_factors where user_id = ${userId}`
  return state
}

/** Turns on the second factor by the offered secret; false if another request did, or offered another secret since. */
export const enableSecondFactor = async (
  tx: Tx,
  offer: { userId: string; sealedSecret: Buffer; step: number },
): Promise<boolean> => {
  const { count } = await tx`
    update gateway.second_factors set enabled_at = now(), last_step = ${offer.step}
    where user_id = ${offer.userId} and sealed_secret = ${offer.sealedSecret} and enabled_at is null`
  return count === 1
}

/** Invalidates sign-ins in progress, see `secondFactorVersion`. Waits for transactions that are starting a session. */
export const changeSecondFactorVersion = async (tx: Tx, userId: string): Promise<void> => {
  await tx`update gateway.users set second_factor_version = second_factor_version + 1 where id = ${userId}`
}

/** Turns the second factor off and deletes its recovery codes and challenges. */
export const deleteSecondFactor = async (tx: Tx, userId: string): Promise<boolean> => {
  await tx`delete from gateway.recovery_codes where user_id = ${userId}`
  await tx`delete from gateway.login_challenges where user_id = ${userId}`
  const { count } = await tx`
    delete from gateway.second_factors where user_id = ${userId} and enabled_at is not null`
  return count === 1
}

/** Limits on attempts: `maxAttempts` cause a lock of `lockMinutes`, which doubles each time, up to `maxLockMinutes`. */
export type CodeRule = { maxAttempts: number; lockMinutes: number; maxLockMinutes: number }
export type CodeAttempt = { attempt: number; keyId: string; sealedSecret: Buffer }

/**
 * Counts an attempt before the code is checked, in one statement: concurrent attempts each get their own number, and
 * the last number locks at once. A correct code lifts the lock again. Undefined if the second factor is locked or off.
 */
export const beginCodeAttempt = async (
  sql: Database,
  userId: string,
  rule: CodeRule,
): Promise<CodeAttempt | undefined> => {
  const counted = sql`case when locked_until <= now() then 1 else attempts + 1 end`
  const locks = sql`(${counted}) >= ${rule.maxAttempts}`
  const [attempt] = await sql<CodeAttempt[]>`
    update gateway.second_factors set
      attempts = ${counted},
      locked_until = case when ${locks}
        then now() + make_interval(mins => least(${rule.lockMinutes} * 2 ^ least(locks, 16), ${rule.maxLockMinutes})::int)
        end,
      locks = locks + case when ${locks} then 1 else 0 end
    where user_id = ${userId} and enabled_at is not null and (locked_until is null or locked_until <= now())
    returning attempts as attempt, key_id as "keyId", sealed_secret as "sealedSecret"`
  return attempt
}

/**
 * Accepts a correct code: each step once, and no earlier step after it. False if the step was already accepted.
 * Subtracts the code's own attempt and those before it from the count.
 */
export const spendStep = async (
  tx: Tx,
  code: { userId: string; attempt: number; step: number },
): Promise<boolean> => {
  const { count } = await tx`
    update gateway.second_factors
    set last_step = ${code.step}, attempts = greatest(attempts - ${code.attempt}, 0), locked_until = null, locks = 0
    where user_id = ${code.userId} and enabled_at is not null and last_step < ${code.step}`
  return count === 1
}

/** Stores the secret sealed under another key. */
export const resealSecret = async (
  tx: Tx,
  secret: { userId: string; keyId: string; sealedSecret: Buffer },
): Promise<void> => {
  await tx`
    update gateway.second_factors set key_id = ${secret.keyId}, sealed_secret = ${secret.sealedSecret}
    where user_id = ${secret.userId}`
}

/** Replaces a user's recovery codes. */
export const replaceRecoveryCodes = async (
  tx: Tx,
  codes: { userId: string; pepperId: string; hashes: Buffer[] },
): Promise<void> => {
  await tx`delete from gateway.recovery_codes where user_id = ${codes.userId}`
  await tx`
    insert into gateway.recovery_codes (user_id, pepper_id, hash)
    select ${codes.userId}, ${codes.pepperId}, * from unnest(${tx.array(codes.hashes, BYTEA)})`
}

/** Spends a recovery code hashed under any of the peppers; false if the code is unknown or used. */
export const spendRecoveryCode = async (
  tx: Tx,
  userId: string,
  hashes: Array<{ pepperId: string; hash: Buffer }>,
): Promise<boolean> => {
  for (const { pepperId, hash } of hashes) {
    const { count } = await tx`
      update gateway.recovery_codes set used_at = now()
      where user_id = ${userId} and pepper_id = ${pepperId} and hash = ${hash} and used_at is null`
    if (count === 1) return true
  }
  return false
}

export const countRecoveryCodes = async (sql: Database | Tx, userId: string): Promise<number> => {
  const [row] = await sql<Array<{ left: number }>>`
    select count(*)::int as left from gateway.recovery_codes where user_id = ${userId} and used_at is null`
  return row!.left
}

/** Stores a challenge after the first step of a sign-in, if the second factor is on; false if it is off. */
export const insertChallenge = async (
  sql: Database,
  challenge: { hash: Buffer; userId: string; proven: Buffer; seconds: number },
): Promise<boolean> => {
  const { count } = await sql`
    insert into gateway.login_challenges (hash, user_id, proven, expires_at)
    select ${challenge.hash}, user_id, ${challenge.proven}, now() + make_interval(secs => ${challenge.seconds})
    from gateway.second_factors where user_id = ${challenge.userId} and enabled_at is not null`
  return count === 1
}

export const deleteOldChallenges = async (sql: Database, userId: string): Promise<void> => {
  await sql`delete from gateway.login_challenges where user_id = ${userId} and expires_at <= now()`
}

/** The challenge of a sign-in; undefined if it is unknown, expired or used. */
export const readChallenge = async (
  sql: Database,
  hash: Buffer,
): Promise<{ userId: string; proven: Buffer } | undefined> => {
  const [challenge] = await sql<Array<{ userId: string; proven: Buffer }>>`
    select user_id as "userId", proven from gateway.login_challenges
    where hash = ${hash} and used_at is null and expires_at > now()`
  return challenge
}

/** Spends the challenge of a sign-in; false if another request did. */
export const spendChallenge = async (tx: Tx, hash: Buffer): Promise<boolean> => {
  const { count } = await tx`
    update gateway.login_challenges set used_at = now()
    where hash = ${hash} and used_at is null and expires_at > now()`
  return count === 1
}
