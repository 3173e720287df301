import { describe, expect, test } from 'vitest'
import { ProblemError } from '../problems/problem.ts'
import { movesMoneyOut, requireScope, SCOPES, type Scope } from './scopes.ts'

const refusalOf = (scopes: Scope[], needed: Scope | undefined): ProblemError | undefined => {
  try {
    requireScope(scopes, needed)
    return undefined
  } catch (error) {
    if (error instanceof ProblemError) return error
    throw error
  }
}

describe('each scope is for itself', () => {
  test.each(SCOPES)('%s opens its routes and no others', scope => {
    for (const needed of SCOPES) {
      expect([needed, refusalOf([scope], needed)?.code]).toEqual([
        needed,
        needed === scope ? undefined : 'INSUFFICIENT_SCOPE',
      ])
    }
  })

  test('all of them together open no route that names none', () => {
    expect(refusalOf([...SCOPES], undefined)?.code).toBe('API_KEY_NOT_ALLOWED')
  })

  test('a refusal names the scope, for programs of ours and of others', () => {
    const refusal = refusalOf(['wallets:read'], 'transfers:write')!
    expect(refusal.members).toEqual({ requiredScope: 'transfers:write' })
    expect(refusal.headers['www-authenticate']).toBe(
      'Bearer error="insufficient_scope", scope="transfers:write"',
    )
  })
})

test.each<[Scope[], boolean]>([
  [['transfers:write'], true],
  [['wallets:read', 'withdrawals:write'], true],
  [['wallets:read', 'transfers:read', 'holds:capture', 'deposits:write'], false],
])('money leaves by %j: %s', (scopes, out) => {
  expect(movesMoneyOut(scopes)).toBe(out)
})
