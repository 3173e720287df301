import type postgres from 'postgres'

// biome-ignore lint/suspicious/noExplicitAny: a client of the team, with types of its own for int8
export type Sql = postgres.Sql<any>
// biome-ignore lint/suspicious/noExplicitAny: the same
export type Tx = postgres.TransactionSql<any>

/** A schema of one consumer. Its name becomes part of statements, so it is checked. */
export const checkedSchema = (schema: string): string => {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema))
    throw new Error(`the schema ${JSON.stringify(schema)} must be of a-z, 0-9 and _`)
  return schema
}

/**
 * Makes the kit's tables in a schema of their own, which belongs to one consumer; run again it changes nothing. Run it
 * where your migrations run, as the role that may create.
 */
export const migrate = async (sql: Sql, schema: string): Promise<void> => {
  const table = (name: string) => sql(`${checkedSchema(schema)}.${name}`)
  await sql.begin(async tx => {
    // Two instances that start at once would both create.
    await tx`select pg_advisory_xact_lock(hashtextextended(${`pennywire-consumer ${schema}`}, 0))`
    await tx`create schema if not exists ${sql(schema)}`
    await tx`
      create table if not exists ${table('positions')} (
        topic text not null,
        partition integer not null,
        next_offset bigint not null,
        primary key (topic, partition)
      )`
    await tx`
      create table if not exists ${table('inbox')} (
        id text primary key,
        topic text not null,
        partition integer not null,
        record_offset bigint not null,
        handled_at timestamptz not null default now()
      )`
    await tx`create index if not exists inbox_places on ${table('inbox')} (topic, partition, record_offset)`
    await tx`
      create table if not exists ${table('dead_letters')} (
        topic text not null,
        partition integer not null,
        record_offset bigint not null,
        key bytea,
        value bytea,
        headers jsonb not null,
        published_at timestamptz not null,
        reason text not null,
        set_aside_at timestamptz not null default now(),
        primary key (topic, partition, record_offset)
      )`
    await tx`
      create table if not exists ${table('entries')} (
        wallet_id uuid not null,
        sequence bigint not null,
        currency text not null,
        balance_minor bigint not null,
        primary key (wallet_id, sequence)
      )`
  })
}
