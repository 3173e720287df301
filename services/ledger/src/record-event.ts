// What an event changes: the wallets of the batch in memory, and the rows that are written with it.
import { suspenseWalletId } from '@pennywire/contracts/ids.ts'
import type { LedgerEventName } from '@pennywire/contracts/schemas.ts'
import { type Accepted, type Original, post, type Wallet } from '@pennywire/rules/decide.ts'
import type { BatchState } from './batch-state.ts'
import type { DecidedAs } from './commands/handler.ts'
import { entriesOf } from './commands/transfer-events.ts'
import type { HoldEnd, HoldRow, JournalRow, StatusRow, TransferRow } from './store.ts'

type Place = Pick<JournalRow, 'partition' | 'seq'>

/** Applies a decided event to the batch, which stands at `place` in the journal. */
export const recordEvent = <Name extends LedgerEventName>(
  state: BatchState,
  decided: DecidedAs<Name>,
  place: Place,
): void => RECORDERS[decided.type](state, decided, place)

/** By event. One without a row does not compile. */
const RECORDERS: {
  [Name in LedgerEventName]: (state: BatchState, decided: DecidedAs<Name>, place: Place) => void
} = {
  'pennywire.ledger.TransferCompleted': (state, { value, movement, hold }, place) => {
    const { commandId, amountMinor, currency } = value
    const { toWallet } = recordMovement(state, { ...value, originalId: null }, movement, place)
    if (toWallet === suspenseWalletId(currency, place.partition)) state.counts.suspense++
    if (hold) endHold(state, hold, 'captured', amountMinor, commandId!)
  },
  'pennywire.ledger.TransferReversed': (state, { value, movement, original }, place) => {
    const { transferId, originalId, amountMinor, currency, reversedMinor } = value
    const { toWallet } = recordMovement(state, { ...value, metadata: null }, movement, place)
    if (toWallet === suspenseWalletId(currency, place.partition)) state.counts.suspense++
    original.reversed = reversedMinor
    state.writes.reversals.push({ originalId, transferId, amount: amountMinor })
  },
  'pennywire.ledger.TransferRejected': (state, { value }, place) => {
    const { fromWalletId, toWalletId, code, detail, limitMinor, usedMinor } = value
    state.writes.transfers.push({
      ...transferRow(state, value, place),
      status: 'rejected',
      fromWallet: fromWalletId,
      toWallet: toWalletId,
      rejectionCode: code,
      rejectionDetail: detail,
      rejectionLimit: limitMinor,
      rejectionUsed: usedMinor,
    })
    noteOriginal(state, { ...value, status: 'rejected' })
    state.counts.rejected++
  },
  'pennywire.ledger.HoldPlaced': (state, { value, movement }) => {
    applyMovement(state, movement)
    const hold: HoldRow = {
      id: value.transferId,
      type: value.type === 'withdrawal' ? 'withdrawal' : 'hold',
      status: 'active',
      userId: value.userId,
      walletId: value.fromWalletId,
      toWalletId: value.toWalletId,
      amount: value.amountMinor,
      currency: value.currency,
      placedMs: value.placedAt,
      untilMs: value.holdUntil,
      fingerprint: value.fingerprint,
      note: value.note,
      metadata: value.metadata,
      requestedAt: new Date(value.requestedAt),
    }
    state.writes.holds.push({ ...hold })
    state.holds.set(hold.id, hold)
    state.counts.held++
  },
  'pennywire.ledger.HoldEnded': (state, { value, movement, hold }) => {
    applyMovement(state, movement)
    endHold(state, hold, value.reason === 'expired' ? 'expired' : 'voided', 0n, value.commandId)
    state.counts.released++
  },
  'pennywire.ledger.WalletOpened': (state, { value, tier, usage, ...opened }) => {
    const { walletId: id, userId, code, currency } = value
    const ownLimits = opened.ownLimits.map(limits => ({ ...limits, walletId: id }))
    state.writes.opened.push({ id, userId, code, currency, tier, usage, openedAt: state.now })
    state.writes.limits.push(...ownLimits)
    state.usersWallets.push({ id, userId, currency, status: 'active', tier, usage })
    // Later commands of the batch find it.
    const unused = { balance: 0n, held: 0n, sequence: 0, status: 'active', freezeSource: null } as const
    state.wallets.set(id, { id, userId, currency, tier, usage, ownLimits, ...unused })
    state.counts.opened++
  },
  'pennywire.ledger.WalletFrozen': (state, { value, freezeSource }) => {
    const { walletId, reason } = value
    changeStatus(state, walletId, { status: 'frozen', freezeSource, reason, closedAt: null })
  },
  'pennywire.ledger.WalletUnfrozen': (state, { value: { walletId } }) => {
    changeStatus(state, walletId, { status: 'active', freezeSource: null, reason: null, closedAt: null })
  },
  'pennywire.ledger.WalletClosed': (state, { value: { walletId } }) => {
    const change = { status: 'closed', freezeSource: null, reason: null, closedAt: state.now } as const
    const { tier, usage, ownLimits } = changeStatus(state, walletId, change)
    // The wallet that replaces it in this very batch goes on with what it has become in it.
    const own = state.usersWallets.find(({ id }) => id === walletId)
    if (!own) return
    Object.assign(own, { status: 'closed', tier, usage })
    state.inheritable = [
      ...state.inheritable.filter(limits => limits.walletId !== walletId),
      ...ownLimits.map(limits => ({ ...limits, walletId })),
    ]
  },
  'pennywire.ledger.WalletRenamed': (state, { value: { walletId: id, label } }) => {
    const { writes } = state
    writes.labels = [...writes.labels.filter(row => row.id !== id), { id, label }]
    state.counts.changed++
  },
  'pennywire.ledger.LimitChanged': (state, { value: { walletId }, limits, tier }) => {
    const { writes } = state
    const wallet = state.wallets.get(walletId)!
    if (tier !== null) {
      wallet.tier = tier
      writes.tiers = [...writes.tiers.filter(row => row.id !== walletId), { id: walletId, tier }]
    }
    if (limits !== null) {
      const isOther = (other: { action: string; source: string }) =>
        other.action !== limits.action || other.source !== limits.source
      wallet.ownLimits = [...wallet.ownLimits.filter(isOther), limits]
      writes.limits = [
        ...writes.limits.filter(row => row.walletId !== walletId || isOther(row)),
        { walletId, ...limits },
      ]
    }
    state.counts.changed++
  },
  'pennywire.ledger.CommandRefused': state => {
    state.counts.refused++
  },
}

/** What the rows of a transfer and of a reversal have in common. */
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
  originalId: string | null
}

/** Posts a movement with entries and writes it as a completed transfer. */
const recordMovement = (
  state: BatchState,
  transfer: Recorded,
  movement: Accepted,
  place: Place,
): { toWallet: string } => {
  const entries = entriesOf(movement)
  applyMovement(state, movement)
  const [from, to] = movement.postings
  for (const entry of entries) {
    state.writes.entries.push({
      walletId: entry.walletId,
      sequence: entry.sequence,
      transferId: transfer.transferId,
      amount: entry.amountMinor,
      balanceAfter: entry.balanceAfterMinor,
    })
  }
  const [fromWallet, toWallet] = [from!.wallet.id, to!.wallet.id]
  state.writes.transfers.push({
    ...transferRow(state, transfer, place),
    fromWallet,
    fromSequence: from!.wallet.sequence,
    toWallet,
    toSequence: to!.wallet.sequence,
  })
  noteOriginal(state, {
    ...transfer,
    status: 'completed',
    fromWalletId: fromWallet,
    toWalletId: toWallet,
  })
  state.counts.completed++
  return { toWallet }
}

/** Applies a movement to the wallets in memory and notes which changed. */
const applyMovement = (state: BatchState, movement: Accepted) => {
  post(movement, state.now.getTime())
  for (const { wallet } of movement.postings) state.changed.set(wallet.id, wallet)
  for (const touched of [movement.held, movement.counted]) {
    if (touched) state.changed.set(touched.wallet.id, touched.wallet)
  }
}

/** A reversal later in this very batch finds its original. */
const noteOriginal = (
  state: BatchState,
  transfer: Pick<Recorded, 'transferId' | 'type' | 'amountMinor' | 'currency'> &
    Pick<Original, 'status' | 'fromWalletId' | 'toWalletId'>,
) => {
  const { transferId: id, type, status, fromWalletId, toWalletId, amountMinor: amount, currency } = transfer
  if (!state.wantedOriginals.has(id)) return
  state.originals.set(id, { id, type, status, fromWalletId, toWalletId, amount, currency, reversed: 0n })
}

const endHold = (
  state: BatchState,
  hold: HoldRow,
  status: HoldEnd['status'],
  captured: bigint,
  commandId: string,
) => {
  hold.status = status
  state.writes.holdEnds.push({ id: hold.id, status, captured, commandId, endedAt: state.now })
}

const changeStatus = (state: BatchState, walletId: string, change: Omit<StatusRow, 'id'>): Wallet => {
  const wallet = state.wallets.get(walletId)!
  wallet.status = change.status
  wallet.freezeSource = change.freezeSource
  const { writes } = state
  writes.statuses = [...writes.statuses.filter(row => row.id !== walletId), { id: walletId, ...change }]
  state.counts.changed++
  return wallet
}

const transferRow = (state: BatchState, transfer: Recorded, { partition, seq }: Place) =>
  ({
    id: transfer.transferId,
    type: transfer.type,
    status: 'completed',
    userId: transfer.userId,
    fromSequence: null,
    toSequence: null,
    amount: transfer.amountMinor,
    currency: transfer.currency,
    fingerprint: transfer.fingerprint,
    note: transfer.note,
    metadata: transfer.metadata,
    requestedAt: new Date(transfer.requestedAt),
    decidedAt: state.now,
    rejectionCode: null,
    rejectionDetail: null,
    rejectionLimit: null,
    rejectionUsed: null,
    originalId: transfer.originalId,
    partition,
    seq,
  }) satisfies Omit<TransferRow, 'fromWallet' | 'toWallet'>
