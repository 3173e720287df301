// The metrics for operators: every service reports its lag, in normal operation and while a component is unavailable.
import { randomUUID } from 'node:crypto'
import { beforeAll, expect, inject, test, vi } from 'vitest'
import { control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { gateway, ledger, notifier, audit } = inject('system').opsUrls
const soon = { timeout: 30_000, interval: 200 }

let alice: Person
let to: Wallet

beforeAll(async () => {
  alice = await makePerson('Alice Smith')
  await openWallet(alice, 'USD', '100')
  to = await openWallet(await makePerson('Bob Brown'), 'USD')
})

/** A metric's values by its labels. */
const metric = async (url: string, name: string): Promise<Map<string, number>> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  const lines = text
    .split('\n')
    .filter(line => line.startsWith(`pennywire_${name}{`) || line.startsWith(`pennywire_${name} `))
  return new Map(
    lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  )
}
const sumOf = async (url: string, name: string) =>
  [...(await metric(url, name)).values()].reduce((a, b) => a + b, 0)

test('every consumer shows the lag of each partition, and catches up', async () => {
  expect((await send(alice, to, '1.00')).status).toBe(201)
  for (const [url, partitions] of [
    [gateway, 12],
    [ledger, 12],
    [notifier, 18],
    [audit, 32],
  ] as const) {
    await vi.waitFor(async () => {
      const lag = await metric(url, 'consumer_lag_records')
      expect(lag.size).toBe(partitions)
      expect([...lag.values()].every(records => records === 0)).toBe(true)
    }, soon)
    expect((await metric(url, 'consumer_halted_partitions')).size).toBe(0)
  }
})

test('decisions are counted by what became of them, repeats as well', async () => {
  const before = await metric(ledger, 'ledger_decisions_total')
  expect((await send(alice, to, '500.00')).status).toBe(402)
  const key = randomUUID()
  expect((await send(alice, to, '1.00', key)).status).toBe(201)
  const after = await metric(ledger, 'ledger_decisions_total')
  for (const outcome of ['completed', 'rejected']) {
    const name = `pennywire_ledger_decisions_total{outcome="${outcome}"}`
    expect((after.get(name) ?? 0) - (before.get(name) ?? 0)).toBe(1)
  }
})

test('both outboxes drain, and the books hold', async () => {
  await vi.waitFor(async () => {
    expect(await sumOf(ledger, 'ledger_unpublished_events')).toBe(0)
    expect(await sumOf(ledger, 'ledger_oldest_unpublished_seconds')).toBe(0)
    expect(await sumOf(gateway, 'gateway_outbox_records')).toBe(0)
    expect(await sumOf(gateway, 'gateway_outbox_oldest_seconds')).toBe(0)
  }, soon)
  await vi.waitFor(
    async () => expect(await sumOf(ledger, 'ledger_books_checked_events_total')).toBeGreaterThan(0),
    soon,
  )
  const broken = await metric(ledger, 'ledger_books_broken')
  expect([...broken.keys()].map(name => /promise="(..)"/.exec(name)![1])).toEqual([
    'M1',
    'M2',
    'M3',
    'O1',
    'X1',
  ])
  expect([...broken.values()]).toEqual([0, 0, 0, 0, 0])
  expect(await sumOf(notifier, 'notifier_sequence_holes')).toBe(0)
})

test('with Postgres away the metrics still answer within moments; what they cannot know is NaN', async () => {
  await control('postgres', 'SIGKILL')
  try {
    const began = performance.now()
    expect(await sumOf(ledger, 'ledger_oldest_unpublished_seconds')).toBeNaN()
    expect((await metric(ledger, 'consumer_lag_records')).size).toBe(12)
    expect(performance.now() - began).toBeLessThan(4_000)
  } finally {
    await control('postgres', 'restart')
  }
  await vi.waitFor(async () => expect((await send(alice, to, '1.00')).status).toBe(201), soon)
})
