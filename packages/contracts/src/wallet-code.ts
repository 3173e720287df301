import { randomInt } from 'node:crypto'
import { codeAsTyped, crockfordAsTyped } from './as-typed.ts'

/**
 * Wallet codes: `PW-`, seven random Crockford base32 characters and one check character, so that a typing error is
 * caught before a lookup. The check is a weighted sum modulo 31, written in the same alphabet: every single wrong
 * character and every swap of neighbours changes it, and a code never uses I, L, O or U.
 */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const RANDOM_LENGTH = 7
/** A prime just below the alphabet's size: each weight has an inverse, so every wrong character is detected ... */
const MODULUS = 31
/** ... provided that the characters differ modulo 31: therefore the 32nd, Z, is never drawn. */
const DRAWN = 31

const checkOf = (payload: string): string => {
  let sum = 0
  for (const [index, character] of [...payload].entries()) sum += (index + 2) * ALPHABET.indexOf(character)
  return ALPHABET[sum % MODULUS]!
}

/** Draws a new code. The caller draws again when the code is taken (about 27.5 billion exist). */
export const drawWalletCode = (): string => {
  let payload = ''
  for (let i = 0; i < RANDOM_LENGTH; i++) payload += ALPHABET[randomInt(DRAWN)]
  return `PW-${payload}${checkOf(payload)}`
}

/**
 * Parses a code as a person types or pastes it: accepts lower case, white space, invisible characters, and Crockford's
 * look-alikes (O for 0, I and L for 1). Returns null if it is no code or its check character is wrong.
 */
export const parseWalletCode = (text: string): string | null => {
  const match = /^PW-([0-9A-Z]{7})([0-9A-Z])$/.exec(codeAsTyped(text))
  if (!match) return null
  const [payload, check] = [match[1]!, match[2]!].map(crockfordAsTyped)
  if (!/^[0-9A-HJKMNP-TV-Y]+$/.test(payload! + check!)) return null
  return checkOf(payload!) === check ? `PW-${payload}${check}` : null
}
