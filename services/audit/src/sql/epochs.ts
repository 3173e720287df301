import type { Database } from '@pennywire/runtime/database.ts'

/** The current epoch of each topic that has had more than one. */
export const loadEpochs = async (sql: Database): Promise<Map<string, number>> => {
  const rows = await sql<Array<{ topic: string; epoch: number }>>`
    select topic, max(epoch) as epoch from audit.epochs group by topic`
  return new Map(rows.map(row => [row.topic, row.epoch]))
}

/** Begins a topic's next epoch and returns its number. Only the owner's role may. */
export const insertNextEpoch = async (sql: Database, topic: string, reason: string): Promise<number> => {
  const [row] = await sql<[{ epoch: number }]>`
    insert into audit.epochs (topic, epoch, reason)
    select ${topic}, coalesce(max(epoch), 0) + 1, ${reason} from audit.epochs where topic = ${topic}
    returning epoch`
  return row.epoch
}
