import { type Database, UUID } from '@pennywire/runtime/database.ts'
import type { HoldFacts } from '../../ledger/sql/ledger-reads.ts'

export type HoldFilter = { status: HoldFacts['status'] | null; direction: 'in' | 'out' | null }
/** A hold's position in lists. */
export type HoldPlace = { id: string; placedAt: Date }

/** The newest holds that these wallets placed or may capture, below `before`. */
export const readHoldPlaces = (
  sql: Database,
  walletIds: string[],
  filter: HoldFilter,
  before: HoldPlace,
  limit: number,
): Promise<HoldPlace[]> => {
  const wanted = sql`
    h.type = 'hold' and (h.placed_at, h.id) < (${before.placedAt}, ${before.id})
      and (${filter.status}::text is null or h.status = ${filter.status})`
  return sql<HoldPlace[]>`
    select distinct own.id, own.placed_at as "placedAt"
    from unnest(${sql.array(walletIds, UUID)}) as w (id)
    cross join lateral (
      (select h.id, h.placed_at from ledger_api.holds h
       where ${filter.direction !== 'in'} and h.wallet_id = w.id and ${wanted}
       order by h.placed_at desc, h.id desc limit ${limit})
      union all
      (select h.id, h.placed_at from ledger_api.holds h
       where ${filter.direction !== 'out'} and h.to_wallet = w.id and ${wanted}
       order by h.placed_at desc, h.id desc limit ${limit})
    ) own
    order by own.placed_at desc, own.id desc limit ${limit}`
}

/** The hold that a command ended, if any. */
export const readHoldEndedBy = async (sql: Database, commandId: string): Promise<string | undefined> => {
  const [row] = await sql<{ id: string }[]>`select id from ledger_api.holds where end_command = ${commandId}`
  return row?.id
}

/** A hold past its `hold_until`. */
export type DueHold = {
  id: string
  userId: string
  walletId: string
  toWalletId: string
  until: Date
  /** The ledger's clock, which is past `until`. */
  now: Date
}

/**
 * Active holds past their `hold_until` by the ledger's clock, longest overdue first. `now()` instead of
 * `clock_timestamp()`, so that the index scan ends at the last due hold.
 */
export const readDueHolds = (
  sql: Database,
  after: { until: Date; id: string },
  limit: number,
): Promise<DueHold[]> =>
  sql<DueHold[]>`
    select id, user_id as "userId", wallet_id as "walletId", to_wallet as "toWalletId", hold_until as until,
      now() as now
    from ledger_api.holds
    where status = 'active' and type = 'hold' and hold_until < now()
      and (hold_until, id) > (${after.until}, ${after.id})
    order by hold_until, id limit ${limit}`

/** The number of due holds. */
export const countDueHolds = async (sql: Database): Promise<number> => {
  const [row] = await sql<[{ due: bigint }]>`
    select count(*) as due from ledger_api.holds
    where status = 'active' and type = 'hold' and hold_until < now()`
  return Number(row.due)
}
