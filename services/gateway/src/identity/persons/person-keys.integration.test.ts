import { randomBytes } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { afterEach, beforeEach, expect, inject, test } from 'vitest'
import { createGatewayDatabase, destroyPersonKey, insertCrowd, readKekIds } from '../../sql/test-database.ts'
import { createPersonKeys } from './person-keys.ts'
import { createKeyRing } from './secret-box.ts'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database

beforeEach(async () => {
  database = await createGatewayDatabase(inject('stack').superuserUrl)
  sql = database.open()
})
afterEach(async () => {
  await sql.end()
  await database.drop()
})

const makeKey = (kid: string) => ({ kid, key: randomBytes(32) })

test('another key of keys: all that the earlier one wrapped is wrapped anew, and what they sealed is read', async () => {
  const [old, next] = [makeKey('kek-old'), makeKey('kek-next')]
  const before = createPersonKeys(sql, createKeyRing([old]))
  // More than fit into one statement.
  const people = await insertCrowd(sql, 501)
  await sql.begin(tx => Promise.all(people.map(id => before.create(tx, id))))
  const [alice, bob, gone] = people as [string, string, string]
  const cipher = await before.encryptFor(alice, 'for the rent', 'note')
  await destroyPersonKey(sql, gone)

  const changing = createPersonKeys(sql, createKeyRing([next, old]))
  expect(await changing.decryptFor(alice, cipher, 'note')).toBe('for the rent')
  // Two gateways start at once.
  const other = createPersonKeys(sql, createKeyRing([next, old]))
  const counts = await Promise.all([changing.rewrapAll(), other.rewrapAll()])
  expect(Math.max(...counts)).toBeGreaterThan(0)
  expect(await readKekIds(sql)).toEqual([{ kekId: 'kek-next', count: people.length - 1 }])
  expect(await changing.rewrapAll()).toBe(0)

  const after = createPersonKeys(sql, createKeyRing([next]))
  expect(await after.decryptFor(alice, cipher, 'note')).toBe('for the rent')
  expect(await after.decryptFor(gone, cipher, 'note')).toBeNull()
  expect(await after.decryptFor(bob, await changing.encryptFor(bob, 'mine', 'note'), 'note')).toBe('mine')

  const stranger = createPersonKeys(sql, createKeyRing([makeKey('kek-other')]))
  await expect(stranger.decryptFor(alice, cipher, 'note')).rejects.toThrow('kek-next')
  await expect(stranger.rewrapAll()).rejects.toThrow('kek-next')
  expect(await readKekIds(sql)).toEqual([{ kekId: 'kek-next', count: people.length - 1 }])
})

test('gateways with either order of the two read what the others wrap, and the last to start leaves one key', async () => {
  const [old, next] = [makeKey('kek-old'), makeKey('kek-next')]
  const [early, late, fresh] = (await insertCrowd(sql, 3)) as [string, string, string]
  // A gateway from before the change runs beside one that has both keys, and must still read everything.
  const only = createPersonKeys(sql, createKeyRing([old]))
  const first = createPersonKeys(sql, createKeyRing([old, next]))
  await sql.begin(tx => only.create(tx, early))
  await sql.begin(tx => first.create(tx, late))
  expect(await first.rewrapAll()).toBe(0)
  const cipher = await first.encryptFor(late, 'by the first', 'note')
  expect(await only.decryptFor(late, cipher, 'note')).toBe('by the first')

  // All gateways have both keys now, and the first of them starts with the other order.
  const second = createPersonKeys(sql, createKeyRing([next, old]))
  expect(await second.rewrapAll()).toBe(2)
  await sql.begin(tx => second.create(tx, fresh))
  const behind = createPersonKeys(sql, createKeyRing([old, next]))
  expect(await behind.decryptFor(late, cipher, 'note')).toBe('by the first')
  expect(await behind.encryptFor(fresh, 'for all', 'note')).toBeInstanceOf(Buffer)
  // A gateway that restarts with the earlier order wraps the keys back, and the others still read them.
  expect(await behind.rewrapAll()).toBe(3)
  const last = createPersonKeys(sql, createKeyRing([next, old]))
  expect(await last.decryptFor(late, cipher, 'note')).toBe('by the first')
  expect(await last.rewrapAll()).toBe(3)
  expect(await readKekIds(sql)).toEqual([{ kekId: 'kek-next', count: 3 }])
})
