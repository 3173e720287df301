import { canonicalSchema } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { writeSchemas } from './sql/schemas.ts'

/**
 * Keeps beside the journal which schema each id in its bytes means, so that a lost registry can be restored. Throws if
 * the registry gives an id to another record than before: it is another registry, or one that was restored wrongly.
 */
export const keepSchemas = async (sql: Database, codec: Pick<Codec, 'schemaIds'>): Promise<void> => {
  const schemas = [...codec.schemaIds].map(([subject, id]) => ({
    ...{ id, subject },
    schema: canonicalSchema(subject),
  }))
  const [other] = await writeSchemas(sql, schemas)
  if (!other) return
  const now = schemas.find(({ id }) => id === other.id)!.subject
  throw new Error(
    `the registry gives id ${other.id} to ${now}, but the journal was written with it as ${other.subject}: restore the registry with its ids (npm run ledger:restore-schemas)`,
  )
}
