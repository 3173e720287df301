// The index of the trail: every record of any bytes and any age has one row; two instances fill one index; a change of it
// is found and put right.
import { randomUUID } from 'node:crypto'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { bytesOf, type Chain, chainedRecordOf, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import { envelope, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { compareLog } from './compare-log.ts'
import { startLogIndex } from './index-log.ts'
import { createRebuilt, dropRebuilt, swapTables } from './sql/rebuild.ts'
import { insertRecords, type StoredRecord } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'

const { superuserUrl, registryUrl } = inject('stack')
const logger = createLogger('audit', { level: 'silent', instance: 'test' })

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
let sql: Database
let codec: Codec
let running: Array<{ stop: () => Promise<void> }> = []

beforeAll(async () => {
  database = await createAuditDatabase(superuserUrl)
  owner = openDatabase(database.url('pennywire_owner'), { applicationName: 'test' })
  sql = openDatabase(database.url('audit'), { applicationName: 'test' })
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(() => owner`truncate audit.records, audit.log, audit.log_subjects`)
afterEach(async () => {
  await Promise.all(running.map(({ stop }) => stop()))
  running = []
})
afterAll(async () => {
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

const RIGHT = { equal: 0, different: 0, behind: 0, replaced: 0, first: null }
const CHAIN: Chain = { topic: 'identity.events', epoch: 0, partition: 1 }

/** Adds records to a chain that has `from` of them. */
const record = async (
  values: Array<{ headers?: Record<string, string>; value?: Buffer | null }>,
  { chain = CHAIN, from = 0 }: { chain?: Chain; from?: number } = {},
) => {
  let hash = genesisOf(chain)
  const rows: StoredRecord[] = values.map(({ headers = {}, value = null }, n) => {
    const chained = chainedRecordOf({
      ...chain,
      ...{ offset: BigInt(from + n), timestamp: 1_700_000_000_000 + n, key: null, value },
      headers: Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)]),
    } as IncomingRecord)
    hash = hashAfter(hash, bytesOf(chained))
    return { ...chain, ...chained, hash }
  })
  await insertRecords(sql, rows)
}
const pinSet = (userId: string, requestId = 'request-1') => {
  const type = 'pennywire.identity.PinSet' as const
  const value = codec.encode(type, { eventId: randomUUID(), userId, occurredAt: 0 })
  return {
    value,
    headers: {
      ...envelope({ id: 'id', type, source: 'gateway', time: 0, subject: userId }),
      ...{ request_id: requestId, actor_role: 'user' },
    },
  }
}
const start = (openCodec: () => Promise<Codec> = async () => codec) => {
  const index = startLogIndex({ sql, openCodec, clock: systemClock, logger })
  running.push(index)
  return index
}
const rowsOf = (chain = CHAIN) => sql<
  Array<{ offset: bigint; action: string; requestId: string | null; users: string[] }>
>`
  select record_offset as offset, action, request_id as "requestId",
    array(select subject_id from audit.log_subjects s where s.log_id = log.id and s.kind = 'user') as users
  from audit.log where topic = ${chain.topic} and partition = ${chain.partition} order by record_offset`
const untilRows = (count: number, chain = CHAIN) =>
  vi.waitFor(async () => expect(await rowsOf(chain)).toHaveLength(count), { timeout: 10_000, interval: 50 })

test('each record has a row: decoded, of no schema, without a value, and with headers of any bytes', async () => {
  const user = randomUUID()
  await record([
    pinSet(user),
    {
      value: Buffer.from('not avro'),
      headers: { ce_type: 'pennywire.ledger.Later', request_id: 'request-2' },
    },
    { value: null, headers: { ce_type: 'nothing\0', request_id: 'a b' } },
    { value: Buffer.from([0, 0, 0, 0xff, 0xff]) },
  ])
  start()
  await untilRows(4)
  expect(await rowsOf()).toEqual([
    { offset: 0n, action: 'PinSet', requestId: 'request-1', users: [user] },
    { offset: 1n, action: 'Later', requestId: 'request-2', users: [] },
    { offset: 2n, action: 'unknown', requestId: null, users: [] },
    { offset: 3n, action: 'unknown', requestId: null, users: [] },
  ])
})

test('what was recorded before there was an index is indexed, and it goes on where it was', async () => {
  await record(Array.from({ length: 1_300 }, () => pinSet(randomUUID())))
  const first = start()
  await vi.waitFor(async () => expect((await rowsOf()).length).toBeGreaterThan(0))
  await first.stop()
  start()
  await untilRows(1_300)
  await record([pinSet(randomUUID())], { from: 1_300 })
  await untilRows(1_301)
})

test('two instances fill one index: no row twice, none missing, no subject twice', async () => {
  await record(Array.from({ length: 2_000 }, () => pinSet(randomUUID())))
  start()
  start()
  await untilRows(2_000)
  const [subjects] = await sql<[{ count: bigint }]>`select count(*) from audit.log_subjects`
  expect(subjects.count).toBe(2_000n)
})

test('a registry that is away delays the index, and never loses a record', async () => {
  await record([pinSet(randomUUID())])
  let away = true
  const index = start(async () => {
    if (away) throw new Error('the registry is away')
    return codec
  })
  await vi.waitFor(() => expect(index.behind()).toBe(1), { timeout: 20_000, interval: 50 })
  expect(await rowsOf()).toEqual([])
  expect(index.behind()).toBe(1)
  away = false
  await untilRows(1)
  await vi.waitFor(() => expect(index.behind()).toBe(0))
})

test('an index that was changed is found by making it anew, and put right', async () => {
  const users = Array.from({ length: 20 }, () => randomUUID())
  await record(users.map(user => pinSet(user)))
  start()
  await untilRows(20)
  const compare = (repair = false) =>
    compareLog({
      ...{ sql: owner, codec, table: 'audit.records', repair, withinMs: 100, clock: systemClock },
      signal: new AbortController().signal,
      progressOf: () => ({ add: () => {}, end: () => {} }),
    })
  expect(await compare()).toEqual({ ...RIGHT, equal: 20 })
  // At the end a missing row cannot be told from one that is still to come.
  await owner`delete from audit.log where record_offset = 19`
  expect(await compare()).toEqual({ ...RIGHT, equal: 19, behind: 1 })
  expect(await compare(true)).toMatchObject({ behind: 1, replaced: 1 })
  await owner`delete from audit.log where record_offset = 3`
  await owner`update audit.log set request_id = 'another' where record_offset = 5`
  await owner`
    delete from audit.log_subjects using audit.log
    where log_subjects.log_id = log.id and log.record_offset = 7`
  const found = { ...RIGHT, equal: 17, different: 3, first: 'identity.events epoch 0 partition 1 offset 3' }
  expect(await compare()).toEqual({ ...found, replaced: 0 })
  expect(await compare(true)).toEqual({ ...found, replaced: 3 })
  expect(await compare()).toEqual({ ...RIGHT, equal: 20 })
  expect((await rowsOf()).map(({ users: named }) => named[0])).toEqual(users)
})

test('readers see the records of a trail that was put in the place of the old one', async () => {
  await record([pinSet(randomUUID())])
  await createRebuilt(owner)
  await owner`insert into audit.records_rebuilt select * from audit.records`
  const replaced = await swapTables(owner, '3s')
  await record([pinSet(randomUUID())], { from: 1 })
  const reader = openDatabase(database.url('audit_reader'), { applicationName: 'test', maxConnections: 1 })
  const [row] = await reader<[{ count: bigint }]>`select count(*) from audit_api.records`
  await reader.end()
  expect(row.count).toBe(2n)
  // Nothing holds on to the old one.
  await owner`drop table ${owner(replaced)}`
  await dropRebuilt(owner)
})

test('the service may add to the index and read it, nothing else; readers may read alone', async () => {
  for (const statement of [
    'delete from audit.log',
    'update audit.log set action = action',
    'delete from audit.log_subjects',
  ])
    await expect(sql.unsafe(statement)).rejects.toThrow('permission denied')
  const reader = openDatabase(database.url('audit_reader'), { applicationName: 'test', maxConnections: 1 })
  for (const statement of [
    'delete from audit_api.log',
    'select * from audit.log',
    'select * from audit.records',
  ])
    await expect(reader.unsafe(statement)).rejects.toThrow('permission denied')
  await reader.end()
})
