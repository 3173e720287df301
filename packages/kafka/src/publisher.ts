import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { type Clock, sleep, systemClock } from '@pennywire/runtime/clock.ts'
import kafkajs from 'kafkajs'
import type { KafkaClient } from './client.ts'
import { partitionOf } from './partition-of.ts'
import type { RawRecord } from './record.ts'

/** Largest batch: beyond a few hundred records the request's size costs more than the next request would. */
const MAX_BATCH = 500
/** Kafka refuses a partition's share of a batch as a whole if it exceeds Kafka's bound, its small records too. */
const MAX_BATCH_BYTES = 400_000
/** Kafka closes the connection of a request above 100 MiB. */
const MAX_REQUEST_BYTES = 8 * 1024 * 1024
/** Kafka's overhead on a record's size, beside key, value and headers. */
const FRAME_BYTES = 4 * 1024
const ALL_REPLICAS = -1
/** How long Kafka may wait for the replicas: less than kafkajs waits for the response (10 s), so that one arrives. */
const REPLICAS_WITHIN_MS = 8_000
/** A failed batch is resent alone and unchanged, after pauses of FIRST_ to LAST_RETRY_MS, for GIVE_UP_AFTER_MS. */
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 1_000
const GIVE_UP_AFTER_MS = 4_000
/** A record that has waited longer is not sent: others may have published it while this process was frozen. */
const SEND_WITHIN_MS = 15_000

/** The record was not sent, so it is certainly not in Kafka because of this call. */
export class NotSent extends Error {
  override name = 'NotSent'
}

/** Too many records wait already: queueing more would only hide that Kafka is away or too slow. */
export class PublisherFull extends NotSent {
  override name = 'PublisherFull'
}

/** Kafka refuses this record, for example for its size: it would refuse a retry too. */
export class RecordRefused extends Error {
  override name = 'RecordRefused'
}

export type Publisher = {
  /**
   * Resolves once all replicas have the record. Rejects with NotSent or RecordRefused if the record is certainly not in
   * Kafka, with another error if that is unknown.
   */
  publish(record: RawRecord): Promise<void>
  /** The same for several records, in order. A failure does not keep other partitions' records from being sent. */
  publishAll(records: RawRecord[]): Promise<void>
  /** Number of unacknowledged records, and how long the oldest has waited; of one partition or of all. */
  load: (of?: { topic: Topic; partition: number }) => { waiting: number; oldestMs: number }
  /** Sends the waiting records, then disconnects. */
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

type Waiting = {
  record: RawRecord
  bytes: number
  since: number
  resolve: () => void
  reject: (error: unknown) => void
}

/** One topic and partition: the unit of order. */
type Lane = {
  topic: Topic
  partition: number
  waiting: Waiting[]
  /** The batch in flight. It is resent unchanged until its outcome is known. */
  sending: Waiting[]
  /** Maximum records of the next batch: halved by a refusal, to find the refused record. */
  most: number
  /** How many records must be acknowledged before the lane is sent together with the others again; 0: it is. */
  apart: number
  sendingApart: boolean
}

/** Kafka's errors that concern a record, or the batch that contains it. */
const REFUSALS = new Set([
  'MESSAGE_TOO_LARGE',
  'RECORD_LIST_TOO_LARGE',
  'INVALID_RECORD',
  'INVALID_TIMESTAMP',
])

/** kafkajs wraps the actual error in one that it never retries. */
const causeOf = (error: unknown): { type?: string; retriable?: boolean } =>
  (error as { cause?: object } | undefined)?.cause ?? (error as object | undefined) ?? {}

/**
 * The one batching publisher. Records of one topic and partition are in order or not there: each lane has one batch in
 * flight, and when it fails for good, all records behind it in the lane are rejected unsent. A caller that repeats
 * records begins with the first unacknowledged one, so a batch that arrives late only repeats records that are there or
 * follows them.
 *
 * kafkajs makes each call a separate request, so the lanes share one send; records that arrive meanwhile form the next.
 * A shared send has one error for all lanes. After an error each lane's share is resent apart, on a second connection,
 * because Kafka answers the requests of one connection one after the other. The lane joins the others again once that
 * succeeds.
 */
export const createPublisher = async (
  client: Pick<KafkaClient, 'producer'>,
  options: {
    maxWaiting?: number
    maxBatch?: number
    clock?: Clock
    /** Monotonic milliseconds: a calendar clock that is set back makes no record wait longer. */
    elapsedMs?: () => number
  } = {},
): Promise<Publisher> => {
  const maxWaiting = options.maxWaiting ?? 20_000
  const maxBatch = options.maxBatch ?? MAX_BATCH
  const clock = options.clock ?? systemClock
  const elapsedMs = options.elapsedMs ?? (() => performance.now())
  const connect = async () => {
    const producer = client.producer({
      allowAutoTopicCreation: false,
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
      // With retries kafkajs would drop partitions whose leader changes between two tries, and report all as sent.
      retry: { retries: 0 },
    })
    await producer.connect()
    return producer
  }
  const together = await connect()
  const apart = await connect()
  const lanes = new Map<string, Lane>()
  /** How many records wait or are being sent. */
  let count = 0
  let turn = 0
  let sendingTogether = false
  let stopped = false
  let idle: () => void = () => {}

  const laneOf = (topic: Topic, partition: number): Lane => {
    const id = `${topic}/${partition}`
    const known = lanes.get(id)
    if (known) return known
    const lane = {
      ...{ topic, partition, waiting: [], sending: [] },
      ...{ most: maxBatch, apart: 0, sendingApart: false },
    }
    lanes.set(id, lane)
    return lane
  }

  const settle = (settled: Waiting[], how: (one: Waiting) => void) => {
    count -= settled.length
    for (const one of settled) how(one)
    if (count === 0) idle()
  }

  const acknowledge = (lane: Lane) => {
    const sent = lane.sending
    lane.sending = []
    lane.most = Math.min(2 * lane.most, maxBatch)
    lane.apart = Math.max(0, lane.apart - sent.length)
    settle(sent, ({ resolve }) => resolve())
  }

  /** Rejects the batch in flight and all records that wait behind it. */
  const giveUp = (lane: Lane, error: unknown) => {
    const sent = lane.sending
    const behind = lane.waiting
    lane.sending = []
    lane.waiting = []
    settle(sent, ({ reject }) => reject(error))
    const notSent = new NotSent('a record before it in its topic and partition could not be sent', {
      cause: error,
    })
    settle(behind, ({ reject }) => reject(notSent))
  }

  /** Takes a lane's next batch: at most `most` records and `mostBytes` bytes, but at least one record if one waits. */
  const take = (lane: Lane, most: number, mostBytes: number): number => {
    const oldest = lane.waiting[0]
    if (oldest && elapsedMs() - oldest.since > SEND_WITHIN_MS)
      giveUp(lane, new NotSent(`it waited for more than ${SEND_WITHIN_MS} ms`))
    let taken = 0
    let bytes = 0
    for (; taken < lane.waiting.length && taken < most; taken++) {
      if (taken > 0 && bytes + lane.waiting[taken]!.bytes > mostBytes) break
      bytes += lane.waiting[taken]!.bytes
    }
    lane.sending = lane.waiting.splice(0, taken)
    return bytes
  }

  /** Takes an equal share of each lane for the next shared send, and returns these lanes. */
  const takeTogether = (): Lane[] => {
    const filled = [...lanes.values()].filter(
      ({ waiting, sending, apart }) => waiting.length > 0 && sending.length === 0 && apart === 0,
    )
    turn = filled.length > 0 ? (turn + 1) % filled.length : 0
    const inTurn = [...filled.slice(turn), ...filled.slice(0, turn)]
    const taken: Lane[] = []
    let records = maxBatch
    let bytes = MAX_REQUEST_BYTES
    for (const [index, lane] of inTurn.entries()) {
      if (records === 0 || bytes <= 0) break
      const share = Math.ceil(records / (inTurn.length - index))
      bytes -= take(lane, share, MAX_BATCH_BYTES)
      records -= lane.sending.length
      if (lane.sending.length > 0) taken.push(lane)
    }
    return taken
  }

  const send = async (producer: typeof together, sent: Lane[]): Promise<void> => {
    const byTopic = Map.groupBy(sent, ({ topic }) => topic)
    const answers = await producer.sendBatch({
      acks: ALL_REPLICAS,
      timeout: REPLICAS_WITHIN_MS,
      topicMessages: [...byTopic].map(([topic, lanes]) => ({
        topic,
        messages: lanes.flatMap(({ partition, sending }) =>
          sending.map(({ record: { key, value, headers } }) => ({ key, value, headers, partition })),
        ),
      })),
    })
    for (const { topic, partition } of sent) {
      if (answers?.length && !answers.some(one => one.topicName === topic && one.partition === partition))
        throw new Error(`Kafka did not answer for ${topic}/${partition}`)
    }
  }

  const sendTogether = async () => {
    for (let sent = takeTogether(); sent.length > 0; sent = takeTogether()) {
      try {
        await send(together, sent)
        for (const lane of sent) acknowledge(lane)
      } catch {
        for (const lane of sent) {
          lane.apart = 1
          void sendApart(lane)
        }
      }
    }
    sendingTogether = false
  }

  const sendApart = async (lane: Lane) => {
    lane.sendingApart = true
    while (lane.apart > 0) {
      if (lane.sending.length === 0) take(lane, lane.most, MAX_BATCH_BYTES)
      if (lane.sending.length === 0) break
      await sendUntilKnown(lane)
    }
    lane.sendingApart = false
    start()
  }

  /** Sends the lane's batch until Kafka has it, or until it is given up. */
  const sendUntilKnown = async (lane: Lane) => {
    const since = elapsedMs()
    for (let retryMs = FIRST_RETRY_MS; ; retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)) {
      try {
        await send(apart, [lane])
        return acknowledge(lane)
      } catch (error) {
        const { type, retriable } = causeOf(error)
        if (REFUSALS.has(type ?? '')) {
          if (lane.sending.length === 1)
            return giveUp(lane, new RecordRefused(`Kafka refuses the record: ${type}`, { cause: error }))
          lane.apart = lane.sending.length
          lane.most = Math.ceil(lane.sending.length / 2)
          lane.waiting.unshift(...lane.sending.splice(lane.most))
        } else if (retriable === false || elapsedMs() - since > GIVE_UP_AFTER_MS) return giveUp(lane, error)
        else await sleep(clock, retryMs)
      }
    }
  }

  /** Starts to send the waiting records. */
  const start = () => {
    for (const lane of lanes.values())
      if (lane.apart > 0 && !lane.sendingApart && lane.waiting.length > 0) void sendApart(lane)
    if (sendingTogether) return
    sendingTogether = true
    // In a microtask of its own, so that all records of one tick share the first batch.
    void Promise.resolve().then(sendTogether)
  }

  const enqueue = (records: RawRecord[]): Array<Promise<void>> => {
    if (stopped) throw new PublisherFull('the publisher is stopping')
    if (count + records.length > maxWaiting) throw new PublisherFull(`${count} records wait already`)
    const since = elapsedMs()
    const sized = records.map(record => {
      const bytes = sizeOf(record)
      // Tests have topics of their own.
      const most = (TOPICS[record.topic]?.maxMessageBytes ?? Number.POSITIVE_INFINITY) - FRAME_BYTES
      if (bytes > most)
        throw new RecordRefused(`a record of ${record.topic} has ${bytes} bytes; at most ${most} are taken`)
      return { record, bytes }
    })
    count += records.length
    const acknowledged = sized.map(
      ({ record, bytes }) =>
        new Promise<void>((resolve, reject) =>
          laneOf(record.topic, record.partition ?? partitionOf(record.topic, record.key)).waiting.push({
            record,
            bytes,
            since,
            resolve,
            reject,
          }),
        ),
    )
    start()
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
    load: of => {
      const lanesOf = of ? [laneOf(of.topic, of.partition)] : [...lanes.values()]
      const now = elapsedMs()
      let oldestMs = 0
      let waiting = 0
      for (const lane of lanesOf) {
        waiting += lane.sending.length + lane.waiting.length
        const oldest = lane.sending[0] ?? lane.waiting[0]
        if (oldest) oldestMs = Math.max(oldestMs, now - oldest.since)
      }
      return { waiting, oldestMs }
    },
    stop: async () => {
      stopped = true
      if (count > 0)
        await new Promise<void>(resolve => {
          idle = resolve
        })
      await Promise.all([together.disconnect(), apart.disconnect()])
    },
  }
}
