import type { Balance, Entry, Gap } from '../balances.ts'
import { checkedSchema, type Sql, type Tx } from './tables.ts'

/** Stores entries as they come, in any order and any number of times. */
export const insertEntries = async (tx: Tx, schema: string, entries: readonly Entry[]): Promise<void> => {
  if (entries.length === 0) return
  await tx`
    insert into ${tx(`${checkedSchema(schema)}.entries`)} (wallet_id, sequence, currency, balance_minor)
    select wallet_id::uuid, sequence::bigint, currency, balance::bigint from unnest(
      ${entries.map(({ walletId }) => walletId)}::text[],
      ${entries.map(({ sequence }) => String(sequence))}::text[],
      ${entries.map(({ currency }) => currency)}::text[],
      ${entries.map(({ balanceAfterMinor }) => String(balanceAfterMinor))}::text[]
    ) as given (wallet_id, sequence, currency, balance)
    order by 1, 2
    on conflict do nothing`
}

/** Every wallet's balance: that of its greatest sequence. */
export const readBalances = async (sql: Sql | Tx, schema: string): Promise<Balance[]> => {
  const rows = await sql<{ id: string; currency: string; balance: string; seq: string }[]>`
    select distinct on (wallet_id) wallet_id::text as id, currency, balance_minor::text as balance, sequence::text as seq
    from ${sql(`${checkedSchema(schema)}.entries`)} order by wallet_id, sequence desc`
  return rows.map(({ id, currency, balance, seq }) => ({
    ...{ walletId: id, currency, balance: BigInt(balance), sequence: Number(seq) },
  }))
}

/**
 * The wallets that lack entries up to their greatest sequence. While traffic goes on a gap may close a moment later; one
 * that stays is a loss.
 */
export const readGaps = async (sql: Sql | Tx, schema: string): Promise<Gap[]> => {
  const table = sql(`${checkedSchema(schema)}.entries`)
  const rows = await sql<{ id: string; missing: string; last: string; first: string }[]>`
    with short as (
      select wallet_id, max(sequence) as last, max(sequence) - count(*) as missing
      from ${table} group by wallet_id having max(sequence) > count(*)
    )
    select wallet_id::text as id, missing::text as missing, last::text as last, (
      select min(n) + 1 from (
        select 0 as n union all select sequence from ${table} e where e.wallet_id = s.wallet_id
      ) seen
      where not exists (select from ${table} e where e.wallet_id = s.wallet_id and e.sequence = n + 1)
    )::text as first
    from short s order by wallet_id`
  return rows.map(({ id, missing, last, first }) => ({
    ...{ walletId: id, missing: Number(missing), upTo: Number(last), from: Number(first) },
  }))
}
