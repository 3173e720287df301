import { type Database, INT8, TEXT, UUID } from '@pennywire/runtime/database.ts'

/** A wallet as the ledger publishes it. Amounts are minor units. */
export type WalletFacts = {
  id: string
  userId: string | null
  code: string | null
  currency: string
  status: 'active' | 'frozen' | 'closed'
  freezeSource: 'self' | 'pin' | 'staff' | null
  /** Ciphertext under the owner's key. */
  freezeReason: Buffer | null
  /** The owner's name for the wallet, as ciphertext. */
  label: Buffer | null
  balance: bigint
  available: bigint
  /** The number of its entries. */
  sequence: bigint
  openedAt: Date
  closedAt: Date | null
}

/** One side of a transfer; a system wallet has neither user nor code. */
export type PartyFacts = {
  walletId: string
  userId: string | null
  code: string | null
  balanceAfter: bigint | null
  /** The number of the wallet's entry; missing where nothing is posted. */
  sequence?: bigint | null
}

/** Money promised from one user's wallet to another's. Amounts are minor units. */
export type HoldFacts = {
  status: 'active' | 'captured' | 'voided' | 'expired'
  amount: bigint
  captured: bigint
  /** When the hold expires. */
  until: Date | null
  endedAt: Date | null
}

/**
 * A transfer that the ledger decided, or a hold: an active hold is a pending transfer, a captured one is the transfer
 * of the captured amount, one that ended otherwise is a rejected transfer.
 */
export type TransferFacts = {
  id: string
  type: string
  status: 'pending' | 'completed' | 'rejected'
  userId: string
  from: PartyFacts | null
  to: PartyFacts | null
  amount: bigint
  currency: string
  fingerprint: Buffer
  note: Buffer | null
  metadata: Buffer | null
  requestedAt: Date
  decidedAt: Date
  rejectionCode: string | null
  rejectionDetail: string | null
  rejectionLimit: bigint | null
  rejectionUsed: bigint | null
  /** For a reversal: the transfer that it reverses. */
  originalId: string | null
  /** For a transfer booked with another, such as a fee: that other transfer. */
  linkedTo: string | null
  /** The reversed amount. */
  reversed: bigint
  /** The part of `reversed` in a suspense wallet, because the payer's could not take it: only of a returned payout. */
  suspended: bigint
  hold: HoldFacts | null
}

type TransferRow = Omit<TransferFacts, 'from' | 'to' | 'hold'> & {
  fromWallet: string | null
  fromUser: string | null
  fromCode: string | null
  fromBalance: bigint | null
  fromSequence: bigint | null
  toWallet: string | null
  toUser: string | null
  toCode: string | null
  toBalance: bigint | null
  toSequence: bigint | null
  holdStatus: HoldFacts['status'] | null
  heldAmount: bigint
  captured: bigint | null
  holdUntil: Date | null
  holdEndedAt: Date | null
}

const party = (
  walletId: string | null,
  userId: string | null,
  code: string | null,
  balanceAfter: bigint | null,
  sequence: bigint | null,
) => (walletId === null ? null : { walletId, userId, code, balanceAfter, sequence })

/** Member by member: a rest spread of thirty columns takes longer than reading the row. */
const factsOf = (row: TransferRow): TransferFacts => ({
  id: row.id,
  type: row.type,
  status: row.status,
  userId: row.userId,
  from: party(row.fromWallet, row.fromUser, row.fromCode, row.fromBalance, row.fromSequence),
  to: party(row.toWallet, row.toUser, row.toCode, row.toBalance, row.toSequence),
  amount: row.amount,
  currency: row.currency,
  fingerprint: row.fingerprint,
  note: row.note,
  metadata: row.metadata,
  requestedAt: row.requestedAt,
  decidedAt: row.decidedAt,
  rejectionCode: row.rejectionCode,
  rejectionDetail: row.rejectionDetail,
  rejectionLimit: row.rejectionLimit,
  rejectionUsed: row.rejectionUsed,
  originalId: row.originalId,
  linkedTo: row.linkedTo,
  reversed: row.reversed,
  suspended: row.suspended,
  hold: row.holdStatus && {
    status: row.holdStatus,
    amount: row.heldAmount,
    captured: row.captured ?? 0n,
    until: row.holdUntil,
    endedAt: row.holdEndedAt,
  },
})

/** The reversed amount of transfer t. */
const reversed = (sql: Database) => sql`
  (select coalesce(sum(r.amount), 0)::bigint from ledger_api.reversals r where r.original_id = t.id)`

/** The part of the reversed amount that went to a suspense wallet. */
const suspended = (sql: Database) => sql`
  (select coalesce(sum(r.amount), 0)::bigint from ledger_api.reversals r
    join ledger_api.transfers back on back.id = r.transfer_id
    join ledger_api.wallets w on w.id = back.to_wallet
    where r.original_id = t.id and w.system like 'suspense:%')`

const transferColumns = (sql: Database) => sql`
  t.id, t.type, t.status, t.user_id as "userId", t.amount, t.currency, t.fingerprint, t.note, t.metadata,
  t.requested_at as "requestedAt", t.decided_at as "decidedAt",
  t.rejection_code as "rejectionCode", t.rejection_detail as "rejectionDetail",
  t.rejection_limit as "rejectionLimit", t.rejection_used as "rejectionUsed", t.original_id as "originalId",
  t.linked_to as "linkedTo",
  ${reversed(sql)} as reversed, ${suspended(sql)} as suspended,
  h.status as "holdStatus", h.amount as "heldAmount", h.captured, h.hold_until as "holdUntil",
  h.ended_at as "holdEndedAt",
  t.from_wallet as "fromWallet", fw.user_id as "fromUser", fw.code as "fromCode", fe.balance_after as "fromBalance",
  t.from_sequence as "fromSequence",
  t.to_wallet as "toWallet", tw.user_id as "toUser", tw.code as "toCode", te.balance_after as "toBalance",
  t.to_sequence as "toSequence"`

const parties = (sql: Database) => sql`
  left join ledger_api.wallets fw on fw.id = t.from_wallet
  left join ledger_api.wallets tw on tw.id = t.to_wallet
  left join ledger_api.entries fe on fe.wallet_id = t.from_wallet and fe.sequence = t.from_sequence
  left join ledger_api.entries te on te.wallet_id = t.to_wallet and te.sequence = t.to_sequence
  left join ledger_api.holds h on h.id = t.id and h.type = 'hold'`

/** Transfers, and holds that did not become one, in the same columns. A withdrawal's hold is left to its payment. */
const transfersAndHolds = (sql: Database) => sql`(
  select id, type, status, user_id, from_wallet, from_sequence, to_wallet, to_sequence, amount, currency, fingerprint,
    note, metadata, requested_at, decided_at, rejection_code, rejection_detail, rejection_limit, rejection_used,
    original_id, linked_to
  from ledger_api.transfers
  union all
  select id, type, case status when 'active' then 'pending' else 'rejected' end, user_id, wallet_id, null, to_wallet,
    null, amount, currency, fingerprint, note, metadata, requested_at, coalesce(ended_at, placed_at),
    case status when 'voided' then 'HOLD_ENDED' when 'expired' then 'HOLD_EXPIRED' end,
    case status when 'voided' then 'The hold was let go.' when 'expired' then 'The hold was not captured in time.' end,
    null, null, null, null
  from ledger_api.holds where type = 'hold' and status <> 'captured') t`

/** Decided transfers and holds by id; undecided ones are missing. */
export const readTransfers = async (sql: Database, ids: string[]): Promise<TransferFacts[]> => {
  const rows = await sql<TransferRow[]>`
    select ${transferColumns(sql)} from ${transfersAndHolds(sql)} ${parties(sql)}
    where t.id = any(${sql.array(ids, UUID)})`
  return rows.map(factsOf)
}

/** Decided transfers and holds whose id is in a reference's range: one, or by an astronomic chance more. */
export const readTransfersBetween = async (
  sql: Database,
  first: string,
  last: string,
): Promise<TransferFacts[]> => {
  const rows = await sql<TransferRow[]>`
    select ${transferColumns(sql)} from ${transfersAndHolds(sql)} ${parties(sql)}
    where t.id between ${first} and ${last}`
  return rows.map(factsOf)
}

/** Inputs of the lookup for one transfer request, before it is published. */
export type TransferLookupKeys = {
  transferId: string
  userId: string
  fromWalletId: string | null
  currency: string
  toWalletId: string | null
  toWalletCode: string | null
}
export type WalletBrief = { id: string; userId: string; code: string; currency: string }
export type TransferLookup = {
  /** Whether the ledger has decided a command with the id: this request, or another one with its key. */
  decided: boolean
  sender: WalletBrief | null
  recipient: WalletBrief | null
}

type TransferLookupRow = {
  decided: boolean
  senderId: string | null
  senderUser: string
  senderCode: string
  senderCurrency: string
  recipientId: string | null
  recipientUser: string
  recipientCode: string
  recipientCurrency: string
}

/**
 * Answers many requests in one statement, in their order: whether a command with the id is decided, the sender's wallet
 * (the named one, else the user's open one in the currency), and the recipient's wallet. System wallets match none.
 */
export const lookUpTransfers = async (
  sql: Database,
  questions: TransferLookupKeys[],
): Promise<TransferLookup[]> => {
  const rows = await sql<TransferLookupRow[]>`
    select c.id is not null as decided,
      sender.id as "senderId", sender.user_id as "senderUser", sender.code as "senderCode",
      sender.currency as "senderCurrency",
      recipient.id as "recipientId", recipient.user_id as "recipientUser", recipient.code as "recipientCode",
      recipient.currency as "recipientCurrency"
    from unnest(
      ${sql.array(
        questions.map(q => q.transferId),
        UUID,
      )}, ${sql.array(
        questions.map(q => q.userId),
        UUID,
      )},
      ${sql.array(questions.map(q => q.fromWalletId) as string[], UUID)},
      ${sql.array(
        questions.map(q => q.currency),
        TEXT,
      )},
      ${sql.array(questions.map(q => q.toWalletId) as string[], UUID)},
      ${sql.array(questions.map(q => q.toWalletCode) as string[], TEXT)})
      with ordinality as q (transfer_id, user_id, from_wallet, currency, to_wallet, to_code, at)
    left join ledger_api.commands c on c.id = q.transfer_id
    left join lateral (
      select w.id, w.user_id, w.code, w.currency from ledger_api.wallets w
      where w.id = q.from_wallet and w.user_id = q.user_id
      union all
      select w.id, w.user_id, w.code, w.currency from ledger_api.wallets w
      where q.from_wallet is null and w.user_id = q.user_id and w.currency = q.currency and w.status <> 'closed'
    ) sender on true
    left join lateral (
      select w.id, w.user_id, w.code, w.currency from ledger_api.wallets w
      where w.id = q.to_wallet and w.user_id is not null
      union all
      select w.id, w.user_id, w.code, w.currency from ledger_api.wallets w where w.code = q.to_code
    ) recipient on true
    order by q.at`
  return rows.map(row => ({
    decided: row.decided,
    sender: row.senderId && {
      id: row.senderId,
      userId: row.senderUser,
      code: row.senderCode,
      currency: row.senderCurrency,
    },
    recipient: row.recipientId && {
      id: row.recipientId,
      userId: row.recipientUser,
      code: row.recipientCode,
      currency: row.recipientCurrency,
    },
  })) as TransferLookup[]
}

const walletColumns = (sql: Database) => sql`
  id, user_id as "userId", code, currency, status, freeze_source as "freezeSource",
  freeze_reason as "freezeReason", label, balance, available, sequence,
  opened_at as "openedAt", closed_at as "closedAt"`

/** A user's wallets, oldest first. */
export const readWalletsOf = (sql: Database, userId: string): Promise<WalletFacts[]> =>
  sql<WalletFacts[]>`
    select ${walletColumns(sql)} from ledger_api.wallets where user_id = ${userId} order by opened_at, id`

/** One of the user's own wallets. */
export const readWalletOf = async (
  sql: Database,
  userId: string,
  id: string,
): Promise<WalletFacts | undefined> => {
  const [row] = await sql<WalletFacts[]>`
    select ${walletColumns(sql)} from ledger_api.wallets where id = ${id} and user_id = ${userId}`
  return row
}

/** Wallets by id, of any user. */
export const readWallets = (sql: Database, ids: string[]): Promise<WalletFacts[]> =>
  sql<
    WalletFacts[]
  >`select ${walletColumns(sql)} from ledger_api.wallets where id = any(${sql.array(ids, UUID)})`

/** Users' wallets above an id, in id order, of one user and of one status if these are given. */
export const readWalletsAbove = (
  sql: Database,
  filter: { userId: string | null; status: string | null },
  aboveId: string | null,
  limit: number,
): Promise<WalletFacts[]> =>
  sql<WalletFacts[]>`
    select ${walletColumns(sql)} from ledger_api.wallets
    where user_id is not null
      ${filter.userId === null ? sql`` : sql`and user_id = ${filter.userId}`}
      ${filter.status === null ? sql`` : sql`and status = ${filter.status}`}
      ${aboveId === null ? sql`` : sql`and id > ${aboveId}`}
    order by id limit ${limit}`

/** The wallet with this code, of any user. */
export const readWalletByCode = async (sql: Database, code: string): Promise<WalletFacts | undefined> => {
  const [row] = await sql<
    WalletFacts[]
  >`select ${walletColumns(sql)} from ledger_api.wallets where code = ${code}`
  return row
}

export type EntryFacts = {
  sequence: bigint
  transferId: string
  type: string
  amount: bigint
  balanceAfter: bigint
  counterpartyId: string | null
  counterpartyUser: string | null
  counterpartyCode: string | null
  createdAt: Date
}

const selectEntries = (sql: Database) => sql`
  select e.sequence, e.transfer_id as "transferId", t.type, e.amount, e.balance_after as "balanceAfter",
  other.id as "counterpartyId", other.user_id as "counterpartyUser", other.code as "counterpartyCode",
  t.decided_at as "createdAt"
  from ledger_api.entries e
  join ledger_api.transfers t on t.id = e.transfer_id
  left join ledger_api.wallets other
    on other.id = case when t.from_wallet = e.wallet_id then t.to_wallet else t.from_wallet end`

/** A wallet's entries below a sequence, newest first. */
export const readEntries = (
  sql: Database,
  walletId: string,
  before: bigint,
  limit: number,
): Promise<EntryFacts[]> =>
  sql<EntryFacts[]>`
    ${selectEntries(sql)} where e.wallet_id = ${walletId} and e.sequence < ${before}
    order by e.sequence desc limit ${limit}`

/** A wallet's entries above a sequence, oldest first. */
export const readEntriesAfter = (
  sql: Database,
  walletId: string,
  after: bigint,
  limit: number,
): Promise<EntryFacts[]> =>
  sql<EntryFacts[]>`
    ${selectEntries(sql)} where e.wallet_id = ${walletId} and e.sequence > ${after}
    order by e.sequence limit ${limit}`

/** The sequence of the newest entry of one of the user's own wallets, 0 without one, and the wallet's currency. */
export const readNewestEntry = async (
  sql: Database,
  userId: string,
  walletId: string,
): Promise<{ sequence: bigint; currency: string } | undefined> => {
  const [wallet] = await sql<[{ sequence: bigint; currency: string }?]>`
    select sequence, currency from ledger_api.wallets where id = ${walletId} and user_id = ${userId}`
  return wallet
}

/** Of wallets read up to an entry, the sequences of the newest entries of those that have more. */
export const findLongerWallets = (
  sql: Database,
  lists: { key: string; readTo: bigint }[],
): Promise<{ key: string; last: bigint }[]> =>
  sql<{ key: string; last: bigint }[]>`
    select wallet.id as key, wallet.sequence as last
    from unnest(${sql.array(
      lists.map(({ key }) => key),
      UUID,
    )}, ${sql.array(
      lists.map(({ readTo }) => readTo),
      INT8,
    )}) as list (id, read_to)
    join ledger_api.wallets wallet using (id)
    where wallet.sequence > list.read_to`

/** Of the transfers in a list, those that are wanted; null: any. */
export type TransferFilter = {
  type: string | null
  status: 'pending' | 'in_suspense' | 'completed' | 'rejected' | 'reversed' | null
  direction: 'in' | 'out' | null
  /** The other side's wallet. */
  counterpartyId: string | null
  minAmount: bigint | null
  maxAmount: bigint | null
}

/** From a moment on, and before another one; null: no bound. */
export type Period = { since: Date | null; until: Date | null }

/** An entry in a list of transfers. */
export type Posted = {
  walletId: string
  sequence: bigint
  transferId: string
  decidedAt: Date
  /** Whether the filter wants it; else it only marks how far the list was read. */
  matches: boolean
  /** The reading ended here by its bound: older entries may match. */
  isBound: boolean
}

/**
 * For each wallet, its newest transfers that the filter wants, below its `before` sequence: `limit` each, in sequence
 * order. Of each wallet at most `scan` entries are read, a range of its sequence without a gap; if these end the
 * reading, the oldest of them is the last row.
 */
export const readPosted = (
  sql: Database,
  wallets: Array<{ id: string; before: bigint }>,
  filter: TransferFilter,
  { since, until }: Period,
  limit: number,
  scan: number,
): Promise<Posted[]> => {
  const { type, status, counterpartyId, minAmount, maxAmount } = filter
  const sign = filter.direction === null ? 0 : filter.direction === 'in' ? 1 : -1
  const takesAll = [type, status, counterpartyId, minAmount, maxAmount].every(wanted => wanted === null)
  const countBefore = (moment: Date) =>
    sql`ledger_api.sequence_at(w.id, ${moment}::timestamptz - interval '1 microsecond')`
  return sql<Posted[]>`
    select own.wallet_id as "walletId", own.sequence, own.transfer_id as "transferId", t.decided_at as "decidedAt",
      own.matches, own.sequence = read.first and read.first > period.first as "isBound"
    from unnest(${sql.array(
      wallets.map(w => w.id),
      UUID,
    )}, ${sql.array(
      wallets.map(w => w.before),
      INT8,
    )})
      as w (id, before)
    cross join lateral (
      select ${since === null ? sql`1::bigint` : sql`${countBefore(since)} + 1`} as first,
        ${until === null ? sql`w.before` : sql`least(w.before, ${countBefore(until)} + 1)`} as before
      offset 0) period
    cross join lateral (select greatest(period.first, period.before - ${scan}::bigint) as first offset 0) read
    cross join lateral (
      select e.wallet_id, e.sequence, e.transfer_id, wanted.matches from ledger_api.entries e
      cross join lateral (
        select (${sign} = 0 or sign(e.amount) = ${sign})
          and (${takesAll} or exists (
            select 1 from ledger_api.transfers t where t.id = e.transfer_id
              and (${type}::text is null or t.type = ${type})
              and (${counterpartyId}::uuid is null
                or ${counterpartyId} = case when t.from_wallet = e.wallet_id then t.to_wallet else t.from_wallet end)
              and (${minAmount}::bigint is null or t.amount >= ${minAmount})
              and (${maxAmount}::bigint is null or t.amount <= ${maxAmount})
              and (${status}::text is null or ${status} = case
                when ${reversed(sql)} - ${suspended(sql)} = t.amount then 'reversed'
                when ${suspended(sql)} > 0 then 'in_suspense'
                else 'completed' end))) as matches
        offset 0) wanted
      where e.wallet_id = w.id and e.sequence < period.before and e.sequence >= read.first
        and (wanted.matches or e.sequence = read.first)
      order by e.sequence desc limit ${limit}) own
    join ledger_api.transfers t on t.id = own.transfer_id
    order by own.wallet_id, own.sequence desc`
}

/** A request's position in lists: it keeps it when it is decided. */
export type RequestPlace = { requestedAt: Date; id: string }

/** A request as lists read it, before its outcome is looked up. */
export type RequestBrief = RequestPlace & {
  type: string
  fromWallet: string | null
  toWallet: string | null
  amount: bigint
  currency: string
}

/** A user's requests that the ledger rejected, below a place and since a moment, newest first. */
export const readRejected = (
  sql: Database,
  userId: string,
  before: RequestPlace,
  since: Date | null,
  limit: number,
): Promise<RequestBrief[]> =>
  sql<RequestBrief[]>`
    select id, type, from_wallet as "fromWallet", to_wallet as "toWallet", amount, currency,
      requested_at as "requestedAt"
    from ledger_api.transfers
    where user_id = ${userId} and status = 'rejected'
      and (requested_at, id) < (${before.requestedAt}, ${before.id})
      ${since === null ? sql`` : sql`and requested_at >= ${since}`}
    order by requested_at desc, id desc limit ${limit}`

/**
 * The entries of a transfer, and of the movements that came with it, in the user's own wallets. Found by the keys of
 * the transfers and of their entries.
 */
export const readOwnEntries = (
  sql: Database,
  userId: string,
  transferId: string,
): Promise<(EntryFacts & { walletId: string; currency: string })[]> =>
  sql<(EntryFacts & { walletId: string; currency: string })[]>`
    select e.wallet_id as "walletId", t.currency, e.sequence, e.transfer_id as "transferId", t.type, e.amount,
      e.balance_after as "balanceAfter", other.id as "counterpartyId", other.user_id as "counterpartyUser",
      other.code as "counterpartyCode", t.decided_at as "createdAt"
    from ledger_api.transfers t
    cross join lateral (
      values (t.from_wallet, t.from_sequence, t.to_wallet), (t.to_wallet, t.to_sequence, t.from_wallet))
      as side (wallet_id, sequence, other_id)
    join ledger_api.wallets w on w.id = side.wallet_id and w.user_id = ${userId}
    join ledger_api.entries e on e.wallet_id = side.wallet_id and e.sequence = side.sequence
    left join ledger_api.wallets other on other.id = side.other_id
    where t.id = ${transferId} or t.linked_to = ${transferId}
    order by (t.id = ${transferId}) desc, e.wallet_id, e.sequence`

/** Which of these ids the ledger has decided a command under: a transfer, or any other. */
export const readDecidedIds = async (sql: Database, ids: string[]): Promise<string[]> => {
  const rows = await sql<{ id: string }[]>`
    select id from ledger_api.commands where id = any(${sql.array(ids, UUID)})`
  return rows.map(({ id }) => id)
}

/**
 * The number of the user's closed wallets in this currency, from which a new wallet's id is derived, and the id of the
 * open one.
 */
export const readWalletCounts = async (
  sql: Database,
  userId: string,
  currency: string,
): Promise<{ closed: number; openId: string | null }> => {
  const rows = await sql<{ id: string; status: string }[]>`
    select id, status from ledger_api.wallets where user_id = ${userId} and currency = ${currency}`
  return {
    closed: rows.filter(({ status }) => status === 'closed').length,
    openId: rows.find(({ status }) => status !== 'closed')?.id ?? null,
  }
}

/** The journal's events that answer commands of any kind, by the commands' ids. */
export const readOutcomes = (
  sql: Database,
  commandIds: string[],
): Promise<{ id: string; fingerprint: Buffer; bytes: Buffer }[]> =>
  sql<{ id: string; fingerprint: Buffer; bytes: Buffer }[]>`
    select c.id, c.fingerprint, j.bytes from ledger_api.commands c join ledger_api.journal j using (partition, seq)
    where c.id = any(${sql.array(commandIds, UUID)})`

/** The database's clock: the ledger uses no other. */
export const readClock = async (sql: Database): Promise<Date> => {
  const [row] = await sql<[{ now: Date }]>`select clock_timestamp() as now`
  return row.now
}

/** Which of all users' decided transfers to list. */
export type DecidedFilter = {
  type: string | null
  status: 'completed' | 'rejected' | 'reversed' | null
  currency: string | null
  minAmount: bigint | null
  maxAmount: bigint | null
}
/** A place in the list of all decided transfers, which goes from the newest to the oldest. */
export type DecidedPlace = { decidedAt: Date; id: string }

/**
 * Decided transfers of all users, newest first, after a place of the list and not older than `since`: at most `most` are
 * read, each with whether the filter wants it.
 */
export const readDecidedAfter = (
  sql: Database,
  place: DecidedPlace,
  since: Date,
  filter: DecidedFilter,
  most: number,
): Promise<Array<DecidedPlace & { matches: boolean }>> =>
  sql<Array<DecidedPlace & { matches: boolean }>>`
    with read as (
      select id, type, status, currency, amount, decided_at from ledger_api.transfers
      where decided_at between ${since} and ${place.decidedAt} and (decided_at, id) < (${place.decidedAt}, ${place.id})
      order by decided_at desc, id desc limit ${most})
    select id, decided_at as "decidedAt",
      (${filter.type}::text is null or type = ${filter.type})
      and (${filter.currency}::text is null or currency = ${filter.currency})
      and (${filter.minAmount}::bigint is null or amount >= ${filter.minAmount})
      and (${filter.maxAmount}::bigint is null or amount <= ${filter.maxAmount})
      and case ${filter.status}::text
        when 'completed' then status = 'completed'
          and not exists (select from ledger_api.reversals r where r.original_id = read.id)
        when 'reversed' then exists (select from ledger_api.reversals r where r.original_id = read.id)
        when 'rejected' then status = 'rejected'
        else true end as matches
    from read order by decided_at desc, id desc`
