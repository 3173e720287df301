import type { Language } from '@pennywire/messages/render-notice.ts'
import type { Database } from '@pennywire/runtime/database.ts'

/** The language that a user chose; English where they chose none. */
export const readLanguage = async (sql: Database, userId: string): Promise<Language> => {
  const [chosen] = await sql<[{ language: Language | null }?]>`
    select language from notifier.preferences where user_id = ${userId}`
  return chosen?.language ?? 'en'
}
