// Brings the schema `notifier` up to date, as its owner: `node services/notifier/src/migrate.ts`.
import { loadConfig } from '@pennywire/runtime/config.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import { z } from 'zod'

const { MIGRATE_DATABASE_URL } = loadConfig({ MIGRATE_DATABASE_URL: z.url() }, process.env)

await migrate({
  url: MIGRATE_DATABASE_URL,
  schema: 'notifier',
  directory: new URL('./sql/migrations/', import.meta.url),
})
