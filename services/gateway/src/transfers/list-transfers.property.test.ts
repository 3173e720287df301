// Pages of any history, no matter what is decided between two pages: each transfer once, none missed.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { cursorParam } from '../http/define-route.ts'
import type { RequestPlace, TransferFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import type { PaymentFound } from './find-transfer.ts'
import { createListTransfers, type ListQuery, type ListTransfersDeps } from './list-transfers.ts'
import type { PendingRequest } from './sql/pending-requests.ts'
import type { TransferView } from './transfer-view.ts'

const ALICE = '00000000-0000-4000-8000-00000000000a'
const OTHER = '90000000-0000-4000-8000-000000000000'
const ANYTHING: ListQuery = {
  ...{ type: null, status: null, direction: null, counterpartyId: null, minAmount: null, maxAmount: null },
  ...{ since: null, until: null, walletId: null, currency: null },
}
const WALLETS = ['10000000-0000-4000-8000-000000000000', '20000000-0000-4000-8000-000000000000']

type Way = {
  /** How the gateway stores it: a request answered as pending, a payment, or not at all. */
  stored: 'request' | 'payment' | 'nothing'
  wallet: 0 | 1
  /** When it is requested, by a clock that may stand still or go back. */
  at: number
  /** How much later it is decided. */
  delay: number
  amount: number
  /** How it ends. */
  end: 'completed' | 'rejected' | 'failed'
}
type Story = Way & { id: string; step: 'requested' | 'written' | 'ended' | 'done'; decided: boolean }

/** What happens next: a new request, or the next step of one that is under way. */
type Event = { begin: Way } | { advance: number; late: boolean }
const way: fc.Arbitrary<Way> = fc.record({
  stored: fc.constantFrom('request' as const, 'payment' as const, 'nothing' as const),
  wallet: fc.constantFrom(0 as const, 1 as const),
  at: fc.nat(5),
  delay: fc.nat(5),
  amount: fc.integer({ min: 1, max: 3 }),
  end: fc.constantFrom('completed' as const, 'rejected' as const, 'failed' as const),
})
const event: fc.Arbitrary<Event> = fc.oneof(fc.record({ begin: way }), {
  weight: 2,
  arbitrary: fc.record({ advance: fc.nat(20), late: fc.boolean() }),
})

const isBelow = (a: RequestPlace, b: RequestPlace) =>
  Number(a.requestedAt) < Number(b.requestedAt) ||
  (Number(a.requestedAt) === Number(b.requestedAt) && a.id < b.id)

const newest = <Row extends RequestPlace>(
  rows: Row[],
  before: RequestPlace,
  since: Date | null,
  limit: number,
) =>
  rows
    .filter(row => isBelow(row, before) && (since === null || row.requestedAt >= since))
    .sort((a, b) => (isBelow(a, b) ? 1 : -1))
    .slice(0, limit)

/** The two databases, with the races between them. `most`: the bound of a reading with a filter. */
const historyOf = (most = 1_000) => {
  const posted: Array<{ walletId: string; sequence: bigint; facts: TransferFacts }> = []
  const rejected: TransferFacts[] = []
  const requests: PendingRequest[] = []
  const payments: Array<PaymentFound & { requestedAt: Date }> = []
  const stories: Story[] = []
  const countOf = (walletId: string) => BigInt(posted.filter(row => row.walletId === walletId).length)

  const partiesOf = ({ stored, wallet }: Way) => {
    const own = { walletId: WALLETS[wallet]!, userId: ALICE, code: 'PW-A', balanceAfter: 0n }
    const other = { walletId: OTHER, userId: 'bob', code: 'PW-B', balanceAfter: 0n }
    // Wallet 1 receives what is stored nowhere; payments into wallet 0 come from outside.
    if (stored === 'payment') return wallet === 0 ? { from: null, to: own } : { from: own, to: null }
    return stored === 'nothing' && wallet === 1 ? { from: other, to: own } : { from: own, to: other }
  }
  const typeOf = ({ stored, wallet }: Way) =>
    stored !== 'payment' ? 'transfer' : wallet === 0 ? 'deposit' : 'withdrawal'

  const decide = (story: Story, requestedAt: number) => {
    const isRejected = story.end === 'rejected'
    const { from, to } = partiesOf(story)
    const ownWallet = WALLETS[story.wallet]!
    const sequence = countOf(ownWallet) + 1n
    const withSequence = (party: typeof from) =>
      party && { ...party, sequence: !isRejected && party.walletId === ownWallet ? sequence : null }
    const facts = {
      ...{ id: story.id, type: typeOf(story), status: isRejected ? 'rejected' : 'completed', userId: ALICE },
      ...{ from: withSequence(from), to: withSequence(to), amount: BigInt(story.amount), currency: 'USD' },
      ...{ fingerprint: Buffer.alloc(16), note: null, metadata: null },
      ...{ requestedAt: new Date(requestedAt), decidedAt: new Date(requestedAt + story.delay) },
      ...{ rejectionCode: isRejected ? 'INSUFFICIENT_BALANCE' : null, rejectionDetail: null },
      ...{ rejectionLimit: null, rejectionUsed: null, originalId: null, linkedTo: null },
      ...{ reversed: 0n, suspended: 0n, hold: null },
    } as TransferFacts
    story.decided = true
    if (isRejected) rejected.push(facts)
    else posted.push({ walletId: ownWallet, sequence, facts })
  }

  const write = ({ stored, id, at, wallet, amount, ...story }: Story) => {
    const row = { ...{ amount: BigInt(amount), currency: 'USD', userId: ALICE, requestedAt: new Date(at) } }
    const { from, to } = partiesOf({ stored, at, wallet, amount, ...story })
    const fromWallet = from?.walletId ?? null
    const toWallet = to?.walletId ?? null
    if (stored === 'request') {
      requests.push({
        ...{ ...row, transferId: id, type: 'transfer', fromWallet, toWallet, fingerprint: Buffer.alloc(16) },
        ...{ note: null, metadata: null, expiresAt: new Date(at), acknowledged: true, isOpen: true },
      })
    }
    if (stored === 'payment') {
      const payment: PaymentFound = {
        ...{ ...row, id, kind: wallet === 0 ? 'deposit' : 'withdrawal', walletId: WALLETS[wallet]! },
        ...{ failed: false, done: false },
        subject: () => ({
          ...{ id, type: payment.kind, status: payment.failed ? 'rejected' : 'pending', userId: ALICE },
          ...{ from, to, amount: row.amount, currency: 'USD', note: null, metadata: null },
          ...{ requestedAt: row.requestedAt, decidedAt: null, rejection: null },
        }),
      }
      payments.push(payment)
    }
  }

  /** One step of a story. `late`: the row of a pending request is written after the decision, or the request was sent again. */
  const advance = (story: Story, late: boolean) => {
    const isPayment = story.stored === 'payment'
    if (story.step === 'requested') {
      if (story.stored === 'nothing') {
        decide({ ...story, end: story.end === 'failed' ? 'completed' : story.end }, story.at)
        story.decided = true
        story.step = 'done'
      } else if (late && !isPayment && story.end === 'completed') {
        decide(story, story.at)
        story.step = 'ended'
      } else {
        write(story)
        story.step = 'written'
      }
    } else if (story.step === 'written') {
      if (isPayment && story.end === 'failed') payments.find(({ id }) => id === story.id)!.failed = true
      else
        decide(
          { ...story, end: story.end === 'failed' ? 'rejected' : story.end },
          story.at + (late && !isPayment ? 3 : 0),
        )
      story.decided = true
      story.step = isPayment ? 'ended' : 'done'
    } else if (story.step === 'ended') {
      if (isPayment) payments.find(({ id }) => id === story.id)!.done = true
      else write(story)
      story.step = 'done'
    }
  }

  const happen = (happened: Event) => {
    if ('begin' in happened) {
      const id = `00000000-0000-4000-9000-${String(stories.length + 1).padStart(12, '0')}`
      stories.push({ ...happened.begin, id, step: 'requested', decided: false })
      return
    }
    const open = stories.filter(({ step }) => step !== 'done')
    if (open.length > 0) advance(open[happened.advance % open.length]!, happened.late)
  }

  const deps: ListTransfersDeps = {
    names: { namesOf: async () => new Map() } as never,
    personKeys: { decryptAll: async () => [] } as never,
    readWalletsOf: async () =>
      WALLETS.map(
        id => ({ id, userId: ALICE, code: 'PW-A', currency: 'USD', sequence: countOf(id) }) as WalletFacts,
      ),
    readPosted: async (wallets, { type, minAmount }, _period, limit, scan) =>
      wallets.flatMap(({ id, before }) => {
        const first = before - BigInt(scan) > 1n ? before - BigInt(scan) : 1n
        return posted
          .filter(row => row.walletId === id && row.sequence < before && row.sequence >= first)
          .map(row => ({
            ...{
              walletId: id,
              sequence: row.sequence,
              transferId: row.facts.id,
              decidedAt: row.facts.decidedAt,
            },
            matches:
              (type === null || row.facts.type === type) &&
              (minAmount === null || row.facts.amount >= minAmount),
            isBound: row.sequence === first && first > 1n,
          }))
          .filter(({ matches, sequence }) => matches || sequence === first)
          .sort((a, b) => Number(b.sequence - a.sequence))
          .slice(0, limit)
      }),
    readRejected: async (_user, before, since, limit) =>
      newest(rejected, before, since, limit).map(facts => ({
        ...facts,
        fromWallet: facts.from?.walletId ?? null,
        toWallet: facts.to?.walletId ?? null,
      })),
    readRequestsOf: async (_user, before, since, limit) =>
      newest(
        requests.map(request => ({ ...request, id: request.transferId })),
        before,
        since,
        limit,
      ),
    readRequestIds: async ids => ids.filter(id => requests.some(({ transferId }) => transferId === id)),
    readPaymentsOf: async (_user, before, since, limit) => newest(payments, before, since, limit),
    readMethods: async () => [],
    readTransfers: async ids =>
      [...posted.map(({ facts }) => facts), ...rejected].filter(({ id }) => ids.includes(id)),
    readWallets: async () => [],
    mostRead: { entries: most, requests: most },
  }
  return { happen, stories, deps, list: createListTransfers(deps) }
}

/** All that a list of everything shows now. */
const shownNow = async (list: ReturnType<typeof createListTransfers>, query: ListQuery) => {
  const items: TransferView[] = []
  let cursor: string | undefined
  do {
    const page = await list(ALICE, query, cursor, 100)
    items.push(...page.items)
    cursor = page.nextCursor ?? undefined
  } while (cursor !== undefined)
  return items
}

describe('pages', () => {
  test('every transfer once, with any page size and no matter what happens between two pages', () => {
    return fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 60, size: 'max' }),
        fc.array(fc.array(event, { maxLength: 6, size: 'max' }), { maxLength: 10, size: 'max' }),
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom<ListQuery>(
          ANYTHING,
          { ...ANYTHING, type: 'deposit' },
          { ...ANYTHING, status: 'rejected' },
          { ...ANYTHING, minAmount: 2n },
        ),
        async (before, during, limit, query) => {
          const { happen, stories, list } = historyOf()
          for (const happened of before) happen(happened)
          // Of what is there, what passes the filter for good: an outcome may still change what is pending.
          const isVisible = ({ stored, step, decided }: Story) =>
            decided || (stored !== 'nothing' && step !== 'requested')
          const wanted = stories
            .filter(isVisible)
            .filter(story => query.type === null || (story.stored === 'payment' && story.wallet === 0))
            .filter(story => query.minAmount === null || story.amount >= Number(query.minAmount))
            .filter(
              story =>
                query.status === null ||
                (story.decided && story.stored !== 'nothing' && story.end !== 'completed') ||
                (story.decided && story.stored === 'nothing' && story.end === 'rejected'),
            )
            .map(({ id }) => id)
          const seen: string[] = []
          let cursor: string | undefined
          for (let page = 0; ; page++) {
            const { items, nextCursor } = await list(ALICE, query, cursor, limit)
            expect(items.length).toBeLessThanOrEqual(limit)
            seen.push(...items.map(({ id }) => id))
            if (nextCursor === null) break
            expect(nextCursor).toMatch(/^[A-Za-z0-9_-]+$/)
            expect(nextCursor).not.toBe(cursor)
            cursor = nextCursor
            for (const happened of during[page] ?? []) happen(happened)
          }
          expect(new Set(seen).size).toBe(seen.length)
          expect(wanted.filter(id => !seen.includes(id))).toEqual([])
        },
      ),
      { numRuns: 1_000 },
    )
  })

  test('with a bound on what one page reads: the same transfers, each once, in pages that may be short', () => {
    return fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 60, size: 'max' }),
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom<ListQuery>(
          { ...ANYTHING, minAmount: 3n },
          { ...ANYTHING, type: 'withdrawal' },
          { ...ANYTHING, status: 'pending' },
          { ...ANYTHING, status: 'rejected' },
          { ...ANYTHING, status: 'completed', minAmount: 3n },
        ),
        async (events, limit, most, query) => {
          const [bounded, whole] = [historyOf(most), historyOf()]
          for (const happened of events) {
            bounded.happen(happened)
            whole.happen(happened)
          }
          const expected = (await shownNow(whole.list, query)).map(({ id }) => id)
          const seen: string[] = []
          let cursor: string | undefined
          for (let page = 0; page < 1_000; page++) {
            const { items, nextCursor } = await bounded.list(ALICE, query, cursor, limit)
            seen.push(...items.map(({ id }) => id))
            if (nextCursor === null) break
            cursor = nextCursor
          }
          expect(seen.toSorted()).toEqual(expected.toSorted())
          expect(new Set(seen).size).toBe(seen.length)
        },
      ),
      { numRuns: 1_000 },
    )
  })

  test('each is shown as it stands', async () => {
    const { happen, list } = historyOf()
    const base = { wallet: 1, at: 1, delay: 0, amount: 1 } as const
    const begin = (stored: Way['stored'], end: Way['end']) => happen({ begin: { ...base, stored, end } })
    const advance = (index: number) => happen({ advance: index, late: false })
    const statuses = async (query = ANYTHING) =>
      (await shownNow(list, query)).map(({ type, status }) => `${type} ${status}`)
    begin('request', 'completed')
    begin('payment', 'failed')
    begin('payment', 'completed')
    expect(await statuses()).toEqual([])
    for (const index of [0, 1, 2]) advance(index)
    expect(await statuses()).toEqual(['withdrawal pending', 'withdrawal pending', 'transfer pending'])
    expect(await statuses({ ...ANYTHING, status: 'pending', type: 'transfer' })).toEqual(['transfer pending'])
    for (const index of [0, 0, 1]) advance(index)
    expect((await statuses()).toSorted()).toEqual([
      'transfer completed',
      'withdrawal completed',
      'withdrawal rejected',
    ])
    expect(await statuses({ ...ANYTHING, status: 'rejected' })).toEqual(['withdrawal rejected'])
    expect(await statuses({ ...ANYTHING, status: 'pending' })).toEqual([])
  })

  test('a request that Kafka never had is listed no longer than it may be decided', async () => {
    const { happen, list, deps } = historyOf()
    happen({ begin: { stored: 'request', wallet: 0, at: 1, delay: 0, amount: 1, end: 'completed' } })
    happen({ advance: 0, late: false })
    expect(await shownNow(list, ANYTHING)).toHaveLength(1)
    const closed = createListTransfers({
      ...deps,
      readRequestsOf: async (...asked) =>
        (await deps.readRequestsOf(...asked)).map(request => ({ ...request, isOpen: false })),
    })
    expect(await shownNow(closed, ANYTHING)).toEqual([])
  })

  test('the cursor of hundreds of wallets is one that the route takes', async () => {
    const ids = Array.from(
      { length: 400 },
      (_, at) => `${String(at).padStart(8, '0')}-0000-4000-8000-000000000000`,
    )
    const { happen, deps } = historyOf()
    happen({ begin: { stored: 'nothing', wallet: 0, at: 0, delay: 0, amount: 1, end: 'completed' } })
    happen({ advance: 0, late: false })
    const [facts] = await deps.readTransfers(['00000000-0000-4000-9000-000000000001'])
    const list = createListTransfers({
      ...deps,
      readWalletsOf: async () => ids.map(id => ({ id, sequence: 9_999_999n }) as WalletFacts),
      readPosted: async wallets =>
        wallets.flatMap(({ id, before }) =>
          [9_999_999n, 1n]
            .filter(sequence => sequence < before)
            .map(sequence => ({
              walletId: id,
              sequence,
              transferId: facts!.id,
              decidedAt: facts!.decidedAt,
              matches: true,
              isBound: false,
            })),
        ),
    })
    const { nextCursor } = await list(ALICE, ANYTHING, undefined, 400)
    expect(cursorParam.safeParse(nextCursor).success).toBe(true)
    const next = await list(ALICE, ANYTHING, nextCursor!, 400)
    expect(next.items).toHaveLength(400)
    expect(next.nextCursor).toBeNull()
  })

  test('any text as a cursor is a page or a 422, never anything else', () => {
    const encoded = fc
      .tuple(
        fc.oneof(
          fc.stringMatching(/^[0-9a-z]{1,12}-[0-9a-f-]{36}$/),
          fc.uuid().map(id => `zzzzzzzzzz-${id}`),
        ),
        fc.array(fc.stringMatching(/^[0-9a-f]{11,13}[0-9a-z]{0,12}-[0-9a-z]{0,12}$/)),
        fc.constantFrom('2', '', '1'),
      )
      .map(([request, wallets, form]) => [form, request, ...wallets].join('_'))
    return fc.assert(
      fc.asyncProperty(fc.oneof(fc.base64String(), fc.string(), encoded), async cursor => {
        const { happen, list } = historyOf()
        happen({ begin: { stored: 'nothing', wallet: 0, at: 1, delay: 0, amount: 1, end: 'completed' } })
        happen({ advance: 0, late: false })
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
