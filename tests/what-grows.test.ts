// A table without a rule against growth fills the disk after years: each has its rule in docs/operations.md.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { expect, inject, test } from 'vitest'

test('every table of the services has a rule against growing for ever, and every rule a table', async () => {
  const doc = readFileSync(join(import.meta.dirname, '..', 'docs', 'operations.md'), 'utf8')
  const [, section = ''] = doc.split('## What grows\n')
  const ruled = section
    .split('\n## ')[0]!
    .split('\n')
    .filter(line => line.startsWith('| `'))
    .flatMap(line => [...line.split('|')[1]!.matchAll(/`(\w+\.\w+)`/g)].map(([, table]) => table))
  const sql = openDatabase(inject('system').databaseUrls.superuser, {
    applicationName: 'test',
    maxConnections: 1,
  })
  const tables = await sql<Array<{ name: string }>>`
    select schemaname || '.' || tablename as name from pg_tables
    where schemaname in ('gateway', 'ledger', 'notifier', 'audit') and tablename <> 'migrations'`
  await sql.end()
  expect(ruled.sort()).toEqual(tables.map(({ name }) => name).sort())
})
