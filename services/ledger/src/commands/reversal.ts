import type { ReversalRequested } from '@pennywire/contracts/schemas.ts'
import { decideReversal } from '@pennywire/rules/decide.ts'
import { systemWallets } from '../batch-state.ts'
import type { Handler } from './handler.ts'
import { entriesOf, linkedOf, type TransferDetails, transferRejected } from './transfer-events.ts'

const detailsOf = (request: ReversalRequested): TransferDetails => ({
  ...request,
  type: 'reversal',
  metadata: null,
})

/** Reverses a completed transfer, in full or in part. */
export const reversalRequested: Handler<'pennywire.ledger.ReversalRequested'> = {
  identify: ({ transferId, fingerprint }) => ({ id: transferId, fingerprint }),
  reads: ({ transferId, originalId, fromWalletId, toWalletId, currency }) => ({
    ids: [transferId],
    originals: [originalId],
    wallets: [fromWalletId, toWalletId],
    systemCurrency: currency,
  }),
  decide: (state, request, { partition }) => {
    const { transferId, originalId, currency, amountMinor } = request
    const original = state.originals.get(originalId)
    // A payout that came back comes from the outside world; a reversed deposit goes there.
    const change = original?.type === 'withdrawal' ? -amountMinor : amountMinor
    const decision = decideReversal(request, original, {
      payer: state.wallets.get(request.fromWalletId ?? ''),
      payee: state.wallets.get(request.toWalletId ?? ''),
      ...systemWallets(state, partition, currency, change),
    })
    if (decision.outcome === 'rejected') return decision
    return {
      type: 'pennywire.ledger.TransferReversed',
      value: {
        transferId,
        originalId,
        type: 'reversal',
        userId: request.userId,
        source: request.source,
        fromWalletId: request.fromWalletId,
        toWalletId: request.toWalletId,
        amountMinor,
        currency,
        originalAmountMinor: original!.amount,
        reversedMinor: original!.reversed + amountMinor,
        fingerprint: request.fingerprint,
        requestedAt: request.requestedAt,
        completedAt: state.now.getTime(),
        note: request.note,
        entries: entriesOf(decision),
        linked: linkedOf(transferId, decision),
      },
      subject: transferId,
      effects: decision,
      original: original!,
    }
  },
  refuse: (state, request, _at, why) => transferRejected(state, detailsOf(request), why, request.originalId),
}
