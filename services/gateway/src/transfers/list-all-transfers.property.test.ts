import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { DecidedPlace, TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { createListAllTransfers, type ListAllDeps } from './list-all-transfers.ts'

const NOW = Date.parse('2026-11-28T12:00:00Z')
const BEGIN = Date.parse('2026-01-01T00:00:00Z')
const ANY = { type: null, status: null, currency: null, minAmount: null, maxAmount: null }

type Row = DecidedPlace & { amount: bigint }
const isAfter = (a: DecidedPlace, b: DecidedPlace) =>
  a.decidedAt < b.decidedAt || (a.decidedAt.getTime() === b.decidedAt.getTime() && a.id < b.id)
const newestFirst = (rows: Row[]) => rows.toSorted((a, b) => (isAfter(a, b) ? 1 : -1))

const listOf = (rows: Row[], mostRead: number) => {
  const read: number[] = []
  const deps: ListAllDeps = {
    personKeys: { decryptAll: async texts => texts.map(() => null) } as PersonKeys,
    readDecidedAfter: async (place, since, { minAmount }, most) => {
      const found = newestFirst(rows)
        .filter(row => isAfter(row, place) && row.decidedAt >= since)
        .slice(0, most)
      read.push(found.length)
      return found.map(({ amount, ...row }) => ({
        ...row,
        matches: minAmount === null || amount >= minAmount,
      }))
    },
    readTransfers: async ids =>
      ids.toReversed().map(id => ({ id, note: null, metadata: null, rejectionCode: null }) as TransferFacts),
    mostRead,
    clock: { now: () => NOW } as ListAllDeps['clock'],
  }
  return { list: createListAllTransfers(deps), read }
}

const idOf = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
const someRows = fc
  .array(
    // Many at one moment, many in one minute, and years apart.
    fc.oneof(
      fc.constant(NOW),
      fc.integer({ min: NOW - 60_000, max: NOW + 30_000 }),
      fc.integer({ min: BEGIN, max: NOW }),
    ),
    { maxLength: 60 },
  )
  .map(times =>
    times.map((ms, index): Row => ({ id: idOf(index), decidedAt: new Date(ms), amount: BigInt(index % 7) })),
  )

test('pages show each transfer that the filter wants once, newest first, and read a bounded number of rows each', () =>
  fc.assert(
    fc.asyncProperty(
      someRows,
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 20, max: 40 }),
      fc.option(fc.bigInt({ min: 0n, max: 7n }), { nil: null }),
      fc.option(fc.integer({ min: BEGIN, max: NOW }), { nil: null }),
      fc.option(fc.integer({ min: BEGIN, max: NOW }), { nil: null }),
      async (rows, limit, mostRead, minAmount, since, until) => {
        const { list, read } = listOf(rows, mostRead)
        const date = (ms: number | null) => (ms === null ? null : new Date(ms))
        const filter = { ...ANY, minAmount, since: date(since), until: date(until) }
        const shown: string[] = []
        let cursor: string | undefined
        for (let pages = 0; pages <= rows.length + 1; pages++) {
          read.length = 0
          const { subjects, nextCursor } = await list(filter, cursor, limit)
          expect(subjects.length).toBeLessThanOrEqual(limit)
          expect(read.reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(mostRead)
          shown.push(...subjects.map(({ id }) => id))
          if (nextCursor === null) break
          cursor = nextCursor
        }
        const wanted = newestFirst(rows).filter(
          ({ amount, decidedAt }) =>
            (minAmount === null || amount >= minAmount) &&
            decidedAt.getTime() >= (since ?? BEGIN) &&
            (until === null || decidedAt.getTime() < until),
        )
        expect(shown).toEqual(wanted.map(({ id }) => id))
      },
    ),
    { numRuns: 300 },
  ))

test.each(['', 'x', 'zzz_', `1_${'x'.repeat(36)}`])('%j is no cursor', cursor =>
  expect(listOf([], 20).list({ ...ANY, since: null, until: null }, cursor, 5)).rejects.toMatchObject({
    code: 'VALIDATION_ERROR',
  }),
)
