import type { Database, Tx } from '@pennywire/runtime/database.ts'

export type LinkedIdentity = { id: string; issuer: string; subject: string; linkedAt: Date }

/** Links an identity; false if it is already linked to any user. */
export const insertExternalIdentity = async (
  tx: Tx,
  link: { id: string; userId: string; issuer: string; subject: string },
): Promise<boolean> => {
  const { count } = await tx`
    insert into gateway.external_identities (id, user_id, issuer, subject)
    values (${link.id}, ${link.userId}, ${link.issuer}, ${link.subject})
    on conflict (issuer, subject) do nothing`
  return count === 1
}

/** Marks another issuer's token as spent, by its SHA-256, until it has expired; false if it was spent before. */
export const spendExternalToken = async (
  sql: Database,
  token: { hash: Buffer; expiresAt: Date },
): Promise<boolean> => {
  const { count } = await sql`
    insert into gateway.spent_external_tokens (hash, expires_at) values (${token.hash}, ${token.expiresAt})
    on conflict do nothing`
  return count === 1
}

export const countExternalIdentities = async (tx: Tx, userId: string): Promise<number> => {
  const [row] = await tx<[{ count: number }]>`
    select count(*)::int as count from gateway.external_identities where user_id = ${userId}`
  return row.count
}

export const listExternalIdentities = (sql: Database, userId: string): Promise<LinkedIdentity[]> =>
  sql<LinkedIdentity[]>`
    select id, issuer, subject, linked_at as "linkedAt" from gateway.external_identities
    where user_id = ${userId} order by id`

/** Deletes a link of the user; returns its issuer, or undefined if the user has no such link. */
export const deleteExternalIdentity = async (
  tx: Tx,
  link: { id: string; userId: string },
): Promise<string | undefined> => {
  const [deleted] = await tx<Array<{ issuer: string }>>`
    delete from gateway.external_identities where id = ${link.id} and user_id = ${link.userId} returning issuer`
  return deleted?.issuer
}
