import { setTimeout as sleep } from 'node:timers/promises'
import { LEDGER_PARTITIONS, type Topic } from '@pennywire/contracts/topics.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { KafkaMessage } from 'kafkajs'
import { CONSUMER_RETRY, type KafkaClient } from './client.ts'
import type { IncomingRecord } from './record.ts'

export type TopicPartition = { topic: Topic; partition: number }
export type Position = TopicPartition & { offset: bigint }
/** The offsets of a partition: from `first` (above 0 if old records were deleted) to before `offset`, its end. */
export type TopicEnd = Position & { first: bigint }

/**
 * A partition is paused once this many of its records wait, or its share of MAX_WAITING, and resumed below half of
 * that. The records of one fetch come on top, so a fetch is small.
 */
const MAX_WAITING_PER_PARTITION = 2_000
const MAX_WAITING = 6_000
const FETCH_BYTES = 2 * 1024 * 1024
const FETCH_BYTES_PER_PARTITION = 512 * 1024
/** In bulk a round trip brings more, and more waits: for rebuilds, which need the rate and nothing else of the memory. */
const BULK = {
  waitingPerPartition: 10_000,
  waiting: 40_000,
  fetchBytes: 16 * 1024 * 1024,
  perPartition: 4 * 1024 * 1024,
}
/** Longest wait of a fetch; also the longest delay of a seek or a resume. */
const FETCH_WAIT_MS = 100
/** A fetch that gathers waits for so much, some hundred events, or for FETCH_WAIT_MS. */
const GATHER_BYTES = 128 * 1024
const FIRST_RETRY_MS = 100
const LAST_RETRY_MS = 5_000
const LEAVE_WITHIN_MS = 5_000
/** A held partition is read again after this long. */
const HOLD_MS = 1_000
/** A batch that runs longer than this is stuck, not slow: readiness fails. Above the ledger's time-outs in Postgres. */
const STUCK_AFTER_MS = 15_000
/** The group's committed offsets are only a hint for people and lag monitors, so they are committed seconds late. */
const HINT_INTERVAL_MS = 5_000

export type Consumer = {
  assigned: () => TopicPartition[]
  /** Number of fetched records that are not handled yet. */
  waiting: () => number
  /** Reads a partition again from this offset; drops its fetched records that are not handled yet. */
  seek: (position: Position) => void
  /**
   * Stops one partition until the process restarts: drops its fetched records, fetches no more, and `check` names it.
   * For a topic that is not the one remembered, or for records that fail one after the other.
   */
  halt: (of: TopicPartition, reason: string) => void
  /**
   * Pauses one partition and reads it again from `position` after a moment; `check` names the reason until a record of
   * it is handled. For a record that fails alone while all other partitions flow.
   */
  hold: (position: Position, reason: string) => void
  /**
   * Throws the reason while it does not consume: a partition is halted or held, not positioned, or a batch hangs or
   * fails.
   */
  check: () => void
  stop: () => Promise<void>
}

export type RunningConsumer = Consumer & {
  /** Number of records of each partition that are not handled yet, by the ends read a few seconds ago. */
  lag: () => Array<TopicPartition & { records: number }>
  halted: () => TopicPartition[]
}

export type ConsumerOptions = {
  client: KafkaClient
  logger: Logger
  groupId: string
  topics: Topic[]
  /**
   * Returns where to continue; called at each assignment. A caller that stores its positions reads them before it calls
   * `readEnds`: a position beyond an end that was read later proves that the topic lost records or was made anew. Never
   * called concurrently. `readEnds` returns the end of every assigned partition, or rejects. If `positions` rejects, it
   * is called again.
   */
  positions: (
    assigned: TopicPartition[],
    readEnds: () => Promise<TopicEnd[]>,
    consumer: Consumer,
  ) => Promise<Position[]>
  /**
   * Handles a batch of records of all partitions, each partition's in order; never called concurrently. The caller
   * stores the offsets in its own transaction. If it rejects, the same records are passed again after a pause: order is
   * kept and nothing is skipped. Records may be passed twice, also from partitions that were lost meanwhile.
   */
  handle: (records: IncomingRecord[], consumer: Consumer) => Promise<void>
  /** Called after each assignment, once the positions are set. */
  onAssigned?: (assigned: TopicPartition[]) => void
  maxBatch?: number
  /**
   * For a consumer that no request waits for: records come up to FETCH_WAIT_MS later, in fewer and larger batches, which
   * cost less per record.
   */
  gathers?: boolean
  /** For a rebuild, which needs the rate: fetches more at once, and keeps more of it waiting. */
  bulk?: boolean
  /** Tests only: in place of 15 s. */
  stuckAfterMs?: number
}

/** A message's headers in order, each value as bytes: an absent value is empty. */
const headersOf = (headers: KafkaMessage['headers'] = {}): IncomingRecord['headers'] => {
  const list: IncomingRecord['headers'] = []
  const add = (name: string, value: Buffer | string | undefined) =>
    list.push([name, Buffer.isBuffer(value) ? value : Buffer.from(value ?? '')])
  for (const [name, value] of Object.entries(headers)) {
    if (Array.isArray(value)) for (const one of value) add(name, one)
    else add(name, value)
  }
  return list
}

const idOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

/**
 * The one consumer. Fetched records go at once into a queue per partition, because kafkajs fetches again only when
 * every handler of a fetch is done. Records that arrive while one batch is handled form the next batch. Batches take
 * from the partitions in turn, so that a long backlog in one does not starve the rest.
 */
export const startConsumer = async (options: ConsumerOptions): Promise<RunningConsumer> => {
  const { client, logger, groupId, topics, positions, handle } = options
  const { maxBatch = 500, stuckAfterMs = STUCK_AFTER_MS } = options
  const kafka = client.consumer({
    groupId,
    allowAutoTopicCreation: false,
    sessionTimeout: 10_000,
    rebalanceTimeout: 10_000,
    heartbeatInterval: 1_000,
    maxWaitTimeInMs: FETCH_WAIT_MS,
    minBytes: options.gathers ? GATHER_BYTES : 1,
    maxBytes: options.bulk ? BULK.fetchBytes : FETCH_BYTES,
    maxBytesPerPartition: options.bulk ? BULK.perPartition : FETCH_BYTES_PER_PARTITION,
    retry: { ...CONSUMER_RETRY, restartOnFailure: async () => true },
  })
  const admin = client.admin()
  const queues = new Map<string, { of: TopicPartition; records: IncomingRecord[]; paused: boolean }>()
  const handledTo = new Map<string, Position>()
  /** The next offset of each assigned partition to handle. */
  const next = new Map<string, Position>()
  /** How far each partition has been fetched. */
  const readTo = new Map<string, bigint>()
  let assigned: TopicPartition[] = []
  const lastEnds = new Map<string, bigint>()
  const halted = new Map<string, string>()
  /** Held partitions with their reasons; `resting` has those whose pause is not over. */
  const held = new Map<string, string>()
  const resting = new Set<string>()
  let batchSince: number | undefined
  let turn = 0
  let generation = 0
  let positioned = false
  let positioning = Promise.resolve()
  let failure: Error | undefined
  const stopped = new AbortController()
  let wake: () => void = () => {}

  const waiting = () => {
    let count = 0
    for (const { records } of queues.values()) count += records.length
    return count
  }

  const pauseOrResume = (queue: { of: TopicPartition; records: IncomingRecord[]; paused: boolean }) => {
    const selection = [{ topic: queue.of.topic, partitions: [queue.of.partition] }]
    const filled = [...queues.values()].filter(one => one.records.length > 0).length
    const most = options.bulk
      ? Math.min(BULK.waitingPerPartition, BULK.waiting / Math.max(1, filled))
      : Math.min(MAX_WAITING_PER_PARTITION, MAX_WAITING / Math.max(1, filled))
    if (!queue.paused && queue.records.length >= most) {
      queue.paused = true
      kafka.pause(selection)
    } else if (queue.paused && queue.records.length < most / 2) {
      queue.paused = false
      kafka.resume(selection)
    }
  }

  /** Takes up to `maxBatch` waiting records, an equal share of each partition first. */
  const takeBatch = (): IncomingRecord[] => {
    // Records fetched before the positions were set are fetched again from there.
    if (!positioned) return []
    const filled = [...queues.values()].filter(queue => queue.records.length > 0)
    const batch: IncomingRecord[] = []
    turn = filled.length > 0 ? (turn + 1) % filled.length : 0
    const inTurn = [...filled.slice(turn), ...filled.slice(0, turn)]
    for (const [index, queue] of inTurn.entries()) {
      const share = Math.ceil((maxBatch - batch.length) / (inTurn.length - index))
      batch.push(...queue.records.splice(0, share))
      pauseOrResume(queue)
    }
    return batch
  }

  const consumer: RunningConsumer = {
    assigned: () => [...queues.values()].map(queue => queue.of),
    waiting,
    lag: () =>
      [...next].flatMap(([id, { topic, partition, offset }]) => {
        const end = lastEnds.get(id)
        return end === undefined ? [] : [{ topic, partition, records: Math.max(0, Number(end - offset)) }]
      }),
    halted: () =>
      [...halted.keys()].map(id => {
        const [topic, partition] = id.split('/') as [Topic, string]
        return { topic, partition: Number(partition) }
      }),
    seek: ({ topic, partition, offset }) => {
      const queue = queues.get(idOf({ topic, partition }))
      if (!queue) return
      queue.records = []
      pauseOrResume(queue)
      readTo.set(idOf({ topic, partition }), offset)
      kafka.seek({ topic, partition, offset: offset.toString() })
    },
    halt: ({ topic, partition }, reason) => {
      logger.fatal({ topic, partition, reason }, 'partition halted')
      halted.set(idOf({ topic, partition }), reason)
      queues.delete(idOf({ topic, partition }))
      kafka.pause([{ topic, partitions: [partition] }])
    },
    hold: (position, reason) => {
      const id = idOf(position)
      const queue = queues.get(id)
      if (!queue) return
      const mine = generation
      held.set(id, reason)
      resting.add(id)
      queue.records = []
      const selection = [{ topic: position.topic, partitions: [position.partition] }]
      kafka.pause(selection)
      void pause(HOLD_MS).then(() => {
        if (mine !== generation || stopped.signal.aborted || halted.has(id)) return
        resting.delete(id)
        queue.paused = false
        kafka.resume(selection)
        consumer.seek(position)
      })
    },
    check: () => {
      for (const [partition, reason] of halted) throw new Error(`${partition} is halted: ${reason}`)
      for (const [partition, reason] of held) throw new Error(`${partition} is held: ${reason}`)
      const runningMs = batchSince === undefined ? 0 : performance.now() - batchSince
      if (runningMs > stuckAfterMs)
        throw new Error(`a batch has been running for ${Math.round(runningMs / 1_000)} s`)
      if (!positioned) throw new Error('not positioned on its partitions yet')
      if (failure) throw failure
    },
    stop: async () => {
      stopped.abort()
      wake()
      await working
      clearInterval(hints)
      // Without brokers the group cannot be left in order: do not wait longer.
      await Promise.race([kafka.disconnect(), sleep(LEAVE_WITHIN_MS, undefined, { ref: false })])
      await admin.disconnect()
    },
  }

  /** The end of each of these partitions: a missing end would look like a topic that lost all its records. */
  const readEnds = async (of: TopicPartition[], mine: number): Promise<TopicEnd[]> => {
    const ends = new Map<string, TopicEnd>()
    for (const topic of new Set(of.map(({ topic }) => topic)))
      for (const end of await endsOf(topic)) ends.set(idOf(end), end)
    if (mine !== generation) throw new Error('assigned anew meanwhile')
    return of.map(one => {
      const end = ends.get(idOf(one))
      if (!end) throw new Error(`the end of ${idOf(one)} is not known`)
      return end
    })
  }

  /** Calls `positions`, and handles nothing until it has answered. Drops fetched records that are not handled yet. */
  const position = () => {
    const mine = ++generation
    positioned = false
    held.clear()
    resting.clear()
    handledTo.clear()
    next.clear()
    readTo.clear()
    const askPositions = async () => {
      for (
        let retryMs = FIRST_RETRY_MS;
        mine === generation && !stopped.signal.aborted;
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)
      ) {
        const of = assigned.filter(one => !halted.has(idOf(one)))
        try {
          const from = await positions(of, () => readEnds(of, mine), consumer)
          if (mine !== generation) return
          for (const position of from) {
            // It may have been paused in an earlier generation.
            kafka.resume([{ topic: position.topic, partitions: [position.partition] }])
            consumer.seek(position)
            next.set(idOf(position), position)
          }
          positioned = true
          wake()
          options.onAssigned?.(assigned)
          return
        } catch (error) {
          if (mine !== generation) return
          logger.warn({ err: error, groupId }, 'could not position on the assigned partitions; trying again')
          await pause(retryMs)
        }
      }
    }
    // Sequential: a call for a past assignment must not change the positions that a later call has set.
    positioning = positioning.then(askPositions)
  }

  kafka.on(kafka.events.GROUP_JOIN, ({ payload }) => {
    queues.clear()
    assigned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
      partitions.map(partition => ({ topic: topic as Topic, partition })),
    )
    for (const of of assigned.filter(of => !halted.has(idOf(of)))) {
      queues.set(idOf(of), { of, records: [], paused: false })
    }
    position()
  })

  /**
   * The topic may not be the one read so far: its offsets went back, or it could not be fetched for a while. kafkajs
   * continues silently (at the topic's start if its offset is gone), so `positions` is called again: the caller
   * compares.
   */
  const doubt = (reason: string) => {
    if (!positioned) return
    logger.warn({ groupId, reason }, 'asking again where to read on')
    position()
  }
  const fetching = new Set<number>()
  let fetchFailed = false
  kafka.on(kafka.events.FETCH_START, ({ payload: { nodeId } }) => {
    if (fetching.has(nodeId)) fetchFailed = true
    fetching.add(nodeId)
  })
  kafka.on(kafka.events.FETCH, ({ payload: { nodeId } }) => {
    fetching.delete(nodeId)
    if (fetchFailed) doubt('a fetch failed')
    fetchFailed = false
  })

  const endsOf = async (topic: Topic): Promise<TopicEnd[]> => {
    const ends = await admin.fetchTopicOffsets(topic)
    return ends.map(({ partition, low, high }) => {
      lastEnds.set(idOf({ topic, partition }), BigInt(high))
      return { topic, partition, first: BigInt(low), offset: BigInt(high) }
    })
  }

  const work = async () => {
    while (!stopped.signal.aborted) {
      const batch = takeBatch()
      if (batch.length === 0) {
        await new Promise<void>(resolve => {
          wake = resolve
          if (stopped.signal.aborted || (positioned && waiting() > 0)) resolve()
        })
        continue
      }
      for (
        let retryMs = FIRST_RETRY_MS;
        !stopped.signal.aborted;
        retryMs = Math.min(2 * retryMs, LAST_RETRY_MS)
      ) {
        try {
          batchSince ??= performance.now()
          for (const of of batch) if (!resting.has(idOf(of))) held.delete(idOf(of))
          await handle(batch, consumer)
          failure = undefined
          for (const { topic, partition, offset } of batch) {
            const id = idOf({ topic, partition })
            if (!queues.has(id) || resting.has(id)) continue
            handledTo.set(id, { topic, partition, offset: offset + 1n })
            next.set(id, { topic, partition, offset: offset + 1n })
          }
          break
        } catch (error) {
          failure = error instanceof Error ? error : new Error(String(error))
          logger.error(
            { err: error, groupId, records: batch.length, retryMs },
            'handling failed; holding and trying again',
          )
          await pause(retryMs)
        }
      }
      batchSince = undefined
    }
  }

  const pause = (ms: number) => sleep(ms, undefined, { signal: stopped.signal }).catch(() => {})

  const runConfig: Parameters<typeof kafka.run>[0] = {
    autoCommit: false,
    // The maximum: no topic has more partitions, and a handler only puts records into a queue.
    partitionsConsumedConcurrently: topics.length * LEDGER_PARTITIONS,
    eachBatch: async ({ batch, isStale }) => {
      const of = { topic: batch.topic as Topic, partition: batch.partition }
      const queue = queues.get(idOf(of))
      if (!queue || isStale() || resting.has(idOf(of))) return
      const first = BigInt(batch.messages[0]?.offset ?? 0)
      if (first < (readTo.get(idOf(of)) ?? 0n)) return doubt(`${idOf(of)} went back to offset ${first}`)
      readTo.set(idOf(of), BigInt(batch.lastOffset()) + 1n)
      for (const message of batch.messages) {
        queue.records.push({
          ...of,
          offset: BigInt(message.offset),
          timestamp: Number(message.timestamp),
          key: message.key,
          value: message.value,
          headers: headersOf(message.headers),
        })
      }
      pauseOrResume(queue)
      wake()
    },
  }
  // kafkajs restarts by itself only after errors that it considers temporary. A coordinator that is not found while
  // Kafka starts is not among them, although it is temporary.
  kafka.on(kafka.events.CRASH, async ({ payload: { error, restart } }) => {
    if (restart || stopped.signal.aborted) return
    logger.error({ err: error, groupId }, 'the consumer gave up; it is started again')
    await pause(LAST_RETRY_MS)
    if (!stopped.signal.aborted) await kafka.run(runConfig)
  })

  await admin.connect()
  await kafka.connect()
  await kafka.subscribe({ topics, fromBeginning: true })
  await kafka.run(runConfig)
  const working = work()
  let asking = false
  const askEnds = async () => {
    // One request at a time: a Kafka that does not answer gets no further ones.
    if (asking) return
    asking = true
    try {
      const before = [...next]
      for (const topic of topics) await endsOf(topic)
      const short = before.find(([id, { offset }]) => offset > (lastEnds.get(id) ?? offset))
      if (short) doubt(`${short[0]} ends at ${lastEnds.get(short[0])}, ${short[1].offset} of it is handled`)
    } catch (error) {
      logger.debug({ err: error, groupId }, 'ends not known')
    } finally {
      asking = false
    }
  }
  const hints = setInterval(() => {
    void askEnds()
    const offsets = [...handledTo.values()].map(position => ({
      ...position,
      offset: position.offset.toString(),
    }))
    handledTo.clear()
    if (offsets.length > 0)
      kafka.commitOffsets(offsets).catch(error => logger.debug({ err: error }, 'hint not written'))
  }, HINT_INTERVAL_MS)
  return consumer
}
