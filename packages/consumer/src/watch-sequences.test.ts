import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createSequenceWatch } from './watch-sequences.ts'

const setUp = () => {
  let now = 0
  let caughtUp = true
  const watch = createSequenceWatch({
    clock: { elapsed: () => now },
    graceMs: 60_000,
    caughtUp: () => caughtUp,
  })
  const pass = (ms: number) => {
    now += ms
  }
  return {
    ...watch,
    pass,
    fallBehind: () => {
      caughtUp = false
    },
    catchUp: () => {
      caughtUp = true
      pass(1_000)
    },
  }
}

test('O2: complete in any order, with any repeats: no hole', () => {
  const arrivals = fc.nat(30).chain(count =>
    fc.tuple(
      fc.shuffledSubarray(
        Array.from({ length: count }, (_, index) => index + 2),
        { minLength: count },
      ),
      fc.array(fc.integer({ min: 1, max: count + 1 })),
    ),
  )
  fc.assert(
    fc.property(arrivals, ([order, repeats]) => {
      const { saw, holes, pass } = setUp()
      pass(60_000)
      for (const sequence of [1, ...order, ...repeats]) saw('wallet', sequence)
      pass(60_000)
      expect(holes()).toEqual([])
    }),
  )
})

test('O2: what is left out is named, the first of it, once it has been missing for a while', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 2, max: 29 }), { minLength: 1 }), lost => {
      const { saw, holes, pass } = setUp()
      pass(60_000)
      for (let sequence = 1; sequence <= 30; sequence++) if (!lost.includes(sequence)) saw('wallet', sequence)
      pass(59_999)
      expect(holes()).toEqual([])
      pass(1)
      expect(holes()).toEqual([{ walletId: 'wallet', missing: Math.min(...lost) }])
      for (const sequence of lost) saw('wallet', sequence)
      expect(holes()).toEqual([])
    }),
  )
})

test('what was before the first one seen is not missed; one wallet is not another; a reset begins anew', () => {
  const { saw, holes, pass, reset } = setUp()
  pass(60_000)
  saw('a', 7)
  saw('b', 1)
  saw('a', 3)
  saw('a', 8)
  saw('b', 3)
  pass(60_000)
  expect(holes()).toEqual([{ walletId: 'b', missing: 2 }])
  reset()
  saw('b', 5)
  pass(60_000)
  expect(holes()).toEqual([])
})

test('after a start nothing is held against a wallet until all was caught up once', () => {
  const { saw, holes, pass, reset, fallBehind, catchUp } = setUp()
  fallBehind()
  reset()
  pass(60_000)
  // 5 was handled before the start, by a partition that was ahead.
  for (const sequence of [4, 6, 9]) saw('wallet', sequence)
  catchUp()
  saw('wallet', 10)
  saw('wallet', 8)
  pass(60_000)
  expect(holes()).toEqual([])
  saw('wallet', 12)
  pass(60_000)
  expect(holes()).toEqual([{ walletId: 'wallet', missing: 11 }])
})

test('O2: a wallet that has more entries than came lacks them, until they come', () => {
  const { saw, reached, holes, pass } = setUp()
  pass(60_000)
  reached('wallet', 0)
  reached('wallet', 2)
  reached('other', 7)
  pass(59_999)
  expect(holes()).toEqual([])
  pass(1)
  expect(holes()).toEqual([{ walletId: 'wallet', missing: 1 }])
  saw('wallet', 2)
  expect(holes()).toEqual([{ walletId: 'wallet', missing: 1 }])
  saw('wallet', 1)
  reached('wallet', 1)
  pass(60_000)
  expect(holes()).toEqual([])
})

test('O2: what is told before all was caught up is not held against a wallet', () => {
  const { saw, reached, holes, pass, reset, fallBehind, catchUp } = setUp()
  fallBehind()
  reset()
  pass(60_000)
  saw('wallet', 1)
  reached('wallet', 4)
  catchUp()
  saw('wallet', 5)
  pass(60_000)
  expect(holes()).toEqual([])
})
