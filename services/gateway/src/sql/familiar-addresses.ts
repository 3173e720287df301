import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Whether the user with this e-mail address is known at this network address. As fast where there is no such user. */
export const isFamiliar = async (
  sql: Database,
  asked: { email: string; addressHash: string },
): Promise<boolean> => {
  const [row] = await sql<[{ familiar: boolean }]>`
    select exists (
      select from gateway.familiar_addresses f join gateway.users u on u.id = f.user_id
      where u.email = ${asked.email} and f.address_hash = ${asked.addressHash}) as familiar`
  return row.familiar
}

export const rememberAddress = async (
  sql: Database | Tx,
  known: { userId: string; addressHash: string },
): Promise<void> => {
  await sql`
    insert into gateway.familiar_addresses (user_id, address_hash) values (${known.userId}, ${known.addressHash})
    on conflict (user_id, address_hash) do update set last_used_at = now()`
}
