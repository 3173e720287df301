// Bugs of the relay that the simulator found, each as a minimal case.
import type { RawRecord } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { afterEach, expect, test, vi } from 'vitest'
import { type Relay, startRelay } from './publish-journal.ts'
import type { JournalRow } from './store.ts'

const logger = { warn: () => {}, error: () => {} } as unknown as Logger
const event = (partition: number, seq: number): JournalRow => ({
  partition,
  seq: BigInt(seq),
  key: 'wallet',
  headers: { seq: String(seq) },
  bytes: Buffer.from(`${partition}/${seq}`),
})

let relay: Relay
afterEach(async () => {
  await relay.stop()
})

/** A relay over an in-memory journal, and a fake Kafka that acknowledges on demand. */
const start = (journal: JournalRow[], marks: Map<number, bigint>) => {
  const sent: string[] = []
  const kafka = {
    holds: [] as Array<() => void>,
    away: false,
    refuses: undefined as number | undefined,
    atOnce: 0,
    mostAtOnce: 0,
  }
  const raises = { fail: 0 }
  relay = startRelay({
    logger,
    clock: systemClock,
    publisher: {
      publishAll: async (records: RawRecord[]) => {
        if (kafka.away) await new Promise<void>(resolve => kafka.holds.push(resolve))
        if (records.some(({ partition }) => partition === kafka.refuses)) throw new Error('refused')
        kafka.atOnce += records.length
        kafka.mostAtOnce = Math.max(kafka.mostAtOnce, kafka.atOnce)
        await new Promise(resolve => setImmediate(resolve))
        kafka.atOnce -= records.length
        sent.push(...records.map(({ value }) => String(value)))
      },
    },
    store: {
      readProgress: async partitions =>
        partitions.map(partition => ({
          partition,
          publishedThrough: marks.get(partition) ?? 0n,
          writtenThrough: journal.reduce(
            (most, row) => (row.partition === partition && row.seq > most ? row.seq : most),
            0n,
          ),
        })),
      readJournalAfter: async (partition, seq, limit) =>
        journal.filter(row => row.partition === partition && row.seq > seq).slice(0, limit),
      raisePublished: async due => {
        if (raises.fail-- > 0) throw new Error('the database is away')
        for (const [partition, mark] of due) marks.set(partition, mark)
      },
    },
  })
  const release = () => {
    kafka.away = false
    for (const go of kafka.holds.splice(0)) go()
  }
  return { sent, kafka, raises, release }
}

test('O1: what memory does not hold between two of its events comes from the table', async () => {
  const journal = [event(0, 1), event(0, 2)]
  const { sent, kafka, release } = start(journal, new Map())
  relay.assign([0])
  await vi.waitFor(() => expect(sent).toEqual(['0/1', '0/2']))
  kafka.away = true
  journal.push(event(0, 3))
  relay.offer([event(0, 3)])
  await vi.waitFor(() => expect(kafka.holds).toHaveLength(1))
  // Event 5 is committed but never offered: the commit's answer is lost, and the redelivered batch is dropped.
  journal.push(event(0, 4), event(0, 5), event(0, 6))
  relay.offer([event(0, 4)])
  relay.offer([event(0, 6)])
  release()
  await vi.waitFor(() => expect(sent).toContain('0/6'))
  expect(sent).toEqual(['0/1', '0/2', '0/3', '0/4', '0/5', '0/6'])
})

test('O2: an event is repeated where it is ours and was published, never ahead of its turn', async () => {
  const { sent } = start([event(0, 1), event(0, 2)], new Map([[0, 1n]]))
  relay.assign([0])
  await vi.waitFor(() => expect(sent).toEqual(['0/2']))
  relay.repeat([event(0, 1), event(0, 9), event(1, 7)])
  await vi.waitFor(() => expect(sent).toContain('0/1'))
  expect(sent).toEqual(['0/2', '0/1'])
})

test('a repeat that is asked for while others are sent is not forgotten', async () => {
  const { sent, kafka, release } = start([event(0, 1), event(0, 2)], new Map())
  relay.assign([0])
  await vi.waitFor(() => expect(sent.splice(0)).toEqual(['0/1', '0/2']))
  kafka.away = true
  relay.repeat([event(0, 1)])
  await vi.waitFor(() => expect(kafka.holds).toHaveLength(1))
  relay.repeat([event(0, 2)])
  release()
  await vi.waitFor(() => expect(sent).toEqual(['0/1', '0/2']))
})

test('a published mark whose write failed is written again, though no event follows', async () => {
  const marks = new Map<number, bigint>()
  const { sent, raises } = start([event(0, 1)], marks)
  raises.fail = 1
  relay.assign([0])
  await vi.waitFor(() => expect(sent).toEqual(['0/1']))
  expect(marks.get(0)).toBeUndefined()
  await vi.waitFor(() => expect(marks.get(0)).toBe(1n), { timeout: 4_000 })
}, 10_000)

test('P1: a partition whose events Kafka refuses holds only itself, however many partitions there are', async () => {
  const journal = Array.from({ length: 60 }, (_, partition) => [
    event(partition, 1),
    event(partition, 2),
  ]).flat()
  const { sent, kafka } = start(journal, new Map())
  kafka.refuses = 7
  relay.assign(Array.from({ length: 60 }, (_, partition) => partition))
  await vi.waitFor(() => expect(sent).toHaveLength(118))
  journal.push(event(8, 3))
  relay.offer([event(8, 3)])
  await vi.waitFor(() => expect(sent).toContain('8/3'))
  expect(new Set(sent).size).toBe(sent.length)
  kafka.refuses = undefined
  await vi.waitFor(() => expect(sent.slice(-2)).toEqual(['7/1', '7/2']), { timeout: 4_000 })
}, 10_000)

test('what is offered to the publisher at once is bounded, however many partitions have a backlog', async () => {
  const journal = Array.from({ length: 40 }, (_, partition) =>
    Array.from({ length: 600 }, (_, index) => event(partition, index + 1)),
  ).flat()
  const { sent, kafka } = start(journal, new Map())
  relay.assign(Array.from({ length: 40 }, (_, partition) => partition))
  await vi.waitFor(() => expect(sent).toHaveLength(24_000), { timeout: 8_000 })
  expect(kafka.mostAtOnce).toBeLessThanOrEqual(10_000)
}, 10_000)
