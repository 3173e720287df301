import { randomBytes } from 'node:crypto'
import { migrate } from '@pennywire/runtime/migrate.ts'
import postgres from 'postgres'
import { OWNER, type Role } from './database-passwords.ts'

export type TestDatabase = {
  name: string
  /** The database's URL; statements run as the given role, without one as the superuser. */
  url: (role?: Role) => string
  drop: () => Promise<void>
}

/**
 * For tests: a database of its own on a running server with one service's schema, owned and granted as in production,
 * or a copy of such a database to which no client is connected.
 */
export const createTestDatabase = async (
  superuserUrl: string,
  from: { schema: string; migrations: URL } | { copyOf: TestDatabase },
): Promise<TestDatabase> => {
  const name = `test_${randomBytes(8).toString('hex')}`
  const url = (role?: Role): string => {
    const url = new URL(superuserUrl)
    url.pathname = `/${name}`
    if (role) url.searchParams.set('role', role)
    return url.href
  }
  const server = postgres(superuserUrl, { max: 1 })
  if ('copyOf' in from) await server`create database ${server(name)} template ${server(from.copyOf.name)}`
  else {
    await server`create database ${server(name)} owner ${server(OWNER)}`
    await migrate({ url: url(OWNER), schema: from.schema, directory: from.migrations })
  }
  return {
    name,
    url,
    drop: async () => {
      await server`drop database ${server(name)} with (force)`
      await server.end()
    },
  }
}
