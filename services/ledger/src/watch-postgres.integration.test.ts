// The ledger's checks of its Postgres, with the service's role.
import { LEDGER_PARTITIONS } from '@pennywire/contracts/topics.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { textOf } from '@pennywire/runtime/watch-foundation.ts'
import { createTestDatabase, type TestDatabase } from '@pennywire/stack/test-database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { findPartitionFaults } from './sql/find-partition-faults.ts'
import { checkLimitDefaults, writeLimitDefaults } from './sql/limit-defaults.ts'
import { readOldestSnapshotSeconds } from './sql/oldest-snapshot.ts'
import { limitsOf } from './test-ledger.ts'

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

test('a ledger whose limits are not those of the one that started last is not ready', async () => {
  const sql = openDatabase(database.url('ledger'), { applicationName: 'test', maxConnections: 1 })
  const upTo = (daily: bigint) => limitsOf({ perTransaction: 100_00n, daily, monthly: 10_000_00n })
  const limits = upTo(1_000_00n)
  try {
    await writeLimitDefaults(sql, limits)
    await checkLimitDefaults(sql, limits)
    await writeLimitDefaults(sql, upTo(2_000_00n))
    await expect(checkLimitDefaults(sql, limits)).rejects.toThrow(
      /^LIMITS_UNVERIFIED differs from another ledger's in [A-Z]{3}; all ledgers must have the same$/,
    )
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
