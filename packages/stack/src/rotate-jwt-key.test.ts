import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { keysFolder, makeKeys, rotateJwtKey } from './keys.ts'

type Key = { kid: string; d?: string; signsFrom?: string; until?: string }

const dataDir = mkdtempSync(join(tmpdir(), 'pennywire-rotate-'))
afterAll(() => rmSync(dataDir, { recursive: true }))

const file = join(keysFolder(dataDir), 'jwt.json')
const read = () => JSON.parse(readFileSync(file, 'utf8')) as Key & { keys: Key[] }

test('a new key signs later or now; old ones verify for a while, and lose what could sign', async () => {
  await makeKeys(dataDir)
  const first = read()
  const lead = await rotateJwtKey(file, { atOnce: false, dropOld: false })
  const [next, old] = read().keys
  expect([next!.kid, old!.kid]).toEqual([lead.kid, first.kid])
  expect(Date.parse(next!.signsFrom!) - Date.now()).toBeGreaterThan(60_000)
  expect(Date.parse(old!.until!)).toBeGreaterThan(Date.parse(next!.signsFrom!) + 3_600_000)
  // The old key signs until the next one does.
  expect([typeof next!.d, typeof old!.d]).toEqual(['string', 'string'])

  const atOnce = await rotateJwtKey(file, { atOnce: true, dropOld: false })
  const { keys } = read()
  expect(keys.map(({ kid }) => kid)).toEqual([atOnce.kid, lead.kid, first.kid])
  expect(Date.parse(keys[0]!.signsFrom!)).toBeLessThanOrEqual(Date.now())
  expect(keys.map(({ d }) => d !== undefined)).toEqual([true, false, false])
  expect(keys[2]!.until).toBe(old!.until)

  const incident = await rotateJwtKey(file, { atOnce: false, dropOld: true })
  expect(read().keys.map(({ kid }) => kid)).toEqual([incident.kid])
  expect(incident.dropped).toEqual([atOnce.kid, lead.kid, first.kid])
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readdirSync(keysFolder(dataDir)).filter(name => name.startsWith('jwt'))).toEqual(['jwt.json'])
})
