type Wallet = {
  /** The next number to come: everything from the first one seen up to here has come. */
  next: number
  /** Numbers that came before those in front of them. */
  early: Set<number>
  /** The greatest number that is known to be there: others than its own event told of it. */
  reached: number
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
  /** An event told how many entries a wallet has: they are there, and come if they have not yet. */
  reached: (walletId: string, sequence: number) => void
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
export const createSequenceWatch = (deps: {
  /** Milliseconds since some moment, which never step back. */
  clock: { elapsed: () => number }
  graceMs: number
  caughtUp: () => boolean
}): SequenceWatch => {
  const { clock, graceMs, caughtUp } = deps
  const wallets = new Map<string, Wallet>()
  let warm = false
  let askAtMs = clock.elapsed() + graceMs

  const isWarm = (): boolean => {
    if (!warm && clock.elapsed() >= askAtMs) {
      askAtMs = clock.elapsed() + ASK_EVERY_MS
      warm = caughtUp()
    }
    return warm
  }

  const lacks = ({ next, early, reached }: Wallet) => early.size > 0 || reached >= next

  /** The wallet, where something of it may be missing up to this number. */
  const watched = (walletId: string, sequence: number): Wallet | undefined => {
    const watching = isWarm()
    const wallet = wallets.get(walletId)
    if (!wallet) {
      wallets.set(walletId, { next: sequence + 1, early: new Set(), reached: sequence, missingSinceMs: 0 })
      for (const oldest of wallets.keys()) {
        if (wallets.size <= MAX_WALLETS) break
        wallets.delete(oldest)
      }
      return undefined
    }
    // To the end of the line of those that are let go.
    wallets.delete(walletId)
    wallets.set(walletId, wallet)
    if (sequence < wallet.next) return undefined
    if (watching) return wallet
    wallet.next = sequence + 1
    return undefined
  }

  return {
    reached: (walletId, sequence) => {
      const wallet = watched(walletId, sequence)
      if (!wallet) return
      if (!lacks(wallet)) wallet.missingSinceMs = clock.elapsed()
      wallet.reached = Math.max(wallet.reached, sequence)
    },
    saw: (walletId, sequence) => {
      const wallet = watched(walletId, sequence)
      if (!wallet) return
      if (sequence > wallet.next) {
        if (!lacks(wallet)) wallet.missingSinceMs = clock.elapsed()
        wallet.early.add(sequence)
        return
      }
      wallet.next++
      while (wallet.early.delete(wallet.next)) wallet.next++
      // A number that is missing behind it has its own time.
      wallet.missingSinceMs = clock.elapsed()
    },
    holes: () => {
      const holes: Array<{ walletId: string; missing: number }> = []
      for (const [walletId, wallet] of wallets)
        if (lacks(wallet) && clock.elapsed() - wallet.missingSinceMs >= graceMs)
          holes.push({ walletId, missing: wallet.next })
      return holes
    },
    reset: () => {
      wallets.clear()
      warm = false
      askAtMs = clock.elapsed() + graceMs
    },
  }
}
