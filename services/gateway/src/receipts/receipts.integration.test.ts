// The queue of receipts on a real Postgres: who gets a place, who gets a receipt to render, and what is purged.
import { randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { purgeExpired } from '../identity/sql/purge.ts'
import { createGatewayDatabase } from '../sql/test-database.ts'
import {
  claimReceipts,
  dropReceipt,
  measureWaiting,
  postponeReceipt,
  readReceipt,
  requestReceipt,
  storeReceipt,
} from './sql/receipts.ts'

const BOUNDS = { maxWaiting: 5, maxPerUser: 3 }
let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let [alice, bob] = ['', '']

beforeAll(async () => {
  database = await createGatewayDatabase(inject('stack').superuserUrl)
  sql = database.open()
  ;[alice, bob] = await Promise.all([addUser(), addUser()])
})
beforeEach(() => sql`delete from gateway.receipts`)
afterAll(async () => {
  await sql.end()
  await database.drop()
})

const addUser = async () => {
  const id = randomUUID()
  await sql`
    insert into gateway.users (id, email, full_name, password_hash) values (${id}, ${`${id}@example.com`}, 'A', 'x')`
  return id
}
const request = (userId: string, transferId = randomUUID(), language: 'en' | 'de' = 'en') =>
  requestReceipt(sql, { transferId, userId, language }, BOUNDS)

test('a request waits; a repeat waits with it, and finds it made', async () => {
  const id = randomUUID()
  expect(await request(alice, id)).toBe('waiting')
  expect(await request(alice, id)).toBe('waiting')
  expect(await readReceipt(sql, id, alice)).toEqual({ pdf: null })
  const [claimed, ...more] = await claimReceipts(sql, 10, 60_000)
  expect(more).toEqual([])
  expect(claimed).toMatchObject({ transferId: id, userId: alice, language: 'en', attempts: 1 })
  await storeReceipt(sql, claimed!, Buffer.from('cipher'))
  expect(await request(alice, id)).toBe('made')
  expect(await readReceipt(sql, id, alice)).toEqual({ pdf: Buffer.from('cipher') })
  expect(await readReceipt(sql, id, bob)).toBeUndefined()
})

test('in another language it is made again; what was rendered of the first one changes nothing', async () => {
  const id = randomUUID()
  await request(alice, id)
  const [english] = await claimReceipts(sql, 1, 60_000)
  expect(await request(alice, id, 'de')).toBe('waiting')
  await storeReceipt(sql, english!, Buffer.from('english'))
  expect(await readReceipt(sql, id, alice)).toEqual({ pdf: null })
  const [german] = await claimReceipts(sql, 1, 60_000)
  expect(german).toMatchObject({ language: 'de', attempts: 1 })
})

test('places are bounded by user and in all; what is made takes none', async () => {
  for (let place = 0; place < 3; place++) expect(await request(alice)).toBe('waiting')
  expect(await request(alice)).toBe('too_many')
  for (let place = 0; place < 2; place++) expect(await request(bob)).toBe('waiting')
  expect(await request(bob)).toBe('full')
  expect(await measureWaiting(sql)).toMatchObject({ waiting: 5 })
  for (const receipt of await claimReceipts(sql, 10, 60_000))
    await storeReceipt(sql, receipt, Buffer.from('cipher'))
  expect(await request(alice)).toBe('waiting')
  expect(await request(bob)).toBe('waiting')
})

test('two gateways share what waits; a claim that ran out is claimed again, and the late one changes nothing', async () => {
  for (let place = 0; place < 3; place++) await request(alice)
  const [one, other] = await Promise.all([claimReceipts(sql, 2, 60_000), claimReceipts(sql, 2, 60_000)])
  expect(one.length + other.length).toBe(3)
  expect(new Set([...one, ...other].map(({ transferId }) => transferId)).size).toBe(3)
  await sql`
    update gateway.receipts set next_attempt_at = now()
    where transfer_id = any (${one.map(({ transferId }) => transferId)}::uuid[])`
  const again = await claimReceipts(sql, 10, 60_000)
  expect(again.map(({ transferId }) => transferId).sort()).toEqual(
    one.map(({ transferId }) => transferId).sort(),
  )
  for (const late of one) {
    await dropReceipt(sql, late)
    await postponeReceipt(sql, late, 0)
    await storeReceipt(sql, late, Buffer.from('late'))
    expect(await readReceipt(sql, late.transferId, alice)).toEqual({ pdf: null })
  }
  expect(await claimReceipts(sql, 10, 60_000)).toEqual([])
})

test('what failed waits for its pause, and is gone once it is dropped', async () => {
  const id = randomUUID()
  await request(alice, id)
  const [first] = await claimReceipts(sql, 1, 60_000)
  await postponeReceipt(sql, first!, 60_000)
  expect(await claimReceipts(sql, 1, 60_000)).toEqual([])
  await sql`update gateway.receipts set next_attempt_at = now()`
  const [second] = await claimReceipts(sql, 1, 60_000)
  expect(second).toMatchObject({ attempts: 2 })
  await dropReceipt(sql, second!)
  expect(await readReceipt(sql, id, alice)).toBeUndefined()
})

test('receipts are purged a day after they were asked for', async () => {
  const [old, young] = [randomUUID(), randomUUID()]
  await request(alice, old)
  await request(alice, young)
  await sql`update gateway.receipts set requested_at = now() - interval '25 hours' where transfer_id = ${old}`
  expect((await purgeExpired(sql)).deleted).toBe(1)
  expect(await readReceipt(sql, old, alice)).toBeUndefined()
  expect(await readReceipt(sql, young, alice)).toBeDefined()
})
