import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { headerOf, type IncomingRecord, type RawRecord } from './record.ts'

/** Who sets records aside, each into a topic of its own. */
export const DEAD_LETTER_CONSUMERS = ['ledger', 'notifier'] as const
export type DeadLetterConsumer = (typeof DEAD_LETTER_CONSUMERS)[number]

export const deadLetterTopicOf = (consumer: DeadLetterConsumer) => `${consumer}.dead-letters` satisfies Topic

const MARK = 'dead_letter_'

/** What is ours to say of a record, apart from what it said itself. */
const ownHeaders = (record: IncomingRecord): RawRecord['headers'] => {
  const headers: Record<string, Buffer[]> = {}
  for (const [name, value] of record.headers) {
    if (name.startsWith(MARK)) continue
    headers[name] ??= []
    headers[name].push(value)
  }
  return headers
}

/**
 * A record that can never be handled, to the byte as it was received, with its reason and origin in headers: what it
 * needs to be looked at, and to be sent to its topic again once the cause is mended.
 */
export const deadLetterOf = (
  record: IncomingRecord,
  consumer: DeadLetterConsumer,
  reason: string,
): RawRecord => ({
  topic: deadLetterTopicOf(consumer),
  key: record.key,
  value: record.value,
  headers: {
    ...ownHeaders(record),
    dead_letter_reason: reason.slice(0, 1_000),
    dead_letter_topic: record.topic,
    dead_letter_partition: String(record.partition),
    dead_letter_offset: String(record.offset),
  },
})

export type DeadLetter = {
  record: IncomingRecord
  /** Its place in the dead-letter topic, "partition/offset": what commands call it by. */
  place: string
  reason: string
  source: { topic: Topic; partition: number; offset: string }
  /** When it was sent to its topic again: once for each time. */
  redriven: Date[]
}

const isTopic = (name: string | undefined): name is Topic => name !== undefined && Object.hasOwn(TOPICS, name)

/** The dead letters among the records of a dead-letter topic, in order, each with the marks of its redrives. */
export const readDeadLetters = (records: IncomingRecord[]): DeadLetter[] => {
  const letters = new Map<string, DeadLetter>()
  for (const record of records) {
    const redriven = headerOf(record, 'dead_letter_redriven')
    if (redriven !== undefined) {
      letters.get(redriven)?.redriven.push(new Date(record.timestamp))
      continue
    }
    const topic = headerOf(record, 'dead_letter_topic')
    const partition = Number(headerOf(record, 'dead_letter_partition'))
    // Not of our making: a client with write access to the topic can write anything.
    if (!isTopic(topic) || !Number.isInteger(partition)) continue
    const place = `${record.partition}/${record.offset}`
    letters.set(place, {
      record,
      place,
      reason: headerOf(record, 'dead_letter_reason') ?? '',
      source: { topic, partition, offset: headerOf(record, 'dead_letter_offset') ?? '' },
      redriven: [],
    })
  }
  return [...letters.values()]
}

/** The record as it was, for the very partition it came from: there its order and its readers are. */
export const originalOf = ({ record, source }: DeadLetter): RawRecord => ({
  topic: source.topic,
  partition: source.partition,
  key: record.key,
  value: record.value,
  headers: ownHeaders(record),
})

/** Tells later readers that a dead letter was sent again. A mark beside it: what happened is never deleted. */
export const redriveMarkOf = ({ record, place }: DeadLetter): RawRecord => ({
  topic: record.topic,
  partition: record.partition,
  key: record.key,
  value: null,
  headers: { dead_letter_redriven: place },
})
