import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import { BYTEA, type Database, INT8, TEXT, TIMESTAMPTZ, UUID } from '@pennywire/runtime/database.ts'
import type { RequestPlace } from '../../ledger/sql/ledger-reads.ts'

export type PendingRequest = {
  transferId: string
  userId: string
  type: string
  fromWallet: string | null
  toWallet: string | null
  amount: bigint
  currency: string
  fingerprint: Buffer
  note: Buffer | null
  metadata: Buffer | null
  requestedAt: Date
  expiresAt: Date
  acknowledged: boolean
  /** Whether the ledger may still decide it: it is in Kafka, or expired less than a minute ago. */
  isOpen: boolean
}

/** A pending request with its command as it was sent, so that it can be sent again. */
export type NewPendingRequest = Omit<PendingRequest, 'isOpen'> & { command: Command }
type Command = { type: string } & Pick<OutgoingRecord, 'key' | 'value'>

/** A request that Kafka acknowledged and that the ledger has not decided long after its expiry. */
export type OverdueRequest = { transferId: string; requestedAt: Date } & Command

/** Longest pause before a command is sent again. */
const LONGEST_PAUSE_SECONDS = 3_600
/** Maximum number of doublings of the pause. */
const DOUBLINGS = 12

/** A statement may touch a row only once: repeats in one batch are merged, as if they had come one after the other. */
const mergeRepeats = (requests: NewPendingRequest[]): NewPendingRequest[] => {
  const merged = new Map<string, NewPendingRequest>()
  for (const request of requests) {
    const first = merged.get(request.transferId) ?? request
    if (!first.fingerprint.equals(request.fingerprint)) continue
    merged.set(request.transferId, {
      ...first,
      expiresAt: new Date(Math.max(Number(first.expiresAt), Number(request.expiresAt))),
      acknowledged: first.acknowledged || request.acknowledged,
    })
  }
  return [...merged.values()]
}

/**
 * Writes requests that are about to be answered as pending. A repeat renews the expiry. `lookAfterMs` past the expiry a
 * gateway checks whether the ledger has decided the request.
 */
export const writePending = async (
  sql: Database,
  requests: NewPendingRequest[],
  lookAfterMs: number,
): Promise<void> => {
  const rows = mergeRepeats(requests)
  const column = <Value>(value: (row: NewPendingRequest) => Value, type: number) =>
    sql.array(rows.map(value) as never[], type)
  await sql`
    insert into gateway.pending_requests (transfer_id, user_id, type, from_wallet, to_wallet, amount, currency,
      fingerprint, note, metadata, requested_at, expires_at, acknowledged, command_key, command_type, command, look_at)
    select transfer_id, user_id, type, from_wallet, to_wallet, amount, currency, fingerprint, note, metadata,
      requested_at, expires_at, acknowledged = 't', command_key, command_type, command,
      greatest(expires_at, clock_timestamp()) + make_interval(secs => ${lookAfterMs / 1_000})
    from unnest(
      ${column(r => r.transferId, UUID)}, ${column(r => r.userId, UUID)}, ${column(r => r.type, TEXT)},
      ${column(r => r.fromWallet, UUID)}, ${column(r => r.toWallet, UUID)}, ${column(r => r.amount, INT8)},
      ${column(r => r.currency, TEXT)}, ${column(r => r.fingerprint, BYTEA)}, ${column(r => r.note, BYTEA)},
      ${column(r => r.metadata, BYTEA)}, ${column(r => r.requestedAt, TIMESTAMPTZ)},
      ${column(r => r.expiresAt, TIMESTAMPTZ)}, ${column(r => (r.acknowledged ? 't' : 'f'), TEXT)},
      ${column(r => r.command.key, TEXT)}, ${column(r => r.command.type, TEXT)},
      ${column(r => r.command.value, BYTEA)})
      as r (transfer_id, user_id, type, from_wallet, to_wallet, amount, currency, fingerprint, note, metadata,
        requested_at, expires_at, acknowledged, command_key, command_type, command)
    on conflict (transfer_id) do update
      set expires_at = greatest(pending_requests.expires_at, excluded.expires_at),
        acknowledged = pending_requests.acknowledged or excluded.acknowledged,
        look_at = greatest(pending_requests.look_at, excluded.look_at)
      where pending_requests.fingerprint = excluded.fingerprint`
}

const isOpen = (sql: Database) => sql`(acknowledged or expires_at > clock_timestamp() - interval '1 minute')`

const columns = (sql: Database) => sql`
  transfer_id as "transferId", user_id as "userId", type, from_wallet as "fromWallet", to_wallet as "toWallet", amount,
  currency, fingerprint, note, metadata, requested_at as "requestedAt", expires_at as "expiresAt", acknowledged,
  ${isOpen(sql)} as "isOpen"`

/** Requests of these ids that may still be decided: those Kafka has, and others until a minute past their expiry. */
export const readPending = (sql: Database, firstId: string, lastId: string): Promise<PendingRequest[]> =>
  sql<PendingRequest[]>`
    select ${columns(sql)} from gateway.pending_requests
    where transfer_id between ${firstId} and ${lastId} and ${isOpen(sql)}`

/**
 * A user's requests for transfers that were answered as pending, decided or not, below a place and since a moment,
 * newest first.
 */
export const readRequestsOf = (
  sql: Database,
  userId: string,
  before: RequestPlace,
  since: Date | null,
  limit: number,
): Promise<PendingRequest[]> =>
  sql<PendingRequest[]>`
    select ${columns(sql)} from gateway.pending_requests
    where user_id = ${userId} and type = 'transfer'
      and (requested_at, transfer_id) < (${before.requestedAt}, ${before.id})
      ${since === null ? sql`` : sql`and requested_at >= ${since}`}
    order by requested_at desc, transfer_id desc limit ${limit}`

/** Those of the ids under which `readRequestsOf` reads a request. */
export const readRequestIds = async (sql: Database, ids: string[]): Promise<string[]> => {
  const rows = await sql<{ id: string }[]>`
    select transfer_id as id from gateway.pending_requests
    where transfer_id = any(${sql.array(ids, UUID)}) and type = 'transfer'`
  return rows.map(({ id }) => id)
}

/**
 * Claims up to `limit` overdue requests, each for this gateway alone: it is due again after `pauseMs`, and each time
 * after twice that, up to an hour.
 */
export const claimOverdue = (sql: Database, limit: number, pauseMs: number): Promise<OverdueRequest[]> =>
  sql<OverdueRequest[]>`
    with due as (
      select transfer_id from gateway.pending_requests
      where decided_at is null and acknowledged and command is not null and look_at <= clock_timestamp()
      order by look_at limit ${limit} for update skip locked)
    update gateway.pending_requests r
    set look_at = clock_timestamp() + make_interval(secs => least(${LONGEST_PAUSE_SECONDS},
        ${pauseMs / 1_000} * power(2, least(r.sent_again, ${DOUBLINGS})))),
      sent_again = r.sent_again + 1
    from due where r.transfer_id = due.transfer_id
    returning r.transfer_id as "transferId", r.requested_at as "requestedAt", r.command_key as key,
      r.command_type as type, r.command as value`

/** Marks requests that the ledger has decided. */
export const markDecided = async (sql: Database, ids: string[]): Promise<void> => {
  await sql`
    update gateway.pending_requests set decided_at = clock_timestamp()
    where transfer_id = any(${sql.array(ids, UUID)}) and decided_at is null`
}

/** The number of undecided requests whose command was sent again. */
export const countOverdue = async (sql: Database): Promise<number> => {
  const [row] = await sql<Array<{ count: number }>>`
    select count(*)::int as count from gateway.pending_requests
    where decided_at is null and acknowledged and command is not null and sent_again > 0`
  return row!.count
}
