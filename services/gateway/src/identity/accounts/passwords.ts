import { createHash } from 'node:crypto'
import { ProblemError } from '../../problems/problem.ts'
import type { SlowHash } from './slow-hash.ts'

const MIN_LENGTH = 8
const MAX_LENGTH = 128

/**
 * The rules of form that a new password breaks; empty where it keeps them. Any character of any script counts, and none
 * is asked for (NIST 800-63B-4, ASVS 5.0 6.2.5): what is guessed first is for password-meter.ts to say.
 */
export const passwordFaults = (password: string): string[] => {
  const { length } = [...password.normalize('NFKC')]
  if (length < MIN_LENGTH) return [`must have at least ${MIN_LENGTH} characters`]
  if (length > MAX_LENGTH) return [`must have at most ${MAX_LENGTH} characters`]
  return []
}

/** The rule that a password breaks which a guesser tries first. */
export const GUESSED_FIRST =
  'must not be one of those that are guessed first, such as a word with a year or your own name'

/** What an account that came by a provider is answered where its password is asked for. */
export const noPassword = () =>
  new ProblemError(
    'NO_PASSWORD',
    'password: the account has none; set one by mail, with POST /v1/auth/forgot-password.',
  )

/**
 * What bcrypt gets: 44 characters that depend on the whole password. bcrypt itself stops reading at 72 bytes, so a
 * long password would silently count as its beginning. The label keeps plain SHA-256 leaks of other sites from
 * being tried as they are. NFKC, because keyboards write the same letter in different ways.
 */
const condensed = (password: string) =>
  createHash('sha256').update('pennywire:password\0').update(password.normalize('NFKC')).digest('base64')

export type Passwords = {
  hash: (password: string) => Promise<string>
  /** Compares; for an unknown account, or one without a password, it takes as long and says no. */
  matches: (password: string, hash: string | null | undefined) => Promise<boolean>
  /** The hash anew where it was made at another cost; undefined where it is good, or others wait to be hashed. */
  renew: (password: string, hash: string) => Promise<string | undefined>
}

/**
 * Password hashing. Makes one hash at start, which stands for all accounts that do not exist. It costs what the hashes
 * of most accounts cost, so that time does not tell the two apart.
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
