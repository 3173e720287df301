import { randomBytes } from 'node:crypto'
import { migrate } from '@pennywire/runtime/migrate.ts'
import postgres from 'postgres'

/** For tests: a database of its own with this service's schema, owned as in production, and the gateway's view. */
export const createTestDatabase = async (superuserUrl: string) => {
  const name = `notifier_test_${randomBytes(6).toString('hex')}`
  /** With a role, everything is done as that role. */
  const urlOf = (role?: string): string => {
    const url = new URL(superuserUrl)
    url.pathname = `/${name}`
    if (role) url.searchParams.set('role', role)
    return url.href
  }
  const server = postgres(superuserUrl, { max: 1 })
  await server`create database ${server(name)} owner pennywire_owner`
  const directory = new URL('./migrations/', import.meta.url)
  await migrate({ url: urlOf('pennywire_owner'), schema: 'notifier', directory })
  const owner = postgres(urlOf('pennywire_owner'), { max: 1 })
  await owner`create schema gateway_api`
  await owner`
    create table gateway_api.users (user_id uuid primary key, email text, full_name text, email_verified boolean)`
  await owner`grant usage on schema gateway_api to gateway_reader`
  await owner`grant select on gateway_api.users to gateway_reader`
  await owner.end()
  return {
    url: urlOf,
    drop: async () => {
      await server`drop database ${server(name)} with (force)`
      await server.end()
    },
  }
}
