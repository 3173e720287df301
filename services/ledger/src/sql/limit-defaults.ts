import { CURRENCIES } from '@pennywire/contracts/money.ts'
import { type LimitDefaults, TIERS } from '@pennywire/rules/limits.ts'
import {
  arrayOf,
  type Database,
  type Element,
  type ElementType,
  INT8,
  TEXT,
} from '@pennywire/runtime/database.ts'

/** Writes the settings' limits down for those who read them: this ledger decides by its own. */
export const writeLimitDefaults = async (sql: Database, defaults: LimitDefaults): Promise<void> => {
  const rows = TIERS.flatMap(tier =>
    CURRENCIES.map(currency => ({ tier, currency, ...defaults[tier](currency) })),
  )
  const column = (value: (row: (typeof rows)[number]) => Element, type: ElementType) =>
    arrayOf(sql, rows.map(value), type)
  await sql`
    insert into ledger.limit_defaults (tier, currency, per_transaction, daily, monthly)
    select * from unnest(
      ${column(r => r.tier, TEXT)}, ${column(r => r.currency, TEXT)}, ${column(r => r.perTransaction, INT8)},
      ${column(r => r.daily, INT8)}, ${column(r => r.monthly, INT8)})
    on conflict (tier, currency) do update
      set per_transaction = excluded.per_transaction, daily = excluded.daily, monthly = excluded.monthly`
}
