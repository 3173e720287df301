// `audit:rebuild` against the brokers: equal to what was recorded live, stopped and resumed, and put in its place.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { RECORDED_TOPICS } from '@pennywire/contracts/topics.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { type RunningConsumer, startConsumer } from '@pennywire/kafka/consumer.ts'
import { bytesOf, type Chain, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import { createPublisher, type Publisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, LONG_DEADLINE_MS, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, afterEach, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { GENESIS, type SigningKey, signCheckpoint } from './checkpoint.ts'
import { checkpointKeys } from './checkpoint-keys.ts'
import { encodeRows } from './copy-rows.ts'
import { rebuildTrail } from './rebuild-trail.ts'
import { createRecorder } from './record-topics.ts'
import { insertCheckpoint, loadChainHeads } from './sql/checkpoints.ts'
import { copyRows, createRebuilt, dropRebuilt } from './sql/rebuild.ts'
import { loadRecordsAfter } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'
import { verifyChains } from './verify-chains.ts'

const { superuserUrl, kafka, kafkaEnv } = inject('stack')
const logger = createLogger('audit', { level: 'silent', instance: 'test' })
const client = createKafkaClient({ connection: kafka, clientId: 'rebuild-test', logger })
const OWNER = 'pennywire_owner'
const REAL: Chain = { topic: 'notifier.dead-letters', epoch: 0, partition: 0 }
const RECORDS = 12_000
/** Between the batches of live traffic. */
const PAUSE_MS = 50

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
let sql: Database
let publisher: Publisher
let live: RunningConsumer

const publish = async (count: number) => {
  for (let first = 0; first < count; first += 5_000)
    await publisher.publishAll(
      Array.from({ length: Math.min(5_000, count - first) }, (_, index) => ({
        topic: 'notifier.dead-letters' as const,
        key: String(index),
        value: index % 100 === 0 ? null : Buffer.from(`not avro ${first + index}`),
        headers: index % 7 === 0 ? {} : { ce_id: randomUUID() },
      })),
    )
}
const endOfTopic = async () => {
  const admin = client.admin()
  await admin.connect()
  const [end] = await admin.fetchTopicOffsets('notifier.dead-letters')
  await admin.disconnect()
  return BigInt(end!.high)
}
const recordedTo = async () =>
  (await loadChainHeads(sql)).find(({ topic }) => topic === REAL.topic)?.offset ?? -1n
/** Waits until the live trail has everything. */
const untilRecorded = () =>
  vi.waitFor(async () => expect(await recordedTo()).toBe((await endOfTopic()) - 1n), {
    timeout: 60_000,
    interval: 100,
  })

beforeAll(async () => {
  database = await createAuditDatabase(superuserUrl)
  // A stack that is kept for days has a long topic.
  owner = openDatabase(database.url(OWNER), { applicationName: 'test', deadlineMs: LONG_DEADLINE_MS })
  sql = openDatabase(database.url('audit'), { applicationName: 'test' })
  publisher = await createPublisher(client)
  await publish(RECORDS)
  live = await startConsumer({
    ...{ client, logger, groupId: `audit-test-${randomUUID()}`, topics: RECORDED_TOPICS },
    ...createRecorder(sql),
  })
  await untilRecorded()
}, 120_000)
afterEach(() => dropRebuilt(owner))
afterAll(async () => {
  await Promise.all([live.stop(), publisher.stop(), sql.end(), owner.end()])
  await database.drop()
})

const rebuild = (...args: string[]) =>
  new Promise<{ exitCode: number; out: string; err: string }>(resolve =>
    execFile(
      process.execPath,
      [new URL('rebuild.ts', import.meta.url).pathname, ...args],
      { env: { OWNER_DATABASE_URL: database.url(OWNER), ...kafkaEnv.audit } },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )
const verify = async () => {
  let broken = 0
  for await (const chain of verifyChains(sql)) broken += chain.broken
  return broken
}
const rehash = async (from: bigint) => {
  const [before] = await loadRecordsAfter(sql, REAL, from - 2n, 1)
  let previous = before?.hash ?? genesisOf(REAL)
  const offsets: bigint[] = []
  const hashes: Buffer[] = []
  for (const record of await loadRecordsAfter(sql, REAL, from - 1n, 1_000_000)) {
    previous = hashAfter(previous, bytesOf(record))
    offsets.push(record.offset)
    hashes.push(previous)
  }
  await owner`
    update audit.records set hash = decode(changed.hash, 'hex')
    from unnest(${offsets.map(String)}::bigint[], ${hashes.map(hash => hash.toString('hex'))}::text[])
      as changed (record_offset, hash)
    where topic = ${REAL.topic} and records.record_offset = changed.record_offset`
}

test('R1: every topic, replayed from its first offset while the live trail grows, equals the live trail', {
  timeout: 120_000,
}, async () => {
  let stop = false
  const traffic = (async () => {
    while (!stop) {
      await publish(50)
      await sleep(PAUSE_MS)
    }
  })()
  const { exitCode, out } = await rebuild()
  stop = true
  await traffic
  expect(exitCode).toBe(0)
  expect(out).toMatch(/^\d+ records replayed in [\d.]+ s, \d+\/s$/m)
  expect(out).toMatch(/^[1-9]\d{4,} rows are equal to the live trail, 0 are not$/m)
  await untilRecorded()
})

test('R1: it is stopped and goes on where it was', { timeout: 120_000 }, async () => {
  const run = (stopAfter: number) => {
    const stopped = new AbortController()
    let done = 0
    const add = (count: number) => {
      done += count
      if (done >= stopAfter) stopped.abort()
    }
    return rebuildTrail({
      ...{ sql: owner, client, logger, clock: systemClock, signal: stopped.signal },
      progressOf: () => ({ add, end: () => {} }),
    })
  }
  expect(await run(1)).toBeNull()
  const before = (await loadChainHeads(owner, 'audit.records_rebuilt')).reduce(
    (sum, { records }) => sum + Number(records),
    0,
  )
  expect(before).toBeGreaterThan(0)
  const resumed = await run(Number.POSITIVE_INFINITY)
  expect(resumed).toMatchObject({ resumed: before })
  expect(resumed!.replayed).toBeGreaterThan(0)
  const { exitCode, out } = await rebuild('--json')
  expect(exitCode).toBe(0)
  expect(JSON.parse(out)).toMatchObject({ ok: true, comparison: { different: 0, first: null } })
})

test.each<[string, string, () => Promise<unknown>, () => Promise<unknown>]>([
  [
    'edited',
    'the live trail holds another record here than the topic',
    () => owner`update audit.records set value = 'x' where topic = ${REAL.topic} and record_offset = 77`,
    async () => {},
  ],
  [
    'removed',
    'the live trail does not hold it',
    () => owner`delete from audit.records where topic = ${REAL.topic} and record_offset = 77`,
    async () => {},
  ],
])(
  'R1: a record %s in the live trail is found, and the exchange heals it beside the running service',
  {
    timeout: 120_000,
  },
  async (_what, reason, tamper) => {
    await untilRecorded()
    await tamper()
    const found = await rebuild()
    expect(found.out).toContain(
      `first difference: notifier.dead-letters epoch 0 partition 0 offset 77: ${reason}\n`,
    )
    expect(found.exitCode).toBe(1)
    expect(await verify()).toBeGreaterThan(0)
    const swapped = await rebuild('--swap')
    const [, replaced] = /^the rebuilt trail is live; the old one is (audit\.records_replaced_\d+)$/m.exec(
      swapped.out,
    )!
    expect(swapped.exitCode).toBe(0)
    await publish(10)
    await untilRecorded()
    expect(await verify()).toBe(0)
    live.check()
    await owner`drop table ${owner(replaced!)}`
  },
)

test('R1: a rewritten history is replaced while records come: the service reads again what it had recorded on top', {
  timeout: 120_000,
}, async () => {
  await untilRecorded()
  await owner`update audit.records set value = 'x' where topic = ${REAL.topic} and record_offset = 50`
  await rehash(50n)
  let stop = false
  const traffic = (async () => {
    while (!stop) {
      await publish(50)
      await sleep(PAUSE_MS)
    }
  })()
  const { exitCode, out } = await rebuild('--swap')
  await sleep(1_000)
  stop = true
  await traffic
  expect(exitCode).toBe(0)
  expect(out).toContain('offset 50: the live trail holds another record here than the topic\n')
  await untilRecorded()
  live.check()
  expect(await verify()).toBe(0)
  const compared = await rebuild('--restart')
  expect(compared.out).toMatch(/ rows are equal to the live trail, 0 are not$/m)
  const [, replaced] = /the old one is (audit\.records_replaced_\d+)/.exec(out)!
  await owner`drop table ${owner(replaced!)}`
})

test('what no topic holds any more is taken over from the live trail, with its hashes recomputed', {
  timeout: 120_000,
}, async () => {
  const gone: Chain = { topic: 'ledger.events', epoch: 7, partition: 3 }
  let hash = genesisOf(gone)
  const rows = Array.from({ length: 12 }, (_, offset) => {
    const record = {
      offset: BigInt(offset),
      timestampMs: 1n,
      key: null,
      headers: Buffer.alloc(0),
      value: null,
    }
    hash = hashAfter(hash, bytesOf(record))
    return { ...gone, ...record, hash }
  })
  for (const row of rows)
    await owner`
      insert into audit.records (topic, epoch, partition, record_offset, record_time_ms, headers, hash)
      values (${row.topic}, ${row.epoch}, ${row.partition}, ${row.offset}, 1, '', ${row.hash})`
  const { exitCode, out } = await rebuild()
  expect(out).toContain('; 12 that no topic holds any more were taken over from the live trail')
  expect(exitCode).toBe(0)
  await owner`update audit.records set value = 'x' where epoch = 7 and record_offset = 4`
  const broken = await rebuild('--restart')
  expect(broken.err).toContain(
    "failed: ledger.events epoch 7 partition 3 offset 4: no topic holds it, and the live trail's record is broken",
  )
  expect(broken.exitCode).toBe(3)
  await owner`delete from audit.records where epoch = 7`
})

test('topics that contradict a checkpoint are not put in the place of the trail', {
  timeout: 120_000,
}, async () => {
  const { signing } = checkpointKeys.parse({
    ...{ kty: 'OKP', crv: 'Ed25519', d: 'TM0Imyj_ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U-4pvs' },
    x: 'PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw',
  }) as { signing: SigningKey }
  await untilRecorded()
  const chains = (await loadChainHeads(sql)).map(head =>
    head.topic === REAL.topic ? { ...head, hash: 'f'.repeat(64) } : head,
  )
  const token = signCheckpoint(signing, { sequence: 1n, time: 0, previous: GENESIS, chains })
  await insertCheckpoint(sql, { sequence: 1n, token })
  const { exitCode, out } = await rebuild('--swap')
  expect(out).toContain(
    'the rebuilt trail contradicts a checkpoint: notifier.dead-letters epoch 0 partition 0',
  )
  expect(out).toContain('it is not put in the place of the live trail')
  expect(exitCode).toBe(1)
  await owner`truncate audit.checkpoints`
})

describe('the command', () => {
  test('--help has no effect and needs no setting', async () => {
    const { exitCode, out } = await rebuild('--help')
    expect(out).toMatch(/^usage: npm run audit:rebuild/)
    expect(exitCode).toBe(0)
  })

  test.each([
    ['an unknown option', ['--colour']],
    ['options that exclude each other', ['--drop', '--swap']],
  ])('exit code 2: %s', async (_what, args) => expect((await rebuild(...args)).exitCode).toBe(2))

  test('--drop removes what was rebuilt', async () => {
    await createRebuilt(owner)
    expect((await rebuild('--drop')).exitCode).toBe(0)
    const [row] = await owner`select to_regclass('audit.records_rebuilt') as found`
    expect(row!.found).toBeNull()
  })
})

test('COPY stores every kind of field as it is, and nothing of a batch that clashes', async () => {
  await createRebuilt(owner)
  const row = {
    ...{ topic: 'ünicode', epoch: 1, partition: 2, offset: 9_007_199_254_740_993n, timestampMs: -1n },
    ...{
      key: null,
      headers: Buffer.alloc(0),
      value: Buffer.from([0, 255, 10, 92]),
      hash: Buffer.alloc(32, 7),
    },
  }
  await copyRows(owner, [row, { ...row, offset: 1n, key: Buffer.alloc(0), value: null }])
  const [first, second] = await owner`select * from audit.records_rebuilt order by record_offset desc`
  expect(first).toMatchObject({
    ...{ topic: 'ünicode', epoch: 1, partition: 2, record_offset: row.offset, record_time_ms: -1n },
    ...{ key: null, headers: row.headers, value: row.value, hash: row.hash },
  })
  expect(second).toMatchObject({ key: Buffer.alloc(0), value: null })
  await expect(copyRows(owner, [{ ...row, offset: 5n }, row])).rejects.toMatchObject({ code: '23505' })
  expect(await owner`select count(*)::int as count from audit.records_rebuilt`).toEqual([{ count: 2 }])
  expect(encodeRows([]).length).toBeGreaterThan(0)
})
