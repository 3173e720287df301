// Applies an event to the batch: the wallets in memory, and the rows that are written with the event.
import { suspenseWalletId } from '@pennywire/contracts/ids.ts'
import type { LedgerEventName, Records } from '@pennywire/contracts/schemas.ts'
import { type Effects, post, type Wallet } from '@pennywire/rules/decide.ts'
import type { BatchState } from './batch-state.ts'
import type { DecidedAs } from './commands/handler.ts'
import type { HoldEnd, HoldRow, JournalRow, StatusRow, TransferRow } from './store.ts'

type Place = Pick<JournalRow, 'partition' | 'seq'>

/** Applies a decided event to the batch. `place` is the event's position in the journal. */
export const recordEvent = <Name extends LedgerEventName>(
  state: BatchState,
  decided: DecidedAs<Name>,
  place: Place,
): void => RECORDERS[decided.type](state, decided, place)

/** One recorder per event type. A type without a recorder does not compile. */
const RECORDERS: {
  [Name in LedgerEventName]: (state: BatchState, decided: DecidedAs<Name>, place: Place) => void
} = {
  'pennywire.ledger.TransferCompleted': (state, { value, effects, hold }, place) => {
    const { commandId, amountMinor } = value
    recordMovements(state, value, effects, place)
    if (hold) endHold(state, hold, 'captured', amountMinor, commandId!)
  },
  'pennywire.ledger.TransferReversed': (state, { value, effects, original }, place) => {
    const { transferId, originalId, amountMinor, reversedMinor } = value
    recordMovements(state, { ...value, metadata: null }, effects, place)
    original.reversed = reversedMinor
    state.writes.reversals.push({ originalId, transferId, amount: amountMinor })
  },
  'pennywire.ledger.TransferRejected': (state, { value }, place) => {
    const { fromWalletId, toWalletId, code, detail, limitMinor, usedMinor } = value
    const row: TransferRow = {
      ...transferRow(state, value, place),
      status: 'rejected',
      fromWallet: fromWalletId,
      toWallet: toWalletId,
      rejectionCode: code,
      rejectionDetail: detail,
      rejectionLimit: limitMinor,
      rejectionUsed: usedMinor,
    }
    state.writes.transfers.push(row)
    noteOriginal(state, row)
    state.counts.rejected++
  },
  'pennywire.ledger.HoldPlaced': (state, { value, effects }) => {
    applyEffects(state, effects)
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
  'pennywire.ledger.HoldEnded': (state, { value, effects, hold }) => {
    applyEffects(state, effects)
    endHold(state, hold, value.reason === 'expired' ? 'expired' : 'voided', 0n, value.commandId)
    state.counts.released++
  },
  'pennywire.ledger.WalletOpened': (state, { value, tier, usage, ...opened }) => {
    const { walletId: id, userId, code, currency } = value
    const ownLimits = opened.ownLimits.map(limits => ({ ...limits, walletId: id }))
    state.writes.opened.push({ id, userId, code, currency, tier, usage, openedAt: state.now })
    state.writes.limits.push(...ownLimits)
    state.usersWallets.push({ id, userId, currency, status: 'active', tier, usage })
    // Later commands of the batch find the wallet.
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
    // A wallet that replaces it in this batch inherits its current tier, usage and limits.
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

/** The fields that the rows of a transfer and of a reversal share. */
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

/** Posts a decision's movements and writes each as a completed transfer: the decision's own, and those linked to it. */
const recordMovements = (
  state: BatchState,
  event: Recorded & Pick<Records['pennywire.ledger.TransferCompleted'], 'entries' | 'linked'>,
  effects: Effects,
  place: Place,
): void => {
  applyEffects(state, effects)
  const { linked, entries } = event
  const own = transferRow(state, event, place)
  const ofLinked = () => ({ ...own, linkedTo: own.id, note: null, metadata: null, originalId: null })
  for (const [index, { transferId, type }] of [event, ...linked].entries()) {
    const [from, to] = [entries[2 * index]!, entries[2 * index + 1]!]
    for (const { walletId, sequence, amountMinor: amount, balanceAfterMinor: balanceAfter } of [from, to])
      state.writes.entries.push({ walletId, sequence, transferId, amount, balanceAfter })
    const row: TransferRow = {
      ...(index === 0 ? own : ofLinked()),
      id: transferId,
      type,
      fromWallet: from.walletId,
      fromSequence: from.sequence,
      toWallet: to.walletId,
      toSequence: to.sequence,
      amount: to.amountMinor,
      currency: to.currency,
    }
    state.writes.transfers.push(row)
    noteOriginal(state, row)
    // Deriving the id costs a hash: it is done for system wallets alone.
    const isSystem = state.wallets.get(to.walletId)?.userId === null
    if (isSystem && to.walletId === suspenseWalletId(row.currency, place.partition)) state.counts.suspense++
  }
  state.counts.completed++
}

/** Applies a decision to the wallets in memory and notes which changed. */
const applyEffects = (state: BatchState, effects: Effects) => {
  post(effects, state.now.getTime())
  const { movements, held, counted } = effects
  const touched = [
    ...movements.flatMap(({ postings }) => postings),
    ...(held ? [held] : []),
    ...(counted ? [counted] : []),
  ]
  for (const { wallet } of touched) state.changed.set(wallet.id, wallet)
}

/** Lets a reversal later in this batch find its original. */
const noteOriginal = (state: BatchState, row: TransferRow) => {
  if (!state.wantedOriginals.has(row.id)) return
  const { id, type, status, fromWallet: fromWalletId, toWallet: toWalletId, amount, currency } = row
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
    decidedAt: state.now,
    rejectionCode: null,
    rejectionDetail: null,
    rejectionLimit: null,
    rejectionUsed: null,
    originalId: transfer.originalId ?? null,
    linkedTo: null as string | null,
    partition,
    seq,
  }) satisfies Omit<TransferRow, 'fromWallet' | 'toWallet'>
