// For tests: records with a value in every field, so that a test says only what it is about.
import { createHash, randomUUID } from 'node:crypto'
import type {
  HoldCaptureRequested,
  HoldVoidRequested,
  LimitChangeRequested,
  ReversalRequested,
  TransferCompleted,
  TransferRequested,
  TransferReversed,
  WalletCloseRequested,
  WalletFreezeRequested,
  WalletOpenRequested,
} from './schemas.ts'

const NOT_SAID = ['transferId', 'commandId', 'requestedAt']

/**
 * With a fingerprint over all that it says, where it has none: a repeat under its id has the same one, other content
 * another.
 */
const signed = <Fields extends { fingerprint?: Buffer }>(
  fields: Fields,
): Fields & { fingerprint: Buffer } => ({
  ...fields,
  fingerprint: fields.fingerprint ?? fingerprintOf(fields),
})
const fingerprintOf = (fields: object): Buffer =>
  createHash('sha256')
    .update(
      JSON.stringify(fields, (name, value) =>
        NOT_SAID.includes(name) ? undefined : typeof value === 'bigint' ? `${value}n` : value,
      ),
    )
    .digest()
    .subarray(0, 16)

/** A transfer of 100 minor units; of another type by `over`. */
export const transferRequested = (over: Partial<TransferRequested>): TransferRequested =>
  signed({
    transferId: randomUUID(),
    type: 'transfer',
    userId: randomUUID(),
    fromWalletId: null,
    toWalletId: null,
    amountMinor: 100n,
    currency: 'USD',
    requestedAt: 1_000,
    expiresAt: null,
    authenticatedBy: 'step_up',
    authenticatedAt: 1_000,
    note: null,
    metadata: null,
    holdUntil: null,
    ...over,
  })

/** Of all that is held, by its recipient. */
export const holdCaptureRequested = (
  over: Partial<HoldCaptureRequested> & Pick<HoldCaptureRequested, 'holdId' | 'walletId'>,
): HoldCaptureRequested =>
  signed({
    commandId: randomUUID(),
    toWalletId: null,
    userId: randomUUID(),
    source: 'user',
    amountMinor: null,
    currency: 'USD',
    requestedAt: 1_000,
    ...over,
  })

/** By its recipient. */
export const holdVoidRequested = (
  over: Partial<HoldVoidRequested> & Pick<HoldVoidRequested, 'holdId' | 'walletId'>,
): HoldVoidRequested =>
  signed({
    commandId: randomUUID(),
    toWalletId: null,
    userId: randomUUID(),
    source: 'user',
    requestedAt: 1_000,
    ...over,
  })

/** Of 100 minor units, by staff. */
export const reversalRequested = (
  over: Partial<ReversalRequested> & Pick<ReversalRequested, 'originalId'>,
): ReversalRequested =>
  signed({
    transferId: randomUUID(),
    userId: randomUUID(),
    source: 'staff',
    fromWalletId: null,
    toWalletId: null,
    amountMinor: 100n,
    currency: 'USD',
    requestedAt: 1_000,
    note: null,
    ...over,
  })

/** Under the wallet's id. */
export const walletOpenRequested = (
  over: Partial<WalletOpenRequested> & Pick<WalletOpenRequested, 'walletId' | 'userId'>,
): WalletOpenRequested => ({
  commandId: over.walletId,
  currency: 'USD',
  requestedAt: 1_000,
  tier: 'unverified',
  ...over,
})

/** By the wallet's owner; lifts a freeze as well (`WalletUnfreezeRequested` says the same). */
export const walletFreezeRequested = (
  over: Partial<WalletFreezeRequested> & Pick<WalletFreezeRequested, 'walletId' | 'userId'>,
): WalletFreezeRequested =>
  signed({ commandId: randomUUID(), source: 'self', reason: null, requestedAt: 1_000, ...over })

export const walletCloseRequested = (
  over: Partial<WalletCloseRequested> & Pick<WalletCloseRequested, 'walletId' | 'userId'>,
): WalletCloseRequested => signed({ commandId: randomUUID(), requestedAt: 1_000, ...over })

/** No limit of the owner's own on sending. */
export const limitChangeRequested = (
  over: Partial<LimitChangeRequested> & Pick<LimitChangeRequested, 'walletId' | 'userId'>,
): LimitChangeRequested =>
  signed({
    commandId: randomUUID(),
    source: 'self',
    action: 'send',
    perTransactionMinor: null,
    dailyMinor: null,
    monthlyMinor: null,
    tier: null,
    requestedAt: 1_000,
    ...over,
  })

/** The two entries of a movement, the first of each wallet. */
export const entriesOf = (
  from: { walletId: string; userId: string | null },
  to: { walletId: string; userId: string | null },
  amountMinor: bigint,
): TransferCompleted['entries'] =>
  [
    { ...from, amountMinor: -amountMinor },
    { ...to, amountMinor },
  ].map(entry => ({ ...entry, currency: 'USD', balanceAfterMinor: 0n, sequence: 1 }))

/** Of 100 minor units. */
export const transferCompleted = (
  over: Partial<TransferCompleted> & Pick<TransferCompleted, 'entries'>,
): TransferCompleted => ({
  transferId: randomUUID(),
  type: 'transfer',
  userId: randomUUID(),
  fromWalletId: null,
  toWalletId: null,
  amountMinor: 100n,
  currency: 'USD',
  fingerprint: Buffer.alloc(16),
  requestedAt: 1_000,
  completedAt: 1_001,
  note: null,
  metadata: null,
  linked: [],
  commandId: null,
  holdMinor: null,
  ...over,
})

/** Of the whole of a transfer of 100 minor units, by staff. */
export const transferReversed = (
  over: Partial<TransferReversed> & Pick<TransferReversed, 'originalId' | 'entries'>,
): TransferReversed => ({
  transferId: randomUUID(),
  type: 'reversal',
  userId: randomUUID(),
  source: 'staff',
  fromWalletId: null,
  toWalletId: null,
  amountMinor: 100n,
  currency: 'USD',
  originalAmountMinor: 100n,
  reversedMinor: 100n,
  fingerprint: Buffer.alloc(16),
  requestedAt: 1_000,
  completedAt: 1_001,
  note: null,
  linked: [],
  ...over,
})
