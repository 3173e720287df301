import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** A refresh token expires after this idle time. */
const IDLE_DAYS = 7
/** Absolute lifetime of a session: activity does not extend it. */
export const ABSOLUTE_DAYS = 30
/** A used refresh token presented again within this time counts as a retry after a lost response. */
const GRACE_SECONDS = 10

export const insertSession = async (
  tx: Tx,
  session: { id: string; userId: string; device: Buffer | null; secondFactor: boolean },
): Promise<void> => {
  await tx`
    insert into gateway.sessions (id, user_id, expires_at, device, second_factor)
    values (${session.id}, ${session.userId}, now() + make_interval(days => ${ABSOLUTE_DAYS}), ${session.device},
      ${session.secondFactor})`
}

/** Whether the session started within the last `minutes`; a refresh does not count as a sign-in. */
export const isSignInFresh = async (sql: Database, sessionId: string, minutes: number): Promise<boolean> =>
  (
    await sql`
      select from gateway.sessions
      where id = ${sessionId} and started_at > clock_timestamp() - make_interval(mins => ${minutes})`
  ).length === 1

/** Records that the session's user presented a second-factor code. */
export const markSecondFactor = async (tx: Tx, sessionId: string): Promise<void> => {
  await tx`update gateway.sessions set second_factor = true where id = ${sessionId}`
}

export const insertRefreshToken = async (
  tx: Tx,
  token: { hash: Buffer; sessionId: string },
): Promise<void> => {
  await tx`
    insert into gateway.refresh_tokens (hash, session_id) values (${token.hash}, ${token.sessionId})`
}

type LockedSession = {
  sessionId: string
  userId: string
  open: boolean
  secondsLeft: number
  secondFactor: boolean
}

/** Locks the session of a refresh token, so that requests change its token family one at a time. */
export const lockSessionOfToken = async (tx: Tx, hash: Buffer): Promise<LockedSession | undefined> => {
  const [session] = await tx<LockedSession[]>`
    select s.id as "sessionId", s.user_id as "userId", s.ended_at is null and s.expires_at > now() as open,
      extract(epoch from s.expires_at - now())::float8 as "secondsLeft", s.second_factor as "secondFactor"
    from gateway.sessions s
    where s.id = (select session_id from gateway.refresh_tokens where hash = ${hash})
    for update of s`
  return session
}

export type RefreshTokenState = {
  idle: boolean
  used: boolean
  inGrace: boolean
  successorSalt: Buffer | null
}

/** Reads a refresh token in a separate statement after the lock: the statement that waited has an older snapshot. */
export const readRefreshToken = async (tx: Tx, hash: Buffer): Promise<RefreshTokenState> => {
  const [token] = await tx<RefreshTokenState[]>`
    select issued_at + make_interval(days => ${IDLE_DAYS}) <= clock_timestamp() as idle,
      used_at is not null as used,
      coalesce(used_at + make_interval(secs => ${GRACE_SECONDS}) > clock_timestamp(), false) as "inGrace",
      successor_salt as "successorSalt"
    from gateway.refresh_tokens where hash = ${hash}`
  return token!
}

export const spendRefreshToken = async (tx: Tx, hash: Buffer, successorSalt: Buffer): Promise<void> => {
  await tx`
    update gateway.refresh_tokens set used_at = clock_timestamp(), successor_salt = ${successorSalt}
    where hash = ${hash} and used_at is null`
}

export const touchSession = async (tx: Tx, sessionId: string): Promise<void> => {
  await tx`update gateway.sessions set last_used_at = now() where id = ${sessionId}`
}

/** Ends one session of the user, all, or all but one; returns the ids of the sessions that were open. */
export const endSessions = async (
  tx: Tx,
  session: { userId: string; sessionId?: string; exceptSessionId?: string; reason: string },
): Promise<string[]> => {
  const only = session.sessionId === undefined ? tx`` : tx`and id = ${session.sessionId}`
  const except = session.exceptSessionId === undefined ? tx`` : tx`and id <> ${session.exceptSessionId}`
  const ended = await tx<Array<{ id: string }>>`
    update gateway.sessions set ended_at = now(), end_reason = ${session.reason}
    where user_id = ${session.userId} and ended_at is null ${only} ${except}
    returning id`
  return ended.map(({ id }) => id)
}

/** Changes end reason `from` to `to`; returns the session ids, so that the caller broadcasts the new reason. */
export const changeEndReason = async (
  tx: Tx,
  sessions: { userId: string; from: string; to: string },
): Promise<string[]> => {
  const changed = await tx<Array<{ id: string }>>`
    update gateway.sessions set end_reason = ${sessions.to}
    where user_id = ${sessions.userId} and end_reason = ${sessions.from}
    returning id`
  return changed.map(({ id }) => id)
}

/** The end reason of a session: `expired` past its lifetime, `unknown` without a row, null while it is open. */
export const readSessionEnd = async (sql: Database, sessionId: string): Promise<string | null> => {
  const [session] = await sql<Array<{ reason: string | null }>>`
    select case when ended_at is null and expires_at <= now() then 'expired' else end_reason end as reason
    from gateway.sessions where id = ${sessionId}`
  return session ? session.reason : 'unknown'
}

/** Whether a session is open; a share lock on its row keeps it open until the transaction ends. */
export const shareOpenSession = async (tx: Tx, sessionId: string): Promise<boolean> => {
  const open = await tx`
    select from gateway.sessions where id = ${sessionId} and ended_at is null and expires_at > now() for share`
  return open.length === 1
}

export type EndedSession = { id: string; reason: string }

/** Sessions that ended within the last `seconds`, but not within the last `untilSeconds`. */
export const readRecentlyEnded = (
  sql: Database,
  seconds: number,
  untilSeconds = 0,
): Promise<EndedSession[]> =>
  sql<EndedSession[]>`
    select id, end_reason as reason from gateway.sessions
    where ended_at > now() - make_interval(secs => ${seconds})
      and ended_at <= now() - make_interval(secs => ${untilSeconds})`

export type OpenSession = {
  id: string
  startedAt: Date
  lastUsedAt: Date
  expiresAt: Date
  device: Buffer | null
}

/** A user's open sessions, newest first (ids are UUIDv7), below the cursor's id where one is given. */
export const listOpenSessions = (
  sql: Database,
  page: { userId: string; before: string | undefined; limit: number },
): Promise<OpenSession[]> => sql<OpenSession[]>`
    select id, started_at as "startedAt", last_used_at as "lastUsedAt",
      least(expires_at, last_used_at + make_interval(days => ${IDLE_DAYS})) as "expiresAt", device
    from gateway.sessions
    where user_id = ${page.userId} and ended_at is null and expires_at > now()
      and last_used_at > now() - make_interval(days => ${IDLE_DAYS})
      ${page.before === undefined ? sql`` : sql`and id < ${page.before}`}
    order by id desc limit ${page.limit}`

/** PIN locks of the last `seconds`, without those of the last `untilSeconds`; oldest first. */
export const readRecentPinLocks = (
  sql: Database,
  seconds: number,
  untilSeconds = 0,
): Promise<Array<{ userId: string; lockedAt: Date }>> => sql<Array<{ userId: string; lockedAt: Date }>>`
  select user_id as "userId", locked_at as "lockedAt" from gateway.pin_locks
  where locked_at > now() - make_interval(secs => ${seconds})
    and locked_at <= now() - make_interval(secs => ${untilSeconds}) order by locked_at`
