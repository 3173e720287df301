import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalJson, fingerprintOf } from './fingerprint.ts'

/** Any value of a body as JSON.parse returns it, with names such as __proto__ and every number form. */
const json = fc
  .jsonValue({ stringUnit: 'binary', maxDepth: 4 })
  .map(value => JSON.parse(JSON.stringify(value)))
const metadata = fc
  .dictionary(
    fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'toString', '1', '10')),
    json,
    {
      maxKeys: 5,
    },
  )
  .map(value => JSON.parse(JSON.stringify(value)) as Record<string, unknown>)
const text = fc.option(fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('null', '{}', '')))
// isDeepStrictEqual compares prototypes too, so all records have the same one.
const members = {
  type: fc.constantFrom('transfer', 'deposit'),
  fromWalletId: fc.option(fc.constantFrom('a', 'b')),
  toWalletId: fc.option(fc.constantFrom('a', 'b')),
  amount: fc.bigInt({ min: 1n, max: 3n }),
  currency: fc.constantFrom('USD', 'EUR'),
  note: text,
  metadata: fc.option(metadata),
}
const request = fc.record(members, { noNullPrototype: true })

/** The same value with the members of all its objects in another order. */
const turned = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(turned)
  if (value === null || typeof value !== 'object') return value
  const copy = JSON.parse('{}')
  for (const [name, member] of Object.entries(value).reverse())
    Object.defineProperty(copy, name, {
      value: turned(member),
      enumerable: true,
      configurable: true,
      writable: true,
    })
  return copy
}

test('canonical JSON is JSON, and says the same of the same content only', () => {
  fc.assert(
    fc.property(json, json, (value, other) => {
      expect(JSON.parse(canonicalJson(value))).toEqual(value)
      expect(canonicalJson(turned(value))).toBe(canonicalJson(value))
      expect(canonicalJson(value) === canonicalJson(other)).toBe(isDeepStrictEqual(value, other))
    }),
    { numRuns: 1_000 },
  )
})

test('X3: two requests have one fingerprint exactly if they say the same', () => {
  fc.assert(
    fc.property(request, request, (one, other) => {
      expect(fingerprintOf(one)).toHaveLength(16)
      expect(fingerprintOf(one).equals(fingerprintOf(other))).toBe(isDeepStrictEqual(one, other))
      const again = { ...one, metadata: turned(one.metadata) as Record<string, unknown> | null }
      expect(fingerprintOf(again)).toEqual(fingerprintOf(one))
    }),
    { numRuns: 1_000 },
  )
})

test('X3: any change to any member makes it another request', () => {
  fc.assert(
    fc.property(
      request,
      fc.constantFrom('type', 'fromWalletId', 'toWalletId', 'amount', 'currency', 'note', 'metadata'),
      request,
      (one, member, other) => {
        fc.pre(!isDeepStrictEqual(one[member as 'note'], other[member as 'note']))
        expect(fingerprintOf({ ...one, [member]: other[member as 'note'] })).not.toEqual(fingerprintOf(one))
      },
    ),
  )
})
