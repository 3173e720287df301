// Counting uses out of order must end in the same sums as counting them in order.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  inheritUsage,
  LIMITED_ACTIONS,
  mergeUse,
  NOTHING_USED,
  type Usage,
  type Use,
  withoutUse,
  withUse,
} from './limits.ts'

const START_MS = Date.UTC(2026, 0, 25)
const HOUR_MS = 3_600_000

type Step = {
  action: Use['action']
  amount: bigint
  hours: number
  partition: number
  isHold: boolean
  endsAfter: number
}

const steps = fc.array(
  fc.record({
    action: fc.constantFrom(...LIMITED_ACTIONS),
    amount: fc.bigInt(1n, 1_000n),
    hours: fc.integer({ min: 0, max: 60 }),
    partition: fc.integer({ min: 0, max: 2 }),
    isHold: fc.boolean(),
    endsAfter: fc.integer({ min: 0, max: 900 }),
  }),
  { maxLength: 40 },
)

/** The uses in the order of time; holds give their amount back later. */
const usesOf = (all: Step[]): Array<Use & { partition: number }> => {
  let atMs = START_MS
  const uses = all.flatMap(({ action, amount, hours, partition, isHold, endsAfter }) => {
    atMs += hours * HOUR_MS
    const use = { action, amount, atMs, partition }
    if (!isHold) return [use]
    return [use, { action, amount, atMs: atMs + endsAfter * HOUR_MS, countedMs: atMs, partition }]
  })
  return uses
    .map((use, index) => ({ use, index }))
    .sort((a, b) => a.use.atMs - b.use.atMs || a.index - b.index)
    .map(({ use }) => use)
}

const inOrder = (uses: Use[], start: Usage = NOTHING_USED): Usage =>
  uses.reduce(
    (usage, { action, amount, atMs, countedMs }) =>
      countedMs === undefined
        ? withUse(usage, action, amount, atMs)
        : withoutUse(usage, action, amount, countedMs, atMs),
    start,
  )

const merged = (uses: Array<Use & { partition: number }>, start: Usage = NOTHING_USED): Usage => {
  const days = new Map<number, number>()
  return uses.reduce((before, use) => {
    const { usage, day } = mergeUse(before, use, days.get(use.partition) ?? start.day)
    days.set(use.partition, day)
    return usage
  }, start)
}

describe('uses that are counted out of order', () => {
  test('partition after partition, or in order, they end in the same sums', () => {
    fc.assert(
      fc.property(steps, all => {
        const uses = usesOf(all)
        const expected = inOrder(uses)
        expect(merged(uses)).toEqual(expected)
        expect(merged(uses.toSorted((a, b) => a.partition - b.partition))).toEqual(expected)
        expect(merged(uses.toSorted((a, b) => b.partition - a.partition))).toEqual(expected)
      }),
    )
  })

  test('on top of what was used before', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 40 }), (all, cut) => {
        const uses = usesOf(all)
        const before = inOrder(uses.slice(0, cut))
        const rest = uses.slice(cut).toSorted((a, b) => b.partition - a.partition)
        expect(merged(rest, before)).toEqual(inOrder(uses))
      }),
    )
  })

  test('a clock that steps back in one partition counts as it did', () => {
    fc.assert(
      fc.property(steps, all => {
        const uses = usesOf(all)
          .map(use => ({ ...use, partition: 0 }))
          .map((use, index) => (index % 3 === 2 ? { ...use, atMs: use.atMs - 50 * HOUR_MS } : use))
          .filter(({ countedMs }) => countedMs === undefined)
        expect(merged(uses)).toEqual(inOrder(uses))
      }),
    )
  })

  test('a wallet that inherits usage counts on from it', () => {
    fc.assert(
      fc.property(steps, fc.integer({ min: 0, max: 40 }), (all, cut) => {
        const uses = usesOf(all).filter(({ countedMs }) => countedMs === undefined)
        const before = inOrder(uses.slice(0, cut))
        expect(inheritUsage(before, inOrder(uses.slice(cut)))).toEqual(inOrder(uses))
      }),
    )
  })
})
