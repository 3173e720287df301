// The books as ledger.events tell them: adds events to books that lack them, without deciding a command. Catch-up and
// rebuild share it. Partitions may come in any order, each partition's events in the order of their `seq`.
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { type LedgerEvent, unknownRecord } from '@pennywire/contracts/schemas.ts'
import type { Wallet } from '@pennywire/rules/decide.ts'
import {
  inheritUsage,
  type LimitedAction,
  type Limits,
  mergeUse,
  NOTHING_USED,
  type OwnLimits,
  type Tier,
  type Usage,
  type Use,
} from '@pennywire/rules/limits.ts'
import { holdEndOf, holdRow, movementRows, outcomeOf, rejectionRow, reversalRows } from './event-rows.ts'
import type {
  Earlier,
  EntryRow,
  HoldEnd,
  HoldRow,
  JournalRow,
  LimitRow,
  ReversalRow,
  StatusRow,
  SystemWallet,
  TransferRow,
  UsersWallet,
} from './store.ts'
import { systemWalletOf } from './system-wallets.ts'

/** A decoded event, and its row of the journal. */
export type JournaledEvent = { event: LedgerEvent; row: JournalRow }

/** The rows that events add. They refer to each other by ids alone, so their order does not matter. */
export type ReplayedRows = {
  transfers: TransferRow[]
  entries: EntryRow[]
  holds: HoldRow[]
  holdEnds: HoldEnd[]
  reversals: ReversalRow[]
  commands: Earlier[]
  journal: JournalRow[]
  /** The wallets that these events concern. */
  touched: Set<string>
}

/**
 * When a wallet was changed. Events of one partition are in the order of their `seq`; of several partitions first in
 * the order of the wallet's entries, then of the ledger's clock.
 */
type Moment = { partition: number; seq: bigint; sequence: number; atMs: number }

const isLater = (one: Moment, other: Moment | null): boolean => {
  if (other === null) return true
  if (one.partition === other.partition) return one.seq > other.seq
  return one.sequence === other.sequence ? one.atMs >= other.atMs : one.sequence > other.sequence
}

type Changed<Value> = { value: Value; at: Moment }

/** A wallet as far as the events read so far tell it, on top of the wallet that the books hold. */
export type ReplayedWallet = {
  id: string
  userId: string | null
  currency: string
  /** Whether the books hold its row already. */
  isStored: boolean
  /** Of a system wallet: its name. */
  system: string | null
  /** From its WalletOpened; null if the books hold it, or that event is not read yet. */
  opened: { code: string; tier: Tier | null; openedAt: number } | null
  /** Of a system wallet, when its first event was decided. */
  firstMs: number
  balance: bigint
  sequence: number
  /** The last entry that the books hold, how many entries the events add, and the last entry that any event tells of. */
  storedSequence: number
  added: number
  toldSequence: number
  held: bigint
  usage: Usage
  /** By partition, the latest day under which its events counted: the ledger's clock may have stepped back since. */
  countedDays: Map<number, number>
  status: Changed<Omit<StatusRow, 'id'>> | null
  label: Changed<Buffer | null> | null
  tier: Changed<Tier> | null
  limits: Changed<OwnLimits>[]
}

/** What the end of a hold gives back to the limits of its payer. */
type Returned = { walletId: string; use: Omit<Use, 'countedMs'>; partition: number }

/** What the books hold already. */
export type ReplayBase = {
  findWallets: (ids: string[]) => Promise<ReplayedWallet[]>
  findHolds: (ids: string[]) => Promise<HoldRow[]>
}

export type Replay = {
  /** Adds events, each partition's in order; resolves with the rows that they add. */
  add: (events: JournaledEvent[], base: ReplayBase) => Promise<ReplayedRows>
  /** The wallets that the events concern. */
  wallets: Map<string, ReplayedWallet>
  /** Ends of holds that no event so far has placed, by the hold's id. */
  unmatched: Map<string, Returned>
}

const HOLD_ACTION = (type: string): LimitedAction => (type === 'withdrawal' ? 'withdrawal' : 'send')

const newWallet = (id: string, userId: string | null, currency: string): ReplayedWallet => ({
  ...{ id, userId, currency, isStored: false, system: null, opened: null, firstMs: Number.POSITIVE_INFINITY },
  ...{ balance: 0n, sequence: 0, storedSequence: 0, added: 0, toldSequence: 0 },
  ...{ held: 0n, usage: NOTHING_USED, countedDays: new Map() },
  ...{ status: null, label: null, tier: null, limits: [] },
})

/** A wallet of the books, before the events that they lack. */
export const storedWallet = (wallet: Wallet): ReplayedWallet => ({
  ...newWallet(wallet.id, wallet.userId, wallet.currency),
  ...{ isStored: true, balance: wallet.balance, sequence: wallet.sequence, held: wallet.held },
  storedSequence: wallet.sequence,
  usage: wallet.usage,
})

/** How many successors of a system wallet are looked for: each has taken, or paid, the largest amount there is. */
const MOST_SUCCESSORS = 1_000

/** The name of a system wallet, which only events of its own partition concern. */
const systemNameOf = (id: string, currency: string, partition: number): string => {
  for (let successor = 0; successor <= MOST_SUCCESSORS; successor++) {
    for (const kind of ['external', 'suspense'] as const) {
      const wallet = systemWalletOf({ kind, currency, partition }, successor)
      if (wallet.id === id) return wallet.system
    }
  }
  throw new Error(`wallet ${id} has no user and is no system wallet of partition ${partition} in ${currency}`)
}

/** The wallets and holds that an event concerns, as far as they may be in the books. */
const concernedBy = ({ type, value }: LedgerEvent): { wallets: string[]; hold?: string } => {
  switch (type) {
    case 'pennywire.ledger.TransferCompleted': {
      const wallets = value.entries.map(({ walletId }) => walletId)
      return value.commandId === null ? { wallets } : { wallets, hold: value.transferId }
    }
    case 'pennywire.ledger.TransferReversed':
      return { wallets: value.entries.map(({ walletId }) => walletId) }
    case 'pennywire.ledger.TransferRejected':
    case 'pennywire.ledger.CommandRefused':
      return { wallets: [] }
    case 'pennywire.ledger.HoldPlaced':
      return { wallets: [value.fromWalletId] }
    case 'pennywire.ledger.HoldEnded':
      return { wallets: [value.fromWalletId], hold: value.holdId }
    default:
      return { wallets: [value.walletId] }
  }
}

export const createReplay = (): Replay => {
  const wallets: Replay['wallets'] = new Map()
  const unmatched: Replay['unmatched'] = new Map()

  const walletOf = (id: string, userId: string | null, currency: string): ReplayedWallet => {
    let wallet = wallets.get(id)
    if (!wallet) {
      wallet = newWallet(id, userId, currency)
      wallets.set(id, wallet)
    }
    if (wallet.currency === '') wallet.currency = currency
    wallet.userId ??= userId
    return wallet
  }

  const addEntries = (
    entries: ReadonlyArray<{
      walletId: string
      userId: string | null
      currency: string
      balanceAfterMinor: bigint
      sequence: number
    }>,
    atMs: number,
    partition: number,
  ) => {
    for (const { walletId, userId, currency, balanceAfterMinor, sequence } of entries) {
      const wallet = walletOf(walletId, userId, currency)
      if (userId === null) {
        wallet.system ??= systemNameOf(walletId, currency, partition)
        wallet.firstMs = Math.min(wallet.firstMs, atMs)
      }
      wallet.added++
      if (sequence <= wallet.sequence) continue
      wallet.sequence = sequence
      wallet.balance = balanceAfterMinor
    }
  }

  /** Counts an amount against the wallet's limits, or gives it back to them. */
  const count = (wallet: ReplayedWallet, use: Use, partition: number) => {
    const before = wallet.countedDays.get(partition) ?? (wallet.isStored ? wallet.usage.day : 0)
    const { usage, day } = mergeUse(wallet.usage, use, before)
    wallet.usage = usage
    wallet.countedDays.set(partition, day)
  }

  /** Gives back what the end of a hold frees, as soon as it is known when the hold was counted. */
  const giveBack = (holds: Map<string, HoldRow>, holdId: string, returned: Returned) => {
    const hold = holds.get(holdId)
    if (!hold) {
      unmatched.set(holdId, returned)
      return
    }
    const { walletId, use, partition } = returned
    count(wallets.get(walletId)!, { ...use, countedMs: hold.placedMs }, partition)
  }

  const addOne = (rows: ReplayedRows, holds: Map<string, HoldRow>, { event, row }: JournaledEvent) => {
    const { partition, seq } = row
    rows.journal.push(row)
    const outcome = outcomeOf(event, row)
    if (outcome) rows.commands.push(outcome)
    const end = holdEndOf(event)
    if (end) rows.holdEnds.push(end)
    const momentOf = (sequence: number, atMs: number): Moment => ({ partition, seq, sequence, atMs })
    const tell = (wallet: ReplayedWallet, sequence: number) => {
      wallet.toldSequence = Math.max(wallet.toldSequence, sequence)
    }
    const change = (walletId: string, status: Omit<StatusRow, 'id'>, at: Moment, userId: string) => {
      const wallet = walletOf(walletId, userId, '')
      tell(wallet, at.sequence)
      if (isLater(at, wallet.status?.at ?? null)) wallet.status = { value: status, at }
    }

    switch (event.type) {
      case 'pennywire.ledger.TransferCompleted': {
        const { value } = event
        const { transfers, entries } = movementRows(value, row)
        rows.transfers.push(...transfers)
        rows.entries.push(...entries)
        addEntries(value.entries, value.completedAt, partition)
        const [from, to] = value.entries
        if (end) {
          const payer = wallets.get(from!.walletId)!
          payer.held -= value.holdMinor ?? 0n
          const amount = (value.holdMinor ?? 0n) - value.amountMinor
          const use = { action: HOLD_ACTION(value.type), amount, atMs: value.completedAt }
          giveBack(holds, end.id, { walletId: payer.id, use, partition })
        } else if (value.type === 'deposit' && to!.userId !== null) {
          const use = { action: 'deposit', amount: value.amountMinor, atMs: value.completedAt } as const
          count(wallets.get(to!.walletId)!, use, partition)
        } else if (value.type === 'transfer') {
          const use = { action: 'send', amount: value.amountMinor, atMs: value.completedAt } as const
          count(wallets.get(from!.walletId)!, use, partition)
        }
        return
      }
      case 'pennywire.ledger.TransferReversed': {
        const { transfers, entries, reversal } = reversalRows(event.value, row)
        rows.transfers.push(...transfers)
        rows.entries.push(...entries)
        rows.reversals.push(reversal)
        addEntries(event.value.entries, event.value.completedAt, partition)
        return
      }
      case 'pennywire.ledger.TransferRejected':
        rows.transfers.push(rejectionRow(event.value, row))
        return
      case 'pennywire.ledger.HoldPlaced': {
        const { userId, fromWalletId, currency, type, amountMinor, placedAt } = event.value
        const hold = holdRow(event.value)
        rows.holds.push(hold)
        const wallet = walletOf(fromWalletId, userId, currency)
        wallet.held += amountMinor
        tell(wallet, event.value.sequence)
        count(wallet, { action: HOLD_ACTION(type), amount: amountMinor, atMs: placedAt }, partition)
        const returned = unmatched.get(hold.id)
        if (!returned) return
        unmatched.delete(hold.id)
        giveBack(holds, hold.id, returned)
        return
      }
      case 'pennywire.ledger.HoldEnded': {
        const { userId, fromWalletId, currency, type, amountMinor, endedAt } = event.value
        const wallet = walletOf(fromWalletId, userId, currency)
        wallet.held -= amountMinor
        tell(wallet, event.value.sequence)
        const use = { action: HOLD_ACTION(type), amount: amountMinor, atMs: endedAt }
        giveBack(holds, end!.id, { walletId: wallet.id, use, partition })
        return
      }
      case 'pennywire.ledger.WalletOpened': {
        const { walletId, userId, currency, code, tier, openedAt } = event.value
        const wallet = walletOf(walletId, userId, currency)
        wallet.opened = { code, tier: tier as Tier | null, openedAt }
        return
      }
      case 'pennywire.ledger.WalletFrozen': {
        const { walletId, ownerId, source, reason, sequence, frozenAt } = event.value
        const freezeSource = source as StatusRow['freezeSource']
        const status = { status: 'frozen', freezeSource, reason, closedAt: null } as const
        change(walletId, status, momentOf(sequence, frozenAt), ownerId)
        return
      }
      case 'pennywire.ledger.WalletUnfrozen': {
        const { walletId, ownerId, sequence, unfrozenAt } = event.value
        const status = { status: 'active', freezeSource: null, reason: null, closedAt: null } as const
        change(walletId, status, momentOf(sequence, unfrozenAt), ownerId)
        return
      }
      case 'pennywire.ledger.WalletClosed': {
        const { walletId, userId, sequence, closedAt } = event.value
        const closed = { status: 'closed', freezeSource: null, reason: null } as const
        change(walletId, { ...closed, closedAt: new Date(closedAt) }, momentOf(sequence, closedAt), userId)
        return
      }
      case 'pennywire.ledger.WalletRenamed': {
        const { walletId, userId, label, sequence, renamedAt } = event.value
        const wallet = walletOf(walletId, userId, '')
        const at = momentOf(sequence, renamedAt)
        tell(wallet, sequence)
        if (isLater(at, wallet.label?.at ?? null)) wallet.label = { value: label, at }
        return
      }
      case 'pennywire.ledger.LimitChanged': {
        const { walletId, ownerId, source, action, tier, sequence, changedAt } = event.value
        const wallet = walletOf(walletId, ownerId, '')
        const at = momentOf(sequence, changedAt)
        tell(wallet, sequence)
        if (tier !== null && isLater(at, wallet.tier?.at ?? null)) wallet.tier = { value: tier as Tier, at }
        if (action === '') return
        const { perTransactionMinor: perTransaction, dailyMinor: daily, monthlyMinor: monthly } = event.value
        const limits = { action, source, perTransaction, daily, monthly } as OwnLimits & Limits
        const before = wallet.limits.find(({ value }) => value.action === action && value.source === source)
        if (!isLater(at, before?.at ?? null)) return
        wallet.limits = [...wallet.limits.filter(one => one !== before), { value: limits, at }]
        return
      }
      case 'pennywire.ledger.CommandRefused':
        return
      default:
        unknownRecord(event)
    }
  }

  return {
    wallets,
    unmatched,
    add: async (events, base) => {
      const touched = new Set<string>()
      const rows: ReplayedRows = {
        ...{ transfers: [], entries: [], holds: [], holdEnds: [], reversals: [], commands: [], journal: [] },
        touched,
      }
      const walletIds = new Set<string>()
      const holdIds = new Set<string>()
      const placed = new Map<string, HoldRow>()
      for (const { event } of events) {
        const concerned = concernedBy(event)
        for (const id of concerned.wallets) {
          touched.add(id)
          if (!wallets.has(id)) walletIds.add(id)
        }
        if (concerned.hold !== undefined) holdIds.add(concerned.hold)
        // An end may come before its hold, from another partition.
        if (event.type === 'pennywire.ledger.HoldPlaced')
          placed.set(event.value.transferId, holdRow(event.value))
      }
      if (walletIds.size > 0)
        for (const wallet of await base.findWallets([...walletIds])) wallets.set(wallet.id, wallet)
      const unknown = [...holdIds].filter(id => !placed.has(id))
      if (unknown.length > 0) for (const hold of await base.findHolds(unknown)) placed.set(hold.id, hold)
      for (const one of events) addOne(rows, placed, one)
      return rows
    },
  }
}

/**
 * The first wallet with an entry that no event tells: it was decided and never published, by a relay that was behind
 * when the database lost it, and a later event builds on it.
 */
export const findUntoldEntry = (wallets: Iterable<ReplayedWallet>): string | undefined => {
  for (const { id, sequence, storedSequence, added, toldSequence } of wallets) {
    const last = Math.max(sequence, toldSequence)
    if (storedSequence + added !== last)
      return `wallet ${id} has ${last} entries by its events, and ${storedSequence + added} of them are told: an event was decided and never published`
  }
  return undefined
}

/** A new wallet of a user, as the books get it, and its own limits. */
export type OpenedByEvents = {
  wallet: ReplayedWallet
  code: string
  openedAt: Date
  tier: Tier
  usage: Usage
  limits: LimitRow[]
}

/** A wallet from which the user's next one in its currency inherits. */
export type Predecessor = Pick<UsersWallet, 'id' | 'tier' | 'usage'> & { limits: LimitRow[] }

/**
 * The id of the wallet that the user had before in the currency; undefined for the first one. `most`: how many wallets
 * the user has had in it.
 */
export const predecessorIdOf = (
  { id, userId, currency }: Pick<ReplayedWallet, 'id' | 'userId' | 'currency'>,
  most: number,
): string | undefined => {
  let before: string | undefined
  for (let n = 0; n < most; n++) {
    const one = walletIdOf(userId!, currency, n)
    if (one === id) return before
    before = one
  }
  throw new Error(`wallet ${id} is none of the first ${most} wallets of its user in ${currency}`)
}

/** A new wallet with what it inherits, as WalletOpenRequested decides it (commands/wallet.ts). */
export const openedByEvents = (wallet: ReplayedWallet, before: Predecessor | undefined): OpenedByEvents => {
  const { id, opened } = wallet
  if (!opened) throw new Error(`wallet ${id} has events, and none that opens it`)
  const inherited = (before?.limits ?? []).map(limits => ({ ...limits, walletId: id }))
  const own = wallet.limits.map(({ value }) => ({ walletId: id, ...value }))
  const isOwn = ({ action, source }: LimitRow) =>
    own.some(limits => limits.action === action && limits.source === source)
  return {
    wallet,
    code: opened.code,
    openedAt: new Date(opened.openedAt),
    // Older events do not contain the tier: then it is inherited.
    tier: wallet.tier?.value ?? opened.tier ?? before?.tier ?? 'unverified',
    usage: before ? inheritUsage(before.usage, wallet.usage) : wallet.usage,
    limits: [...inherited.filter(limits => !isOwn(limits)), ...own],
  }
}

/** The row of a system wallet that the events opened. */
export const replayedSystemWallet = ({ id, system, currency }: ReplayedWallet): SystemWallet => ({
  ...{ id, system: system!, currency },
})
