import { notificationIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { isProblemCode } from '@pennywire/contracts/problems.ts'
import {
  type HoldEnded,
  type HoldPlaced,
  type IdentityEvent,
  type LedgerEvent,
  type TransferCompleted,
  type TransferRejected,
  type TransferReversed,
  unknownRecord,
} from '@pennywire/contracts/schemas.ts'
import type { NoticeData } from '@pennywire/messages/notices.ts'

/** What a user is told, as data: its words are put to it when it is read or mailed, and it names nobody but by id. */
export type Notice = {
  id: string
  userId: string
  /** A type of NoticeData; of a movement that is newer than this version, that type with `_sent` or `_received`. */
  type: string
  data: object
  /** The other side, whose name is looked up when the notice is read; null where there is none. */
  aboutUserId: string | null
  /** Null where it is about no transfer. */
  transferId: string | null
  /** Milliseconds since 1970, by the clock of the event's writer. */
  createdAt: number
}

/** Whom a notice is for, by what, and when. */
type About = Pick<Notice, 'aboutUserId' | 'transferId' | 'createdAt'> & {
  userId: string | null
  /** What the notice's id is made of, beside user and type: the transfer, or the command or event. */
  cause: string
}

type Said = { [Type in keyof NoticeData]: [type: Type, data: NoticeData[Type]] }[keyof NoticeData]
/** Of a movement that may be newer than this version. */
type Untyped = [type: string, data: object]

/** System wallets are nobody's: nobody is told. */
const notice = ({ userId, cause, ...about }: About, [type, data]: Said | Untyped): Notice[] =>
  userId === null ? [] : [{ id: notificationIdOf(cause, userId, type), userId, type, data, ...about }]

/** What an event of the ledger tells users, and whom: empty for events that tell nobody anything. */
export const noticesFor = (record: LedgerEvent): Notice[] => {
  switch (record.type) {
    case 'pennywire.ledger.TransferCompleted': {
      const { value } = record
      if (isInSuspense(value)) return inSuspense(value, value.completedAt)
      return toldEntries(value).flatMap(told =>
        moved(value.completedAt, told, completed(told.linked ? null : value, told)),
      )
    }
    case 'pennywire.ledger.TransferReversed': {
      const { value } = record
      if (isInSuspense(value)) return inSuspense(value, value.completedAt)
      return toldEntries(value).flatMap(told =>
        moved(value.completedAt, told, told.linked ? completed(null, told) : reversed(value, told)),
      )
    }
    case 'pennywire.ledger.TransferRejected': {
      const { transferId, userId, toUserId, rejectedAt: createdAt } = record.value
      // A repeat of one's own name says nothing.
      const aboutUserId = toUserId === userId ? null : toUserId
      const about = { userId, cause: transferId, transferId, aboutUserId, createdAt }
      return notice(about, [`${record.value.type}_rejected`, rejected(record.value)])
    }
    case 'pennywire.ledger.HoldPlaced': {
      const { transferId, userId, toUserId, placedAt: createdAt } = record.value
      const about = { cause: transferId, transferId, createdAt }
      return [
        ...notice({ ...about, userId, aboutUserId: toUserId }, holdPlaced(record.value)),
        ...notice({ ...about, userId: toUserId, aboutUserId: userId }, heldForYou(record.value)),
      ]
    }
    case 'pennywire.ledger.HoldEnded': {
      const { holdId, userId, toUserId, endedAt: createdAt } = record.value
      const about = { cause: holdId, transferId: holdId, createdAt }
      return [
        ...notice({ ...about, userId, aboutUserId: toUserId }, holdEnded(record.value)),
        ...notice({ ...about, userId: toUserId, aboutUserId: userId }, noLongerHeldForYou(record.value)),
      ]
    }
    case 'pennywire.ledger.WalletFrozen': {
      const { commandId, ownerId, frozenAt, source } = record.value
      return ofWallet(commandId, ownerId, frozenAt, 'wallet_frozen', { source })
    }
    case 'pennywire.ledger.WalletUnfrozen': {
      const { commandId, ownerId, unfrozenAt, source } = record.value
      return ofWallet(commandId, ownerId, unfrozenAt, 'wallet_unfrozen', { source })
    }
    case 'pennywire.ledger.WalletClosed': {
      const { commandId, userId, closedAt, currency } = record.value
      return ofWallet(commandId, userId, closedAt, 'wallet_closed', { currency })
    }
    case 'pennywire.ledger.LimitChanged': {
      const { commandId, ownerId, changedAt, source, action } = record.value
      // Who changes limits of their own knows.
      return source === 'staff' ? ofWallet(commandId, ownerId, changedAt, 'limits_changed', { action }) : []
    }
    // Who asked knows.
    case 'pennywire.ledger.WalletOpened':
    case 'pennywire.ledger.WalletRenamed':
    case 'pennywire.ledger.CommandRefused':
      return []
    default:
      return unknownRecord(record)
  }
}

/** What an event of an account tells its user. */
export const noticesForAccount = (record: IdentityEvent): Notice[] => {
  if (isOfWebhook(record)) return ofWebhook(record)
  const type = noticeTypeOf(record)
  if (type === null) return []
  const { eventId, userId, occurredAt } = record.value
  return notice({ userId, cause: eventId, transferId: null, aboutUserId: null, createdAt: occurredAt }, [
    type,
    {},
  ])
}

type OfWebhook = Extract<IdentityEvent, { type: `pennywire.identity.Webhook${string}` }>

const isOfWebhook = (record: IdentityEvent): record is OfWebhook =>
  record.type.startsWith('pennywire.identity.Webhook')

/** The operator's endpoints are nobody's: the audit trail alone tells of them. */
const ofWebhook = (record: OfWebhook): Notice[] => {
  const { eventId, userId, origin, occurredAt: createdAt } = record.value
  const about = { userId, cause: eventId, transferId: null, aboutUserId: null, createdAt }
  const data = { url: hostOf(origin) }
  if (record.type === 'pennywire.identity.WebhookAdded') return notice(about, ['webhook_added', data])
  if (record.type === 'pennywire.identity.WebhookRemoved') return notice(about, ['webhook_removed', data])
  const { reason, changed } = record.value
  switch (reason) {
    // What disabled it has told it.
    case 'failing':
    case 'gone':
      return []
    case 'password_reset':
    case 'account_disabled':
      // All endpoints of an account are paused at one moment: their owner is told once.
      return notice({ ...about, cause: `${reason} ${createdAt}` }, ['webhooks_paused', { reason }])
    case 'disabled_by_staff':
      return notice(about, ['webhook_disabled_by_staff', data])
    default:
      return notice(about, ['webhook_changed', { ...data, changed: changed.join(',') }])
  }
}

/** The host of an address; the text itself where it is none. */
export const hostOf = (origin: string) => (URL.canParse(origin) ? new URL(origin).host : origin)

const noticeTypeOf = (record: Exclude<IdentityEvent, OfWebhook>): keyof NoticeData | null => {
  switch (record.type) {
    case 'pennywire.identity.SessionStarted':
      return record.value.isNewPlace ? 'signed_in' : null
    case 'pennywire.identity.PasswordChanged':
      return 'password_changed'
    case 'pennywire.identity.PinSet':
      return 'pin_set'
    case 'pennywire.identity.PinChanged':
    case 'pennywire.identity.PinReset':
      return 'pin_changed'
    case 'pennywire.identity.PinLocked':
      return 'pin_locked'
    case 'pennywire.identity.SecondFactorEnabled':
      return 'second_factor_enabled'
    case 'pennywire.identity.SecondFactorDisabled':
      return 'second_factor_disabled'
    case 'pennywire.identity.SecondFactorLocked':
      return 'second_factor_locked'
    case 'pennywire.identity.RecoveryCodeUsed':
      return 'recovery_code_used'
    case 'pennywire.identity.RecoveryCodesReplaced':
      return 'recovery_codes_replaced'
    case 'pennywire.identity.ApiKeyCreated':
      return 'api_key_created'
    case 'pennywire.identity.ApiKeyRotated':
      return 'api_key_rotated'
    case 'pennywire.identity.ApiKeyRevoked':
      return 'api_key_revoked'
    case 'pennywire.identity.ExternalIdentityLinked':
      return 'external_identity_linked'
    case 'pennywire.identity.ExternalIdentityUnlinked':
      return 'external_identity_unlinked'
    case 'pennywire.identity.RoleChanged':
      return 'role_changed'
    case 'pennywire.identity.AccountReactivated':
      return 'account_reactivated'
    case 'pennywire.identity.MailBlocked':
      return 'mail_blocked'
    // Who did it knows, nobody can read it (the account is closed to them), or it is staff's and the audit's alone.
    case 'pennywire.identity.AccountDeactivated':
    case 'pennywire.identity.DeletionCancelled':
    case 'pennywire.identity.DeletionRequested':
    case 'pennywire.identity.EmailVerified':
    case 'pennywire.identity.LoginFailed':
    case 'pennywire.identity.MailUnblocked':
    case 'pennywire.identity.PasswordResetRequested':
    case 'pennywire.identity.PinFailed':
    case 'pennywire.identity.PinResetFailed':
    case 'pennywire.identity.PinResetRequested':
    case 'pennywire.identity.ProfileChanged':
    case 'pennywire.identity.RequestsRefused':
    case 'pennywire.identity.SecondFactorFailed':
    case 'pennywire.identity.SessionRevoked':
    case 'pennywire.identity.SignupReplaced':
    case 'pennywire.identity.StaffViewed':
    case 'pennywire.identity.UserErased':
    case 'pennywire.identity.UserRegistered':
      return null
    default:
      return unknownRecord(record)
  }
}

const ofWallet = <Type extends keyof NoticeData>(
  commandId: string,
  userId: string,
  createdAt: number,
  type: Type,
  data: NoticeData[Type],
): Notice[] =>
  notice({ userId, cause: commandId, transferId: null, aboutUserId: null, createdAt }, [type, data])

type Entry = TransferCompleted['entries'][number]
type Moved = Pick<TransferCompleted, 'transferId' | 'type' | 'entries' | 'linked'>
/** An entry by which its wallet is told, the other side, and the transfer that it belongs to. */
type Told = { entry: Entry; other: string | null; transferId: string; type: string; linked: boolean }

/**
 * The entry by which each wallet is told, with its balance after all of the event's: the first of the wallet, and the
 * linked transfer that it belongs to where the transfer itself does not touch the wallet.
 */
const toldEntries = ({ transferId, type, entries, linked }: Moved): Told[] =>
  entries.flatMap((entry, index) => {
    const isOfWallet = ({ walletId }: Entry) => walletId === entry.walletId
    if (entries.findIndex(isOfWallet) < index) return []
    const { balanceAfterMinor } = entries.findLast(isOfWallet)!
    // Two entries make a movement: the other one is the other side.
    const other = entries[index ^ 1]?.userId ?? null
    const movement = linked[Math.floor(index / 2) - 1]
    return [
      {
        entry: { ...entry, balanceAfterMinor },
        other: other === entry.userId ? null : other,
        ...(movement ?? { transferId, type }),
        linked: movement !== undefined,
      },
    ]
  })

const moved = (createdAt: number, told: Told, said: Said | Untyped): Notice[] => {
  const { entry, other: aboutUserId, transferId } = told
  return notice({ userId: entry.userId, cause: transferId, transferId, aboutUserId, createdAt }, said)
}

const amountOf = (minor: bigint, currency: string) => formatAmount(minor < 0n ? -minor : minor, currency)

const dataOf = ({ amountMinor, balanceAfterMinor, currency }: Entry) => ({
  amount: amountOf(amountMinor, currency),
  currency,
  balance: formatAmount(balanceAfterMinor, currency),
})

/** `transfer`: the event's own, where the entry belongs to it. */
const completed = (
  transfer: Pick<TransferCompleted, 'holdMinor'> | null,
  { entry, type }: Told,
): Said | Untyped => {
  const data = dataOf(entry)
  if (type === 'deposit' || type === 'withdrawal') return [`${type}_completed`, data]
  const { amountMinor, currency } = entry
  const holdMinor = transfer?.holdMinor ?? null
  if (amountMinor < 0n && holdMinor !== null) {
    const rest = amountOf(holdMinor + amountMinor, currency)
    return ['hold_captured', { ...data, held: formatAmount(holdMinor, currency), rest }]
  }
  // Types that are newer than this version are money that came or went as well.
  return [amountMinor < 0n ? `${type}_sent` : `${type}_received`, data]
}

/** A suspense wallet took the money, because the user's could not: no wallet of a user moved. */
const isInSuspense = ({ entries }: Moved) => entries.slice(0, 2).every(({ userId }) => userId === null)

const inSuspense = (
  { transferId, userId, amountMinor, currency }: TransferCompleted | TransferReversed,
  createdAt: number,
): Notice[] =>
  notice({ userId, cause: transferId, transferId, aboutUserId: null, createdAt }, [
    'money_in_suspense',
    { amount: formatAmount(amountMinor, currency), currency },
  ])

const reversed = ({ originalId, source }: TransferReversed, { entry }: Told): Said => {
  const data = { ...dataOf(entry), originalId }
  if (entry.amountMinor < 0n) return ['reversal_sent', data]
  return source === 'provider' ? ['withdrawal_returned', data] : ['reversal_received', data]
}

const rejected = (rejection: TransferRejected): NoticeData['transfer_rejected'] => {
  const { amountMinor, currency, code, detail, limitMinor, usedMinor } = rejection
  return {
    amount: formatAmount(amountMinor, currency),
    currency,
    code,
    // The detail is written for API clients; it stands in where the code is newer than this version.
    ...(!isProblemCode(code) && { detail }),
    ...(limitMinor !== null && {
      limit: formatAmount(limitMinor, currency),
      used: formatAmount(usedMinor ?? 0n, currency),
    }),
  }
}

const heldOf = ({ amountMinor, currency, balanceMinor, heldMinor }: HoldPlaced | HoldEnded) => ({
  amount: formatAmount(amountMinor, currency),
  currency,
  available: formatAmount(balanceMinor - heldMinor, currency),
})

const holdPlaced = (hold: HoldPlaced): Said =>
  hold.type === 'withdrawal'
    ? ['withdrawal_started', heldOf(hold)]
    : ['hold_placed', { ...heldOf(hold), until: hold.holdUntil }]

const heldForYou = ({ amountMinor, currency, holdUntil }: HoldPlaced): Said => [
  'incoming_hold_placed',
  { amount: formatAmount(amountMinor, currency), currency, until: holdUntil },
]

const holdEnded = (hold: HoldEnded): Said =>
  hold.type === 'withdrawal'
    ? ['withdrawal_failed', heldOf(hold)]
    : ['hold_released', { ...heldOf(hold), reason: hold.reason }]

const noLongerHeldForYou = ({ reason, amountMinor, currency }: HoldEnded): Said => [
  'incoming_hold_released',
  { amount: formatAmount(amountMinor, currency), currency, reason },
]
