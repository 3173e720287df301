// A component is unavailable for a while: clients get an error that states this, nothing is lost, and the system
// recovers by itself.
import { randomUUID } from 'node:crypto'
import postgres from 'postgres'
import { beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import { balanceOf, control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

let alice: Person
let from: Wallet
let to: Wallet

beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(await makePerson('Bob Brown'), 'USD')
})

const worksAgain = () =>
  vi.waitFor(async () => expect((await send(alice, to, '0.01')).status).toBe(201), {
    timeout: 40_000,
    interval: 200,
  })

describe('X2: a request during an outage can always be found out by its key', () => {
  test('the ledger is away: accepted, pending, and decided when it is back', async () => {
    await control('ledger', 'SIGKILL')
    const key = randomUUID()
    const accepted = await send(alice, to, '1.00', key, { headers: { prefer: 'wait=1' } })
    expect([accepted.status, accepted.body.status]).toEqual([202, 'pending'])
    const pending = await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
    expect([pending.status, pending.body]).toEqual([200, accepted.body])
    const repeated = await send(alice, to, '1.00', key, { headers: { prefer: 'wait=1' } })
    expect([repeated.status, repeated.body.id]).toEqual([202, accepted.body.id])
    await control('ledger', 'restart')
    await vi.waitFor(
      async () =>
        expect((await alice.ask('GET', `/v1/transfers/${accepted.body.id}`)).body.status).toBe('completed'),
      { timeout: 30_000, interval: 100 },
    )
    expect((await send(alice, to, '1.00', key)).headers.get('idempotency-replayed')).toBe('true')
  })

  test('Redis is away: reads go on, what guards money refuses', async () => {
    await control('redis', 'SIGKILL')
    const refused = await send(alice, to, '1.00')
    expect([refused.status, refused.body.code, refused.body.retryable]).toEqual([
      503,
      'SERVICE_UNAVAILABLE',
      true,
    ])
    expect(refused.headers.get('retry-after')).toBe('1')
    expect((await alice.ask('GET', `/v1/wallets/${from.id}`)).status).toBe(200)
    await control('redis', 'restart')
    await worksAgain()
  })

  test('Postgres is away: 503, and afterwards the same key applies once', async () => {
    const before = Number(await balanceOf(alice, from))
    const key = randomUUID()
    await control('postgres', 'SIGKILL')
    const refused = await send(alice, to, '1.00', key, { headers: { prefer: 'wait=1' } })
    expect([refused.status, refused.body.code]).toEqual([503, 'SERVICE_UNAVAILABLE'])
    await control('postgres', 'restart')
    await vi.waitFor(async () => expect((await send(alice, to, '1.00', key)).status).toBe(201), {
      timeout: 30_000,
      interval: 200,
    })
    expect((await send(alice, to, '1.00', key)).headers.get('idempotency-replayed')).toBe('true')
    expect(Number(await balanceOf(alice, from))).toBeCloseTo(before - 1)
  })

  test('Postgres is silent, its connections open: 503, and when it goes on the same key applies once (M1, X1)', async () => {
    const before = Number(await balanceOf(alice, from))
    const key = randomUUID()
    const sql = postgres(inject('system').databaseUrls.superuser, { max: 1 })
    const frozen: number[] = []
    try {
      await sql`select 1`
      // Stop the postmaster first, because it forks new back ends; then each back end, because each is its own session.
      await control('postgres', 'SIGSTOP')
      const backEnds = await sql<{ pid: number }[]>`
        select pid from pg_stat_activity where pid <> pg_backend_pid()`
      for (const { pid } of backEnds) {
        process.kill(pid, 'SIGSTOP')
        frozen.push(pid)
      }
      const answers = await Promise.all([
        send(alice, to, '1.00', key, { headers: { prefer: 'wait=1' } }),
        alice.ask('GET', `/v1/wallets/${from.id}`),
        alice.ask('GET', '/v1/wallets'),
      ])
      expect(answers.map(({ status, body }) => [status, body.code])).toEqual(
        answers.map(() => [503, 'SERVICE_UNAVAILABLE']),
      )
    } finally {
      for (const pid of frozen) process.kill(pid, 'SIGCONT')
      await control('postgres', 'SIGCONT')
      await sql.end()
    }
    await vi.waitFor(async () => expect((await send(alice, to, '1.00', key)).status).toBe(201), {
      timeout: 60_000,
      interval: 200,
    })
    expect((await send(alice, to, '1.00', key)).headers.get('idempotency-replayed')).toBe('true')
    expect(Number(await balanceOf(alice, from))).toBeCloseTo(before - 1)
    expectBooksToBeRight()
  }, 120_000)

  test('Kafka is away: 503 with the id to ask for, and afterwards the same key applies once', async () => {
    const before = Number(await balanceOf(alice, from))
    const key = randomUUID()
    await control('kafka', 'SIGKILL')
    const refused = await send(alice, to, '1.00', key, { headers: { prefer: 'wait=1' } })
    expect([refused.status, refused.body.code, refused.body.final]).toEqual([
      503,
      'SERVICE_UNAVAILABLE',
      false,
    ])
    const pending = await alice.ask('GET', refused.headers.get('location')!)
    expect([pending.status, pending.body.status]).toEqual([200, 'pending'])
    await control('kafka', 'restart')
    await vi.waitFor(async () => expect((await send(alice, to, '1.00', key)).status).toBe(201), {
      timeout: 60_000,
      interval: 200,
    })
    await worksAgain()
    const after = Number(await balanceOf(alice, from))
    expect(before - after).toBeGreaterThan(0.99)
    expect(before - after).toBeLessThan(1.1)
  }, 120_000)
})
