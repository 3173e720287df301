// Which pending requests a gateway sends again, and which are purged, on a real Postgres.
import { randomBytes, randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, expect, inject, test } from 'vitest'
import { purgeExpired } from '../identity/sql/purge.ts'
import { createGatewayDatabase } from '../sql/test-database.ts'
import { claimOverdue, markDecided, type NewPendingRequest, writePending } from './sql/pending-requests.ts'

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database

beforeAll(async () => {
  database = await createGatewayDatabase(inject('stack').superuserUrl)
  sql = database.open()
})
beforeEach(() => sql`delete from gateway.pending_requests`)
afterAll(async () => {
  await sql.end()
  await database.drop()
})

const request = (over: Partial<NewPendingRequest> = {}): NewPendingRequest => ({
  ...{ transferId: randomUUID(), userId: randomUUID(), type: 'transfer', fromWallet: null, toWallet: null },
  ...{ amount: 1n, currency: 'USD', fingerprint: randomBytes(16), note: null, metadata: null },
  requestedAt: new Date(),
  expiresAt: new Date(),
  acknowledged: true,
  command: { key: 'key', type: 'type', value: Buffer.from('command') },
  ...over,
})
const age = (id: string, days: number) => sql`
  update gateway.pending_requests set expires_at = expires_at - make_interval(days => ${days}),
    decided_at = decided_at - make_interval(days => ${days}) where transfer_id = ${id}`
const idsOf = async () =>
  (
    await sql<
      Array<{ id: string }>
    >`select transfer_id as id from gateway.pending_requests order by transfer_id`
  ).map(({ id }) => id)

test('X2: two gateways share what is overdue; neither takes what the other has, nor what is not due', async () => {
  const overdue = Array.from({ length: 30 }, () => request())
  await writePending(sql, overdue, 0)
  await writePending(sql, [request({ acknowledged: false })], 0)
  await writePending(sql, [request({ expiresAt: new Date(Date.now() + 60_000) })], 0)
  await writePending(sql, [request()], 60_000)
  const [first, second] = await Promise.all([claimOverdue(sql, 20, 60_000), claimOverdue(sql, 20, 60_000)])
  const third = await claimOverdue(sql, 20, 60_000)
  const claimed = [first, second, third].flat()
  expect(claimed.map(({ transferId }) => transferId).sort()).toEqual(
    overdue.map(({ transferId }) => transferId).sort(),
  )
  expect(claimed[0]).toMatchObject({ key: 'key', type: 'type', value: Buffer.from('command') })
  expect(await claimOverdue(sql, 20, 60_000)).toEqual([])
})

test('X2: the pause doubles up to an hour, and what is decided is claimed no more', async () => {
  const { transferId, ...rest } = request()
  await writePending(sql, [{ transferId, ...rest }], 0)
  const pauses: number[] = []
  for (let n = 0; n < 20; n++) {
    await sql`update gateway.pending_requests set look_at = clock_timestamp()`
    await claimOverdue(sql, 1, 60_000)
    const [row] = await sql<Array<{ pause: number }>>`
      select round(extract(epoch from look_at - clock_timestamp()) / 60)::int as pause from gateway.pending_requests`
    pauses.push(row!.pause)
  }
  expect(pauses.slice(0, 8)).toEqual([1, 2, 4, 8, 16, 32, 60, 60])
  expect(pauses.at(-1)).toBe(60)
  await markDecided(sql, [transferId])
  await sql`update gateway.pending_requests set look_at = clock_timestamp()`
  expect(await claimOverdue(sql, 1, 60_000)).toEqual([])
})

test('X2: nothing undecided that Kafka took is purged; what is decided is, a day later', async () => {
  const [open, decided, fresh, unsure] = [
    request(),
    request(),
    request(),
    request({ acknowledged: false }),
  ] as const
  await writePending(sql, [open, decided, fresh, unsure], 0)
  await markDecided(sql, [decided.transferId, fresh.transferId])
  await age(open.transferId, 400)
  await age(decided.transferId, 2)
  await age(unsure.transferId, 31)
  await purgeExpired(sql)
  expect(await idsOf()).toEqual([open.transferId, fresh.transferId].sort())
})
