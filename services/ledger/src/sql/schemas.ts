import { arrayOf, type Database, INT2, INT4, INT8, TEXT } from '@pennywire/runtime/database.ts'

/** A schema's id in records' bytes, its subject in the registry and its text. */
export type KnownSchema = { id: number; subject: string; schema: string }

/** All schemas that a ledger has seen under an id, in the order of the ids. */
export const readSchemas = (sql: Database): Promise<KnownSchema[]> =>
  sql<KnownSchema[]>`select id, subject, schema from ledger.schemas order by id`

/**
 * Stores which schema each id means, and returns the ids that meant another subject before: with such a registry the
 * journal's events would be read as others.
 */
export const writeSchemas = async (sql: Database, schemas: KnownSchema[]): Promise<KnownSchema[]> => {
  const ids = schemas.map(({ id }) => id)
  const subjects = schemas.map(({ subject }) => subject)
  const texts = schemas.map(({ schema }) => schema)
  await sql`
    insert into ledger.schemas (id, subject, schema)
    select * from unnest(${arrayOf(sql, ids, INT4)}, ${arrayOf(sql, subjects, TEXT)}, ${arrayOf(sql, texts, TEXT)})
    on conflict (id) do nothing`
  return sql<KnownSchema[]>`
    select s.id, s.subject, s.schema from ledger.schemas s
    join unnest(${arrayOf(sql, ids, INT4)}, ${arrayOf(sql, subjects, TEXT)}) as now (id, subject)
      on now.id = s.id and now.subject <> s.subject
    order by s.id`
}

/** The schema ids in the journal's bytes after the given `seq` of each partition, each with its event's type. */
export const readSchemasInUse = (
  sql: Database,
  after: Array<{ partition: number; seq: bigint }>,
): Promise<Array<{ id: number; type: string }>> =>
  sql<Array<{ id: number; type: string }>>`
    select distinct (get_byte(j.bytes, 1)::bigint * 16777216 + get_byte(j.bytes, 2) * 65536 + get_byte(j.bytes, 3) * 256
      + get_byte(j.bytes, 4))::int as id, j.headers::json ->> 'ce_type' as type
    from unnest(
      ${arrayOf(
        sql,
        after.map(({ partition }) => partition),
        INT2,
      )},
      ${arrayOf(
        sql,
        after.map(({ seq }) => seq),
        INT8,
      )}) as from_there (partition, seq)
    join ledger.journal j on j.partition = from_there.partition and j.seq > from_there.seq
    order by 1`
