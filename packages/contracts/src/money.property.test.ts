// Properties of every amount and every text, not only of the cases in money.test.ts.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CURRENCIES, decimalsOf, formatAmount, MAX_MINOR, parseAmount } from './money.ts'

const currency = fc.constantFrom(...CURRENCIES)
const minorUnits = fc.bigInt({ min: 1n, max: MAX_MINOR })
const digits = (length: number) => fc.stringMatching(new RegExp(`^[0-9]{${length}}$`))
/** Texts that look like amounts: with leading and trailing zeros, too long, with too many decimals. */
const amountLike = fc
  .tuple(fc.stringMatching(/^[0-9]{1,22}$/), fc.option(fc.stringMatching(/^[0-9]{0,22}$/)))
  .map(([whole, fraction]) => (fraction === null ? whole : `${whole}.${fraction}`))

/** The value of a plain decimal text in units of 10^-30, computed without the parser. */
const exactValueOf = (text: string): bigint => {
  const [whole = '', fraction = ''] = text.split('.')
  let value = 0n
  for (const digit of whole + fraction.padEnd(30, '0')) value = value * 10n + BigInt(digit)
  return value
}

describe('amounts', () => {
  test('what is written is read again: parse after format is the identity', () => {
    fc.assert(
      fc.property(minorUnits, currency, (minor, code) => {
        expect(parseAmount(formatAmount(minor, code), code)).toEqual({ minor })
      }),
      { numRuns: 2_000 },
    )
  })

  test('what is accepted is exact, to the last digit, and written with all decimals of the currency', () => {
    fc.assert(
      fc.property(amountLike, currency, (text, code) => {
        const parsed = parseAmount(text, code)
        if ('error' in parsed) return
        const written = formatAmount(parsed.minor, code)
        expect(exactValueOf(written)).toBe(exactValueOf(text))
        expect(exactValueOf(text)).toBe(parsed.minor * 10n ** BigInt(30 - decimalsOf(code)))
        expect(written.split('.')[1]?.length ?? 0).toBe(decimalsOf(code))
        expect(parsed.minor > 0n && parsed.minor <= MAX_MINOR).toBe(true)
      }),
      { numRuns: 2_000 },
    )
  })

  test('what a person would write and the books can hold is accepted', () => {
    fc.assert(
      fc.property(minorUnits, currency, fc.nat(4), (minor, code, cut) => {
        // Fewer decimals than the currency has, where they are zeros.
        const shown = Math.max(0, decimalsOf(code) - cut)
        const rounded = minor - (minor % 10n ** BigInt(decimalsOf(code) - shown))
        fc.pre(rounded > 0n)
        const [whole, fraction = ''] = formatAmount(rounded, code).split('.')
        const text = shown === 0 ? whole! : `${whole}.${fraction.slice(0, shown)}`
        expect(parseAmount(text, code)).toEqual({ minor: rounded })
      }),
    )
  })

  test('more decimals than the currency has are refused, zeros too', () => {
    fc.assert(
      fc.property(minorUnits, currency, fc.integer({ min: 1, max: 16 }), (minor, code, more) => {
        const written = formatAmount(minor, code)
        const text = `${written}${written.includes('.') ? '' : '.'}${'0'.repeat(more)}`
        expect(parseAmount(text, code)).toMatchObject({ error: expect.stringContaining(`${code} has`) })
      }),
    )
  })

  test('the order of amounts is the order of their values', () => {
    fc.assert(
      fc.property(minorUnits, minorUnits, currency, (a, b, code) => {
        const [left, right] = [a, b].map(minor => exactValueOf(formatAmount(minor, code)))
        expect(left! < right!).toBe(a < b)
        expect(left === right).toBe(a === b)
      }),
    )
  })

  test('a sign changes the sign and nothing else; parsing takes none', () => {
    fc.assert(
      fc.property(
        minorUnits,
        currency,
        fc.constantFrom('-', '+', '\u2212', ' ', '\t', '\n'),
        (minor, code, sign) => {
          expect(formatAmount(-minor, code)).toBe(`-${formatAmount(minor, code)}`)
          expect(parseAmount(sign + formatAmount(minor, code), code)).toHaveProperty('error')
          expect(parseAmount(formatAmount(minor, code) + sign, code)).toHaveProperty('error')
        },
      ),
    )
  })

  test('what the books cannot hold exactly is refused, however large', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: MAX_MINOR + 1n, max: 10n ** 40n }), currency, (minor, code) => {
        expect(parseAmount(formatAmount(minor, code), code)).toHaveProperty('error')
      }),
    )
  })

  test('any text at all is exact ASCII digits or refused, and nothing throws', () => {
    // Includes digits of other scripts, which \d and Number() accept in some languages.
    const anyText = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({
        unit: fc.constantFrom(
          '0',
          '1',
          '9',
          '.',
          ',',
          '-',
          'e',
          'E',
          'x',
          '_',
          '٣',
          '３',
          '𝟛',
          '½',
          '\u200b',
        ),
      }),
      fc.bigInt().map(String),
      fc.double().map(String),
    )
    fc.assert(
      fc.property(anyText, currency, (text, code) => {
        if ('minor' in parseAmount(text, code)) expect(text).toMatch(/^[0-9]+(\.[0-9]+)?$/)
      }),
      { numRuns: 1_500 },
    )
  })

  test('one foreign character anywhere in a good amount is refused, or is another exact amount', () => {
    fc.assert(
      fc.property(
        minorUnits,
        currency,
        fc.nat(30),
        fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
        (minor, code, at, odd) => {
          const good = formatAmount(minor, code)
          const text = good.slice(0, at % (good.length + 1)) + odd + good.slice(at % (good.length + 1))
          const parsed = parseAmount(text, code)
          if ('minor' in parsed)
            expect(exactValueOf(formatAmount(parsed.minor, code))).toBe(exactValueOf(text))
        },
      ),
      { numRuns: 2_000 },
    )
  })

  test('zeros in front are refused', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }).chain(digits),
        minorUnits,
        currency,
        (zeros, minor, code) => {
          const text = `${zeros.replace(/./g, '0')}${formatAmount(minor, code)}`
          fc.pre(!/^0(\.|$)/.test(text))
          expect(parseAmount(text, code)).toHaveProperty('error')
        },
      ),
    )
  })
})
