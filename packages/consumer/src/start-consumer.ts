import kafkajs from 'kafkajs'
import { createDecoder, isKnown, type SchemaSource } from './decode.ts'
import { idOf, type PennywireEvent, UnusableEvent } from './events.ts'
import type { EventName } from './generated/events.ts'
import { insertDeadLetter, type RawRecord, readDeadLetters, takeDeadLetter } from './sql/dead-letters.ts'
import { insertEntries } from './sql/entries.ts'
import { forgetFrom, takeNew } from './sql/inbox.ts'
import { beginAt, lockPositions, readPositions, writePositions } from './sql/positions.ts'
import { checkedSchema, type Sql, type Tx } from './sql/tables.ts'

/** Most records in one transaction. */
const MAX_BATCH = 500
const FIRST_PAUSE_MS = 100
const LAST_PAUSE_MS = 30_000
/** While it waits, the group hears of it this often, so that its partitions stay its own. */
const HEARTBEAT_MS = 1_000
/** The group's committed offsets are only for people and lag monitors. */
const HINT_EVERY_MS = 5_000
/** Positions that another instance has set back are found within this time. */
const WATCH_EVERY_MS = 2_000
const ALL = ''
const SESSION_MS = 30_000

/** Where a consumer begins in a topic that it has not read before, or reads again. */
export type Begin = 'first' | 'end' | Date | ReadonlyMap<number, bigint>

export type ConsumerOptions<Name extends EventName = EventName> = {
  kafka: {
    brokers: string[]
    ssl?: kafkajs.KafkaConfig['ssl']
    sasl?: kafkajs.SASLOptions
    clientId?: string
  }
  /** The registry's schemas: `fromRegistry(url)`. */
  schemas: SchemaSource
  /** A name that begins with `downstream-`. */
  groupId: string
  topics: string[]
  /** A client of the team's own Postgres, and the schema that `migrate` has made for this consumer. */
  sql: Sql
  schema: string
  /** In a topic that was not read before; the first record if it is not said. */
  begin?: Begin
  /** The types to handle; all that the kit knows if it is not said. */
  types?: readonly Name[]
  /** Keeps the entries of all wallets, for `readBalances` and `readGaps`. */
  keepBalances?: boolean
  /**
   * Handles an event in the transaction that also notes it as handled and stores the position: once, however often the
   * record comes. What it does outside of the transaction may happen twice. It rejects with UnusableEvent where no retry
   * helps: the record is set aside. With any other error the record is tried again, after longer and longer pauses.
   */
  handle: (event: PennywireEvent<Name>, tx: Tx) => Promise<void>
  /** Sets a record aside after so many failures while the database answers; without it the partition waits. */
  setAsideAfter?: number
  /**
   * After how long without a sign of life the group gives an instance's partitions to another: 30 s if it is not said. A
   * transaction that takes longer is not done twice: the other instance waits for its lock, and goes on behind it.
   */
  sessionMs?: number
  /** Copies what is set aside to a topic of the team's, in addition to the table. It may come twice. */
  publishDeadLetter?: (record: RawRecord, reason: string) => Promise<void>
  /** Told of failures that are tried again, and of records that are set aside. */
  onTrouble?: (trouble: Trouble) => void
}

export type Trouble = {
  kind: 'tried again' | 'set aside' | 'not positioned'
  reason: string
  topic?: string
  partition?: number
  offset?: bigint
}

export type RunningConsumer = {
  /** Stops fetching; what is being handled is finished. */
  pause: () => void
  resume: () => void
  /**
   * Reads from `begin` again, on this and every other instance. Events that were handled are not handled again, unless
   * `again`: then they are forgotten first.
   */
  replay: (topic: string, begin: Begin, options?: { again?: boolean }) => Promise<void>
  /** Handles what was set aside once more, one transaction each; tells how many are done and how many failed again. */
  retryDeadLetters: () => Promise<{ done: number; failed: number }>
  /** Throws the reason while it does not consume. For readiness. */
  check: () => void
  /** Finishes the running transaction and leaves the group. */
  stop: () => Promise<void>
}

type Place = { topic: string; partition: number }
const keyOf = ({ topic, partition }: Place) => `${topic}/${partition}`
const reasonOf = (error: unknown) => (error instanceof Error ? error.message : String(error))
const delay = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

const textsOf = (headers: kafkajs.IHeaders | undefined): Record<string, string> =>
  Object.fromEntries(
    Object.entries(headers ?? {}).flatMap(([name, value]) => {
      const last = Array.isArray(value) ? value.at(-1) : value
      return last === undefined ? [] : [[name, last.toString('utf8')]]
    }),
  )

const rawOf = (place: Place, message: kafkajs.KafkaMessage): RawRecord => ({
  ...place,
  offset: BigInt(message.offset),
  publishedAt: Number(message.timestamp),
  key: message.key,
  value: message.value,
  headers: Object.fromEntries(
    Object.entries(message.headers ?? {}).map(([name, value]) => [
      name,
      (Array.isArray(value) ? value : [value ?? '']).map(one => Buffer.from(one).toString('hex')),
    ]),
  ),
})

const fromRaw = ({ offset, publishedAt, key, value, headers }: RawRecord): kafkajs.KafkaMessage => ({
  ...{ offset: String(offset), timestamp: String(publishedAt), key, value, attributes: 0 },
  headers: Object.fromEntries(
    Object.entries(headers).map(([name, values]) => [name, values.map(hex => Buffer.from(hex, 'hex'))]),
  ),
})

/** What a record asks for: an event to handle, nothing, or to be set aside. */
type Work<Name extends EventName> = { event?: PennywireEvent<Name>; unusable?: string }

/** Consumes topics into the team's Postgres. Resolves once it runs; rejects where the brokers or tables are not there. */
export const startConsumer = async <Name extends EventName = EventName>(
  options: ConsumerOptions<Name>,
): Promise<RunningConsumer> => {
  const { sql, topics, groupId, begin = 'first', handle, keepBalances = false } = options
  const schema = checkedSchema(options.schema)
  const positions = `${schema}.positions`
  const wanted = options.types && new Set<string>(options.types)
  const decode = createDecoder(options.schemas)
  const trouble = (what: Trouble) => options.onTrouble?.(what)

  const client = new kafkajs.Kafka({
    clientId: options.kafka.clientId ?? groupId,
    brokers: options.kafka.brokers,
    logLevel: kafkajs.logLevel.NOTHING,
    ...(options.kafka.ssl ? { ssl: options.kafka.ssl } : {}),
    ...(options.kafka.sasl ? { sasl: options.kafka.sasl } : {}),
  })
  const admin = client.admin()
  const consumer = client.consumer({
    groupId,
    allowAutoTopicCreation: false,
    sessionTimeout: options.sessionMs ?? SESSION_MS,
    maxWaitTimeInMs: 500,
    retry: { retries: 60, maxRetryTime: 5_000, restartOnFailure: async () => true },
  })

  let stopping = false
  /** Why it does not consume: by partition, or of all. */
  const failing = new Map([[ALL, 'it has no partitions yet']])
  /** By partition, where this instance goes on; of an assignment that is not positioned yet: nothing. */
  const next = new Map<string, bigint>()
  /** Counts changes of `next`, so that a position that was read meanwhile is known to be old. */
  let steps = 0
  let positioning = Promise.resolve()
  let generation = 0
  let hintedAt = 0

  const beginnings = async (
    topic: string,
    at: Begin,
  ): Promise<{ topic: string; partition: number; offset: bigint }[]> => {
    const ends = await admin.fetchTopicOffsets(topic)
    const byTime = at instanceof Date ? await admin.fetchTopicOffsetsByTimestamp(topic, at.getTime()) : []
    return ends.map(({ partition, low, high }) => {
      const [first, end] = [BigInt(low), BigInt(high)]
      const given =
        at === 'first'
          ? first
          : at === 'end'
            ? end
            : at instanceof Date
              ? BigInt(byTime.find(one => one.partition === partition)?.offset ?? high)
              : (at.get(partition) ?? first)
      // An offset of -1 means that nothing is as late as this moment.
      const from = given < 0n ? end : given
      return { topic, partition, offset: from < first ? first : from > end ? end : from }
    })
  }

  const workOf = async (place: Place, message: kafkajs.KafkaMessage): Promise<Work<Name>> => {
    const headers = textsOf(message.headers)
    const type = headers.ce_type
    // By the header, so that types of later versions are passed over and not taken for damage.
    if (message.value === null || !isKnown(type)) return {}
    const counts = keepBalances && (type.endsWith('.TransferCompleted') || type.endsWith('.TransferReversed'))
    if (wanted && !wanted.has(type) && !counts) return {}
    try {
      const decoded = await decode(message.value)
      if (!decoded) return {}
      if (decoded.type !== type) throw new UnusableEvent(`ce_type says ${type}, but it is ${decoded.type}`)
      const event = {
        ...place,
        offset: BigInt(message.offset),
        key: message.key?.toString('utf8') ?? null,
        publishedAt: Number(message.timestamp),
        headers,
        ...decoded,
        id: idOf(decoded.value),
      }
      return { event: event as unknown as PennywireEvent<Name> }
    } catch (error) {
      if (error instanceof UnusableEvent) return { unusable: error.message }
      throw error // the registry is away
    }
  }

  const handleNew = async (tx: Tx, works: readonly Work<Name>[]) => {
    const events = works.flatMap(({ event }) => (event ? [event] : []))
    if (keepBalances)
      await insertEntries(
        tx,
        schema,
        events.flatMap(({ value }) => ('entries' in value ? value.entries : [])),
      )
    const asked = events.filter(({ type }) => !wanted || wanted.has(type))
    if (asked.length === 0) return
    const once = [...new Map(asked.map(event => [event.id, event])).values()]
    const fresh = await takeNew(tx, schema, once)
    // In the order of the topic: `asked`, of which a repeat within the batch is the second.
    for (const event of asked) if (fresh.delete(event.id)) await handle(event, tx)
  }

  /** Handles records of one partition in one transaction; tells where the partition goes on. */
  const apply = async (place: Place, messages: kafkajs.KafkaMessage[]): Promise<bigint> => {
    const works = await Promise.all(messages.map(message => workOf(place, message)))
    for (const [index, { unusable }] of works.entries())
      if (unusable !== undefined) await options.publishDeadLetter?.(rawOf(place, messages[index]!), unusable)
    const end = BigInt(messages.at(-1)!.offset) + 1n
    const reached = (await sql.begin(async tx => {
      const [stored] = await lockPositions(tx, positions, [place])
      if (!stored) throw new Error(`${keyOf(place)} has no position; was its schema emptied?`)
      // Another instance is further, or a replay has set the partition back.
      if (stored.offset !== next.get(keyOf(place))) return stored.offset
      await handleNew(tx, works)
      for (const [index, { unusable }] of works.entries())
        if (unusable !== undefined)
          await insertDeadLetter(tx, schema, rawOf(place, messages[index]!), unusable)
      await writePositions(tx, positions, [{ ...place, offset: end }])
      return end
    })) as bigint
    for (const [index, { unusable }] of reached === end ? works.entries() : [])
      if (unusable !== undefined)
        trouble({ kind: 'set aside', reason: unusable, ...place, offset: BigInt(messages[index]!.offset) })
    return reached
  }

  const setAside = async (place: Place, message: kafkajs.KafkaMessage, reason: string): Promise<bigint> => {
    const record = rawOf(place, message)
    await options.publishDeadLetter?.(record, reason)
    const end = record.offset + 1n
    return (await sql.begin(async tx => {
      const [stored] = await lockPositions(tx, positions, [place])
      if (stored?.offset !== next.get(keyOf(place))) return stored!.offset
      await insertDeadLetter(tx, schema, record, reason)
      await writePositions(tx, positions, [{ ...place, offset: end }])
      return end
    })) as bigint
  }

  const databaseAnswers = () =>
    readPositions(sql, positions, []).then(
      () => true,
      () => false,
    )

  /** Sets every assigned partition to its stored position. A partition without one begins. */
  const position = () => {
    const mine = ++generation
    next.clear()
    const place = async () => {
      for (
        let pauseMs = FIRST_PAUSE_MS;
        mine === generation && !stopping;
        pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)
      ) {
        try {
          const stored = await readPositions(sql, positions, assigned)
          const known = new Map(stored.map(one => [keyOf(one), one.offset]))
          const fresh = assigned.filter(one => !known.has(keyOf(one)))
          for (const topic of new Set(fresh.map(one => one.topic))) {
            const from = (await beginnings(topic, begin)).filter(one =>
              fresh.some(of => keyOf(of) === keyOf(one)),
            )
            await beginAt(sql, positions, from)
          }
          // Read again: another instance may have begun first.
          const all = fresh.length > 0 ? await readPositions(sql, positions, assigned) : stored
          if (mine !== generation) return
          for (const { topic, partition, offset } of all) {
            next.set(keyOf({ topic, partition }), offset)
            consumer.seek({ topic, partition, offset: String(offset) })
          }
          failing.clear()
          return
        } catch (error) {
          failing.set(ALL, `not positioned: ${reasonOf(error)}`)
          trouble({ kind: 'not positioned', reason: reasonOf(error) })
          await delay(pauseMs)
        }
      }
    }
    positioning = positioning.then(place)
  }

  let assigned: Place[] = []
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    assigned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
      partitions.map(partition => ({ topic, partition })),
    )
    position()
  })

  const waitWithHeartbeats = async (ms: number, heartbeat: () => Promise<void>) => {
    for (let left = ms; left > 0 && !stopping; left -= HEARTBEAT_MS) {
      await delay(Math.min(left, HEARTBEAT_MS))
      await heartbeat()
    }
  }

  /** Notes where a partition goes on; false where that is elsewhere than expected, and sought. */
  const goOn = (place: Place, at: bigint, expected: bigint) => {
    steps++
    next.set(keyOf(place), at)
    if (at === expected) return true
    consumer.seek({ ...place, offset: String(at) })
    return false
  }

  const eachBatch = async ({
    batch,
    heartbeat,
    resolveOffset,
    isRunning,
    isStale,
  }: kafkajs.EachBatchPayload) => {
    const place = { topic: batch.topic, partition: batch.partition }
    const key = keyOf(place)
    // A topic may have no records between this and the batch's first; kafkajs' types leave it out.
    const fetchedFrom = BigInt((batch as unknown as { fetchedOffset: string }).fetchedOffset)
    let positioned = false
    void positioning.then(() => {
      positioned = true
    })
    while (!positioned && !stopping) await waitWithHeartbeats(20, heartbeat)
    let size = MAX_BATCH
    let failures = 0
    let messages = batch.messages
    while (messages.length > 0 && isRunning() && !isStale() && !stopping) {
      const at = next.get(key)
      if (at === undefined) return // of a partition that is another's now
      messages = messages.filter(({ offset }) => BigInt(offset) >= at)
      if (messages.length === 0) break
      // Fetched from further on, before a seek: the records in between come first.
      if (fetchedFrom > at) {
        consumer.seek({ ...place, offset: String(at) })
        return
      }
      const slice = messages.slice(0, size)
      const last = slice.at(-1)!.offset
      const end = BigInt(last) + 1n
      try {
        if (!goOn(place, await apply(place, slice), end)) return
        failures = 0
        failing.delete(key)
        size = Math.min(size * 2, MAX_BATCH)
      } catch (error) {
        // One record at a time, so that only the one that fails waits.
        if (slice.length > 1) {
          size = 1
          continue
        }
        const [record] = slice
        const reason = reasonOf(error)
        const answers = await databaseAnswers()
        if (answers) failures++
        const isOver = options.setAsideAfter !== undefined && failures >= options.setAsideAfter
        const where = { ...place, offset: BigInt(record!.offset) }
        if (answers && (error instanceof UnusableEvent || isOver)) {
          trouble({ kind: 'set aside', reason, ...where })
          if (!goOn(place, await setAside(place, record!, reason), end)) return
          failures = 0
          failing.delete(key)
        } else {
          failing.set(key, `${key} waits at offset ${record!.offset}: ${reason}`)
          trouble({ kind: 'tried again', reason, ...where })
          await waitWithHeartbeats(
            Math.min(FIRST_PAUSE_MS * 2 ** Math.min(failures, 20), LAST_PAUSE_MS),
            heartbeat,
          )
          continue
        }
      }
      resolveOffset(last)
      await heartbeat()
      if (performance.now() - hintedAt >= HINT_EVERY_MS) {
        hintedAt = performance.now()
        await consumer.commitOffsets([{ ...place, offset: String(end) }]).catch(() => {})
      }
    }
  }

  /** A replay sets positions back, here or on another instance. */
  const watchPositions = async () => {
    const before = steps
    const stored = await readPositions(sql, positions, assigned).catch(() => [])
    // Handled meanwhile: it is asked again in a moment.
    if (before !== steps) return
    for (const { topic, partition, offset } of stored) {
      const at = next.get(keyOf({ topic, partition }))
      if (at !== undefined) goOn({ topic, partition }, offset, at)
    }
  }
  const watch = setInterval(() => void watchPositions(), WATCH_EVERY_MS)

  await admin.connect()
  try {
    // The tables are there, and the topics may be read: known at once, not at the first record.
    await readPositions(sql, positions, [])
    for (const topic of topics) await admin.fetchTopicOffsets(topic)
    await consumer.connect()
    await consumer.subscribe({ topics, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch })
  } catch (error) {
    clearInterval(watch)
    await Promise.allSettled([consumer.disconnect(), admin.disconnect()])
    throw error
  }

  return {
    pause: () => consumer.pause(topics.map(topic => ({ topic }))),
    resume: () => consumer.resume(topics.map(topic => ({ topic }))),
    replay: async (topic, from, { again = false } = {}) => {
      const begins = await beginnings(topic, from)
      await sql.begin(async tx => {
        await lockPositions(tx, positions, begins)
        if (again) for (const one of begins) await forgetFrom(tx, schema, one)
        await writePositions(tx, positions, begins)
      })
      await watchPositions()
    },
    retryDeadLetters: async () => {
      let [done, failed] = [0, 0]
      for (const letter of await readDeadLetters(sql, schema)) {
        const place = { topic: letter.topic, partition: letter.partition }
        try {
          const work = await workOf(place, fromRaw(letter))
          if (work.unusable !== undefined) throw new UnusableEvent(work.unusable)
          const handled = await sql.begin(async tx => {
            if (!(await takeDeadLetter(tx, schema, letter))) return false
            await handleNew(tx, [work])
            return true
          })
          if (handled) done++
        } catch (error) {
          failed++
          trouble({ kind: 'tried again', reason: reasonOf(error), ...place, offset: letter.offset })
        }
      }
      return { done, failed }
    },
    check: () => {
      for (const reason of failing.values()) throw new Error(reason)
    },
    stop: async () => {
      stopping = true
      generation++
      clearInterval(watch)
      await consumer.disconnect()
      await admin.disconnect()
    },
  }
}
