// What webhooks tell: the events of wallets, as public JSON. Ids and amounts; no name, and no text of a person.
import { referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { type LedgerEvent, type TransferCompleted, unknownRecord } from '@pennywire/contracts/schemas.ts'
import type { WebhookEventType } from '@pennywire/contracts/webhook-events.ts'

/** An event of wallets, and what of it each concerned user may see. */
export type WebhookEvent = {
  /** Names it for receivers, together with the endpoint: the same with each delivery. */
  cause: string
  type: WebhookEventType
  /** Milliseconds since 1970. */
  at: number
  /** Whom it concerns, beside the operator. */
  users: string[]
  /** Its public data for a user, or for the operator (null), who sees all. */
  dataFor: (userId: string | null) => object
}

const timeOf = (ms: number) => new Date(ms).toISOString()
const isUser = (id: string | null): id is string => id !== null

type Entry = TransferCompleted['entries'][number]

/** A user sees the entries of their own wallets alone: nobody's balance but theirs. */
const entriesFor = (entries: Entry[], userId: string | null) =>
  entries
    .filter(entry => userId === null || entry.userId === userId)
    .map(({ walletId, currency, amountMinor, balanceAfterMinor, sequence }) => ({
      walletId,
      amount: formatAmount(amountMinor, currency),
      currency,
      balanceAfter: formatAmount(balanceAfterMinor, currency),
      sequence,
    }))

/** What a balance and what is held of it are, in an event that moves nothing. */
const balanceOf = ({
  fromWalletId: walletId,
  currency,
  balanceMinor,
  heldMinor,
  sequence,
}: {
  fromWalletId: string
  currency: string
  balanceMinor: bigint
  heldMinor: bigint
  sequence: number
}) => ({
  walletId,
  balance: formatAmount(balanceMinor, currency),
  available: formatAmount(balanceMinor - heldMinor, currency),
  sequence,
})

/** The webhook event of a ledger event; undefined where there is none. */
export const webhookEventOf = (record: LedgerEvent): WebhookEvent | undefined => {
  switch (record.type) {
    case 'pennywire.ledger.TransferCompleted':
    case 'pennywire.ledger.TransferReversed': {
      const { transferId, type, fromWalletId, toWalletId, amountMinor, currency, entries, linked } =
        record.value
      const { completedAt, requestedAt } = record.value
      const originalId = 'originalId' in record.value ? record.value.originalId : null
      return {
        cause: transferId,
        type: 'transfer.completed',
        at: completedAt,
        users: [...new Set(entries.map(({ userId }) => userId).filter(isUser))],
        dataFor: userId => ({
          transferId,
          reference: referenceOf(transferId),
          transferType: type,
          fromWalletId,
          toWalletId,
          amount: formatAmount(amountMinor, currency),
          currency,
          originalId,
          linked,
          entries: entriesFor(entries, userId),
          requestedAt: timeOf(requestedAt),
          completedAt: timeOf(completedAt),
        }),
      }
    }
    case 'pennywire.ledger.TransferRejected': {
      const { transferId, type, userId, fromWalletId, toWalletId, amountMinor, currency, code, detail } =
        record.value
      const { rejectedAt, requestedAt, originalId } = record.value
      return {
        cause: transferId,
        type: 'transfer.rejected',
        at: rejectedAt,
        users: [userId],
        dataFor: () => ({
          transferId,
          reference: referenceOf(transferId),
          transferType: type,
          fromWalletId,
          toWalletId,
          amount: formatAmount(amountMinor, currency),
          currency,
          originalId,
          code,
          detail,
          requestedAt: timeOf(requestedAt),
          rejectedAt: timeOf(rejectedAt),
        }),
      }
    }
    case 'pennywire.ledger.HoldPlaced': {
      const { transferId, type, userId, toUserId, fromWalletId, toWalletId, amountMinor, currency } =
        record.value
      const { placedAt, holdUntil } = record.value
      return {
        cause: transferId,
        type: 'hold.placed',
        at: placedAt,
        users: [...new Set([userId, toUserId].filter(isUser))],
        dataFor: viewer => ({
          holdId: transferId,
          reference: referenceOf(transferId),
          transferType: type,
          fromWalletId,
          toWalletId,
          amount: formatAmount(amountMinor, currency),
          currency,
          wallet: viewer === null || viewer === userId ? balanceOf(record.value) : null,
          placedAt: timeOf(placedAt),
          expiresAt: holdUntil === null ? null : timeOf(holdUntil),
        }),
      }
    }
    case 'pennywire.ledger.HoldEnded': {
      const {
        commandId,
        holdId,
        type,
        reason,
        userId,
        toUserId,
        fromWalletId,
        toWalletId,
        amountMinor,
        currency,
      } = record.value
      const { endedAt } = record.value
      return {
        cause: commandId,
        type: 'hold.ended',
        at: endedAt,
        users: [...new Set([userId, toUserId].filter(isUser))],
        dataFor: viewer => ({
          holdId,
          reference: referenceOf(holdId),
          transferType: type,
          reason,
          fromWalletId,
          toWalletId,
          amount: formatAmount(amountMinor, currency),
          currency,
          wallet: viewer === null || viewer === userId ? balanceOf(record.value) : null,
          endedAt: timeOf(endedAt),
        }),
      }
    }
    case 'pennywire.ledger.WalletOpened': {
      const { commandId, walletId, userId, currency, code, openedAt } = record.value
      return ofWallet('wallet.opened', commandId, userId, openedAt, { walletId, currency, code })
    }
    case 'pennywire.ledger.WalletFrozen': {
      const { commandId, walletId, ownerId, source, frozenAt } = record.value
      return ofWallet('wallet.frozen', commandId, ownerId, frozenAt, { walletId, source })
    }
    case 'pennywire.ledger.WalletUnfrozen': {
      const { commandId, walletId, ownerId, source, unfrozenAt } = record.value
      return ofWallet('wallet.unfrozen', commandId, ownerId, unfrozenAt, { walletId, source })
    }
    case 'pennywire.ledger.WalletClosed': {
      const { commandId, walletId, userId, currency, closedAt } = record.value
      return ofWallet('wallet.closed', commandId, userId, closedAt, { walletId, currency })
    }
    case 'pennywire.ledger.LimitChanged': {
      const { commandId, walletId, ownerId, action, source, changedAt } = record.value
      return ofWallet('wallet.limits_changed', commandId, ownerId, changedAt, { walletId, action, source })
    }
    // A label is the text of a person, and a refusal is the answer to a request.
    case 'pennywire.ledger.WalletRenamed':
    case 'pennywire.ledger.CommandRefused':
      return undefined
    default:
      return unknownRecord(record)
  }
}

const ofWallet = (
  type: WebhookEventType,
  cause: string,
  ownerId: string,
  at: number,
  data: object,
): WebhookEvent => ({
  cause,
  type,
  at,
  users: [ownerId],
  dataFor: () => ({ ...data, at: timeOf(at) }),
})

/** The body that goes to an endpoint, as Standard Webhooks has it: type, timestamp, data. */
export const payloadOf = ({ type, at, dataFor }: WebhookEvent, userId: string | null): string =>
  JSON.stringify({ type, timestamp: timeOf(at), data: dataFor(userId) })
