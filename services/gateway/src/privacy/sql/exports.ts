import type { Database } from '@pennywire/runtime/database.ts'

/** An export that waits, claimed by this gateway. */
export type WaitingExport = { userId: string; claim: string; attempts: number }

/**
 * Lets an export wait to be made, for this session. One that is not older than `keepMs` stays as it is; true if it is
 * there.
 */
export const requestExport = async (
  sql: Database,
  { userId, sessionId, keepMs }: { userId: string; sessionId: string; keepMs: number },
): Promise<boolean> => {
  const isOld = sql`e.requested_at < now() - ${keepMs} * interval '1 millisecond'`
  const [row] = await sql<[{ isMade: boolean }]>`
    insert into gateway.exports as e (user_id, session_id) values (${userId}, ${sessionId})
    on conflict (user_id) do update set
      session_id = excluded.session_id,
      requested_at = case when ${isOld} then now() else e.requested_at end,
      made_at = case when ${isOld} then null else e.made_at end,
      claim = case when ${isOld} then null else e.claim end,
      attempts = case when ${isOld} then 0 else e.attempts end,
      next_attempt_at = case when ${isOld} then now() else e.next_attempt_at end
    returning made_at is not null as "isMade"`
  return row.isMade
}

/** The number of parts of a session's export, null while it waits; undefined if this session has asked for none. */
export const readExport = async (
  sql: Database,
  userId: string,
  sessionId: string,
): Promise<{ parts: number | null } | undefined> => {
  const [row] = await sql<Array<{ parts: number | null }>>`
    select case when made_at is not null then (
      select count(*)::int from gateway.export_parts p where p.user_id = e.user_id) end as parts
    from gateway.exports e where user_id = ${userId} and session_id = ${sessionId}`
  return row
}

export const readExportPart = async (
  sql: Database,
  userId: string,
  part: number,
): Promise<Buffer | undefined> => {
  const [row] = await sql<Array<{ cipher: Buffer }>>`
    select cipher from gateway.export_parts where user_id = ${userId} and part = ${part}`
  return row?.cipher
}

/** Claims the export that has waited longest; what a dying gateway had claimed is due again after `claimMs`. */
export const claimExport = async (sql: Database, claimMs: number): Promise<WaitingExport | undefined> => {
  const [row] = await sql<WaitingExport[]>`
    update gateway.exports
    set attempts = attempts + 1, next_attempt_at = now() + ${claimMs} * interval '1 millisecond',
      claim = gen_random_uuid()
    where user_id = (
      select user_id from gateway.exports where made_at is null and next_attempt_at <= now()
      order by next_attempt_at limit 1 for update skip locked)
    returning user_id as "userId", claim, attempts`
  return row
}

/** Removes the parts of an earlier attempt; false if the claim has ended. */
export const clearExportParts = (sql: Database, { userId, claim }: WaitingExport): Promise<boolean> =>
  sql.begin(async tx => {
    const { count } = await tx`
      select from gateway.exports where user_id = ${userId} and claim = ${claim} for update`
    if (count === 1) await tx`delete from gateway.export_parts where user_id = ${userId}`
    return count === 1
  })

/** Stores a part while the claim lasts; false if it has ended, as by an erasure. */
export const insertExportPart = async (
  sql: Database,
  { userId, claim }: WaitingExport,
  part: number,
  cipher: Buffer,
): Promise<boolean> => {
  const { count } = await sql`
    insert into gateway.export_parts (user_id, part, cipher)
    select user_id, ${part}, ${cipher} from gateway.exports
    where user_id = ${userId} and claim = ${claim} and made_at is null`
  return count === 1
}

export const markExportMade = async (sql: Database, { userId, claim }: WaitingExport): Promise<void> => {
  await sql`
    update gateway.exports set made_at = now(), claim = null
    where user_id = ${userId} and claim = ${claim}`
}

/** Lets an export wait for another attempt. */
export const postponeExport = async (
  sql: Database,
  { userId, claim }: WaitingExport,
  pauseMs: number,
): Promise<void> => {
  await sql`
    update gateway.exports set next_attempt_at = now() + ${pauseMs} * interval '1 millisecond', claim = null
    where user_id = ${userId} and claim = ${claim}`
}

/** Forgets an export that cannot be made: its user may ask again. */
export const dropExport = async (sql: Database, { userId, claim }: WaitingExport): Promise<void> => {
  await sql`delete from gateway.exports where user_id = ${userId} and claim = ${claim}`
}

/** For how many seconds the oldest export waits. */
export const measureExports = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ seconds: number }]>`
    select coalesce(greatest(extract(epoch from now() - min(requested_at)), 0), 0)::float8 as seconds
    from gateway.exports where made_at is null`
  return row.seconds
}

/** What an account and its factors are, beside what routes show. */
export const readAccountDates = async (sql: Database, userId: string) => {
  const [row] = await sql<
    Array<{
      emailVerifiedAt: Date | null
      pinSetAt: Date | null
      secondFactorSince: Date | null
      mailBlockedAt: Date | null
    }>
  >`
    select u.email_verified_at as "emailVerifiedAt", p.set_at as "pinSetAt", f.enabled_at as "secondFactorSince",
      u.mail_blocked_at as "mailBlockedAt"
    from gateway.users u left join gateway.pins p on p.user_id = u.id left join gateway.second_factors f on f.user_id = u.id
    where u.id = ${userId}`
  return row
}

/** The keyed hashes of addresses and devices that count as the user's. */
export const countFamiliar = async (sql: Database, userId: string) => {
  const [row] = await sql<[{ addresses: number; devices: number }]>`
    select (select count(*)::int from gateway.familiar_addresses where user_id = ${userId}) as addresses,
      (select count(*)::int from gateway.familiar_devices where user_id = ${userId}) as devices`
  return row
}
