import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { loadPasswords, passwordFile } from './database-passwords.ts'
import { keysFolder, makeKeys } from './keys.ts'

const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-keys-'))
afterAll(() => rmSync(dataDir, { recursive: true }))

const snapshot = () =>
  Object.fromEntries(
    readdirSync(keysFolder(dataDir)).map(name => [
      name,
      readFileSync(join(keysFolder(dataDir), name), 'utf8'),
    ]),
  )

test('keys are made once, for the owner’s eyes only, and kept', async () => {
  await makeKeys(dataDir)
  const passwords = loadPasswords(dataDir)
  const first = snapshot()
  expect(Object.keys(first).toSorted()).toEqual([
    'address-hmac.json',
    'checkpoint-key.json',
    'checkpoint-public.json',
    'command-mac.json',
    'jwt.json',
    'notifier-private.json',
    'notifier-public.json',
    'person-kek.json',
    'pgpass',
    'pin-pepper.json',
    'provider-secret.json',
    'receipt.json',
    'second-factor.json',
  ])
  expect(statSync(keysFolder(dataDir)).mode & 0o777).toBe(0o700)
  for (const name of Object.keys(first))
    expect(statSync(join(keysFolder(dataDir), name)).mode & 0o777, name).toBe(0o600)

  await makeKeys(dataDir)
  expect(loadPasswords(dataDir)).toEqual(passwords)
  expect(snapshot()).toEqual(first)
  expect(passwordFile(dataDir)).toBe(join(keysFolder(dataDir), 'pgpass'))
})

test('the notifier’s public key holds no private part and has the private one’s name', async () => {
  const { 'notifier-public.json': publicKey = '', 'notifier-private.json': privateKey = '' } = snapshot()
  const { d, ...rest } = JSON.parse(privateKey)
  expect(d).toBeTypeOf('string')
  expect(JSON.parse(publicKey)).toEqual(rest)
})
