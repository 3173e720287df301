import { createHash } from 'node:crypto'
import { ProblemError } from '../../problems/problem.ts'
import type { SlowHash } from './slow-hash.ts'

const MIN_LENGTH = 8
const MAX_LENGTH = 128

/**
 * The format rules that a new password breaks; empty if none. Any character of any script counts, and none is required
 * (NIST 800-63B-4, ASVS 5.0 6.2.5): password-meter.ts checks how soon it is guessed.
 */
export const passwordFaults = (password: string): string[] => {
  const { length } = [...password.normalize('NFKC')]
  if (length < MIN_LENGTH) return [`must have at least ${MIN_LENGTH} characters`]
  if (length > MAX_LENGTH) return [`must have at most ${MAX_LENGTH} characters`]
  return []
}

/** The rule that an easily guessed password breaks. */
export const GUESSED_FIRST =
  'must not be one of those that are guessed first, such as a word with a year or your own name'

/** The problem of an account created through a provider when its password is required. */
export const noPassword = () =>
  new ProblemError(
    'NO_PASSWORD',
    'password: the account has none; set one by mail, with POST /v1/auth/forgot-password.',
  )

/**
 * The input of bcrypt: 44 characters that depend on the whole password. bcrypt stops reading at 72 bytes, so it would
 * silently ignore the rest of a long password. The label prevents plain SHA-256 hashes leaked by other sites from being
 * tried directly. NFKC, because keyboards encode the same letter in different ways.
 */
const condensed = (password: string) =>
  createHash('sha256').update('pennywire:password\0').update(password.normalize('NFKC')).digest('base64')

export type Passwords = {
  hash: (password: string) => Promise<string>
  /** Compares; false after the same time for an unknown account, or one without a password. */
  matches: (password: string, hash: string | null | undefined) => Promise<boolean>
  /** Rehashes a password whose hash has another cost; undefined if the cost is current, or others wait to be hashed. */
  renew: (password: string, hash: string) => Promise<string | undefined>
}

/**
 * Password hashing. Makes one dummy hash at start, which stands for all unknown accounts. The dummy hash has the cost
 * of most accounts' hashes, so that timing does not reveal which accounts exist.
 */
export const createPasswords = async (slowHash: SlowHash, commonCost?: number): Promise<Passwords> => {
  const nobodysHash = await slowHash.hash(condensed('nobody'), commonCost)
  return {
    hash: password => slowHash.hash(condensed(password)),
    matches: async (password, hash) =>
      (await slowHash.matches(condensed(password), hash ?? nobodysHash)) && typeof hash === 'string',
    renew: async (password, hash) =>
      slowHash.isOutdated(hash) && slowHash.isIdle() ? slowHash.hash(condensed(password)) : undefined,
  }
}
