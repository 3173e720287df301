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

/** Marks an address as known since now, even if it was known before. */
export const rememberAddress = async (
  sql: Database | Tx,
  { userId, addressHash }: { userId: string; addressHash: string },
): Promise<void> => {
  await sql`
    insert into gateway.familiar_addresses (user_id, address_hash) values (${userId}, ${addressHash})
    on conflict (user_id, address_hash) do update set last_used_at = now(), known_since = now()`
}

type Known = { address: boolean; device: boolean; anyDevice: boolean; session: boolean }

/** What was known of the user before a sign-in: the address, the device, any device, any session. From now on all are. */
export const rememberSignIn = async (
  tx: Tx,
  { userId, addressHash, deviceHash }: { userId: string; addressHash: string; deviceHash: string },
): Promise<Known> => {
  const [known] = await tx<[Known]>`
    with address as (
      insert into gateway.familiar_addresses (user_id, address_hash) values (${userId}, ${addressHash})
      on conflict (user_id, address_hash) do update set last_used_at = now()
    ), device as (
      insert into gateway.familiar_devices (user_id, device_hash) values (${userId}, ${deviceHash})
      on conflict (user_id, device_hash) do update set last_used_at = now()
    )
    select
      exists (select from gateway.familiar_addresses where user_id = ${userId} and address_hash = ${addressHash}) as address,
      exists (select from gateway.familiar_devices where user_id = ${userId} and device_hash = ${deviceHash}) as device,
      exists (select from gateway.familiar_devices where user_id = ${userId}) as "anyDevice",
      exists (select from gateway.sessions where user_id = ${userId}) as session`
  return known
}
