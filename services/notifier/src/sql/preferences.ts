import type { Language } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'

/** How a user wants mails: the language, English where they chose none, and receipts as files. */
export type MailPreferences = { language: Language; attachReceipts: boolean }

export const readMailPreferences = async (sql: Database, userId: string): Promise<MailPreferences> => {
  const [chosen] = await sql<[{ language: Language | null; attachReceipts: boolean }?]>`
    select language, attach_receipts as "attachReceipts" from notifier.preferences where user_id = ${userId}`
  return { language: chosen?.language ?? 'en', attachReceipts: chosen?.attachReceipts ?? false }
}
