import { TOPICS, type Topic } from '@pennywire/contracts/topics.ts'
import { headerOf, type IncomingRecord, type RawRecord } from './record.ts'

/** The services that set records aside, each into its own topic. */
export const DEAD_LETTER_CONSUMERS = ['ledger', 'notifier'] as const
export type DeadLetterConsumer = (typeof DEAD_LETTER_CONSUMERS)[number]

export const deadLetterTopicOf = (consumer: DeadLetterConsumer) => `${consumer}.dead-letters` satisfies Topic

const MARK = 'dead_letter_'

/** The record's own headers, without the dead-letter headers that we add. */
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
 * A dead letter: a record that can never be handled, to the byte as received, with its reason and origin in headers.
 * Enough to inspect it, and to redrive it to its topic once the cause is fixed.
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
  /** Its place in the dead-letter topic, "partition/offset": its name in commands. */
  place: string
  reason: string
  source: { topic: Topic; partition: number; offset: string }
  /** When it was redriven to its topic: one time for each redrive. */
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
    // Not written by our consumers: a client with write access to the topic can write anything.
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

/** The original record, for the partition it came from: that partition has its order and its readers. */
export const originalOf = ({ record, source }: DeadLetter): RawRecord => ({
  topic: source.topic,
  partition: source.partition,
  key: record.key,
  value: record.value,
  headers: ownHeaders(record),
})

/** Marks a dead letter as redriven for later readers. A separate record, because history is never deleted. */
export const redriveMarkOf = ({ record, place }: DeadLetter): RawRecord => ({
  topic: record.topic,
  partition: record.partition,
  key: record.key,
  value: null,
  headers: { dead_letter_redriven: place },
})
