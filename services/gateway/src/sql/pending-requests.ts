import { BYTEA, type Database, INT8, TEXT, TIMESTAMPTZ, UUID } from '@pennywire/runtime/database.ts'

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
}

/** One statement may touch a row once: repeats in one batch become one, as if they had come one after the other. */
const mergeRepeats = (requests: PendingRequest[]): PendingRequest[] => {
  const merged = new Map<string, PendingRequest>()
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

/** Writes requests whose clients are about to be told "pending". A repeat of one renews its expiry. */
export const writePending = async (sql: Database, requests: PendingRequest[]): Promise<void> => {
  const rows = mergeRepeats(requests)
  const column = <Value>(value: (row: PendingRequest) => Value, type: number) =>
    sql.array(rows.map(value) as never[], type)
  await sql`
    insert into gateway.pending_requests (transfer_id, user_id, type, from_wallet, to_wallet, amount, currency,
      fingerprint, note, metadata, requested_at, expires_at, acknowledged)
    select transfer_id, user_id, type, from_wallet, to_wallet, amount, currency, fingerprint, note, metadata,
      requested_at, expires_at, acknowledged = 't'
    from unnest(
      ${column(r => r.transferId, UUID)}, ${column(r => r.userId, UUID)}, ${column(r => r.type, TEXT)},
      ${column(r => r.fromWallet, UUID)}, ${column(r => r.toWallet, UUID)}, ${column(r => r.amount, INT8)},
      ${column(r => r.currency, TEXT)}, ${column(r => r.fingerprint, BYTEA)}, ${column(r => r.note, BYTEA)},
      ${column(r => r.metadata, BYTEA)}, ${column(r => r.requestedAt, TIMESTAMPTZ)},
      ${column(r => r.expiresAt, TIMESTAMPTZ)}, ${column(r => (r.acknowledged ? 't' : 'f'), TEXT)})
      as r (transfer_id, user_id, type, from_wallet, to_wallet, amount, currency, fingerprint, note, metadata,
        requested_at, expires_at, acknowledged)
    on conflict (transfer_id) do update
      set expires_at = greatest(pending_requests.expires_at, excluded.expires_at),
        acknowledged = pending_requests.acknowledged or excluded.acknowledged
      where pending_requests.fingerprint = excluded.fingerprint`
}

const columns = (sql: Database) => sql`
  transfer_id as "transferId", user_id as "userId", type, from_wallet as "fromWallet", to_wallet as "toWallet", amount,
  currency, fingerprint, note, metadata, requested_at as "requestedAt", expires_at as "expiresAt", acknowledged`

/** Requests of these ids that may still be decided: those Kafka has, and others until a minute past their expiry. */
export const readPending = (sql: Database, firstId: string, lastId: string): Promise<PendingRequest[]> =>
  sql<PendingRequest[]>`
    select ${columns(sql)} from gateway.pending_requests
    where transfer_id between ${firstId} and ${lastId}
      and (acknowledged or expires_at > clock_timestamp() - interval '1 minute')`
