import { createHmac, randomInt } from 'node:crypto'
import { codeAsTyped, crockfordAsTyped } from '@pennywire/contracts/as-typed.ts'
import type { SecretKey } from '../persons/secret-box.ts'

const HOW_MANY = 10
/** Sixteen of 32 characters: 80 random bits, far beyond guessing, so attempts need not be counted. */
const LENGTH = 16
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ' // Crockford's base32: no letter looks like another
const GROUP = /.{4}(?=.)/g

/** New recovery codes, as people write them down: "7K2M-0QXD-93TF-ZB5A". */
export const newRecoveryCodes = (): string[] =>
  Array.from({ length: HOW_MANY }, () =>
    Array.from({ length: LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)])
      .join('')
      .replace(GROUP, '$&-'),
  )

/** Normalises a typed code: case, dashes, spaces, and letters that look like digits. */
const normalized = (code: string): string => crockfordAsTyped(codeAsTyped(code)).replaceAll('-', '')

/** The stored form of a recovery code. */
export const recoveryCodeHash = ({ key }: SecretKey, userId: string, code: string): Buffer =>
  createHmac('sha256', key)
    .update(`recovery-code\0${userId}\0${normalized(code)}`)
    .digest()
