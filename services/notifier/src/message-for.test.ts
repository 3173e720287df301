import { notificationIdOf, referenceOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import type { AnyRecord, TransferCompleted, TransferRejected } from '@pennywire/contracts/schemas.ts'
import { expect, test } from 'vitest'
import { messagesFor } from './message-for.ts'

const alice = '11111111-1111-4111-8111-111111111111'
const bob = '22222222-2222-4222-8222-222222222222'
const transferId = transferIdOf(alice, 'key')
const reference = referenceOf(transferId)

const request = {
  transferId,
  type: 'transfer',
  userId: alice,
  fromWalletId: alice,
  toWalletId: bob,
  amountMinor: 1250n,
  currency: 'USD',
  fingerprint: Buffer.alloc(16),
  requestedAt: 1_700_000_000_000,
}
const entry = (userId: string | null, amountMinor: bigint, balanceAfterMinor: bigint) => ({
  walletId: userId ?? '33333333-3333-4333-8333-333333333333',
  userId,
  currency: 'USD',
  amountMinor,
  balanceAfterMinor,
  sequence: 1,
})
const completed = (changed: Partial<TransferCompleted>): AnyRecord => ({
  type: 'pennywire.ledger.TransferCompleted',
  value: {
    ...request,
    completedAt: 1_700_000_000_123,
    note: null,
    metadata: null,
    commandId: null,
    holdMinor: null,
    entries: [entry(alice, -1250n, 8750n), entry(bob, 1250n, 1250n)],
    ...changed,
  },
})
const rejected = (changed: Partial<TransferRejected>): AnyRecord => ({
  type: 'pennywire.ledger.TransferRejected',
  value: {
    ...request,
    rejectedAt: 1_700_000_000_456,
    code: 'INSUFFICIENT_BALANCE',
    detail: 'amount: the balance is 1.00 USD.',
    limitMinor: null,
    usedMinor: null,
    ...changed,
  },
})

test('a transfer tells both sides, each its own balance', () => {
  expect(messagesFor(completed({}))).toEqual([
    {
      id: notificationIdOf(transferId, alice, 'transfer_sent'),
      userId: alice,
      type: 'transfer_sent',
      title: 'Money sent',
      body: `You sent 12.50 USD. Your balance is 87.50 USD (${reference}).`,
      transferId,
      createdAt: 1_700_000_000_123,
    },
    {
      id: notificationIdOf(transferId, bob, 'transfer_received'),
      userId: bob,
      type: 'transfer_received',
      title: 'Money received',
      body: `You received 12.50 USD. Your balance is 12.50 USD (${reference}).`,
      transferId,
      createdAt: 1_700_000_000_123,
    },
  ])
})

test('a deposit tells the owner; the outside world is told nothing', () => {
  const deposit = completed({
    type: 'deposit',
    entries: [entry(null, -500n, -500n), entry(alice, 500n, 900n)],
  })
  expect(messagesFor(deposit)).toMatchObject([
    {
      userId: alice,
      type: 'deposit_completed',
      title: 'Deposit completed',
      body: `5.00 USD came into your wallet. Your balance is 9.00 USD (${reference}).`,
    },
  ])
})

test('a type that is newer than this version is money that came or went', () => {
  expect(messagesFor(completed({ type: 'reversal' }))).toMatchObject([
    { type: 'reversal_sent', title: 'Money sent' },
    { type: 'reversal_received', title: 'Money received' },
  ])
})

test.each<[string, Partial<TransferRejected>, object]>([
  [
    'a transfer',
    {},
    {
      type: 'transfer_rejected',
      title: 'Transfer declined',
      body: `Your transfer of 12.50 USD was not made. The balance is too low (${reference}).`,
    },
  ],
  ['a deposit', { type: 'deposit' }, { type: 'deposit_rejected', title: 'Deposit declined' }],
  [
    'a code newer than this version',
    { code: 'NEW_CODE', detail: 'Something new' },
    { body: `Your transfer of 12.50 USD was not made. Something new (${reference}).` },
  ],
])('a rejection tells who asked, and nobody else: %s', (_what, changed, expected) => {
  expect(messagesFor(rejected(changed))).toEqual([
    expect.objectContaining({ userId: alice, createdAt: 1_700_000_000_456, ...expected }),
  ])
})

test('other records tell nobody anything', () => {
  const opened = {
    walletId: alice,
    userId: alice,
    currency: 'USD',
    commandId: alice,
    code: 'PW-X',
    sequence: 0,
  }
  expect(messagesFor({ type: 'pennywire.ledger.WalletOpened', value: { ...opened, openedAt: 0 } })).toEqual(
    [],
  )
})
