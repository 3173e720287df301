import { type Database, INT8, TEXT, UUID } from '@pennywire/runtime/database.ts'

/** A wallet as the ledger publishes it. Amounts are minor units. */
export type WalletFacts = {
  id: string
  userId: string | null
  code: string | null
  currency: string
  status: 'active' | 'frozen' | 'closed'
  freezeSource: 'self' | 'pin' | 'staff' | null
  balance: bigint
  available: bigint
  openedAt: Date
  closedAt: Date | null
}

/** One side of a transfer; a system wallet has neither user nor code. */
export type PartyFacts = {
  walletId: string
  userId: string | null
  code: string | null
  balanceAfter: bigint | null
}

/** A decided transfer as the ledger publishes it. */
export type TransferFacts = {
  id: string
  type: string
  status: 'completed' | 'rejected'
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
}

type TransferRow = Omit<TransferFacts, 'from' | 'to'> & {
  fromWallet: string | null
  fromUser: string | null
  fromCode: string | null
  fromBalance: bigint | null
  toWallet: string | null
  toUser: string | null
  toCode: string | null
  toBalance: bigint | null
}

const party = (
  walletId: string | null,
  userId: string | null,
  code: string | null,
  balanceAfter: bigint | null,
) => (walletId === null ? null : { walletId, userId, code, balanceAfter })

const factsOf = (row: TransferRow): TransferFacts => {
  const { fromWallet, fromUser, fromCode, fromBalance, toWallet, toUser, toCode, toBalance, ...facts } = row
  return {
    ...facts,
    from: party(fromWallet, fromUser, fromCode, fromBalance),
    to: party(toWallet, toUser, toCode, toBalance),
  }
}

const transferColumns = (sql: Database) => sql`
  t.id, t.type, t.status, t.user_id as "userId", t.amount, t.currency, t.fingerprint, t.note, t.metadata,
  t.requested_at as "requestedAt", t.decided_at as "decidedAt",
  t.rejection_code as "rejectionCode", t.rejection_detail as "rejectionDetail",
  t.from_wallet as "fromWallet", fw.user_id as "fromUser", fw.code as "fromCode", fe.balance_after as "fromBalance",
  t.to_wallet as "toWallet", tw.user_id as "toUser", tw.code as "toCode", te.balance_after as "toBalance"`

const parties = (sql: Database) => sql`
  left join ledger_api.wallets fw on fw.id = t.from_wallet
  left join ledger_api.wallets tw on tw.id = t.to_wallet
  left join ledger_api.entries fe on fe.wallet_id = t.from_wallet and fe.sequence = t.from_sequence
  left join ledger_api.entries te on te.wallet_id = t.to_wallet and te.sequence = t.to_sequence`

/** Decided transfers by id; those the ledger has not decided are missing. */
export const readTransfers = async (sql: Database, ids: string[]): Promise<TransferFacts[]> => {
  const rows = await sql<TransferRow[]>`
    select ${transferColumns(sql)} from ledger_api.transfers t ${parties(sql)}
    where t.id = any(${sql.array(ids, UUID)})`
  return rows.map(factsOf)
}

/** Decided transfers whose id lies in a reference's range: one, or by an astronomic chance more. */
export const readTransfersBetween = async (
  sql: Database,
  first: string,
  last: string,
): Promise<TransferFacts[]> => {
  const rows = await sql<TransferRow[]>`
    select ${transferColumns(sql)} from ledger_api.transfers t ${parties(sql)}
    where t.id between ${first} and ${last}`
  return rows.map(factsOf)
}

/** What the transfer route needs to know of one request before it publishes it. */
export type TransferQuestion = {
  transferId: string
  userId: string
  fromWalletId: string | null
  currency: string
  toWalletId: string | null
  toWalletCode: string | null
}
export type WalletBrief = { id: string; userId: string; code: string; currency: string }
export type TransferGroundwork = {
  decided: boolean
  sender: WalletBrief | null
  recipient: WalletBrief | null
}

type GroundworkRow = {
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
 * Answers for many requests in one statement, in their order: is the transfer decided already, which is the sender's
 * wallet (the one named, else the user's open one in the currency), which the recipient's. System wallets are nobody's.
 */
export const readGroundwork = async (
  sql: Database,
  questions: TransferQuestion[],
): Promise<TransferGroundwork[]> => {
  const rows = await sql<GroundworkRow[]>`
    select t.id is not null as decided,
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
    left join ledger_api.transfers t on t.id = q.transfer_id
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
  })) as TransferGroundwork[]
}

const walletColumns = (sql: Database) => sql`
  id, user_id as "userId", code, currency, status, freeze_source as "freezeSource", balance, available,
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

/** Wallets by id, whoever's they are. */
export const readWallets = (sql: Database, ids: string[]): Promise<WalletFacts[]> =>
  sql<
    WalletFacts[]
  >`select ${walletColumns(sql)} from ledger_api.wallets where id = any(${sql.array(ids, UUID)})`

/** The wallet with this code, whoever's it is. */
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

/** A wallet's entries below a sequence, newest first. */
export const readEntries = (
  sql: Database,
  walletId: string,
  before: bigint,
  limit: number,
): Promise<EntryFacts[]> =>
  sql<EntryFacts[]>`
    select e.sequence, e.transfer_id as "transferId", t.type, e.amount, e.balance_after as "balanceAfter",
      other.id as "counterpartyId", other.user_id as "counterpartyUser", other.code as "counterpartyCode",
      t.decided_at as "createdAt"
    from ledger_api.entries e
    join ledger_api.transfers t on t.id = e.transfer_id
    left join ledger_api.wallets other
      on other.id = case when t.from_wallet = e.wallet_id then t.to_wallet else t.from_wallet end
    where e.wallet_id = ${walletId} and e.sequence < ${before}
    order by e.sequence desc limit ${limit}`

export type TransferFilter = {
  type: string | null
  status: 'completed' | 'rejected' | null
  direction: 'in' | 'out' | null
}

/** For each of the wallets, its newest transfers below a sequence: `limit` each, in the order of the sequences. */
export const readPosted = async (
  sql: Database,
  wallets: Array<{ id: string; before: bigint }>,
  filter: TransferFilter,
  limit: number,
): Promise<Array<{ walletId: string; sequence: bigint; facts: TransferFacts }>> => {
  const sign = filter.direction === null ? 0 : filter.direction === 'in' ? 1 : -1
  const rows = await sql<(TransferRow & { walletId: string; sequence: bigint })[]>`
    select own.wallet_id as "walletId", own.sequence, ${transferColumns(sql)}
    from unnest(${sql.array(
      wallets.map(w => w.id),
      UUID,
    )}, ${sql.array(
      wallets.map(w => w.before),
      INT8,
    )})
      as w (id, before)
    cross join lateral (
      select e.wallet_id, e.sequence, e.transfer_id from ledger_api.entries e
      where e.wallet_id = w.id and e.sequence < w.before
        and (${sign} = 0 or sign(e.amount) = ${sign})
        and (${filter.type}::text is null
          or exists (select 1 from ledger_api.transfers o where o.id = e.transfer_id and o.type = ${filter.type}))
      order by e.sequence desc limit ${limit}) own
    join ledger_api.transfers t on t.id = own.transfer_id ${parties(sql)}
    order by own.wallet_id, own.sequence desc`
  return rows.map(({ walletId, sequence, ...row }) => ({ walletId, sequence, facts: factsOf(row) }))
}

/** A user's rejected requests below a moment and id, newest first. */
export const readRejected = async (
  sql: Database,
  userId: string,
  before: { decidedAt: Date; id: string },
  type: string | null,
  limit: number,
): Promise<TransferFacts[]> => {
  const rows = await sql<TransferRow[]>`
    select ${transferColumns(sql)} from ledger_api.transfers t ${parties(sql)}
    where t.user_id = ${userId} and t.status = 'rejected'
      and (t.decided_at, t.id) < (${before.decidedAt}, ${before.id})
      and (${type}::text is null or t.type = ${type})
    order by t.decided_at desc, t.id desc limit ${limit}`
  return rows.map(factsOf)
}

/** How many wallets in this currency the user has closed, and whether one is open: what a new one's id comes from. */
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

/** The events, as they are in the journal, that answer these commands (holds too, but no transfer): by their ids. */
export const readOutcomes = (
  sql: Database,
  commandIds: string[],
): Promise<{ id: string; fingerprint: Buffer; bytes: Buffer }[]> =>
  sql<{ id: string; fingerprint: Buffer; bytes: Buffer }[]>`
    select c.id, c.fingerprint, j.bytes from ledger_api.commands c join ledger_api.journal j using (partition, seq)
    where c.id = any(${sql.array(commandIds, UUID)})`

/** The database's clock, which is the ledger's only one. */
export const readClock = async (sql: Database): Promise<Date> => {
  const [row] = await sql<[{ now: Date }]>`select clock_timestamp() as now`
  return row.now
}
