import type { Database } from '@pennywire/runtime/database.ts'

/** Why no mail goes to an address any more. */
export const MAIL_BLOCK_REASONS = ['bounced', 'complained'] as const
export type MailBlockReason = (typeof MAIL_BLOCK_REASONS)[number]
export type MailBlock = { at: Date; reason: MailBlockReason }

/** Blocks mail to an address, where somebody has it; the first reason stays. */
export const blockMail = async (sql: Database, email: string, reason: MailBlockReason): Promise<void> => {
  await sql`
    update gateway.users set mail_blocked_at = now(), mail_block_reason = ${reason}
    where email = ${email} and mail_blocked_at is null`
}

/** Lets mail go to a user's address again. False where there is no such user. */
export const unblockMail = async (sql: Database, userId: string): Promise<boolean> => {
  const { count } = await sql`
    update gateway.users set mail_blocked_at = null, mail_block_reason = null where id = ${userId}`
  return count === 1
}

export const readMailBlock = async (sql: Database, userId: string): Promise<MailBlock | null> => {
  const [block] = await sql<[MailBlock?]>`
    select mail_blocked_at as at, mail_block_reason as reason
    from gateway.users where id = ${userId} and mail_blocked_at is not null`
  return block ?? null
}
