import type { Database } from '@pennywire/runtime/database.ts'

/** A command's outcome in the ledger's journal. */
export type Outcome = {
  commandId: string
  partition: number
  seq: bigint
  eventId: string
  type: string
  decidedAt: Date
  bytes: Buffer
  /** Whether the ledger knows that Kafka has it. */
  isPublished: boolean
}

/** The outcomes of commands by their ids; undecided ones are missing. */
export const readOutcomesOf = (sql: Database, commandIds: readonly string[]): Promise<Outcome[]> => sql<
  Outcome[]
>`
  select c.id as "commandId", c.partition, c.seq, j.headers::json ->> 'ce_id' as "eventId",
    j.headers::json ->> 'ce_type' as type, (j.headers::json ->> 'ce_time')::timestamptz as "decidedAt", j.bytes,
    coalesce(p.published_through >= c.seq, false) as "isPublished"
  from ledger_api.commands c
  join ledger_api.journal j using (partition, seq)
  left join ledger_api.published p using (partition)
  where c.id = any (${[...commandIds]}::uuid[])`

/** The commands that ended a hold, and those of the reversals of a transfer. */
export const readFollowingCommands = async (sql: Database, transferId: string): Promise<string[]> => {
  const rows = await sql<Array<{ id: string }>>`
    select end_command as id from ledger_api.holds where id = ${transferId} and end_command is not null
    union
    (select transfer_id from ledger_api.reversals where original_id = ${transferId} limit 100)`
  return rows.map(({ id }) => id)
}

export type TimelineEntry = {
  transferId: string
  walletId: string
  userId: string | null
  system: string | null
  sequence: bigint
  amount: bigint
  balanceAfter: bigint
  currency: string
}

/** The entries of a transfer and of the movements that came with it. */
export const readEntriesOf = (sql: Database, transferId: string): Promise<TimelineEntry[]> => sql<
  TimelineEntry[]
>`
  select t.id as "transferId", e.wallet_id as "walletId", w.user_id as "userId", w.system, e.sequence, e.amount,
    e.balance_after as "balanceAfter", t.currency
  from ledger_api.transfers t
  cross join lateral (values (t.from_wallet, t.from_sequence), (t.to_wallet, t.to_sequence)) as side (wallet_id, sequence)
  join ledger_api.entries e on e.wallet_id = side.wallet_id and e.sequence = side.sequence
  join ledger_api.wallets w on w.id = e.wallet_id
  where t.id = ${transferId} or t.linked_to = ${transferId}
  order by (t.id = ${transferId}) desc, t.id, e.amount`

/** Any wallet's balance at a moment, and the entry that states it. */
export type ProvenBalance = {
  id: string
  userId: string | null
  system: string | null
  currency: string
  balance: bigint
  sequence: bigint
  openedAt: Date
  now: Date
  /** Null where the wallet had no entry. */
  transferId: string | null
  decidedAt: Date | null
  partition: number | null
  seq: bigint | null
}

export const readProvenBalance = async (
  sql: Database,
  walletId: string,
  at: Date | null,
): Promise<ProvenBalance | undefined> => {
  const [row] = await sql<ProvenBalance[]>`
    select w.id, w.user_id as "userId", w.system, w.currency, coalesce(e.balance_after, 0) as balance, s.sequence,
      w.opened_at as "openedAt", clock_timestamp() as now, e.transfer_id as "transferId", t.decided_at as "decidedAt",
      t.partition, t.seq
    from ledger_api.wallets w
    cross join lateral (
      select ${at === null ? sql`w.sequence` : sql`ledger_api.sequence_at(w.id, ${at})`} as sequence offset 0) s
    left join ledger_api.entries e on e.wallet_id = w.id and e.sequence = s.sequence
    left join ledger_api.transfers t on t.id = e.transfer_id
    where w.id = ${walletId}`
  return row
}

/** Up to which record of ledger.events the notifier has handled a partition. */
export const readNotifierPosition = async (sql: Database, partition: number): Promise<bigint | null> => {
  const [row] = await sql<Array<{ next: bigint }>>`
    select next_offset as next from notifier_api.positions where topic = 'ledger.events' and partition = ${partition}`
  return row?.next ?? null
}

export type Delivery = {
  id: string
  channel: string
  about: string
  userId: string | null
  endpointId: string | null
  url: string | null
  state: string
  attempts: number
  nextAttemptAt: Date
  lastError: string | null
  storedAt: Date | null
  sentAt: Date | null
  tries: Array<{ at: string; status: number | null; error: string | null; ms: number }>
}

/** Mails by their ids, and what went to webhooks of these owners and of the operator because of these causes. */
export const readDeliveriesOf = (
  sql: Database,
  mailIds: readonly string[],
  webhooks: { causes: readonly string[]; eventTypes: readonly string[]; owners: readonly string[] },
): Promise<Delivery[]> => sql<Delivery[]>`
  with endpoints as (
    select id, url from notifier_api.webhook_endpoints where owner_id = any (${[...webhooks.owners]}::uuid[])
    union
    select id, url from notifier_api.webhook_endpoints where owner_id is null
  ), wanted as (
    select unnest(${[...mailIds]}::uuid[]) as id, null::text as url
    union all
    select notifier_api.webhook_delivery_id(cause, event_type, e.id), e.url
    from unnest(${[...webhooks.causes]}::text[]) as cause
    cross join unnest(${[...webhooks.eventTypes]}::text[]) as event_type
    cross join endpoints e
  )
  select d.id, d.channel, d.about, d.user_id as "userId", d.endpoint_id as "endpointId", wanted.url, d.state, d.attempts,
    d.next_attempt_at as "nextAttemptAt", d.last_error as "lastError", d.stored_at as "storedAt", d.sent_at as "sentAt",
    d.tries
  from wanted cross join lateral (
    select * from notifier_api.deliveries d where d.id = wanted.id limit 1) d
  order by d.stored_at nulls first, d.id
  limit 300`

export type StoredNotice = {
  id: string
  userId: string
  type: string
  storedAt: Date | null
  readAt: Date | null
}

export const readNoticesOf = (sql: Database, ids: readonly string[]): Promise<StoredNotice[]> => sql<
  StoredNotice[]
>`
  select id, user_id as "userId", type, stored_at as "storedAt", read_at as "readAt"
  from notifier_api.notices where id = any (${[...ids]}::uuid[]) order by stored_at nulls first, id`
