import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { findSignatureFault, signBody } from './provider-signature.ts'
import { createSandboxProvider } from './sandbox-provider.ts'
import { waitUntil } from './wait-until.ts'

const secret = 'a secret of the test'
const folder = mkdtempSync(join(tmpdir(), 'pennywire-provider-'))
const unixSeconds = () => Math.floor(Date.now() / 1_000)

type Callback = { id: string; status: string; failureReason?: string }
let received: Callback[] = []
let answerWith = 204
const gateway = createServer(async (request, response) => {
  const body = await text(request)
  const fault = findSignatureFault(
    secret,
    body,
    request.headers['provider-signature']?.toString(),
    unixSeconds(),
  )
  if (fault) throw new Error(fault)
  received.push(JSON.parse(body))
  response.writeHead(answerWith).end()
})

let provider: ReturnType<typeof createSandboxProvider>
let stateFile: string
let callbackUrl: string
const start = (delayMs = 0) => {
  provider = createSandboxProvider({ secret, stateFile, delayMs })
}

beforeAll(async () => {
  await once(gateway.listen(0, '127.0.0.1'), 'listening')
  callbackUrl = `http://127.0.0.1:${(gateway.address() as AddressInfo).port}/v1/provider/callbacks`
})
beforeEach(() => {
  received = []
  answerWith = 204
  stateFile = join(folder, `${randomUUID()}.jsonl`)
  start()
})
afterEach(() => provider.stop())
afterAll(() => {
  gateway.close()
  rmSync(folder, { recursive: true })
})

const payment = (changes: Record<string, unknown> = {}) => ({
  id: randomUUID() as string,
  kind: 'deposit',
  amount: '12.50',
  currency: 'USD',
  method: 'card',
  callbackUrl,
  ...changes,
})

const post = (content: object, signature?: string) => {
  const body = JSON.stringify(content)
  const headers = { 'provider-signature': signature ?? signBody(secret, body, unixSeconds()) }
  return provider.app.request('/payments', { method: 'POST', body, headers })
}

const answerOf = (response: Response) =>
  response.json() as Promise<{ status: string; providerReference: string }>

const read = async (id: string) => {
  const headers = { 'provider-signature': signBody(secret, '', unixSeconds()) }
  const response = await provider.app.request(`/payments/${id}`, { headers })
  return [response.status, await response.json()]
}

const callbacksOf = (id: string) => received.filter(callback => callback.id === id)
const untilCalledBack = (id: string, times = 1) =>
  waitUntil('the callback', async () => callbacksOf(id).length >= times, { deadlineMs: 10_000 })

test('a payment is taken, confirmed at once by a signed callback, and can be asked for', async () => {
  const body = payment({ reference: 'TXN-1' })
  const response = await post(body)
  expect(response.status).toBe(202)
  const { providerReference, status } = await answerOf(response)
  expect(status).toBe('pending')
  await untilCalledBack(body.id)
  const { id, kind, amount, currency } = body
  const outcome = {
    id,
    kind,
    amount,
    currency,
    status: 'succeeded',
    providerReference,
    occurredAt: expect.any(String),
  }
  expect(received).toEqual([outcome])
  expect(await read(body.id)).toEqual([200, outcome])
  expect(await read(randomUUID())).toMatchObject([404, { code: 'PAYMENT_NOT_FOUND' }])
})

test('the same id with the same content does nothing new; with other content it is refused', async () => {
  const body = payment()
  const first = await answerOf(await post(body))
  await untilCalledBack(body.id)
  const second = await post(body)
  expect(second.status).toBe(202)
  expect((await answerOf(second)).providerReference).toBe(first.providerReference)
  expect((await post({ ...body, amount: '12.51' })).status).toBe(409)
  const other = payment()
  await post(other)
  await untilCalledBack(other.id)
  expect(callbacksOf(body.id)).toHaveLength(1)
})

test('what is unsigned, forged or old is refused', async () => {
  const body = payment()
  const old = signBody(secret, JSON.stringify(body), unixSeconds() - 301)
  const forged = signBody('another secret', JSON.stringify(body), unixSeconds())
  for (const signature of ['', forged, old]) expect((await post(body, signature)).status).toBe(401)
  expect((await provider.app.request(`/payments/${body.id}`)).status).toBe(401)
  expect(await read(body.id)).toMatchObject([404, {}])
})

test.each([
  { amount: '0.00' },
  { amount: '-1' },
  { amount: 12.5 },
  { currency: 'usd' },
  { method: 'sandbox:typo' },
  { callbackUrl: 'https://127.0.0.1/' },
  { callbackUrl: 'http://example.com/' },
  { id: 'no-uuid' },
  { more: 1 },
])('%o is refused', async changes => {
  expect((await post(payment(changes))).status).toBe(422)
})

test('sandbox:fail is told with a reason', async () => {
  const body = payment({ kind: 'withdrawal', method: 'sandbox:fail' })
  await post(body)
  await untilCalledBack(body.id)
  expect(received).toMatchObject([
    { status: 'failed', failureReason: expect.stringContaining('sandbox:fail') },
  ])
})

test('sandbox:silent never calls back', async () => {
  const silent = payment({ method: 'sandbox:silent' })
  const after = payment()
  await post(silent)
  await post(after)
  await untilCalledBack(after.id)
  expect(callbacksOf(silent.id)).toEqual([])
  expect(await read(silent.id)).toMatchObject([200, { status: 'pending' }])
})

test('sandbox:lost is decided without a word, and told to anybody who asks, signed', async () => {
  const lost = payment({ method: 'sandbox:lost' })
  const after = payment()
  await post(lost)
  await post(after)
  await untilCalledBack(after.id)
  expect(await read(lost.id)).toMatchObject([200, { status: 'succeeded' }])
  const headers = { 'provider-signature': signBody(secret, '', unixSeconds()) }
  const response = await provider.app.request(`/payments/${lost.id}`, { headers })
  const signature = response.headers.get('provider-signature') ?? ''
  expect(findSignatureFault(secret, await response.text(), signature, unixSeconds())).toBeUndefined()
  provider.stop()
  start()
  const again = payment()
  await post(again)
  await untilCalledBack(again.id)
  expect(callbacksOf(lost.id)).toEqual([])
})

test('sandbox:return succeeds, then comes back, over a kill as well; a deposit cannot', async () => {
  const body = payment({ kind: 'withdrawal', method: 'sandbox:return' })
  provider.stop()
  start(60_000)
  await post(body)
  await untilCalledBack(body.id)
  provider.stop()
  start(0)
  await untilCalledBack(body.id, 2)
  expect(callbacksOf(body.id).map(({ status }) => status)).toEqual(['succeeded', 'returned'])
  expect(await read(body.id)).toMatchObject([200, { status: 'returned' }])
  expect((await post(payment({ method: 'sandbox:return' }))).status).toBe(422)
})

test('all payments can be read in the order of their ids, page by page', async () => {
  const body = [payment(), payment(), payment()]
  for (const each of body) await post(each)
  const headers = { 'provider-signature': signBody(secret, '', unixSeconds()) }
  const page = async (after: string) =>
    (
      (await (await provider.app.request(`/payments?limit=2&after=${after}`, { headers })).json()) as {
        items: Callback[]
      }
    ).items.map(({ id }) => id)
  const first = await page('')
  expect([...first, ...(await page(first[1]!))]).toEqual(body.map(({ id }) => id).sort())
})

test('a callback that is not taken comes again, unchanged, until it is', async () => {
  answerWith = 503
  const body = payment()
  await post(body)
  await untilCalledBack(body.id)
  answerWith = 204
  await untilCalledBack(body.id, 2)
  expect(received[1]).toEqual(received[0])
})

test('what is owed survives a kill: a delayed outcome, an untaken callback, a line cut short', async () => {
  provider.stop()
  start(60_000)
  answerWith = 503
  const delayed = payment({ method: 'sandbox:delay' })
  const untaken = payment()
  await post(delayed)
  await post(untaken)
  await untilCalledBack(untaken.id)
  expect(callbacksOf(delayed.id)).toEqual([])
  provider.stop()
  appendFileSync(stateFile, '{"id":"cut sho')

  answerWith = 204
  start(0)
  await untilCalledBack(untaken.id, 2)
  await untilCalledBack(delayed.id)
  expect(await read(delayed.id)).toMatchObject([200, { status: 'succeeded' }])
  provider.stop()
  start(0) // reads what it wrote after the cut line
  expect(await read(delayed.id)).toMatchObject([200, { status: 'succeeded' }])
})
