import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Since when the user with this e-mail address is known at this network address. As fast where there is no such user. */
export const readFamiliarSince = async (
  sql: Database,
  signIn: { email: string; addressHash: string },
): Promise<Date | undefined> => {
  const [row] = await sql<Array<{ knownSince: Date }>>`
    select f.known_since as "knownSince" from gateway.familiar_addresses f join gateway.users u on u.id = f.user_id
    where u.email = ${signIn.email} and f.address_hash = ${signIn.addressHash}`
  return row?.knownSince
}

/** `anew`: known since now, also where it was known before. */
export const rememberAddress = async (
  sql: Database | Tx,
  known: { userId: string; addressHash: string; anew: boolean },
): Promise<void> => {
  await sql`
    insert into gateway.familiar_addresses (user_id, address_hash) values (${known.userId}, ${known.addressHash})
    on conflict (user_id, address_hash) do update
    set last_used_at = now(), known_since = case when ${known.anew} then now() else familiar_addresses.known_since end`
}
