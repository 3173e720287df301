import { readFileSync } from 'node:fs'
import postgres from 'postgres'
import { hostsOf } from './database-url.ts'

/** The driver with int8 read and written as bigint: without this the types refuse bigint amounts. */
export type Database = postgres.Sql<{ bigint: bigint }>
/** One SQL transaction. */
export type Tx = postgres.TransactionSql<{ bigint: bigint }>

/** Postgres' type OIDs, for `sql.array(values, TYPE)` in set-based statements. */
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

/** Writes a value of each type as an element of an array's text. Only text may contain characters to be escaped. */
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
 * A column of values for a set-based statement: replaces `sql.array` for batches of hundreds of rows. The driver infers
 * each element's type and escapes it twice; here the type is given, and ids must be UUIDs already.
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
 * Converts a database URL into the driver's URL and TLS options: `sslmode` and `sslrootcert` (a PEM file) as in libpq.
 * `verify-full` verifies the server's certificate and name; `require` only encrypts.
 */
const databaseConnection = (text: string): { url: string; ssl?: object } => {
  const [address, query] = text.split('?', 2) as [string, string?]
  const parameters = new URLSearchParams(query)
  const authority = parameters.get('sslrootcert')
  if (parameters.get('sslmode') !== 'verify-full') return { url: text }
  for (const name of ['sslmode', 'sslrootcert']) parameters.delete(name)
  const hosts = hostsOf(address)
  // The driver passes the name of its host to TLS, except where the host is an IP address.
  const host = hosts[0]?.name
  return {
    url: parameters.size > 0 ? `${address}?${parameters}` : address,
    ssl: {
      ...(hosts.length === 1 ? { host } : {}),
      ...(authority === null ? {} : { ca: readFileSync(authority, 'utf8') }),
    },
  }
}

/**
 * Maximum milliseconds for a statement, including its wait for a connection: then its connection is closed, because a
 * server may be silent for ever. A transaction has twice that. Postgres itself cancels a statement a second sooner.
 */
const DEADLINE_MS = 6_000
/** For commands that read or change whole tables: migrations, checks of the books and of the audit's chains. */
export const LONG_DEADLINE_MS = 3_600_000
const SERVER_IS_SOONER_MS = 1_000
/** Maximum seconds to connect, for all hosts of a URL together. */
const CONNECT_SECONDS = 5

/**
 * Opens a pool at a URL, see databaseConnection. `applicationName` is shown in Postgres' own views. If the URL names
 * several hosts, the first that takes writes is used, and left once it refuses them (25006); with `connection` settings
 * that forbid writes, the primary is used.
 */
export const openDatabase = (
  address: string,
  options: {
    applicationName: string
    maxConnections?: number
    connection?: Record<string, string | number>
    /** Milliseconds for one statement, including its wait for a connection; a transaction has twice that. */
    deadlineMs?: number
  },
): Database => {
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS
  const { url, ...tls } = databaseConnection(address)
  const hosts = hostsOf(url).length
  const deadlines = { query_deadline: deadlineMs / 1_000, transaction_deadline: (2 * deadlineMs) / 1_000 }
  const sql = postgres(url, {
    ...tls,
    ...deadlines,
    max: options.maxConnections ?? 10,
    types: { bigint: postgres.BigInt },
    connection: {
      application_name: options.applicationName,
      statement_timeout: deadlineMs - SERVER_IS_SOONER_MS,
      // A client that vanishes without closing its connection must not keep its locks.
      idle_in_transaction_session_timeout: 2 * deadlineMs,
      tcp_keepalives_idle: 30,
      tcp_keepalives_interval: 5,
      tcp_keepalives_count: 3,
      ...options.connection,
    },
    connect_timeout: CONNECT_SECONDS / hosts,
    keep_alive: 10,
    ...(hosts > 1 && {
      target_session_attrs:
        options.connection?.default_transaction_read_only === 'on'
          ? ('primary' as const)
          : ('read-write' as const),
    }),
    // Seconds before a failed connection is tried again. The driver's default grows to 20, and a request would wait
    // that long after the database is back.
    backoff: failures => Math.min(0.05 * 2 ** failures, 1),
    // Postgres' notices (such as "already exists, skipping") are for migrations, not for logs.
    onnotice: () => {},
  })
  // The driver reads the array types over its first connection, but `sql.array()` needs them before, in the very first
  // statement. These have never changed since Postgres 8.3.
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

/** Error codes of the driver itself. */
const DRIVER_AWAY = new Set([
  ...['CONNECTION_CLOSED', 'CONNECTION_DESTROYED', 'CONNECTION_ENDED', 'CONNECT_TIMEOUT'],
  ...['QUERY_TIMEOUT', 'TRANSACTION_TIMEOUT', 'UNSUITABLE_SERVER'],
])
/**
 * SQLSTATEs of a server that cannot serve now, by class or in full: connections (08), rollbacks because of other
 * transactions (40), resources (53), operators and shutdown (57), its disk (58); read-only since it became a standby;
 * time-outs.
 */
const SERVER_AWAY = /^(08|40|53|57|58)|^(25006|25P03|25P04|55P03)$/

/**
 * Whether an error means that the database cannot be reached or cannot serve now: waiting may help, and no request is
 * at fault. Only the driver's own errors: its network errors differ from those of others (a client that hung up) by the
 * query that the driver adds to them.
 */
export const isDatabaseAway = (error: unknown): boolean => {
  if (!(error instanceof Error)) return false
  const { code, syscall } = error as { code?: unknown; syscall?: unknown }
  if (error instanceof postgres.PostgresError) return SERVER_AWAY.test(error.code)
  return DRIVER_AWAY.has(String(code)) || ('query' in error && typeof syscall === 'string')
}

/** Queries the database; rejects if it cannot be reached. For readiness. */
export const ping = async (sql: Database): Promise<void> => {
  await sql`select 1`
}
