import { decideLimitChange } from '@pennywire/rules/wallet-rules.ts'
import { byCommandId, commandRefused, type Handler } from './handler.ts'

/** Sets a wallet's own limits of one action, or its tier. */
export const limitChangeRequested: Handler<'pennywire.ledger.LimitChangeRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, walletId }) => ({ ids: [commandId], wallets: [walletId], limited: [walletId] }),
  decide: (state, command) => {
    const { commandId, walletId, userId, source } = command
    const wallet = state.wallets.get(walletId)
    const decision = decideLimitChange(command, wallet, state.limitDefaults)
    if (decision.outcome === 'refused') return decision
    const { limits, tier } = decision
    const before = wallet!.ownLimits.find(
      own => own.action === limits?.action && own.source === limits.source,
    )
    return {
      type: 'pennywire.ledger.LimitChanged',
      value: {
        commandId,
        walletId,
        userId,
        ownerId: wallet!.userId!,
        source,
        action: limits?.action ?? '',
        perTransactionMinor: limits?.perTransaction ?? null,
        dailyMinor: limits?.daily ?? null,
        monthlyMinor: limits?.monthly ?? null,
        tier,
        sequence: wallet!.sequence,
        changedAt: state.now.getTime(),
        commandFingerprint: command.fingerprint,
        previousPerTransactionMinor: before?.perTransaction ?? null,
        previousDailyMinor: before?.daily ?? null,
        previousMonthlyMinor: before?.monthly ?? null,
        previousTier: tier === null ? null : wallet!.tier,
      },
      subject: commandId,
      limits,
      tier,
    }
  },
  refuse: commandRefused('pennywire.ledger.LimitChangeRequested'),
}
