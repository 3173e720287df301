import postgres from 'postgres'
import { describe, expect, test } from 'vitest'
import { isDatabaseAway } from './database.ts'

/** A server's error with this SQLSTATE. */
const answered = (code: string) =>
  new (postgres.PostgresError as unknown as new (fields: object) => Error)({ code, message: 'a message' })
const failed = (fields: object) => Object.assign(new Error('a message'), fields)

describe('a server that cannot serve now is away: the request is answered 503 and may be repeated', () => {
  test.each([
    ['08000', 'connection exception'],
    ['08006', 'connection failure'],
    ['08P01', 'protocol violation'],
    ['25006', 'read-only transaction: the primary has become a standby'],
    ['25P03', 'idle in transaction for too long'],
    ['25P04', 'transaction for too long'],
    ['40001', 'serialization failure, or a conflict with recovery on a standby'],
    ['40003', 'statement completion unknown'],
    ['40P01', 'deadlock'],
    ['53100', 'disk full'],
    ['53200', 'out of memory'],
    ['53300', 'too many connections'],
    ['55P03', 'lock not available'],
    ['57014', 'query canceled: its time is over'],
    ['57P01', 'admin shutdown'],
    ['57P02', 'crash shutdown'],
    ['57P03', 'cannot connect now: starting up, shutting down or in recovery'],
    ['57P05', 'idle session for too long'],
    ['58000', 'system error'],
    ['58030', 'I/O error'],
  ])('%s %s', code => expect(isDatabaseAway(answered(code))).toBe(true))

  test.each([
    'CONNECTION_CLOSED',
    'CONNECTION_DESTROYED',
    'CONNECTION_ENDED',
    'CONNECT_TIMEOUT',
    'QUERY_TIMEOUT',
    'TRANSACTION_TIMEOUT',
    'UNSUITABLE_SERVER',
  ])("the driver's %s", code => expect(isDatabaseAway(failed({ code }))).toBe(true))

  test.each(['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'EPIPE', 'ETIMEDOUT'])("a query's %s", code =>
    expect(isDatabaseAway(failed({ code, syscall: 'read', query: 'select 1' }))).toBe(true),
  )
})

describe('a mistake of ours, or of somebody else, is no database that is away', () => {
  test.each([
    ['22003', 'numeric value out of range'],
    ['22021', 'character not in repertoire'],
    ['22P02', 'invalid text'],
    ['23505', 'unique violation'],
    ['23514', 'check violation'],
    ['25001', 'active transaction'],
    ['25P02', 'in failed transaction'],
    ['28P01', 'wrong password'],
    ['3D000', 'no such database'],
    ['42501', 'insufficient privilege'],
    ['42601', 'syntax error'],
    ['42P01', 'no such table'],
    ['55000', 'object not in prerequisite state'],
    ['P0001', 'raised by a function'],
    ['XX000', 'internal error'],
    ['XX001', 'data corrupted'],
  ])('%s %s', code => expect(isDatabaseAway(answered(code))).toBe(false))

  test.each([
    ['a client that hung up', failed({ code: 'ECONNRESET' })],
    ['another server that cannot be reached', failed({ code: 'ECONNREFUSED', syscall: 'connect' })],
    ['any other error', new Error('57P01')],
    ['nothing', undefined],
    ['an object that is no error', { code: '57P01', query: '', syscall: 'read' }],
  ])('%s', (_what, error) => expect(isDatabaseAway(error)).toBe(false))
})
