import { expect, test } from 'vitest'
import { newTotpSecret, presentTotpSecret, totpStepOf } from './totp.ts'

// RFC 6238, appendix B: SHA-1, the last six of its eight digits.
const RFC_SECRET = Buffer.from('12345678901234567890')
test.each([
  [59, '287082'],
  [1_111_111_109, '081804'],
  [1_111_111_111, '050471'],
  [1_234_567_890, '005924'],
  [2_000_000_000, '279037'],
  [20_000_000_000, '353130'],
])('the codes of RFC 6238: at %d', (seconds, code) => {
  expect(totpStepOf(RFC_SECRET, code, seconds * 1_000)).toBe(Math.floor(seconds / 30))
})

test('a code is good one step early and late, and keeps its step', () => {
  const at = (seconds: number) => totpStepOf(RFC_SECRET, '005924', seconds * 1_000)
  const begin = Math.floor(1_234_567_890 / 30) * 30
  expect([begin - 31, begin - 30, begin, begin + 59, begin + 60].map(at)).toEqual([
    undefined,
    begin / 30,
    begin / 30,
    begin / 30,
    undefined,
  ])
})

test.each(['', '00592', '0059240', '5924', '００５９２４', 'abcdef'])('%j is no code', text => {
  expect(totpStepOf(RFC_SECRET, text, 1_234_567_890_000)).toBeUndefined()
})

test('a secret is 160 random bits, shown in base32 and as an otpauth URL', () => {
  const secret = newTotpSecret()
  expect([secret.length, newTotpSecret().equals(secret)]).toEqual([20, false])
  const shown = presentTotpSecret(secret, { issuer: 'Pennywire', label: 'alice+1@example.com' })
  expect(shown.secret).toMatch(/^[A-Z2-7]{32}$/)
  const url = new URL(shown.otpauthUrl)
  expect([url.protocol, url.host]).toEqual(['otpauth:', 'totp'])
  expect(decodeURIComponent(url.pathname)).toBe('/Pennywire:alice+1@example.com')
  expect(Object.fromEntries(url.searchParams)).toEqual({
    issuer: 'Pennywire',
    secret: shown.secret,
    algorithm: 'SHA1',
    digits: '6',
    period: '30',
  })
})
