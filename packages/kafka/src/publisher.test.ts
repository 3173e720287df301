// The publisher when Kafka fails, over a producer whose failures the test chooses.
import { expect, test } from 'vitest'
import type { KafkaClient } from './client.ts'
import { createPublisher, NotSent, PublisherFull, RecordRefused } from './publisher.ts'
import type { RawRecord } from './record.ts'

type Batch = Map<number, string[]>

/** A broker's partitions of ledger.events. `fails` makes a request fail before it is applied, or after it (`done`). */
const start = async (
  fails: (batch: Batch, request: number) => { error: unknown; done?: boolean } | undefined,
  maxWaiting?: number,
) => {
  const log = new Map<number, string[]>()
  const requests: Batch[] = []
  const producer = {
    connect: async () => {},
    disconnect: async () => {},
    sendBatch: async ({ topicMessages }: { topicMessages: Array<{ messages: Array<RawRecord> }> }) => {
      const batch: Batch = new Map()
      for (const { partition, value } of topicMessages.flatMap(({ messages }) => messages))
        batch.set(partition!, [...(batch.get(partition!) ?? []), String(value)])
      requests.push(batch)
      const failure = fails(batch, requests.length)
      await new Promise(resolve => setImmediate(resolve))
      if (!failure || failure.done)
        for (const [partition, values] of batch)
          log.set(partition, [...(log.get(partition) ?? []), ...values])
      if (failure) throw failure.error
      return []
    },
  }
  const publisher = await createPublisher({ producer: () => producer } as unknown as KafkaClient, {
    ...(maxWaiting === undefined ? {} : { maxWaiting }),
    // Pauses take no time.
    clock: {
      now: Date.now,
      elapsed: Date.now,
      after: (_ms, action) => {
        setImmediate(action)
        return () => {}
      },
    },
  })
  return { publisher, log, requests }
}

const event = (partition: number, seq: number, bytes = 0): RawRecord => ({
  topic: 'ledger.events',
  partition,
  key: 'wallet',
  value: Buffer.from(String(seq).padEnd(bytes)),
  headers: {},
})
const events = (partition: number, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => event(partition, from + index))
const upTo = (count: number) => Array.from({ length: count }, (_, index) => String(index + 1))
const firsts = (values: string[] = []) => [...new Set(values)]
const refused = { error: { cause: { type: 'MESSAGE_TOO_LARGE', retriable: false } } }
const forGood = { error: { cause: { type: 'TOPIC_AUTHORIZATION_FAILED', retriable: false } } }
const passing = { error: new Error('the broker is away') }

test('O2: a send that fails is sent again before anything behind it', async () => {
  const { publisher, log } = await start((_batch, request) => (request === 1 ? passing : undefined))
  await publisher.publishAll(events(0, 1, 2_000))
  expect(log.get(0)).toEqual(upTo(2_000))
})

test('O2: a send whose acknowledgement is lost is repeated unchanged', async () => {
  const { publisher, log } = await start((_batch, request) =>
    request <= 2 ? { ...passing, done: true } : undefined,
  )
  await publisher.publishAll(events(0, 1, 1_200))
  expect(firsts(log.get(0))).toEqual(upTo(1_200))
  expect(log.get(0)).toEqual([...upTo(500), ...upTo(500), ...upTo(1_200)])
})

test('O2: once a send has failed for good, nothing behind it in its partition is sent, by whichever call', async () => {
  let away = true
  const { publisher, log, requests } = await start(batch =>
    away && batch.has(0) && requests.length > 1 ? forGood : away && batch.has(0) ? passing : undefined,
  )
  const calls = [
    publisher.publishAll(events(0, 1, 700)),
    publisher.publish(event(0, 701)),
    publisher.publishAll([event(1, 1), event(0, 702), event(1, 2)]),
    publisher.publish(event(1, 3)),
  ]
  const outcomes = await Promise.allSettled(calls)
  expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected', 'fulfilled'])
  expect((outcomes[1] as PromiseRejectedResult).reason).toBeInstanceOf(NotSent)
  expect(log.get(0)).toBeUndefined()
  expect(firsts(log.get(1))).toEqual(['1', '2', '3'])
  away = false
  await publisher.publishAll(events(0, 1, 702))
  expect(log.get(0)).toEqual(upTo(702))
})

test('P1: a partition that fails holds only itself, and the others are not repeated each time', async () => {
  const { publisher, log } = await start(batch => (batch.has(3) ? forGood : undefined))
  for (let seq = 1; seq <= 50; seq++) {
    const outcomes = await Promise.allSettled(
      [0, 1, 2, 3, 4].map(partition => publisher.publish(event(partition, seq))),
    )
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(1)
  }
  for (const partition of [0, 1, 2, 4]) expect(log.get(partition)).toEqual(upTo(50))
  expect(log.get(3)).toBeUndefined()
})

test('P1: a record that Kafka refuses is found in its batch; what comes before it is there, what comes behind is not', async () => {
  const { publisher, log } = await start(batch => (batch.get(0)?.includes('300') ? refused : undefined))
  const outcomes = await Promise.allSettled(events(0, 1, 400).map(record => publisher.publish(record)))
  expect(firsts(log.get(0))).toEqual(upTo(299))
  expect(outcomes.findIndex(({ status }) => status === 'rejected')).toBe(299)
  expect((outcomes[299] as PromiseRejectedResult).reason).toBeInstanceOf(RecordRefused)
  for (const outcome of outcomes.slice(300))
    expect((outcome as PromiseRejectedResult).reason).toBeInstanceOf(NotSent)
})

test('a record larger than its topic takes is refused before anything of its call is sent', async () => {
  const { publisher, requests } = await start(() => undefined)
  await expect(publisher.publishAll([event(0, 1), event(0, 2, 4 * 1024 * 1024)])).rejects.toThrow(
    'a record of ledger.events has 4194310 bytes; at most 4190208 are taken',
  )
  expect(requests).toHaveLength(0)
})

test('load tells what waits, over all and by partition', async () => {
  const { publisher } = await start(() => undefined, 3)
  const sending = publisher.publishAll([event(0, 1), event(0, 2), event(1, 1)])
  await expect(publisher.publish(event(1, 2))).rejects.toBeInstanceOf(PublisherFull)
  expect(publisher.load().waiting).toBe(3)
  expect(publisher.load({ topic: 'ledger.events', partition: 0 }).waiting).toBe(2)
  expect(publisher.load({ topic: 'ledger.events', partition: 7 })).toEqual({ waiting: 0, oldestMs: 0 })
  await sending
  await publisher.stop()
  expect(publisher.load()).toEqual({ waiting: 0, oldestMs: 0 })
})
