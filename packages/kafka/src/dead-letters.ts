import type { Topic } from '@pennywire/contracts/topics.ts'
import type { IncomingRecord, OutgoingRecord } from './record.ts'

/**
 * A record that can never be handled, as it was received, with its reason and origin in headers: what it needs to be
 * looked at, and to be sent to its topic again once the cause is mended.
 */
export const deadLetterOf = (
  record: IncomingRecord,
  consumer: 'ledger' | 'notifier',
  reason: string,
): OutgoingRecord => ({
  topic: `${consumer}.dead-letters` satisfies Topic,
  key: record.key?.toString('utf8') ?? '',
  value: record.value ?? Buffer.alloc(0),
  headers: {
    ...Object.fromEntries(record.headers.map(([name, value]) => [name, value.toString('utf8')])),
    dead_letter_reason: reason.slice(0, 1_000),
    dead_letter_topic: record.topic,
    dead_letter_partition: String(record.partition),
    dead_letter_offset: String(record.offset),
  },
})
