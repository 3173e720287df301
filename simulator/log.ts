import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { createPublisher, type Publisher, PublisherFull } from '@pennywire/kafka/publisher.ts'
import type { IncomingRecord, RawRecord } from '@pennywire/kafka/record.ts'
import type { Process, World } from './world.ts'

/** The faults between a client and the broker; each a probability. */
export type LogFaults = {
  /** A batch is lost before the broker has it. */
  sendLost: number
  /** The broker has the batch, but the acknowledgement is lost: the sender cannot know. */
  acknowledgementLost: number
  /** The broker has the batch and acknowledges it late: much happens while the sender still waits. */
  acknowledgementLate: number
  /** The send fails for the sender, and the batch arrives later all the same. */
  sendLate: number
  /** The client's own retry sends the batch a second time. */
  sendTwice: number
  /** Several records for one partition with more bytes together than this are refused as too large. */
  mostBytes: number
  /** The publisher refuses at once: too many records wait. */
  publisherFull: number
  /** A fetch begins some records back. */
  fetchAgain: number
  /** A fetch leaves records out, which no client should ever do. */
  fetchSkips: number
}

/** Why a partition accepts nothing: temporarily, permanently, or because of the record. */
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
  /** All records that a partition ever contained, deleted ones included: a record's index is its offset. */
  records: (topic: Topic, partition: number) => IncomingRecord[]
  /** The first offset that a partition still holds. */
  firstOf: (topic: Topic, partition: number) => number
  /** Deletes a partition's records before an offset, as an operator or a retention time does. */
  deleteBefore: (topic: Topic, partition: number, offset: number) => void
  /** The services' own publisher, on a connection of `process`. `maxBatch`: most records per batch. */
  publisherOf: (process: Process, maxBatch?: number) => Pick<Publisher, 'publish' | 'publishAll' | 'stop'>
  /** Delivers a partition's records to a process as they arrive, from an offset on. */
  read: (
    process: Process,
    from: { topic: Topic; partition: number; offset: bigint },
    options: { onRecords: (records: IncomingRecord[]) => void; skips?: boolean },
  ) => Reader
  ends: (process: Process, topic: Topic) => Promise<{ first: bigint; offset: bigint }[]>
  setUp: (up: boolean) => void
  /** From now on the partition accepts nothing, or accepts everything again. */
  refuse: (topic: Topic, partition: number, as: RefusedAs | undefined) => void
  /** Recreates the topic, empty. */
  makeAnew: (topic: Topic) => void
  /** Appends a record directly, without the broker's faults. */
  appendNow: (record: RawRecord) => void
}

const MAX_FETCH = 12
const MAX_LATE_MS = 3_000

/**
 * Kafka as its clients see it: topics of partitions, each ordered; sends that fail before or after they take effect,
 * arrive late or twice; fetches that begin further back, or (kafkajs forgive) leave records out.
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

  /** Delivers one partition's share of a request: undefined if it is acknowledged. */
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
          // Deleted records are skipped, as kafkajs does: reading continues at the first existing record.
          const first = firstOf(topic, partition)
          position = Math.max(position, first)
          let from = position
          if (random.chance(faults.fetchAgain)) from = Math.max(first, from - 1 - random.int(10))
          // A record after the gap is always delivered: without one, no client could notice that records were left out.
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
