import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import { describe, expect, test } from 'vitest'
import { decideDeposit, decideTransfer, post, type Wallet } from './decide.ts'
import { NO_LIMITS, NOTHING_USED } from './limits.ts'
import { decideWalletOpen } from './wallet-rules.ts'

const NOW = 1_000_000
const wallet = (over: Partial<Wallet> = {}): Wallet => ({
  id: 'wallet-a',
  userId: 'alice',
  currency: 'USD',
  status: 'active',
  freezeSource: null,
  balance: 100n,
  held: 0n,
  sequence: 1,
  tier: 'unverified',
  usage: NOTHING_USED,
  ownLimits: [],
  ...over,
})
const bobs = (over: Partial<Wallet> = {}) =>
  wallet({ id: 'wallet-b', userId: 'bob', balance: 0n, sequence: 0, ...over })
const request = (over: Partial<TransferRequested> = {}): TransferRequested => ({
  transferId: 'transfer-1',
  type: 'transfer',
  userId: 'alice',
  fromWalletId: 'wallet-a',
  toWalletId: 'wallet-b',
  amountMinor: 100n,
  currency: 'USD',
  fingerprint: Buffer.alloc(16),
  requestedAt: NOW,
  expiresAt: NOW,
  authenticatedBy: 'step_up',
  authenticatedAt: NOW,
  note: null,
  metadata: null,
  holdUntil: null,
  ...over,
})

describe('transfers: each row mends the rule above it and still breaks every rule below', () => {
  const broke = { balance: 99n }
  const full = MAX_MINOR
  test.each([
    [{ expiresAt: NOW - 1 }, undefined, undefined, 'REQUEST_EXPIRED'],
    [{}, undefined, undefined, 'WALLET_NOT_FOUND'],
    [{}, wallet({ userId: 'mallory' }), undefined, 'WALLET_NOT_FOUND'],
    [{}, wallet({ userId: null }), undefined, 'WALLET_NOT_FOUND'],
    [{}, wallet({ ...broke, currency: 'EUR', status: 'closed' }), undefined, 'RECIPIENT_NOT_FOUND'],
    [
      {},
      wallet({ ...broke, currency: 'EUR', status: 'closed' }),
      bobs({ userId: null }),
      'RECIPIENT_NOT_FOUND',
    ],
    [
      {},
      wallet({ ...broke, currency: 'EUR', status: 'closed' }),
      wallet({ status: 'closed' }),
      'SELF_TRANSFER',
    ],
    [
      {},
      wallet({ ...broke, currency: 'EUR', status: 'closed' }),
      bobs({ status: 'closed' }),
      'CURRENCY_MISMATCH',
    ],
    [
      {},
      wallet({ ...broke, status: 'closed' }),
      bobs({ currency: 'EUR', status: 'closed' }),
      'CURRENCY_MISMATCH',
    ],
    [{}, wallet({ ...broke, status: 'closed' }), bobs({ status: 'closed', balance: full }), 'WALLET_CLOSED'],
    [
      {},
      wallet({ ...broke, status: 'frozen', freezeSource: 'self' }),
      bobs({ status: 'closed' }),
      'WALLET_FROZEN',
    ],
    [{}, wallet(broke), bobs({ status: 'closed', balance: full }), 'RECIPIENT_UNAVAILABLE'],
    [
      {},
      wallet(broke),
      bobs({ status: 'frozen', freezeSource: 'staff', balance: full }),
      'RECIPIENT_UNAVAILABLE',
    ],
    [{}, wallet(broke), bobs({ balance: full }), 'INSUFFICIENT_BALANCE'],
    [{}, wallet({ held: 1n }), bobs({ balance: full }), 'INSUFFICIENT_BALANCE'],
    [{}, wallet(), bobs({ balance: full - 99n }), 'BALANCE_LIMIT'],
  ] as const)('%o: %s', (over, sender, recipient, code) =>
    expect(decideTransfer(request(over), sender, recipient, NOW)).toMatchObject({
      outcome: 'rejected',
      code,
    }),
  )

  test.each([
    ['the whole balance', {}, {}],
    ['never expiring', { expiresAt: null }, {}],
    ['to a self-frozen wallet', {}, { status: 'frozen', freezeSource: 'self' }],
    ['to a PIN-frozen wallet', {}, { status: 'frozen', freezeSource: 'pin' }],
    ['up to the largest balance', {}, { balance: MAX_MINOR - 100n }],
  ] as const)('%s completes', (_what, over, recipient) => {
    const sender = wallet()
    const receiver = bobs(recipient)
    const decision = decideTransfer(request(over), sender, receiver, NOW)
    expect(decision).toEqual({
      outcome: 'completed',
      postings: [
        { wallet: sender, amount: -100n },
        { wallet: receiver, amount: 100n },
      ],
    })
  })

  test('M4: deciding changes nothing by itself', () => {
    const sender = Object.freeze(wallet())
    const receiver = Object.freeze(bobs())
    decideTransfer(request(), sender, receiver, NOW)
    decideTransfer(request({ amountMinor: 101n }), sender, receiver, NOW)
  })
})

describe('deposits: a confirmed one is never refused', () => {
  const outside = () => wallet({ id: 'external', userId: null, balance: -5n })
  const suspense = () => wallet({ id: 'suspense', userId: null, balance: 0n })
  const deposit = request({ type: 'deposit', fromWalletId: null, expiresAt: null, userId: 'bob' })

  test.each([
    ['an open wallet', bobs(), 'wallet-b'],
    ['a self-frozen wallet', bobs({ status: 'frozen', freezeSource: 'self' }), 'wallet-b'],
    ['no wallet', undefined, 'suspense'],
    ['a closed wallet', bobs({ status: 'closed' }), 'suspense'],
    ['a staff-frozen wallet', bobs({ status: 'frozen', freezeSource: 'staff' }), 'suspense'],
    ['a wallet of another currency', bobs({ currency: 'EUR' }), 'suspense'],
    ["somebody else's wallet", bobs({ userId: 'mallory' }), 'suspense'],
    ['a full wallet', bobs({ balance: MAX_MINOR }), 'suspense'],
  ] as const)('%s', (_what, recipient, booked) => {
    const decision = decideDeposit(deposit, outside(), recipient, suspense())
    expect(decision).toMatchObject({
      outcome: 'completed',
      postings: [{ amount: -100n }, { wallet: { id: booked }, amount: 100n }],
    })
  })

  test('what the books cannot hold exactly is refused', () => {
    const emptied = wallet({ id: 'external', userId: null, balance: -MAX_MINOR })
    expect(decideDeposit(deposit, emptied, bobs(), suspense())).toMatchObject({ code: 'BALANCE_LIMIT' })
  })
})

test('a user has one open wallet in each currency', () => {
  const open = { commandId: 'w', walletId: 'w', userId: 'alice', currency: 'USD', requestedAt: NOW }
  expect(decideWalletOpen(open, false)).toEqual({ outcome: 'opened' })
  expect(decideWalletOpen(open, true)).toMatchObject({ outcome: 'refused', code: 'WALLET_ALREADY_EXISTS' })
})

describe('posting', () => {
  test('M1, M2: moves both balances and counts one entry for each wallet', () => {
    const sender = wallet()
    const receiver = bobs()
    post([
      { wallet: sender, amount: -60n },
      { wallet: receiver, amount: 60n },
    ])
    expect([sender.balance, sender.sequence, receiver.balance, receiver.sequence]).toEqual([40n, 2, 60n, 1])
  })

  test('M1: refuses entries that do not cancel out', () => {
    expect(() => post([{ wallet: wallet(), amount: -60n }])).toThrow('M1')
  })

  test('M3: refuses to take a user below zero', () => {
    expect(() =>
      post([
        { wallet: wallet(), amount: -101n },
        { wallet: bobs(), amount: 101n },
      ]),
    ).toThrow('M3')
  })
})
