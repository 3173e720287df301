import { displacedDepositIdOf } from '@pennywire/contracts/ids.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import {
  type Decision,
  decideDeposit,
  decideHold,
  decideTransfer,
  decideWithdrawal,
  type Effects,
} from '@pennywire/rules/decide.ts'
import { type BatchState, systemWallets } from '../batch-state.ts'
import { isOtherRequest } from '../event-rows.ts'
import type { At, DecidedAs, Handler } from './handler.ts'
import { transferCompleted, transferRejected } from './transfer-events.ts'

/** Transfers, holds, withdrawals, which begin as holds, and deposits that the provider has confirmed. */
export const transferRequested: Handler<'pennywire.ledger.TransferRequested'> = {
  /** A deposit is a fact: if another request has its id, it is booked under a derived id instead of being refused. */
  identify: ({ transferId, type, fingerprint }, outcomes) => {
    const holder = type === 'deposit' ? outcomes.get(transferId) : undefined
    const isTaken = holder !== undefined && isOtherRequest(holder, fingerprint)
    return { id: isTaken ? displacedDepositIdOf(transferId) : transferId, fingerprint }
  },
  reads: ({ transferId, type, fromWalletId, toWalletId, currency }) => {
    const wallets = [fromWalletId, toWalletId]
    if (type === 'deposit')
      return { ids: [transferId, displacedDepositIdOf(transferId)], wallets, systemCurrency: currency }
    return { ids: [transferId], wallets, ...(fromWalletId === null ? {} : { limited: [fromWalletId] }) }
  },
  decide: (state, command, at) => {
    const decision = decideMovement(state, command, at.partition)
    if (decision.outcome === 'rejected') return decision
    if (decision.movements.length === 0) return holdPlaced(state, command, decision)
    return transferCompleted(state, { ...command, transferId: at.id }, decision)
  },
  refuse: (state, command, { id }, why) => transferRejected(state, { ...command, transferId: id }, why),
}

const decideMovement = (
  state: BatchState,
  request: TransferRequested,
  partition: At['partition'],
): Decision => {
  const wallet = (id: string | null) => (id === null ? undefined : state.wallets.get(id))
  const from = wallet(request.fromWalletId)
  const to = wallet(request.toWalletId)
  const circumstances = { nowMs: state.now.getTime(), defaults: state.limitDefaults }
  switch (request.type) {
    case 'transfer':
      return decideTransfer(request, from, to, circumstances)
    case 'hold':
      return decideHold(request, from, to, circumstances)
    case 'withdrawal':
      return decideWithdrawal(request, from, circumstances)
    case 'deposit': {
      const { outside, suspense } = systemWallets(state, partition, request.currency, -request.amountMinor)
      return decideDeposit(request, outside, to, suspense)
    }
    default:
      throw new Error(`type ${request.type} is not known to this version`)
  }
}

const holdPlaced = (
  state: BatchState,
  request: TransferRequested,
  effects: Effects,
): DecidedAs<'pennywire.ledger.HoldPlaced'> => {
  const { transferId, type, userId, toWalletId, amountMinor, currency, fingerprint } = request
  const { wallet } = effects.held!
  return {
    type: 'pennywire.ledger.HoldPlaced',
    value: {
      transferId,
      type,
      userId,
      fromWalletId: wallet.id,
      toWalletId,
      amountMinor,
      currency,
      fingerprint,
      requestedAt: request.requestedAt,
      placedAt: state.now.getTime(),
      // A withdrawal has no time limit: the provider's result ends it.
      holdUntil: type === 'withdrawal' ? null : request.holdUntil,
      balanceMinor: wallet.balance,
      heldMinor: wallet.held + amountMinor,
      sequence: wallet.sequence,
      note: request.note,
      metadata: request.metadata,
      toUserId: state.wallets.get(toWalletId ?? '')?.userId ?? null,
    },
    subject: transferId,
    effects,
  }
}
