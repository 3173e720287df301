import {
  type LimitedAction,
  type Limits,
  NOTHING_USED,
  type OwnLimits,
  type Tier,
  type Usage,
} from '@pennywire/rules/limits.ts'
import { type Database, type Tx, UUID } from '@pennywire/runtime/database.ts'

/** A user's wallet with everything that limits it, as the ledger publishes it. Amounts are minor units. */
export type LimitedWallet = {
  id: string
  userId: string
  currency: string
  status: 'active' | 'frozen' | 'closed'
  tier: Tier
  usage: Usage
  /** The limits that the owner and staff have set. */
  own: OwnLimits[]
  /** The limits in force where neither owner nor staff set any. */
  defaults: Limits
  /** The database's clock, which decides the current day and month. */
  nowMs: number
}

type WalletRow = Pick<LimitedWallet, 'id' | 'userId' | 'currency' | 'status' | 'tier'> &
  Limits & {
    usage: string
    now: Date
  }
type OwnRow = Limits & { walletId: string; action: LimitedAction; source: 'self' | 'staff' }

/** Parses usage as the ledger stores it: {day, sent that day, that month, deposited …, withdrawn …}; {}: none yet. */
const readUsage = (text: string): Usage => {
  if (text === '{}') return NOTHING_USED
  const [day, ...used] = text.slice(1, -1).split(',')
  const at = (index: number) => ({ day: BigInt(used[index]!), month: BigInt(used[index + 1]!) })
  return { day: Number(day), used: { send: at(0), deposit: at(2), withdrawal: at(4) } }
}

/**
 * Wallets with their limits, oldest first: the one with `walletId`, or all of the user's that are not closed. With both
 * ids: that user's wallet or none. System wallets have no limits and are excluded.
 */
export const readLimitedWallets = async (
  sql: Database | Tx,
  wanted: { userId: string | null; walletId: string | null },
): Promise<LimitedWallet[]> => {
  const rows = await sql<WalletRow[]>`
    select w.id, w.user_id as "userId", w.currency, w.status, w.tier, w.usage::text, clock_timestamp() as now,
      d.per_transaction as "perTransaction", d.daily, d.monthly
    from ledger_api.wallets w
    join ledger_api.limit_defaults d on d.tier = w.tier and d.currency = w.currency
    where w.user_id is not null
      and (${wanted.userId}::uuid is null or w.user_id = ${wanted.userId})
      and (w.id = ${wanted.walletId} or ${wanted.walletId}::uuid is null and w.status <> 'closed')
    order by w.opened_at, w.id`
  if (rows.length === 0) return []
  const own = await sql<OwnRow[]>`
    select wallet_id as "walletId", action, source, per_transaction as "perTransaction", daily, monthly
    from ledger_api.limits
    where wallet_id = any(${sql.array(
      rows.map(({ id }) => id),
      UUID,
    )})`
  return rows.map(({ usage, now, perTransaction, daily, monthly, ...wallet }) => ({
    ...wallet,
    usage: readUsage(usage),
    own: own.filter(({ walletId }) => walletId === wallet.id),
    defaults: { perTransaction, daily, monthly },
    nowMs: now.getTime(),
  }))
}

/** Limits that a wallet's owner or staff have set. */
export type SetLimits = OwnRow & { userId: string; currency: string }
export type SetLimitsFilter = {
  userId: string | null
  walletId: string | null
  source: 'self' | 'staff' | null
  action: LimitedAction | null
}
/** The place of limits in the list of all: those after it are read. */
export type LimitsPlace = { walletId: string; action: string; source: string }

/** The limits that are set, of all users, in the order of wallet, action and source. */
export const readSetLimits = (
  sql: Database,
  filter: SetLimitsFilter,
  after: LimitsPlace | null,
  limit: number,
): Promise<SetLimits[]> => {
  const { walletId, action, source } = after ?? { walletId: null, action: '', source: '' }
  return sql<SetLimits[]>`
    select l.wallet_id as "walletId", w.user_id as "userId", w.currency, l.action, l.source,
      l.per_transaction as "perTransaction", l.daily, l.monthly
    from ledger_api.limits l join ledger_api.wallets w on w.id = l.wallet_id
    where (l.per_transaction is not null or l.daily is not null or l.monthly is not null)
      and (${walletId}::uuid is null or (l.wallet_id, l.action, l.source) > (${walletId}::uuid, ${action}, ${source}))
      and (${filter.userId}::uuid is null or w.user_id = ${filter.userId})
      and (${filter.walletId}::uuid is null or l.wallet_id = ${filter.walletId})
      and (${filter.source}::text is null or l.source = ${filter.source})
      and (${filter.action}::text is null or l.action = ${filter.action})
    order by l.wallet_id, l.action, l.source limit ${limit}`
}
