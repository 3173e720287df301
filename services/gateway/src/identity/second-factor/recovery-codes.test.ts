import { expect, test } from 'vitest'
import { newRecoveryCodes, recoveryCodeHash } from './recovery-codes.ts'

const key = { kid: 'p-1', key: Buffer.alloc(32, 1) }

test('ten different ones, in groups that can be written down', () => {
  const codes = newRecoveryCodes()
  expect(new Set(codes).size).toBe(10)
  for (const code of codes) expect(code).toMatch(/^[0-9A-HJKMNP-TV-Z]{4}(-[0-9A-HJKMNP-TV-Z]{4}){3}$/)
})

test('however it is typed it is the same code, of this user and under this key only', () => {
  const hash = recoveryCodeHash(key, 'user', '7K2M-01XD-93TF-ZB5A')
  for (const typed of ['7k2m01xd93tfzb5a', ' 7K2M OIXD 93TF ZB5A', '7k2m-ol-xd93-tfzb5a']) {
    expect(recoveryCodeHash(key, 'user', typed)).toEqual(hash)
  }
  expect(recoveryCodeHash(key, 'another', '7K2M-01XD-93TF-ZB5A')).not.toEqual(hash)
  expect(
    recoveryCodeHash({ kid: 'p-2', key: Buffer.alloc(32, 2) }, 'user', '7K2M-01XD-93TF-ZB5A'),
  ).not.toEqual(hash)
})
