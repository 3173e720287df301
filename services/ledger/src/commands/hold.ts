import { decideCapture, decideVoid } from '@pennywire/rules/decide.ts'
import { systemWallets } from '../batch-state.ts'
import { byCommandId, commandRefused, type Handler } from './handler.ts'
import { transferCompleted } from './transfer-events.ts'

/** Ends a hold by moving the held amount, or a part of it. */
export const holdCaptureRequested: Handler<'pennywire.ledger.HoldCaptureRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, holdId, walletId, toWalletId, currency }) => ({
    ids: [commandId],
    holds: [holdId],
    wallets: [walletId, toWalletId],
    ...(toWalletId === null ? { systemCurrency: currency } : {}),
  }),
  decide: (state, command, { partition }) => {
    const { commandId, holdId, currency, toWalletId } = command
    const hold = state.holds.get(holdId)
    const recipient =
      toWalletId === null
        ? systemWallets(state, partition, currency, command.amountMinor ?? hold?.amount ?? 0n).outside
        : state.wallets.get(toWalletId)
    const payer = state.wallets.get(command.walletId)
    const decision = decideCapture(command, hold, payer, recipient, state.now.getTime())
    if (decision.outcome === 'rejected') return decision
    const details = {
      transferId: holdId,
      type: hold!.type === 'withdrawal' ? 'withdrawal' : 'transfer',
      userId: hold!.userId,
      fromWalletId: hold!.walletId,
      toWalletId: hold!.toWalletId,
      amountMinor: decision.movements[0]!.postings[1].amount,
      currency: hold!.currency,
      fingerprint: hold!.fingerprint,
      requestedAt: hold!.requestedAt.getTime(),
      note: hold!.note,
      metadata: hold!.metadata,
    }
    return transferCompleted(state, details, decision, {
      commandId,
      fingerprint: command.fingerprint,
      hold: hold!,
    })
  },
  refuse: commandRefused('pennywire.ledger.HoldCaptureRequested'),
}

/** Ends a hold without a movement: requested by the recipient, by staff, by the provider, or by the timer. */
export const holdVoidRequested: Handler<'pennywire.ledger.HoldVoidRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, holdId, walletId, toWalletId }) => ({
    ids: [commandId],
    holds: [holdId],
    wallets: [walletId, toWalletId],
  }),
  decide: (state, command) => {
    const { commandId, holdId, source } = command
    const hold = state.holds.get(holdId)
    const payer = state.wallets.get(command.walletId)
    const recipient = state.wallets.get(command.toWalletId ?? '')
    const decision = decideVoid(command, hold, payer, recipient, state.now.getTime())
    if (decision.outcome === 'rejected') return decision
    const { wallet, amount } = decision.held!
    return {
      type: 'pennywire.ledger.HoldEnded',
      value: {
        commandId,
        holdId,
        type: hold!.type,
        reason: source === 'timer' ? 'expired' : source === 'provider' ? 'payment_failed' : 'voided',
        userId: hold!.userId,
        fromWalletId: wallet.id,
        toWalletId: hold!.toWalletId,
        amountMinor: hold!.amount,
        currency: hold!.currency,
        balanceMinor: wallet.balance,
        heldMinor: wallet.held + amount,
        sequence: wallet.sequence,
        endedAt: state.now.getTime(),
        toUserId: state.wallets.get(hold!.toWalletId ?? '')?.userId ?? null,
        commandFingerprint: command.fingerprint,
      },
      subject: commandId,
      effects: decision,
      hold: hold!,
    }
  },
  refuse: commandRefused('pennywire.ledger.HoldVoidRequested'),
}
