// Pages of any history, with any decisions between two pages: each transfer once, none missed.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cursorParam } from '../http/define-route.ts'
import type { TransferFacts, TransferFilter, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import { createListTransfers } from './list-transfers.ts'

const ALICE = '00000000-0000-4000-8000-00000000000a'
const ANYTHING: TransferFilter = { type: null, status: null, direction: null }
const WALLETS = ['10000000-0000-4000-8000-000000000000', '20000000-0000-4000-8000-000000000000']

/** One event: an entry of a wallet, or a rejection, at a clock that may stand still or go back. */
type Event = { wallet: 0 | 1 | 'rejected'; at: number; type: 'transfer' | 'deposit' }
const event: fc.Arbitrary<Event> = fc.record({
  wallet: fc.constantFrom(0 as const, 1 as const, 'rejected' as const),
  at: fc.nat(5),
  type: fc.constantFrom('transfer' as const, 'deposit' as const),
})

const historyOf = () => {
  const posted: Array<{ walletId: string; sequence: bigint; facts: TransferFacts }> = []
  const rejected: TransferFacts[] = []
  let count = 0
  const add = ({ wallet, at, type }: Event) => {
    const facts: TransferFacts = {
      id: `00000000-0000-4000-9000-${String(++count).padStart(12, '0')}`,
      type,
      status: wallet === 'rejected' ? 'rejected' : 'completed',
      userId: ALICE,
      from: null,
      to: null,
      amount: 1n,
      currency: 'USD',
      fingerprint: Buffer.alloc(16),
      note: null,
      metadata: null,
      requestedAt: new Date(at),
      decidedAt: new Date(at),
      rejectionCode: wallet === 'rejected' ? 'INSUFFICIENT_BALANCE' : null,
      rejectionDetail: null,
      rejectionLimit: null,
      rejectionUsed: null,
      originalId: null,
      linkedTo: null,
      reversed: 0n,
      suspended: 0n,
      hold: null,
    }
    if (wallet === 'rejected') rejected.push(facts)
    else {
      const walletId = WALLETS[wallet]!
      const sequence = BigInt(posted.filter(row => row.walletId === walletId).length + 1)
      posted.push({ walletId, sequence, facts })
    }
    return facts
  }
  const list = createListTransfers({
    names: { namesOf: async () => new Map() } as never,
    personKeys: { decryptAll: async () => [] } as never,
    readWalletsOf: async () => WALLETS.map(id => ({ id }) as WalletFacts),
    readPosted: async (wallets, filter, limit) =>
      wallets.flatMap(({ id, before }) =>
        posted
          .filter(row => row.walletId === id && row.sequence < before)
          .filter(({ facts }) => filter.type === null || facts.type === filter.type)
          .sort((a, b) => Number(b.sequence - a.sequence))
          .slice(0, limit),
      ),
    readRejected: async (_user, before, type, limit) => {
      const place = (moment: Date, id: string) => `${String(moment.getTime()).padStart(20, '0')} ${id}`
      return rejected
        .filter(facts => place(facts.decidedAt, facts.id) < place(before.decidedAt, before.id))
        .filter(facts => type === null || facts.type === type)
        .sort((a, b) => (place(a.decidedAt, a.id) < place(b.decidedAt, b.id) ? 1 : -1))
        .slice(0, limit)
    },
  })
  return { add, list }
}

describe('pages', () => {
  test('every transfer once, with any page size and no matter what happens between two pages', () => {
    return fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 30 }),
        fc.array(fc.array(event, { maxLength: 3 }), { maxLength: 10 }),
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom<TransferFilter>(
          ANYTHING,
          { ...ANYTHING, type: 'deposit' },
          { ...ANYTHING, status: 'rejected' },
        ),
        async (before, during, limit, filter) => {
          const { add, list } = historyOf()
          const wanted = before
            .map(add)
            .filter(facts => filter.type === null || facts.type === filter.type)
            .filter(facts => filter.status === null || facts.status === filter.status)
            .map(({ id }) => id)
          const seen: string[] = []
          let cursor: string | undefined
          for (let page = 0; ; page++) {
            const { items, nextCursor } = await list(ALICE, filter, cursor, limit)
            expect(items.length <= limit).toBe(true)
            seen.push(...items.map(({ id }) => id))
            if (nextCursor === null) break
            expect(items).toHaveLength(limit)
            expect(nextCursor).toMatch(/^[A-Za-z0-9_-]+$/)
            cursor = nextCursor
            for (const happened of during[page] ?? []) add(happened)
          }
          expect(new Set(seen).size).toBe(seen.length)
          expect(wanted.filter(id => !seen.includes(id))).toEqual([])
        },
      ),
      { numRuns: 500 },
    )
  })

  test('the cursor of hundreds of wallets is one that the route takes', async () => {
    const ids = Array.from(
      { length: 400 },
      (_, at) => `${String(at).padStart(8, '0')}-0000-4000-8000-000000000000`,
    )
    const { add } = historyOf()
    const facts = add({ wallet: 0, at: 0, type: 'transfer' })
    const list = createListTransfers({
      names: { namesOf: async () => new Map() } as never,
      personKeys: { decryptAll: async () => [] } as never,
      readWalletsOf: async () => ids.map(id => ({ id }) as WalletFacts),
      readPosted: async wallets =>
        wallets
          .filter(({ before }) => before > 1n)
          .flatMap(({ id }) => [
            { walletId: id, sequence: 9_999_999n, facts },
            { walletId: id, sequence: 1n, facts },
          ]),
      readRejected: async () => [],
    })
    const { nextCursor } = await list(ALICE, ANYTHING, undefined, 400)
    expect(cursorParam.safeParse(nextCursor).success).toBe(true)
    const next = await list(ALICE, ANYTHING, nextCursor!, 400)
    expect(next.items).toHaveLength(400)
  })

  test('any text as a cursor is a page or a 422, never anything else', () => {
    const encoded = fc
      .tuple(
        fc.oneof(
          fc.stringMatching(/^[0-9a-z]{1,12}-[0-9a-f-]{36}$/),
          fc.uuid().map(id => `zzzzzzzzzz-${id}`),
        ),
        fc.array(fc.stringMatching(/^[0-9a-f]{11,13}[0-9a-z]{0,12}$/)),
      )
      .map(([rejected, wallets]) => [rejected, ...wallets].join('_'))
    return fc.assert(
      fc.asyncProperty(fc.oneof(fc.base64String(), fc.string(), encoded), async cursor => {
        const { add, list } = historyOf()
        add({ wallet: 0, at: 1, type: 'transfer' })
        try {
          await list(ALICE, ANYTHING, cursor, 20)
        } catch (error) {
          expect(error).toBeInstanceOf(ProblemError)
          expect((error as ProblemError).code).toBe('VALIDATION_ERROR')
        }
      }),
      { numRuns: 1_000 },
    )
  })
})
