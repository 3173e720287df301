import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { countOutbox, createGatewayDatabase } from '../sql/test-database.ts'
import { createInTransaction } from './in-transaction.ts'
import { startOutboxRelay } from './relay-outbox.ts'
import { appendToOutbox } from './sql/outbox.ts'

const { superuserUrl } = inject('stack')
const logger = createLogger('test', { level: 'fatal', instance: 'test' })
const NEVER_MS = 3_600_000

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
})
afterAll(async () => {
  await sql.end()
  await database.drop()
})

let published: string[]
beforeEach(() => {
  published = []
})
const publisher = {
  publishAll: async (records: OutgoingRecord[]) => void published.push(...records.map(({ key }) => key)),
}
const record = (key: string): OutgoingRecord => ({
  topic: 'identity.events',
  key,
  value: Buffer.from([1, 2, 3]),
  headers: { ce_id: key },
})
const append = (...keys: string[]) => sql.begin(tx => appendToOutbox(tx, keys.map(record)))
const keysUpTo = (count: number) => Array.from({ length: count }, (_, index) => String(index))

test('a commit wakes the relay; records go out in order and leave once acknowledged', async () => {
  const relay = startOutboxRelay({ sql, publisher, logger, pollMs: NEVER_MS })
  const inTransaction = createInTransaction(sql, relay.wake)
  await inTransaction(tx => appendToOutbox(tx, keysUpTo(1_200).map(record)))
  await vi.waitFor(async () => expect(await countOutbox(sql)).toBe(0))
  expect(published).toEqual(keysUpTo(1_200))
  await expect(
    inTransaction(async tx => {
      await appendToOutbox(tx, [record('rolled back')])
      throw new Error('no')
    }),
  ).rejects.toThrow('no')
  await inTransaction(tx => appendToOutbox(tx, [record('last')]))
  await vi.waitFor(() => expect(published.at(-1)).toBe('last'))
  expect(published).not.toContain('rolled back')
  await relay.stop()
})

test('a transaction that drew its ids early and commits late is not skipped', async () => {
  const relay = startOutboxRelay({ sql, publisher, logger, pollMs: 20 })
  let commitLate: () => void = () => {}
  let appended: () => void = () => {}
  const hasAppended = new Promise<void>(resolve => {
    appended = resolve
  })
  const late = sql.begin(async tx => {
    await appendToOutbox(tx, [record('early id')])
    appended()
    await new Promise<void>(resolve => {
      commitLate = resolve
    })
  })
  await hasAppended
  await append('late id')
  await vi.waitFor(() => expect(published).toEqual(['late id']))
  commitLate()
  await late
  await vi.waitFor(() => expect(published).toEqual(['late id', 'early id']))
  await relay.stop()
})

test('while Kafka is away everything is kept, and goes out once it is back', async () => {
  let away = true
  const flaky = {
    publishAll: async (records: OutgoingRecord[]) => {
      if (away) throw new Error('away')
      await publisher.publishAll(records)
    },
  }
  const relay = startOutboxRelay({ sql, publisher: flaky, logger, pollMs: 20 })
  await append('a', 'b')
  relay.wake()
  expect(await countOutbox(sql)).toBe(2)
  away = false
  await vi.waitFor(() => expect(published).toEqual(['a', 'b']))
  await vi.waitFor(async () => expect(await countOutbox(sql)).toBe(0))
  await relay.stop()
})

test('two relays take turns: every record once, in order; one that stops leaves the rest to the other', async () => {
  const relays = [1, 2].map(() => startOutboxRelay({ sql, publisher, logger, pollMs: 5 }))
  for (let i = 0; i < 30; i++) {
    await append(String(i))
    for (const relay of relays) relay.wake()
    if (i === 20) await relays[0]!.stop()
  }
  await vi.waitFor(() => expect(published).toEqual(keysUpTo(30)))
  await relays[1]!.stop()
})

test('O2: a record that Kafka refuses holds the later ones of its user, and of nobody else', async () => {
  let refuses = true
  const sent: string[] = []
  const picky = {
    publishAll: async (records: OutgoingRecord[]) => {
      for (const { headers } of records) {
        if (refuses && headers.ce_id === 'a 2') throw new Error('the record is too large')
        sent.push(headers.ce_id!)
      }
    },
  }
  const relay = startOutboxRelay({ sql, publisher: picky, logger, pollMs: 20 })
  const of = (user: string, number: number): OutgoingRecord => ({
    ...record(user),
    headers: { ce_id: `${user} ${number}` },
  })
  await sql.begin(tx =>
    appendToOutbox(
      tx,
      [1, 2, 3].flatMap(number => ['a', 'b', 'c'].map(user => of(user, number))),
    ),
  )
  await vi.waitFor(() => expect(sent).toEqual(expect.arrayContaining(['b 3', 'c 3'])))
  await sql.begin(tx => appendToOutbox(tx, [of('d', 1), of('a', 4)]))
  await vi.waitFor(() => expect(sent).toContain('d 1'))
  expect(sent).not.toContain('a 3')
  expect(await countOutbox(sql)).toBe(4)
  refuses = false
  await vi.waitFor(async () => expect(await countOutbox(sql)).toBe(0), { timeout: 8_000 })
  for (const user of ['a', 'b', 'c'])
    expect([...new Set(sent.filter(id => id.startsWith(user)))].slice(0, 3)).toEqual(
      [1, 2, 3].map(number => `${user} ${number}`),
    )
  await relay.stop()
}, 15_000)

test('O1: a relay that stands still in the middle loses its lease, and another goes on', async () => {
  let freeze: () => void = () => {}
  const frozen = new Promise<void>(resolve => {
    freeze = resolve
  })
  let thaw: () => void = () => {}
  const still = startOutboxRelay({
    sql,
    publisher: {
      publishAll: () =>
        new Promise<void>(resolve => {
          thaw = resolve
          freeze()
        }),
    },
    logger,
    pollMs: NEVER_MS,
    leaseMs: 200,
  })
  await append('x', 'y')
  still.wake()
  await frozen
  const other = startOutboxRelay({ sql, publisher, logger, pollMs: 20 })
  await vi.waitFor(() => expect(published).toEqual(['x', 'y']), { timeout: 5_000 })
  await vi.waitFor(async () => expect(await countOutbox(sql)).toBe(0))
  const stopping = still.stop()
  thaw()
  await Promise.all([stopping, other.stop()])
}, 15_000)
