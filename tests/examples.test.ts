// The examples of the documents, run as a reader would run them. The documents hold them word for word.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { findFreePort } from '@pennywire/stack/ports.ts'
import { afterEach, beforeEach, expect, inject, test, vi } from 'vitest'
import { makePerson, openWallet, type Person, send, type Wallet } from './client.ts'
import { startCuttingProxy } from './cutting-proxy.ts'

const root = join(import.meta.dirname, '..')
const soon = { timeout: 20_000, interval: 50 }

let alice: Person
let bob: Person
let to: Wallet
const started: ChildProcess[] = []

beforeEach(async () => {
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  await openWallet(alice, 'USD', '50')
  to = await openWallet(bob, 'USD')
  // What an account causes comes before what the examples print.
  await vi.waitFor(async () => {
    for (const [person, type] of [
      [alice, 'deposit_completed'],
      [bob, 'pin_set'],
    ] as const) {
      const { items } = (await person.ask('GET', '/v1/notifications')).body
      expect(items.map((item: { type: string }) => item.type)).toContain(type)
    }
  }, soon)
})
afterEach(async () => {
  for (const child of started.splice(0)) {
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }
})

/** Runs an example; its lines so far. */
const run = (path: string, env: Record<string, string>): string[] => {
  const child = spawn(process.execPath, [join(root, path)], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  started.push(child)
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', line => lines.push(line))
  return lines
}

test.each([
  ['docs/webhooks.md', 'examples/webhooks/receive.mjs'],
  ['docs/notifications.md', 'examples/notifications/follow.mjs'],
])('%s holds %s', (document, example) => {
  const code = readFileSync(join(root, example), 'utf8')
  expect(readFileSync(join(root, document), 'utf8')).toContain(`\`\`\`js\n${code}\`\`\``)
})

test('receive.mjs takes a webhook once, however often it comes, and refuses a forged one', async () => {
  const port = await findFreePort()
  const url = `http://127.0.0.1:${port}/`
  // Bob's new wallet is an event as well, which may still be on its way.
  const asked = { url, password: bob.password, eventTypes: ['transfer.completed'] }
  const { body: hook } = await bob.ask('POST', '/v1/webhooks', asked)
  const lines = run('examples/webhooks/receive.mjs', { WEBHOOK_SECRET: hook.secret, PORT: String(port) })
  await vi.waitFor(() => expect(lines).toEqual([`listening ${port}`]), soon)

  const { body: transfer } = await send(alice, to, '1.25')
  await vi.waitFor(() => expect(lines.length).toBe(2), soon)
  const [, type, data] = /^\S+ (\S+) (.*)$/.exec(lines[1]!)!
  expect([type, JSON.parse(data!)]).toMatchObject([
    'transfer.completed',
    { transferId: transfer.id, amount: '1.25' },
  ])

  const deliveries = async () =>
    (await bob.ask('GET', `/v1/webhooks/${hook.id}/deliveries`)).body.items as Array<{
      id: string
      attempts: number
      state: string
    }>
  await vi.waitFor(async () => expect(await deliveries()).toMatchObject([{ state: 'sent' }]), soon)
  const [delivery] = await deliveries()
  const again = await bob.ask('POST', `/v1/webhooks/${hook.id}/deliveries/${delivery!.id}/redrive`)
  expect(again.status).toBe(202)
  await vi.waitFor(
    async () => expect(await deliveries()).toMatchObject([{ state: 'sent', attempts: 2 }]),
    soon,
  )
  const forged = await fetch(url, { method: 'POST', headers: { 'webhook-id': 'forged' }, body: '{}' })
  expect([forged.status, lines.length]).toEqual([401, 2])
})

test('follow.mjs prints each notification once and in order, also over a cut', async () => {
  const proxy = await startCuttingProxy(Number(new URL(inject('system').gatewayUrl).port))
  const lines = run('examples/notifications/follow.mjs', { GATEWAY_URL: proxy.url, TOKEN: bob.token })
  const numbers = () => lines.map(line => Number(/^\d+/.exec(line)))
  const pay = async () => expect((await send(alice, to, '1')).status).toBe(201)
  try {
    // What comes before the stream is open is in the list alone.
    await vi.waitFor(async () => {
      await pay()
      expect(lines.length).toBeGreaterThan(0)
    }, soon)
    for (let time = 0; time < 5; time++) {
      proxy.cut()
      await pay()
    }
    const transfers = (await alice.ask('GET', '/v1/transfers?type=transfer&limit=100')).body.items.length
    await vi.waitFor(async () => {
      const { items } = (await bob.ask('GET', '/v1/notifications?limit=100')).body
      const received = items.filter(({ type }: { type: string }) => type === 'transfer_received')
      expect([received.length, numbers().at(-1)]).toEqual([transfers, items.length])
    }, soon)
    const [first] = numbers()
    expect(numbers()).toEqual(Array.from(lines, (_, at) => first! + at))
    expect(lines.at(-1)).toMatch(/^\d+ Money received$/)
  } finally {
    proxy.stop()
  }
})
