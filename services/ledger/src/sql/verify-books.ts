import { INT8, type Tx } from '@pennywire/runtime/database.ts'

/** The first row that breaks a promise, as text for a person; undefined where all hold. */
export type Broken = string | undefined

type Row = Record<string, unknown>

export const describe = (rows: readonly Row[], what: string): Broken =>
  rows[0] &&
  `${what}: ${Object.entries(rows[0])
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')}`

/** M1: over all wallets of a currency, system ones included, money is neither made nor lost. */
const checkCurrencySums = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select currency, sum(balance)::text as sum from ledger.wallets
      group by currency having sum(balance) <> 0 order by currency limit 1`,
    'the balances of a currency do not sum to zero',
  )

/** M1: the entries of each transfer sum to zero. */
const checkTransferSums = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select transfer_id, sum(amount)::text as sum from ledger.entries
      group by transfer_id having sum(amount) <> 0 order by transfer_id limit 1`,
    'the entries of a transfer do not sum to zero',
  )

/** M1, M4: each completed transfer has its two entries, each of its amount, and each entry its completed transfer. */
const checkTransfersHaveEntries = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select t.id, t.status, t.amount::text, f.amount::text as "fromEntry", e.amount::text as "toEntry"
      from ledger.transfers t
      left join ledger.entries f
        on f.wallet_id = t.from_wallet and f.sequence = t.from_sequence and f.transfer_id = t.id
      left join ledger.entries e
        on e.wallet_id = t.to_wallet and e.sequence = t.to_sequence and e.transfer_id = t.id
      where case t.status
        when 'completed' then f.amount is distinct from -t.amount or e.amount is distinct from t.amount
        else t.from_sequence is not null or t.to_sequence is not null end
      order by t.id limit 1`,
    'a transfer and its entries differ',
  ) ??
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.transfer_id from ledger.entries e
      where not exists (
        select 1 from ledger.transfers t where t.id = e.transfer_id and t.status = 'completed'
          and ((t.from_wallet = e.wallet_id and t.from_sequence = e.sequence)
            or (t.to_wallet = e.wallet_id and t.to_sequence = e.sequence)))
      order by e.wallet_id, e.sequence limit 1`,
    'an entry belongs to no completed transfer',
  )

/** M2: each wallet's entries count from 1 without a gap, each balance follows from the one before. */
const checkEntryChains = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select wallet_id, sequence::text, expected_sequence::text, balance_after::text, expected_balance::text
      from (
        select wallet_id, sequence, balance_after,
          row_number() over wallet as expected_sequence,
          sum(amount) over wallet as expected_balance
        from ledger.entries window wallet as (partition by wallet_id order by sequence)) chain
      where sequence <> expected_sequence or balance_after <> expected_balance
      order by wallet_id, sequence limit 1`,
    "a wallet's entries are no unbroken chain",
  )

/** M2: each wallet's balance and sequence are those of its last entry. */
const checkBalances = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select w.id, w.balance::text, coalesce(e.sum, 0)::text as entries, w.sequence::text, coalesce(e.count, 0)::text as count
      from ledger.wallets w
      full join (select wallet_id, sum(amount) as sum, count(*) as count from ledger.entries group by wallet_id) e
        on e.wallet_id = w.id
      where w.balance is distinct from coalesce(e.sum, 0) or w.sequence is distinct from coalesce(e.count, 0)
      order by 1 limit 1`,
    "a wallet's balance is not the sum of its entries",
  )

/** M3: no user's wallet is, or ever was, below zero. */
const checkNoOverdraft = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select w.id, e.sequence::text, e.balance_after::text
      from ledger.entries e join ledger.wallets w on w.id = e.wallet_id
      where w.system is null and e.balance_after < 0
      order by w.id, e.sequence limit 1`,
    "a user's wallet was below zero",
  )

/** M3: each wallet holds what its active holds promise, and never more than it has. */
const checkHeld = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select w.id, w.balance::text, w.held::text, coalesce(h.sum, 0)::text as holds
      from ledger.wallets w
      left join (
        select wallet_id, sum(amount) as sum from ledger.holds where status = 'active' group by wallet_id) h
        on h.wallet_id = w.id
      where w.held <> coalesce(h.sum, 0) or (w.system is null and w.held > w.balance)
      order by w.id limit 1`,
    'a wallet holds another amount than its holds say',
  )

/** X1: a captured hold is a transfer of what was taken, any other hold is none. */
const checkHoldsAreTransfers = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select h.id, h.status, h.captured::text, t.amount::text as moved
      from ledger.holds h left join ledger.transfers t on t.id = h.id
      where case h.status
        when 'captured' then t.id is null or t.status <> 'completed' or t.amount <> h.captured
          or t.from_wallet <> h.wallet_id or (h.type = 'hold' and t.to_wallet <> h.to_wallet)
          or t.type <> case h.type when 'hold' then 'transfer' else h.type end
        else t.id is not null end
      order by h.id limit 1`,
    'a hold and its transfer differ',
  )

/** X1, X2: each event that tells of a hold has that hold, and each hold the commands that placed and ended it. */
const checkHoldsHaveEvents = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select event.partition, event.seq::text, event.type, event.subject
      from (
        select partition, seq, headers::json ->> 'ce_type' as type, (headers::json ->> 'ce_subject')::uuid as subject
        from ledger.journal where headers like '%pennywire.ledger.Hold%') event
      left join ledger.holds placed on event.type like '%HoldPlaced' and placed.id = event.subject
      left join ledger.holds ended on event.type like '%HoldEnded' and ended.end_command = event.subject
      where placed.id is null and ended.id is null order by event.partition, event.seq limit 1`,
    'a hold and its events differ',
  ) ??
  describe(
    await tx`
      select h.id, h.status, h.end_command from ledger.holds h
      left join ledger.commands placed on placed.id = h.id
      left join ledger.commands ended on ended.id = h.end_command
      where placed.id is null or (h.status <> 'active' and ended.id is null)
      order by h.id limit 1`,
    'a hold and its events differ',
  )

/** M1: what is given back of a transfer was paid by it, and is never more. */
const checkReversals = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select o.id, o.amount::text, sum(r.amount)::text as reversed
      from ledger.reversals r left join ledger.transfers o on o.id = r.original_id
      group by o.id, o.amount, o.status
      having o.id is null or o.status <> 'completed' or sum(r.amount) > o.amount
      order by o.id limit 1`,
    'more is given back than was paid',
  ) ??
  describe(
    await tx`
      select t.id, t.original_id, t.amount::text, r.amount::text as reversed
      from (select * from ledger.transfers where type = 'reversal' and status = 'completed') t
      full join ledger.reversals r on r.transfer_id = t.id
      where r.original_id is distinct from t.original_id or r.amount is distinct from t.amount
      order by 1 limit 1`,
    'a reversal and its transfer differ',
  ) ??
  describe(
    await tx`
      select t.id, t.original_id, t.from_wallet, t.to_wallet
      from ledger.transfers t
      join ledger.transfers o on o.id = t.original_id
      join ledger.wallets payer on payer.id = t.from_wallet
      join ledger.wallets payee on payee.id = t.to_wallet
      where t.type = 'reversal' and t.status = 'completed'
        and ((payer.system is null and t.from_wallet <> o.to_wallet)
          or (payee.system is null and t.to_wallet <> o.from_wallet))
      order by t.id limit 1`,
    'a reversal and its original differ',
  )

/** O1: the journal has no hole up to its next number, and nothing is called published that is not written. */
const checkJournal = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select p.partition, p.next_seq::text, coalesce(j.count, 0)::text as rows, coalesce(j.last, 0)::text as last,
        coalesce(m.published_through, 0)::text as published
      from ledger.partitions p
      left join (select partition, count(*) as count, max(seq) as last from ledger.journal group by partition) j
        using (partition)
      left join ledger.published m using (partition)
      where coalesce(j.count, 0) <> p.next_seq - 1 or coalesce(j.last, 0) <> p.next_seq - 1
        or coalesce(m.published_through, 0) > p.next_seq - 1
      order by p.partition limit 1`,
    'a partition of the journal has a hole or a mark beyond it',
  )

/** O1, X1, X2: each decision has its event in the journal, no two share one, and each transfer is a decision. */
const checkDecisionsHaveEvents = async (tx: Tx): Promise<Broken> =>
  describe(
    await tx`
      select c.id, c.partition, c.seq::text
      from ledger.commands c left join ledger.journal j using (partition, seq)
      where j.seq is null order by c.id limit 1`,
    'a decision has no event in the journal',
  ) ??
  describe(
    await tx`
      select partition, seq::text, count(*)::text from ledger.commands
      group by partition, seq having count(*) > 1 order by 1, 2 limit 1`,
    'two decisions share an event',
  ) ??
  describe(
    await tx`
      select t.id, t.partition, t.seq::text, d.partition as "decidedPartition", d.seq::text as "decidedSeq"
      from ledger.transfers t
      -- A hold's id was decided when it was placed; the transfer that it became is told by the event of its capture.
      left join ledger.holds h on h.id = t.id and h.status = 'captured'
      left join ledger.commands d on d.id = coalesce(h.end_command, t.id)
      where d.id is null or d.partition <> t.partition or d.seq <> t.seq
      order by t.id limit 1`,
    'a transfer is not what was decided under its id',
  )

/** Every promise of the books with its check over all of them, in the order of telling. */
export const CHECKS = [
  ['M1', 'balances sum to zero in each currency', checkCurrencySums],
  ['M1', 'entries sum to zero in each transfer', checkTransferSums],
  ['M1', 'transfers and entries belong together', checkTransfersHaveEntries],
  ['M2', 'entries are an unbroken chain in each wallet', checkEntryChains],
  ['M2', 'balances are the sums of their entries', checkBalances],
  ['M3', 'no user was ever below zero', checkNoOverdraft],
  ['M3', 'wallets hold what their holds promise', checkHeld],
  ['X1', 'each hold ended once, as its transfer says', checkHoldsAreTransfers],
  ['X1', 'holds and their events belong together', checkHoldsHaveEvents],
  ['M1', 'no more is given back than was paid', checkReversals],
  ['O1', 'the journal has no hole', checkJournal],
  ['O1', 'each decision has its event', checkDecisionsHaveEvents],
] as const satisfies Array<[promise: string, what: string, check: (tx: Tx) => Promise<Broken>]>

export type Counts = {
  wallets: number
  transfers: number
  entries: number
  events: number
  unpublished: number
}

export const countBooks = async (tx: Tx): Promise<Counts> => {
  const [row] = await tx<[Counts]>`
    select (select count(*)::int from ledger.wallets) as wallets,
      (select count(*)::int from ledger.transfers) as transfers,
      (select count(*)::int from ledger.entries) as entries,
      (select count(*)::int from ledger.journal) as events,
      (select coalesce(sum(next_seq - 1 - published_through), 0)::int
        from ledger.partitions join ledger.published using (partition)) as unpublished`
  return row
}

/** How far each partition is published, and the journal's bytes at these places. */
export const readPublished = (tx: Tx): Promise<{ partition: number; publishedThrough: bigint }[]> =>
  tx<{ partition: number; publishedThrough: bigint }[]>`
    select partition, published_through as "publishedThrough" from ledger.published`

export const readJournalBytes = (
  tx: Tx,
  partition: number,
  seqs: bigint[],
): Promise<{ seq: bigint; bytes: Buffer }[]> =>
  tx<{ seq: bigint; bytes: Buffer }[]>`
    select seq, bytes from ledger.journal where partition = ${partition} and seq = any(${tx.array(seqs, INT8)})`
