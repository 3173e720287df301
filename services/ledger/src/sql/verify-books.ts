import { INT2, INT8, TEXT, type Tx, UUID } from '@pennywire/runtime/database.ts'
import { type Broken, describe } from './broken.ts'
import { checkEntriesOf } from './check-recent.ts'

// All tables are read one by one, in ranges of the primary key, each range in a short transaction: a long one keeps
// every dead version of the rows that each batch changes. Each check joins the rows of its range by primary keys. Each
// row is also compared with its neighbour by key, so that a range covers the boundary to the range before it. One
// snapshot is consistent, so that concurrent transfers raise no false alarm. Only the sums of the currencies need more
// than one range, and are therefore those of a recorded moment (see sumBalances). Entries and events are read
// backwards: rows inserted meanwhile lie behind the walk, so that no walk chases the end of a busy wallet or partition.

type EntryKey = { walletId: string; sequence: bigint }
type EventKey = { partition: number; seq: bigint; type: string; subject: string }

/** A check over the rows of one range. */
type Check<Key> = [promise: Promised, what: string, check: (tx: Tx, keys: Key[]) => Promise<Broken>]
export type Promised = 'M1' | 'M2' | 'M3' | 'O1' | 'X1'

type Walk<Key> = {
  table: string
  /** Reads the next keys in order. */
  read: (tx: Tx, after: Key | undefined, limit: number) => Promise<Key[]>
  checks: Check<Key>[]
  /** A check that needs all ranges. */
  atEnd?: Check<Key>
}
/** A walk over a key of any type: its checks take the keys that its `read` returns. */
export type AnyWalk = Walk<unknown>
const walk = <Key>(parts: Walk<Key>): AnyWalk => parts as unknown as AnyWalk

const idsOf = (table: string, column = 'id') => {
  return async (tx: Tx, after: string | undefined, limit: number): Promise<string[]> => {
    const rows = await tx<{ key: string }[]>`
      select distinct ${tx(column)} as key from ${tx(`ledger.${table}`)}
      ${after === undefined ? tx`` : tx`where ${tx(column)} > ${after}`} order by 1 limit ${limit}`
    return rows.map(({ key }) => key)
  }
}
const uuids = (tx: Tx, ids: string[]) => tx.array(ids, UUID)

// ledger.entries

const readEntryKeys = async (tx: Tx, after: EntryKey | undefined, limit: number): Promise<EntryKey[]> =>
  tx<EntryKey[]>`
    select wallet_id as "walletId", sequence from ledger.entries
    ${after ? tx`where (wallet_id, sequence) < (${after.walletId}, ${after.sequence})` : tx``}
    order by wallet_id desc, sequence desc limit ${limit}`

const entriesOf = (tx: Tx, keys: EntryKey[]) => tx`
  unnest(${uuids(
    tx,
    keys.map(key => key.walletId),
  )}, ${tx.array(
    keys.map(key => key.sequence),
    INT8,
  )}) as key (wallet_id, sequence)
  join ledger.entries e on e.wallet_id = key.wallet_id and e.sequence = key.sequence`

/** M1: each entry is one of the two entries of a completed transfer. */
const checkEntriesBelong = async (tx: Tx, keys: EntryKey[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.transfer_id
      from ${entriesOf(tx, keys)}
      left join ledger.transfers t on t.id = e.transfer_id and t.status = 'completed'
        and ((t.from_wallet = e.wallet_id and t.from_sequence = e.sequence)
          or (t.to_wallet = e.wallet_id and t.to_sequence = e.sequence))
      where t.id is null order by e.wallet_id, e.sequence limit 1`,
    'an entry belongs to no completed transfer',
  )

/** M2: each entry continues the balance of the entry before it in its wallet, back to the first. */
const checkEntryChains = async (tx: Tx, keys: EntryKey[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.amount::text, e.balance_after::text, before.balance_after::text as before
      from ${entriesOf(tx, keys)}
      left join ledger.entries before on before.wallet_id = e.wallet_id and before.sequence = e.sequence - 1
      where e.balance_after <> e.amount + coalesce(before.balance_after, 0)
        or (e.sequence > 1 and before.wallet_id is null)
      order by e.wallet_id, e.sequence limit 1`,
    "a wallet's entries are no unbroken chain",
  )

/** M2: each entry belongs to a wallet, and its sequence is not above the wallet's. */
const checkEntriesHaveWallets = async (tx: Tx, keys: EntryKey[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, w.sequence::text as last
      from ${entriesOf(tx, keys)} left join ledger.wallets w on w.id = e.wallet_id
      where w.id is null or e.sequence > w.sequence order by e.wallet_id, e.sequence limit 1`,
    "a wallet's balance is not the sum of its entries",
  )

/** M3: no entry left a user's wallet below zero. */
const checkNoneWasOverdrawn = async (tx: Tx, keys: EntryKey[]): Promise<Broken> =>
  describe(
    await tx`
      select e.wallet_id, e.sequence::text, e.balance_after::text
      from ${entriesOf(tx, keys)} join ledger.wallets w on w.id = e.wallet_id
      where w.system is null and e.balance_after < 0 order by e.wallet_id, e.sequence limit 1`,
    "a user's wallet was below zero",
  )

// ledger.wallets

/**
 * M1: the balances of all wallets of a currency, system wallets included, sum to zero: money is neither created nor
 * lost. The ranges are read at different moments, so the sum is that of the first range's moment: entries decided since
 * are subtracted from each balance. They are the wallet's last entries whose events were not in the journal then.
 */
const sumBalances = () => {
  let horizon: Array<{ partition: number; nextSeq: bigint }> | undefined
  // By the first key of a range: reading a range again replaces its sums.
  const sums = new Map<string, Array<{ currency: string; sum: string }>>()
  const add = async (tx: Tx, ids: string[]): Promise<Broken> => {
    horizon ??= await tx<{ partition: number; nextSeq: bigint }[]>`
      select partition, next_seq as "nextSeq" from ledger.partitions`
    const partitions = tx.array(
      horizon.map(row => row.partition),
      INT2,
    )
    const nextSeqs = tx.array(
      horizon.map(row => row.nextSeq),
      INT8,
    )
    const rows = await tx<{ currency: string; sum: string }[]>`
      with horizon as materialized (select * from unnest(${partitions}, ${nextSeqs}) as h (partition, next_seq))
      select w.currency, sum(w.balance - coalesce(since.sum, 0))::text as sum
      from ledger.wallets w
      left join lateral (
        with recursive back as (
          select w.sequence + 1 as sequence, 0::bigint as amount
          union all
          select e.sequence, e.amount from back
          join ledger.entries e on e.wallet_id = w.id and e.sequence = back.sequence - 1
          join ledger.transfers t on t.id = e.transfer_id
          left join horizon h on h.partition = t.partition
          where t.seq >= coalesce(h.next_seq, 0))
        select sum(amount) from back) since on true
      where w.id = any(${uuids(tx, ids)}) group by w.currency`
    sums.set(ids[0]!, rows)
    return undefined
  }
  const judge = async (): Promise<Broken> => {
    const totals = new Map<string, bigint>()
    for (const rows of sums.values())
      for (const { currency, sum } of rows) totals.set(currency, (totals.get(currency) ?? 0n) + BigInt(sum))
    const wrong = [...totals].filter(([, sum]) => sum !== 0n).toSorted(([a], [b]) => (a < b ? -1 : 1))
    return describe(
      wrong.map(([currency, sum]) => ({ currency, sum })),
      'the balances of a currency do not sum to zero',
    )
  }
  return { add, judge }
}

/** M2: each wallet's balance and sequence are those of its last entry. */
const checkBalances = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select w.id, w.balance::text, w.sequence::text, last.balance_after::text as "lastEntry"
      from ledger.wallets w
      left join ledger.entries last on last.wallet_id = w.id and last.sequence = w.sequence
      left join ledger.entries after on after.wallet_id = w.id and after.sequence = w.sequence + 1
      where w.id = any(${uuids(tx, ids)}) and (coalesce(last.balance_after, 0) <> w.balance
        or (w.sequence <> 0 and last.wallet_id is null) or after.wallet_id is not null)
      order by w.id limit 1`,
    "a wallet's balance is not the sum of its entries",
  )

/** M3: no user's wallet is below zero. */
const checkNoOverdraft = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select id, balance::text from ledger.wallets
      where id = any(${uuids(tx, ids)}) and system is null and balance < 0 order by id limit 1`,
    "a user's wallet is below zero",
  )

/** M3: each wallet's `held` is the sum of its active holds, and a user's never exceeds the balance. */
const checkHeld = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select w.id, w.balance::text, w.held::text, coalesce(h.sum, 0)::text as holds
      from ledger.wallets w
      left join lateral (
        select sum(amount) as sum from ledger.holds where wallet_id = w.id and status = 'active') h on true
      where w.id = any(${uuids(tx, ids)})
        and (w.held <> coalesce(h.sum, 0) or (w.system is null and w.held > w.balance))
      order by w.id limit 1`,
    'a wallet holds another amount than its holds say',
  )

// ledger.holds

/** M3: each hold belongs to a wallet. */
const checkHoldsHaveWallets = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select h.id, h.wallet_id from ledger.holds h left join ledger.wallets w on w.id = h.wallet_id
      where h.id = any(${uuids(tx, ids)}) and w.id is null order by h.id limit 1`,
    'a hold is that of no wallet',
  )

/** X1: a captured hold has a completed transfer of the captured amount; any other hold has none. */
const checkHoldsAreTransfers = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select h.id, h.status, h.captured::text, t.amount::text as moved
      from ledger.holds h left join ledger.transfers t on t.id = h.id
      where h.id = any(${uuids(tx, ids)}) and case h.status
        when 'captured' then t.id is null or t.status <> 'completed' or t.amount <> h.captured
          or t.from_wallet <> h.wallet_id or (h.type = 'hold' and t.to_wallet <> h.to_wallet)
          or t.type <> case h.type when 'hold' then 'transfer' else h.type end
        else t.id is not null end
      order by h.id limit 1`,
    'a hold and its transfer differ',
  )

/** X1, X2: each hold has the commands that placed and ended it. */
const checkHoldsHaveCommands = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select h.id, h.status, h.end_command from ledger.holds h
      left join ledger.commands placed on placed.id = h.id
      left join ledger.commands ended on ended.id = h.end_command
      where h.id = any(${uuids(tx, ids)}) and (placed.id is null or (h.status <> 'active' and ended.id is null))
      order by h.id limit 1`,
    'a hold and its events differ',
  )

// ledger.journal

const readEventKeys = async (tx: Tx, after: EventKey | undefined, limit: number): Promise<EventKey[]> =>
  tx<EventKey[]>`
    select partition, seq, headers::json ->> 'ce_type' as type, headers::json ->> 'ce_subject' as subject
    from ledger.journal ${after ? tx`where (partition, seq) < (${after.partition}, ${after.seq})` : tx``}
    order by partition desc, seq desc limit ${limit}`

const eventsOf = (tx: Tx, keys: EventKey[]) => tx`
  unnest(${tx.array(
    keys.map(key => key.partition),
    INT2,
  )}, ${tx.array(
    keys.map(key => key.seq),
    INT8,
  )}, ${tx.array(
    keys.map(key => key.type),
    TEXT,
  )}, ${uuids(
    tx,
    keys.map(key => key.subject),
  )}) as event (partition, seq, type, subject)`

/** O1: each event's predecessor is in the journal, and its seq is below its partition's `next_seq`. */
const checkJournal = async (tx: Tx, keys: EventKey[]): Promise<Broken> =>
  describe(
    await tx`
      select event.partition, event.seq::text, p.next_seq::text
      from ${eventsOf(tx, keys)}
      left join ledger.partitions p on p.partition = event.partition
      left join ledger.journal before on before.partition = event.partition and before.seq = event.seq - 1
      where p.partition is null or event.seq >= p.next_seq or (event.seq > 1 and before.partition is null)
      order by event.partition, event.seq limit 1`,
    'a partition of the journal has a hole or a mark beyond it',
  )

/** X1: each HoldPlaced and HoldEnded event has its hold. */
const checkEventsHaveHolds = async (tx: Tx, keys: EventKey[]): Promise<Broken> => {
  const ofHolds = keys.filter(({ type }) => type.startsWith('pennywire.ledger.Hold'))
  if (ofHolds.length === 0) return undefined
  return describe(
    await tx`
      select event.partition, event.seq::text, event.type, event.subject
      from ${eventsOf(tx, ofHolds)}
      left join ledger.holds placed on event.type like '%HoldPlaced' and placed.id = event.subject
      left join ledger.holds ended on event.type like '%HoldEnded' and ended.end_command = event.subject
      where placed.id is null and ended.id is null order by event.partition, event.seq limit 1`,
    'a hold and its events differ',
  )
}

// ledger.partitions

const readPartitionKeys = async (tx: Tx, after: number | undefined, limit: number): Promise<number[]> => {
  const rows = await tx<{ partition: number }[]>`
    select partition from ledger.partitions ${after === undefined ? tx`` : tx`where partition > ${after}`}
    order by partition limit ${limit}`
  return rows.map(({ partition }) => partition)
}

/** O1: each partition's journal ends just below `next_seq`, and `published_through` is not beyond that end. */
const checkJournalEnds = async (tx: Tx, partitions: number[]): Promise<Broken> =>
  describe(
    await tx`
      select p.partition, p.next_seq::text, coalesce(j.last, 0)::text as last,
        coalesce(m.published_through, 0)::text as published
      from ledger.partitions p
      left join lateral (
        select seq as last from ledger.journal where partition = p.partition order by seq desc limit 1) j on true
      left join ledger.published m using (partition)
      where p.partition = any(${tx.array(partitions, INT2)})
        and (coalesce(j.last, 0) <> p.next_seq - 1 or coalesce(m.published_through, 0) > p.next_seq - 1)
      order by p.partition limit 1`,
    'a partition of the journal has a hole or a mark beyond it',
  )

// ledger.reversals

/** M1: reversals belong to a completed transfer and sum to at most its amount. By the originals' ids. */
const checkGivenBack = async (tx: Tx, originals: string[]): Promise<Broken> =>
  describe(
    await tx`
      select r.original_id as id, o.amount::text, sum(r.amount)::text as reversed
      from ledger.reversals r left join ledger.transfers o on o.id = r.original_id
      where r.original_id = any(${uuids(tx, originals)})
      group by r.original_id, o.id, o.amount, o.status
      having o.id is null or o.status <> 'completed' or sum(r.amount) > o.amount
      order by 1 limit 1`,
    'more is given back than was paid',
  )

const checkReversalsAreTransfers = async (tx: Tx, originals: string[]): Promise<Broken> =>
  describe(
    await tx`
      select r.transfer_id as id, t.original_id, t.amount::text, r.amount::text as reversed
      from ledger.reversals r
      left join ledger.transfers t on t.id = r.transfer_id and t.type = 'reversal' and t.status = 'completed'
      where r.original_id = any(${uuids(tx, originals)})
        and (r.original_id is distinct from t.original_id or r.amount is distinct from t.amount)
      order by 1 limit 1`,
    'a reversal and its transfer differ',
  )

// ledger.transfers

const checkTransfersAreReversals = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select t.id, t.original_id, t.amount::text, r.amount::text as reversed
      from ledger.transfers t left join ledger.reversals r on r.transfer_id = t.id
      where t.id = any(${uuids(tx, ids)}) and t.type = 'reversal' and t.status = 'completed'
        and (r.original_id is distinct from t.original_id or r.amount is distinct from t.amount)
      order by t.id limit 1`,
    'a reversal and its transfer differ',
  ) ??
  describe(
    await tx`
      select t.id, t.original_id, t.from_wallet, t.to_wallet
      from ledger.transfers t
      join ledger.transfers o on o.id = t.original_id
      join ledger.wallets payer on payer.id = t.from_wallet
      join ledger.wallets payee on payee.id = t.to_wallet
      where t.id = any(${uuids(tx, ids)}) and t.type = 'reversal' and t.status = 'completed'
        and ((payer.system is null and t.from_wallet <> o.to_wallet)
          or (payee.system is null and t.to_wallet <> o.from_wallet))
      order by t.id limit 1`,
    'a reversal and its original differ',
  )

/** M1: each linked transfer belongs to a completed transfer, decided by the same event. */
const checkLinkedHaveTransfers = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select l.id, l.linked_to, t.status, t.partition, t.seq::text
      from ledger.transfers l left join ledger.transfers t on t.id = l.linked_to
      where l.id = any(${uuids(tx, ids)}) and l.linked_to is not null
        and (t.id is null or t.status <> 'completed' or t.linked_to is not null
          or (t.partition, t.seq, t.user_id) <> (l.partition, l.seq, l.user_id))
      order by l.id limit 1`,
    'a linked transfer and its transfer differ',
  )

/** X1: each transfer is the decision under its own id, or under that of the transfer to which it is linked. */
const checkTransfersAreDecisions = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select t.id, t.partition, t.seq::text, d.partition as "decidedPartition", d.seq::text as "decidedSeq"
      from ledger.transfers t
      -- A hold's id was decided when it was placed; the transfer that it became is told by the event of its capture.
      left join ledger.holds h on h.id = coalesce(t.linked_to, t.id) and h.status = 'captured'
      left join ledger.commands d on d.id = coalesce(h.end_command, t.linked_to, t.id)
      where t.id = any(${uuids(tx, ids)}) and (d.id is null or d.partition <> t.partition or d.seq <> t.seq)
      order by t.id limit 1`,
    'a transfer is not what was decided under its id',
  )

// ledger.commands

/** O1, X1: each decision has its own event in the journal, whose subject is the decision's id: no two share one. */
const checkDecisionsHaveEvents = async (tx: Tx, ids: string[]): Promise<Broken> =>
  describe(
    await tx`
      select c.id, c.partition, c.seq::text, j.headers::json ->> 'ce_subject' as "eventOf"
      from ledger.commands c left join ledger.journal j using (partition, seq)
      where c.id = any(${uuids(tx, ids)}) and (j.headers::json ->> 'ce_subject') is distinct from c.id::text
      order by c.id limit 1`,
    'a decision has no event in the journal, or shares one',
  )

/** All walks over the books, created anew for each full check. */
export const createWalks = (): AnyWalk[] => {
  const sums = sumBalances()
  return [
    walk({
      table: 'entries',
      read: readEntryKeys,
      checks: [
        ['M1', 'entries belong to transfers', checkEntriesBelong],
        ['M2', 'entries are an unbroken chain in each wallet', checkEntryChains],
        ['M2', 'entries belong to wallets', checkEntriesHaveWallets],
        ['M3', 'no user was ever below zero', checkNoneWasOverdrawn],
      ],
    }),
    walk({
      table: 'wallets',
      read: idsOf('wallets'),
      checks: [
        ['M1', 'balances sum to zero in each currency', sums.add],
        ['M2', 'balances are the sums of their entries', checkBalances],
        ['M3', 'no user is below zero', checkNoOverdraft],
        ['M3', 'wallets hold what their holds promise', checkHeld],
      ],
      atEnd: ['M1', 'balances sum to zero in each currency', sums.judge],
    }),
    walk({
      table: 'holds',
      read: idsOf('holds'),
      checks: [
        ['M3', 'holds belong to wallets', checkHoldsHaveWallets],
        ['X1', 'each hold ended once, as its transfer says', checkHoldsAreTransfers],
        ['X1', 'holds and their commands belong together', checkHoldsHaveCommands],
      ],
    }),
    walk({
      table: 'journal',
      read: readEventKeys,
      checks: [
        ['O1', 'the journal has no hole', checkJournal],
        ['X1', 'holds and their events belong together', checkEventsHaveHolds],
      ],
    }),
    walk({
      table: 'partitions',
      read: readPartitionKeys,
      checks: [['O1', 'the journal ends where it should', checkJournalEnds]],
    }),
    walk({
      table: 'reversals',
      read: idsOf('reversals', 'original_id'),
      checks: [
        ['M1', 'no more is given back than was paid', checkGivenBack],
        ['M1', 'what is given back is transfers', checkReversalsAreTransfers],
      ],
    }),
    walk({
      table: 'transfers',
      read: idsOf('transfers'),
      checks: [
        ['M1', 'transfers and entries belong together', checkEntriesOf],
        ['M1', 'reversals give back what was paid', checkTransfersAreReversals],
        ['M1', 'linked transfers belong to a transfer', checkLinkedHaveTransfers],
        ['O1', 'each transfer is what was decided', checkTransfersAreDecisions],
      ],
    }),
    walk({
      table: 'commands',
      read: idsOf('commands'),
      checks: [['O1', 'each decision has its event', checkDecisionsHaveEvents]],
    }),
  ]
}

/** The number of events not yet marked as published, over all partitions. */
export const countUnpublished = async (tx: Tx): Promise<number> => {
  const [row] = await tx<[{ unpublished: number }]>`
    select coalesce(sum(next_seq - 1 - published_through), 0)::int as unpublished
    from ledger.partitions join ledger.published using (partition)`
  return row.unpublished
}

/** The published mark of each partition. */
export const readPublished = (tx: Tx): Promise<{ partition: number; publishedThrough: bigint }[]> =>
  tx<{ partition: number; publishedThrough: bigint }[]>`
    select partition, published_through as "publishedThrough" from ledger.published`

/** The bytes of a partition's journal at these positions. */
export const readJournalBytes = (
  tx: Tx,
  partition: number,
  seqs: bigint[],
): Promise<{ seq: bigint; bytes: Buffer }[]> =>
  tx<{ seq: bigint; bytes: Buffer }[]>`
    select seq, bytes from ledger.journal where partition = ${partition} and seq = any(${tx.array(seqs, INT8)})`
