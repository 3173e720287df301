import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** The time since which a user's network address is known. Takes as long for an unknown e-mail address. */
export const readFamiliarSince = async (
  sql: Database,
  signIn: { email: string; addressHash: string },
): Promise<Date | undefined> => {
  const [row] = await sql<Array<{ knownSince: Date }>>`
    select f.known_since as "knownSince" from gateway.familiar_addresses f join gateway.users u on u.id = f.user_id
    where u.email = ${signIn.email} and f.address_hash = ${signIn.addressHash}`
  return row?.knownSince
}

/** `anew` resets `known_since` to now, even if the address was known before. */
export const rememberAddress = async (
  sql: Database | Tx,
  known: { userId: string; addressHash: string; anew: boolean },
): Promise<void> => {
  await sql`
    insert into gateway.familiar_addresses (user_id, address_hash) values (${known.userId}, ${known.addressHash})
    on conflict (user_id, address_hash) do update
    set last_used_at = now(), known_since = case when ${known.anew} then now() else familiar_addresses.known_since end`
}
