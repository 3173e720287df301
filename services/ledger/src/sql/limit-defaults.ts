import { CURRENCIES, isCurrency } from '@pennywire/contracts/money.ts'
import { LIMIT_KINDS, type LimitDefaults, type Limits, TIERS, type Tier } from '@pennywire/rules/limits.ts'
import {
  arrayOf,
  type Database,
  type Element,
  type ElementType,
  INT8,
  TEXT,
} from '@pennywire/runtime/database.ts'

/**
 * Rejects if ledger.limit_defaults differs from this ledger's settings: another ledger has started since with other
 * limits, and a wallet's limits would depend on which ledger decides. Called for readiness.
 */
export const checkLimitDefaults = async (sql: Database, defaults: LimitDefaults): Promise<void> => {
  const rows = await sql<(Limits & { tier: Tier; currency: string })[]>`
    select tier, currency, per_transaction as "perTransaction", daily, monthly from ledger.limit_defaults`
  for (const { tier, currency, ...theirs } of rows) {
    if (!isCurrency(currency)) continue
    const ours = defaults[tier](currency)
    if (LIMIT_KINDS.some(kind => ours[kind] !== theirs[kind])) {
      throw new Error(
        `LIMITS_${tier.toUpperCase()} differs from another ledger's in ${currency}; all ledgers must have the same`,
      )
    }
  }
}

/** Stores the settings' limits for readers of the table; this ledger decides by its own settings. */
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
