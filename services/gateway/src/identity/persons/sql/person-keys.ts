import { BYTEA, type Database, TEXT, type Tx, UUID } from '@pennywire/runtime/database.ts'

export type WrappedKey = { userId: string; wrappedKey: Buffer; kekId: string }

export const insertPersonKey = async (tx: Tx, key: WrappedKey): Promise<void> => {
  await tx`
    insert into gateway.person_keys (user_id, wrapped_key, kek_id)
    values (${key.userId}, ${key.wrappedKey}, ${key.kekId})`
}

/** The keys of those users that still have one. */
export const readPersonKeys = (sql: Database, userIds: string[]): Promise<WrappedKey[]> =>
  sql<WrappedKey[]>`
    select user_id as "userId", wrapped_key as "wrappedKey", kek_id as "kekId"
    from gateway.person_keys where user_id = any(${userIds}::uuid[])`

/** Keys wrapped by another key-encryption key, ordered by user. */
export const readWrappedByOthers = (
  sql: Database,
  { kekId, after, limit }: { kekId: string; after: string | undefined; limit: number },
): Promise<WrappedKey[]> =>
  sql<WrappedKey[]>`
    select user_id as "userId", wrapped_key as "wrappedKey", kek_id as "kekId"
    from gateway.person_keys
    where kek_id <> ${kekId} and user_id > coalesce(${after ?? null}::uuid, '00000000-0000-0000-0000-000000000000')
    order by user_id limit ${limit}`

/** Stores the same keys under another wrapping; a destroyed key stays destroyed. Returns the number of stored keys. */
export const rewrapPersonKeys = async (sql: Database, keys: WrappedKey[]): Promise<number> => {
  const { count } = await sql`
    update gateway.person_keys p set wrapped_key = n.wrapped_key, kek_id = n.kek_id
    from unnest(
      ${sql.array(
        keys.map(({ userId }) => userId),
        UUID,
      )},
      ${sql.array(keys.map(({ wrappedKey }) => wrappedKey) as never[], BYTEA)},
      ${sql.array(
        keys.map(({ kekId }) => kekId),
        TEXT,
      )}
    ) as n (user_id, wrapped_key, kek_id)
    where p.user_id = n.user_id`
  return count
}
