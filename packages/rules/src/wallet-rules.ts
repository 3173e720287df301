// The rules for opening, freezing, closing, renaming and limiting a wallet. Pure; a refusal is a value.
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import type {
  LimitChangeRequested,
  WalletCloseRequested,
  WalletFreezeRequested,
  WalletOpenRequested,
  WalletRenameRequested,
  WalletUnfreezeRequested,
} from '@pennywire/contracts/schemas.ts'
import type { Wallet } from './decide.ts'
import {
  aboveCeiling,
  isLimitedAction,
  isLimitKind,
  isTier,
  type LimitDefaults,
  limitsInForce,
  NO_LIMITS,
  type OwnLimits,
  type Tier,
} from './limits.ts'

export type Refused = { outcome: 'refused'; code: ProblemCode; detail: string }

const refused = (code: ProblemCode, detail: string): Refused => ({ outcome: 'refused', code, detail })

/** Decides whether a wallet is opened: a user has one open wallet in each currency. */
export const decideWalletOpen = (
  request: WalletOpenRequested,
  userHasOneOpen: boolean,
): { outcome: 'opened' } | Refused =>
  userHasOneOpen
    ? refused(
        'WALLET_ALREADY_EXISTS',
        `currency: the user has an open wallet in ${request.currency} already.`,
      )
    : { outcome: 'opened' }

/** Freeze sources, weakest first: a stronger one takes over. Staff lift any freeze, others only their own. */
const SOURCES = ['self', 'pin', 'staff'] as const
type FreezeSource = (typeof SOURCES)[number]
const isSource = (text: string): text is FreezeSource => (SOURCES as readonly string[]).includes(text)

/** WALLET_NOT_FOUND unless the requester owns the wallet. Commands of staff and of KYC may target any user's wallet. */
const missing = (
  command: { userId: string; source?: string },
  wallet: Wallet | undefined,
): Refused | undefined =>
  !wallet ||
  wallet.userId === null ||
  ((command.source ?? 'self') !== 'staff' && command.source !== 'kyc' && wallet.userId !== command.userId)
    ? refused('WALLET_NOT_FOUND', 'walletId: there is no such wallet of the requester.')
    : undefined

/** Decides a freeze. A stronger source takes over an existing freeze; staff is the strongest. */
export const decideFreeze = (
  command: WalletFreezeRequested,
  wallet: Wallet | undefined,
): { outcome: 'frozen'; source: FreezeSource } | Refused => {
  const { source } = command
  const nobodys = missing(command, wallet)
  if (nobodys) return nobodys
  if (!isSource(source)) return refused('VALIDATION_ERROR', 'source: it must be self, pin or staff.')
  if (wallet!.status === 'closed') return refused('WALLET_ALREADY_CLOSED', 'walletId: the wallet is closed.')
  const now = wallet!.freezeSource
  if (now !== null && SOURCES.indexOf(now) >= SOURCES.indexOf(source)) {
    return refused('WALLET_ALREADY_FROZEN', `walletId: the wallet is frozen already (source: ${now}).`)
  }
  return { outcome: 'frozen', source }
}

/** Decides whether a freeze is lifted: by the source that set it, or by staff. */
export const decideUnfreeze = (
  command: WalletUnfreezeRequested,
  wallet: Wallet | undefined,
): { outcome: 'unfrozen' } | Refused => {
  const nobodys = missing(command, wallet)
  if (nobodys) return nobodys
  if (wallet!.status === 'closed') return refused('WALLET_ALREADY_CLOSED', 'walletId: the wallet is closed.')
  if (wallet!.status !== 'frozen') return refused('WALLET_NOT_FROZEN', 'walletId: the wallet is not frozen.')
  if (command.source !== 'staff' && command.source !== wallet!.freezeSource) {
    return refused(
      'FREEZE_NOT_YOURS',
      `walletId: the wallet was frozen by ${wallet!.freezeSource}; only that, or staff, lifts it.`,
    )
  }
  return { outcome: 'unfrozen' }
}

/** Decides whether a wallet is closed for good: an empty one, by its owner. */
export const decideClose = (
  command: WalletCloseRequested,
  wallet: Wallet | undefined,
): { outcome: 'closed' } | Refused => {
  const nobodys = missing(command, wallet)
  if (nobodys) return nobodys
  if (wallet!.status === 'closed') return refused('WALLET_ALREADY_CLOSED', 'walletId: the wallet is closed.')
  if (wallet!.status === 'frozen')
    return refused('WALLET_FROZEN', 'walletId: a frozen wallet cannot be closed.')
  if (wallet!.balance !== 0n) {
    const { balance, currency } = wallet!
    return refused(
      'WALLET_HAS_BALANCE',
      `walletId: the wallet still has ${formatAmount(balance, currency)} ${currency}.`,
    )
  }
  return { outcome: 'closed' }
}

/** Decides whether a wallet is renamed: by its owner, while it is not closed. */
export const decideRename = (
  command: WalletRenameRequested,
  wallet: Wallet | undefined,
): { outcome: 'renamed' } | Refused => {
  const nobodys = missing(command, wallet)
  if (nobodys) return nobodys
  if (wallet!.status === 'closed') return refused('WALLET_ALREADY_CLOSED', 'walletId: the wallet is closed.')
  return { outcome: 'renamed' }
}

/** Decides a change of limits: users may only tighten theirs; staff's replace the defaults. */
export const decideLimitChange = (
  command: LimitChangeRequested,
  wallet: Wallet | undefined,
  defaults: LimitDefaults,
): { outcome: 'changed'; limits: OwnLimits | null; tier: Tier | null } | Refused => {
  const { source, action, tier } = command
  const nobodys = missing(command, wallet)
  if (nobodys) return nobodys
  if (wallet!.status === 'closed') return refused('WALLET_ALREADY_CLOSED', 'walletId: the wallet is closed.')
  if (source === 'kyc') {
    if (tier === null || !isTier(tier)) {
      return refused('VALIDATION_ERROR', 'tier: it must be unverified or verified.')
    }
    return { outcome: 'changed', limits: null, tier }
  }
  if (source !== 'self' && source !== 'staff') {
    return refused('VALIDATION_ERROR', 'source: it must be self, staff or kyc.')
  }
  if (!isLimitedAction(action)) {
    return refused('VALIDATION_ERROR', 'action: it must be send, deposit or withdrawal.')
  }
  const unknown = command.keeps.find(kind => !isLimitKind(kind))
  if (unknown !== undefined) {
    return refused('VALIDATION_ERROR', 'keeps: it must name perTransaction, daily and monthly alone.')
  }
  const requested = {
    perTransaction: command.perTransactionMinor,
    daily: command.dailyMinor,
    monthly: command.monthlyMinor,
  }
  if (source === 'self') {
    const { ceiling } = limitsInForce(action, defaults[wallet!.tier](wallet!.currency), wallet!.ownLimits)
    const above = aboveCeiling(requested, ceiling)
    if (above) {
      const { currency } = wallet!
      return refused(
        'LIMIT_ABOVE_MAXIMUM',
        `${above.kind}: at most ${formatAmount(above.ceiling, currency)} ${currency}; own limits may only tighten.`,
      )
    }
  }
  // Read here, not by the gateway: two requests that each change another limit must not undo each other.
  const before = wallet!.ownLimits.find(own => own.action === action && own.source === source) ?? NO_LIMITS
  const kept = Object.fromEntries(command.keeps.filter(isLimitKind).map(kind => [kind, before[kind]]))
  return { outcome: 'changed', limits: { action, source, ...requested, ...kept }, tier: null }
}
