// Brings the schema `gateway` up to date: `node services/gateway/src/migrate.ts`. Run by the schemas' owner.
import { loadConfig } from '@pennywire/runtime/config.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import { z } from 'zod'

const config = loadConfig({ MIGRATE_DATABASE_URL: z.url() }, process.env)

await migrate({
  url: config.MIGRATE_DATABASE_URL,
  schema: 'gateway',
  directory: new URL('./sql/migrations/', import.meta.url),
})
