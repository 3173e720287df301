import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** End reason of the old key of a rotation. Every other reason is a revocation. */
const ROTATED = 'rotated'

export type ApiKeyState = 'active' | 'expired' | 'revoked' | 'replaced'

export type NewApiKey = {
  id: string
  userId: string
  name: Buffer
  prefix: string
  secretHash: Buffer
  scopes: string[]
  /** Major units, as a decimal string. */
  maxAmount: string | null
  requestsPerMinute: number | null
  lifeSeconds: number
  replaces: string | null
}

export type StoredApiKey = {
  id: string
  userId: string
  name: Buffer
  prefix: string
  scopes: string[]
  maxAmount: string | null
  requestsPerMinute: number | null
  state: ApiKeyState
  createdAt: Date
  expiresAt: Date
  lastUsedAt: Date | null
  /** In the future during the overlap of a rotation. */
  endedAt: Date | null
  replaces: string | null
  lifeSeconds: number
}

const state = (sql: Database | Tx) => sql`
  case
    when k.ended_at <= clock_timestamp() then case k.end_reason when ${ROTATED} then 'replaced' else 'revoked' end
    when k.expires_at <= clock_timestamp() then 'expired'
    else 'active'
  end`

const columns = (sql: Database | Tx) => sql`
  k.id, k.user_id as "userId", k.name, k.prefix, k.scopes, k.max_amount::text as "maxAmount",
  k.requests_per_minute as "requestsPerMinute", ${state(sql)} as state, k.created_at as "createdAt",
  k.expires_at as "expiresAt", k.last_used_at as "lastUsedAt", k.ended_at as "endedAt", k.replaces,
  extract(epoch from k.expires_at - k.created_at)::float8 as "lifeSeconds"`

export const insertApiKey = async (tx: Tx, key: NewApiKey): Promise<StoredApiKey> => {
  const [stored] = await tx<StoredApiKey[]>`
    insert into gateway.api_keys as k
      (id, user_id, name, prefix, secret_hash, scopes, max_amount, requests_per_minute, expires_at, replaces)
    values (${key.id}, ${key.userId}, ${key.name}, ${key.prefix}, ${key.secretHash}, ${key.scopes}, ${key.maxAmount},
      ${key.requestsPerMinute}, now() + make_interval(secs => ${key.lifeSeconds}), ${key.replaces})
    returning ${columns(tx)}`
  return stored!
}

/** The number of a user's valid keys: `lasting` ones, and `ending` ones in the overlap of a rotation. */
export const countLiveApiKeys = async (
  tx: Tx,
  userId: string,
): Promise<{ lasting: number; ending: number }> => {
  const [counts] = await tx<[{ lasting: number; ending: number }]>`
    select count(*) filter (where ended_at is null)::int as lasting,
      count(*) filter (where ended_at is not null)::int as ending
    from gateway.api_keys
    where user_id = ${userId} and expires_at > now() and (ended_at is null or ended_at > now())`
  return counts
}

/** A key presented with a request, and whether its user is disabled. */
export type OfferedApiKey = Pick<
  StoredApiKey,
  'id' | 'userId' | 'scopes' | 'maxAmount' | 'requestsPerMinute' | 'state' | 'createdAt'
> & { userDisabled: boolean }

export const findApiKey = async (sql: Database, secretHash: Buffer): Promise<OfferedApiKey | undefined> => {
  const [key] = await sql<OfferedApiKey[]>`
    select k.id, k.user_id as "userId", k.scopes, k.max_amount::text as "maxAmount",
      k.requests_per_minute as "requestsPerMinute", ${state(sql)} as state, k.created_at as "createdAt",
      u.disabled_at is not null as "userDisabled"
    from gateway.api_keys k join gateway.users u on u.id = k.user_id
    where k.secret_hash = ${secretHash}`
  return key
}

export const readApiKey = async (
  sql: Database | Tx,
  userId: string,
  id: string,
): Promise<StoredApiKey | undefined> => {
  const [key] = await sql<StoredApiKey[]>`
    select ${columns(sql)} from gateway.api_keys k where k.id = ${id} and k.user_id = ${userId}`
  return key
}

/** A user's keys, ended ones too, newest first (ids are UUIDv7), below the cursor's id where one is given. */
export const listApiKeys = (
  sql: Database,
  page: { userId: string; before: string | undefined; limit: number },
): Promise<StoredApiKey[]> => sql<StoredApiKey[]>`
  select ${columns(sql)} from gateway.api_keys k
  where k.user_id = ${page.userId} ${page.before === undefined ? sql`` : sql`and k.id < ${page.before}`}
  order by k.id desc limit ${page.limit}`

/** Ends a key after `overlapSeconds`, at the latest at its expiry; returns the end, or undefined if it had ended. */
export const endRotatedApiKey = async (
  tx: Tx,
  key: { userId: string; id: string; overlapSeconds: number },
): Promise<Date | undefined> => {
  const [ended] = await tx<Array<{ endedAt: Date }>>`
    update gateway.api_keys
    set ended_at = least(expires_at, now() + make_interval(secs => ${key.overlapSeconds})), end_reason = ${ROTATED}
    where id = ${key.id} and user_id = ${key.userId} and ended_at is null and expires_at > now()
    returning ended_at as "endedAt"`
  return ended?.endedAt
}

/** Ends all valid keys of a user at once, or one of them; returns the ids of the ended keys. */
export const revokeApiKeys = async (
  tx: Tx,
  keys: { userId: string; id: string | null; reason: string },
): Promise<string[]> => {
  const revoked = await tx<Array<{ id: string }>>`
    update gateway.api_keys set ended_at = now(), end_reason = ${keys.reason}
    where user_id = ${keys.userId} and (ended_at is null or ended_at > now()) and expires_at > now()
      ${keys.id === null ? tx`` : tx`and id = ${keys.id}`}
    returning id`
  return revoked.map(({ id }) => id)
}

/** Records the use of a key, unless one was recorded within the minute. */
export const touchApiKey = async (sql: Database, id: string): Promise<void> => {
  await sql`
    update gateway.api_keys set last_used_at = now()
    where id = ${id} and (last_used_at is null or last_used_at < now() - interval '1 minute')`
}
