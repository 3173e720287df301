import fc from 'fast-check'
import { expect, test } from 'vitest'
import { idsOfReference, referenceOf, transferIdOf, walletIdOf } from './ids.ts'
import { drawWalletCode, parseWalletCode } from './wallet-code.ts'

const UUID_V8 = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const anyText = fc.string({ unit: 'binary' })
/** Look-alikes, and letters that upper-casing turns into ASCII ones (ı, ſ, ﬁ). */
const codeLike = fc
  .string({
    unit: fc.constantFrom(...'0189ABYZILOUilo', 'ı', 'ſ', 'ß', 'ﬁ', '０', '\u0130', ' '),
    maxLength: 9,
  })
  .map(text => `PW-${text}`)

test('X3: two requests have one id exactly if they are the same user and key', () => {
  fc.assert(
    fc.property(anyText, anyText, anyText, anyText, (user, key, otherUser, otherKey) => {
      const same =
        Buffer.from(user).equals(Buffer.from(otherUser)) && Buffer.from(key).equals(Buffer.from(otherKey))
      expect(transferIdOf(user, key) === transferIdOf(otherUser, otherKey)).toBe(same)
      expect(transferIdOf(user, key)).toMatch(UUID_V8)
      expect(transferIdOf(user, key)).not.toBe(walletIdOf(user, key, 0))
    }),
  )
})

test('a reference is the first 60 bits of its id: it names a range that holds the id, and reads back in lower case', () => {
  fc.assert(
    fc.property(fc.uuid(), id => {
      const reference = referenceOf(id)
      const range = idsOfReference(reference.toLowerCase())!
      expect(range.first <= id && id <= range.last).toBe(true)
      expect([referenceOf(range.first), referenceOf(range.last)]).toEqual([reference, reference])
    }),
  )
})

test('any text is a reference in ASCII or none', () => {
  const like = fc
    .string({ unit: fc.constantFrom(...'0189ABZabz', 'ı', 'ſ', 'ß', '０'), minLength: 11, maxLength: 13 })
    .map(text => `TXN-${text}`)
  fc.assert(
    fc.property(fc.oneof(anyText, like), text => {
      if (idsOfReference(text)) expect(text).toMatch(/^[\x20-\x7e]{16}$/)
    }),
    { numRuns: 3_000 },
  )
})

test('a code that is accepted is ASCII, in its one form, and accepted again unchanged', () => {
  fc.assert(
    fc.property(fc.oneof(anyText, codeLike), text => {
      const code = parseWalletCode(text)
      if (code === null) return
      // Blanks and kinds of dashes come from typing and pasting.
      const typed = text.replace(/[\s\p{Cf}]+/gu, '').replace(/\p{Pd}/gu, '-')
      expect(typed).toMatch(/^[\x21-\x7e]{11}$/)
      expect(parseWalletCode(code)).toBe(code)
    }),
    { numRuns: 10_000 },
  )
})

test('every typing error of one character or of two neighbours is caught', () => {
  const slip = fc.record({
    at: fc.integer({ min: 3, max: 10 }),
    character: fc.constantFrom(...'0123456789ABCDEFGHJKMNPQRSTVWXY'),
  })
  fc.assert(
    fc.property(fc.noShrink(fc.constant(null).map(drawWalletCode)), slip, (code, { at, character }) => {
      const wrong = code.slice(0, at) + character + code.slice(at + 1)
      expect(parseWalletCode(wrong)).toBe(wrong === code ? code : null)
      if (at < 9) {
        const swapped = code.slice(0, at) + code[at + 1] + code[at] + code.slice(at + 2)
        expect(parseWalletCode(swapped)).toBe(swapped === code ? code : null)
      }
    }),
    { numRuns: 2_000 },
  )
})
