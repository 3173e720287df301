// The state of one batch in memory: the rows read under the locks, changed by one command after the other, and the rows
// to write.
import type { SystemWalletKind } from '@pennywire/contracts/ids.ts'
import type { RecordName, Records } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope, headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Original, Wallet } from '@pennywire/rules/decide.ts'
import type { LimitDefaults } from '@pennywire/rules/limits.ts'
import {
  type Earlier,
  type HoldRow,
  type JournalRow,
  type LimitRow,
  noWrites,
  type PartitionRow,
  type UsersWallet,
  type Writes,
} from './store.ts'
import { findSystemWallet } from './system-wallets.ts'

/** The rows read for a batch, each as fresh as the locks. */
export type Rows = {
  now: Date
  partitions: Map<number, PartitionRow>
  wallets: Map<string, Wallet>
  /** All wallets of the users who open one, oldest first, and the limits set on the closed ones. */
  usersWallets: UsersWallet[]
  inheritable: LimitRow[]
  holds: HoldRow[]
  originals: Original[]
  wantedOriginals: string[]
  outcomes: Earlier[]
}

export type BatchState = Omit<Rows, 'holds' | 'originals' | 'wantedOriginals' | 'outcomes'> & {
  limitDefaults: LimitDefaults
  /** The largest balance of a system wallet, and the smallest with a minus sign. */
  systemBound: bigint
  holds: Map<string, HoldRow>
  originals: Map<string, Original>
  /** The originals of this batch's reversals; some may be decided in this batch. */
  wantedOriginals: ReadonlySet<string>
  /** The outcomes so far, by command id. */
  outcomes: Map<string, Earlier>
  /** Outcomes of repeated commands. */
  repeated: Earlier[]
  changed: Map<string, Wallet>
  writes: Writes
  counts: {
    completed: number
    rejected: number
    held: number
    released: number
    opened: number
    /** Frozen, unfrozen, closed, renamed, limited. */
    changed: number
    refused: number
    repeated: number
    suspense: number
  }
  codec: Codec
}

export const openBatchState = (
  rows: Rows,
  { codec, limitDefaults, systemBound }: Pick<BatchState, 'codec' | 'limitDefaults' | 'systemBound'>,
): BatchState => ({
  ...rows,
  codec,
  limitDefaults,
  systemBound,
  holds: new Map(rows.holds.map(hold => [hold.id, hold])),
  originals: new Map(rows.originals.map(original => [original.id, original])),
  wantedOriginals: new Set(rows.wantedOriginals),
  outcomes: new Map(rows.outcomes.map(outcome => [outcome.id, outcome])),
  repeated: [],
  changed: new Map(),
  writes: noWrites(),
  counts: {
    completed: 0,
    rejected: 0,
    held: 0,
    released: 0,
    opened: 0,
    changed: 0,
    refused: 0,
    repeated: 0,
    suspense: 0,
  },
})

/**
 * The system wallets of a command's partition: `outside` has room for this change of its balance, `suspense` for taking
 * the same amount. Throws MissingSystemWallet.
 */
export const systemWallets = (
  { wallets, systemBound }: Pick<BatchState, 'wallets' | 'systemBound'>,
  partition: number,
  currency: string,
  change: bigint,
) => {
  const find = (kind: SystemWalletKind, change: bigint) =>
    findSystemWallet(wallets, { kind, currency, partition }, change, systemBound)
  return { outside: find('external', change), suspense: find('suspense', change < 0n ? -change : change) }
}

/** Encodes an event and appends it to the journal. Throws, with nothing changed, if it cannot be encoded. */
export const appendEvent = <Name extends RecordName>(
  state: BatchState,
  record: IncomingRecord,
  event: { type: Name; value: Records[Name]; subject: string },
): JournalRow => {
  const partition = state.partitions.get(record.partition)!
  const seq = partition.nextSeq
  const headers = {
    ...envelope({
      id: `${record.partition}-${seq}`,
      type: event.type,
      source: 'ledger',
      time: state.now.getTime(),
      subject: event.subject,
      traceparent: traceOf(record),
    }),
    seq: String(seq),
    command_offset: String(record.offset),
    ...causeOf(record),
  }
  const row = {
    partition: record.partition,
    seq,
    key: record.key?.toString('utf8') ?? '',
    headers,
    bytes: state.codec.encode(event.type, event.value),
  }
  partition.nextSeq = seq + 1n
  state.writes.journal.push(row)
  return row
}

/**
 * The event names the request that caused its command, and the role of a member of staff, so that each record of the audit
 * trail tells these alone. The keyed hash of the address stays in the command: the readers of events do not need it.
 */
const causeOf = (record: IncomingRecord): Record<string, string> => {
  const cause: Record<string, string> = {}
  const requestId = headerOf(record, 'request_id')
  const role = headerOf(record, 'actor_role')
  if (requestId !== undefined && /^[A-Za-z0-9._-]{1,128}$/.test(requestId)) cause.request_id = requestId
  if (role !== undefined && /^[a-z_]{1,32}$/.test(role) && role !== 'user') cause.actor_role = role
  return cause
}

/** The event continues the command's trace; a malformed traceparent is dropped. */
const traceOf = (record: IncomingRecord): string | undefined => {
  const traceparent = headerOf(record, 'traceparent')
  return traceparent && /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(traceparent)
    ? traceparent
    : undefined
}
