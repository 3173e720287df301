import { serve } from '@hono/node-server'
import type { Database } from '@pennywire/runtime/database.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { createGatewayDatabase } from './sql/test-database.ts'
import {
  createTestGateway,
  createTestKeys,
  drawAddress,
  type TestGateway,
  type TestKeys,
} from './test-gateway.ts'

const { superuserUrl, redisUrl } = inject('stack')

let database: Awaited<ReturnType<typeof createGatewayDatabase>>
let sql: Database
let keys: TestKeys
let gateway: TestGateway

beforeAll(async () => {
  database = await createGatewayDatabase(superuserUrl)
  sql = database.open()
  keys = await createTestKeys()
  // Expensive enough that a flood queues up.
  const env = { BCRYPT_COST: '9' }
  gateway = await createTestGateway({ sql, databaseUrl: database.url, redisUrl, keys, env })
  await vi.waitFor(() => gateway.identity.check())
})

afterAll(async () => {
  gateway.stop()
  keys.remove()
  await sql.end()
  await database.drop()
})

const TIMEOUT_MS = 120_000

/** Appends the name to `order` when the answer arrives. */
const track = async (order: string[], name: string, answer: Promise<{ status: number }>) => {
  const { status } = await answer
  order.push(name)
  return status
}

test(
  'who signs in from elsewhere waits for one turn of a /48 that floods, and is not refused',
  async () => {
    const user = await gateway.signedInUser()
    const order: string[] = []
    const flood = Array.from({ length: 150 }, (_, each) =>
      track(
        order,
        'flood',
        gateway.ask('POST', '/v1/auth/login', {
          body: { email: `nobody-${each}@example.com`, password: 'Wrong-Horse-7' },
          address: `2001:db8:88:ab${each.toString(16).padStart(2, '0')}::1`,
        }),
      ),
    )
    await vi.waitFor(() => expect(order.length).toBeGreaterThan(0), 60_000)
    const { email, password } = user
    const status = await track(
      order,
      'honest',
      gateway.ask('POST', '/v1/auth/login', { body: { email, password }, address: drawAddress() }),
    )
    const finishedBefore = order.indexOf('honest')
    const statuses = await Promise.all(flood)
    expect(status).toBe(200)
    // Requests without a place are refused at once; of the queued ones at most a few had their turn meanwhile.
    expect(statuses.filter(each => each === 503).length).toBeGreaterThan(50)
    expect(order.slice(finishedBefore).length).toBeGreaterThan(50)
  },
  TIMEOUT_MS,
)

test(
  'PINs of many accounts that check theirs again and again do not delay the one that pays now and then',
  async () => {
    const address = drawAddress()
    const users = []
    for (let each = 0; each < 13; each++) {
      const user = await gateway.signedInUser()
      await gateway.ask('POST', '/v1/pin', { token: user.accessToken, body: { pin: '482915' } })
      users.push(user)
    }
    const honest = users.pop()!
    const order: string[] = []
    const check = (token: string) =>
      gateway.ask('POST', '/v1/pin/verify', { token, body: { pin: '482915' }, address })
    const flood = users.flatMap(({ accessToken }) =>
      Array.from({ length: 3 }, () => track(order, 'flood', check(accessToken))),
    )
    await vi.waitFor(() => expect(order.length).toBeGreaterThan(12), 60_000)
    const before = order.length
    expect(await track(order, 'honest', check(honest.accessToken))).toBe(200)
    expect(order.indexOf('honest') - before).toBeLessThan(10)
    await Promise.all(flood)
  },
  TIMEOUT_MS,
)

test(
  'what a client asked that has hung up is not hashed',
  async () => {
    let seen = 0
    const server = serve({
      fetch: (request, env) => {
        seen++
        return gateway.app.fetch(request, env)
      },
      port: 0,
      hostname: '127.0.0.1',
    })
    try {
      await new Promise<void>(resolve => (server.listening ? resolve() : server.once('listening', resolve)))
      const { port } = server.address() as { port: number }
      const goneBefore = await countGone()
      const clients = Array.from({ length: 8 }, () => new AbortController())
      // Queued before the requests that are aborted.
      const others = Array.from({ length: 10 }, () =>
        gateway.ask('POST', '/v1/auth/login', { body: { email: 'x@example.com', password: 'x' } }),
      )
      const requests = clients.map(({ signal }, each) =>
        fetch(`http://127.0.0.1:${port}/v1/auth/login`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ email: `gone-${each}@example.com`, password: 'Wrong-Horse-7' }),
          signal,
        }).catch(() => undefined),
      )
      await vi.waitFor(() => expect(seen).toBe(clients.length), 30_000)
      for (const client of clients) client.abort()
      await Promise.all([...requests, ...others])
      await vi.waitFor(async () => expect(await countGone()).toBeGreaterThan(goneBefore), 30_000)
    } finally {
      await new Promise(resolve => server.close(resolve))
    }
  },
  TIMEOUT_MS,
)

const countGone = async (): Promise<number> => {
  const line = /gateway_slow_hashes_refused_total\{of="password",reason="gone"\} (\d+)/.exec(
    await metricsText(),
  )
  return Number(line?.[1] ?? 0)
}
