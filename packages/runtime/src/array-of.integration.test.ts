import { expect, inject, test } from 'vitest'
import {
  arrayOf,
  BYTEA,
  type Element,
  type ElementType,
  INT2,
  INT8,
  openDatabase,
  TEXT,
  TIMESTAMPTZ,
  UUID,
} from './database.ts'

test.each<[string, Element[], ElementType]>([
  ['text', ['', 'null', 'NULL', ' a, b ', '{}', '"', '\\', '\\"\\\\', 'ä€😀', '\n\t\u0001', "'", null], TEXT],
  ['uuid', ['018f3e0e-0000-8000-8000-00000000000a', null], UUID],
  ['smallint', [-32768, 32767, null], INT2],
  ['bigint', [-9_223_372_036_854_775_808n, 0n, 9_223_372_036_854_775_807n, null], INT8],
  ['bytea', [Buffer.alloc(0), Buffer.from([0, 34, 44, 92, 255]), null], BYTEA],
  ['timestamptz', [new Date(0), new Date(1_795_233_600_123), null], TIMESTAMPTZ],
  ['no element', [], TEXT],
])('arrayOf: %s comes back from Postgres as it was', async (_what, values, type) => {
  const sql = openDatabase(inject('stack').superuserUrl, {
    applicationName: 'database-test',
    maxConnections: 1,
  })
  try {
    const rows = await sql`select value from unnest(${arrayOf(sql, values, type)}) as value`
    expect(rows.map(row => row.value)).toEqual(values)
  } finally {
    await sql.end()
  }
})
