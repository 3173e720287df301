import type { Database, Tx } from '@pennywire/runtime/database.ts'

/** Why no mail goes to an address any more. */
export const MAIL_BLOCK_REASONS = ['bounced', 'complained'] as const
export type MailBlockReason = (typeof MAIL_BLOCK_REASONS)[number]
export type MailBlock = { at: Date; reason: MailBlockReason }

/** Blocks mail to an address and returns its user; undefined if no user has it or it is blocked already. */
export const setMailBlock = async (
  tx: Tx,
  email: string,
  reason: MailBlockReason,
): Promise<string | undefined> => {
  const [user] = await tx<[{ id: string }?]>`
    update gateway.users set mail_blocked_at = now(), mail_block_reason = ${reason}
    where email = ${email} and mail_blocked_at is null returning id`
  return user?.id
}

/** Returns whether mail to the user was blocked before. */
export const clearMailBlock = async (tx: Tx, userId: string): Promise<boolean> => {
  const { count } = await tx`
    update gateway.users set mail_blocked_at = null, mail_block_reason = null
    where id = ${userId} and mail_blocked_at is not null`
  return count === 1
}

export const readMailBlock = async (sql: Database, userId: string): Promise<MailBlock | null> => {
  const [block] = await sql<[MailBlock?]>`
    select mail_blocked_at as at, mail_block_reason as reason
    from gateway.users where id = ${userId} and mail_blocked_at is not null`
  return block ?? null
}
