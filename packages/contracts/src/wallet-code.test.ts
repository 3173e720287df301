import { expect, test } from 'vitest'
import { drawWalletCode, parseWalletCode } from './wallet-code.ts'

const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXY'
const codes = Array.from({ length: 200 }, drawWalletCode)

test('a drawn code reads back, in any case and with look-alikes', () => {
  for (const code of codes) {
    expect(code).toMatch(/^PW-[0-9A-HJKMNP-TV-Y]{8}$/)
    expect(parseWalletCode(code)).toBe(code)
    expect(parseWalletCode(code.toLowerCase().replace('0', 'o').replace('1', 'l'))).toBe(code)
  }
})

test('every single wrong character is caught', () => {
  for (const code of codes.slice(0, 20)) {
    for (let at = 3; at < code.length; at++) {
      for (const wrong of ALPHABET) {
        if (wrong === code[at]) continue
        expect(parseWalletCode(code.slice(0, at) + wrong + code.slice(at + 1))).toBeNull()
      }
    }
  }
})

test('every swap of neighbours within the random part is caught', () => {
  for (const code of codes) {
    for (let at = 3; at < 9; at++) {
      if (code[at] === code[at + 1]) continue
      const swapped = code.slice(0, at) + code[at + 1] + code[at] + code.slice(at + 2)
      expect(parseWalletCode(swapped)).toBeNull()
    }
  }
})

test.each(['', 'PW-', 'PW-0000000', 'XX-00000000', 'PW-0000000U', 'PW-000000000', 'PW-ZZZZZZZZ'])(
  '%j is no code',
  text => expect(parseWalletCode(text)).toBeNull(),
)

test.each([
  ' PW-00000000',
  'PW-0000 0000\n',
  '\u200bPW-\u200b00000000',
  'pw\u2011ooooOOOO',
  '\ufeffPW-00000000\u2060',
])('%j is a code that was pasted', text => expect(parseWalletCode(text)).toBe('PW-00000000'))
