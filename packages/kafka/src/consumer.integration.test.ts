import { randomUUID } from 'node:crypto'
import type { Topic } from '@pennywire/contracts/topics.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import kafkajs from 'kafkajs'
import { afterAll, afterEach, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { createKafkaClient } from './client.ts'
import { type Consumer, type ConsumerOptions, startConsumer } from './consumer.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import type { IncomingRecord } from './record.ts'

const logger = createLogger('test', { level: 'silent', instance: 'test' })
const client = createKafkaClient({
  connection: inject('stack').kafka,
  clientId: 'consumer-test',
  logger,
})
const admin = client.admin()
let publisher: Publisher
const started: Consumer[] = []

beforeAll(async () => {
  await admin.connect()
  publisher = await createPublisher(client)
})
afterEach(async () => {
  await Promise.all(started.splice(0).map(consumer => consumer.stop()))
})
afterAll(() => Promise.all([admin.disconnect(), publisher.stop()]))

/** A topic of the test's own. */
const makeTopic = async (partitions = 1): Promise<Topic> => {
  const topic = `consumer-test-${randomUUID()}`
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: partitions }] })
  return topic as Topic
}

/** Appends records with values `first`, `first + 1`, … to a partition; on a new topic the values equal the offsets. */
const fill = (topic: Topic, partition: number, first: number, count: number, padding = 0) =>
  publisher.publishAll(
    Array.from({ length: count }, (_, index) => ({
      topic,
      partition,
      key: 'key',
      value: Buffer.from(`${first + index}${' '.repeat(padding)}`),
      headers: {},
    })),
  )

const fromTheStart: ConsumerOptions['positions'] = async (_assigned, readEnds) =>
  (await readEnds()).map(({ topic, partition, first }) => ({ topic, partition, offset: first }))

const start = async (topic: Topic, options: Partial<ConsumerOptions> & Pick<ConsumerOptions, 'handle'>) => {
  const consumer = await startConsumer({
    client,
    logger,
    groupId: `group-${topic}`,
    topics: [topic],
    positions: fromTheStart,
    ...options,
  })
  started.push(consumer)
  return consumer
}

const numbers = (count: number, first = 0) => Array.from({ length: count }, (_, index) => first + index)
const offsetsOf = (records: IncomingRecord[], partition = 0) =>
  records.filter(record => record.partition === partition).map(({ offset }) => Number(offset))
const until = (condition: () => void) => vi.waitFor(condition, { timeout: 20_000, interval: 20 })

/** A promise that stays pending until the test opens it. */
const door = () => {
  let open: () => void = () => {}
  const passed = new Promise<void>(resolve => {
    open = resolve
  })
  return { passed, open: () => open() }
}

test('O2: each partition keeps its order through batches, which are bounded and never handled side by side', async () => {
  const topic = await makeTopic(3)
  for (const partition of [0, 1, 2]) await fill(topic, partition, 0, 1_500)
  const seen: IncomingRecord[] = []
  const sizes: number[] = []
  let running = 0
  let side = 0
  await start(topic, {
    maxBatch: 50,
    handle: async records => {
      side = Math.max(side, ++running)
      await new Promise(setImmediate)
      sizes.push(records.length)
      seen.push(...records)
      running--
    },
  })
  await until(() => expect(seen.length).toBe(4_500))
  for (const partition of [0, 1, 2]) {
    expect(offsetsOf(seen, partition)).toEqual(numbers(1_500))
    const values = seen.filter(record => record.partition === partition).map(({ value }) => Number(value))
    expect(values).toEqual(numbers(1_500))
  }
  expect([side, Math.max(...sizes)]).toEqual([1, 50])
})

test('a consumer that gathers handles each record in order, also one that no other follows', async () => {
  const topic = await makeTopic()
  const seen: IncomingRecord[] = []
  await start(topic, { gathers: true, handle: async records => void seen.push(...records) })
  for (const count of [1, 700, 1]) {
    const before = seen.length
    await fill(topic, 0, before, count)
    await until(() => expect(seen.length).toBe(before + count))
  }
  expect(offsetsOf(seen)).toEqual(numbers(702))
})

test('X1: a batch that fails comes again as it was until it is handled, and nothing is skipped', async () => {
  const topic = await makeTopic()
  await fill(topic, 0, 0, 300)
  const attempts: number[][] = []
  const handled: IncomingRecord[] = []
  const shut = door()
  let failures = 0
  const consumer = await start(topic, {
    maxBatch: 100,
    handle: async records => {
      attempts.push(offsetsOf(records))
      if (handled.length > 0 && failures < 2) {
        failures++
        throw new Error('the database is away')
      }
      if (handled.length > 0) await shut.passed
      handled.push(...records)
    },
  })
  await until(() => expect(failures).toBe(2))
  expect(() => consumer.check()).toThrow('the database is away')
  await until(() => expect(attempts.length).toBe(4))
  shut.open()
  await until(() => expect(handled.length).toBe(300))
  expect(offsetsOf(handled)).toEqual(numbers(300))
  expect(attempts[2]).toEqual(attempts[1])
  expect(attempts[3]).toEqual(attempts[1])
  consumer.check()
})

test('X1: a batch that never ends turns readiness red, and ends it when it does', async () => {
  const topic = await makeTopic()
  await fill(topic, 0, 0, 3)
  const shut = door()
  const handled: IncomingRecord[] = []
  const consumer = await start(topic, {
    stuckAfterMs: 200,
    handle: async records => {
      await shut.passed
      handled.push(...records)
    },
  })
  await until(() => expect(() => consumer.check()).toThrow(/^a batch has been running for \d+ s$/))
  shut.open()
  await until(() => expect(handled.length).toBe(3))
  consumer.check()
})

test('a consumer that kafkajs has given up is started again', async () => {
  const topic = await makeTopic()
  await fill(topic, 0, 0, 10)
  // The group refuses a member without a common assignment protocol, and kafkajs treats the refusal as final.
  const { MemberAssignment, MemberMetadata } = kafkajs.AssignerProtocol
  const other: kafkajs.PartitionAssigner = () => ({
    ...{ name: 'Other', version: 1 },
    assign: async ({ members }) =>
      members.map(({ memberId }) => ({
        memberId,
        memberAssignment: MemberAssignment.encode({ version: 1, assignment: {}, userData: Buffer.alloc(0) }),
      })),
    protocol: ({ topics }) => ({
      name: 'Other',
      metadata: MemberMetadata.encode({ version: 1, topics, userData: Buffer.alloc(0) }),
    }),
  })
  const stranger = client.consumer({ groupId: `group-${topic}`, partitionAssigners: [other] })
  const joined = new Promise(resolve => stranger.on(stranger.events.GROUP_JOIN, resolve))
  await stranger.connect()
  await stranger.subscribe({ topics: [topic] })
  await stranger.run({ eachMessage: async () => {} })
  await joined

  const seen: IncomingRecord[] = []
  const consumer = await start(topic, { handle: async records => void seen.push(...records) })
  expect(() => consumer.check()).toThrow('not positioned')
  await stranger.disconnect()
  await until(() => expect(offsetsOf(seen)).toEqual(numbers(10)))
})

test('X1: a seek reads again from there, no matter what had come already', async () => {
  const topic = await makeTopic()
  await fill(topic, 0, 0, 1_000)
  const batches: number[][] = []
  let sought = 0
  await start(topic, {
    maxBatch: 40,
    handle: async (records, consumer) => {
      batches.push(offsetsOf(records))
      if (sought < 3 && records.at(-1)!.offset >= 300n) {
        sought++
        consumer.seek({ topic, partition: 0, offset: 10n })
      }
    },
  })
  await until(() => expect(batches.at(-1)?.at(-1)).toBe(999))
  const firstAfterSeeks = batches.flatMap((batch, index) =>
    index > 0 && batch[0] !== batches[index - 1]!.at(-1)! + 1 ? [batch[0]] : [],
  )
  expect(firstAfterSeeks).toEqual([10, 10, 10])
  for (const batch of batches) expect(batch).toEqual(numbers(batch.length, batch[0]))
})

test('a halted partition stops, and the check names it; the others go on', async () => {
  const topic = await makeTopic(2)
  await fill(topic, 0, 0, 500)
  await fill(topic, 1, 0, 10)
  const seen: IncomingRecord[] = []
  let seenOfHalted: number | undefined
  const consumer = await start(topic, {
    maxBatch: 20,
    handle: async (records, self) => {
      seen.push(...records)
      if (seenOfHalted !== undefined || offsetsOf(records).length === 0) return
      self.halt({ topic, partition: 0 }, 'not the topic remembered')
      seenOfHalted = offsetsOf(seen).length
    },
  })
  await until(() => expect(seenOfHalted).toBeGreaterThan(0))
  for (const round of numbers(5)) {
    await fill(topic, 0, 500 + round, 1)
    await fill(topic, 1, 10 + round, 1)
    await until(() => expect(offsetsOf(seen, 1).at(-1)).toBe(10 + round))
  }
  expect(offsetsOf(seen).length).toBe(seenOfHalted)
  expect(() => consumer.check()).toThrow(`${topic}/0 is halted: not the topic remembered`)
  expect(consumer.assigned()).toEqual([{ topic, partition: 1 }])
})

test('P1: long backlogs in some partitions do not hold up the others: a batch takes of each', async () => {
  const topic = await makeTopic(3)
  await fill(topic, 0, 0, 1_000)
  await fill(topic, 1, 0, 1_000)
  await fill(topic, 2, 0, 150)
  const batches: IncomingRecord[][] = []
  const shut = door()
  const consumer = await start(topic, {
    maxBatch: 99,
    handle: async records => {
      batches.push(records)
      await shut.passed
    },
  })
  await until(() => expect(consumer.waiting() + (batches[0]?.length ?? 0)).toBe(2_150))
  shut.open()
  await until(() => expect(batches.flat().length).toBe(2_150))
  expect([0, 1, 2].map(partition => offsetsOf(batches[1]!, partition).length)).toEqual([33, 33, 33])
})

test('what waits is bounded while handling takes long, and comes afterwards without a hole', async () => {
  const topic = await makeTopic(2)
  // 20 MB: one fetch returns 1 MB at most, so several are needed.
  await fill(topic, 0, 0, 10_000, 2_000)
  await fill(topic, 0, 10_000, 10_000, 0)
  const seen: IncomingRecord[] = []
  const shut = door()
  const consumer = await start(topic, {
    handle: async records => {
      await shut.passed
      seen.push(...records)
    },
  })
  await until(() => expect(consumer.waiting()).toBeGreaterThanOrEqual(2_000))
  // Each record arrives with another fetch, which could also return more of the first partition.
  for (const round of numbers(20)) {
    const before = consumer.waiting()
    await fill(topic, 1, round, 1)
    await until(() => expect(consumer.waiting()).toBeGreaterThan(before))
  }
  expect(consumer.waiting()).toBeLessThan(3_500)
  shut.open()
  await until(() => expect(seen.length).toBe(20_020))
  expect(offsetsOf(seen)).toEqual(numbers(20_000))
})

describe('positions', () => {
  test('are asked with what each partition holds, and again until they are known; nothing is handled before', async () => {
    const topic = await makeTopic(2)
    await fill(topic, 0, 0, 30)
    await fill(topic, 1, 0, 5)
    // kafkajs deletes records only after it has looked up the leaders.
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '10' }] })
    const calls: unknown[] = []
    const seen: IncomingRecord[] = []
    const shut = door()
    const consumer = await start(topic, {
      positions: async (assigned, readEnds) => {
        const ends = await readEnds()
        calls.push({ assigned: assigned.length, ends })
        if (calls.length < 3) throw new Error('not yet')
        await shut.passed
        return [
          { topic, partition: 0, offset: 25n },
          { topic, partition: 1, offset: 5n },
        ]
      },
      handle: async records => void seen.push(...records),
    })
    await until(() => expect(calls.length).toBe(3))
    expect(() => consumer.check()).toThrow('not positioned')
    const ends = [
      { topic, partition: 0, first: 10n, offset: 30n },
      { topic, partition: 1, first: 0n, offset: 5n },
    ]
    expect(calls).toEqual(Array(3).fill({ assigned: 2, ends: expect.arrayContaining(ends) }))
    expect(seen).toEqual([])
    shut.open()
    await fill(topic, 1, 5, 1)
    await until(() => expect(seen.length).toBe(6))
    expect([offsetsOf(seen, 0), offsetsOf(seen, 1)]).toEqual([numbers(5, 25), [5]])
    consumer.check()
  })

  test('X1: two members share the partitions, and the one that stays takes over where the other stored', {
    timeout: 60_000,
  }, async () => {
    const topic = await makeTopic(4)
    for (const partition of numbers(4)) await fill(topic, partition, 0, 50)
    // The database that both members share.
    const stored = new Map<number, bigint>()
    const seen: IncomingRecord[] = []
    const askedOf: Record<string, number[][]> = { one: [], two: [] }
    const member = (name: 'one' | 'two') =>
      start(topic, {
        maxBatch: 10,
        positions: async (assigned, readEnds) => {
          askedOf[name]!.push(assigned.map(({ partition }) => partition))
          return (await readEnds()).map(({ partition }) => ({
            topic,
            partition,
            offset: stored.get(partition) ?? 0n,
          }))
        },
        handle: async records => {
          for (const record of records) {
            const next = stored.get(record.partition) ?? 0n
            if (record.offset > next) throw new Error(`a gap before ${record.offset}`)
            seen.push(record)
            if (record.offset === next) stored.set(record.partition, next + 1n)
          }
        },
      })
    const storedOffsets = () => numbers(4).map(partition => Number(stored.get(partition) ?? 0n))

    const one = await member('one')
    await until(() => expect(storedOffsets()).toEqual([50, 50, 50, 50]))
    const two = await member('two')
    await until(() => {
      expect([one.assigned().length, two.assigned().length]).toEqual([2, 2])
      one.check()
      two.check()
    })
    const partitions = [...one.assigned(), ...two.assigned()].map(({ partition }) => partition)
    expect(partitions.toSorted()).toEqual(numbers(4))
    for (const partition of numbers(4)) await fill(topic, partition, 50, 50)
    await one.stop()
    for (const partition of numbers(4)) await fill(topic, partition, 100, 50)
    await until(() => expect(storedOffsets()).toEqual([150, 150, 150, 150]))
    two.check()
    for (const partition of numbers(4)) {
      expect([...new Set(offsetsOf(seen, partition))].toSorted((a, b) => a - b)).toEqual(numbers(150))
    }
    expect(askedOf.one!.map(({ length }) => length)).toEqual([4, 2])
    expect(askedOf.two!.map(({ length }) => length)).toEqual([2, 4])
  })

  test('O2: a rebalance while they are asked for: every end of the assignment is told or none, and one call is over before the next', {
    timeout: 60_000,
  }, async () => {
    const topic = await makeTopic(4)
    for (const partition of numbers(4)) await fill(topic, partition, 0, 20)
    const calls: number[] = []
    const told: [assigned: number[], ends: number[]][] = []
    const refused: string[] = []
    let sideBySide = 0
    const shut = door()
    const member = () => {
      let running = 0
      return start(topic, {
        positions: async (assigned, readEnds) => {
          if (++running > 1) sideBySide++
          calls.push(assigned.length)
          try {
            // The first call is still pending when the second member has joined.
            if (calls.length === 1) await shut.passed
            const ends = await readEnds()
            told.push([assigned.map(({ partition }) => partition), ends.map(({ partition }) => partition)])
            return ends.map(({ partition, first }) => ({ topic, partition, offset: first }))
          } catch (error) {
            refused.push((error as Error).message)
            throw error
          } finally {
            running--
          }
        },
        handle: async () => {},
      })
    }
    const one = await member()
    await until(() => expect(calls).toEqual([4]))
    const two = await member()
    await until(() => expect([one.assigned().length, two.assigned().length]).toEqual([2, 2]))
    shut.open()
    await until(() => {
      one.check()
      two.check()
    })
    expect(sideBySide).toBe(0)
    expect(refused).toEqual(['assigned anew meanwhile'])
    expect(told.length).toBe(2)
    for (const [assigned, ends] of told) expect(ends).toEqual(assigned)
  })
})

test('X1: a topic made anew while it is read is never taken for the old one: the caller is asked again', async () => {
  const topic = await makeTopic()
  await fill(topic, 0, 0, 100)
  const values: string[] = []
  const ends: number[] = []
  const consumer = await start(topic, {
    positions: async (_assigned, readEnds, self) => {
      const [end] = await readEnds()
      ends.push(Number(end!.offset))
      // As the ledger does: decided offsets lie beyond the end, so this is another topic.
      if (end!.offset < BigInt(values.length)) self.halt(end!, 'made anew')
      return [{ topic, partition: 0, offset: BigInt(values.length) }]
    },
    handle: async records => void values.push(...records.map(({ value }) => String(value))),
  })
  await until(() => expect(values).toHaveLength(100))
  await admin.deleteTopics({ topics: [topic] })
  await vi.waitFor(async () => expect(await admin.listTopics()).not.toContain(topic), { timeout: 10_000 })
  await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 1 }] })
  await vi.waitFor(() => fill(topic, 0, 1_000, 10), { timeout: 10_000 })
  await until(() => expect(() => consumer.check()).toThrow(/halted: made anew/))
  expect(values).toEqual(numbers(100).map(String))
  expect(ends[0]).toBe(100)
}, 60_000)
