import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, expect, inject, test, vi } from 'vitest'
import { ask, control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'
import { openStream, type StreamedEvent, type TestStream } from './read-stream.ts'

const STREAM = '/v1/notifications/stream'

let alice: Person
let bob: Person
let from: Wallet
let to: Wallet

const open: TestStream[] = []
const listen = async (...input: Parameters<typeof openStream>): Promise<TestStream> => {
  const stream = await openStream(...input)
  open.push(stream)
  return stream
}
/** Opens a stream and reads its first event, which states where it begins. */
const begin = async (
  ...input: Parameters<typeof openStream>
): Promise<{ stream: TestStream; start: number }> => {
  const stream = await listen(...input)
  const first = await stream.next()
  expect(first).toMatchObject({ event: 'ready', data: {} })
  return { stream, start: first.id! }
}
const take = async (stream: TestStream, count: number): Promise<StreamedEvent[]> => {
  const events: StreamedEvent[] = []
  while (events.length < count) events.push(await stream.next())
  return events
}
const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, at) => first + at)

const pay = async (times: number) => {
  for (let time = 0; time < times; time++) expect((await send(alice, to, '0.01')).status).toBe(201)
}

const started: string[] = []
const startGateway = async (
  settings: Record<string, string> = {},
): Promise<{ name: string; url: string }> => {
  const body = JSON.stringify(settings)
  const response = await fetch(`${inject('system').controlUrl}/gateway/start`, { method: 'POST', body })
  expect(response.ok).toBe(true)
  const gateway = (await response.json()) as { name: string; url: string }
  started.push(gateway.name)
  return gateway
}

beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(bob, 'USD')
  // What Bob is told of his account must not come between the payments.
  await vi.waitFor(async () => {
    const { items } = (await bob.ask('GET', '/v1/notifications')).body
    expect(items).toMatchObject([{ type: 'pin_set' }])
  }, 20_000)
})
afterEach(() => {
  for (const stream of open.splice(0)) stream.close()
})
afterAll(async () => {
  for (const name of started) await control(name, 'stop')
})

test('notifications come as they are added, as the list shows them, under numbers without a gap', async () => {
  const { stream, start } = await begin(STREAM, { token: bob.token })
  expect(stream.headers.get('content-type')).toBe('text/event-stream')
  expect(stream.headers.get('cache-control')).toBe('no-store')
  await pay(3)
  const events = await take(stream, 3)
  expect(events.map(({ id, event }) => [id, event])).toEqual(
    idsFrom(start + 1, 3).map(id => [id, 'notification']),
  )
  const { items } = (await bob.ask('GET', '/v1/notifications?limit=3')).body
  expect(events.map(({ data }) => data)).toEqual(items.reverse())
  expect(events[0]!.data).toMatchObject({ type: 'transfer_received', counterparty: { name: 'Alice S.' } })
})

test('words are in the language that the request asks for', async () => {
  const { stream } = await begin(STREAM, { token: bob.token, headers: { 'accept-language': 'de' } })
  expect(stream.headers.get('content-language')).toBe('de')
  await pay(1)
  expect((await stream.next()).data.title).toBe('Geld erhalten')
})

test('a stream that is cut goes on after its last event, at another gateway, and has missed nothing', async () => {
  const { stream, start } = await begin(STREAM, { token: bob.token })
  await pay(2)
  await take(stream, 2)
  stream.close()
  // More than a page.
  await pay(60)
  const { url, name } = await startGateway()
  const resumed = await listen(STREAM, { token: bob.token, lastEventId: start + 2, gatewayUrl: url })
  expect(await resumed.next()).toMatchObject({ event: 'ready', id: start + 2 })
  expect((await take(resumed, 60)).map(({ id }) => id)).toEqual(idsFrom(start + 3, 60))
  await pay(1)
  expect((await resumed.next()).id).toBe(start + 63)
  // A gateway that stops ends its streams, so that it does not wait for them.
  await control(name, 'stop')
  started.splice(started.indexOf(name), 1)
  expect(await resumed.rest()).toEqual([
    { id: undefined, event: 'end', data: { code: 'SERVICE_UNAVAILABLE' } },
  ])
})

test('a gateway that is killed costs a stream nothing either', async () => {
  const { url, name } = await startGateway()
  const { stream, start } = await begin(STREAM, { token: bob.token, gatewayUrl: url })
  await pay(1)
  expect((await stream.next()).id).toBe(start + 1)
  await control(name, 'SIGKILL')
  started.splice(started.indexOf(name), 1)
  expect(await stream.rest()).toEqual([])
  await pay(1)
  const resumed = await listen(STREAM, { token: bob.token, lastEventId: start + 1 })
  expect((await take(resumed, 2)).map(({ id }) => id)).toEqual([start + 1, start + 2])
})

test("a wallet's entries stream to its owner's sessions and keys, as the list shows them", async () => {
  const made = await bob.ask('POST', '/v1/api-keys', {
    name: 'shop',
    scopes: ['wallets:read'],
    password: bob.password,
    expiresInDays: 1,
  })
  expect(made.status).toBe(201)
  const path = `/v1/wallets/${to.id}/entries/stream`
  const { stream, start } = await begin(path, { token: made.body.secret })
  const beside = await begin(path, { token: bob.token })
  await pay(2)
  const events = await take(stream, 2)
  expect(events.map(({ id, event, data }) => [id, event, data.sequence, data.amount])).toEqual([
    [start + 1, 'entry', start + 1, '0.01'],
    [start + 2, 'entry', start + 2, '0.01'],
  ])
  const { items } = (await bob.ask('GET', `/v1/wallets/${to.id}/entries?limit=2`)).body
  expect(events.map(({ data }) => data)).toEqual(items.reverse())
  expect(await take(beside.stream, 2)).toEqual(events)

  // A revoked key ends its stream and no other.
  expect((await bob.ask('DELETE', `/v1/api-keys/${made.body.id}`)).status).toBeLessThan(300)
  await vi.waitFor(async () => {
    const { status } = await ask('GET', `/v1/wallets/${to.id}`, { token: made.body.secret })
    expect(status).toBe(401)
  })
  await pay(1)
  expect(await stream.rest()).toEqual([{ id: undefined, event: 'end', data: { code: 'TOKEN_REVOKED' } }])
  expect((await beside.stream.next()).id).toBe(start + 3)
})

test('nothing is sent after the session has ended, and the stream ends', async () => {
  const login = await ask('POST', '/v1/auth/login', { body: { email: bob.email, password: bob.password } })
  expect(login.status).toBe(200)
  const { accessToken: token, refreshToken } = login.body
  const { stream, start } = await begin(STREAM, { token })
  const beside = await begin(STREAM, { token: bob.token, lastEventId: start })
  expect((await ask('POST', '/v1/auth/logout', { token, body: { refreshToken } })).status).toBeLessThan(300)
  await pay(1)
  expect(await stream.rest()).toEqual([{ id: undefined, event: 'end', data: { code: 'TOKEN_REVOKED' } }])
  expect((await beside.stream.next()).event).toBe('notification')
})

test('an idle stream ends with its session as well', async () => {
  const carol = await makePerson('Carol Clark')
  const { stream } = await begin(STREAM, { token: carol.token })
  const path = '/v1/auth/logout'
  expect((await carol.ask('POST', path, { refreshToken: carol.refreshToken })).status).toBeLessThan(300)
  expect(await stream.rest()).toEqual([{ id: undefined, event: 'end', data: { code: 'TOKEN_REVOKED' } }])
}, 30_000)

test('a stream ends with its token, and goes on with the next', async () => {
  const { url } = await startGateway({ ACCESS_TOKEN_SECONDS: '10' })
  // Signed by a gateway of short tokens; another one streams by it.
  const login = await ask('POST', '/v1/auth/login', {
    body: { email: bob.email, password: bob.password },
    gatewayUrl: url,
  })
  expect(login.body.expiresIn).toBe(10)
  const { stream, start } = await begin(STREAM, { token: login.body.accessToken, gatewayUrl: url })
  expect((await stream.rest()).at(-1)).toMatchObject({ event: 'end', data: { code: 'TOKEN_EXPIRED' } })
  const { refreshToken } = login.body
  const refreshed = await ask('POST', '/v1/auth/refresh', { body: { refreshToken } })
  await pay(1)
  const next = await listen(STREAM, { token: refreshed.body.accessToken, lastEventId: start })
  expect((await take(next, 2)).map(({ id }) => id)).toEqual([start, start + 1])
}, 120_000)

test('a number that the list has not reached begins at its end; what is no number is refused by name', async () => {
  const { start } = await begin(STREAM, { token: bob.token })
  const { stream, start: same } = await begin(STREAM, { token: bob.token, lastEventId: start + 1_000 })
  expect(same).toBe(start)
  await pay(1)
  expect((await stream.next()).id).toBe(start + 1)
  for (const wrong of ['-1', '1.5', 'x', '01', '9'.repeat(19)]) {
    const answer = await bob.ask('GET', STREAM, undefined, { 'last-event-id': wrong })
    expect([wrong, answer.status, answer.body.errors[0]]).toEqual([
      wrong,
      422,
      { field: 'last-event-id', rule: 'must be the id of an event of this stream' },
    ])
  }
})

test('the wallets of others and unknown ones are not streamed', async () => {
  for (const id of [from.id, randomUUID()]) {
    const answer = await bob.ask('GET', `/v1/wallets/${id}/entries/stream`)
    expect([answer.status, answer.body.code]).toEqual([404, 'WALLET_NOT_FOUND'])
  }
})

test('a user has so many streams at once, and each that is closed makes room', async () => {
  const { url } = await startGateway({ MAX_STREAMS_PER_USER: '3', MAX_STREAMS: '4' })
  const [dora, eve] = [await makePerson('Dora Day'), await makePerson('Eve East')]
  const options = { token: dora.token, gatewayUrl: url }
  const [first] = [await begin(STREAM, options), await begin(STREAM, options), await begin(STREAM, options)]
  const refused = await ask('GET', STREAM, options)
  expect([refused.status, refused.body.code]).toEqual([429, 'RATE_LIMIT_EXCEEDED'])
  expect(refused.body.detail).toContain('At most 3')
  // The answer to a HEAD has no body: it takes no place.
  const head = await fetch(`${url}${STREAM}`, {
    method: 'HEAD',
    headers: { authorization: `Bearer ${eve.token}` },
  })
  expect([head.status, head.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  await begin(STREAM, { token: eve.token, gatewayUrl: url })
  const full = await ask('GET', STREAM, { token: eve.token, gatewayUrl: url })
  expect([full.status, full.body.code, full.body.retryable]).toEqual([503, 'SERVICE_UNAVAILABLE', true])
  first.stream.close()
  await vi.waitFor(() => begin(STREAM, options), { timeout: 10_000, interval: 100 })
})
