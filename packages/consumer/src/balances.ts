// Balances and completeness by `sequence`, in memory. For a database of your own: `keepBalances` of `startConsumer`.

/** What is used of an entry. */
export type Entry = { walletId: string; currency: string; balanceAfterMinor: bigint; sequence: number }

export type Balance = {
  walletId: string
  currency: string
  balance: bigint
  /** The greatest sequence that was seen. */
  sequence: number
}

/** What a wallet lacks: so many of its first `upTo` entries, from `from` on. */
export type Gap = { walletId: string; missing: number; upTo: number; from: number }

type Wallet = {
  newest: Entry
  /** Every sequence from 1 to this one was seen. */
  through: number
  /** Seen beyond `through`: entries that a wallet receives may overtake each other. */
  ahead: Set<number>
}

export type Balances = {
  /** Tells what an entry is: the newest of its wallet, one that others overtook, or one that was there. */
  add: (entry: Entry) => 'newer' | 'older' | 'repeat'
  /** By wallet id. */
  all: () => Balance[]
  /**
   * The wallets that lack entries: up to their greatest sequence, or up to those of `until`, which a reader that has
   * reached the end of the topic waits for.
   */
  gaps: (until?: ReadonlyMap<string, number>) => Gap[]
}

export const createBalances = (): Balances => {
  const wallets = new Map<string, Wallet>()
  const byId = () => [...wallets].sort(([a], [b]) => (a < b ? -1 : 1))

  return {
    add: entry => {
      const { walletId, sequence } = entry
      let wallet = wallets.get(walletId)
      if (!wallet) {
        wallet = { newest: { ...entry, sequence: 0 }, through: 0, ahead: new Set() }
        wallets.set(walletId, wallet)
      }
      if (sequence <= wallet.through || wallet.ahead.has(sequence)) return 'repeat'
      wallet.ahead.add(sequence)
      while (wallet.ahead.delete(wallet.through + 1)) wallet.through++
      // The greater sequence wins.
      if (sequence <= wallet.newest.sequence) return 'older'
      wallet.newest = entry
      return 'newer'
    },
    all: () =>
      byId().map(([walletId, { newest }]) => ({
        walletId,
        currency: newest.currency,
        balance: newest.balanceAfterMinor,
        sequence: newest.sequence,
      })),
    gaps: until =>
      byId().flatMap(([walletId, { newest, through, ahead }]) => {
        const upTo = until ? (until.get(walletId) ?? 0) : newest.sequence
        if (upTo <= through) return []
        const missing = upTo - through - [...ahead].filter(sequence => sequence <= upTo).length
        return missing > 0 ? [{ walletId, missing, upTo, from: through + 1 }] : []
      }),
  }
}
