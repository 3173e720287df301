import { randomBytes } from 'node:crypto'
import { migrate } from '@pennywire/runtime/migrate.ts'
import postgres from 'postgres'

/** The URL of another database on the same server; with a role, everything is done as that role. */
const urlOf = (superuserUrl: string, database: string, role?: string): string => {
  const url = new URL(superuserUrl)
  url.pathname = `/${database}`
  if (role) url.searchParams.set('role', role)
  return url.href
}

/**
 * For tests: a database of its own with this service's schema, owned as in production, or a copy of one that nobody
 * is connected to.
 */
export const createTestDatabase = async (superuserUrl: string, copyOf?: { name: string }) => {
  const name = `audit_test_${randomBytes(6).toString('hex')}`
  const server = postgres(superuserUrl, { max: 1 })
  await server`
    create database ${server(name)} ${copyOf ? server`template ${server(copyOf.name)}` : server`owner pennywire_owner`}`
  if (!copyOf)
    await migrate({
      url: urlOf(superuserUrl, name, 'pennywire_owner'),
      schema: 'audit',
      directory: new URL('./migrations/', import.meta.url),
    })
  return {
    name,
    url: (role?: string) => urlOf(superuserUrl, name, role),
    drop: async () => {
      await server`drop database ${server(name)} with (force)`
      await server.end()
    },
  }
}
