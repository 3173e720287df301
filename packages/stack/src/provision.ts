import postgres from 'postgres'
import { CLIENT_ROLES, OWNER, READER_ROLES, type Role, SERVICE_ROLES } from './database-passwords.ts'

export const DATABASE = 'pennywire'

/** Maximum connections of one role, so that no service takes all of the server's (`max_connections`, 200). */
const CONNECTIONS = { owner: 10, service: 60, reader: 40 }
/**
 * Defaults for sessions that set no time-out, such as a person's: pools and commands have deadlines of their own. The
 * owner has none, because a migration may take long.
 */
const SESSION_TIMEOUTS = ['statement_timeout', 'idle_in_transaction_session_timeout']
const SESSION_TIMEOUT = '60s'

const connectionsOf = (role: Role): number => {
  if (role === OWNER) return CONNECTIONS.owner
  return (READER_ROLES as readonly string[]).includes(role) ? CONNECTIONS.reader : CONNECTIONS.service
}

/**
 * Revokes large objects from `public` in the connected database, where Postgres grants them by default: any role could
 * fill the disk with them. Superusers keep them.
 */
const revokeLargeObjects = async (sql: postgres.Sql): Promise<void> => {
  const functions = await sql<{ name: string }[]>`
    select oid::regprocedure::text as name from pg_proc
    where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^lo_|^lo(read|write)$'`
  for (const { name } of functions) await sql.unsafe(`revoke execute on function ${name} from public`)
}

/**
 * Creates the database and its roles if they are missing; may run again at any time. The owner runs the migrations and
 * alone may create schemas; each service's migrations grant the rights of the other roles. The server's other databases
 * are closed to all of them.
 */
export const provision = async (superuserUrl: string, passwords: Record<Role, string>): Promise<void> => {
  const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} })
  try {
    const existing = await sql<{ name: string }[]>`select rolname as name from pg_roles`
    const roles: Role[] = [OWNER, ...SERVICE_ROLES, ...READER_ROLES, ...CLIENT_ROLES]
    for (const role of roles) {
      const verb = existing.some(({ name }) => name === role) ? 'alter' : 'create'
      // Role statements take no parameters; the names are constants and the passwords hexadecimal.
      await sql.unsafe(
        `${verb} role ${role} login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
         connection limit ${connectionsOf(role)} password '${passwords[role]}'`,
      )
      if (role === OWNER) continue
      for (const timeout of SESSION_TIMEOUTS)
        await sql.unsafe(`alter role ${role} set ${timeout} = '${SESSION_TIMEOUT}'`)
    }
    const [database] = await sql`select 1 from pg_database where datname = ${DATABASE}`
    if (!database) await sql.unsafe(`create database ${DATABASE} owner ${OWNER}`)
    await sql.unsafe(`revoke all on database ${DATABASE}, postgres, template1 from public`)
    await sql.unsafe(`grant connect on database ${DATABASE} to ${roles.join(', ')}`)
    // The ledger measures the age of the oldest snapshot of other sessions: dead row versions make its batches slow.
    await sql.unsafe('grant pg_read_all_stats to ledger')
  } finally {
    await sql.end()
  }
  const own = postgres(superuserUrl, { database: DATABASE, max: 1, onnotice: () => {} })
  try {
    await revokeLargeObjects(own)
  } finally {
    await own.end()
  }
}
