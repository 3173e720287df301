import { expect, test } from 'vitest'
import { type Role, refuseOwn, requireRole } from './roles.ts'

const ranks: Role[] = ['user', 'moderator', 'admin', 'super_admin']

test('each role may do what those below it may, and nothing above', () => {
  for (const [own, role] of ranks.entries()) {
    for (const [needed, minimum] of ranks.entries()) {
      const asked = () => requireRole({ roles: ['user', role] }, minimum)
      if (own >= needed) asked()
      else expect(asked).toThrow(`INSUFFICIENT_PERMISSIONS: role: this needs ${minimum} or above.`)
    }
  }
})

test('no role, and one that this version does not know, is none', () => {
  for (const roles of [[], ['owner'], ['ADMIN'], ['']]) {
    expect(() => requireRole({ roles }, 'user')).toThrow('INSUFFICIENT_PERMISSIONS')
  }
})

test('nobody acts as staff on their own', () => {
  refuseOwn('me', ['you', null, undefined], 'a wallet')
  expect(() => refuseOwn('me', ['you', 'me'], 'a wallet')).toThrow('INSUFFICIENT_PERMISSIONS')
})
