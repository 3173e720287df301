import type { Topic } from '@pennywire/contracts/topics.ts'

/** A record to publish. Without a partition the key determines it (murmur2, as in every Kafka client). */
export type OutgoingRecord = {
  topic: Topic
  partition?: number
  key: string
  value: Buffer
  headers: Record<string, string>
}

/** A record forwarded unchanged: other writers' records may have any bytes, no key, no value, and repeated headers. */
export type RawRecord = {
  topic: Topic
  partition?: number
  key: string | Buffer | null
  value: Buffer | null
  headers: Record<string, string | Array<string | Buffer>>
}

/** A record received from Kafka. Keys and values are bytes, because a client with write access can write anything. */
export type IncomingRecord = {
  topic: Topic
  partition: number
  offset: bigint
  /** Milliseconds since 1970, as the broker or producer set it. */
  timestamp: number
  key: Buffer | null
  value: Buffer | null
  /** In the order received; a name may occur more than once. */
  headers: Array<[name: string, value: Buffer]>
}

/** A header's text, or undefined; of several, the last one counts. */
export const headerOf = (record: Pick<IncomingRecord, 'headers'>, name: string): string | undefined =>
  record.headers.findLast(([header]) => header === name)?.[1].toString('utf8')

/**
 * The envelope of each record: CloudEvents 1.0 in Kafka's binary mode (one header per attribute,
 * https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md) and the W3C trace.
 */
export const envelope = (event: {
  id: string
  type: string
  source: 'gateway' | 'ledger' | 'notifier' | 'audit'
  time: number
  subject: string
  traceparent?: string | undefined
}): Record<string, string> => ({
  'content-type': 'application/vnd.confluent.avro',
  ce_specversion: '1.0',
  ce_id: event.id,
  ce_type: event.type,
  ce_source: `/pennywire/${event.source}`,
  ce_time: new Date(event.time).toISOString(),
  ce_subject: event.subject,
  ...(event.traceparent === undefined ? {} : { traceparent: event.traceparent }),
})
