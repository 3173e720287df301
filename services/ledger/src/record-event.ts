// Applies an event to the batch: the wallets in memory, and the rows that are written with the event.
import type { LedgerEventName } from '@pennywire/contracts/schemas.ts'
import { type Effects, post, type Wallet } from '@pennywire/rules/decide.ts'
import type { BatchState } from './batch-state.ts'
import type { DecidedAs } from './commands/handler.ts'
import { holdEndOf, holdRow, movementRows, type Place, rejectionRow, reversalRows } from './event-rows.ts'
import type { EntryRow, HoldEnd, HoldRow, StatusRow, TransferRow } from './store.ts'
import { isSuspense } from './system-wallets.ts'

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
  'pennywire.ledger.TransferCompleted': (state, decided, place) => {
    recordMovements(state, movementRows(decided.value, place), decided.effects)
    if (decided.hold) endHold(state, decided.hold, holdEndOf(decided)!)
  },
  'pennywire.ledger.TransferReversed': (state, { value, effects, original }, place) => {
    const { reversal, ...rows } = reversalRows(value, place)
    recordMovements(state, rows, effects)
    original.reversed = value.reversedMinor
    state.writes.reversals.push(reversal)
  },
  'pennywire.ledger.TransferRejected': (state, { value }, place) => {
    const row = rejectionRow(value, place)
    state.writes.transfers.push(row)
    noteOriginal(state, row)
    state.counts.rejected++
  },
  'pennywire.ledger.HoldPlaced': (state, { value, effects }) => {
    applyEffects(state, effects)
    const hold = holdRow(value)
    state.writes.holds.push({ ...hold })
    state.holds.set(hold.id, hold)
    state.counts.held++
  },
  'pennywire.ledger.HoldEnded': (state, decided) => {
    applyEffects(state, decided.effects)
    endHold(state, decided.hold, holdEndOf(decided)!)
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

/** Posts a decision's movements and writes each as a completed transfer: the decision's own, and those linked to it. */
const recordMovements = (
  state: BatchState,
  { transfers, entries }: { transfers: TransferRow[]; entries: EntryRow[] },
  effects: Effects,
): void => {
  applyEffects(state, effects)
  state.writes.entries.push(...entries)
  for (const row of transfers) {
    state.writes.transfers.push(row)
    noteOriginal(state, row)
    if (row.toWallet !== null && isSuspense(state.wallets, row, row.toWallet)) state.counts.suspense++
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

const endHold = (state: BatchState, hold: HoldRow, end: HoldEnd) => {
  hold.status = end.status
  state.writes.holdEnds.push(end)
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
