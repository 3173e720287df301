// For tests: records with a value in every field, so that a test sets only the fields it is about.
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
 * Adds a fingerprint over the record's content if it has none: a repeat under the same id has the same fingerprint,
 * other content has another.
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

/** A capture of the whole hold by its recipient. */
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

/** A void by the hold's recipient. */
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

/** A reversal of 100 minor units by staff. */
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

/** The command's id is the wallet's id. */
export const walletOpenRequested = (
  over: Partial<WalletOpenRequested> & Pick<WalletOpenRequested, 'walletId' | 'userId'>,
): WalletOpenRequested => ({
  commandId: over.walletId,
  currency: 'USD',
  requestedAt: 1_000,
  tier: 'unverified',
  ...over,
})

/** A freeze by the wallet's owner; also serves as an unfreeze: `WalletUnfreezeRequested` has the same fields. */
export const walletFreezeRequested = (
  over: Partial<WalletFreezeRequested> & Pick<WalletFreezeRequested, 'walletId' | 'userId'>,
): WalletFreezeRequested =>
  signed({ commandId: randomUUID(), source: 'self', reason: null, requestedAt: 1_000, ...over })

export const walletCloseRequested = (
  over: Partial<WalletCloseRequested> & Pick<WalletCloseRequested, 'walletId' | 'userId'>,
): WalletCloseRequested => signed({ commandId: randomUUID(), requestedAt: 1_000, ...over })

/** The owner sets no own limits on sending. */
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
    keeps: [],
    requestedAt: 1_000,
    ...over,
  })

/** The two entries of a movement; each is its wallet's first entry. */
export const entriesOf = (
  from: { walletId: string; userId: string | null },
  to: { walletId: string; userId: string | null },
  amountMinor: bigint,
): TransferCompleted['entries'] =>
  [
    { ...from, amountMinor: -amountMinor },
    { ...to, amountMinor },
  ].map(entry => ({ ...entry, currency: 'USD', balanceAfterMinor: 0n, sequence: 1 }))

/** A completed transfer of 100 minor units. */
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
  commandFingerprint: null,
  ...over,
})

/** A reversal by staff of a whole transfer of 100 minor units. */
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
