// The guarantees for a consumer that only reads the topic (design, section 2): order, duplicates, completeness. The
// judge takes each event as it is delivered and returns the violations. Nothing here reads a topic, so that a test can
// inject false events.
import { createHash } from 'node:crypto'

type Entry = { walletId: string; sequence: number; balanceAfterMinor: bigint }

/** The facts in an event: its entries if money moved, and the hold that it places or ends. */
export type Facts = { entries: Entry[]; places?: string; ends?: string }

export type SeenEvent = {
  id: string
  key: string
  /** Its number in the ledger's journal. */
  seq: bigint
  value: Buffer
  /** Called only for new events. */
  facts: () => Promise<Facts> | Facts
}

/** A wallet as stored in the ledger's tables. */
export type Wallet = { id: string; balance: bigint; sequence: bigint }

/** A hold as stored in the ledger's tables. */
export type HoldNow = { id: string; active: boolean }

export type EventJudge = {
  take: (event: SeenEvent) => Promise<void>
  /** The violations since the last call, and all wallets and holds that differ from the events. */
  judge: (wallets: Wallet[], holds: HoldNow[]) => string[]
  events: () => number
  repeats: () => number
}

type WalletSeen = { sequences: Set<number>; greatest: number; balance: bigint }

export const createEventJudge = (): EventJudge => {
  const wallets = new Map<string, WalletSeen>()
  /** By event id: the digest of its content. A repeat must have the same digest. */
  const seen = new Map<string, string>()
  /** By key: the journal number of the last new event. */
  const lastOfKey = new Map<string, bigint>()
  const placed = new Set<string>()
  const ended = new Set<string>()
  let repeats = 0
  let broken: string[] = []

  const keepEntry = ({ walletId, sequence, balanceAfterMinor }: Entry) => {
    const wallet = wallets.get(walletId) ?? { sequences: new Set(), greatest: 0, balance: 0n }
    wallets.set(walletId, wallet)
    if (wallet.sequences.has(sequence)) broken.push(`wallet ${walletId}: sequence ${sequence} in two events`)
    wallet.sequences.add(sequence)
    if (sequence <= wallet.greatest) return
    wallet.greatest = sequence
    wallet.balance = balanceAfterMinor
  }

  const lieOfWallet = ({ id, balance, sequence }: Wallet): string | undefined => {
    const wallet = wallets.get(id)
    const entries = wallet?.sequences.size ?? 0
    const greatest = wallet?.greatest ?? 0
    if (entries !== Number(sequence) || greatest !== Number(sequence))
      return `wallet ${id}: ${entries} entries seen up to sequence ${greatest}, the ledger has ${sequence}`
    if (wallet && wallet.balance !== balance)
      return `wallet ${id}: by its events ${wallet.balance}, by the ledger ${balance}`
    return undefined
  }

  const noteOnce = (holds: Set<string>, id: string | undefined, what: string) => {
    if (id === undefined) return
    if (holds.has(id)) broken.push(`hold ${id} ${what} by two events`)
    holds.add(id)
  }

  const lieOfHold = ({ id, active }: HoldNow): string | undefined => {
    if (!placed.has(id)) return `hold ${id}: no event placed it`
    if (ended.has(id) === !active) return undefined
    return active ? `hold ${id}: active, but an event ended it` : `hold ${id}: ended, but by no event`
  }

  return {
    events: () => seen.size,
    repeats: () => repeats,
    take: async ({ id, key, seq, value, facts }) => {
      const said = createHash('sha256').update(`${key}\0${seq}\0`).update(value).digest('base64')
      const earlier = seen.get(id)
      if (earlier !== undefined) {
        repeats++
        if (earlier !== said) broken.push(`event ${id} came again, changed`)
        return
      }
      seen.set(id, said)
      if (seq <= (lastOfKey.get(key) ?? 0n)) broken.push(`event ${id} of key ${key} comes after a later one`)
      lastOfKey.set(key, seq)
      const { entries, places, ends } = await facts()
      for (const entry of entries) keepEntry(entry)
      noteOnce(placed, places, 'placed')
      noteOnce(ended, ends, 'ended')
    },
    judge: (rows, holds) => {
      const violations = broken
      broken = []
      for (const lie of [...rows.map(lieOfWallet), ...holds.map(lieOfHold)]) if (lie) violations.push(lie)
      return violations
    },
  }
}
