import { formatAmount, MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { RejectionCode } from '@pennywire/contracts/problems.ts'
import type { TransferRequested, WalletOpenRequested } from '@pennywire/contracts/schemas.ts'

/** What the rules need to know of a wallet. Amounts are minor units of its currency. */
export type Wallet = {
  id: string
  /** Null for a system wallet, which stands for the outside world and may go below zero. */
  userId: string | null
  currency: string
  status: 'active' | 'frozen' | 'closed'
  freezeSource: 'self' | 'pin' | 'staff' | null
  balance: bigint
  held: bigint
  sequence: number
}

/** One wallet's side of a completed transfer. */
export type Posting = { wallet: Wallet; amount: bigint }

export type TransferDecision =
  | { outcome: 'completed'; postings: [from: Posting, to: Posting] }
  | { outcome: 'rejected'; code: RejectionCode; detail: string }

const rejected = (code: RejectionCode, detail: string): TransferDecision => ({
  outcome: 'rejected',
  code,
  detail,
})

/** Whether a wallet takes money: closed ones do not, nor do those that staff froze; self- and PIN-frozen ones do. */
const canReceive = (wallet: Wallet): boolean =>
  wallet.status === 'active' || (wallet.status === 'frozen' && wallet.freezeSource !== 'staff')

/**
 * Decides a transfer between two users' wallets. Pure; a refusal is a value. The rules stand in the order of their
 * precedence (the first that is broken is the answer), and decide.test.ts holds that order.
 *
 * `nowMs` is the ledger's only clock: Postgres's, read in the batch's transaction after the wallets are locked.
 */
export const decideTransfer = (
  request: TransferRequested,
  sender: Wallet | undefined,
  recipient: Wallet | undefined,
  nowMs: number,
): TransferDecision => {
  const { amountMinor: amount, currency } = request
  if (request.expiresAt !== null && nowMs > request.expiresAt) {
    return rejected('REQUEST_EXPIRED', "The request was not decided in time; nobody's money moved.")
  }
  // The gateway checked this already. It is asked again because whoever may write to the topic may ask for anything.
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
  if (sender.status === 'closed') return rejected('WALLET_CLOSED', 'fromWalletId: the wallet is closed.')
  if (sender.status === 'frozen') return rejected('WALLET_FROZEN', 'fromWalletId: the wallet is frozen.')
  if (!canReceive(recipient)) {
    return rejected('RECIPIENT_UNAVAILABLE', 'toWalletId: the wallet is closed or frozen and takes no money.')
  }
  if (sender.balance - sender.held < amount) {
    return rejected(
      'INSUFFICIENT_BALANCE',
      `amount: ${formatAmount(amount, currency)} ${currency} is more than is available.`,
    )
  }
  if (recipient.balance + amount > MAX_MINOR) {
    return rejected('BALANCE_LIMIT', "amount: the recipient's balance would pass the largest possible.")
  }
  return {
    outcome: 'completed',
    postings: [
      { wallet: sender, amount: -amount },
      { wallet: recipient, amount },
    ],
  }
}

/**
 * Decides a deposit that the payment provider has confirmed: a fact, so it never expires and is never refused for
 * the wallet's sake. If the user's wallet cannot take it, it waits in suspense for a person.
 */
export const decideDeposit = (
  request: TransferRequested,
  outside: Wallet,
  recipient: Wallet | undefined,
  suspense: Wallet,
): TransferDecision => {
  const { amountMinor: amount, currency } = request
  const taken =
    recipient &&
    recipient.userId === request.userId &&
    recipient.currency === currency &&
    canReceive(recipient) &&
    recipient.balance + amount <= MAX_MINOR
  const to = taken ? recipient : suspense
  // What one outside wallet can have given in all, or suspense can hold: 90 trillion dollars each.
  if (outside.balance - amount < -MAX_MINOR || to.balance + amount > MAX_MINOR) {
    return rejected('BALANCE_LIMIT', 'amount: the books cannot hold this amount exactly.')
  }
  return {
    outcome: 'completed',
    postings: [
      { wallet: outside, amount: -amount },
      { wallet: to, amount },
    ],
  }
}

export type WalletOpenDecision =
  | { outcome: 'opened' }
  | { outcome: 'refused'; code: 'WALLET_ALREADY_EXISTS'; detail: string }

/** Decides whether a wallet is opened: a user has one open wallet in each currency. */
export const decideWalletOpen = (
  request: WalletOpenRequested,
  userHasOneOpen: boolean,
): WalletOpenDecision =>
  userHasOneOpen
    ? {
        outcome: 'refused',
        code: 'WALLET_ALREADY_EXISTS',
        detail: `currency: the user has an open wallet in ${request.currency} already.`,
      }
    : { outcome: 'opened' }

/**
 * Applies a completed transfer's postings to the wallets in memory, so that the next decision in the batch sees them.
 * Throws, before anything is changed, where the decision breaks a promise: then the rules are wrong, not the request.
 */
export const post = (postings: readonly Posting[]): void => {
  const sum = postings.reduce((total, { amount }) => total + amount, 0n)
  if (sum !== 0n) throw new Error(`the entries of a transfer sum to ${sum}, not to zero (M1)`)
  for (const { wallet, amount } of postings) {
    if (wallet.userId !== null && wallet.balance + amount - wallet.held < 0n) {
      throw new Error(`wallet ${wallet.id} would fall below zero after it was decided (M3)`)
    }
  }
  for (const { wallet, amount } of postings) {
    wallet.balance += amount
    wallet.sequence += 1
  }
}
