// The code on a receipt: a MAC (HMAC-SHA256, RFC 2104) over what the receipt states, so that only the holders of the key
// can make one. It is checked against the ledger's own facts, never against what a visitor of the page claims.
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto'
import { codeAsTyped, crockfordAsTyped } from '@pennywire/contracts/as-typed.ts'
import type { MacKeys } from '@pennywire/runtime/mac-keys.ts'

/** For whom a receipt is made: the one who paid, or the one who was paid. */
export type ReceiptSide = 'sender' | 'recipient'
const RECEIPT_SIDES: readonly ReceiptSide[] = ['sender', 'recipient']

/** What a code is computed over. */
export type ReceiptFacts = {
  transferId: string
  /** Minor units. */
  amount: bigint
  currency: string
  completedAt: Date
  side: ReceiptSide
}

export type ReceiptCodes = {
  /** The code of the first key, in groups: "7K2M-9QXA-…". */
  codeOf: (facts: ReceiptFacts) => string
  /** The side whose receipt of this transfer has the code, by any of the keys; undefined for no side. */
  sideOf: (facts: Omit<ReceiptFacts, 'side'>, code: string) => ReceiptSide | undefined
}

/** Domain separation: keeps these MACs distinct from any other MAC that is computed with the same key. */
const PURPOSE = 'pennywire receipt 1'
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
/** 20 characters of 5 bits: 100 bits. To guess one takes longer than the sun lasts, at any rate that is admitted. */
const LETTERS = 20
const GROUP = 4

const lettersOf = (key: KeyObject, { transferId, amount, currency, completedAt, side }: ReceiptFacts) => {
  const parts = [PURPOSE, transferId, String(amount), currency, String(completedAt.getTime()), side]
  const preimage = parts.map(part => `${Buffer.byteLength(part)}:${part}`).join('')
  const mac = createHmac('sha256', key).update(preimage).digest()
  let bits = BigInt(`0x${mac.toString('hex').slice(0, (LETTERS * 5) / 4)}`)
  let text = ''
  for (let at = 0; at < LETTERS; at++) {
    text = CROCKFORD[Number(bits & 31n)] + text
    bits >>= 5n
  }
  return text
}

/** The letters of a code as a person types or pastes it; null if it is no code. */
const parseCode = (text: string): string | null => {
  const letters = crockfordAsTyped(codeAsTyped(text).replaceAll('-', ''))
  return letters.length === LETTERS && [...letters].every(letter => CROCKFORD.includes(letter))
    ? letters
    : null
}

/** Makes and checks codes. Keys are tried one after the other: a receipt outlives the rotation of its key. */
export const createReceiptCodes = (keys: MacKeys): ReceiptCodes => {
  const objects = keys.map(({ key }) => createSecretKey(key))
  return {
    codeOf: facts =>
      lettersOf(objects[0]!, facts)
        .match(new RegExp(`.{${GROUP}}`, 'g'))!
        .join('-'),
    sideOf: (facts, code) => {
      const given = parseCode(code)
      if (given === null) return undefined
      let found: ReceiptSide | undefined
      for (const key of objects) {
        for (const side of RECEIPT_SIDES) {
          const made = lettersOf(key, { ...facts, side })
          if (timingSafeEqual(Buffer.from(made), Buffer.from(given))) found = side
        }
      }
      return found
    },
  }
}
