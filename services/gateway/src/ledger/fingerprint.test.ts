import { expect, test } from 'vitest'
import { canonicalJson, fingerprintOf } from './fingerprint.ts'

const request = {
  type: 'transfer',
  fromWalletId: 'a',
  toWalletId: 'b',
  amount: 100n,
  currency: 'USD',
  note: null,
  metadata: { order: 1, tags: ['x', { b: 1, a: 2 }] },
}

test('X3: the order of members is no difference', () => {
  const turned = { ...request, metadata: { tags: ['x', { a: 2, b: 1 }], order: 1 } }
  expect(fingerprintOf(turned)).toEqual(fingerprintOf(request))
})

test.each([
  { type: 'deposit' },
  { fromWalletId: 'c' },
  { toWalletId: null },
  { amount: 101n },
  { currency: 'EUR' },
  { note: '' },
  { note: 'null' },
  { metadata: null },
  { metadata: { order: '1', tags: ['x', { b: 1, a: 2 }] } },
  { metadata: { order: 1, tags: [{ b: 1, a: 2 }, 'x'] } },
])('X3: %o makes it another request', change => {
  expect(fingerprintOf({ ...request, ...change })).not.toEqual(fingerprintOf(request))
})

test('canonical JSON is JSON', () => {
  expect(JSON.parse(canonicalJson(request.metadata))).toEqual(request.metadata)
})
