import { describe, expect, test } from 'vitest'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { maskMethod, openDecided, openMethods, rejectionOf, viewHold, viewTransfer } from './transfer-view.ts'

const names = { namesOf: async () => new Map() }
const personKeys = { decryptAll: async () => [] }

const facts = (over: Partial<TransferFacts> = {}): TransferFacts => ({
  id: '00000000-0000-8000-8000-000000000001',
  type: 'transfer',
  status: 'completed',
  userId: 'alice',
  from: { walletId: 'wallet-a', userId: 'alice', code: 'PW-A', balanceAfter: 5_000n },
  to: { walletId: 'wallet-b', userId: 'bob', code: 'PW-B', balanceAfter: 1_250n },
  amount: 1_250n,
  currency: 'USD',
  fingerprint: Buffer.alloc(16),
  note: null,
  metadata: null,
  requestedAt: new Date(1_000),
  decidedAt: new Date(2_000),
  rejectionCode: null,
  rejectionDetail: null,
  rejectionLimit: null,
  rejectionUsed: null,
  originalId: null,
  linkedTo: null,
  reversed: 0n,
  suspended: 0n,
  hold: null,
  ...over,
})
const transferOf = async (over: Partial<TransferFacts>) => {
  const [subject] = await openDecided(personKeys, [facts(over)])
  return viewTransfer(names, 'alice', subject!)
}
const holdOf = async (over: Partial<TransferFacts>) => {
  const [subject] = await openDecided(personKeys, [facts(over)])
  return viewHold(names, 'alice', subject!)
}

describe('a rejection', () => {
  const rejected = { status: 'rejected', rejectionDetail: 'amount: too much.' } as const

  test.each([
    ['USD', { limit: '2000.00', used: '1999.99', requested: '12.50' }],
    ['JPY', { limit: '200000', used: '199999', requested: '1250' }],
    ['KWD', { limit: '200.000', used: '199.999', requested: '1.250' }],
  ])('by a limit in %s tells the limit, what is used of it, and what was asked for', (currency, members) => {
    const limited = { rejectionLimit: 200_000n, rejectionUsed: 199_999n, currency }
    const rejection = rejectionOf(facts({ ...rejected, ...limited, rejectionCode: 'DAILY_LIMIT_EXCEEDED' }))
    expect(rejection).toEqual({ code: 'DAILY_LIMIT_EXCEEDED', detail: 'amount: too much.', ...members })
  })

  test('for any other reason has no such members', async () => {
    const { status, final, rejection } = await transferOf({
      ...rejected,
      rejectionCode: 'INSUFFICIENT_BALANCE',
    })
    expect([status, final]).toEqual(['rejected', true])
    expect(rejection).toEqual({ code: 'INSUFFICIENT_BALANCE', detail: 'amount: too much.' })
  })
})

test.each([
  [0n, 'completed', '0.00'],
  [1_249n, 'completed', '12.49'],
  [1_250n, 'reversed', '12.50'],
])('of which %d was given back is %s', async (reversed, status, reversedAmount) => {
  const view = await transferOf({ reversed })
  expect(view).toMatchObject({ status, reversedAmount, final: true, balanceAfter: '50.00' })
  expect(view.completedAt).toBe('1970-01-01T00:00:02.000Z')
})

test('what came with another says so, and waits for nobody where it moves system wallets alone', async () => {
  const linkedTo = '00000000-0000-8000-8000-000000000002'
  expect(await transferOf({ type: 'fee', linkedTo })).toMatchObject({ linkedTo, status: 'completed' })
  const system = { walletId: 'wallet-s', userId: null, code: null, balanceAfter: 0n }
  const [alone, linked] = [
    { from: system, to: system },
    { from: system, to: system, linkedTo },
  ]
  expect((await transferOf(alone)).status).toBe('in_suspense')
  expect((await transferOf(linked)).status).toBe('completed')
})

describe('a source or destination', () => {
  test.each([
    ['DE02 1203 0000 0000 2020 51', '•••• •••• •••• •••• ••20 51'],
    ['DE02120300000000202051', '••••••••••••••••••2051'],
    ['4111-1111-1111-1234', '••••-••••-••••-1234'],
    ['alice@example.com', '•••••@••••••e.com'],
    ['Μπάνκα 12345', '•••••• ••345'],
    ['👛👛👛👛👛👛', '••••👛👛'],
    ['abcdef', '••••ef'],
    ['abc', '••c'],
    ['ab', '••'],
    ['7', '•'],
    ['--', '--'],
  ])('%s is shown as %s', (text, masked) => expect(maskMethod(text)).toBe(masked))

  test('is shown where the money comes from or goes to, unless the request names none', async () => {
    const viewOf = async (type: string, method: string | null) => {
      const [subject] = await openDecided(personKeys, [facts({ type })])
      const { source, destination } = await viewTransfer(names, 'alice', { ...subject!, method })
      return [source, destination]
    }
    expect(await viewOf('deposit', 'DE02 1203')).toEqual(['•••• ••03', null])
    expect(await viewOf('withdrawal', 'DE02 1203')).toEqual([null, '•••• ••03'])
    expect(await viewOf('deposit', 'default')).toEqual([null, null])
    expect(await viewOf('withdrawal', null)).toEqual([null, null])
    expect(await viewOf('transfer', 'DE02 1203')).toEqual([null, null])
  })

  test('is read for deposits and withdrawals alone, each its own', async () => {
    const asked: string[][] = []
    const deps = {
      personKeys: {
        decryptAll: async (sealed: Array<{ cipher: Buffer }>) =>
          sealed.map(({ cipher }) => cipher.toString()),
      },
      readMethods: async (ids: string[]) => {
        asked.push(ids)
        return ids.toReversed().map(id => ({ id, userId: 'alice', method: Buffer.from(`to ${id}`) }))
      },
    }
    const subjects = await openDecided(
      personKeys,
      ['transfer', 'deposit', 'reversal', 'withdrawal'].map(type => facts({ type, id: type })),
    )
    const told = await openMethods(deps as never, subjects)
    expect(told.map(({ method }) => method)).toEqual([null, 'to deposit', null, 'to withdrawal'])
    expect(asked).toEqual([['deposit', 'withdrawal']])
    expect(await openMethods(deps as never, subjects.slice(0, 1))).toEqual(subjects.slice(0, 1))
    expect(asked).toHaveLength(1)
  })
})

describe('a hold', () => {
  const until = new Date(60_000)
  const endedAt = new Date(30_000)

  test('that stands is a transfer that is pending', async () => {
    const over = {
      type: 'hold',
      status: 'pending',
      hold: { status: 'active', amount: 1_250n, captured: 0n, until, endedAt: null },
    } as const
    expect(await holdOf(over)).toMatchObject({
      status: 'active',
      amount: '12.50',
      captured: '0.00',
      expiresAt: until.toISOString(),
      endedAt: null,
      rejection: null,
    })
    expect(await transferOf(over)).toMatchObject({ status: 'pending', final: false, completedAt: null })
  })

  test('that was captured in part shows what was held and what was taken', async () => {
    const hold = { status: 'captured', amount: 4_000n, captured: 1_250n, until, endedAt } as const
    expect(await holdOf({ hold })).toMatchObject({
      status: 'captured',
      amount: '40.00',
      captured: '12.50',
      endedAt: endedAt.toISOString(),
    })
    expect((await transferOf({ hold })).amount).toBe('12.50')
  })

  test('that expired says so by its status, and is a rejected transfer', async () => {
    const over = {
      type: 'hold',
      status: 'rejected',
      rejectionCode: 'HOLD_EXPIRED',
      hold: { status: 'expired', amount: 1_250n, captured: 0n, until, endedAt },
    } as const
    expect(await holdOf(over)).toMatchObject({ status: 'expired', rejection: null })
    expect(await transferOf(over)).toMatchObject({ status: 'rejected', rejection: { code: 'HOLD_EXPIRED' } })
  })

  test('that was refused is a request that was rejected', async () => {
    const refused = { type: 'hold', status: 'rejected', rejectionCode: 'WALLET_FROZEN' } as const
    expect(await holdOf(refused)).toMatchObject({
      status: 'rejected',
      expiresAt: null,
      rejection: { code: 'WALLET_FROZEN' },
    })
  })
})
