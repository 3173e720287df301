import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalJson } from '../ledger/fingerprint.ts'
import { inexactJson } from './exact-json.ts'

/** Numbers as clients write them, within and beyond the precision and range of a double. */
const numberText = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
  fc
    .tuple(
      fc.constantFrom('', '-'),
      fc.bigInt({ min: 0n, max: 10n ** 25n }).map(String),
      fc.option(fc.stringMatching(/^[0-9]{1,25}$/)),
      fc.option(fc.tuple(fc.constantFrom('e', 'E', 'e+', 'e-', 'E-'), fc.integer({ min: 0, max: 999 }))),
    )
    .map(
      ([sign, whole, fraction, exponent]) =>
        `${sign}${whole}${fraction === null ? '' : `.${fraction}`}${exponent ? exponent.join('') : ''}`,
    ),
)
const name = fc.oneof(
  fc.constantFrom('a', 'b', '__proto__', 'constructor', '\ud800', '\0', '1', '01', 'a"\\', ''),
  fc.string({ unit: 'binary' }),
)
/** A text as a JSON string, each character as itself or escaped: all the ways to write it. */
const written = (text: string) =>
  fc
    .array(fc.boolean(), { minLength: text.length, maxLength: text.length })
    .map(
      escaped =>
        `"${[...Array(text.length).keys()]
          .map(at =>
            escaped[at] || !/^[ !#-[\]-~]$/.test(text[at]!)
              ? `\\u${text.charCodeAt(at).toString(16).padStart(4, '0')}`
              : text[at],
          )
          .join('')}"`,
    )
const spaced = (text: string) => fc.constantFrom('', ' ', '\n\t').map(space => `${space}${text}${space}`)

const { value: jsonText } = fc.letrec<{ value: string }>(tie => ({
  value: fc
    .oneof(
      { maxDepth: 4, depthSize: 'small' },
      fc.constantFrom('true', 'false', 'null'),
      numberText,
      fc.string({ unit: 'binary' }).chain(written),
      fc.array(tie('value'), { maxLength: 4 }).map(items => `[${items.join(',')}]`),
      fc
        .array(fc.tuple(name.chain(written), tie('value')), { maxLength: 4 })
        .map(members => `{${members.map(([key, value]) => `${key}:${value}`).join(',')}}`),
    )
    .chain(spaced),
}))

/** The content of a JSON text, with exact numbers and every member: read without JSON.parse of the whole text. */
const contentOf = (text: string): string => {
  let at = 0
  const skip = () => {
    while (/\s/.test(text[at] ?? '')) at++
  }
  const read = (): string => {
    skip()
    const list = (end: string, item: () => string) => {
      const items: string[] = []
      at++
      for (skip(); text[at] !== end; skip()) {
        if (text[at] === ',') at++
        items.push(item())
      }
      at++
      return items
    }
    const begin = text[at]!
    if (begin === '[') return `[${list(']', read).join(',')}]`
    if (begin === '{') {
      const member = () => {
        const key = read()
        skip()
        at++
        return `${key}:${read()}`
      }
      return `{${list('}', member).sort().join(',')}}`
    }
    const [token] = /^("(\\.|[^"\\])*"|[^,\]}\s]+)/s.exec(text.slice(at))!
    at += token.length
    if (begin === '"') return JSON.stringify(JSON.parse(token))
    if (!/[-0-9]/.test(begin)) return token
    const [, sign, whole, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(
      token,
    )!
    // Scaled to an integer by a power of ten that suffices for all doubles and all of these texts.
    const scaled = BigInt(whole! + fraction) * 10n ** BigInt(Number(exponent) - fraction.length + 1_400)
    return `${sign}${scaled}`
  }
  return read()
}

test('a text without a fault is the same content after parsing and writing; the canonical form tells contents apart', () => {
  let kept = 0
  fc.assert(
    fc.property(jsonText, jsonText, (text, other) => {
      if (inexactJson(text).length > 0) return
      kept++
      const parsed = JSON.parse(text)
      expect(contentOf(JSON.stringify(parsed))).toBe(contentOf(text))
      expect(JSON.stringify(parsed).isWellFormed()).toBe(true)
      if (inexactJson(other).length > 0) return
      expect(canonicalJson(parsed) === canonicalJson(JSON.parse(other))).toBe(
        contentOf(text) === contentOf(other),
      )
    }),
    { numRuns: 1_000 },
  )
  expect(kept).toBeGreaterThan(100)
})

describe('what is kept', () => {
  test.each([
    '{"n":9007199254740992,"m":-1.50e3,"z":0,"zz":0.00,"big":1e300,"small":5e-324,"tenth":0.1}',
    '{"a":{"a":1},"b":[{"a":1},{"a":2}],"c":"\\ud83d\\ude00","d":"\\\\u0000","constructor":1}',
    '"\\""',
    '[[],{},[{}],"}",",",":"]',
    `${'['.repeat(64)}${']'.repeat(64)}`,
  ])('%s', text => expect(inexactJson(text)).toEqual([]))
})

describe('what is refused, by its field', () => {
  test.each([
    ['{"metadata":{"n":9007199254740993}}', 'metadata.n'],
    ['{"metadata":{"n":[1,12345678901234567890]}}', 'metadata.n.1'],
    ['{"a":[[1,2],[0.12345678901234567890123]],"b":1}', 'a.1.0'],
    ['{"n":1e400}', 'n'],
    ['{"n":1e-400}', 'n'],
    ['{"n":-0}', 'n'],
    ['{"n":-0.0e5}', 'n'],
    ['{"a":{"__proto__":{"x":1}}}', 'a.__proto__'],
    ['{"a":1,"\\u0061":1}', 'a'],
    ['{"a":[],"b":{"c":{},"c":[]}}', 'b.c'],
    ['{"a":"\\ud800"}', 'a'],
    ['{"a":["x","\\udc00\\ud800"]}', 'a.1'],
    ['{"a":{"b\\u0000":1}}', 'a.b\0'],
    ['{"a":"\\u0000"}', 'a'],
    ['9007199254740993', 'body'],
    [`${'['.repeat(65)}${']'.repeat(65)}`, 'body'],
  ])('%s', (text, field) => expect(inexactJson(text)).toEqual([{ field, rule: expect.any(String) }]))
})
