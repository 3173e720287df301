import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { drawWalletCode } from '@pennywire/contracts/wallet-code.ts'
import { isTier, NOTHING_USED } from '@pennywire/rules/limits.ts'
import {
  decideClose,
  decideFreeze,
  decideRename,
  decideUnfreeze,
  decideWalletOpen,
} from '@pennywire/rules/wallet-rules.ts'
import { openFingerprint } from '../event-rows.ts'
import { byCommandId, commandRefused, type Handler } from './handler.ts'

const walletOpenRequested: Handler<'pennywire.ledger.WalletOpenRequested'> = {
  identify: request => ({ id: request.commandId, fingerprint: openFingerprint(request) }),
  // `walletId` is read too, so that a wallet that already has this id is found.
  reads: ({ commandId, userId, walletId }) => ({ ids: [commandId], openers: [userId], wallets: [walletId] }),
  decide: (state, request) => {
    const { commandId, walletId, userId, currency } = request
    const before = state.usersWallets.filter(
      wallet => wallet.userId === userId && wallet.currency === currency,
    )
    const hasOpen = state.wallets.has(walletId) || before.some(({ status }) => status !== 'closed')
    const decision = decideWalletOpen(request, hasOpen)
    if (decision.outcome === 'refused') return decision
    // A user's next wallet in a currency inherits the last one's tier, usage and limits. The last wallet is found by
    // its derived id: after a clock stepped back between two openings, `opened_at` gives another order.
    const lastId = walletIdOf(userId, currency, before.length - 1)
    const last = before.find(({ id }) => id === lastId) ?? before.at(-1)
    const tier =
      last?.tier === 'verified' || !isTier(request.tier) ? (last?.tier ?? 'unverified') : request.tier
    return {
      type: 'pennywire.ledger.WalletOpened',
      value: {
        commandId,
        walletId,
        // A code that is in use violates the unique key; the batch is rerun and draws another.
        code: drawWalletCode(),
        userId,
        currency,
        sequence: 0,
        openedAt: state.now.getTime(),
        tier,
      },
      subject: commandId,
      tier,
      usage: last?.usage ?? NOTHING_USED,
      ownLimits: state.inheritable.filter(limits => limits.walletId === last?.id),
    }
  },
  refuse: commandRefused('pennywire.ledger.WalletOpenRequested'),
}

const walletFreezeRequested: Handler<'pennywire.ledger.WalletFreezeRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, walletId }) => ({ ids: [commandId], wallets: [walletId] }),
  decide: (state, command) => {
    const { commandId, walletId, userId, reason } = command
    const wallet = state.wallets.get(walletId)
    const decision = decideFreeze(command, wallet)
    if (decision.outcome === 'refused') return decision
    return {
      type: 'pennywire.ledger.WalletFrozen',
      value: {
        commandId,
        walletId,
        userId,
        ownerId: wallet!.userId!,
        source: decision.source,
        reason,
        sequence: wallet!.sequence,
        frozenAt: state.now.getTime(),
        previousSource: wallet!.freezeSource,
        commandFingerprint: command.fingerprint,
      },
      subject: commandId,
      freezeSource: decision.source,
    }
  },
  refuse: commandRefused('pennywire.ledger.WalletFreezeRequested'),
}

const walletUnfreezeRequested: Handler<'pennywire.ledger.WalletUnfreezeRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, walletId }) => ({ ids: [commandId], wallets: [walletId] }),
  decide: (state, command) => {
    const { commandId, walletId, userId, source, reason } = command
    const wallet = state.wallets.get(walletId)
    const decision = decideUnfreeze(command, wallet)
    if (decision.outcome === 'refused') return decision
    return {
      type: 'pennywire.ledger.WalletUnfrozen',
      value: {
        commandId,
        walletId,
        userId,
        ownerId: wallet!.userId!,
        source,
        reason,
        sequence: wallet!.sequence,
        unfrozenAt: state.now.getTime(),
        previousSource: wallet!.freezeSource,
        commandFingerprint: command.fingerprint,
      },
      subject: commandId,
    }
  },
  refuse: commandRefused('pennywire.ledger.WalletUnfreezeRequested'),
}

const walletCloseRequested: Handler<'pennywire.ledger.WalletCloseRequested'> = {
  identify: byCommandId,
  // Own limits are read because the user's next wallet in the currency inherits them.
  reads: ({ commandId, walletId }) => ({ ids: [commandId], wallets: [walletId], limited: [walletId] }),
  decide: (state, command) => {
    const { commandId, walletId } = command
    const wallet = state.wallets.get(walletId)
    const decision = decideClose(command, wallet)
    if (decision.outcome === 'refused') return decision
    return {
      type: 'pennywire.ledger.WalletClosed',
      value: {
        commandId,
        walletId,
        userId: wallet!.userId!,
        currency: wallet!.currency,
        sequence: wallet!.sequence,
        closedAt: state.now.getTime(),
        commandFingerprint: command.fingerprint,
      },
      subject: commandId,
    }
  },
  refuse: commandRefused('pennywire.ledger.WalletCloseRequested'),
}

const walletRenameRequested: Handler<'pennywire.ledger.WalletRenameRequested'> = {
  identify: byCommandId,
  reads: ({ commandId, walletId }) => ({ ids: [commandId], wallets: [walletId] }),
  decide: (state, command) => {
    const { commandId, walletId, userId, label, fingerprint: commandFingerprint } = command
    const wallet = state.wallets.get(walletId)
    const decision = decideRename(command, wallet)
    if (decision.outcome === 'refused') return decision
    const renamedAt = state.now.getTime()
    return {
      type: 'pennywire.ledger.WalletRenamed',
      value: {
        commandId,
        walletId,
        userId,
        label,
        sequence: wallet!.sequence,
        renamedAt,
        commandFingerprint,
      },
      subject: commandId,
    }
  },
  refuse: commandRefused('pennywire.ledger.WalletRenameRequested'),
}

export const WALLET_HANDLERS = {
  'pennywire.ledger.WalletOpenRequested': walletOpenRequested,
  'pennywire.ledger.WalletFreezeRequested': walletFreezeRequested,
  'pennywire.ledger.WalletUnfreezeRequested': walletUnfreezeRequested,
  'pennywire.ledger.WalletCloseRequested': walletCloseRequested,
  'pennywire.ledger.WalletRenameRequested': walletRenameRequested,
}
