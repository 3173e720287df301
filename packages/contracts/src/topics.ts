/**
 * The topics: partition counts, retention and `max.message.bytes`. `ledger.commands` and `ledger.events` have the same
 * fixed count, because an event goes to its command's partition number; changing it is a drained migration.
 */
export const LEDGER_PARTITIONS = 12

const DAY_MS = 24 * 60 * 60 * 1_000
const FOR_EVER = -1
const MIB = 1024 * 1024
/** 1 MiB plus the frame of a batch: Kafka's own default. */
const KAFKA_DEFAULT_BYTES = 1_048_588

/**
 * A derived record must fit into its topic, or it would block its source partition for ever: an event contains its
 * command's texts and more, a dead letter the record as received and its reason.
 */

export const TOPICS = {
  'ledger.commands': {
    partitions: LEDGER_PARTITIONS,
    retentionMs: FOR_EVER,
    maxMessageBytes: KAFKA_DEFAULT_BYTES,
  },
  'ledger.events': { partitions: LEDGER_PARTITIONS, retentionMs: FOR_EVER, maxMessageBytes: 4 * MIB },
  'identity.events': { partitions: 3, retentionMs: FOR_EVER, maxMessageBytes: KAFKA_DEFAULT_BYTES },
  'notifier.commands': { partitions: 3, retentionMs: 7 * DAY_MS, maxMessageBytes: KAFKA_DEFAULT_BYTES },
  'ledger.dead-letters': { partitions: 1, retentionMs: 30 * DAY_MS, maxMessageBytes: 4 * MIB },
  'notifier.dead-letters': { partitions: 1, retentionMs: 30 * DAY_MS, maxMessageBytes: 16 * MIB },
  // One partition: the checkpoints are one chain.
  'audit.checkpoints': { partitions: 1, retentionMs: FOR_EVER, maxMessageBytes: 4 * MIB },
} as const satisfies Record<string, { partitions: number; retentionMs: number; maxMessageBytes: number }>

export type Topic = keyof typeof TOPICS

/**
 * The topics that the audit trail records: all but its own checkpoints. A recorded checkpoint would be new in the trail
 * and so cause the next one, without end; the checkpoints prove themselves by their signatures and their own chain.
 */
export const RECORDED_TOPICS: Topic[] = (Object.keys(TOPICS) as Topic[]).filter(
  topic => topic !== 'audit.checkpoints',
)
