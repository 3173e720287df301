// For tests: wallets, and commands on them.
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type {
  HoldCaptureRequested,
  HoldVoidRequested,
  ReversalRequested,
  TransferRequested,
} from '@pennywire/contracts/schemas.ts'
import {
  holdCaptureRequested,
  holdVoidRequested,
  reversalRequested,
  transferRequested,
} from '@pennywire/contracts/test-records.ts'
import type { Circumstances, Hold, Original, Wallet } from './decide.ts'
import { type Limits, NO_LIMITS, NOTHING_USED } from './limits.ts'

/** Noon, in the middle of a month. */
export const NOW = Date.UTC(2026, 4, 15, 12)

export const wallet = (over: Partial<Wallet> = {}): Wallet => ({
  id: 'wallet-a',
  userId: 'alice',
  currency: 'USD',
  status: 'active',
  freezeSource: null,
  balance: 100n,
  held: 0n,
  sequence: 1,
  tier: 'unverified',
  usage: NOTHING_USED,
  ownLimits: [],
  ...over,
})

export const bobs = (over: Partial<Wallet> = {}) =>
  wallet({ id: 'wallet-b', userId: 'bob', balance: 0n, sequence: 0, ...over })

/** A system wallet: the outside world, or suspense. */
export const system = (over: Partial<Wallet> = {}) =>
  wallet({ id: 'external', userId: null, balance: 0n, sequence: 0, ...over })

/** The first of the system wallet at `key` and its successors that has room for the amount; opens one if none has. */
export const withRoom = (
  wallets: Pick<Map<string, Wallet>, 'get' | 'set'>,
  key: string,
  amount: bigint,
): Wallet => {
  const first = wallets.get(key)!
  for (let successor = 0; ; successor++) {
    const suffix = successor === 0 ? '' : `:${successor}`
    const wallet = wallets.get(key + suffix) ?? system({ id: first.id + suffix, currency: first.currency })
    wallets.set(key + suffix, wallet)
    if (wallet.balance + amount <= MAX_MINOR && wallet.balance - amount >= -MAX_MINOR) return wallet
  }
}

/** Circumstances with these limits, or with none. */
export const circumstances = (limits: Partial<Limits> = {}, nowMs = NOW): Circumstances => {
  const all = () => ({ ...NO_LIMITS, ...limits })
  return { nowMs, defaults: { unverified: all, verified: all } }
}

const fields = { fingerprint: Buffer.alloc(16), requestedAt: NOW }

export const request = (over: Partial<TransferRequested> = {}): TransferRequested =>
  transferRequested({
    ...{
      ...fields,
      transferId: 'transfer-1',
      userId: 'alice',
      fromWalletId: 'wallet-a',
      toWalletId: 'wallet-b',
    },
    ...{ expiresAt: NOW, authenticatedAt: NOW },
    ...over,
  })

const ofHold = { ...fields, holdId: 'hold-1', walletId: 'wallet-a', toWalletId: 'wallet-b', userId: 'bob' }

/** A hold of Alice's whole balance, for Bob. */
export const hold = (over: Partial<Hold> = {}): Hold => ({
  id: 'hold-1',
  type: 'hold',
  status: 'active',
  userId: 'alice',
  walletId: 'wallet-a',
  toWalletId: 'wallet-b',
  amount: 100n,
  currency: 'USD',
  placedMs: NOW,
  untilMs: NOW,
  ...over,
})

export const capture = (over: Partial<HoldCaptureRequested> = {}): HoldCaptureRequested =>
  holdCaptureRequested({ ...ofHold, commandId: 'capture-1', ...over })

export const voidHold = (over: Partial<HoldVoidRequested> = {}): HoldVoidRequested =>
  holdVoidRequested({ ...ofHold, commandId: 'void-1', ...over })

/** A completed transfer from Alice to Bob. */
export const original = (over: Partial<Original> = {}): Original => ({
  id: 'transfer-1',
  type: 'transfer',
  status: 'completed',
  fromWalletId: 'wallet-a',
  toWalletId: 'wallet-b',
  amount: 100n,
  currency: 'USD',
  reversed: 0n,
  ...over,
})

export const reversal = (over: Partial<ReversalRequested> = {}): ReversalRequested =>
  reversalRequested({
    ...{ ...fields, transferId: 'reversal-1', originalId: 'transfer-1', userId: 'staff-member' },
    ...{ fromWalletId: 'wallet-b', toWalletId: 'wallet-a' },
    ...over,
  })
