import postgres from 'postgres'

/** The driver with int8 read and written as bigint: without this the types refuse bigint amounts. */
export type Database = postgres.Sql<{ bigint: bigint }>
/** One SQL transaction. */
export type Tx = postgres.TransactionSql<{ bigint: bigint }>

/** Opens a pool. `applicationName` is what Postgres' own views show. */
export const openDatabase = (
  url: string,
  options: { applicationName: string; maxConnections?: number; connection?: Record<string, string | number> },
): Database =>
  postgres(url, {
    max: options.maxConnections ?? 10,
    types: { bigint: postgres.BigInt },
    connection: { application_name: options.applicationName, ...options.connection },
    connect_timeout: 5,
    // Postgres' notices (such as "already exists, skipping") are for migrations, not for logs.
    onnotice: () => {},
  })

/** Whether an error is Postgres' "unique violation", for the named constraint or any. */
export const isUniqueViolation = (error: unknown, constraint?: string): boolean =>
  error instanceof postgres.PostgresError &&
  error.code === '23505' &&
  (constraint === undefined || error.constraint_name === constraint)
