import { expect, test } from 'vitest'
import {
  externalWalletId,
  holdExpiryIdOf,
  idsOfReference,
  referenceOf,
  transferIdOf,
  walletIdOf,
} from './ids.ts'

test('derived ids never change: clients, topics and rows hold them for ever', () => {
  expect(transferIdOf('user-1', 'key-1')).toBe('d65e33d0-918a-85f7-b8fb-30201df434b9')
  expect(walletIdOf('user-1', 'USD', 0)).toBe('9a7d2a47-6a86-8da7-907f-c4e7930b6e3b')
  expect(externalWalletId('USD', 3)).toBe('34d9278f-f8ab-846f-90f7-25efde4df6fe')
  expect(holdExpiryIdOf('hold-1', 0)).toBe('72de7a40-2f8c-8d09-9ab8-047c9ed8fa34')
})

test('parts cannot run into each other', () => {
  expect(transferIdOf('ab', 'c')).not.toBe(transferIdOf('a', 'bc'))
  expect(transferIdOf('a', '\x001\0b')).not.toBe(transferIdOf('a\x001\0b', ''))
})

test('a reference names the ids that share its first 60 bits', () => {
  for (let i = 0; i < 100; i++) {
    const id = transferIdOf('user', String(i))
    const range = idsOfReference(referenceOf(id))!
    expect(range.first <= id && id <= range.last).toBe(true)
    expect(range.first.slice(0, 16)).toBe(id.slice(0, 16))
  }
  expect(idsOfReference('TXN-U00000000000')).toBeNull()
  expect(idsOfReference('000000000000')).toBeNull()
})
