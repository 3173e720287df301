// The rows that an event adds to the books, from the event alone: the ledger writes these when it decides, and
// catch-up and rebuild write them again from ledger.events.
import { createHash } from 'node:crypto'
import type { LedgerEvent, Records, WalletOpened } from '@pennywire/contracts/schemas.ts'
import type { Earlier, EntryRow, HoldEnd, HoldRow, JournalRow, ReversalRow, TransferRow } from './store.ts'

export type Place = Pick<JournalRow, 'partition' | 'seq'>

type Completed = Records['pennywire.ledger.TransferCompleted']
type Reversed = Records['pennywire.ledger.TransferReversed']
type Rejected = Records['pennywire.ledger.TransferRejected']
type HoldPlaced = Records['pennywire.ledger.HoldPlaced']

/** The code of a refusal under an id whose outcome is another request's: that one's outcome stands. */
export const REUSED_CODE = 'IDEMPOTENCY_KEY_REUSED'

/**
 * The fingerprint of a command whose event does not contain it, because an older version wrote the event. Every
 * request under the command's id counts as the same one.
 */
const UNKNOWN_FINGERPRINT: Buffer = Buffer.alloc(0)
/** Whether a request with this fingerprint is another one than that which has the outcome. */
export const isOtherRequest = (outcome: { fingerprint: Buffer }, fingerprint: Buffer): boolean =>
  outcome.fingerprint.length > 0 && !outcome.fingerprint.equals(fingerprint)

/** The fingerprint of a request to open a wallet, which carries none. */
export const openFingerprint = ({
  walletId,
  userId,
  currency,
}: Pick<WalletOpened, 'walletId' | 'userId' | 'currency'>): Buffer =>
  createHash('sha256').update(`${walletId} ${userId} ${currency}`).digest().subarray(0, 16)

/** The fields that the rows of all transfers share. */
type Recorded = {
  transferId: string
  type: string
  userId: string
  amountMinor: bigint
  currency: string
  fingerprint: Buffer
  requestedAt: number
  note: Buffer | null
  metadata: Buffer | null
  originalId?: string | null
}

const transferRow = (transfer: Recorded, decidedAt: number, { partition, seq }: Place) =>
  ({
    id: transfer.transferId,
    type: transfer.type,
    status: 'completed' as const,
    userId: transfer.userId,
    fromSequence: null,
    toSequence: null,
    amount: transfer.amountMinor,
    currency: transfer.currency,
    fingerprint: transfer.fingerprint,
    note: transfer.note,
    metadata: transfer.metadata,
    requestedAt: new Date(transfer.requestedAt),
    decidedAt: new Date(decidedAt),
    rejectionCode: null,
    rejectionDetail: null,
    rejectionLimit: null,
    rejectionUsed: null,
    originalId: transfer.originalId ?? null,
    linkedTo: null as string | null,
    partition,
    seq,
  }) satisfies Omit<TransferRow, 'fromWallet' | 'toWallet'>

/** The movements of an event, each a completed transfer with its two entries: its own, and those linked to it. */
export const movementRows = (
  event: Recorded & Pick<Completed, 'entries' | 'linked' | 'completedAt'>,
  place: Place,
): { transfers: TransferRow[]; entries: EntryRow[] } => {
  const { linked, entries } = event
  const own = transferRow(event, event.completedAt, place)
  const ofLinked = () => ({ ...own, linkedTo: own.id, note: null, metadata: null, originalId: null })
  const rows: { transfers: TransferRow[]; entries: EntryRow[] } = { transfers: [], entries: [] }
  for (const [index, { transferId, type }] of [event, ...linked].entries()) {
    const [from, to] = [entries[2 * index]!, entries[2 * index + 1]!]
    for (const { walletId, sequence, amountMinor: amount, balanceAfterMinor: balanceAfter } of [from, to])
      rows.entries.push({ walletId, sequence, transferId, amount, balanceAfter })
    rows.transfers.push({
      ...(index === 0 ? own : ofLinked()),
      id: transferId,
      type,
      fromWallet: from.walletId,
      fromSequence: from.sequence,
      toWallet: to.walletId,
      toSequence: to.sequence,
      amount: to.amountMinor,
      currency: to.currency,
    })
  }
  return rows
}

/** A reversal's movements: as those of a transfer, without metadata. */
export const reversalRows = (
  event: Reversed,
  place: Place,
): { transfers: TransferRow[]; entries: EntryRow[]; reversal: ReversalRow } => ({
  ...movementRows({ ...event, metadata: null }, place),
  reversal: { originalId: event.originalId, transferId: event.transferId, amount: event.amountMinor },
})

export const rejectionRow = (event: Rejected, place: Place): TransferRow => ({
  ...transferRow(event, event.rejectedAt, place),
  status: 'rejected',
  fromWallet: event.fromWalletId,
  toWallet: event.toWalletId,
  rejectionCode: event.code,
  rejectionDetail: event.detail,
  rejectionLimit: event.limitMinor,
  rejectionUsed: event.usedMinor,
})

export const holdRow = (event: HoldPlaced): HoldRow => ({
  id: event.transferId,
  type: event.type === 'withdrawal' ? 'withdrawal' : 'hold',
  status: 'active',
  userId: event.userId,
  walletId: event.fromWalletId,
  toWalletId: event.toWalletId,
  amount: event.amountMinor,
  currency: event.currency,
  placedMs: event.placedAt,
  untilMs: event.holdUntil,
  fingerprint: event.fingerprint,
  note: event.note,
  metadata: event.metadata,
  requestedAt: new Date(event.requestedAt),
})

/** How a hold ends by this event; undefined if the event ends none. */
export const holdEndOf = (event: LedgerEvent): HoldEnd | undefined => {
  if (event.type === 'pennywire.ledger.HoldEnded') {
    const { holdId: id, reason, commandId, endedAt } = event.value
    return {
      ...{ id, status: reason === 'expired' ? 'expired' : 'voided', captured: 0n },
      ...{ commandId, endedAt: new Date(endedAt) },
    }
  }
  if (event.type !== 'pennywire.ledger.TransferCompleted' || event.value.commandId === null) return undefined
  const { transferId: id, commandId, amountMinor: captured, completedAt } = event.value
  return { id, status: 'captured', captured, commandId, endedAt: new Date(completedAt) }
}

/**
 * The outcome that an event records, by the id of its command. Undefined for the refusal of another request under an
 * id that has an outcome.
 */
export const outcomeOf = (event: LedgerEvent, place: Place): Earlier | undefined => {
  const known = (id: string, fingerprint: Buffer | null): Earlier => ({
    ...{ id, fingerprint: fingerprint ?? UNKNOWN_FINGERPRINT },
    ...{ partition: place.partition, seq: place.seq },
  })
  switch (event.type) {
    case 'pennywire.ledger.TransferCompleted': {
      const { commandId, commandFingerprint, transferId, fingerprint } = event.value
      return commandId === null ? known(transferId, fingerprint) : known(commandId, commandFingerprint)
    }
    case 'pennywire.ledger.TransferReversed':
    case 'pennywire.ledger.TransferRejected':
    case 'pennywire.ledger.HoldPlaced':
      return known(event.value.transferId, event.value.fingerprint)
    case 'pennywire.ledger.WalletOpened':
      return known(event.value.commandId, openFingerprint(event.value))
    case 'pennywire.ledger.CommandRefused':
      return event.value.code === REUSED_CODE
        ? undefined
        : known(event.value.commandId, event.value.fingerprint)
    default:
      return known(event.value.commandId, event.value.commandFingerprint)
  }
}
