import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { Database } from '@pennywire/runtime/database.ts'

export type SystemWallets = {
  /** The share of its bound that the fullest system wallet has left, of those without a successor; 1 if there is none. */
  headroom: number
  /** How many system wallets are successors of full ones. */
  successors: number
}

/** How full the system wallets are: a full one is succeeded by itself, so this tells when that happens, not what to do. */
export const readSystemWallets = async (sql: Database): Promise<SystemWallets> => {
  const [row] = await sql<[SystemWallets]>`
    with named as (
      select split_part(system, ':', 1) as kind, currency, split_part(system, ':', 3) as partition,
        coalesce(nullif(split_part(system, ':', 4), ''), '0')::int as successor, balance
      from ledger.wallets where system is not null
    ), last as (
      select distinct on (kind, currency, partition) balance from named
      order by kind, currency, partition, successor desc
    )
    select coalesce(min(1 - abs(balance)::float8 / ${String(MAX_MINOR)}::float8), 1)::float8 as headroom,
      (select count(*)::int from named where successor > 0) as successors
    from last`
  return row
}
