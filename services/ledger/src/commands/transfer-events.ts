// The events of money that moved or was refused, which several commands end in.
import type { Accepted, Original } from '@pennywire/rules/decide.ts'
import type { BatchState } from '../batch-state.ts'
import type { HoldRow } from '../store.ts'
import type { DecidedAs, Refused } from './handler.ts'

/** A transfer's own fields, whichever command asked for it. */
export type TransferDetails = {
  transferId: string
  type: string
  userId: string
  fromWalletId: string | null
  toWalletId: string | null
  amountMinor: bigint
  currency: string
  fingerprint: Buffer
  requestedAt: number
  note: Buffer | null
  metadata: Buffer | null
}

/** The entries that a movement makes, as its event tells them. */
export const entriesOf = ({ postings }: Accepted) =>
  postings.map(({ wallet, amount }) => ({
    walletId: wallet.id,
    userId: wallet.userId,
    currency: wallet.currency,
    amountMinor: amount,
    balanceAfterMinor: wallet.balance + amount,
    sequence: wallet.sequence + 1,
  }))

/** `captured`: the hold that became this transfer, by which command. */
export const transferCompleted = (
  state: BatchState,
  details: TransferDetails,
  movement: Accepted,
  captured?: { commandId: string; hold: HoldRow },
): DecidedAs<'pennywire.ledger.TransferCompleted'> => ({
  type: 'pennywire.ledger.TransferCompleted',
  value: {
    transferId: details.transferId,
    type: details.type,
    userId: details.userId,
    fromWalletId: details.fromWalletId,
    toWalletId: details.toWalletId,
    amountMinor: details.amountMinor,
    currency: details.currency,
    fingerprint: details.fingerprint,
    requestedAt: details.requestedAt,
    note: details.note,
    metadata: details.metadata,
    completedAt: state.now.getTime(),
    entries: entriesOf(movement),
    commandId: captured?.commandId ?? null,
    holdMinor: captured?.hold.amount ?? null,
  },
  subject: captured?.commandId ?? details.transferId,
  movement,
  ...(captured ? { hold: captured.hold } : {}),
})

/** `originalId`: of a reversal, the transfer that it was to give back. */
export const transferRejected = (
  state: BatchState,
  details: TransferDetails,
  { code, detail, breach }: Refused,
  originalId: Original['id'] | null = null,
): DecidedAs<'pennywire.ledger.TransferRejected'> => ({
  type: 'pennywire.ledger.TransferRejected',
  value: {
    transferId: details.transferId,
    type: details.type,
    userId: details.userId,
    fromWalletId: details.fromWalletId,
    toWalletId: details.toWalletId,
    amountMinor: details.amountMinor,
    currency: details.currency,
    fingerprint: details.fingerprint,
    requestedAt: details.requestedAt,
    rejectedAt: state.now.getTime(),
    code,
    detail,
    limitMinor: breach?.limit ?? null,
    usedMinor: breach?.used ?? null,
    note: details.note,
    metadata: details.metadata,
    originalId,
  },
  subject: details.transferId,
})
