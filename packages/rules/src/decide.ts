import { formatAmount, MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { RejectionCode } from '@pennywire/contracts/problems.ts'
import type {
  HoldCaptureRequested,
  HoldVoidRequested,
  ReversalRequested,
  TransferRequested,
} from '@pennywire/contracts/schemas.ts'
import {
  breachedLimit,
  type LimitBreach,
  type LimitDefaults,
  type LimitedAction,
  limitsInForce,
  type OwnLimits,
  type Tier,
  type Usage,
  usedNow,
  withoutUse,
  withUse,
} from './limits.ts'

/** The facts about a wallet that the rules use. Amounts are minor units of its currency. */
export type Wallet = {
  id: string
  /** Null for a system wallet, which stands for the outside world and may go below zero. */
  userId: string | null
  currency: string
  status: 'active' | 'frozen' | 'closed'
  freezeSource: 'self' | 'pin' | 'staff' | null
  balance: bigint
  /** Reserved by active holds: part of the balance, but not available. */
  held: bigint
  sequence: number
  tier: Tier
  usage: Usage
  /** Limits set by the user and by staff. Empty also where they were not read: for wallets that only receive. */
  ownLimits: readonly OwnLimits[]
}

/** Money reserved by a hold or a withdrawal until it is captured or released. */
export type Hold = {
  id: string
  type: 'hold' | 'withdrawal'
  status: 'active' | 'captured' | 'voided' | 'expired'
  /** The user who placed it. */
  userId: string
  walletId: string
  /** Null for a withdrawal, which goes to the outside world. */
  toWalletId: string | null
  amount: bigint
  currency: string
  /** When it was placed, by the ledger's clock. */
  placedMs: number
  /** When it expires; null: it ends only by a command. */
  untilMs: number | null
}

/** The facts about a transfer to be reversed that the rules use. */
export type Original = {
  id: string
  type: string
  status: 'completed' | 'rejected'
  fromWalletId: string | null
  toWalletId: string | null
  amount: bigint
  currency: string
  /** The amount already reversed. */
  reversed: bigint
}

/** The rules' inputs beside the wallets: the ledger's only clock, and the settings. */
export type Circumstances = { nowMs: number; defaults: LimitDefaults }

/** One wallet's side of a movement. */
export type Posting = { wallet: Wallet; amount: bigint }

/** Money that moves: two entries in one currency, which sum to zero. */
export type Movement = { postings: readonly [from: Posting, to: Posting] }
/** A movement that accompanies a transfer, such as a fee: a separate transfer of this type, linked to it. */
export type LinkedMovement = Movement & { type: string }

/** All changes of a decision: `post` applies all of them, or none. */
export type Effects = {
  /** The requested movement, then the linked ones; empty if money is only held or released. */
  movements: readonly [] | readonly [Movement, ...LinkedMovement[]]
  /** The change of the wallet's held amount; negative releases money. */
  held?: { wallet: Wallet; amount: bigint }
  /** Counted against the limits; with `countedMs`, given back to them instead. */
  counted?: { wallet: Wallet; action: LimitedAction; amount: bigint; countedMs?: number }
}

export type Rejected = {
  outcome: 'rejected'
  code: RejectionCode
  detail: string
  /** The exceeded limit, if a limit is the reason. */
  breach?: LimitBreach
}
export type Accepted = { outcome: 'completed' } & Effects
export type Decision = Accepted | Rejected

/** Moves an amount from one wallet to another. */
export const move = (from: Wallet, to: Wallet, amount: bigint): Movement => ({
  postings: [
    { wallet: from, amount: -amount },
    { wallet: to, amount },
  ],
})

const rejected = (code: RejectionCode, detail: string): Rejected => ({ outcome: 'rejected', code, detail })

/** Whether a wallet can receive money: not if it is closed or frozen by staff; self- and PIN-frozen wallets can. */
const canReceive = (wallet: Wallet): boolean =>
  wallet.status === 'active' || (wallet.status === 'frozen' && wallet.freezeSource !== 'staff')

const expired = (request: TransferRequested, nowMs: number): Rejected | undefined =>
  request.expiresAt !== null && nowMs > request.expiresAt
    ? rejected('REQUEST_EXPIRED', "The request was not decided in time; nobody's money moved.")
    : undefined

const LIMIT_NAMES = {
  PER_TRANSACTION_LIMIT_EXCEEDED: 'in one transaction',
  DAILY_LIMIT_EXCEEDED: 'in one day (UTC)',
  MONTHLY_LIMIT_EXCEEDED: 'in one month (UTC)',
}

/** Rejects an amount that would exceed one of the wallet's limits, by the first such limit. */
const overLimit = (
  wallet: Wallet,
  action: LimitedAction,
  amount: bigint,
  { nowMs, defaults }: Circumstances,
): Rejected | undefined => {
  const { currency } = wallet
  const { limits } = limitsInForce(action, defaults[wallet.tier](currency), wallet.ownLimits)
  const breach = breachedLimit(limits, usedNow(wallet.usage, action, nowMs), amount)
  if (!breach) return undefined
  const used = breach.used > 0n ? `, of which ${formatAmount(breach.used, currency)} are used` : ''
  return {
    ...rejected(
      breach.code,
      `amount: at most ${formatAmount(breach.limit, currency)} ${currency} ${LIMIT_NAMES[breach.code]}${used}.`,
    ),
    breach,
  }
}

const notAvailable = (wallet: Wallet, amount: bigint): Rejected | undefined =>
  wallet.balance - wallet.held < amount
    ? rejected(
        'INSUFFICIENT_BALANCE',
        `amount: ${formatAmount(amount, wallet.currency)} ${wallet.currency} is more than is available.`,
      )
    : undefined

const unusable = (sender: Wallet, field: string): Rejected | undefined => {
  if (sender.status === 'closed') return rejected('WALLET_CLOSED', `${field}: the wallet is closed.`)
  if (sender.status === 'frozen') return rejected('WALLET_FROZEN', `${field}: the wallet is frozen.`)
  return undefined
}

/**
 * The rules that transfers and holds share, in order of precedence: the first broken rule is the answer. The order is
 * fixed by decide.test.ts.
 */
const refuseSending = (
  request: TransferRequested,
  sender: Wallet | undefined,
  recipient: Wallet | undefined,
  circumstances: Circumstances,
): Rejected | { sender: Wallet; recipient: Wallet } => {
  const { amountMinor: amount, currency } = request
  const late = expired(request, circumstances.nowMs)
  if (late) return late
  // The gateway checked this already; again, because a client with write access to the topic can request anything.
  if (!sender || sender.userId === null || sender.userId !== request.userId) {
    return rejected('WALLET_NOT_FOUND', 'fromWalletId: there is no such wallet of the requester.')
  }
  if (!recipient || recipient.userId === null) {
    return rejected('RECIPIENT_NOT_FOUND', 'toWalletId: there is no such wallet.')
  }
  if (sender.id === recipient.id) {
    return rejected('SELF_TRANSFER', 'toWalletId: a wallet cannot pay itself.')
  }
  if (sender.currency !== currency || recipient.currency !== currency) {
    return rejected(
      'CURRENCY_MISMATCH',
      `currency: ${currency} was asked for; the sender's wallet holds ${sender.currency}, the recipient's ${recipient.currency}.`,
    )
  }
  const blocked = unusable(sender, 'fromWalletId')
  if (blocked) return blocked
  if (!canReceive(recipient)) {
    return rejected('RECIPIENT_UNAVAILABLE', 'toWalletId: the wallet is closed or frozen and takes no money.')
  }
  const refusal = overLimit(sender, 'send', amount, circumstances) ?? notAvailable(sender, amount)
  if (refusal) return refusal
  if (recipient.balance + amount > MAX_MINOR) {
    return rejected('BALANCE_LIMIT', "amount: the recipient's balance would pass the largest possible.")
  }
  return { sender, recipient }
}

/** Decides a transfer between two users' wallets. Pure, as all here; a refusal is a value. */
export const decideTransfer = (
  request: TransferRequested,
  from: Wallet | undefined,
  to: Wallet | undefined,
  circumstances: Circumstances,
): Decision => {
  const parties = refuseSending(request, from, to, circumstances)
  if ('outcome' in parties) return parties
  const { amountMinor: amount } = request
  return {
    outcome: 'completed',
    movements: [move(parties.sender, parties.recipient, amount)],
    counted: { wallet: parties.sender, action: 'send', amount },
  }
}

/** Decides a hold: like a transfer, but the money stays, reserved for the recipient, who captures or releases it. */
export const decideHold = (
  request: TransferRequested,
  from: Wallet | undefined,
  to: Wallet | undefined,
  circumstances: Circumstances,
): Decision => {
  const parties = refuseSending(request, from, to, circumstances)
  if ('outcome' in parties) return parties
  const { amountMinor: amount } = request
  return {
    outcome: 'completed',
    movements: [],
    held: { wallet: parties.sender, amount },
    counted: { wallet: parties.sender, action: 'send', amount },
  }
}

/** Decides a withdrawal: the money is held until the provider reports whether it was paid out. */
export const decideWithdrawal = (
  request: TransferRequested,
  wallet: Wallet | undefined,
  circumstances: Circumstances,
): Decision => {
  const { amountMinor: amount, currency } = request
  const late = expired(request, circumstances.nowMs)
  if (late) return late
  if (!wallet || wallet.userId === null || wallet.userId !== request.userId) {
    return rejected('WALLET_NOT_FOUND', 'walletId: there is no such wallet of the requester.')
  }
  if (request.toWalletId !== null) {
    return rejected(
      'RECIPIENT_NOT_FOUND',
      'toWalletId: a withdrawal goes to the outside world, to no wallet.',
    )
  }
  if (wallet.currency !== currency) {
    return rejected('CURRENCY_MISMATCH', `currency: the wallet holds ${wallet.currency}.`)
  }
  const refusal =
    unusable(wallet, 'walletId') ??
    overLimit(wallet, 'withdrawal', amount, circumstances) ??
    notAvailable(wallet, amount)
  if (refusal) return refusal
  return {
    outcome: 'completed',
    movements: [],
    held: { wallet, amount },
    counted: { wallet, action: 'withdrawal', amount },
  }
}

/** Throws if a wallet cannot hold a change exactly: for facts, which no rule may refuse. */
const requireRoom = ({ id, balance }: Wallet, change: bigint): void => {
  const after = balance + change
  if (after > MAX_MINOR || after < -MAX_MINOR) throw new Error(`wallet ${id} has no room for ${change}`)
}

/**
 * Decides a deposit that the payment provider has confirmed. It is a fact, so it never expires and is never refused
 * because of the wallet's state. If the user's wallet cannot take it, it is booked to suspense, for a person to
 * resolve. It counts against the limits, which the gateway checked before it called the provider. `outside` and
 * `suspense` are system wallets with room for the amount; throws if they have none.
 */
export const decideDeposit = (
  request: TransferRequested,
  outside: Wallet,
  recipient: Wallet | undefined,
  suspense: Wallet,
): Decision => {
  const { amountMinor: amount, currency } = request
  const taken =
    recipient &&
    recipient.userId === request.userId &&
    recipient.currency === currency &&
    canReceive(recipient) &&
    recipient.balance + amount <= MAX_MINOR
  const to = taken ? recipient : suspense
  requireRoom(outside, -amount)
  requireRoom(to, amount)
  return {
    outcome: 'completed',
    movements: [move(outside, to, amount)],
    ...(taken ? { counted: { wallet: recipient, action: 'deposit' as const, amount } } : {}),
  }
}

const ACTION_OF = { hold: 'send', withdrawal: 'withdrawal' } as const

/** The rules that captures and voids share: the requester may end the hold, and the hold has not ended. */
const refuseEnding = (
  command: HoldCaptureRequested | HoldVoidRequested,
  hold: Hold | undefined,
  by: Record<Hold['type'], (source: string) => boolean>,
): Rejected | Hold => {
  // A command that names other wallets than the hold's has locked the wrong rows: treated as if there were no hold.
  if (
    !hold ||
    hold.walletId !== command.walletId ||
    hold.toWalletId !== command.toWalletId ||
    !by[hold.type](command.source)
  ) {
    return rejected('HOLD_NOT_FOUND', 'holdId: there is no such hold that the requester may end.')
  }
  if (hold.status !== 'active') {
    return rejected('HOLD_ENDED', `holdId: the hold has ended already: it was ${hold.status}.`)
  }
  return hold
}

/**
 * Decides the capture of a hold, in whole or in part; the rest is available again. `recipient` is the hold's receiving
 * wallet: the outside world for a withdrawal. A payer frozen since then still pays: the money was reserved before.
 */
export const decideCapture = (
  command: HoldCaptureRequested,
  held: Hold | undefined,
  payer: Wallet | undefined,
  recipient: Wallet | undefined,
  nowMs: number,
): Decision => {
  const hold = refuseEnding(command, held, {
    hold: source => source === 'user' && command.userId === recipient?.userId,
    withdrawal: source => source === 'provider',
  })
  if ('outcome' in hold) return hold
  // What the provider has paid out is a fact at any time.
  if (hold.type === 'hold' && hold.untilMs !== null && nowMs > hold.untilMs) {
    return rejected('HOLD_EXPIRED', 'holdId: the time to capture the hold is over.')
  }
  if (command.currency !== hold.currency) {
    return rejected('CURRENCY_MISMATCH', `currency: the hold is in ${hold.currency}.`)
  }
  const amount = command.amountMinor ?? hold.amount
  if (amount > hold.amount) {
    return rejected(
      'HOLD_AMOUNT_EXCEEDED',
      `amount: at most ${formatAmount(hold.amount, hold.currency)} ${hold.currency} is held.`,
    )
  }
  if (!payer || !recipient) throw new Error(`hold ${hold.id} names a wallet that is not there`)
  if (recipient.userId !== null && !canReceive(recipient)) {
    return rejected('RECIPIENT_UNAVAILABLE', 'The wallet is closed or frozen and takes no money.')
  }
  if (recipient.userId !== null && recipient.balance + amount > MAX_MINOR) {
    return rejected('BALANCE_LIMIT', "amount: the recipient's balance would pass the largest possible.")
  }
  requireRoom(recipient, amount)
  return {
    outcome: 'completed',
    movements: [move(payer, recipient, amount)],
    held: { wallet: payer, amount: -hold.amount },
    counted: {
      wallet: payer,
      action: ACTION_OF[hold.type],
      amount: hold.amount - amount,
      countedMs: hold.placedMs,
    },
  }
}

/** Decides whether a hold is released: by its recipient, by staff, by the provider, or because it has expired. */
export const decideVoid = (
  command: HoldVoidRequested,
  held: Hold | undefined,
  payer: Wallet | undefined,
  recipient: Wallet | undefined,
  nowMs: number,
): Decision => {
  const hold = refuseEnding(command, held, {
    hold: source =>
      source === 'staff' || source === 'timer' || (source === 'user' && command.userId === recipient?.userId),
    withdrawal: source => source === 'provider',
  })
  if ('outcome' in hold) return hold
  if (command.source === 'timer' && (hold.untilMs === null || nowMs <= hold.untilMs)) {
    return rejected('HOLD_NOT_EXPIRED', 'holdId: the time to capture the hold is not over.')
  }
  if (!payer) throw new Error(`hold ${hold.id} names a wallet that is not there`)
  return {
    outcome: 'completed',
    movements: [],
    held: { wallet: payer, amount: -hold.amount },
    counted: { wallet: payer, action: ACTION_OF[hold.type], amount: hold.amount, countedMs: hold.placedMs },
  }
}

/** Only the provider reverses withdrawals, as returned payouts; only staff reverses the rest. */
const REVERSIBLE_BY: Record<string, readonly string[]> = {
  staff: ['transfer', 'deposit'],
  provider: ['withdrawal'],
}

/**
 * Decides a reversal: a new movement from the original's recipient back to its payer; all reversals of it never exceed
 * the original in sum. A recipient who has spent the money is not taken below zero: the available part can be reversed,
 * the rest is refused. A freeze does not prevent a reversal: the freeze is what keeps the money there. `outside` and
 * `suspense` are the system wallets of the command's partition.
 */
export const decideReversal = (
  request: ReversalRequested,
  original: Original | undefined,
  wallets: { payer: Wallet | undefined; payee: Wallet | undefined; outside: Wallet; suspense: Wallet },
): Decision => {
  const { amountMinor: amount, currency } = request
  if (
    !original ||
    // The locked wallets must be those of the original; null is the outside world.
    request.toWalletId !== (original.type === 'deposit' ? null : original.fromWalletId) ||
    request.fromWalletId !== (original.type === 'withdrawal' ? null : original.toWalletId)
  ) {
    return rejected('TRANSFER_NOT_FOUND', 'originalId: there is no such transfer between these wallets.')
  }
  if (original.status !== 'completed' || !REVERSIBLE_BY[request.source]?.includes(original.type)) {
    return rejected(
      'NOT_REVERSIBLE',
      `originalId: a ${original.status} ${original.type} cannot be reversed by ${request.source}.`,
    )
  }
  if (original.currency !== currency) {
    return rejected('CURRENCY_MISMATCH', `currency: the transfer was in ${original.currency}.`)
  }
  if (original.reversed + amount > original.amount) {
    return rejected(
      'REVERSAL_EXCEEDS_ORIGINAL',
      `amount: ${formatAmount(original.amount - original.reversed, currency)} ${currency} of the transfer is left.`,
    )
  }
  const payer = original.type === 'withdrawal' ? wallets.outside : wallets.payer
  const payee = original.type === 'deposit' ? wallets.outside : wallets.payee
  // A deposit in suspense has no user's wallet to take the money from.
  if (!payer || (original.type !== 'withdrawal' && payer.userId === null)) {
    return rejected('NOT_REVERSIBLE', 'originalId: its recipient is no wallet that could pay it back.')
  }
  if (!payee) throw new Error(`transfer ${original.id} names a wallet that is not there`)
  if (payer.userId !== null) {
    if (payer.status === 'closed') {
      return rejected('WALLET_CLOSED', "originalId: the recipient's wallet is closed.")
    }
    const refusal = notAvailable(payer, amount)
    if (refusal) return refusal
  }
  const fits = (wallet: Wallet) => wallet.status !== 'closed' && wallet.balance + amount <= MAX_MINOR
  // The provider has returned the money already: a fact, like a deposit.
  const to = fits(payee) || request.source !== 'provider' ? payee : wallets.suspense
  if (to.status === 'closed') {
    return rejected('RECIPIENT_UNAVAILABLE', "originalId: the sender's wallet is closed.")
  }
  if (to.userId !== null && to.balance + amount > MAX_MINOR) {
    return rejected('BALANCE_LIMIT', 'amount: the balance would pass the largest possible.')
  }
  requireRoom(to, amount)
  if (payer.userId === null) requireRoom(payer, -amount)
  return {
    outcome: 'completed',
    movements: [move(payer, to, amount)],
  }
}

/** Throws if a decision breaks a promise: then the rules are wrong, not the request. */
export const checkEffects = ({ movements, held }: Effects): void => {
  for (const { postings } of movements) {
    const [from, to] = postings
    const sum = from.amount + to.amount
    if (sum !== 0n) throw new Error(`the entries of a movement sum to ${sum}, not to zero (M1)`)
    if (to.amount <= 0n) throw new Error(`a movement pays ${to.amount}, which is not above zero (M1)`)
    if (from.wallet.currency !== to.wallet.currency)
      throw new Error('the entries of a movement are in several currencies (M1)')
    if (from.wallet.id === to.wallet.id) throw new Error('a movement is between a wallet and itself (M1)')
  }
  // In the order of the entries: each leaves its wallet at zero or above.
  const balances = new Map<Wallet, bigint>()
  const heldAfter = (wallet: Wallet) => wallet.held + (held?.wallet === wallet ? held.amount : 0n)
  const check = ({ wallet, amount }: Posting) => {
    const balance = (balances.get(wallet) ?? wallet.balance) + amount
    balances.set(wallet, balance)
    if (wallet.userId !== null && balance - heldAfter(wallet) < 0n)
      throw new Error(`wallet ${wallet.id} would fall below zero after it was decided (M3)`)
    if (heldAfter(wallet) < 0n) throw new Error(`wallet ${wallet.id} would hold less than nothing (M3)`)
  }
  for (const { postings } of movements) postings.forEach(check)
  if (held) check({ wallet: held.wallet, amount: 0n })
}

/**
 * Applies a decision to the wallets in memory, so that the next decision of the batch builds on it. Throws before any
 * change if the decision breaks a promise.
 */
export const post = (effects: Effects, nowMs: number): void => {
  checkEffects(effects)
  const { movements, held, counted } = effects
  for (const { wallet, amount } of movements.flatMap(({ postings }) => postings)) {
    wallet.balance += amount
    wallet.sequence += 1
  }
  if (held) held.wallet.held += held.amount
  if (counted) {
    const { wallet, action, amount, countedMs } = counted
    wallet.usage =
      countedMs === undefined
        ? withUse(wallet.usage, action, amount, nowMs)
        : withoutUse(wallet.usage, action, amount, countedMs, nowMs)
  }
}
