// The events of completed and rejected transfers, which several commands end in.
import { linkedTransferIdOf } from '@pennywire/contracts/ids.ts'
import type { Effects, Original, Wallet } from '@pennywire/rules/decide.ts'
import type { BatchState } from '../batch-state.ts'
import type { HoldRow } from '../store.ts'
import type { DecidedAs, Refused } from './handler.ts'

/** A transfer's own fields, regardless of the command that requested it. */
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

/** The entries of a decision, as its event contains them: two for each movement, in the order of the movements. */
export const entriesOf = ({ movements }: Effects) => {
  const after = new Map<Wallet, { balance: bigint; sequence: number }>()
  return movements.flatMap(({ postings }) =>
    postings.map(({ wallet, amount }) => {
      const { balance, sequence } = after.get(wallet) ?? wallet
      after.set(wallet, { balance: balance + amount, sequence: sequence + 1 })
      return {
        walletId: wallet.id,
        userId: wallet.userId,
        currency: wallet.currency,
        amountMinor: amount,
        balanceAfterMinor: balance + amount,
        sequence: sequence + 1,
      }
    }),
  )
}

/** The transfers linked to this one: their entries follow its own two. */
export const linkedOf = (transferId: string, { movements: [, ...linked] }: Effects) =>
  linked.map(({ type }, index) => ({ transferId: linkedTransferIdOf(transferId, index + 1), type }))

/** `captured`: the hold that became this transfer, and the command that captured it. */
export const transferCompleted = (
  state: BatchState,
  details: TransferDetails,
  effects: Effects,
  captured?: { commandId: string; fingerprint: Buffer; hold: HoldRow },
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
    entries: entriesOf(effects),
    linked: linkedOf(details.transferId, effects),
    commandId: captured?.commandId ?? null,
    holdMinor: captured?.hold.amount ?? null,
    commandFingerprint: captured?.fingerprint ?? null,
  },
  subject: captured?.commandId ?? details.transferId,
  effects,
  ...(captured ? { hold: captured.hold } : {}),
})

/** `originalId`: of a reversal, the transfer that it was to reverse. */
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
    toUserId: state.wallets.get(details.toWalletId ?? '')?.userId ?? null,
  },
  subject: details.transferId,
})
