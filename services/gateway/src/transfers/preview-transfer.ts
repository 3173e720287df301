import { formatAmount } from '@pennywire/contracts/money.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import { decideTransfer, type Wallet } from '@pennywire/rules/decide.ts'
import { NOTHING_USED } from '@pennywire/rules/limits.ts'
import type { TransferLookup, TransferLookupKeys, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { type ActionLimits, viewLimits } from '../limits/limit-view.ts'
import type { LimitedWallet } from '../limits/sql/limit-reads.ts'
import {
  ownWalletMissing,
  recipientDeactivated,
  recipientMissing,
  type TransferInput,
} from './request-transfer.ts'
import { limitMembers } from './transfer-view.ts'

/** The outcome that a transfer would have now. Amounts are decimal strings. */
export type Preview = {
  outcome: 'completed' | 'rejected'
  code: string | null
  detail: string | null
  amount: string
  currency: string
  /** The sender's balance and available amount after the transfer. */
  balanceAfter: string
  availableAfter: string
  /** The sender's limits before the transfer. */
  limits: Pick<ActionLimits, 'perTransaction' | 'daily' | 'monthly'>
  /** Set if a limit refuses the transfer. */
  limit?: string
  used?: string
  requested?: string
}

export type PreviewInput = Pick<
  TransferInput,
  'fromWalletId' | 'toWalletId' | 'toWalletCode' | 'amount' | 'currency'
> & { userId: string }

export type PreviewDeps = {
  lookUp: (question: TransferLookupKeys) => Promise<TransferLookup>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  readLimited: (walletId: string) => Promise<LimitedWallet | undefined>
  /** Whether the user's account is deactivated. */
  isDeactivated: (userId: string) => Promise<boolean>
}

/** No request has this id: the rules read no other requests. */
const NO_ID = '00000000-0000-8000-8000-000000000000'

/**
 * Previews a transfer, by the ledger's own rules on its published data: nothing is sent, held or counted, and the real
 * request may have another outcome. Throws each refusal that the real request would get before it reached the ledger.
 */
export const createPreviewTransfer =
  (deps: PreviewDeps) =>
  async (input: PreviewInput): Promise<Preview> => {
    const { userId, amount, currency } = input
    const { sender, recipient } = await deps.lookUp({ ...input, transferId: NO_ID })
    if (!sender) throw ownWalletMissing(input)
    if (!recipient) throw recipientMissing(input)
    const [wallets, limited, unavailable] = await Promise.all([
      deps.readWallets([sender.id, recipient.id]),
      deps.readLimited(sender.id),
      recipient.userId !== null && deps.isDeactivated(recipient.userId),
    ])
    if (unavailable) throw recipientDeactivated()
    if (!limited) throw new Error(`wallet ${sender.id} has no limits: has the ledger written its defaults?`)
    const from = ruledWallet(wallets.find(({ id }) => id === sender.id)!, limited)
    const to = sender.id === recipient.id ? from : ruledWallet(wallets.find(({ id }) => id === recipient.id)!)

    const request: TransferRequested = {
      transferId: NO_ID,
      type: 'transfer',
      userId,
      fromWalletId: from.id,
      toWalletId: to.id,
      amountMinor: amount,
      currency,
      fingerprint: Buffer.alloc(16),
      requestedAt: limited.nowMs,
      expiresAt: null,
      authenticatedBy: 'none',
      authenticatedAt: null,
      note: null,
      metadata: null,
      holdUntil: null,
    }
    const decision = decideTransfer(request, from, to, {
      nowMs: limited.nowMs,
      // The rules read only the sender's defaults.
      defaults: { unverified: () => limited.defaults, verified: () => limited.defaults },
    })
    const moved = decision.outcome === 'completed' ? amount : 0n
    const { perTransaction, daily, monthly } = viewLimits(limited, 'send')
    return {
      outcome: decision.outcome,
      code: decision.outcome === 'rejected' ? decision.code : null,
      detail: decision.outcome === 'rejected' ? decision.detail : null,
      amount: formatAmount(amount, currency),
      currency,
      balanceAfter: formatAmount(from.balance - moved, from.currency),
      availableAfter: formatAmount(from.balance - from.held - moved, from.currency),
      limits: { perTransaction, daily, monthly },
      ...(decision.outcome === 'rejected' && decision.breach
        ? limitMembers(decision.breach, amount, currency)
        : {}),
    }
  }

/** A wallet in the form of the rules. Limits are not read for a wallet that only receives. */
const ruledWallet = (
  facts: WalletFacts,
  limited: Pick<LimitedWallet, 'tier' | 'usage' | 'own'> = {
    tier: 'unverified',
    usage: NOTHING_USED,
    own: [],
  },
): Wallet => ({
  id: facts.id,
  userId: facts.userId,
  currency: facts.currency,
  status: facts.status,
  freezeSource: facts.freezeSource,
  balance: facts.balance,
  held: facts.balance - facts.available,
  sequence: 0,
  tier: limited.tier,
  usage: limited.usage,
  ownLimits: limited.own,
})
