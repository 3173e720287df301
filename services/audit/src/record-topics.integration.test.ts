import { randomUUID } from 'node:crypto'
import { RECORDED_TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { type Consumer, type Position, startConsumer, type TopicEnd } from '@pennywire/kafka/consumer.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { createRecorder } from './record-topics.ts'
import { insertNextEpoch } from './sql/epochs.ts'
import { createRebuilt, dropRebuilt, swapTables } from './sql/rebuild.ts'
import { loadChains, loadRecordsAfter } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'
import { verifyChains } from './verify-chains.ts'

const { superuserUrl, kafka } = inject('stack')
const logger = createLogger('audit', { level: 'silent', instance: 'test' })

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
let sql: Database

beforeAll(async () => {
  database = await createAuditDatabase(superuserUrl)
  owner = openDatabase(database.url(), { applicationName: 'test' })
  sql = openDatabase(database.url('audit'), { applicationName: 'test' })
})
beforeEach(() => owner`truncate audit.records, audit.epochs`)
afterAll(async () => {
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

const recordAt = (offset: number, value = `value ${offset}`, partition = 0): IncomingRecord => ({
  topic: 'ledger.events',
  partition,
  offset: BigInt(offset),
  timestamp: 1_700_000_000_000 + offset,
  key: Buffer.from('key'),
  value: Buffer.from(value),
  headers: [['ce_id', Buffer.from(String(offset))]],
})
const recordsFrom = (first: number, count: number, partition = 0) =>
  Array.from({ length: count }, (_, index) => recordAt(first + index, undefined, partition))

const endAt = (offset: number, first = 0, topic: Topic = 'ledger.events'): TopicEnd => ({
  topic,
  partition: 0,
  first: BigInt(first),
  offset: BigInt(offset),
})

/** An instance with partition 0 assigned, and its calls of seek and halt. */
const startInstance = async (end: TopicEnd) => {
  const sought: bigint[] = []
  const halted: string[] = []
  const consumer: Consumer = {
    assigned: () => [],
    waiting: () => 0,
    seek: ({ offset }: Position) => void sought.push(offset),
    hold: () => undefined,
    halt: (_of, reason) => void halted.push(reason),
    check: () => {},
    stop: async () => {},
  }
  const recorder = createRecorder(sql)
  const position = () => recorder.positions([{ topic: end.topic, partition: 0 }], async () => [end], consumer)
  const [from] = await position()
  return {
    from: from?.offset,
    position,
    handle: (records: IncomingRecord[]) => recorder.handle(records, consumer),
    sought,
    halted,
  }
}

const verify = async () => {
  const totals = { records: 0, broken: 0 }
  for await (const chain of verifyChains(sql)) {
    totals.records += chain.records
    totals.broken += chain.broken
  }
  return totals
}

test('records are stored exactly as received, no matter what they are', async () => {
  const { handle } = await startInstance(endAt(0))
  const odd: IncomingRecord = {
    ...recordAt(0),
    timestamp: -1,
    key: null,
    value: Buffer.from([0, 255, 1]),
    headers: [
      ['same', Buffer.from('1')],
      ['same', Buffer.from([0xff])],
    ],
  }
  await handle([odd, { ...recordAt(1), value: null, key: Buffer.alloc(0), headers: [] }])
  const [first, second] = await loadRecordsAfter(
    sql,
    { topic: 'ledger.events', epoch: 0, partition: 0 },
    null,
    9,
  )
  expect(first).toMatchObject({ timestampMs: -1n, key: null, value: odd.value })
  expect(first!.headers.toString('latin1')).toBe(
    '\0\0\0\x04same\0\0\0\x011'.concat('\0\0\0\x04same\0\0\0\x01\xff'),
  )
  expect(second).toMatchObject({ key: Buffer.alloc(0), value: null, headers: Buffer.alloc(0) })
  expect(await verify()).toEqual({ records: 2, broken: 0 })
})

test('X1: redelivered records add nothing, and the chain goes on after them', async () => {
  const { handle } = await startInstance(endAt(0))
  await handle(recordsFrom(0, 5))
  await handle(recordsFrom(0, 5))
  await handle(recordsFrom(3, 5))
  expect(await verify()).toEqual({ records: 8, broken: 0 })
})

test('X1: two instances on the same partitions at once record everything once', async () => {
  const [one, two] = await Promise.all([startInstance(endAt(0)), startInstance(endAt(0))])
  const feed = async ({ handle }: typeof one, size: number) => {
    for (let first = 0; first < 600; first += size) await handle(recordsFrom(first, size))
  }
  await Promise.all([feed(one, 20), feed(two, 30)])
  expect(await verify()).toEqual({ records: 600, broken: 0 })
  expect([one.halted, two.halted]).toEqual([[], []])
})

describe('a restart', () => {
  beforeEach(async () => (await startInstance(endAt(0))).handle(recordsFrom(0, 5)))

  test('begins on the last record, compares it, and goes on', async () => {
    const { from, handle, halted } = await startInstance(endAt(9))
    expect(from).toBe(4n)
    await handle(recordsFrom(4, 5))
    expect(halted).toEqual([])
    expect(await verify()).toEqual({ records: 9, broken: 0 })
  })

  test('writes nothing before the last record was shown again', async () => {
    const { handle, sought } = await startInstance(endAt(9))
    await handle(recordsFrom(5, 4))
    expect(sought).toEqual([4n])
    expect(await verify()).toEqual({ records: 5, broken: 0 })
  })

  test.each<[string, Partial<IncomingRecord>]>([
    ['value', { value: Buffer.from('another') }],
    ['key', { key: null }],
    ['time', { timestamp: 1 }],
    ['headers', { headers: [] }],
  ])('halts the partition where the topic shows another record there: %s', async (_field, changed) => {
    const { handle, halted } = await startInstance(endAt(9))
    await handle([{ ...recordAt(4), ...changed }, ...recordsFrom(5, 4)])
    expect(halted).toEqual(["the topic's record at offset 4 is not the one recorded"])
    await handle(recordsFrom(5, 4))
    expect(await verify()).toEqual({ records: 5, broken: 0 })
  })

  test('halts the partition where the topic ends before it', async () => {
    const recorder = createRecorder(sql)
    const halted: string[] = []
    const consumer = { halt: (_of: unknown, reason: string) => halted.push(reason) } as unknown as Consumer
    const position = (end: number) =>
      recorder.positions([{ topic: 'ledger.events', partition: 0 }], async () => [endAt(end)], consumer)
    expect(await position(2)).toEqual([])
    expect(halted).toEqual(['the topic ends before offset 2, the last recorded one is 4'])
  })

  test('asks for the end after it has read what is recorded: what was recorded meanwhile is not taken for a loss', async () => {
    const recorder = createRecorder(sql)
    const readEnds = async () => {
      // Another instance stores more records, and the topic grows, before the end is returned.
      const other = await startInstance(endAt(6))
      await other.handle(recordsFrom(4, 2))
      return [endAt(6)]
    }
    const from = await recorder.positions(
      [{ topic: 'ledger.events', partition: 0 }],
      readEnds,
      {} as Consumer,
    )
    expect(from).toEqual([{ topic: 'ledger.events', partition: 0, offset: 4n }])
  })

  test('halts where the topic has lost what was not recorded yet', async () => {
    const { halted } = await startInstance(endAt(9, 6))
    expect(halted).toEqual(['the topic begins at offset 6, the last recorded one is 4'])
  })

  test('goes on where the retention has deleted no more than what is recorded', async () => {
    const { from, handle } = await startInstance(endAt(5, 5))
    expect(from).toBe(5n)
    await handle(recordsFrom(5, 2))
    expect(await verify()).toEqual({ records: 7, broken: 0 })
  })

  test('records a topic made anew once an operator began an epoch', async () => {
    await insertNextEpoch(owner, 'ledger.events', 'test')
    const { from, handle } = await startInstance(endAt(2))
    expect(from).toBe(0n)
    await handle([recordAt(0, 'anew'), recordAt(1, 'anew')])
    expect(await loadChains(sql)).toEqual(
      [0, 1].map(epoch => ({ topic: 'ledger.events', epoch, partition: 0 })),
    )
    expect(await verify()).toEqual({ records: 7, broken: 0 })
  })
})

describe('a rebuilt table put in the place of the trail', () => {
  /** What `audit:rebuild -- --swap` does, with the first records only. */
  const swapTo = async (count: number) => {
    await createRebuilt(owner)
    await owner`
      insert into audit.records_rebuilt select * from audit.records where record_offset < ${count}`
    // The records behind them are of another history: nothing is taken over.
    await owner`update audit.records set hash = decode(repeat('00', 32), 'hex') where record_offset = ${count - 1}`
    return swapTables(owner, '5s')
  }

  test('is not filled beyond a gap by an instance that remembers the old one', async () => {
    const { handle, sought, halted } = await startInstance(endAt(0))
    await handle(recordsFrom(0, 5))
    const replaced = await swapTo(3)
    await handle(recordsFrom(5, 2))
    expect(sought).toEqual([2n])
    expect(await verify()).toEqual({ records: 3, broken: 0 })
    await handle(recordsFrom(2, 6))
    expect(await verify()).toEqual({ records: 8, broken: 0 })
    expect(halted).toEqual([])
    await owner`drop table ${owner(replaced)}`
  })

  test('that ends as the old one is gone on with at once', async () => {
    const { handle, sought } = await startInstance(endAt(0))
    await handle(recordsFrom(0, 5))
    await createRebuilt(owner)
    await owner`insert into audit.records_rebuilt select * from audit.records where record_offset < 3`
    const replaced = await swapTables(owner, '5s')
    await handle(recordsFrom(5, 2))
    expect(sought).toEqual([])
    expect(await verify()).toEqual({ records: 7, broken: 0 })
    await owner`drop table ${owner(replaced)}`
  })

  test('waits no longer than it may for a lock, and changes nothing then', async () => {
    const { handle } = await startInstance(endAt(0))
    await handle(recordsFrom(0, 5))
    await createRebuilt(owner)
    await sql.begin(async tx => {
      await tx`select count(*) from audit.records`
      await expect(swapTables(owner, '100ms')).rejects.toMatchObject({ code: '55P03' })
    })
    await dropRebuilt(owner)
    await handle(recordsFrom(5, 2))
    expect(await verify()).toEqual({ records: 7, broken: 0 })
  })

  test('leaves the service’s role its rights, and no more', async () => {
    const replaced = await swapTo(1)
    const [rights] = await owner`
      select has_table_privilege('audit', 'audit.records', 'insert') as insert,
        has_table_privilege('audit', 'audit.records', 'select') as select,
        has_table_privilege('audit', 'audit.records', 'update, delete, truncate') as change,
        has_table_privilege('audit', ${replaced}, 'select, insert, update, delete') as old,
        (select tableowner from pg_tables where schemaname = 'audit' and tablename = 'records') as owner`
    expect(rights).toMatchObject({ insert: true, select: true, change: false, old: false })
    await owner`drop table ${owner(replaced)}`
  })
})

test('a gap is read again, and halts the partition when that does not close it', async () => {
  const { handle, sought, halted } = await startInstance(endAt(0))
  await handle([...recordsFrom(0, 2), ...recordsFrom(5, 2)])
  await handle(recordsFrom(5, 2))
  expect([sought, halted]).toEqual([[2n, 2n], []])
  await handle(recordsFrom(5, 2))
  expect(halted).toEqual(['the topic no longer holds offset 2'])
  expect(await verify()).toEqual({ records: 2, broken: 0 })
})

test('a chain begins where its topic begins, unless the topic is kept for ever', async () => {
  const { halted } = await startInstance(endAt(9, 3))
  expect(halted).toEqual(['the topic is kept for ever, but begins at offset 3'])
  const { from } = await startInstance(endAt(9, 3, 'notifier.commands'))
  expect(from).toBe(3n)
})

test.each([
  ['update', (as: Database) => as`update audit.records set value = null`],
  ['delete', (as: Database) => as`delete from audit.records`],
  ['truncate', (as: Database) => as`truncate audit.records`],
  ['update of a checkpoint', (as: Database) => as`update audit.checkpoints set token = ''`],
  ['delete of a checkpoint', (as: Database) => as`delete from audit.checkpoints`],
  ['truncate of the checkpoints', (as: Database) => as`truncate audit.checkpoints`],
  ['insert of an epoch', (as: Database) => as`insert into audit.epochs values ('ledger.events', 1, '')`],
])('A1: the service’s role is refused: %s', async (_what, statement) => {
  await expect(statement(sql)).rejects.toMatchObject({ code: '42501' })
})

test('R1: every topic is recorded to its end, and recorded again from the first offset to the same hashes', {
  timeout: 60_000,
}, async () => {
  const client = createKafkaClient({ connection: kafka, clientId: 'audit-test', logger })
  const admin = client.admin()
  const publisher = await createPublisher(client)
  await admin.connect()
  // Bytes without a schema, in a topic that no service decodes.
  await publisher.publishAll(
    Array.from({ length: 1_200 }, (_, index) => ({
      topic: 'notifier.dead-letters' as const,
      key: String(index),
      value: Buffer.from(`not avro ${index}`),
      headers: { ce_id: randomUUID() },
    })),
  )

  const recordAll = async (into: Database) => {
    const recorder = createRecorder(into)
    const consumer = await startConsumer({
      client,
      logger,
      groupId: `audit-test-${randomUUID()}`,
      topics: RECORDED_TOPICS,
      ...recorder,
    })
    const ends = await admin.fetchTopicOffsets('notifier.dead-letters')
    await vi.waitFor(
      async () => {
        const [last] = await into<Array<{ end: bigint }>>`
          select max(record_offset) + 1 as end from audit.records where topic = 'notifier.dead-letters'`
        expect(last!.end >= BigInt(ends[0]!.high)).toBe(true)
        consumer.check()
      },
      { timeout: 30_000, interval: 50 },
    )
    await consumer.stop()
    return into<Array<{ offset: bigint; hash: Buffer }>>`
      select record_offset as offset, hash from audit.records
      where topic = 'notifier.dead-letters' and record_offset < ${ends[0]!.high} order by 1`
  }

  const rebuiltDatabase = await createAuditDatabase(superuserUrl)
  const rebuilt = openDatabase(rebuiltDatabase.url('audit'), { applicationName: 'test' })
  try {
    const live = await recordAll(sql)
    expect((await verify()).broken).toBe(0)
    expect(live.length).toBeGreaterThanOrEqual(1_200)
    expect((await recordAll(rebuilt)).slice(0, live.length)).toEqual(live)
  } finally {
    await Promise.all([admin.disconnect(), publisher.stop(), rebuilt.end()])
    await rebuiltDatabase.drop()
  }
})
