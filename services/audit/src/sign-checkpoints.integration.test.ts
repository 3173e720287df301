import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bytesOf, type Chain, genesisOf, hashAfter } from '@pennywire/kafka/hash-chain.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import { type ReadCheckpoint, readCheckpoint } from './checkpoint.ts'
import { checkpointKeys } from './checkpoint-keys.ts'
import type { CheckpointTopic } from './checkpoint-topic.ts'
import { startCheckpoints } from './sign-checkpoints.ts'
import { loadCheckpointsAfter } from './sql/checkpoints.ts'
import { insertRecords, loadLastRecords } from './sql/records.ts'
import { createAuditDatabase } from './sql/test-database.ts'

const { superuserUrl } = inject('stack')
const newKeys = () =>
  checkpointKeys.parse(generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }))
const keys = newKeys()
const EVERY_SECONDS = 0.2

let database: Awaited<ReturnType<typeof createAuditDatabase>>
let owner: Database
let sql: Database
let folder: string
let topic: string[]
const running: Array<ReturnType<typeof startCheckpoints>> = []

beforeAll(async () => {
  database = await createAuditDatabase(superuserUrl)
  owner = openDatabase(database.url(), { applicationName: 'test' })
  sql = openDatabase(database.url('audit'), { applicationName: 'test' })
})
beforeEach(async () => {
  await owner`truncate audit.records, audit.checkpoints, audit.epochs`
  folder = mkdtempSync(join(tmpdir(), 'pennywire-sign-'))
  topic = []
})
afterEach(async () => {
  await Promise.all(running.splice(0).map(({ stop }) => stop()))
  rmSync(folder, { recursive: true })
})
afterAll(async () => {
  await Promise.all([sql.end(), owner.end()])
  await database.drop()
})

const CHAIN: Chain = { topic: 'ledger.events', epoch: 0, partition: 0 }

/** Adds records to a chain, as the service does. */
const record = async (count: number, chain = CHAIN) => {
  const [last] = await loadLastRecords(sql, [chain])
  let hash = last?.hash ?? genesisOf(chain)
  let offset = last?.offset ?? -1n
  const rows = Array.from({ length: count }, () => {
    offset += 1n
    const one = {
      offset,
      timestampMs: 1n,
      key: null,
      headers: Buffer.alloc(0),
      value: Buffer.from(`${offset}`),
    }
    hash = hashAfter(hash, bytesOf(one))
    return { ...chain, ...one, hash }
  })
  await insertRecords(sql, rows)
}

/** A topic in memory: audit.checkpoints itself belongs to the running system. */
const memoryTopic = (): CheckpointTopic => ({
  readEnd: async () => topic.at(-1),
  readAll: async handle => {
    for (const token of [...topic]) await handle(token)
  },
  publish: async checkpoints => {
    topic.push(...checkpoints.map(({ token }) => token))
  },
})

const start = (options: Partial<Parameters<typeof startCheckpoints>[0]> = {}) => {
  const errors: string[] = []
  const logger = createLogger('audit', { level: 'silent', instance: 'test' })
  logger.error = ((_fields: { err: Error }) => errors.push(_fields.err.message)) as never
  const started = startCheckpoints({
    ...{ sql, topic: memoryTopic(), logger, clock: systemClock, keys, everySeconds: EVERY_SECONDS },
    ...{ file: join(folder, 'checkpoints.txt'), everyRecords: 1_000_000, ...options },
  })
  running.push(started)
  return { ...started, errors }
}

const stored = async () => (await loadCheckpointsAfter(sql, 0n, 1_000)).map(({ token }) => token)
const linesOf = (file = 'checkpoints.txt') => readFileSync(join(folder, file), 'utf8').trimEnd().split('\n')
const read = (token: string): ReadCheckpoint => {
  const result = readCheckpoint(token, keys.publicKeys)
  if ('fault' in result) throw new Error(result.fault)
  return result.checkpoint
}
const until = (check: () => unknown) => vi.waitFor(check, { timeout: 10_000, interval: 20 })
const untilSigned = (count: number) =>
  until(async () => {
    expect(await stored()).toHaveLength(count)
    expect(topic).toEqual(await stored())
    expect(linesOf()).toEqual(await stored())
  })
const untilFailing = (part: string, value: number) =>
  until(async () => {
    const line = `pennywire_audit_checkpoints_failing{part="${part}"} ${value}`
    expect((await metricsText()).split('\n').filter(one => one.includes(`part="${part}"`))).toEqual([line])
  })
const rest = () => new Promise(resolve => setTimeout(resolve, 4_000 * EVERY_SECONDS))

test('each states the heads of all chains, and stands in the database, the topic and the file', async () => {
  await record(3)
  await record(2, { ...CHAIN, partition: 1 })
  start()
  await untilSigned(1)
  await record(4)
  await untilSigned(2)
  const [first, second] = (await stored()).map(read)
  expect(first!.chains).toMatchObject([
    { ...CHAIN, offset: 2n, records: 3n },
    { ...CHAIN, partition: 1, offset: 1n, records: 2n },
  ])
  const [last] = await loadLastRecords(sql, [CHAIN])
  expect(second!.chains[0]).toMatchObject({ offset: 6n, records: 7n, hash: last!.hash.toString('hex') })
  expect(second).toMatchObject({ sequence: 2n, previous: first!.hash })
})

test('nothing is signed while nothing is new', async () => {
  start()
  await rest()
  expect(await stored()).toEqual([])
  await record(1)
  await untilSigned(1)
  await rest()
  expect(await stored()).toHaveLength(1)
})

test('many records are signed before the interval is over', async () => {
  await record(1)
  const { onRecorded } = start({ everySeconds: 3_600, everyRecords: 10 })
  await untilSigned(1)
  await record(9)
  onRecorded(9)
  await rest()
  expect(await stored()).toHaveLength(1)
  await record(1)
  onRecorded(1)
  await untilSigned(2)
})

test('three instances at once make one chain; each has a whole file of its own', async () => {
  const files = ['a.txt', 'b.txt', 'c.txt']
  for (const file of files) start({ file: join(folder, file), everyRecords: 1 }).onRecorded(1_000_000)
  for (let round = 0; round < 10; round++) {
    await record(5)
    await rest()
  }
  await Promise.all(running.splice(0).map(({ stop }) => stop()))
  const all = (await stored()).map(read)
  expect(all.length).toBeGreaterThan(5)
  for (const [index, { sequence, previous }] of all.entries()) {
    expect(sequence).toBe(BigInt(index + 1))
    if (index > 0) expect(previous).toBe(all[index - 1]!.hash)
  }
  // The topic may hold repeats, but none of them before its predecessor.
  let most = 0n
  for (const token of topic) {
    const { sequence } = read(token)
    expect(sequence <= most + 1n).toBe(true)
    if (sequence > most) most = sequence
  }
  expect(most >= BigInt(all.length - 1)).toBe(true)
  const tokens = await stored()
  for (const file of files) expect(linesOf(file)).toEqual(tokens.slice(0, linesOf(file).length))
})

describe('a restart', () => {
  beforeEach(async () => {
    await record(3)
    start()
    await untilSigned(1)
    await record(3)
    await untilSigned(2)
    await running.pop()!.stop()
  })

  test('goes on with the next number', async () => {
    start()
    await record(1)
    await untilSigned(3)
  })

  test('mends a torn line and fills a file and a topic that lack checkpoints', async () => {
    writeFileSync(join(folder, 'checkpoints.txt'), `${topic[0]}\n`)
    appendFileSync(join(folder, 'checkpoints.txt'), topic[1]!.slice(0, 50))
    topic.pop()
    start()
    await untilSigned(2)
  })

  test.each(['topic', 'file'])(
    'takes back from the %s what an older backup of the database lacks',
    async where => {
      const before = await stored()
      await owner`delete from audit.checkpoints where sequence = 2`
      if (where === 'topic') rmSync(join(folder, 'checkpoints.txt'))
      else topic.pop()
      start()
      await untilSigned(2)
      expect(await stored()).toEqual(before)
      await record(1)
      await untilSigned(3)
    },
  )

  test('another key verifies what the earlier one signed, and signs the next', async () => {
    const next = newKeys()
    start({ keys: { ...next, publicKeys: new Map([...next.publicKeys, ...keys.publicKeys]) } })
    await record(1)
    await until(async () => expect(await stored()).toHaveLength(3))
    expect(readCheckpoint((await stored())[2]!, next.publicKeys)).toHaveProperty('checkpoint')
  })

  test.each<[string, () => Promise<unknown> | unknown, string]>([
    [
      'the trail was cut off',
      () => owner`delete from audit.records where record_offset >= 4`,
      'the trail holds no record at ledger.events epoch 0 partition 0 offset 5, which checkpoint 2 states',
    ],
    [
      'the trail was rewritten',
      () => owner`update audit.records set hash = decode(repeat('00', 32), 'hex') where record_offset = 5`,
      'the trail holds another record at ledger.events epoch 0 partition 0 offset 5, which checkpoint 2 states',
    ],
    [
      'the database has another checkpoint than the topic',
      () =>
        owner`update audit.checkpoints set token = (select token from audit.checkpoints where sequence = 1)`,
      'the database has another checkpoint 2 than audit.checkpoints',
    ],
    [
      'the topic ends with a stranger’s record',
      () => topic.push('forged'),
      'checkpoint ? in audit.checkpoints: it is no checkpoint: its text cannot be read',
    ],
    [
      'the database lacks more than the topic can give back',
      async () => {
        await owner`delete from audit.checkpoints`
        topic.shift()
        rmSync(join(folder, 'checkpoints.txt'))
      },
      "checkpoint 2 in audit.checkpoints does not continue the database's checkpoint 0",
    ],
  ])('signs nothing, and says so, where %s', async (_what, change, message) => {
    await change()
    const before = await stored()
    const { errors } = start()
    await untilFailing('sign', 1)
    await record(1, { ...CHAIN, partition: 5 })
    await rest()
    expect(errors[0]).toBe(message)
    expect(await stored()).toEqual(before)
  })
})

test('a full disk or a broker that is away stops no signing; what is missing is added later', async () => {
  const blocked = join(folder, 'blocked')
  writeFileSync(blocked, 'a file where the folder should be')
  const away = { on: true }
  const flaky = memoryTopic()
  start({
    file: join(blocked, 'checkpoints.txt'),
    topic: {
      ...flaky,
      publish: checkpoints => (away.on ? Promise.reject(new Error('away')) : flaky.publish(checkpoints)),
    },
  })
  await record(1)
  await untilFailing('file', 1)
  await untilFailing('topic', 1)
  await record(1)
  await until(async () => expect((await stored()).length).toBeGreaterThan(1))
  rmSync(blocked)
  away.on = false
  await untilFailing('file', 0)
  await untilFailing('topic', 0)
  await until(async () => {
    expect(topic).toEqual(await stored())
    expect(linesOf('blocked/checkpoints.txt')).toEqual(await stored())
  })
})
