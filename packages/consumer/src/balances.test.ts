import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createBalances } from './balances.ts'

const entry = (sequence: number, walletId = 'w') => ({
  ...{ walletId, currency: 'USD', sequence, balanceAfterMinor: BigInt(sequence) * 10n },
})

test('in any order, with any repeats: the greatest sequence wins, and exactly what did not come is a gap', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), arrivals => {
      const balances = createBalances()
      const kinds = arrivals.map(sequence => balances.add(entry(sequence)))
      const came = new Set(arrivals)
      const last = Math.max(...arrivals)
      expect(kinds.filter(kind => kind !== 'repeat').length).toBe(came.size)
      expect(balances.all()).toEqual([
        { walletId: 'w', currency: 'USD', balance: BigInt(last) * 10n, sequence: last },
      ])
      const lacking = Array.from({ length: last }, (_, index) => index + 1).filter(one => !came.has(one))
      expect(balances.gaps()).toEqual(
        lacking.length === 0
          ? []
          : [{ walletId: 'w', missing: lacking.length, upTo: last, from: lacking[0] }],
      )
    }),
  )
})

test('a reader at the end waits only for what must exist by then', () => {
  const balances = createBalances()
  for (const sequence of [1, 3]) balances.add(entry(sequence))
  balances.add(entry(2, 'other'))
  const until = new Map([['w', 3]])
  expect(balances.gaps(until)).toEqual([{ walletId: 'w', missing: 1, upTo: 3, from: 2 }])
  balances.add(entry(9))
  balances.add(entry(2))
  expect(balances.gaps(until)).toEqual([])
  expect(balances.gaps().map(({ walletId }) => walletId)).toEqual(['other', 'w'])
})
