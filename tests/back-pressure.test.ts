// Overload, or a stalled component: requests are refused early, memory stays flat, accepted requests are completed, and
// the system recovers by itself.
import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  balanceOf,
  control,
  makePerson,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

const CLIENTS = 150
const REFUSED_PAUSE_MS = 100
/** The memory growth allowed in a second flood: uncollected garbage, but no retained requests. */
const MAX_GROWTH_BYTES = 96 * 1024 * 1024

type Sent = { key: string; beganMs: number; tookMs: number; answer: Answer }

let alice: Person
let from: Wallet
let bob: Person
let to: Wallet
const started: string[] = []

beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  from = await openWallet(alice, 'USD', '10000')
  bob = await makePerson('Bob Brown')
  to = await openWallet(bob, 'USD')
})
afterAll(async () => {
  await control('kafka', 'SIGCONT')
  await control('ledger', 'SIGCONT')
  for (const name of started) await control(name, 'stop')
})

/** The ops URL of each gateway, by the gateway's URL. */
const opsUrls = new Map<string, string>()

/** Starts a further gateway, with limits that a test can reach. */
const startGateway = async (settings: Record<string, string> = {}): Promise<string> => {
  const response = await fetch(`${inject('system').controlUrl}/gateway/start`, {
    method: 'POST',
    body: JSON.stringify(settings),
  })
  expect(response.ok).toBe(true)
  const { name, url, opsUrl } = (await response.json()) as { name: string; url: string; opsUrl: string }
  opsUrls.set(url, opsUrl)
  started.push(name)
  return url
}

const metric = async (gatewayUrl: string, name: string): Promise<number> => {
  const text = await (await fetch(`${opsUrls.get(gatewayUrl)}/metrics`)).text()
  return text
    .split('\n')
    .filter(line => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
}
const memoryOf = (gatewayUrl: string) => metric(gatewayUrl, 'process_resident_memory_bytes')

const sendBy = async (gatewayUrl: string, prefer: string, key: string = randomUUID()): Promise<Sent> => {
  const began = performance.now()
  const answer = await ask('POST', '/v1/transfers', {
    gatewayUrl,
    token: alice.token,
    body: { toWalletId: to.id, amount: '0.01', currency: 'USD' },
    headers: { 'idempotency-key': key, 'step-up-token': alice.stepUp, prefer },
  })
  return { key, beganMs: began, tookMs: performance.now() - began, answer }
}

/** CLIENTS clients, each sending one request after the other, for `ms` milliseconds. */
const flood = async (gatewayUrl: string, prefer: string, ms: number): Promise<Sent[]> => {
  const began = performance.now()
  const sent: Sent[] = []
  const client = async () => {
    while (performance.now() - began < ms) {
      const one = await sendBy(gatewayUrl, prefer)
      sent.push({ ...one, beganMs: one.beganMs - began })
      // Paces the load: refusals are immediate, and these clients share the gateway's processor.
      if (one.answer.status === 503) await pause(REFUSED_PAUSE_MS)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, client))
  return sent
}

/** Refused with nothing stored. A 503 with an unknown outcome has a `location`: its transfer may still be applied. */
const isEarly = ({ answer }: Sent) => answer.status === 503 && answer.headers.get('location') === null

const expectEarly = async (gatewayUrl: string, refused: Sent[]) => {
  for (const { answer } of refused) {
    expect(answer.body).toMatchObject({ code: 'SERVICE_UNAVAILABLE', retryable: true, final: false })
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
  }
  for (const { key } of refused.slice(0, 3)) {
    const found = await ask('GET', `/v1/transfers/by-idempotency-key/${key}`, {
      gatewayUrl,
      token: alice.token,
    })
    expect([found.status, found.body.code]).toEqual([404, 'TRANSFER_NOT_FOUND'])
  }
}

const worksAgain = (gatewayUrl: string, key: string) =>
  vi.waitFor(async () => expect((await sendBy(gatewayUrl, 'wait=5', key)).answer.status).toBe(201), {
    timeout: 90_000,
    interval: 300,
  })

/** Every request that was not refused early completes once, and the balance matches. */
const expectAllKept = async (gatewayUrl: string, sent: Sent[], receivedBefore: number) => {
  let completed = 0
  for (const { key, answer } of sent.filter(one => !isEarly(one))) {
    const id: string = answer.body.id ?? answer.body.transferId
    const status = await vi.waitFor(
      async () => {
        const { status, body } = await ask('GET', `/v1/transfers/${id}`, { gatewayUrl, token: alice.token })
        // A request in doubt may be found never to have arrived, a minute past its expiry; a repeat applies it.
        if (status !== 200 || body.status === 'pending') await sendBy(gatewayUrl, 'wait=2', key)
        expect(body.status).toBe('completed')
        return body.status
      },
      { timeout: 60_000, interval: 200 },
    )
    if (status === 'completed') completed++
    if (answer.status === 201) expect(status).toBe('completed')
  }
  expect(Math.round(100 * (Number(await balanceOf(bob, to)) - receivedBefore))).toBe(completed)
}

test('Kafka stands still under a flood: answers within the wait, refusals within moments, then all recovers', async () => {
  const gatewayUrl = await startGateway({ REFUSE_AT_PUBLISH_SECONDS: '1' })
  await flood(gatewayUrl, 'wait=5', 2_000) // warm
  const before = Number(await balanceOf(bob, to))

  await control('kafka', 'SIGSTOP')
  const sent = await flood(gatewayUrl, 'wait=2', 8_000)
  // The first flood allocates buffers and compiles code; growth in the second flood would be a leak.
  const memory = await memoryOf(gatewayUrl)
  const still = await flood(gatewayUrl, 'wait=2', 6_000)
  const grown = (await memoryOf(gatewayUrl)) - memory
  const waiting = await metric(gatewayUrl, 'pennywire_gateway_publisher_waiting_records')
  const refused = sent.filter(isEarly)
  const notLate = (await sendBy(gatewayUrl, 'respond-async')).tookMs
  // Other requests are still served.
  expect((await ask('GET', `/v1/wallets/${from.id}`, { gatewayUrl, token: alice.token })).status).toBe(200)
  await control('kafka', 'SIGCONT')

  expect(Math.max(...sent.map(({ tookMs }) => tookMs))).toBeLessThan(2_000 + 1_500)
  expect(notLate).toBeLessThan(1_000)
  // Once Kafka has stalled for a second, all requests are refused without waiting.
  const later = sent.filter(({ beganMs }) => beganMs > 4_000)
  expect(later.length).toBeGreaterThan(CLIENTS)
  expect([...later, ...still].every(isEarly)).toBe(true)
  expect(later.map(({ tookMs }) => tookMs).sort((a, b) => a - b)[Math.floor(later.length / 2)]!).toBeLessThan(
    500,
  )
  expect(waiting).toBeLessThan(4 * CLIENTS)
  expect(grown).toBeLessThan(MAX_GROWTH_BYTES)
  expect(await metric(gatewayUrl, 'pennywire_gateway_refused_early_total')).toBeGreaterThanOrEqual(
    refused.length,
  )
  await expectEarly(gatewayUrl, refused)

  await worksAgain(gatewayUrl, refused[0]!.key)
  await expectAllKept(gatewayUrl, sent, before + 0.01)
}, 180_000)

test('the ledger is away: only so many wait undecided, the rest is refused with nothing stored, deposits too', async () => {
  const bound = 60
  const gatewayUrl = await startGateway({ REFUSE_AT_UNDECIDED: String(bound) })
  const before = Number(await balanceOf(bob, to))
  await control('ledger', 'SIGKILL')
  const sent = await flood(gatewayUrl, 'respond-async', 4_000)
  const accepted = sent.filter(({ answer }) => answer.status === 202)
  const refused = sent.filter(isEarly)
  expect(accepted.length + refused.length).toBe(sent.length)
  // Requests between admission and publishing when the bound was reached are accepted in addition.
  expect(accepted.length).toBeGreaterThanOrEqual(bound)
  expect(accepted.length).toBeLessThanOrEqual(bound + CLIENTS)
  expect(refused.length).toBeGreaterThan(CLIENTS)
  await expectEarly(gatewayUrl, refused)

  const key = randomUUID()
  const deposit = () =>
    ask('POST', '/v1/deposits', {
      gatewayUrl,
      token: alice.token,
      body: { walletId: from.id, amount: '1', currency: 'USD' },
      headers: { 'idempotency-key': key },
    })
  const refusedDeposit = await deposit()
  expect([refusedDeposit.status, refusedDeposit.body.code]).toEqual([503, 'SERVICE_UNAVAILABLE'])
  const stored = await ask('GET', `/v1/transfers/by-idempotency-key/${key}`, {
    gatewayUrl,
    token: alice.token,
  })
  expect(stored.status).toBe(404)
  // Repeats of decided requests are still answered.
  await control('ledger', 'restart')
  await worksAgain(gatewayUrl, refused[0]!.key)
  await vi.waitFor(async () => expect((await deposit()).status).toBe(201), { timeout: 30_000 })
  await expectAllKept(gatewayUrl, sent, before + 0.01)
  expect(await metric(gatewayUrl, 'pennywire_gateway_undecided_requests')).toBe(0)
}, 180_000)

test('too many wait for their outcome: one more is refused, those who wait get theirs', async () => {
  const gatewayUrl = await startGateway({ REFUSE_AT_WAITING_REQUESTS: '20' })
  await control('ledger', 'SIGSTOP')
  // Requests that arrive together pass admission before the first of them waits: the number admitted varies.
  const waiting = Array.from({ length: 60 }, () => sendBy(gatewayUrl, 'wait=30'))
  await vi.waitFor(
    async () =>
      expect(await metric(gatewayUrl, 'pennywire_gateway_waiting_requests')).toBeGreaterThanOrEqual(20),
    { timeout: 25_000 },
  )
  const late = await sendBy(gatewayUrl, 'wait=30')
  await control('ledger', 'SIGCONT')
  expect([isEarly(late), late.tookMs < 5_000]).toEqual([true, true])
  const answers = await Promise.all(waiting)
  expect(answers.filter(({ answer }) => answer.status === 201).length).toBeGreaterThanOrEqual(20)
  expect(answers.every(one => one.answer.status === 201 || isEarly(one))).toBe(true)
  expect((await send(alice, to, '0.01')).status).toBe(201)
}, 90_000)
