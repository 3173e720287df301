import { createTestDatabase, type TestDatabase } from '@pennywire/stack/test-database.ts'

/** For tests: a new database with the audit schema, or a copy of one. */
export const createAuditDatabase = (superuserUrl: string, copyOf?: TestDatabase): Promise<TestDatabase> =>
  createTestDatabase(
    superuserUrl,
    copyOf ? { copyOf } : { schema: 'audit', migrations: new URL('./migrations/', import.meta.url) },
  )
