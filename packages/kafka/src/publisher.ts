import kafkajs from 'kafkajs'
import type { KafkaClient } from './client.ts'
import type { RawRecord } from './record.ts'

/** Largest batch: beyond a few hundred records the request's size costs more than the next request would. */
const MAX_BATCH = 500
/** Kafka refuses one partition's share of a batch above 1 MiB as a whole, its small records too. */
const MAX_BATCH_BYTES = 400_000
const ALL_REPLICAS = -1

/** So much waits already that waiting longer would only hide that Kafka is away or too slow. */
export class PublisherFull extends Error {
  override name = 'PublisherFull'
}

export type Publisher = {
  /** Resolves once all replicas have the record; rejects where that is not known (it may be there nonetheless). */
  publish(record: RawRecord): Promise<void>
  /** The same for several records, in order and in one go where they fit. */
  publishAll(records: RawRecord[]): Promise<void>
  /** How many records are not acknowledged yet, and for how long the oldest of them has waited. */
  load: () => { waiting: number; oldestMs: number }
  /** Sends what waits, then disconnects. */
  stop: () => Promise<void>
}

const sizeOf = ({ key, value, headers }: RawRecord): number => {
  let size = (key?.length ?? 0) + (value?.length ?? 0)
  for (const name in headers) {
    const values = headers[name]!
    if (typeof values === 'string') size += name.length + values.length
    else for (const one of values) size += name.length + one.length
  }
  return size
}

type Waiting = { record: RawRecord; since: number; resolve: () => void; reject: (error: unknown) => void }

/**
 * The one batching publisher: kafkajs makes each call a request of its own, so one send is in flight and whatever
 * arrives meanwhile is the next batch. That keeps the order of calls, and costs nothing when idle.
 */
export const createPublisher = async (
  client: KafkaClient,
  options: { maxWaiting?: number } = {},
): Promise<Publisher> => {
  const maxWaiting = options.maxWaiting ?? 20_000
  const producer = client.producer({
    allowAutoTopicCreation: false,
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    retry: { retries: 5, maxRetryTime: 1_000 },
  })
  await producer.connect()
  const waiting: Waiting[] = []
  let inFlight: Waiting[] = []
  let sending: Promise<void> | undefined
  let stopped = false

  /** What goes next: at least one record, and only so many that Kafka takes them together. */
  const takeBatch = (): Waiting[] => {
    let count = 0
    for (let bytes = 0; count < waiting.length && count < MAX_BATCH; count++) {
      bytes += sizeOf(waiting[count]!.record)
      if (count > 0 && bytes > MAX_BATCH_BYTES) break
    }
    return waiting.splice(0, count)
  }

  const sendWaiting = async () => {
    while (waiting.length > 0) {
      const batch = takeBatch()
      inFlight = batch
      const byTopic = new Map<string, Array<Omit<RawRecord, 'topic'>>>()
      for (const { record } of batch) {
        const { topic, ...message } = record
        const messages = byTopic.get(topic)
        if (messages) messages.push(message)
        else byTopic.set(topic, [message])
      }
      try {
        await producer.sendBatch({
          acks: ALL_REPLICAS,
          topicMessages: [...byTopic].map(([topic, messages]) => ({ topic, messages })),
        })
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    }
    inFlight = []
    sending = undefined
  }

  const enqueue = (records: RawRecord[]): Array<Promise<void>> => {
    if (stopped) throw new PublisherFull('the publisher is stopping')
    if (waiting.length + records.length > maxWaiting)
      throw new PublisherFull(`${waiting.length} records wait already`)
    const since = performance.now()
    const acknowledged = records.map(
      record => new Promise<void>((resolve, reject) => waiting.push({ record, since, resolve, reject })),
    )
    // Begin in a microtask of its own, so that all records of one tick share the first batch.
    sending ??= Promise.resolve().then(sendWaiting)
    return acknowledged
  }

  return {
    publish: async record => {
      await enqueue([record])[0]
    },
    publishAll: async records => {
      const results = await Promise.allSettled(enqueue(records))
      const failed = results.find(result => result.status === 'rejected')
      if (failed) throw failed.reason
    },
    load: () => {
      const oldest = inFlight[0] ?? waiting[0]
      return {
        waiting: inFlight.length + waiting.length,
        oldestMs: oldest ? performance.now() - oldest.since : 0,
      }
    },
    stop: async () => {
      stopped = true
      await sending
      await producer.disconnect()
    },
  }
}
