import { createHash } from 'node:crypto'
import { ZxcvbnFactory } from '@zxcvbn-ts/core'
import { dictionary } from '@zxcvbn-ts/language-common'
import { ProblemError } from '../problems.ts'
import type { SlowHash } from './slow-hash.ts'

const MIN_LENGTH = 8
const MAX_LENGTH = 128

const RULES: Array<[rule: string, holds: (password: string) => boolean]> = [
  [`must have at least ${MIN_LENGTH} characters`, password => [...password].length >= MIN_LENGTH],
  [`must have at most ${MAX_LENGTH} characters`, password => [...password].length <= MAX_LENGTH],
  ['must have an upper-case letter', password => /\p{Lu}/u.test(password)],
  ['must have a lower-case letter', password => /\p{Ll}/u.test(password)],
  ['must have a digit', password => /\p{Nd}/u.test(password)],
  ['must have a special character', password => /[^\p{L}\p{Nd}\s]/u.test(password)],
]

/** What a guesser tries within the first million (ASVS 5.0, 6.2.4 and 6.2.11): "Password1!" keeps all rules above. */
const GUESSES_MIN = 1e6
const guesser = new ZxcvbnFactory({ dictionary: { passwords: dictionary['passwords-common'] } })

/**
 * Every rule that a new password breaks, so that a person is told all at once. Empty where it is good. `about` are
 * texts that whoever guesses knows as well, such as the person's name and address.
 */
export const passwordFaults = (password: string, about: string[] = []): string[] => {
  const broken = RULES.filter(([, holds]) => !holds(password)).map(([rule]) => rule)
  if (broken.length > 0) return broken
  const parts = about.flatMap(text => [...text.split('@'), ...text.split(/[^\p{L}\p{Nd}]+/u)])
  const known = ['pennywire', ...parts].filter(word => word.length > 2)
  return guesser.check(password, known).guesses < GUESSES_MIN
    ? ['must not be one of those that are guessed first, such as a common password or your own name']
    : []
}

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
}

/** Password hashing. Makes one hash at start, which stands for all accounts that do not exist. */
export const createPasswords = async (slowHash: SlowHash): Promise<Passwords> => {
  const nobodysHash = await slowHash.hash(condensed('nobody'))
  return {
    hash: password => slowHash.hash(condensed(password)),
    matches: async (password, hash) =>
      (await slowHash.matches(condensed(password), hash ?? nobodysHash)) && typeof hash === 'string',
  }
}
