// Statements that the database roles must not execute, each tried on a connection of that role.
import postgres from 'postgres'
import { afterAll, describe, expect, inject, test } from 'vitest'

const { databaseUrls, env } = inject('system')
const URLS: Record<string, string> = {
  ledger: databaseUrls.ledger,
  gateway: databaseUrls.gateway,
  audit: databaseUrls.audit,
  notifier: env.notifier.DATABASE_URL!,
  ledger_reader: databaseUrls.ledger_reader,
  notifier_reader: databaseUrls.notifier_reader,
  notifier_client: env.gateway.NOTIFIER_URL!,
  gateway_reader: env.notifier.GATEWAY_READ_URL!,
  audit_reader: env.gateway.AUDIT_READ_URL!,
}
const SCHEMAS = [
  'ledger',
  'gateway',
  'notifier',
  'audit',
  'ledger_api',
  'gateway_api',
  'notifier_api',
  'audit_api',
]
/** The schemas that each role may use. */
const OWN: Record<string, string[]> = {
  ledger: ['ledger'],
  gateway: ['gateway'],
  audit: ['audit'],
  notifier: ['notifier'],
  ledger_reader: ['ledger_api'],
  notifier_reader: ['notifier_api'],
  notifier_client: ['notifier_api'],
  gateway_reader: ['gateway_api'],
  audit_reader: ['audit_api'],
}
const FORBIDDEN = [
  'create schema mine',
  'create table public.mine (id int)',
  'create temporary table mine (id int)',
  'select lo_create(0)',
  `select lo_from_bytea(0, 'x')`,
  'create database mine',
  'create role mine',
  'alter role ledger superuser',
  'set role pennywire_owner',
  'set role pg_read_all_data',
  'set session_replication_role = replica',
  `copy (select 1) to program 'true'`,
  `copy (select 1) to '/tmp/mine'`,
  `select pg_read_file('postgresql.conf')`,
  `select pg_ls_dir('.')`,
  `select lo_import('/etc/passwd')`,
  'select * from pg_authid',
  `select pg_create_physical_replication_slot('mine')`,
  'select pg_switch_wal()',
  'checkpoint',
  'create extension pg_trgm',
  'alter system set fsync = off',
]
const DENIED = /permission denied|must be superuser|must have|not permitted|does not exist in the role/i

const opened: postgres.Sql[] = []
const open = (url: string, options: postgres.Options<Record<string, never>> = {}) => {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10, ...options })
  opened.push(sql)
  return sql
}
afterAll(() => Promise.all(opened.map(sql => sql.end())))
const refusalOf = (query: Promise<unknown>) =>
  query.then(
    () => 'it was done',
    (error: Error) => error.message,
  )

describe.each(Object.keys(URLS))('%s', role => {
  const sql = open(URLS[role]!)

  test.each(FORBIDDEN)('may not: %s', async statement => {
    // Rolls back a statement that is allowed by mistake.
    const told = await refusalOf(sql.begin(tx => tx.unsafe(statement).then(() => tx.unsafe('rollback'))))
    // Some statements cannot run in a transaction: run these alone.
    const again = /transaction block/.test(told) ? await refusalOf(sql.unsafe(statement)) : told
    expect(again).toMatch(DENIED)
  })

  test.each(['postgres', 'template1'])('may not connect to %s', async database => {
    expect(await refusalOf(open(URLS[role]!, { database })`select 1`)).toMatch(DENIED)
  })

  test.each(SCHEMAS)('reads schema %s only if it is its own', async schema => {
    const [row] = await sql`select has_schema_privilege(${schema}, 'usage') as may`
    expect(row!.may).toBe(OWN[role]!.includes(schema))
  })

  test('has a bound of connections, and of the time of a statement that says nothing else', async () => {
    const [row] = await sql`
      select rolconnlimit as connections, current_setting('statement_timeout') as statement,
        current_setting('idle_in_transaction_session_timeout') as idle
      from pg_roles where rolname = current_user`
    expect(row!.connections).toBeGreaterThan(0)
    expect([row!.statement, row!.idle]).toEqual(['1min', '1min'])
  })
})
