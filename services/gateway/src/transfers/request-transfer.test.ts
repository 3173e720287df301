import { describe, expect, test, vi } from 'vitest'
import type { Requester } from '../access/requester.ts'
import { ProblemError } from '../problems/problem.ts'
import { authenticate, refuseAboveKey } from './request-transfer.ts'

const problemOf = (work: () => void): ProblemError | undefined => {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
}

describe('what an API key may move at once', () => {
  test.each<[string, bigint, string, Array<string | null>, string | undefined]>([
    ['the limit itself', 25_000n, 'USD', ['250'], undefined],
    ['a cent more', 25_001n, 'USD', ['250'], '250.00'],
    ['the key is the stricter', 25_001n, 'USD', ['250.00', '1000'], '250.00'],
    ['the setting is the stricter', 100_001n, 'USD', ['5000', '1000'], '1000.00'],
    ['no limit of its own', 100_001n, 'USD', [null, '1000'], '1000.00'],
    ['no limit at all', 2n ** 52n, 'USD', [null], undefined],
    ['whole units of a currency without decimals', 1_000n, 'JPY', ['1000'], undefined],
    ['one of them more', 1_001n, 'JPY', ['1000'], '1000'],
    ['three decimals', 1_000_001n, 'KWD', ['1000'], '1000.000'],
    ['less than the currency has is nothing', 1n, 'JPY', ['0.5'], '0'],
  ])('%s', (_what, amount, currency, most, limit) => {
    const problem = problemOf(() => refuseAboveKey(amount, currency, most))
    expect(problem?.code).toBe(limit === undefined ? undefined : 'API_KEY_AMOUNT_EXCEEDED')
    expect(problem?.members.limit).toBe(limit)
  })
})

describe('an API key in place of a person', () => {
  const user = (maxAmount: string | null): Requester => ({
    userId: 'u',
    sessionId: null,
    roles: ['user'],
    apiKey: {
      id: 'k',
      scopes: ['transfers:write'],
      maxAmount,
      authorizedAt: 1_767_225_600_000,
      limit: { requests: 1, seconds: 1 },
    },
  })
  const deps = {
    verifyPin: vi.fn(),
    verifyStepUp: vi.fn(),
    freshPinAbove: () => '1000',
    clock: { now: () => 0, elapsed: () => 0, after: () => () => {} },
  }
  const input = { pin: null, stepUpToken: null, amount: 100n, currency: 'USD', traceparent: '' }

  test('stands for the moment in which it was allowed', async () => {
    expect(await authenticate(deps, { ...input, user: user(null) })).toEqual({
      by: 'api_key',
      at: 1_767_225_600_000,
    })
  })

  test('with a PIN or a step-up token it is refused, and neither is looked at', async () => {
    const given = { ...input, user: user(null), pin: '1234', stepUpToken: 'x' }
    await expect(authenticate(deps, given)).rejects.toMatchObject({
      code: 'VALIDATION_ERROR',
      members: { errors: [{ field: 'pin' }, { field: 'Step-Up-Token' }] },
    })
    expect(deps.verifyPin).not.toHaveBeenCalled()
    expect(deps.verifyStepUp).not.toHaveBeenCalled()
  })

  test('moves no more than what needs no fresh PIN, and no more than its own limit', async () => {
    const above = (amount: bigint, maxAmount: string | null) =>
      authenticate(deps, { ...input, amount, user: user(maxAmount) })
    await expect(above(100_001n, '9000')).rejects.toMatchObject({
      code: 'API_KEY_AMOUNT_EXCEEDED',
      members: { limit: '1000.00', requested: '1000.01' },
    })
    await expect(above(501n, '5')).rejects.toMatchObject({ members: { limit: '5.00' } })
  })
})
