import { createTestDatabase, type TestDatabase } from '@pennywire/stack/test-database.ts'
import postgres from 'postgres'

/** For tests: a database of its own with the notifier's schema, and a stand-in for the gateway's view. */
export const createNotifierDatabase = async (superuserUrl: string): Promise<TestDatabase> => {
  const database = await createTestDatabase(superuserUrl, {
    schema: 'notifier',
    migrations: new URL('./migrations/', import.meta.url),
  })
  const owner = postgres(database.url('pennywire_owner'), { max: 1 })
  await owner`create schema gateway_api`
  await owner`
    create table gateway_api.users (user_id uuid primary key, email text, full_name text, email_verified boolean,
      mail_blocked boolean not null default false)`
  await owner`grant usage on schema gateway_api to gateway_reader`
  await owner`grant select on gateway_api.users to gateway_reader`
  await owner.end()
  return database
}
