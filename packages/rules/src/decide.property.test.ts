// Properties that decide.ts keeps for any sequence of requests over any wallets, not only for chosen cases.
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Decision, decideDeposit, decideTransfer, move, post, type Wallet } from './decide.ts'
import { LIMITED_ACTIONS, NO_LIMITS, NOTHING_USED, usedNow, withUse } from './limits.ts'
import { NOW, system, withRoom } from './test-wallets.ts'

/** Limits apply to one tier's wallets; the other tier has none. */
const LIMITS = { perTransaction: 150n, daily: 200n, monthly: 280n }
const CIRCUMSTANCES = {
  nowMs: NOW,
  defaults: { unverified: () => LIMITS, verified: () => NO_LIMITS },
}
const USERS = ['alice', 'bob', 'carol']
const CURRENCIES = ['USD', 'JPY']
const USER_WALLETS = 5

/** Amounts around every edge: one, a wallet's balance, the largest amount that the books can hold. */
const amount = fc.oneof(
  fc.bigInt({ min: 1n, max: 200n }),
  fc.bigInt({ min: MAX_MINOR - 200n, max: MAX_MINOR }),
)
const balance = fc.oneof(
  fc.bigInt({ min: 0n, max: 300n }),
  fc.bigInt({ min: MAX_MINOR - 300n, max: MAX_MINOR }),
)

const userWallet = (id: string): fc.Arbitrary<Wallet> =>
  fc
    .record({
      userId: fc.constantFrom(...USERS),
      currency: fc.constantFrom(...CURRENCIES),
      status: fc.constantFrom(
        { status: 'active', freezeSource: null } as const,
        { status: 'active', freezeSource: null } as const,
        { status: 'active', freezeSource: null } as const,
        { status: 'closed', freezeSource: null } as const,
        { status: 'frozen', freezeSource: 'self' } as const,
        { status: 'frozen', freezeSource: 'pin' } as const,
        { status: 'frozen', freezeSource: 'staff' } as const,
      ),
      balance,
      heldShare: fc.constantFrom(0n, 0n, 1n, 2n, 4n),
      sequence: fc.nat(1_000),
      tier: fc.constantFrom('unverified', 'verified', 'verified'),
      sentBefore: fc.bigInt({ min: 0n, max: 140n }),
      sentToday: fc.bigInt({ min: 0n, max: 190n }),
    })
    .map(({ status, heldShare, sentBefore, sentToday, ...wallet }) => ({
      id,
      usage: withUse(withUse(NOTHING_USED, 'send', sentBefore, NOW - 86_400_000), 'send', sentToday, NOW),
      ownLimits: [],
      ...wallet,
      ...status,
      held: heldShare === 0n ? 0n : wallet.balance / heldShare,
    }))

const systemWallet = (id: string, currency: string): Wallet => system({ id, currency })

/** Users' wallets in any possible state, and the system wallets that have funded their balances. */
const books: fc.Arbitrary<Map<string, Wallet>> = fc
  .tuple(...Array.from({ length: USER_WALLETS }, (_, index) => userWallet(`wallet-${index}`)))
  .map(wallets => {
    const all = [...wallets]
    for (const currency of CURRENCIES) {
      const given = wallets
        .filter(wallet => wallet.currency === currency)
        .reduce((sum, { balance }) => sum + balance, 0n)
      all.push(systemWallet(`suspense-${currency}`, currency))
      // Stands for as many external wallets as needed: one alone cannot have paid out more than the largest balance.
      all.push({ ...systemWallet(`past-${currency}`, currency), balance: -given })
      all.push(systemWallet(`outside-${currency}`, currency))
    }
    return new Map(all.map(wallet => [wallet.id, wallet]))
  })

const walletId = fc.oneof(
  { weight: 12, arbitrary: fc.nat(USER_WALLETS - 1).map(index => `wallet-${index}`) },
  { weight: 1, arbitrary: fc.constantFrom('outside-USD', 'suspense-USD', 'nobody') },
)
const request: fc.Arbitrary<TransferRequested> = fc.record({
  transferId: fc.uuid(),
  type: fc.constantFrom('transfer', 'transfer', 'deposit'),
  userId: fc.constantFrom(...USERS, 'mallory'),
  fromWalletId: walletId,
  toWalletId: walletId,
  amountMinor: amount,
  currency: fc.constantFrom(...CURRENCIES),
  fingerprint: fc.constant(Buffer.alloc(16)),
  requestedAt: fc.constant(NOW),
  expiresAt: fc.constantFrom(null, null, NOW - 1, NOW, NOW + 1),
  authenticatedBy: fc.constant('pin'),
  authenticatedAt: fc.constant(NOW),
  note: fc.constant(null),
  metadata: fc.constant(null),
  holdUntil: fc.constant(null),
})
/** Most requests use the sender's own wallet and its currency: otherwise nearly all would fail on the first rules. */
const requestsFor = (wallets: Map<string, Wallet>): fc.Arbitrary<TransferRequested[]> =>
  fc.array(
    fc.tuple(request, fc.nat(9)).map(([command, kind]) => {
      if (kind < 2) return command
      const wallet = wallets.get(command.type === 'deposit' ? command.toWalletId! : command.fromWalletId!)
      return wallet?.userId ? { ...command, userId: wallet.userId, currency: wallet.currency } : command
    }),
    { maxLength: 40 },
  )
const history = books.chain(wallets => requestsFor(wallets).map(requests => ({ wallets, requests })))

const copyOf = (wallets: Map<string, Wallet>) =>
  new Map([...wallets].map(([id, wallet]) => [id, { ...wallet }]))

const decide = (wallets: Map<string, Wallet>, command: TransferRequested): Decision =>
  command.type === 'deposit'
    ? decideDeposit(
        command,
        withRoom(wallets, `outside-${command.currency}`, command.amountMinor),
        wallets.get(command.toWalletId!),
        withRoom(wallets, `suspense-${command.currency}`, command.amountMinor),
      )
    : decideTransfer(
        command,
        wallets.get(command.fromWalletId!),
        wallets.get(command.toWalletId!),
        CIRCUMSTANCES,
      )

const apply = (wallets: Map<string, Wallet>, command: TransferRequested): Decision => {
  const decision = decide(wallets, command)
  if (decision.outcome === 'completed') post(decision, NOW)
  return decision
}

const sums = (wallets: Map<string, Wallet>): Record<string, bigint> => {
  const sums: Record<string, bigint> = {}
  for (const { currency, balance } of wallets.values()) sums[currency] = (sums[currency] ?? 0n) + balance
  return sums
}

/** A decision without its wallet objects, to compare decisions over separate copies of the wallets. */
const said = (decision: Decision) =>
  decision.outcome === 'rejected'
    ? decision
    : decision.movements
        .flatMap(({ postings }) => postings)
        .map(({ wallet, amount }) => [wallet.id, amount, wallet.balance, wallet.sequence])

describe('any sequence of requests over any wallets', () => {
  test('M1, M2, M3, M4: step by step, sums stay, nobody falls below zero, refusals change nothing', () => {
    fc.assert(
      fc.property(history, ({ wallets, requests }) => {
        for (const command of requests) {
          const before = copyOf(wallets)
          const decision = apply(wallets, command)
          expect(sums(wallets)).toEqual({ USD: 0n, JPY: 0n })
          for (const wallet of wallets.values()) {
            if (wallet.userId !== null) expect(wallet.balance - wallet.held >= 0n).toBe(true)
            if (!wallet.id.startsWith('past'))
              expect(wallet.balance <= MAX_MINOR && wallet.balance >= -MAX_MINOR).toBe(true)
          }
          if (decision.outcome === 'rejected') {
            expect(wallets).toEqual(before)
            continue
          }
          // Two entries that sum to zero, each with its wallet's next sequence; no other wallet changes.
          expect(decision.movements.length).toBe(1)
          const { postings } = decision.movements[0]!
          expect(postings.map(posting => posting.amount)).toEqual([-command.amountMinor, command.amountMinor])
          for (const [id, wallet] of wallets) {
            // A successor of a full system wallet is new.
            const was = before.get(id) ?? { ...wallet, balance: 0n, sequence: 0 }
            const amount = postings.find(posting => posting.wallet === wallet)?.amount
            expect(wallet).toEqual(
              amount === undefined
                ? was
                : { ...was, balance: was.balance + amount, sequence: was.sequence + 1, usage: wallet.usage },
            )
            // Only the sent or deposited amount counts, and only within the limits.
            const action = command.type === 'deposit' ? 'deposit' : 'send'
            const counts =
              amount !== undefined && wallet.userId !== null && amount > 0n === (action === 'deposit')
            for (const each of amount === undefined ? [] : LIMITED_ACTIONS) {
              const [before, after] = [usedNow(was.usage, each, NOW), usedNow(wallet.usage, each, NOW)]
              const more = counts && each === action ? command.amountMinor : 0n
              expect(after).toEqual({ day: before.day + more, month: before.month + more })
            }
            const sent = usedNow(wallet.usage, 'send', NOW)
            if (counts && action === 'send' && wallet.tier === 'unverified')
              expect(sent.day <= LIMITS.daily && sent.month <= LIMITS.monthly).toBe(true)
          }
        }
      }),
      { numRuns: 1_000 },
    )
  })

  test('deciding changes nothing, and the same question has the same answer', () => {
    fc.assert(
      fc.property(history, ({ wallets, requests }) => {
        for (const wallet of wallets.values()) Object.freeze(wallet)
        for (const command of requests)
          expect(decide(wallets, command)).toEqual(decide(copyOf(wallets), command))
      }),
    )
  })

  test('decisions are independent of all other wallets, and of the order in which those are asked', () => {
    fc.assert(
      fc.property(history, history, fc.infiniteStream(fc.boolean()), (ours, theirs, turns) => {
        const renamed = new Map(
          [...theirs.wallets].map(([id, wallet]) => [`their-${id}`, { ...wallet, id: `their-${id}` }]),
        )
        const alone = copyOf(ours.wallets)
        const expected = ours.requests.map(command => said(apply(alone, command)))
        const aloneToo = copyOf(theirs.wallets)
        for (const command of theirs.requests) apply(aloneToo, command)

        // Both histories over one set of wallets, interleaved at random; each keeps its own order.
        const world = new Map([...copyOf(ours.wallets), ...renamed])
        const theirWorld = {
          get: (id: string) => world.get(`their-${id}`),
          set: (id: string, wallet: Wallet) => world.set(`their-${id}`, wallet),
        } as Map<string, Wallet>
        const [mine, others] = [[...ours.requests], [...theirs.requests]]
        const decided: unknown[] = []
        while (mine.length + others.length > 0) {
          const turn = turns.next().value ? mine.shift() : undefined
          if (turn) decided.push(said(apply(world, turn)))
          else if (others.length > 0) apply(theirWorld, others.shift()!)
          else decided.push(said(apply(world, mine.shift()!)))
        }
        expect(decided).toEqual(expected)
        for (const [id, wallet] of alone) expect(world.get(id)).toEqual(wallet)
        for (const [id, wallet] of aloneToo)
          expect(world.get(`their-${id}`)).toEqual({ ...wallet, id: `their-${id}` })
      }),
      { numRuns: 300 },
    )
  })

  test('M1: what was received can be sent back, and then all is as it was but the numbering', () => {
    fc.assert(
      fc.property(history, ({ wallets, requests }) => {
        for (const command of requests) {
          const before = copyOf(wallets)
          const decision = apply(wallets, command)
          if (decision.outcome === 'rejected') continue
          const [from, to] = decision.movements[0]!.postings
          post({ movements: [move(to.wallet, from.wallet, to.amount)] }, NOW)
          for (const [id, was] of before) expect(wallets.get(id)!.balance).toBe(was.balance)
        }
      }),
    )
  })
})

/** The rules in the order of the table in decide.test.ts, each with a predicate that is true if it is broken. */
const RULES: Array<
  [string, (command: TransferRequested, from: Wallet | undefined, to: Wallet | undefined) => boolean]
> = [
  ['REQUEST_EXPIRED', ({ expiresAt }) => expiresAt !== null && expiresAt < NOW],
  ['WALLET_NOT_FOUND', ({ userId }, from) => from?.userId !== userId],
  ['RECIPIENT_NOT_FOUND', (_, __, to) => !to?.userId],
  ['SELF_TRANSFER', (_, from, to) => from?.id === to?.id],
  ['CURRENCY_MISMATCH', ({ currency }, from, to) => from?.currency !== currency || to?.currency !== currency],
  ['WALLET_CLOSED', (_, from) => from?.status === 'closed'],
  ['WALLET_FROZEN', (_, from) => from?.status === 'frozen'],
  ['RECIPIENT_UNAVAILABLE', (_, __, to) => to?.status === 'closed' || to?.freezeSource === 'staff'],
  [
    'PER_TRANSACTION_LIMIT_EXCEEDED',
    ({ amountMinor }, from) => from?.tier === 'unverified' && amountMinor > LIMITS.perTransaction,
  ],
  [
    'DAILY_LIMIT_EXCEEDED',
    ({ amountMinor }, from) =>
      from?.tier === 'unverified' && usedNow(from.usage, 'send', NOW).day + amountMinor > LIMITS.daily,
  ],
  [
    'MONTHLY_LIMIT_EXCEEDED',
    ({ amountMinor }, from) =>
      from?.tier === 'unverified' && usedNow(from.usage, 'send', NOW).month + amountMinor > LIMITS.monthly,
  ],
  [
    'INSUFFICIENT_BALANCE',
    ({ amountMinor }, from) => from !== undefined && from.balance < amountMinor + from.held,
  ],
  ['BALANCE_LIMIT', ({ amountMinor }, _, to) => to !== undefined && MAX_MINOR - to.balance < amountMinor],
]

describe('transfers', () => {
  test('the answer is the first rule that is broken, for every combination of broken rules', () => {
    const seen = new Set<string>()
    fc.assert(
      fc.property(history, ({ wallets, requests }) => {
        for (const command of requests.filter(({ type }) => type === 'transfer')) {
          const [from, to] = [wallets.get(command.fromWalletId!), wallets.get(command.toWalletId!)]
          const first = RULES.find(([, broken]) => broken(command, from, to))?.[0] ?? 'completed'
          const decision = apply(wallets, command)
          expect(decision.outcome === 'rejected' ? decision.code : 'completed').toBe(first)
          seen.add(first)
        }
      }),
      // A fixed seed: the outcomes seen are asserted below.
      { numRuns: 1_000, seed: 7 },
    )
    expect([...seen].sort()).toEqual(['completed', ...RULES.map(([code]) => code)].sort())
  })

  test('who can pay an amount can pay any smaller one', () => {
    fc.assert(
      fc.property(history, amount, ({ wallets, requests }, less) => {
        for (const command of requests.filter(({ type }) => type === 'transfer')) {
          if (less <= command.amountMinor && decide(wallets, command).outcome === 'completed')
            expect(decide(wallets, { ...command, amountMinor: less }).outcome).toBe('completed')
        }
      }),
    )
  })
})

describe('deposits', () => {
  test('a confirmed one is booked whole, to its wallet or to suspense, and never refused', () => {
    fc.assert(
      fc.property(history, ({ wallets, requests }) => {
        for (const command of requests.filter(({ type }) => type === 'deposit')) {
          const decision = apply(wallets, command)
          if (decision.outcome !== 'completed') expect.fail(decision.code)
          const { id, userId, currency } = decision.movements[0]!.postings[1].wallet
          expect(currency).toBe(command.currency)
          expect(
            id.startsWith(`suspense-${command.currency}`) ||
              (id === command.toWalletId && userId === command.userId),
          ).toBe(true)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('posting', () => {
  test('M1, M3: movements that would break a promise throw before anything is changed, whichever of them does', () => {
    const movement = fc.record({
      from: fc.nat(USER_WALLETS - 1),
      to: fc.nat(USER_WALLETS - 1),
      amount: fc.bigInt({ min: -20n, max: 400n }),
      astray: fc.oneof({ arbitrary: fc.constant(0n), weight: 9 }, fc.constantFrom(-1n, 1n)),
    })
    const seen = { M1: 0, M3: 0, posted: 0 }
    fc.assert(
      fc.property(books, fc.array(movement, { minLength: 1, maxLength: 3 }), (wallets, drawn) => {
        const [first, ...rest] = drawn.map(({ from, to, amount, astray }) => ({
          postings: [
            { wallet: wallets.get(`wallet-${from}`)!, amount: -amount },
            { wallet: wallets.get(`wallet-${to}`)!, amount: amount + astray },
          ] as const,
        }))
        const effects = { movements: [first!, ...rest.map(one => ({ ...one, type: 'fee' }))] } as const
        const before = copyOf(wallets)
        const wrong = effects.movements.some(
          ({ postings: [from, to] }) =>
            from.amount + to.amount !== 0n ||
            to.amount <= 0n ||
            from.wallet === to.wallet ||
            from.wallet.currency !== to.wallet.currency,
        )
        // Entry by entry, as a reader of the event sees the balances.
        const left = new Map([...wallets.values()].map(wallet => [wallet, wallet.balance - wallet.held]))
        const overdrawn = effects.movements
          .flatMap(({ postings }) => postings)
          .map(({ wallet, amount }) => {
            left.set(wallet, left.get(wallet)! + amount)
            return left.get(wallet)! < 0n
          })
          .includes(true)
        if (wrong || overdrawn) {
          seen[wrong ? 'M1' : 'M3']++
          expect(() => post(effects, NOW)).toThrow(wrong ? 'M1' : 'M3')
          expect(wallets).toEqual(before)
        } else {
          seen.posted++
          post(effects, NOW)
          expect(sums(wallets)).toEqual(sums(before))
          for (const [id, { balance, sequence }] of wallets) {
            const own = effects.movements
              .flatMap(({ postings }) => postings)
              .filter(one => one.wallet.id === id)
            expect(balance - before.get(id)!.balance).toBe(own.reduce((sum, { amount }) => sum + amount, 0n))
            expect(sequence - before.get(id)!.sequence).toBe(own.length)
          }
        }
      }),
      { numRuns: 1_000 },
    )
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(20)
  })
})
