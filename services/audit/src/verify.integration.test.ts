import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { bytesOf, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test } from 'vitest'
import { createRecorder } from './record-topics.ts'
import { insertRecords, loadRecordsAfter } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'

const { superuserUrl, kafkaEnv } = inject('stack')
const PER_CHAIN = 1_500

let original: Awaited<ReturnType<typeof createAuditDatabase>>

beforeAll(async () => {
  original = await createAuditDatabase(superuserUrl)
  const sql = openDatabase(original.url('audit'), { applicationName: 'test' })
  const { positions, handle } = createRecorder(sql)
  const partitions = [0, 1].map(partition => ({ topic: 'ledger.events' as const, partition }))
  await positions(
    partitions,
    async () => partitions.map(of => ({ ...of, first: 0n, offset: 0n })),
    {} as never,
  )
  for (let first = 0; first < PER_CHAIN; first += 300) {
    const records = partitions.flatMap(of =>
      Array.from(
        { length: 300 },
        (_, index): IncomingRecord => ({
          ...of,
          offset: BigInt(first + index),
          timestamp: 1_700_000_000_000,
          key: Buffer.from('key'),
          value: Buffer.from(`value ${first + index}`),
          headers: [['name', Buffer.from('value')]],
        }),
      ),
    )
    await handle(records, {} as never)
  }
  await sql.end() // a database with connections cannot be copied
})
afterAll(() => original.drop())

const runVerify = (databaseUrl: string, env = {}) =>
  new Promise<{ exitCode: number; lines: string[] }>(resolve =>
    execFile(
      process.execPath,
      [new URL('verify.ts', import.meta.url).pathname],
      { env: { AUDIT_DATABASE_URL: databaseUrl, ...env } },
      (error, stdout) => resolve({ exitCode: Number(error?.code ?? 0), lines: stdout.trimEnd().split('\n') }),
    ),
  )

const verifyCopy = async (tamper: (sql: Database) => Promise<unknown>, env = {}) => {
  const copy = await createAuditDatabase(superuserUrl, original)
  try {
    const superuser = openDatabase(copy.url(), { applicationName: 'test' })
    await tamper(superuser)
    await superuser.end()
    return await runVerify(copy.url('audit'), env)
  } finally {
    await copy.drop()
  }
}

test('A1: what nobody touched is whole: a line for each chain, and the sum', async () => {
  const { exitCode, lines } = await verifyCopy(async () => {})
  expect(lines).toEqual([
    expect.stringMatching(/^ledger\.events epoch 0 partition 0: 1500 records, 0 to 1499, head [0-9a-f]{64}$/),
    expect.stringMatching(/^ledger\.events epoch 0 partition 1: 1500 records, 0 to 1499, head [0-9a-f]{64}$/),
    'no checkpoint is signed yet: the trail was recorded by a version without checkpoints, or has just begun',
    '3000 records, 0 broken',
  ])
  expect(exitCode).toBe(0)
})

const CHANGED = 'it is not what was recorded here'
const place = { topic: 'ledger.events', epoch: 0, partition: 1 }

/** Recomputes one record's hash, as a forger who has read the code would; later hashes stay as they are. */
const rehash = async (sql: Database, offset: bigint) => {
  const [record] = await loadRecordsAfter(sql, place, offset - 1n, 1)
  const [previous] = offset === 0n ? [] : await loadRecordsAfter(sql, place, offset - 2n, 1)
  const hash = hashAfter(previous?.hash ?? genesisOf(place), bytesOf(record!))
  await sql`update audit.records set hash = ${hash} where partition = 1 and record_offset = ${offset}`
}

test.each<[string, number, string, (sql: Database) => Promise<unknown>]>([
  [
    'an edited value',
    1_204,
    CHANGED,
    sql => sql`update audit.records set value = 'x' where partition = 1 and record_offset = 1204`,
  ],
  [
    'an edited key',
    0,
    CHANGED,
    sql => sql`update audit.records set key = null where partition = 1 and record_offset = 0`,
  ],
  [
    'an edited time',
    7,
    CHANGED,
    sql => sql`update audit.records set record_time_ms = 1 where partition = 1 and record_offset = 7`,
  ],
  [
    'edited headers',
    7,
    CHANGED,
    sql => sql`update audit.records set headers = '' where partition = 1 and record_offset = 7`,
  ],
  [
    'an edited hash',
    7,
    CHANGED,
    sql =>
      sql`update audit.records set hash = ${createHash('sha256').digest()} where partition = 1 and record_offset = 7`,
  ],
  [
    'an edited value with its hash made to fit',
    8,
    CHANGED,
    async sql => {
      await sql`update audit.records set value = 'x' where partition = 1 and record_offset = 7`
      await rehash(sql, 7n)
    },
  ],
  [
    'a record removed in the middle',
    1_000,
    '1 missing before it',
    sql => sql`delete from audit.records where partition = 1 and record_offset = 999`,
  ],
  [
    'several removed in the middle',
    1_001,
    '3 missing before it',
    sql => sql`delete from audit.records where partition = 1 and record_offset between 998 and 1000`,
  ],
  [
    'the first removed',
    1,
    'it is not what was recorded here, or records before it are missing',
    sql => sql`delete from audit.records where partition = 1 and record_offset = 0`,
  ],
  [
    'one removed and the rest moved up to close the hole',
    500,
    CHANGED,
    async sql => {
      await sql`delete from audit.records where partition = 1 and record_offset = 500`
      await sql`update audit.records set record_offset = record_offset + 9999 where partition = 1 and record_offset > 500`
      await sql`update audit.records set record_offset = record_offset - 10000 where partition = 1 and record_offset > 9999`
    },
  ],
  [
    'one inserted between two', // its own hash can be forged, that of the next record cannot
    501,
    `${CHANGED}: a record was inserted before it`,
    async sql => {
      await sql`update audit.records set record_offset = record_offset + 10001 where partition = 1 and record_offset >= 500`
      await sql`update audit.records set record_offset = record_offset - 10000 where partition = 1 and record_offset > 9999`
      await sql`
        insert into audit.records (topic, partition, record_offset, record_time_ms, key, headers, value, hash)
        select topic, partition, 500, record_time_ms, key, headers, 'inserted', hash
        from audit.records where partition = 1 and record_offset = 499`
      await rehash(sql, 500n)
    },
  ],
  [
    'one inserted at the end',
    1_500,
    CHANGED,
    sql => sql`
      insert into audit.records (topic, partition, record_offset, record_time_ms, key, headers, value, hash)
      select topic, partition, 1500, record_time_ms, key, headers, value, hash
      from audit.records where partition = 1 and record_offset = 1499`,
  ],
  [
    'two reordered',
    20,
    `${CHANGED}: it and the next one were exchanged`,
    async sql => {
      await sql`update audit.records set record_offset = -1 where partition = 1 and record_offset = 20`
      await sql`update audit.records set record_offset = 20 where partition = 1 and record_offset = 21`
      await sql`update audit.records set record_offset = 21 where partition = 1 and record_offset = -1`
    },
  ],
  [
    'two whose contents were exchanged',
    20,
    `${CHANGED}: it and the next one were exchanged`,
    sql => sql`
      update audit.records set value = other.value from audit.records as other
      where records.partition = 1 and other.partition = 1
        and (records.record_offset, other.record_offset) in ((20, 21), (21, 20))`,
  ],
  [
    'one moved to another partition',
    1_500,
    CHANGED,
    sql => sql`
      update audit.records set partition = 1, record_offset = 1500 where partition = 0 and record_offset = 1499`,
  ],
])('A1: %s is found, and its place named', async (_what, offset, reason, tamper) => {
  const { exitCode, lines } = await verifyCopy(tamper)
  expect(lines.at(-1)).toBe(`first broken: ledger.events epoch 0 partition 1 offset ${offset}: ${reason}`)
  expect(exitCode).toBe(1)
})

test('A1: with the brokers, a record that the topic never held is found', async () => {
  const chain = { topic: 'notifier.dead-letters', epoch: 0, partition: 0 }
  const record = {
    ...{ offset: 1_000_000_000_000n, timestampMs: 1n, key: null },
    ...{ headers: Buffer.alloc(0), value: Buffer.from('made up') },
  }
  const hash = hashAfter(genesisOf(chain), bytesOf(record))
  const { exitCode, lines } = await verifyCopy(async sql => {
    await sql`delete from audit.records`
    await insertRecords(sql, [{ ...chain, ...record, hash }])
  }, kafkaEnv.audit)
  // The topic's own checkpoints, if a system is running, state chains that this trail has not.
  expect(lines.filter(line => !line.startsWith('first broken checkpoint')).slice(-2)).toEqual([
    // Records that are in the topic and not in the chain count as well.
    expect.stringMatching(/^1 records, [1-9]\d* broken$/),
    expect.stringMatching(/^first broken: notifier\.dead-letters .* the topic ends before it/),
  ])
  expect(exitCode).toBe(1)
})
