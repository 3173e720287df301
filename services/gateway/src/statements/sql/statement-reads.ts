import type { Database } from '@pennywire/runtime/database.ts'

/** A wallet's balance at a moment, in minor units. */
export type BalanceAt = {
  id: string
  currency: string
  balance: bigint
  /** Null for the past: the amount held then is not stored. */
  available: bigint | null
  /** The number of its entries then. */
  sequence: bigint
  /** The database's clock. */
  now: Date
}

/** The balance of one of the user's own wallets: at a moment, or now if `at` is null. */
export const readBalanceAt = async (
  sql: Database,
  userId: string,
  walletId: string,
  at: Date | null,
): Promise<BalanceAt | undefined> => {
  const [row] =
    at === null
      ? await sql<BalanceAt[]>`
          select id, currency, balance, available, sequence, clock_timestamp() as now
          from ledger_api.wallets where id = ${walletId} and user_id = ${userId}`
      : await sql<BalanceAt[]>`
          select w.id, w.currency, coalesce(e.balance_after, 0) as balance, null as available, s.sequence,
            clock_timestamp() as now
          from ledger_api.wallets w
          cross join lateral (select ledger_api.sequence_at(w.id, ${at}) as sequence offset 0) s
          left join ledger_api.entries e on e.wallet_id = w.id and e.sequence = s.sequence
          where w.id = ${walletId} and w.user_id = ${userId}`
  return row
}

/** A wallet's balances before and after a period, and its sums in and out. Amounts are minor units. */
export type Period = {
  walletId: string
  userId: string
  code: string
  currency: string
  /** The first day and the last, as YYYY-MM-DD. */
  from: string
  to: string
  /** The entries of the period are those above the first sequence up to the last. */
  openingSequence: bigint
  closingSequence: bigint
  opening: bigint
  closing: bigint
  sumIn: bigint
  sumOut: bigint
  now: Date
}

/**
 * A period of one of the user's own wallets in whole UTC days, `from` and `to` included. Entries are immutable, so that
 * the period's sums are those of its entries whenever these are read. `offset 0` keeps Postgres from repeating the
 * lookup of each sequence for each row of the period.
 */
export const readPeriod = async (
  sql: Database,
  userId: string,
  walletId: string,
  from: string,
  to: string,
): Promise<Period | undefined> => {
  const [row] = await sql<
    (Omit<Period, 'from' | 'to' | 'sumIn' | 'sumOut'> & { sumIn: string; sumOut: string })[]
  >`
    select w.id as "walletId", w.user_id as "userId", w.code, w.currency, clock_timestamp() as now,
      first.sequence as "openingSequence", last.sequence as "closingSequence",
      coalesce(o.balance_after, 0) as opening, coalesce(c.balance_after, 0) as closing, sums.*
    from ledger_api.wallets w
    cross join lateral (
      select ledger_api.sequence_at(w.id, ${`${from}T00:00:00Z`}::timestamptz - interval '1 microsecond') as sequence
      offset 0
    ) first
    cross join lateral (
      select ledger_api.sequence_at(
        w.id, ${`${to}T00:00:00Z`}::timestamptz + interval '24 hours' - interval '1 microsecond') as sequence
      offset 0
    ) last
    left join ledger_api.entries o on o.wallet_id = w.id and o.sequence = first.sequence
    left join ledger_api.entries c on c.wallet_id = w.id and c.sequence = last.sequence
    cross join lateral (
      select coalesce(sum(amount) filter (where amount > 0), 0)::text as "sumIn",
        coalesce(-sum(amount) filter (where amount < 0), 0)::text as "sumOut"
      from ledger_api.entries e
      where e.wallet_id = w.id and e.sequence > first.sequence and e.sequence <= last.sequence
    ) sums
    where w.id = ${walletId} and w.user_id = ${userId}`
  return row && { ...row, from, to, sumIn: BigInt(row.sumIn), sumOut: BigInt(row.sumOut) }
}

export type StatementEntry = {
  sequence: bigint
  transferId: string
  type: string
  amount: bigint
  balanceAfter: bigint
  counterpartyUser: string | null
  counterpartyCode: string | null
  /** The user who requested the transfer: the note is encrypted under their key. */
  requester: string
  note: Buffer | null
  createdAt: Date
}

/** A wallet's entries above a sequence up to another one, oldest first. */
export const readStatementEntries = (
  sql: Database,
  walletId: string,
  above: bigint,
  last: bigint,
  limit: number,
): Promise<StatementEntry[]> =>
  sql<StatementEntry[]>`
    select e.sequence, e.transfer_id as "transferId", t.type, e.amount, e.balance_after as "balanceAfter",
      other.user_id as "counterpartyUser", other.code as "counterpartyCode", t.user_id as requester, t.note,
      t.decided_at as "createdAt"
    from ledger_api.entries e
    join ledger_api.transfers t on t.id = e.transfer_id
    left join ledger_api.wallets other
      on other.id = case when t.from_wallet = e.wallet_id then t.to_wallet else t.from_wallet end
    where e.wallet_id = ${walletId} and e.sequence > ${above} and e.sequence <= ${last}
    order by e.sequence limit ${limit}`
