/**
 * The topics, their partition counts and how long they are kept. `ledger.commands` and `ledger.events` have one
 * equal, fixed count, because an event goes to its command's partition number; changing it is a drained migration.
 */
export const LEDGER_PARTITIONS = 12

const DAY_MS = 24 * 60 * 60 * 1_000
const FOR_EVER = -1

export const TOPICS = {
  'ledger.commands': { partitions: LEDGER_PARTITIONS, retentionMs: FOR_EVER },
  'ledger.events': { partitions: LEDGER_PARTITIONS, retentionMs: FOR_EVER },
  'identity.events': { partitions: 3, retentionMs: FOR_EVER },
  'notifier.commands': { partitions: 3, retentionMs: 7 * DAY_MS },
  'ledger.dead-letters': { partitions: 1, retentionMs: 30 * DAY_MS },
  'notifier.dead-letters': { partitions: 1, retentionMs: 30 * DAY_MS },
} as const satisfies Record<string, { partitions: number; retentionMs: number }>

export type Topic = keyof typeof TOPICS
