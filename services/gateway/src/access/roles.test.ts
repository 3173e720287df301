import { expect, test } from 'vitest'
import {
  highestRole,
  isAllowed,
  type Role,
  refuseOwn,
  requireAbove,
  requireRole,
  rolesOfSession,
} from './roles.ts'

const ranks: Role[] = ['user', 'moderator', 'admin', 'super_admin']

test('each role may do what those below it may, and nothing above', () => {
  for (const [own, role] of ranks.entries()) {
    for (const [needed, minimum] of ranks.entries()) {
      const call = () => requireRole({ roles: ['user', role] }, minimum)
      if (own >= needed) call()
      else expect(call).toThrow(`INSUFFICIENT_PERMISSIONS: role: this needs ${minimum} or above,`)
    }
  }
})

test('a session without the second factor has no role but user', () => {
  expect(rolesOfSession(['user', 'admin'], false)).toEqual(['user'])
  expect(rolesOfSession(['user', 'admin'], true)).toEqual(['user', 'admin'])
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

test('as an owner only one’s own, as staff only what is not', () => {
  const table = [
    ['owner', ['me'], true],
    ['owner', ['you', 'me'], true],
    ['owner', ['you'], false],
    ['owner', [null, undefined], false],
    ['owner', [], false],
    ['staff', ['me'], false],
    ['staff', ['you', 'me'], false],
    ['staff', ['you'], true],
    ['staff', [null], true],
  ] as const
  for (const [as, concerned, allowed] of table) {
    expect([as, concerned, isAllowed('me', as, [...concerned])]).toEqual([as, concerned, allowed])
  }
})

test('an admin manages whom they are above of; a super_admin everybody', () => {
  const managed = (staff: Role) =>
    ranks.filter(role => {
      try {
        requireAbove({ roles: ['user', staff] }, role)
        return true
      } catch {
        return false
      }
    })
  expect(managed('admin')).toEqual(['user', 'moderator'])
  expect(managed('super_admin')).toEqual(ranks)
  expect(highestRole({ roles: ['user', 'admin', 'owner', 'moderator'] })).toBe('admin')
  expect(highestRole({ roles: ['owner'] })).toBe('user')
})
