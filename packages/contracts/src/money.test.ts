import { describe, expect, test } from 'vitest'
import { CURRENCIES, decimalsOf, formatAmount, isCurrency, MAX_MINOR, parseAmount } from './money.ts'

describe('amounts are exact or refused', () => {
  test.each([
    ['12.50', 'USD', 1250n],
    ['1', 'USD', 100n],
    ['1.5', 'USD', 150n],
    ['0.01', 'USD', 1n],
    ['0.001', 'KWD', 1n],
    ['1.234', 'KWD', 1234n],
    ['500', 'JPY', 500n],
    ['90071992547409.90', 'USD', MAX_MINOR],
    ['9007199254740990', 'JPY', MAX_MINOR],
  ])('%s %s is %d minor units', (text, currency, minor) =>
    expect(parseAmount(text, currency)).toEqual({ minor }),
  )

  test.each([
    ['0', 'USD'],
    ['0.00', 'USD'],
    ['-1', 'USD'],
    ['+1', 'USD'],
    ['1.234', 'USD'],
    ['1.00', 'JPY'],
    ['1.0000', 'KWD'],
    ['1e3', 'USD'],
    ['0x10', 'USD'],
    [' 1', 'USD'],
    ['1 ', 'USD'],
    ['1 000', 'USD'],
    ['1,5', 'USD'],
    ['.5', 'USD'],
    ['5.', 'USD'],
    ['00.5', 'USD'],
    ['', 'USD'],
    ['NaN', 'USD'],
    ['Infinity', 'USD'],
    ['١', 'USD'],
    ['90071992547409.91', 'USD'],
    ['9007199254740992', 'JPY'],
    ['99999999999999999999999999', 'JPY'],
  ])('%j %s is refused with the rule', (text, currency) => {
    const result = parseAmount(text, currency)
    expect(result).toHaveProperty('error')
  })

  test.each([
    [1250n, 'USD', '12.50'],
    [-5n, 'USD', '-0.05'],
    [0n, 'USD', '0.00'],
    [0n, 'JPY', '0'],
    [500n, 'JPY', '500'],
    [1n, 'KWD', '0.001'],
    [-MAX_MINOR, 'KWD', '-9007199254740.990'],
  ])('%d %s is written %s', (minor, currency, text) => expect(formatAmount(minor, currency)).toBe(text))
})

test('currencies: one table, no prototype names', () => {
  expect(CURRENCIES.length).toBeGreaterThan(150)
  expect(decimalsOf('USD')).toBe(2)
  expect(isCurrency('XXX')).toBe(false)
  expect(isCurrency('constructor')).toBe(false)
  expect(() => decimalsOf('usd')).toThrow('not an ISO 4217 currency')
})
