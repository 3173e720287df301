// Brings the ledger's schema up to date: `node services/ledger/src/migrate.ts`, as the schemas' owner.
import { loadConfig } from '@pennywire/runtime/config.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'

const config = loadConfig({ MIGRATE_DATABASE_URL: databaseUrl }, process.env)
await migrate({
  url: config.MIGRATE_DATABASE_URL,
  schema: 'ledger',
  directory: new URL('./sql/migrations/', import.meta.url),
})
