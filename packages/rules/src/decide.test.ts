import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { describe, expect, test } from 'vitest'
import {
  type Decision,
  decideCapture,
  decideDeposit,
  decideHold,
  decideReversal,
  decideTransfer,
  decideVoid,
  decideWithdrawal,
  move,
  post,
  type Wallet,
} from './decide.ts'
import { usedNow } from './limits.ts'
import {
  bobs,
  capture,
  circumstances,
  hold,
  NOW,
  original,
  request,
  reversal,
  system,
  voidHold,
  wallet,
} from './test-wallets.ts'

const full = MAX_MINOR
const closed = { status: 'closed' } as const
const byStaff = { status: 'frozen', freezeSource: 'staff' } as const
const bySelf = { status: 'frozen', freezeSource: 'self' } as const
const byPin = { status: 'frozen', freezeSource: 'pin' } as const
const anything = circumstances()
/** Every limit below 100. */
const tight = circumstances({ perTransaction: 99n, daily: 98n, monthly: 97n })

const expectRefusal = (decision: Decision, code: string) =>
  expect(decision).toMatchObject({ outcome: 'rejected', code })

describe.each([
  ['transfers', decideTransfer],
  ['holds', decideHold],
] as const)('%s: each row mends the rule above it and still breaks every rule below', (_what, decide) => {
  const broke = { balance: 99n }
  const foreign = { currency: 'EUR' }
  test.each([
    ['REQUEST_EXPIRED', { expiresAt: NOW - 1 }, undefined, undefined, tight],
    ['WALLET_NOT_FOUND', {}, undefined, undefined, tight],
    ['WALLET_NOT_FOUND', {}, wallet({ userId: 'mallory' }), undefined, tight],
    ['WALLET_NOT_FOUND', {}, wallet({ userId: null }), undefined, tight],
    ['RECIPIENT_NOT_FOUND', {}, wallet({ ...broke, ...foreign, ...closed }), undefined, tight],
    ['RECIPIENT_NOT_FOUND', {}, wallet({ ...broke, ...foreign, ...closed }), system(), tight],
    ['SELF_TRANSFER', {}, wallet({ ...broke, ...foreign, ...closed }), wallet(closed), tight],
    ['CURRENCY_MISMATCH', {}, wallet({ ...broke, ...foreign, ...closed }), bobs(closed), tight],
    ['CURRENCY_MISMATCH', {}, wallet({ ...broke, ...closed }), bobs({ ...foreign, ...closed }), tight],
    ['WALLET_CLOSED', {}, wallet({ ...broke, ...closed }), bobs({ ...closed, balance: full }), tight],
    ['WALLET_FROZEN', {}, wallet({ ...broke, ...bySelf }), bobs(closed), tight],
    ['RECIPIENT_UNAVAILABLE', {}, wallet(broke), bobs({ ...closed, balance: full }), tight],
    ['RECIPIENT_UNAVAILABLE', {}, wallet(broke), bobs({ ...byStaff, balance: full }), tight],
    ['PER_TRANSACTION_LIMIT_EXCEEDED', {}, wallet(broke), bobs({ balance: full }), tight],
    [
      'DAILY_LIMIT_EXCEEDED',
      {},
      wallet(broke),
      bobs({ balance: full }),
      circumstances({ daily: 99n, monthly: 98n }),
    ],
    ['MONTHLY_LIMIT_EXCEEDED', {}, wallet(broke), bobs({ balance: full }), circumstances({ monthly: 99n })],
    ['INSUFFICIENT_BALANCE', {}, wallet(broke), bobs({ balance: full }), anything],
    ['INSUFFICIENT_BALANCE', {}, wallet({ held: 1n }), bobs({ balance: full }), anything],
    ['BALANCE_LIMIT', {}, wallet(), bobs({ balance: full - 99n }), anything],
  ] as const)('%s', (code, over, sender, recipient, when) =>
    expectRefusal(decide(request(over), sender, recipient, when), code),
  )

  test.each([
    ['the whole balance', {}, {}],
    ['never expiring', { expiresAt: null }, {}],
    ['to a self-frozen wallet', {}, bySelf],
    ['to a PIN-frozen wallet', {}, byPin],
    ['up to the largest balance', {}, { balance: MAX_MINOR - 100n }],
  ] as const)('%s is done, and counts as sent', (_case, over, recipient) => {
    const sender = wallet()
    const receiver = bobs(recipient)
    const limits = circumstances({ perTransaction: 100n, daily: 100n, monthly: 100n })
    const decision = decide(request(over), sender, receiver, limits)
    expect(decision).toEqual({
      outcome: 'completed',
      ...(decide === decideTransfer
        ? {
            movements: [
              {
                postings: [
                  { wallet: sender, amount: -100n },
                  { wallet: receiver, amount: 100n },
                ],
              },
            ],
          }
        : { movements: [], held: { wallet: sender, amount: 100n } }),
      counted: { wallet: sender, action: 'send', amount: 100n },
    })
  })

  test('M4: deciding changes nothing by itself', () => {
    const sender = Object.freeze(wallet())
    const receiver = Object.freeze(bobs())
    decide(request(), sender, receiver, anything)
    decide(request({ amountMinor: 101n }), sender, receiver, anything)
  })
})

test('a refusal by a limit tells the limit and what of it is used', () => {
  const sender = wallet({ balance: 1_000n })
  const limits = circumstances({ daily: 150n })
  const first = decideTransfer(request(), sender, bobs(), limits)
  if (first.outcome === 'completed') post(first, NOW)
  expect(decideTransfer(request(), sender, bobs(), limits)).toMatchObject({
    code: 'DAILY_LIMIT_EXCEEDED',
    detail: 'amount: at most 1.50 USD in one day (UTC), of which 1.00 are used.',
    breach: { limit: 150n, used: 100n },
  })
})

describe('withdrawals: each row mends the rule above it and still breaks every rule below', () => {
  const out = { type: 'withdrawal', toWalletId: null }
  test.each([
    ['REQUEST_EXPIRED', { expiresAt: NOW - 1 }, undefined, tight],
    ['WALLET_NOT_FOUND', {}, undefined, tight],
    ['WALLET_NOT_FOUND', { toWalletId: 'wallet-b' }, wallet({ userId: 'mallory' }), tight],
    ['WALLET_NOT_FOUND', {}, system({ id: 'wallet-a' }), tight],
    ['RECIPIENT_NOT_FOUND', { toWalletId: 'wallet-b' }, wallet({ ...closed, currency: 'EUR' }), tight],
    ['CURRENCY_MISMATCH', {}, wallet({ ...closed, currency: 'EUR', balance: 0n }), tight],
    ['WALLET_CLOSED', {}, wallet({ ...closed, balance: 0n }), tight],
    ['WALLET_FROZEN', {}, wallet({ ...byPin, balance: 0n }), tight],
    ['PER_TRANSACTION_LIMIT_EXCEEDED', {}, wallet({ balance: 0n }), tight],
    ['DAILY_LIMIT_EXCEEDED', {}, wallet({ balance: 0n }), circumstances({ daily: 99n, monthly: 98n })],
    ['MONTHLY_LIMIT_EXCEEDED', {}, wallet({ balance: 0n }), circumstances({ monthly: 99n })],
    ['INSUFFICIENT_BALANCE', {}, wallet({ held: 1n }), anything],
  ] as const)('%s', (code, over, owner, when) =>
    expectRefusal(decideWithdrawal(request({ ...out, ...over }), owner, when), code),
  )

  test('the whole balance is held, and counts as withdrawn, not as sent', () => {
    const owner = wallet()
    const decision = decideWithdrawal(request(out), owner, circumstances({ daily: 100n }))
    expect(decision).toEqual({
      outcome: 'completed',
      movements: [],
      held: { wallet: owner, amount: 100n },
      counted: { wallet: owner, action: 'withdrawal', amount: 100n },
    })
    post(decision as Extract<Decision, { outcome: 'completed' }>, NOW)
    expect([owner.balance, owner.held, owner.sequence]).toEqual([100n, 100n, 1])
    expect([usedNow(owner.usage, 'withdrawal', NOW).day, usedNow(owner.usage, 'send', NOW).day]).toEqual([
      100n,
      0n,
    ])
  })
})

describe('captures: each row mends the rule above it and still breaks every rule below', () => {
  const payer = wallet({ held: 100n })
  const much = { amountMinor: 101n, currency: 'EUR' }
  const over = { untilMs: NOW - 1 }
  const takesNothing = bobs({ ...closed, balance: full })
  test.each([
    ['HOLD_NOT_FOUND', much, undefined, takesNothing],
    ['HOLD_NOT_FOUND', { ...much, walletId: 'wallet-c' }, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_NOT_FOUND', { ...much, toWalletId: 'w' }, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_NOT_FOUND', { ...much, toWalletId: null }, hold({ ...over, status: 'voided' }), undefined],
    ['HOLD_NOT_FOUND', { ...much, userId: 'alice' }, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_NOT_FOUND', { ...much, source: 'provider' }, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_NOT_FOUND', { ...much, source: 'staff' }, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_ENDED', much, hold({ ...over, status: 'voided' }), takesNothing],
    ['HOLD_ENDED', much, hold({ ...over, status: 'expired' }), takesNothing],
    ['HOLD_ENDED', much, hold({ ...over, status: 'captured' }), takesNothing],
    ['HOLD_EXPIRED', much, hold(over), takesNothing],
    ['CURRENCY_MISMATCH', much, hold(), takesNothing],
    ['HOLD_AMOUNT_EXCEEDED', { amountMinor: 101n }, hold(), takesNothing],
    ['RECIPIENT_UNAVAILABLE', {}, hold(), takesNothing],
    ['RECIPIENT_UNAVAILABLE', {}, hold(), bobs({ ...byStaff, balance: full })],
    ['BALANCE_LIMIT', {}, hold(), bobs({ balance: full - 99n })],
  ] as const)('%s', (code, over, held, recipient) =>
    expectRefusal(decideCapture(capture(over), held, payer, recipient, NOW), code),
  )

  test.each([
    ['whole', {}, 100n, {}, {}],
    ['whole, by name', { amountMinor: 100n }, 100n, {}, {}],
    ['in part', { amountMinor: 30n }, 30n, {}, {}],
    ['of a payer who was frozen since', {}, 100n, byStaff, {}],
    ['by a self-frozen recipient', {}, 100n, {}, bySelf],
    ['by a PIN-frozen recipient', {}, 100n, {}, byPin],
  ] as const)('%s: what is not taken is free again', (_case, over, taken, ofPayer, ofRecipient) => {
    const from = wallet({ held: 100n, ...ofPayer })
    const to = bobs(ofRecipient)
    expect(decideCapture(capture(over), hold(), from, to, NOW)).toEqual({
      outcome: 'completed',
      movements: [
        {
          postings: [
            { wallet: from, amount: -taken },
            { wallet: to, amount: taken },
          ],
        },
      ],
      held: { wallet: from, amount: -100n },
      counted: { wallet: from, action: 'send', amount: 100n - taken, countedMs: NOW },
    })
  })

  describe('of a withdrawal', () => {
    const held = hold({ type: 'withdrawal', toWalletId: null, untilMs: null })
    const paid = capture({ source: 'provider', toWalletId: null })
    test.each([
      ['by a user', { ...paid, source: 'user', userId: 'alice' }, 'HOLD_NOT_FOUND'],
      ['by staff', { ...paid, source: 'staff' }, 'HOLD_NOT_FOUND'],
      ['to a wallet', { ...paid, toWalletId: 'wallet-b' }, 'HOLD_NOT_FOUND'],
      ['in another currency', { ...paid, currency: 'JPY' }, 'CURRENCY_MISMATCH'],
    ] as const)('%s is refused', (_case, command, code) =>
      expectRefusal(decideCapture(command, held, payer, system(), NOW), code),
    )
    test.each([
      ['by the provider', held],
      ['any time that somebody has set', { ...held, untilMs: 1 }],
    ] as const)('%s goes to the outside world', (_case, owed) => {
      const outside = system({ balance: -100n })
      expect(decideCapture(paid, owed, payer, outside, NOW)).toMatchObject({
        outcome: 'completed',
        movements: [{ postings: [{ amount: -100n }, { wallet: outside, amount: 100n }] }],
        counted: { action: 'withdrawal', amount: 0n },
      })
    })
  })

  test('a wallet that is named by a hold and not there is our mistake, not the request', () => {
    expect(() => decideCapture(capture(), hold(), undefined, bobs(), NOW)).toThrow('hold-1')
    expect(() => decideVoid(voidHold(), hold(), undefined, bobs(), NOW)).toThrow('hold-1')
  })
})

describe('voids: each row mends the rule above it and still breaks every rule below', () => {
  const payer = wallet({ held: 100n })
  const ended = hold({ status: 'captured' })
  const owed = hold({ type: 'withdrawal', toWalletId: null, untilMs: null })
  test.each([
    ['HOLD_NOT_FOUND', {}, undefined],
    ['HOLD_NOT_FOUND', { walletId: 'wallet-c' }, ended],
    ['HOLD_NOT_FOUND', { toWalletId: null }, ended],
    ['HOLD_NOT_FOUND', { userId: 'alice' }, ended],
    ['HOLD_NOT_FOUND', { userId: 'mallory' }, ended],
    ['HOLD_NOT_FOUND', { source: 'provider' }, ended],
    ['HOLD_NOT_FOUND', { toWalletId: null, source: 'timer' }, owed],
    ['HOLD_NOT_FOUND', { toWalletId: null, source: 'staff' }, owed],
    ['HOLD_NOT_FOUND', { toWalletId: null, userId: 'alice' }, owed],
    ['HOLD_ENDED', { source: 'timer' }, hold({ status: 'captured', untilMs: NOW + 1 })],
    ['HOLD_NOT_EXPIRED', { source: 'timer' }, hold({ untilMs: NOW })],
    ['HOLD_NOT_EXPIRED', { source: 'timer' }, hold({ untilMs: null })],
  ] as const)('%s: %o', (code, over, held) =>
    expectRefusal(decideVoid(voidHold(over), held, payer, bobs(), NOW), code),
  )

  test.each([
    ['its recipient', {}, hold(), 'send'],
    ['its recipient, late', {}, hold({ untilMs: NOW - 1 }), 'send'],
    ['staff', { source: 'staff', userId: 'staff-member' }, hold(), 'send'],
    ['the timer', { source: 'timer', userId: 'anybody' }, hold({ untilMs: NOW - 1 }), 'send'],
    ['the provider', { source: 'provider', toWalletId: null }, owed, 'withdrawal'],
  ] as const)('%s lets it go, and the limit has it again', (_who, over, held, action) => {
    expect(decideVoid(voidHold(over), held, payer, bobs(), NOW)).toEqual({
      outcome: 'completed',
      movements: [],
      held: { wallet: payer, amount: -100n },
      counted: { wallet: payer, action, amount: 100n, countedMs: NOW },
    })
  })
})

describe('deposits: a confirmed one is never refused', () => {
  const outside = () => system({ balance: -5n })
  const suspense = () => system({ id: 'suspense' })
  const deposit = request({ type: 'deposit', fromWalletId: null, expiresAt: null, userId: 'bob' })

  test.each([
    ['an open wallet', bobs(), 'wallet-b'],
    ['a self-frozen wallet', bobs(bySelf), 'wallet-b'],
    ['no wallet', undefined, 'suspense'],
    ['a closed wallet', bobs(closed), 'suspense'],
    ['a staff-frozen wallet', bobs(byStaff), 'suspense'],
    ['a wallet of another currency', bobs({ currency: 'EUR' }), 'suspense'],
    ["somebody else's wallet", bobs({ userId: 'mallory' }), 'suspense'],
    ['a full wallet', bobs({ balance: MAX_MINOR }), 'suspense'],
  ] as const)('%s', (_what, recipient, booked) => {
    const decision = decideDeposit(deposit, outside(), recipient, suspense())
    expect(decision).toMatchObject({
      outcome: 'completed',
      movements: [{ postings: [{ amount: -100n }, { wallet: { id: booked }, amount: 100n }] }],
    })
    // A deposit in suspense uses up no user's limit.
    expect('counted' in decision).toBe(booked === 'wallet-b')
  })

  test('without room in a system wallet nothing is decided: a fact is not refused', () => {
    const emptied = system({ balance: -MAX_MINOR })
    expect(() => decideDeposit(deposit, emptied, bobs(), suspense())).toThrow('has no room for -100')
    const full = system({ id: 'suspense', balance: MAX_MINOR })
    expect(() => decideDeposit(deposit, system(), undefined, full)).toThrow(
      'wallet suspense has no room for 100',
    )
  })
})

describe('reversals: each row mends the rule above it and still breaks every rule below', () => {
  const all = (payer: Wallet | undefined, payee: Wallet | undefined) => ({
    payer,
    payee,
    outside: system(),
    suspense: system({ id: 'suspense' }),
  })
  const spent = bobs({ ...closed, balance: 99n })
  const gone = wallet({ ...closed, balance: full })
  const much = { amountMinor: 101n, currency: 'EUR' }
  test.each([
    ['TRANSFER_NOT_FOUND', much, undefined, spent, gone],
    ['TRANSFER_NOT_FOUND', { ...much, fromWalletId: 'w' }, original({ status: 'rejected' }), spent, gone],
    ['TRANSFER_NOT_FOUND', { ...much, toWalletId: 'w' }, original({ status: 'rejected' }), spent, gone],
    ['TRANSFER_NOT_FOUND', { ...much, toWalletId: null }, original({ status: 'rejected' }), spent, gone],
    ['TRANSFER_NOT_FOUND', { ...much, fromWalletId: null }, original({ status: 'rejected' }), spent, gone],
    ['NOT_REVERSIBLE', much, original({ status: 'rejected' }), spent, gone],
    ['NOT_REVERSIBLE', much, original({ type: 'reversal' }), spent, gone],
    ['NOT_REVERSIBLE', { ...much, source: 'provider' }, original(), spent, gone],
    ['NOT_REVERSIBLE', { ...much, source: 'user' }, original(), spent, gone],
    ['CURRENCY_MISMATCH', much, original(), spent, gone],
    ['REVERSAL_EXCEEDS_ORIGINAL', { amountMinor: 101n }, original(), spent, gone],
    ['REVERSAL_EXCEEDS_ORIGINAL', {}, original({ reversed: 1n }), spent, gone],
    ['NOT_REVERSIBLE', {}, original(), system({ id: 'wallet-b' }), gone],
    ['WALLET_CLOSED', {}, original(), spent, gone],
    ['INSUFFICIENT_BALANCE', {}, original(), bobs({ balance: 99n }), gone],
    ['INSUFFICIENT_BALANCE', {}, original(), bobs({ balance: 100n, held: 1n }), gone],
    ['RECIPIENT_UNAVAILABLE', {}, original(), bobs({ balance: 100n }), gone],
    ['BALANCE_LIMIT', {}, original(), bobs({ balance: 100n }), wallet({ balance: full - 99n })],
  ] as const)('%s', (code, over, of, payer, payee) =>
    expectRefusal(decideReversal(reversal(over), of, all(payer, payee)), code),
  )

  test.each([
    ['whole', 100n, 0n, {}, {}],
    ['the last part', 40n, 60n, {}, {}],
    ['of a recipient whom staff froze', 100n, 0n, byStaff, {}],
    ['of a recipient who froze it', 100n, 0n, bySelf, {}],
    ['to a sender whom staff froze', 100n, 0n, {}, byStaff],
  ] as const)('%s', (_case, amountMinor, reversed, ofPayer, ofPayee) => {
    const payer = bobs({ balance: 100n, ...ofPayer })
    const payee = wallet(ofPayee)
    const decision = decideReversal(reversal({ amountMinor }), original({ reversed }), all(payer, payee))
    expect(decision).toEqual({
      outcome: 'completed',
      movements: [
        {
          postings: [
            { wallet: payer, amount: -amountMinor },
            { wallet: payee, amount: amountMinor },
          ],
        },
      ],
    })
  })

  test('of a deposit: the money goes back to the outside world', () => {
    const payer = bobs({ balance: 100n })
    const deposit = original({ type: 'deposit', fromWalletId: 'external-of-another-partition' })
    const decision = decideReversal(reversal({ toWalletId: null }), deposit, all(payer, undefined))
    expect(decision).toMatchObject({
      movements: [{ postings: [{ wallet: payer }, { wallet: { id: 'external' } }] }],
    })
    expectRefusal(
      decideReversal(reversal({ toWalletId: null, source: 'provider' }), deposit, all(payer, undefined)),
      'NOT_REVERSIBLE',
    )
    expectRefusal(decideReversal(reversal(), deposit, all(payer, wallet())), 'TRANSFER_NOT_FOUND')
  })

  describe('of a withdrawal', () => {
    const payout = original({ type: 'withdrawal', toWalletId: 'external-of-another-partition' })
    const returned = reversal({ source: 'provider', fromWalletId: null })
    test.each([
      ['to its wallet', wallet(), 'wallet-a'],
      ['to a wallet that staff froze', wallet(byStaff), 'wallet-a'],
      ['to suspense where the wallet is closed', wallet(closed), 'suspense'],
      ['to suspense where the wallet is full', wallet({ balance: full }), 'suspense'],
    ] as const)('a payout that came back goes %s', (_case, owner, booked) => {
      const decision = decideReversal(returned, payout, all(undefined, owner))
      expect(decision).toMatchObject({
        movements: [{ postings: [{ wallet: { id: 'external' } }, { wallet: { id: booked } }] }],
      })
    })
    test('is not for staff, who cannot bring the money back', () =>
      expectRefusal(
        decideReversal({ ...returned, source: 'staff' }, payout, all(undefined, wallet())),
        'NOT_REVERSIBLE',
      ))
    test('never gives back more than was paid out', () =>
      expectRefusal(
        decideReversal({ ...returned, amountMinor: 101n }, payout, all(undefined, wallet())),
        'REVERSAL_EXCEEDS_ORIGINAL',
      ))
  })
})

describe('posting', () => {
  test('M1, M2: moves both balances and counts one entry for each wallet', () => {
    const sender = wallet()
    const receiver = bobs()
    post({ movements: [move(sender, receiver, 60n)] }, NOW)
    expect([sender.balance, sender.sequence, receiver.balance, receiver.sequence]).toEqual([40n, 2, 60n, 1])
  })

  test('a capture frees what was held and counts only what was taken', () => {
    const payer = wallet()
    const placed = decideHold(request(), payer, bobs(), anything)
    post(placed as Extract<Decision, { outcome: 'completed' }>, NOW)
    expect([payer.held, usedNow(payer.usage, 'send', NOW)]).toEqual([100n, { day: 100n, month: 100n }])
    const receiver = bobs()
    const taken = decideCapture(capture({ amountMinor: 30n }), hold(), payer, receiver, NOW)
    post(taken as Extract<Decision, { outcome: 'completed' }>, NOW)
    expect([payer.balance, payer.held, receiver.balance]).toEqual([70n, 0n, 30n])
    expect(usedNow(payer.usage, 'send', NOW)).toEqual({ day: 30n, month: 30n })
  })

  test.each([
    ['M1: entries that do not cancel out', -60n, 59n, 0n, 'M1'],
    ['M3: a user below zero', -101n, 101n, 0n, 'M3'],
    ['M3: a user below what is held', -60n, 60n, 41n, 'M3'],
    ['M3: less than nothing held', -60n, 60n, -1n, 'M3'],
  ] as const)('%s is refused, with nothing changed', (_case, out, into, amount, promise) => {
    const sender = wallet()
    const receiver = bobs()
    const postings = [
      { wallet: sender, amount: out },
      { wallet: receiver, amount: into },
    ] as const
    expect(() => post({ movements: [{ postings }], held: { wallet: sender, amount } }, NOW)).toThrow(promise)
    expect([sender, receiver]).toEqual([wallet(), bobs()])
  })
})
