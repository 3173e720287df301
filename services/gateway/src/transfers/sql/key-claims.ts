import { BYTEA, type Database, type Tx, UUID } from '@pennywire/runtime/database.ts'

/** A request that is about to leave the gateway under an idempotency key. */
export type KeyClaim = {
  /** The id of the transfer or the command, derived from the key and its user. */
  id: string
  fingerprint: Buffer
  /** The user whose account must be active; null: none. */
  recipientId: string | null
}
export type KeyHolder = 'own' | 'another' | 'recipient-unavailable'

/**
 * Claims keys for requests, across all routes that move money: the first request gets the key, and so does each repeat
 * of it. Of two different simultaneous requests one gets it, and nothing is sent for the other. No key is claimed anew
 * for a recipient whose account is deactivated. One statement for all.
 */
export const claimKeys = async (sql: Database | Tx, claims: KeyClaim[]): Promise<KeyHolder[]> => {
  const first = new Map<string, KeyClaim>()
  for (const claim of claims) if (!first.has(claim.id)) first.set(claim.id, claim)
  // In id order: the statements of two gateways cannot wait for each other.
  const sorted = [...first.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
  const rows = await sql<{ id: string; unavailable: boolean; claimed: Buffer | null; paid: Buffer | null }[]>`
    with asked as (
      select q.id, q.fingerprint, u.disabled_at is not null
        and not exists (select 1 from gateway.key_claims k where k.id = q.id) as unavailable
      from unnest(${sql.array(
        sorted.map(({ id }) => id),
        UUID,
      )}, ${sql.array(sorted.map(({ fingerprint }) => fingerprint) as never[], BYTEA)},
        ${sql.array(sorted.map(({ recipientId }) => recipientId) as string[], UUID)})
        with ordinality as q (id, fingerprint, recipient_id, at)
      left join gateway.users u on u.id = q.recipient_id
      order by q.at),
    claimed as (
      insert into gateway.key_claims (id, fingerprint) select id, fingerprint from asked where not unavailable
      on conflict (id) do update set claimed_at = excluded.claimed_at
      returning id, fingerprint)
    select a.id, a.unavailable, c.fingerprint as claimed, p.fingerprint as paid
    from asked a left join claimed c on c.id = a.id left join gateway.payments p on p.id = a.id`
  const found = new Map(rows.map(row => [row.id, row]))
  return claims.map(({ id, fingerprint }) => {
    const { unavailable, claimed, paid } = found.get(id)!
    if ([claimed, paid].some(holder => holder && !holder.equals(fingerprint))) return 'another'
    return unavailable ? 'recipient-unavailable' : 'own'
  })
}
