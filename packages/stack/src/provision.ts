import postgres from 'postgres'
import { OWNER, READER_ROLES, type Role, SERVICE_ROLES } from './database-passwords.ts'

export const DATABASE = 'pennywire'

/**
 * Creates the database and its roles where they are absent; may run again at any time. The owner runs the
 * migrations and alone may create schemas; what the others may do is granted by each service's migrations.
 */
export const provision = async (superuserUrl: string, passwords: Record<Role, string>): Promise<void> => {
  const sql = postgres(superuserUrl, { max: 1, onnotice: () => {} })
  try {
    const existing = await sql<{ name: string }[]>`select rolname as name from pg_roles`
    const roles: Role[] = [OWNER, ...SERVICE_ROLES, ...READER_ROLES]
    for (const role of roles) {
      const verb = existing.some(({ name }) => name === role) ? 'alter' : 'create'
      // Role statements take no parameters; the names are constants and the passwords hexadecimal.
      await sql.unsafe(`${verb} role ${role} login nosuperuser password '${passwords[role]}'`)
    }
    const [database] = await sql`select 1 from pg_database where datname = ${DATABASE}`
    if (!database) await sql.unsafe(`create database ${DATABASE} owner ${OWNER}`)
    await sql.unsafe(`revoke all on database ${DATABASE} from public`)
    await sql.unsafe(`grant connect on database ${DATABASE} to ${roles.join(', ')}`)
  } finally {
    await sql.end()
  }
}
