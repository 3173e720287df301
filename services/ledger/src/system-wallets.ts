// The system wallets of a partition: the outside world and suspense in each currency. Only the owner of the partition
// reads and writes them.
import { type SystemWalletKind, systemWalletId } from '@pennywire/contracts/ids.ts'
import type { Wallet } from '@pennywire/rules/decide.ts'
import type { SystemWallet } from './store.ts'

type Of = { kind: SystemWalletKind; currency: string; partition: number }

/** A system wallet's row: `external:USD:03`, and `external:USD:03:1` for its first successor. */
export const systemWalletOf = ({ kind, currency, partition }: Of, successor = 0): SystemWallet => ({
  id: systemWalletId(kind, currency, partition, successor),
  system: [kind, currency, String(partition).padStart(2, '0'), ...(successor === 0 ? [] : [successor])].join(
    ':',
  ),
  currency,
})

/** A decision needs a system wallet that the batch has not locked: lock it, or open it, and decide again. */
export class MissingSystemWallet extends Error {
  readonly wallet: SystemWallet

  constructor(wallet: SystemWallet) {
    super(`${wallet.system} is not locked`)
    this.wallet = wallet
  }
}

/**
 * The first of a system wallet and its successors whose balance can change by this amount. A wallet of the outside world
 * nets what comes and goes in its partition, which may flow one way for ever: a full one is succeeded, because a fact,
 * such as a confirmed deposit, is never refused. An empty one has room for any change up to the bound.
 */
export const findSystemWallet = (
  wallets: ReadonlyMap<string, Wallet>,
  of: Of,
  change: bigint,
  bound: bigint,
): Wallet => {
  if (change > bound || change < -bound) throw new Error(`no system wallet can hold ${change}`)
  for (let successor = 0; ; successor++) {
    const candidate = systemWalletOf(of, successor)
    const wallet = wallets.get(candidate.id)
    if (!wallet) throw new MissingSystemWallet(candidate)
    const after = wallet.balance + change
    if (after <= bound && after >= -bound) return wallet
  }
}

/** Whether a wallet of the batch is the suspense wallet of this currency and partition, or a successor of it. */
export const isSuspense = (
  wallets: ReadonlyMap<string, Wallet>,
  { currency, partition }: Omit<Of, 'kind'>,
  walletId: string,
): boolean => {
  // Deriving an id costs a hash: done for system wallets alone.
  if (wallets.get(walletId)?.userId !== null) return false
  for (let successor = 0; ; successor++) {
    const id = systemWalletId('suspense', currency, partition, successor)
    if (id === walletId) return true
    if (!wallets.has(id)) return false
  }
}
