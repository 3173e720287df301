import type { Database, Tx } from '@pennywire/runtime/database.ts'

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
