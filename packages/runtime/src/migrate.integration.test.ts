import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { type Database, openDatabase } from './database.ts'
import { migrate } from './migrate.ts'

const { superuserUrl } = inject('stack')
const name = `migrate_test_${process.pid}`
const url = new URL(superuserUrl)
url.pathname = `/${name}`

let server: Database
let sql: Database
let folder: string
let schemas = 0
let schema: string

beforeAll(async () => {
  server = openDatabase(superuserUrl, { applicationName: 'test', maxConnections: 1 })
  await server`create database ${server(name)}`
  sql = openDatabase(url.href, { applicationName: 'test', maxConnections: 1 })
})
afterAll(async () => {
  await sql.end()
  await server`drop database ${server(name)} with (force)`
  await server.end()
})
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'migrate-'))
  schema = `schema_${++schemas}`
})
afterEach(() => rmSync(folder, { recursive: true }))

const write = (file: string, text: string) => writeFileSync(join(folder, file), text)
const run = () => migrate({ url: url.href, schema, directory: pathToFileURL(`${folder}/`) })
const filesRan = async () =>
  (await sql`select file from ${sql(schema)}.migrations order by ran_at, file`).map(({ file }) => file)
const tables = async () =>
  (await sql`select tablename from pg_tables where schemaname = ${schema} order by 1`).map(
    row => row.tablename,
  )

describe('migrations', () => {
  test('run in the order of their numbers, each once, and only .sql files with a number', async () => {
    write('0002-second.sql', `insert into ${schema}.one values (2)`)
    write('0001-first.sql', `create table ${schema}.one (value int); insert into ${schema}.one values (1)`)
    write('notes.sql', 'no SQL at all')
    write('0003-notes.md', 'no SQL at all')
    expect(await run()).toEqual(['0001-first.sql', '0002-second.sql'])
    expect(await run()).toEqual([])
    write('0003-third.sql', `insert into ${schema}.one values (3)`)
    expect(await run()).toEqual(['0003-third.sql'])
    expect((await sql`select value from ${sql(schema)}.one`).map(({ value }) => value)).toEqual([1, 2, 3])
  })

  test('that fail leave nothing of their file, and all of those before; mended, they go on', async () => {
    write('0001-first.sql', `create table ${schema}.one (value int)`)
    write('0002-second.sql', `create table ${schema}.two (value int); insert into ${schema}.none values (1)`)
    write('0003-third.sql', `create table ${schema}.three (value int)`)
    await expect(run()).rejects.toMatchObject({ code: '42P01' })
    expect([await filesRan(), await tables()]).toEqual([['0001-first.sql'], ['migrations', 'one']])
    write('0002-second.sql', `create table ${schema}.two (value int)`)
    expect(await run()).toEqual(['0002-second.sql', '0003-third.sql'])
    expect(await tables()).toEqual(['migrations', 'one', 'three', 'two'])
  })

  test('stand or fall together with the note that they ran', async () => {
    const refuseNote = `alter table ${schema}.migrations add check (file <> '0001-first.sql')`
    write('0001-first.sql', `create table ${schema}.one (value int); ${refuseNote}`)
    await expect(run()).rejects.toMatchObject({ code: '23514' })
    expect(await tables()).toEqual(['migrations'])
  })

  test('of many processes at once run once, the first time as well', async () => {
    for (let round = 0; round < 5; round++) {
      schema = `schema_${++schemas}`
      write('0001-first.sql', `create table ${schema}.one (value int); select pg_sleep(0.05)`)
      write('0002-second.sql', `insert into ${schema}.one values (1)`)
      const ran = await Promise.all(Array.from({ length: 6 }, run))
      expect(ran.flat().toSorted()).toEqual(['0001-first.sql', '0002-second.sql'])
      expect((await sql`select value from ${sql(schema)}.one`).length).toBe(1)
    }
  })
})
