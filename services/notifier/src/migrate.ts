// Brings the schema `notifier` up to date, as its owner: `node services/notifier/src/migrate.ts`.
import { loadConfig } from '@pennywire/runtime/config.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'

const { MIGRATE_DATABASE_URL } = loadConfig({ MIGRATE_DATABASE_URL: databaseUrl }, process.env)

await migrate({
  url: MIGRATE_DATABASE_URL,
  schema: 'notifier',
  directory: new URL('./sql/migrations/', import.meta.url),
})
