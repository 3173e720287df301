import type { Database } from '@pennywire/runtime/database.ts'

/** Since when the records of a topic are news, in milliseconds; of topics that were read from the first version on: none. */
export const readTopicStarts = async (sql: Database): Promise<Map<string, number>> => {
  const rows = await sql<{ topic: string; since: Date }[]>`select topic, since from notifier.topic_starts`
  return new Map(rows.map(({ topic, since }) => [topic, since.getTime()]))
}
