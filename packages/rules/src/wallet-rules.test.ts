import { limitChangeRequested } from '@pennywire/contracts/test-records.ts'
import { describe, expect, test } from 'vitest'
import type { Wallet } from './decide.ts'
import { NO_LIMITS, type OwnLimits } from './limits.ts'
import { circumstances, NOW, system, wallet } from './test-wallets.ts'
import {
  decideClose,
  decideFreeze,
  decideLimitChange,
  decideRename,
  decideUnfreeze,
  decideWalletOpen,
} from './wallet-rules.ts'

const said = {
  commandId: 'command-1',
  walletId: 'wallet-a',
  userId: 'alice',
  fingerprint: Buffer.alloc(16),
  requestedAt: NOW,
}
const by = (source: string, userId = source === 'self' || source === 'pin' ? 'alice' : 'somebody') => ({
  ...said,
  userId,
  source,
  reason: null,
})
const frozen = (freezeSource: Wallet['freezeSource']) => wallet({ status: 'frozen', freezeSource })
const closed = wallet({ status: 'closed', balance: 0n })

test('a user has one open wallet in each currency', () => {
  const open = { ...said, currency: 'USD', tier: 'unverified' }
  expect(decideWalletOpen(open, false)).toEqual({ outcome: 'opened' })
  expect(decideWalletOpen(open, true)).toMatchObject({ outcome: 'refused', code: 'WALLET_ALREADY_EXISTS' })
})

describe('freezing: self under PIN under staff', () => {
  test.each([
    ['self', wallet(), 'frozen'],
    ['pin', wallet(), 'frozen'],
    ['staff', wallet(), 'frozen'],
    ['self', frozen('self'), 'WALLET_ALREADY_FROZEN'],
    ['self', frozen('pin'), 'WALLET_ALREADY_FROZEN'],
    ['self', frozen('staff'), 'WALLET_ALREADY_FROZEN'],
    ['pin', frozen('self'), 'frozen'],
    ['pin', frozen('pin'), 'WALLET_ALREADY_FROZEN'],
    ['pin', frozen('staff'), 'WALLET_ALREADY_FROZEN'],
    ['staff', frozen('self'), 'frozen'],
    ['staff', frozen('pin'), 'frozen'],
    ['staff', frozen('staff'), 'WALLET_ALREADY_FROZEN'],
    ['staff', closed, 'WALLET_ALREADY_CLOSED'],
    ['self', undefined, 'WALLET_NOT_FOUND'],
    ['staff', undefined, 'WALLET_NOT_FOUND'],
    ['staff', system(), 'WALLET_NOT_FOUND'],
    ['kyc', wallet(), 'VALIDATION_ERROR'],
  ] as const)('%s: %o: %s', (source, of, expected) => {
    const decision = decideFreeze(by(source), of)
    if (expected === 'frozen') expect(decision).toEqual({ outcome: 'frozen', source })
    else expect(decision).toMatchObject({ outcome: 'refused', code: expected })
  })

  test.each(['self', 'pin', 'nobody'])("%s of somebody else's wallet: there is none", source => {
    expect(decideFreeze(by(source, 'mallory'), wallet())).toMatchObject({ code: 'WALLET_NOT_FOUND' })
    expect(decideUnfreeze(by(source, 'mallory'), frozen('self'))).toMatchObject({ code: 'WALLET_NOT_FOUND' })
  })
})

test.each([
  ['self', frozen('self'), 'unfrozen'],
  ['self', frozen('pin'), 'FREEZE_NOT_YOURS'],
  ['self', frozen('staff'), 'FREEZE_NOT_YOURS'],
  ['pin', frozen('self'), 'FREEZE_NOT_YOURS'],
  ['pin', frozen('pin'), 'unfrozen'],
  ['pin', frozen('staff'), 'FREEZE_NOT_YOURS'],
  ['staff', frozen('self'), 'unfrozen'],
  ['staff', frozen('pin'), 'unfrozen'],
  ['staff', frozen('staff'), 'unfrozen'],
  ['kyc', frozen('self'), 'FREEZE_NOT_YOURS'],
  ['staff', wallet(), 'WALLET_NOT_FROZEN'],
  ['staff', closed, 'WALLET_ALREADY_CLOSED'],
  ['staff', system(), 'WALLET_NOT_FOUND'],
  ['staff', undefined, 'WALLET_NOT_FOUND'],
] as const)('lifting by %s: %o: %s', (source, of, expected) => {
  const decision = decideUnfreeze(by(source), of)
  if (expected === 'unfrozen') expect(decision).toEqual({ outcome: 'unfrozen' })
  else expect(decision).toMatchObject({ outcome: 'refused', code: expected })
})

test.each([
  ['an empty one', wallet({ balance: 0n }), 'closed'],
  ["somebody else's", wallet({ balance: 0n, userId: 'bob' }), 'WALLET_NOT_FOUND'],
  ['the outside world', system(), 'WALLET_NOT_FOUND'],
  ['none', undefined, 'WALLET_NOT_FOUND'],
  ['one that is closed', closed, 'WALLET_ALREADY_CLOSED'],
  ['one that is frozen, with money', frozen('self'), 'WALLET_FROZEN'],
  ['one with money', wallet({ balance: 1n }), 'WALLET_HAS_BALANCE'],
  ['one whose money is held', wallet({ balance: 1n, held: 1n }), 'WALLET_HAS_BALANCE'],
] as const)('closing %s: %s', (_what, of, expected) => {
  const decision = decideClose(said, of)
  if (expected === 'closed') expect(decision).toEqual({ outcome: 'closed' })
  else expect(decision).toMatchObject({ outcome: 'refused', code: expected })
})

test.each([
  ['a wallet', wallet(), 'renamed'],
  ['a frozen one', frozen('staff'), 'renamed'],
  ['a closed one', closed, 'WALLET_ALREADY_CLOSED'],
  ["somebody else's", wallet({ userId: 'mallory' }), 'WALLET_NOT_FOUND'],
  ['a system wallet', system(), 'WALLET_NOT_FOUND'],
  ['no wallet', undefined, 'WALLET_NOT_FOUND'],
] as const)('renaming %s: %s', (_what, of, expected) => {
  const decision = decideRename({ ...said, label: null }, of)
  if (expected === 'renamed') expect(decision).toEqual({ outcome: 'renamed' })
  else expect(decision).toMatchObject({ outcome: 'refused', code: expected })
})

describe('changing limits', () => {
  const { defaults } = circumstances({ perTransaction: 10n, daily: 20n, monthly: 30n })
  const command = limitChangeRequested({ walletId: 'wallet-a', userId: 'alice' })
  const capped = wallet({ ownLimits: [{ action: 'send', source: 'staff', ...NO_LIMITS, daily: 15n }] })
  const staff = { source: 'staff', userId: 'staff-member' }

  const yearly: string[] = ['yearly']
  test.each([
    ['no wallet', {}, undefined, 'WALLET_NOT_FOUND'],
    ["somebody else's wallet", { userId: 'mallory' }, wallet(), 'WALLET_NOT_FOUND'],
    [
      'a source that is none, of somebody else',
      { source: 'x', userId: 'mallory' },
      wallet(),
      'WALLET_NOT_FOUND',
    ],
    ['the outside world', staff, system(), 'WALLET_NOT_FOUND'],
    ['a closed wallet', staff, closed, 'WALLET_ALREADY_CLOSED'],
    ['a tier that is none', { source: 'kyc', tier: 'royal' }, wallet(), 'VALIDATION_ERROR'],
    ['no tier', { source: 'kyc' }, wallet(), 'VALIDATION_ERROR'],
    ['a source that is none', { source: 'x' }, wallet(), 'VALIDATION_ERROR'],
    ['an action that is none', { action: 'x' }, wallet(), 'VALIDATION_ERROR'],
    ['a kept limit that is none', { keeps: yearly }, wallet(), 'VALIDATION_ERROR'],
    ['above the defaults', { monthlyMinor: 31n }, wallet(), 'LIMIT_ABOVE_MAXIMUM'],
    ["above staff's", { dailyMinor: 16n }, capped, 'LIMIT_ABOVE_MAXIMUM'],
  ] as const)('%s is refused', (_what, over, of, code) =>
    expect(decideLimitChange({ ...command, ...over }, of, defaults)).toMatchObject({
      outcome: 'refused',
      code,
    }),
  )

  test('the refusal names the limit and the most it may be', () =>
    expect(decideLimitChange({ ...command, dailyMinor: 16n }, capped, defaults)).toMatchObject({
      detail: 'daily: at most 0.15 USD; own limits may only tighten.',
    }))

  test.each([
    ['up to the defaults', { perTransactionMinor: 10n, dailyMinor: 20n, monthlyMinor: 30n }, wallet()],
    ["up to staff's", { dailyMinor: 15n }, capped],
    [
      "another action's, no matter what staff have set for this one",
      { action: 'deposit', dailyMinor: 20n },
      capped,
    ],
    ['nothing at all', { dailyMinor: 0n }, wallet()],
    ['none any more', {}, wallet()],
    ['a frozen wallet', { dailyMinor: 1n }, frozen('staff')],
    ['staff, above all defaults', { ...staff, dailyMinor: 1_000n }, wallet()],
    ['a tier is not for them to set', { ...staff, tier: 'verified' }, wallet()],
  ] as const)('%s', (_what, over, of) => {
    const change = { ...command, ...over }
    expect(decideLimitChange(change, of, defaults)).toEqual({
      outcome: 'changed',
      limits: {
        action: change.action,
        source: change.source,
        perTransaction: change.perTransactionMinor,
        daily: change.dailyMinor,
        monthly: change.monthlyMinor,
      },
      tier: null,
    })
  })

  test('what it keeps stays as the same source has set it, for the same action', () => {
    const three = (amount: bigint) => ({ perTransaction: amount, daily: amount, monthly: amount })
    const of = {
      ...wallet(),
      ownLimits: [
        { action: 'send', source: 'staff', ...three(1n) },
        { action: 'deposit', source: 'self', ...three(2n) },
        { action: 'send', source: 'self', ...three(3n) },
      ] as OwnLimits[],
    }
    const decide = (over: object) => decideLimitChange({ ...command, ...over }, of, defaults)
    expect(decide({ keeps: ['perTransaction', 'monthly'], dailyMinor: 1n })).toMatchObject({
      limits: { action: 'send', source: 'self', perTransaction: 3n, daily: 1n, monthly: 3n },
    })
    expect(decide({ ...staff, keeps: ['daily'] })).toMatchObject({
      limits: { source: 'staff', perTransaction: null, daily: 1n, monthly: null },
    })
    expect(decide({ action: 'withdrawal', keeps: ['daily'] })).toMatchObject({ limits: NO_LIMITS })
  })

  test('KYC changes the tier and nothing else', () => {
    const change = { ...command, source: 'kyc', userId: 'staff-member', tier: 'verified', dailyMinor: 5n }
    expect(decideLimitChange(change, wallet(), defaults)).toEqual({
      outcome: 'changed',
      limits: null,
      tier: 'verified',
    })
  })
})
