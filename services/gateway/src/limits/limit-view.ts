import { formatAmount } from '@pennywire/contracts/money.ts'
import {
  LIMITED_ACTIONS,
  type LimitedAction,
  limitsInForce,
  NO_LIMITS,
  usedNow,
} from '@pennywire/rules/limits.ts'
import type { LimitedWallet, SetLimits } from './sql/limit-reads.ts'

/** One limit in the API's form: decimal strings, null for no limit. */
export type LimitView = {
  /** The limit in force. */
  limit: string | null
  /** The owner's own limit. */
  own: string | null
  /** The highest limit that the owner may set. */
  maximum: string | null
}
export type PeriodView = LimitView & { used: string; left: string | null }

/** The limits of one action of a wallet, as its owner sees them. */
export type ActionLimits = {
  walletId: string
  currency: string
  action: LimitedAction
  perTransaction: LimitView
  daily: PeriodView
  monthly: PeriodView
}

/** The limits as staff see them: with the limits that staff set, and the defaults without them. */
export type StaffLimits = ActionLimits & {
  tier: string
  cap: { perTransaction: string | null; daily: string | null; monthly: string | null }
  default: { perTransaction: string | null; daily: string | null; monthly: string | null }
}

/** The limits in force, and how much of them is used in the current UTC day and month. */
export const viewLimits = (wallet: LimitedWallet, action: LimitedAction): ActionLimits => {
  const { id, currency, defaults, own, usage, nowMs } = wallet
  const { limits, ceiling } = limitsInForce(action, defaults, own)
  const self = own.find(set => set.action === action && set.source === 'self') ?? NO_LIMITS
  const used = usedNow(usage, action, nowMs)
  const text = (minor: bigint | null) => (minor === null ? null : formatAmount(minor, currency))
  const one = (kind: 'perTransaction' | 'daily' | 'monthly'): LimitView => ({
    limit: text(limits[kind]),
    own: text(self[kind]),
    maximum: text(ceiling[kind]),
  })
  const period = (kind: 'daily' | 'monthly', spent: bigint): PeriodView => {
    const limit = limits[kind]
    return {
      ...one(kind),
      used: formatAmount(spent, currency),
      // A limit that was tightened below the used amount leaves nothing.
      left: text(limit === null ? null : limit > spent ? limit - spent : 0n),
    }
  }
  return {
    walletId: id,
    currency,
    action,
    perTransaction: one('perTransaction'),
    daily: period('daily', used.day),
    monthly: period('monthly', used.month),
  }
}

export const viewStaffLimits = (wallet: LimitedWallet, action: LimitedAction): StaffLimits => {
  const { currency, own, defaults, tier } = wallet
  const cap = own.find(set => set.action === action && set.source === 'staff') ?? NO_LIMITS
  const text = (minor: bigint | null) => (minor === null ? null : formatAmount(minor, currency))
  const three = ({ perTransaction, daily, monthly }: typeof NO_LIMITS) => ({
    perTransaction: text(perTransaction),
    daily: text(daily),
    monthly: text(monthly),
  })
  return { ...viewLimits(wallet, action), tier, cap: three(cap), default: three(defaults) }
}

/** Limits that are set, in the API's form. */
export const viewSetLimits = ({ perTransaction, daily, monthly, ...limits }: SetLimits) => {
  const text = (minor: bigint | null) => (minor === null ? null : formatAmount(minor, limits.currency))
  return { ...limits, perTransaction: text(perTransaction), daily: text(daily), monthly: text(monthly) }
}

/** All actions of all the wallets, in their order. */
export const viewAllLimits = (wallets: LimitedWallet[]): ActionLimits[] =>
  wallets.flatMap(wallet => LIMITED_ACTIONS.map(action => viewLimits(wallet, action)))
