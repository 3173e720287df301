// What a notice says, as data: the words are put to it when it is read, in the reader's language.

/** Amounts are decimal strings in `currency`; times are milliseconds since 1970. */
type Money = { amount: string; currency: string }
/** With the wallet's balance after it. */
type Moved = Money & { balance: string }
type Reversed = Moved & { originalId: string }
type Rejected = Money & {
  code: string
  /** The ledger's own words, where the code is newer than the notifier that stored it. */
  detail?: string
  /** Where a limit refused it: the limit and what of it was used. */
  limit?: string
  used?: string
}
/** What of the wallet is available beside what is held. */
type Held = Money & { available: string }

/** By type: what a notice of it holds. A type without words in a language does not compile. */
export type NoticeData = {
  transfer_sent: Moved
  transfer_received: Moved
  fee_sent: Moved
  deposit_completed: Moved
  withdrawal_completed: Moved
  reversal_sent: Reversed
  reversal_received: Reversed
  withdrawal_returned: Reversed
  money_in_suspense: Money
  transfer_rejected: Rejected
  deposit_rejected: Rejected
  withdrawal_rejected: Rejected
  hold_rejected: Rejected
  reversal_rejected: Rejected
  withdrawal_started: Held
  withdrawal_failed: Held
  hold_placed: Held & { until: number | null }
  /** `rest` is what of the hold was not taken. */
  hold_captured: Moved & { held: string; rest: string }
  hold_released: Held & { reason: string }
  incoming_hold_placed: Money & { until: number | null }
  incoming_hold_released: Money & { reason: string }
  wallet_frozen: { source: string }
  wallet_unfrozen: { source: string }
  wallet_closed: { currency: string }
  limits_changed: { action: string }
  signed_in: Record<never, never>
  password_changed: Record<never, never>
  pin_set: Record<never, never>
  pin_changed: Record<never, never>
  pin_locked: Record<never, never>
  second_factor_enabled: Record<never, never>
  second_factor_disabled: Record<never, never>
  second_factor_locked: Record<never, never>
  recovery_code_used: Record<never, never>
  recovery_codes_replaced: Record<never, never>
  api_key_created: Record<never, never>
  api_key_rotated: Record<never, never>
  api_key_revoked: Record<never, never>
  external_identity_linked: Record<never, never>
  external_identity_unlinked: Record<never, never>
  role_changed: Record<never, never>
  account_reactivated: Record<never, never>
  mail_blocked: Record<never, never>
  webhook_disabled: { url: string }
  /** `url` is the host alone. */
  webhook_added: { url: string }
  /** `changed`: url, secret, eventTypes, description, state; with commas. */
  webhook_changed: { url: string; changed: string }
  webhook_removed: { url: string }
  webhook_disabled_by_staff: { url: string }
  webhooks_paused: { reason: string }
}

export type NoticeType = keyof NoticeData

/** What a user chooses by: each notice is of one kind. Notices of `security` cannot be turned off. */
export const NOTICE_KINDS = [
  'money_received',
  'money_sent',
  'declined',
  'holds',
  'wallet',
  'security',
] as const
export type NoticeKind = (typeof NOTICE_KINDS)[number]

export const KIND_OF: Readonly<Record<NoticeType, NoticeKind>> = {
  transfer_received: 'money_received',
  deposit_completed: 'money_received',
  reversal_received: 'money_received',
  withdrawal_returned: 'money_received',
  money_in_suspense: 'money_received',
  transfer_sent: 'money_sent',
  fee_sent: 'money_sent',
  withdrawal_started: 'money_sent',
  withdrawal_completed: 'money_sent',
  reversal_sent: 'money_sent',
  hold_captured: 'money_sent',
  transfer_rejected: 'declined',
  deposit_rejected: 'declined',
  withdrawal_rejected: 'declined',
  hold_rejected: 'declined',
  reversal_rejected: 'declined',
  withdrawal_failed: 'declined',
  hold_placed: 'holds',
  hold_released: 'holds',
  incoming_hold_placed: 'holds',
  incoming_hold_released: 'holds',
  wallet_frozen: 'wallet',
  wallet_unfrozen: 'wallet',
  wallet_closed: 'wallet',
  limits_changed: 'wallet',
  signed_in: 'security',
  password_changed: 'security',
  pin_set: 'security',
  pin_changed: 'security',
  pin_locked: 'security',
  second_factor_enabled: 'security',
  second_factor_disabled: 'security',
  second_factor_locked: 'security',
  recovery_code_used: 'security',
  recovery_codes_replaced: 'security',
  api_key_created: 'security',
  api_key_rotated: 'security',
  api_key_revoked: 'security',
  external_identity_linked: 'security',
  external_identity_unlinked: 'security',
  role_changed: 'security',
  account_reactivated: 'security',
  mail_blocked: 'security',
  webhook_disabled: 'security',
  webhook_added: 'security',
  webhook_changed: 'security',
  webhook_removed: 'security',
  webhook_disabled_by_staff: 'security',
  webhooks_paused: 'security',
}

/** By how a type ends: the words for types that are newer than this version. Null where it says nothing. */
export const knownTypeOf = (type: string): NoticeType | null => {
  if (Object.hasOwn(KIND_OF, type)) return type as NoticeType
  if (type.endsWith('_sent')) return 'transfer_sent'
  if (type.endsWith('_received')) return 'transfer_received'
  if (type.endsWith('_rejected')) return 'transfer_rejected'
  return null
}

/** The kind that a notice is of; of a newer type that says nothing: `wallet`. */
export const kindOfNotice = (type: string): NoticeKind => {
  const known = knownTypeOf(type)
  return known === null ? 'wallet' : KIND_OF[known]
}
