import { hash } from 'node:crypto'
import { codeAsTyped, crockfordAsTyped } from './as-typed.ts'

/**
 * Ids are derived, not random, wherever a repeat must find its first attempt: the same inputs give the same id on any
 * machine. UUID version 8 (RFC 9562, 5.8): 122 bits of SHA-256 over the purpose and its length-prefixed parts, so that
 * no two lists of parts share a preimage.
 */
const deriveId = (purpose: string, ...parts: string[]): string => {
  let preimage = `pennywire:${purpose}`
  for (const part of parts) preimage += `\0${Buffer.byteLength(part)}\0${part}`
  const bytes = hash('sha256', preimage, 'buffer').subarray(0, 16)
  bytes[6] = (bytes[6]! & 0x0f) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}

/** A transfer's id: one key space per user over all routes that move money. */
export const transferIdOf = (userId: string, idempotencyKey: string): string =>
  deriveId('transfer', userId, idempotencyKey)

/**
 * The id of a confirmed deposit whose own id another request has taken: the money has arrived, so the deposit is still
 * booked, exactly once.
 */
export const displacedDepositIdOf = (transferId: string): string => deriveId('displaced-deposit', transferId)

/**
 * The id of a transfer's n-th linked movement, such as a fee; n counts from 1. The command's id determines the
 * transfer's, so all ids of one event derive from it.
 */
export const linkedTransferIdOf = (transferId: string, n: number): string =>
  deriveId('linked', transferId, String(n))

/** The id of a command that has a client's idempotency key but is no transfer: a repeat finds its first attempt. */
export const commandIdOf = (userId: string, idempotencyKey: string): string =>
  deriveId('command', userId, idempotencyKey)

/** The id of the command that captures a withdrawal's hold after its payout. */
export const payoutCaptureIdOf = (withdrawalId: string): string => deriveId('payout-capture', withdrawalId)

/** The id of the command that releases a withdrawal's hold because it was not paid out. */
export const payoutVoidIdOf = (withdrawalId: string): string => deriveId('payout-void', withdrawalId)

/** The id of the reversal that books a returned payout. */
export const payoutReturnIdOf = (withdrawalId: string): string => deriveId('payout-return', withdrawalId)

/**
 * The id of the command that releases an expired hold. Every timer derives the same id; `overdueHours` changes it once
 * an hour, so that a refusal under an earlier id (a clock had been set back) does not hold the money for ever.
 */
export const holdExpiryIdOf = (holdId: string, overdueHours: number): string =>
  deriveId('hold-expiry', holdId, String(overdueHours))

/** The id of the command that freezes a wallet after too many locks of its owner's PIN: one per lock and wallet. */
export const pinFreezeIdOf = (userId: string, lockedUntil: string, walletId: string): string =>
  deriveId('pin-freeze', userId, lockedUntil, walletId)

/** The id of the command that lifts such a freeze after a PIN reset by a mailed code: one per code and wallet. */
export const pinUnfreezeIdOf = (userId: string, resetId: string, walletId: string): string =>
  deriveId('pin-unfreeze', userId, resetId, walletId)

/**
 * The id of the command that closes a wallet because its owner is erased. `attempt` changes it after a refusal, such as
 * when money came in at the last moment.
 */
export const erasureCloseIdOf = (erasureId: string, walletId: string, attempt: number): string =>
  deriveId('erasure-close', erasureId, walletId, String(attempt))

/** A wallet's id: derived from the user, the currency and how many wallets in it the user has closed. */
export const walletIdOf = (userId: string, currency: string, closedBefore: number): string =>
  deriveId('wallet', userId, currency, String(closedBefore))

export type SystemWalletKind = 'external' | 'suspense'

/**
 * The id of a system wallet: `external` stands for the outside world, `suspense` takes money that a user's wallet cannot
 * take. There is one of each for each currency and partition of `ledger.commands`, and a `successor` (1, 2, …) for what
 * does not fit into those before it any more.
 */
export const systemWalletId = (
  kind: SystemWalletKind,
  currency: string,
  partition: number,
  successor = 0,
): string => deriveId(kind, currency, String(partition), ...(successor === 0 ? [] : [String(successor)]))

export const externalWalletId = (currency: string, partition: number): string =>
  systemWalletId('external', currency, partition)

export const suspenseWalletId = (currency: string, partition: number): string =>
  systemWalletId('suspense', currency, partition)

/** An in-app notification's id: one per transfer, user and type, however often the event is delivered. */
export const notificationIdOf = (transferId: string, userId: string, type: string): string =>
  deriveId('notification', transferId, userId, type)

/** What goes out by a channel because of a notice: once, however often the event is delivered. */
export const deliveryIdOf = (noticeId: string, channel: string): string =>
  deriveId('delivery', noticeId, channel)

const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/**
 * A transfer's reference for people, `TXN-` and 12 Crockford base32 characters: the first 60 bits of its id. It is
 * computed, never stored, and looked up by the primary key.
 */
export const referenceOf = (transferId: string): string => {
  let bits = BigInt(`0x${transferId.replaceAll('-', '').slice(0, 15)}`)
  let text = ''
  for (let i = 0; i < 12; i++) {
    text = CROCKFORD[Number(bits & 31n)] + text
    bits >>= 5n
  }
  return `TXN-${text}`
}

/**
 * Parses a reference as a person types or pastes it. Returns the range of ids that begin with its 60 bits, or null if
 * the text is no reference.
 */
export const idsOfReference = (reference: string): { first: string; last: string } | null => {
  const match = /^TXN-([0-9A-TV-Z]{12})$/.exec(codeAsTyped(reference))
  if (!match) return null
  let bits = 0n
  for (const character of crockfordAsTyped(match[1]!))
    bits = (bits << 5n) | BigInt(CROCKFORD.indexOf(character))
  const head = bits.toString(16).padStart(15, '0')
  const uuid = (hex: string) =>
    [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
  return { first: uuid(head + '0'.repeat(17)), last: uuid(head + 'f'.repeat(17)) }
}
