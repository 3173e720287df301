import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { createPublisher, type Publisher, PublisherFull } from '@pennywire/kafka/publisher.ts'
import type { IncomingRecord, RawRecord } from '@pennywire/kafka/record.ts'
import type { Process, World } from './world.ts'

/** What may go wrong between a client and the broker; each a probability. */
export type LogFaults = {
  /** A batch is lost before the broker has it. */
  sendLost: number
  /** The broker has it, the acknowledgement is lost: the sender does not know. */
  acknowledgementLost: number
  /** The broker has it and says so late: much goes on while the sender still waits. */
  acknowledgementLate: number
  /** The sender was told that it failed, and it arrives later all the same. */
  sendLate: number
  /** The client sent it a second time by itself. */
  sendTwice: number
  /** Several records for one partition with more bytes together than this are refused as too large. */
  mostBytes: number
  /** The publisher refuses at once: too much waits. */
  publisherFull: number
  /** A fetch begins some records back. */
  fetchAgain: number
  /** A fetch leaves records out, which no client should ever do. */
  fetchSkips: number
}

/** Why a partition takes nothing: for a while, for good, or because of the record. */
const REFUSALS = {
  passing: { type: 'NOT_ENOUGH_REPLICAS', retriable: true },
  'for good': { type: 'TOPIC_AUTHORIZATION_FAILED', retriable: false },
  'too large': { type: 'MESSAGE_TOO_LARGE', retriable: false },
}
export type RefusedAs = keyof typeof REFUSALS

export type Reader = {
  /** Reads on from this offset. */
  seek: (offset: bigint) => void
  stop: () => void
}

export type Log = {
  partitionsOf: (topic: Topic) => number
  partitionOf: (topic: Topic, key: string) => number
  /** All that a partition ever held, deleted ones too: a record's place is its offset. */
  records: (topic: Topic, partition: number) => IncomingRecord[]
  /** The first offset that a partition still holds. */
  firstOf: (topic: Topic, partition: number) => number
  /** Deletes a partition's records before an offset, as an operator or a retention time does. */
  deleteBefore: (topic: Topic, partition: number, offset: number) => void
  /** The services' own publisher, on a connection of the process'. `maxBatch`: most records of its batches. */
  publisherOf: (process: Process, maxBatch?: number) => Pick<Publisher, 'publish' | 'publishAll' | 'stop'>
  /** Hands a partition's records to a process as they come, from an offset on. */
  read: (
    process: Process,
    from: { topic: Topic; partition: number; offset: bigint },
    options: { onRecords: (records: IncomingRecord[]) => void; skips?: boolean },
  ) => Reader
  ends: (process: Process, topic: Topic) => Promise<{ first: bigint; offset: bigint }[]>
  setUp: (up: boolean) => void
  /** From now on the partition takes nothing, or takes everything again. */
  refuse: (topic: Topic, partition: number, as: RefusedAs | undefined) => void
  /** The topic is made anew, empty. */
  makeAnew: (topic: Topic) => void
  /** Puts a record where it belongs, without a broker's ways. */
  appendNow: (record: RawRecord) => void
}

const MAX_FETCH = 12
const MAX_LATE_MS = 3_000

/**
 * Kafka as its clients meet it: topics of partitions, each an order of its own; sends that fail before or after they
 * are done, arrive late or twice; fetches that begin further back, or (kafkajs forgive) leave something out.
 */
export const createLog = (deps: {
  world: World
  partitions: number
  faults: LogFaults
  onAppend: (record: IncomingRecord) => void
}): Log => {
  const { world, faults } = deps
  const { random } = world
  const topics = new Map<Topic, IncomingRecord[][]>()
  const kicks = new Map<Topic, Set<() => void>[]>()
  const firsts = new Map<string, number>()
  const firstOf = (topic: Topic, partition: number) => firsts.get(`${topic}/${partition}`) ?? 0
  let up = true

  const partitionsOf = (topic: Topic) => (topic.startsWith('ledger.dead') ? 1 : deps.partitions)
  const make = (topic: Topic) =>
    topics.set(
      topic,
      Array.from({ length: partitionsOf(topic) }, () => []),
    )
  for (const topic of Object.keys(TOPICS) as Topic[]) {
    make(topic)
    kicks.set(
      topic,
      Array.from({ length: partitionsOf(topic) }, () => new Set()),
    )
  }
  const records = (topic: Topic, partition: number) => topics.get(topic)![partition]!

  const hashes = new Map<string, number>()
  const partitionOf = (topic: Topic, key: string): number => {
    let hash = hashes.get(key)
    if (hash === undefined) {
      hash = 0
      for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) >>> 0
      hashes.set(key, hash)
    }
    return hash % partitionsOf(topic)
  }

  const append = (record: RawRecord) => {
    const key = record.key === null ? null : Buffer.from(record.key)
    const partition = record.partition ?? partitionOf(record.topic, key?.toString('latin1') ?? '')
    const kept = records(record.topic, partition)
    const appended: IncomingRecord = {
      topic: record.topic,
      partition,
      offset: BigInt(kept.length),
      timestamp: Math.floor(world.wall()),
      key,
      value: record.value,
      headers: Object.entries(record.headers).flatMap(([name, values]) =>
        (typeof values === 'string' ? [values] : values).map((value): [string, Buffer] => [
          name,
          Buffer.from(value),
        ]),
      ),
    }
    kept.push(appended)
    deps.onAppend(appended)
    for (const kick of kicks.get(record.topic)![partition]!) kick()
  }
  const appendAll = (batch: RawRecord[]) => {
    for (const record of batch) append(record)
  }

  const refusals = new Map<string, RefusedAs>()
  const sizeOf = ({ key, value }: RawRecord) => (key?.length ?? 0) + (value?.length ?? 0)

  /** What becomes of one partition's share of a request: undefined where it is acknowledged. */
  const deliverShare = (share: RawRecord[]): Error | undefined => {
    const { topic, partition } = share[0]!
    const bytes = share.reduce((sum, record) => sum + sizeOf(record), 0)
    const tooLarge = share.length > 1 && bytes > faults.mostBytes
    const refused = refusals.get(`${topic}/${partition}`) ?? (tooLarge ? 'too large' : undefined)
    if (refused)
      return Object.assign(new Error(`the broker refuses: ${refused}`), { cause: REFUSALS[refused] })
    const notAcknowledged = () => new Error('the broker did not acknowledge')
    const draw = random.float()
    let below = faults.sendLost
    if (draw < below) return notAcknowledged()
    below += faults.sendLate
    if (draw < below) {
      world.after(random.float() * 8_000, null, `${share.length} late records arrive`, () => appendAll(share))
      return notAcknowledged()
    }
    appendAll(share)
    below += faults.sendTwice
    if (draw < below)
      world.after(world.latency(), null, `${share.length} records arrive twice`, () => appendAll(share))
    below += faults.acknowledgementLost
    return draw >= below - faults.acknowledgementLost && draw < below ? notAcknowledged() : undefined
  }

  /** As kafkajs: a request with shares for several partitions, each with a leader of its own, and one error for all. */
  const deliver = (batch: RawRecord[]): Error | undefined => {
    if (!up) return new Error('the broker is away')
    const shares = Map.groupBy(batch, ({ topic, partition }) => `${topic}/${partition}`)
    return [...shares.values()].map(deliverShare).find(error => error)
  }

  const clientOf = (process: Process): Pick<KafkaClient, 'producer'> => ({
    producer: () =>
      ({
        connect: async () => {},
        disconnect: async () => {},
        sendBatch: ({ topicMessages }: { topicMessages: { topic: Topic; messages: RawRecord[] }[] }) =>
          new Promise((resolve, reject) => {
            const batch = topicMessages.flatMap(({ topic, messages }) =>
              messages.map(message => ({ ...message, topic })),
            )
            world.after(world.latency(), null, `${batch.length} records of ${process.name} arrive`, () => {
              const error = deliver(batch)
              const lateMs = random.chance(faults.acknowledgementLate) ? random.float() * MAX_LATE_MS : 0
              world.after(
                world.latency() + lateMs,
                process,
                error ? `request fails: ${error.message}` : 'request acknowledged',
                () => (error ? reject(error) : resolve([])),
              )
            })
          }),
      }) as never,
  })

  return {
    partitionsOf,
    partitionOf,
    records,
    firstOf,
    deleteBefore: (topic, partition, offset) => {
      firsts.set(`${topic}/${partition}`, Math.max(firstOf(topic, partition), offset))
    },
    publisherOf: (process, maxBatch) => {
      const clock = world.clockOf(process)
      const publisher = createPublisher(clientOf(process), {
        ...{ clock, elapsedMs: world.now },
        ...(maxBatch === undefined ? {} : { maxBatch }),
      })
      const publishAll = async (records: RawRecord[]): Promise<void> => {
        if (random.chance(faults.publisherFull)) throw new PublisherFull('too many records wait already')
        const placed = records.map(record => ({
          ...record,
          partition: record.partition ?? partitionOf(record.topic, String(record.key)),
        }))
        await (await publisher).publishAll(placed)
      }
      return {
        publish: record => publishAll([record]),
        publishAll,
        stop: async () => (await publisher).stop(),
      }
    },
    read: (process, { topic, partition, offset }, { onRecords, skips }) => {
      let position = Number(offset)
      let fetching = false
      let stopped = false
      const fetch = () => {
        fetching = false
        if (stopped) return
        if (up) {
          const kept = records(topic, partition)
          // What is deleted is passed over, as kafkajs does: reading goes on at the first record that there is.
          const first = firstOf(topic, partition)
          position = Math.max(position, first)
          let from = position
          if (random.chance(faults.fetchAgain)) from = Math.max(first, from - 1 - random.int(10))
          // Something behind the hole is always handed over: the end of a topic cannot be left out unnoticed.
          if (skips && random.chance(faults.fetchSkips))
            from = Math.min(from + 1 + random.int(3), kept.length - 1)
          const to = Math.min(kept.length, Math.max(position, from) + 1 + random.int(MAX_FETCH))
          position = Math.max(position, to)
          if (to > from) onRecords(kept.slice(from, to))
        }
        kick()
      }
      const kick = () => {
        if (fetching || stopped || (position >= records(topic, partition).length && up)) return
        fetching = true
        world.after(up ? world.latency() : 500, process, `fetches ${topic}/${partition}`, fetch)
      }
      const mine = kicks.get(topic)![partition]!
      mine.add(kick)
      kick()
      return {
        seek: offset => {
          position = Number(offset)
          kick()
        },
        stop: () => {
          stopped = true
          mine.delete(kick)
        },
      }
    },
    ends: (process, topic) =>
      new Promise((resolve, reject) => {
        world.after(world.latency(), null, `ends of ${topic} are asked`, () => {
          const ends = topics.get(topic)!.map((records, partition) => ({
            first: BigInt(firstOf(topic, partition)),
            offset: BigInt(records.length),
          }))
          const answers = up
          world.after(world.latency(), process, 'ends', () =>
            answers ? resolve(ends) : reject(new Error('the broker is away')),
          )
        })
      }),
    setUp: now => {
      up = now
    },
    refuse: (topic, partition, as) => {
      if (as) refusals.set(`${topic}/${partition}`, as)
      else refusals.delete(`${topic}/${partition}`)
    },
    makeAnew: topic => {
      for (let partition = 0; partition < partitionsOf(topic); partition++)
        firsts.delete(`${topic}/${partition}`)
      make(topic)
    },
    appendNow: append,
  }
}
