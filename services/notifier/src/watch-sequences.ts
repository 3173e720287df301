import type { Clock } from '@pennywire/runtime/clock.ts'

type Wallet = {
  /** The next number to come: everything from the first one seen up to here has come. */
  next: number
  /** Numbers that came before those in front of them. */
  early: Set<number>
  /** Since when something has been missing. */
  missingSinceMs: number
}

/** Wallets that are watched at once; of more, those not heard of for the longest are let go. */
const MAX_WALLETS = 50_000
/** How often it is asked whether all is caught up, until it is. */
const ASK_EVERY_MS = 1_000

export type SequenceWatch = {
  /** An entry was seen in ledger.events: again, in order, or before others that come by other partitions. */
  saw: (walletId: string, sequence: number) => void
  /** Wallets with a number that has been missing for longer than `graceMs`: a loss, once caught up (O2). */
  holes: () => Array<{ walletId: string; missing: number }>
  /** Begins anew, after partitions came or went. */
  reset: () => void
}

/**
 * What anybody who only reads ledger.events can tell of its completeness: the entries of a wallet count from 1 without
 * a gap. A recipient's entries come by many partitions and may overtake each other, so a gap counts only after a while.
 * After a start some partitions are further than others, and what is missing may have been handled before: nothing is
 * held against a wallet until all were caught up once.
 */
export const createSequenceWatch = (parts: {
  clock: Clock
  graceMs: number
  caughtUp: () => boolean
}): SequenceWatch => {
  const { clock, graceMs, caughtUp } = parts
  const wallets = new Map<string, Wallet>()
  let warm = false
  let askAtMs = clock.now() + graceMs

  const isWarm = (): boolean => {
    if (!warm && clock.now() >= askAtMs) {
      askAtMs = clock.now() + ASK_EVERY_MS
      warm = caughtUp()
    }
    return warm
  }

  return {
    saw: (walletId, sequence) => {
      const watching = isWarm()
      const wallet = wallets.get(walletId)
      if (!wallet) {
        wallets.set(walletId, { next: sequence + 1, early: new Set(), missingSinceMs: 0 })
        for (const oldest of wallets.keys()) {
          if (wallets.size <= MAX_WALLETS) break
          wallets.delete(oldest)
        }
        return
      }
      // To the end of the line of those that are let go.
      wallets.delete(walletId)
      wallets.set(walletId, wallet)
      if (sequence < wallet.next) return
      if (!watching) {
        wallet.next = sequence + 1
        return
      }
      if (sequence > wallet.next) {
        if (wallet.early.size === 0) wallet.missingSinceMs = clock.now()
        wallet.early.add(sequence)
        return
      }
      wallet.next++
      while (wallet.early.delete(wallet.next)) wallet.next++
      // Whatever is missing behind it has its own time.
      wallet.missingSinceMs = clock.now()
    },
    holes: () => {
      const holes: Array<{ walletId: string; missing: number }> = []
      for (const [walletId, { next, early, missingSinceMs }] of wallets)
        if (early.size > 0 && clock.now() - missingSinceMs >= graceMs) holes.push({ walletId, missing: next })
      return holes
    },
    reset: () => {
      wallets.clear()
      warm = false
      askAtMs = clock.now() + graceMs
    },
  }
}
