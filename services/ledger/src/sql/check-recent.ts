import { INT2, INT8, TEXT, type Tx, UUID } from '@pennywire/runtime/database.ts'
import { type Broken, describe } from './broken.ts'

/** The envelope fields of a journal event. */
export type RecentEvent = { partition: number; seq: bigint; type: string; subject: string }

/** The last `seq` written in each partition's journal. */
export const readWritten = (tx: Tx, partitions: number[]): Promise<{ partition: number; seq: bigint }[]> =>
  tx<{ partition: number; seq: bigint }[]>`
    select partition, next_seq - 1 as seq from ledger.partitions
    where partition = any(${tx.array(partitions, INT2)})`

/** The subject of a capture's event is the command's id. The hold's id, which is also the transfer's, replaces it. */
export const readEvents = (
  tx: Tx,
  partition: number,
  after: bigint,
  through: bigint,
): Promise<RecentEvent[]> =>
  tx<RecentEvent[]>`
    select event.partition, event.seq, event.type, coalesce(hold.id::text, event.subject) as subject
    from (
      select partition, seq, headers::json ->> 'ce_type' as type, headers::json ->> 'ce_subject' as subject
      from ledger.journal where partition = ${partition} and seq > ${after} and seq <= ${through}) event
    left join ledger.holds hold on hold.end_command = event.subject::uuid
    order by event.seq`

/** The ids of transfers linked to these. With `is not null` any plan may use the partial index on `linked_to`. */
export const readLinked = async (tx: Tx, ids: string[]): Promise<string[]> => {
  const rows = await tx<{ id: string }[]>`
    select id from ledger.transfers where linked_to is not null and linked_to = any(${tx.array(ids, UUID)})`
  return rows.map(({ id }) => id)
}

// The checks below read by primary keys of the given transfers and their wallets: their cost is independent of the
// books' size.

/**
 * Makes this transaction's plans use the keys and join in the written order. A connection caches its plans, and plans
 * made while the tables were empty scan whole tables and all entries of a wallet: the check of a new ledger would cost
 * as much as the payments that it checks.
 */
export const readByKeys = async (tx: Tx): Promise<void> => {
  await tx`select set_config('enable_seqscan', 'off', true), set_config('join_collapse_limit', '1', true)`
}

/** O1: each event's transfer exists and has the event's status, partition and seq. */
export const checkEventsOf = async (
  tx: Tx,
  events: Array<RecentEvent & { status: string }>,
): Promise<Broken> =>
  describe(
    await tx`
      select e.partition, e.seq::text, e.id, t.status, t.partition as "ofPartition", t.seq::text as "ofSeq"
      from unnest(
        ${tx.array(
          events.map(event => event.partition),
          INT2,
        )},
        ${tx.array(
          events.map(event => event.seq),
          INT8,
        )},
        ${tx.array(
          events.map(event => event.subject),
          UUID,
        )},
        ${tx.array(
          events.map(event => event.status),
          TEXT,
        )}) as e (partition, seq, id, status)
      left join ledger.transfers t on t.id = e.id
      where t.id is null or t.status <> e.status or t.partition <> e.partition or t.seq <> e.seq
      order by e.partition, e.seq limit 1`,
    'an event and its transfer differ',
  )

/** M1, M4: a completed transfer has two entries, each of its amount; a rejected one has none. */
export const checkEntriesOf = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select t.id, t.status, t.amount::text, f.amount::text as "fromEntry", e.amount::text as "toEntry"
      from ledger.transfers t
      left join ledger.entries f
        on f.wallet_id = t.from_wallet and f.sequence = t.from_sequence and f.transfer_id = t.id
      left join ledger.entries e
        on e.wallet_id = t.to_wallet and e.sequence = t.to_sequence and e.transfer_id = t.id
      where t.id = any(${tx.array(ids, UUID)}) and case t.status
        when 'completed' then f.amount is distinct from -t.amount or e.amount is distinct from t.amount
        else t.from_sequence is not null or t.to_sequence is not null end
      order by t.id limit 1`,
    'a transfer and its entries differ',
  )

/** M2: each entry continues the balance of the entry before it in its wallet. */
export const checkChainsOf = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.amount::text, e.balance_after::text, before.balance_after::text as before
      from ledger.transfers t
      cross join lateral (
        values (t.from_wallet, t.from_sequence), (t.to_wallet, t.to_sequence)) as own (wallet_id, sequence)
      join ledger.entries e on e.wallet_id = own.wallet_id and e.sequence = own.sequence
      left join ledger.entries before on before.wallet_id = e.wallet_id and before.sequence = e.sequence - 1
      where t.id = any(${tx.array(ids, UUID)})
        and (e.balance_after <> e.amount + coalesce(before.balance_after, 0)
          or (e.sequence > 1 and before.wallet_id is null))
      order by e.wallet_id, e.sequence limit 1`,
    "a wallet's entries are no unbroken chain",
  )

/** M2: each wallet moved by these transfers has the balance of its last entry, and no entry after it. */
export const checkBalancesOf = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select w.id, w.balance::text, w.sequence::text, last.balance_after::text as "lastEntry"
      from (
        select from_wallet as id from ledger.transfers where id = any(${tx.array(ids, UUID)}) and status = 'completed'
        union
        select to_wallet from ledger.transfers where id = any(${tx.array(ids, UUID)}) and status = 'completed') moved
      join ledger.wallets w using (id)
      left join ledger.entries last on last.wallet_id = w.id and last.sequence = w.sequence
      left join ledger.entries after on after.wallet_id = w.id and after.sequence = w.sequence + 1
      where last.balance_after is distinct from w.balance or after.wallet_id is not null
      order by w.id limit 1`,
    "a wallet's balance is not that of its last entry",
  )

/** M3: these transfers left no user's wallet below zero. */
export const checkOverdraftOf = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.balance_after::text
      from ledger.transfers t
      join ledger.entries e on e.wallet_id = t.from_wallet and e.sequence = t.from_sequence
      join ledger.wallets w on w.id = e.wallet_id
      where t.id = any(${tx.array(ids, UUID)}) and w.user_id is not null and e.balance_after < 0
      order by e.wallet_id, e.sequence limit 1`,
    "a user's wallet was below zero",
  )
