import { afterEach, describe, expect, inject, test } from 'vitest'
import {
  BYTEA,
  type Database,
  INT2,
  INT4,
  INT8,
  isDatabaseAway,
  isUniqueViolation,
  openDatabase,
  TEXT,
  TIMESTAMPTZ,
  UUID,
} from './database.ts'

const { superuserUrl } = inject('stack')
const opened: Database[] = []
const open = (url = superuserUrl) => {
  const sql = openDatabase(url, { applicationName: 'database-test', maxConnections: 1 })
  opened.push(sql)
  return sql
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map(sql => sql.end()))
})

describe('arrays are written in the very first statement of a connection', () => {
  const id = '0b0e63b4-ae40-4cad-8d31-ab19a5622e4c'
  const moment = new Date(1_700_000_000_123)
  test.each<[string, number, unknown[]]>([
    ['uuid', UUID, [id, null]],
    ['text', TEXT, ['one', 'with "quotes", commas and \\', null]],
    ['smallint', INT2, [1, null]],
    ['integer', INT4, [-1, null]],
    ['bigint', INT8, [2n ** 53n - 2n, -(2n ** 53n) + 2n, null]],
    ['bytea', BYTEA, [Buffer.from([0, 255, 92]), null]],
    ['timestamptz', TIMESTAMPTZ, [moment, null]],
  ])('%s', async (type, oid, values) => {
    const sql = open()
    const rows = await sql`
      select value, pg_typeof(value)::text as type
      from unnest(${sql.array(values as string[], oid)}) with ordinality as given (value, position) order by position`
    expect(rows.map(({ value }) => value)).toEqual(values)
    const full = { smallint: 'smallint', timestamptz: 'timestamp with time zone' }[type] ?? type
    expect(rows[0]!.type).toBe(full)
  })
})

test('bigints are exact both ways', async () => {
  const sql = open()
  for (const value of [2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n]) {
    const [row] = await sql`select ${value}::bigint as value`
    expect(row!.value).toBe(value)
  }
})

test('a connection says whose it is', async () => {
  const [row] = await open()`select current_setting('application_name') as name`
  expect(row!.name).toBe('database-test')
})

test('a unique violation is told apart, by its constraint as well', async () => {
  const sql = open()
  await sql`create temporary table one (id int constraint one_id unique, code text constraint one_code unique)`
  await sql`insert into one values (1, 'a')`
  const error = await sql`insert into one values (1, 'b')`.catch((caught: unknown) => caught)
  expect([
    isUniqueViolation(error),
    isUniqueViolation(error, 'one_id'),
    isUniqueViolation(error, 'one_code'),
  ]).toEqual([true, true, false])
  const other = await sql`insert into one values ('x', 'b')`.catch((caught: unknown) => caught)
  expect([isUniqueViolation(other), isUniqueViolation(new Error('23505')), isDatabaseAway(error)]).toEqual([
    false,
    false,
    false,
  ])
})

test('a database that cannot be reached is told apart from one that refuses', async () => {
  const nobody = new URL(superuserUrl)
  nobody.port = '1'
  const away = await open(nobody.href)`select 1`.catch((caught: unknown) => caught)
  expect(isDatabaseAway(away)).toBe(true)
  const refused = await open()`select nothing`.catch((caught: unknown) => caught)
  expect([isDatabaseAway(refused), isDatabaseAway(undefined), isDatabaseAway(new Error('x'))]).toEqual([
    false,
    false,
    false,
  ])
})
