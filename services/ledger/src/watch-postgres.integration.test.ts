// What the ledger watches of its Postgres, by the role that the service has.
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { textOf } from '@pennywire/runtime/watch-foundation.ts'
import { createTestDatabase, type TestDatabase } from '@pennywire/stack/test-database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { findPartitionFaults } from './sql/find-partition-faults.ts'
import { readOldestSnapshotSeconds } from './sql/oldest-snapshot.ts'

let database: TestDatabase

beforeAll(async () => {
  database = await createTestDatabase(inject('stack').superuserUrl, {
    schema: 'ledger',
    migrations: new URL('./sql/migrations/', import.meta.url),
  })
})
afterAll(() => database.drop())

test('O2: a row of a partition that the topic does not have is named', async () => {
  const sql = openDatabase(database.url('ledger'), { applicationName: 'test', maxConnections: 1 })
  try {
    await sql`insert into ledger.partitions (partition) values (0)`
    expect(await findPartitionFaults(sql)).toEqual([])
    await sql`insert into ledger.partitions (partition) values (${LEDGER_PARTITIONS})`
    expect((await findPartitionFaults(sql)).map(textOf)).toEqual([
      `ledger.partitions: partition is ${LEDGER_PARTITIONS}, must be below ${LEDGER_PARTITIONS}`,
    ])
  } finally {
    await sql.end()
  }
})

test('P1: a snapshot that another role holds is seen by the ledger', async () => {
  const ledger = openDatabase(database.url('ledger'), { applicationName: 'test', maxConnections: 1 })
  const person = openDatabase(database.url(), { applicationName: 'a person', maxConnections: 1 })
  try {
    await person.begin('isolation level repeatable read', async tx => {
      await tx`select pg_sleep(0.2)`
      expect(await readOldestSnapshotSeconds(ledger)).toBeGreaterThanOrEqual(0.2)
    })
  } finally {
    await Promise.all([ledger.end(), person.end()])
  }
})
