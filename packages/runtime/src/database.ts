import { readFileSync } from 'node:fs'
import postgres from 'postgres'

/** The driver with int8 read and written as bigint: without this the types refuse bigint amounts. */
export type Database = postgres.Sql<{ bigint: bigint }>
/** One SQL transaction. */
export type Tx = postgres.TransactionSql<{ bigint: bigint }>

/** Postgres' ids of types, for `sql.array(values, TYPE)` in set-based statements. */
export const UUID = 2950
export const TEXT = 25
export const INT2 = 21
export const INT4 = 23
export const INT8 = 20
export const BYTEA = 17
export const TIMESTAMPTZ = 1184

const ARRAY_OF = {
  [UUID]: 2951,
  [TEXT]: 1009,
  [INT2]: 1005,
  [INT4]: 1007,
  [INT8]: 1016,
  [BYTEA]: 1001,
  [TIMESTAMPTZ]: 1185,
}

/** How a value of each type stands in the text of an array. Only text can hold what must be escaped. */
const elementText = {
  [UUID]: (id: string) => id,
  [TEXT]: (text: string) => `"${/["\\]/.test(text) ? text.replace(/["\\]/g, '\\$&') : text}"`,
  [INT2]: String,
  [INT4]: String,
  [INT8]: String,
  [BYTEA]: (bytes: Buffer) => `"\\\\x${bytes.toString('hex')}"`,
  [TIMESTAMPTZ]: (moment: Date) => `"${moment.toISOString()}"`,
}
export type ElementType = keyof typeof ARRAY_OF
export type Element = string | number | bigint | Buffer | Date | null

/**
 * A column of values for a set-based statement: `sql.array` for batches of hundreds of rows. The driver asks of each
 * element what it is and escapes it twice; here the type is known, and ids must be UUIDs already.
 */
export const arrayOf = (
  sql: Database | Tx,
  values: Element[],
  type: ElementType,
): postgres.Parameter<string> => {
  const textOf = elementText[type] as (value: Element) => string
  let text = ''
  for (const value of values) text += `${text === '' ? '' : ','}${value === null ? 'null' : textOf(value)}`
  return sql.typed(`{${text}}`, ARRAY_OF[type])
}

/**
 * A database URL for the driver, and its TLS: `sslmode` and `sslrootcert` (a PEM file) as libpq has them. `verify-full`
 * holds the server to its certificate and name; `require` only encrypts.
 */
export const databaseConnection = (text: string): { url: string; ssl?: object } => {
  const url = new URL(text)
  const mode = url.searchParams.get('sslmode')
  const authority = url.searchParams.get('sslrootcert')
  if (mode !== 'verify-full') return { url: text }
  for (const name of ['sslmode', 'sslrootcert']) url.searchParams.delete(name)
  const host = url.hostname.replace(/^\[|\]$/g, '')
  return {
    url: url.href,
    ssl: { host, ...(authority === null ? {} : { ca: readFileSync(authority, 'utf8') }) },
  }
}

/** Opens a pool at a URL, see databaseConnection. `applicationName` is what Postgres' own views show. */
export const openDatabase = (
  address: string,
  options: { applicationName: string; maxConnections?: number; connection?: Record<string, string | number> },
): Database => {
  const { url, ...tls } = databaseConnection(address)
  const sql = postgres(url, {
    ...tls,
    max: options.maxConnections ?? 10,
    types: { bigint: postgres.BigInt },
    connection: { application_name: options.applicationName, ...options.connection },
    connect_timeout: 5,
    // Seconds before a connection that failed is tried again. The driver's own rule goes up to 20, and whoever needs the
    // database waits so long after it is back.
    backoff: failures => Math.min(0.05 * 2 ** failures, 1),
    // Postgres' notices (such as "already exists, skipping") are for migrations, not for logs.
    onnotice: () => {},
  })
  // The driver learns the array types from its first connection, but `sql.array()` wants them before it, in the very
  // first statement. These have never changed since Postgres 8.3.
  Object.assign(
    (sql.options as unknown as { shared: { typeArrayMap: object } }).shared.typeArrayMap,
    ARRAY_OF,
  )
  return sql
}

/** Whether an error is Postgres' "unique violation", for the named constraint or any. */
export const isUniqueViolation = (error: unknown, constraint?: string): boolean =>
  error instanceof postgres.PostgresError &&
  error.code === '23505' &&
  (constraint === undefined || error.constraint_name === constraint)

const AWAY = new Set([
  ...['CONNECTION_CLOSED', 'CONNECTION_DESTROYED', 'CONNECTION_ENDED', 'CONNECT_TIMEOUT'],
  ...['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT'],
  // Postgres' own: shutting down, crashed, starting up, too many connections, disk full.
  ...['57P01', '57P02', '57P03', '53300', '53100'],
])

/** Whether an error means that the database cannot be reached now: waiting may help, and nobody is at fault. */
export const isDatabaseAway = (error: unknown): boolean =>
  AWAY.has(String((error as { code?: unknown })?.code))
