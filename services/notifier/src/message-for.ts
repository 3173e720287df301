import { notificationIdOf, referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { isProblemCode, PROBLEMS } from '@pennywire/contracts/problems.ts'
import {
  type HoldEnded,
  type HoldPlaced,
  type LedgerEvent,
  type LimitChanged,
  type TransferCompleted,
  type TransferRejected,
  type TransferReversed,
  unknownRecord,
  type WalletFrozen,
  type WalletUnfrozen,
} from '@pennywire/contracts/schemas.ts'

export type Notification = {
  id: string
  userId: string
  type: string
  title: string
  body: string
  /** Null where it is about a wallet and no transfer. */
  transferId: string | null
  /** Milliseconds since 1970, by the ledger's clock. */
  createdAt: number
}

type Message = Pick<Notification, 'type' | 'title' | 'body'>

/** What a record tells users, and whom: empty for records that tell nobody anything. Names nobody but by id. */
export const messagesFor = (record: LedgerEvent): Notification[] => {
  switch (record.type) {
    case 'pennywire.ledger.TransferCompleted': {
      const { transferId, userId, completedAt } = record.value
      if (isInSuspense(record.value))
        return aboutTransfer(transferId, userId, completedAt, waiting(record.value))
      return toldEntries(record.value).flatMap(({ entry, linked }) => {
        const transfer = linked ? { ...linked, holdMinor: null } : record.value
        return aboutTransfer(transfer.transferId, entry.userId, completedAt, completed(transfer, entry))
      })
    }
    case 'pennywire.ledger.TransferRejected': {
      const { transferId, userId, rejectedAt } = record.value
      return aboutTransfer(transferId, userId, rejectedAt, rejected(record.value))
    }
    case 'pennywire.ledger.TransferReversed': {
      const { transferId, userId, completedAt } = record.value
      if (isInSuspense(record.value))
        return aboutTransfer(transferId, userId, completedAt, waiting(record.value))
      return toldEntries(record.value).flatMap(({ entry, linked }) => {
        const message = linked
          ? completed({ ...linked, holdMinor: null }, entry)
          : reversed(record.value, entry)
        return aboutTransfer(linked?.transferId ?? transferId, entry.userId, completedAt, message)
      })
    }
    case 'pennywire.ledger.HoldPlaced': {
      const { transferId, userId, toUserId, placedAt } = record.value
      return [
        ...aboutTransfer(transferId, userId, placedAt, holdPlaced(record.value)),
        ...aboutTransfer(transferId, toUserId, placedAt, heldForYou(record.value)),
      ]
    }
    case 'pennywire.ledger.HoldEnded': {
      const { holdId, userId, toUserId, endedAt } = record.value
      return [
        ...aboutTransfer(holdId, userId, endedAt, holdEnded(record.value)),
        ...aboutTransfer(holdId, toUserId, endedAt, noLongerHeldForYou(record.value)),
      ]
    }
    case 'pennywire.ledger.WalletFrozen': {
      const { commandId, ownerId, frozenAt } = record.value
      return aboutWallet(commandId, ownerId, frozenAt, frozen(record.value))
    }
    case 'pennywire.ledger.WalletUnfrozen': {
      const { commandId, ownerId, unfrozenAt } = record.value
      return aboutWallet(commandId, ownerId, unfrozenAt, unfrozen(record.value))
    }
    case 'pennywire.ledger.WalletClosed': {
      const { commandId, userId, closedAt, currency } = record.value
      return aboutWallet(commandId, userId, closedAt, {
        type: 'wallet_closed',
        title: 'Wallet closed',
        body: `Your ${currency} wallet is closed. Its history stays.`,
      })
    }
    case 'pennywire.ledger.LimitChanged': {
      const { commandId, ownerId, changedAt, source } = record.value
      // Who changes limits of their own knows.
      return source === 'staff' ? aboutWallet(commandId, ownerId, changedAt, limited(record.value)) : []
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

/** System wallets are nobody's: nobody is told. */
const aboutTransfer = (
  transferId: string,
  userId: string | null,
  createdAt: number,
  message: Message,
): Notification[] =>
  userId === null
    ? []
    : [{ id: notificationIdOf(transferId, userId, message.type), userId, ...message, transferId, createdAt }]

const aboutWallet = (
  commandId: string,
  userId: string,
  createdAt: number,
  message: Message,
): Notification[] => [
  { id: notificationIdOf(commandId, userId, message.type), userId, ...message, transferId: null, createdAt },
]

type Entry = TransferCompleted['entries'][number]
type Moved = Pick<TransferCompleted, 'entries' | 'linked'>

/**
 * The entry by which each wallet is told, with its balance after all of the event's: the first of the wallet, and the
 * linked transfer that it belongs to where the transfer itself does not touch the wallet.
 */
const toldEntries = ({ entries, linked }: Moved) =>
  entries.flatMap((entry, index) => {
    const isOfWallet = ({ walletId }: Entry) => walletId === entry.walletId
    if (entries.findIndex(isOfWallet) < index) return []
    const { balanceAfterMinor } = entries.findLast(isOfWallet)!
    return [{ entry: { ...entry, balanceAfterMinor }, linked: linked[Math.floor(index / 2) - 1] }]
  })

const text = (minor: bigint, currency: string) =>
  `${formatAmount(minor < 0n ? -minor : minor, currency)} ${currency}`

const balanceAfter = ({ balanceAfterMinor, currency }: Entry, transferId: string) =>
  `Your balance is ${text(balanceAfterMinor, currency)} (${referenceOf(transferId)}).`

const completed = (
  { type, transferId, holdMinor }: Pick<TransferCompleted, 'type' | 'transferId' | 'holdMinor'>,
  entry: Entry,
): Message => {
  const amount = text(entry.amountMinor, entry.currency)
  const after = balanceAfter(entry, transferId)
  if (type === 'deposit')
    return {
      type: 'deposit_completed',
      title: 'Deposit completed',
      body: `${amount} came into your wallet. ${after}`,
    }
  if (type === 'withdrawal')
    return {
      type: 'withdrawal_completed',
      title: 'Withdrawal completed',
      body: `${amount} was paid out. ${after}`,
    }
  if (entry.amountMinor < 0n && holdMinor !== null) {
    const rest = holdMinor + entry.amountMinor
    const free = rest > 0n ? ` ${text(rest, entry.currency)} is available again.` : ''
    return {
      type: 'hold_captured',
      title: 'Held money taken',
      body: `${amount} of the ${text(holdMinor, entry.currency)} that was held was taken.${free} ${after}`,
    }
  }
  // Types that are newer than this text are money that came or went as well.
  return entry.amountMinor < 0n
    ? { type: `${type}_sent`, title: 'Money sent', body: `You sent ${amount}. ${after}` }
    : { type: `${type}_received`, title: 'Money received', body: `You received ${amount}. ${after}` }
}

/** A suspense wallet took the money, because the user's could not: no wallet of a user moved. */
const isInSuspense = ({ entries }: Moved) => entries.slice(0, 2).every(({ userId }) => userId === null)

const waiting = ({
  transferId,
  amountMinor,
  currency,
}: Pick<TransferCompleted, 'transferId' | 'amountMinor' | 'currency'>): Message => ({
  type: 'money_in_suspense',
  title: 'Money waits for you',
  body: `${text(amountMinor, currency)} arrived, and your wallet cannot take it. We keep it for you (${referenceOf(transferId)}).`,
})

const reversed = ({ transferId, originalId, source }: TransferReversed, entry: Entry): Message => {
  const amount = text(entry.amountMinor, entry.currency)
  const original = referenceOf(originalId)
  const after = balanceAfter(entry, transferId)
  if (entry.amountMinor < 0n)
    return {
      type: 'reversal_sent',
      title: 'Money taken back',
      body: `${amount} of ${original} was given back. ${after}`,
    }
  return source === 'provider'
    ? {
        type: 'withdrawal_returned',
        title: 'Withdrawal returned',
        body: `${amount} of ${original} could not be paid out and came back. ${after}`,
      }
    : {
        type: 'reversal_received',
        title: 'Money came back',
        body: `${amount} of ${original} came back to you. ${after}`,
      }
}

const NOUNS: readonly string[] = ['transfer', 'deposit', 'withdrawal', 'hold', 'reversal']

const rejected = (rejection: TransferRejected): Message => {
  const { type, transferId, amountMinor, currency, code, detail, limitMinor, usedMinor } = rejection
  const noun = NOUNS.includes(type) ? type : 'transfer'
  // The detail is written for API clients; it stands in where the code is newer than this version.
  const why = isProblemCode(code) ? PROBLEMS[code].title : detail
  const limit =
    limitMinor === null
      ? ''
      : ` (limit ${text(limitMinor, currency)}, used ${text(usedMinor ?? 0n, currency)})`
  return {
    type: `${type}_rejected`,
    title: `${noun[0]!.toUpperCase()}${noun.slice(1)} declined`,
    body: `Your ${noun} of ${text(amountMinor, currency)} was not made. ${why}${limit} (${referenceOf(transferId)}).`,
  }
}

const until = (ms: number | null) =>
  ms === null ? '' : ` until ${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`

const holdPlaced = (hold: HoldPlaced): Message => {
  const { type, transferId, amountMinor, currency, holdUntil, balanceMinor, heldMinor } = hold
  const amount = text(amountMinor, currency)
  const left = `${text(balanceMinor - heldMinor, currency)} is available (${referenceOf(transferId)}).`
  return type === 'withdrawal'
    ? {
        type: 'withdrawal_started',
        title: 'Withdrawal started',
        body: `${amount} is on its way out and is held for it. ${left}`,
      }
    : {
        type: 'hold_placed',
        title: 'Money held',
        body: `${amount} is held in your wallet${until(holdUntil)}. ${left}`,
      }
}

const heldForYou = ({ transferId, amountMinor, currency, holdUntil }: HoldPlaced): Message => ({
  type: 'incoming_hold_placed',
  title: 'Money held for you',
  body: `${text(amountMinor, currency)} is held for you${until(holdUntil)} (${referenceOf(transferId)}).`,
})

const ended = (reason: string) =>
  reason === 'expired' ? 'its time is over' : reason === 'voided' ? 'the hold was lifted' : 'the hold ended'

const holdEnded = (hold: HoldEnded): Message => {
  const { type, holdId, reason, amountMinor, currency, balanceMinor, heldMinor } = hold
  const amount = text(amountMinor, currency)
  const left = `${text(balanceMinor - heldMinor, currency)} is available (${referenceOf(holdId)}).`
  return type === 'withdrawal'
    ? {
        type: 'withdrawal_failed',
        title: 'Withdrawal failed',
        body: `${amount} could not be paid out and stays in your wallet. ${left}`,
      }
    : {
        type: 'hold_released',
        title: 'Money no longer held',
        body: `${amount} is no longer held: ${ended(reason)}. ${left}`,
      }
}

const noLongerHeldForYou = ({ holdId, reason, amountMinor, currency }: HoldEnded): Message => ({
  type: 'incoming_hold_released',
  title: 'Money no longer held for you',
  body: `${text(amountMinor, currency)} is no longer held for you: ${ended(reason)} (${referenceOf(holdId)}).`,
})

/** By whom a freeze was set, without naming any person. */
const FROZEN_BY: Readonly<Record<string, string>> = {
  self: 'You froze your wallet: no money leaves it.',
  pin: 'Your wallet was frozen after too many wrong PINs: no money leaves it.',
  staff: 'Our staff froze your wallet: no money leaves it or comes in.',
}

const frozen = ({ source }: WalletFrozen): Message => ({
  type: 'wallet_frozen',
  title: 'Wallet frozen',
  body: FROZEN_BY[source] ?? 'Your wallet was frozen: no money leaves it.',
})

const unfrozen = ({ source }: WalletUnfrozen): Message => ({
  type: 'wallet_unfrozen',
  title: 'Wallet active again',
  body: `${source === 'staff' ? 'Our staff lifted the freeze.' : 'The freeze is lifted.'} Your wallet may be used again.`,
})

const WHAT: Readonly<Record<string, string>> = {
  send: 'sending money',
  deposit: 'deposits',
  withdrawal: 'withdrawals',
}

const limited = ({ action }: LimitChanged): Message => ({
  type: 'limits_changed',
  title: 'Limits changed',
  body: `Our staff changed the limits of ${WHAT[action] ?? 'money that moves'} for one of your wallets.`,
})
