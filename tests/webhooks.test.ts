// Webhooks through the whole system: signed, in order, once under one id, and one endpoint never in another's way.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  type Staff,
  send,
  type Wallet,
} from './client.ts'
import { type Received, type Receiver, startReceiver } from './webhook-receiver.ts'

const soon = { timeout: 20_000, interval: 50 }

let admin: Staff
let sql: Database
let alice: Person
let bob: Person
let wallets: [Wallet, Wallet]
const receivers: Receiver[] = []

beforeAll(async () => {
  admin = await makeStaff('admin')
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
})
afterAll(() => sql.end())
beforeEach(async () => {
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  wallets = await Promise.all([openWallet(alice, 'USD', '500'), openWallet(bob, 'USD')])
})
afterEach(async () => {
  await sql`delete from notifier.webhook_endpoints`
  for (const receiver of receivers.splice(0)) await receiver.close()
})

const receive = async (): Promise<Receiver> => {
  const receiver = await startReceiver()
  receivers.push(receiver)
  return receiver
}
type Hook = { id: string; secret: string }
const add = async (person: Person, url: string, more: object = {}, base = '/v1/webhooks'): Promise<Hook> => {
  const proof = base === '/v1/webhooks' ? { password: person.password } : {}
  const { status, body, headers } = await person.ask('POST', base, { url, ...more, ...proof })
  expect([status, headers.get('location')]).toEqual([201, `${base}/${body.id}`])
  expect(body.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  return body
}
const pay = async (amount: string): Promise<string> => {
  const { status, body } = await send(alice, wallets[1], amount)
  expect(status).toBe(201)
  return body.id
}
const verify = (secret: string, { body, headers }: Pick<Received, 'body' | 'headers'>) =>
  new Webhook(secret).verify(body, headers as Record<string, string>)
const idsOf = (receiver: Receiver) => receiver.received.map(({ event }) => event.data.transferId)
const came = (receiver: Receiver, count: number, timeout = soon) =>
  vi.waitFor(() => expect(receiver.received.length).toBeGreaterThanOrEqual(count), timeout)
const deliveriesOf = async (person: Person, { id }: Hook, query = ''): Promise<Answer['body']['items']> =>
  (await person.ask('GET', `/v1/webhooks/${id}/deliveries${query}`)).body.items
/** A failing endpoint is tried again at once, instead of after its pause. */
const hurry = ({ id }: Hook) =>
  sql`update notifier.webhook_endpoints set next_attempt_at = now() where id = ${id}`

describe('what is sent', () => {
  test('each side gets its own entries, the operator all, signed for the public library', async () => {
    const [ofAlice, ofBob, ofAll] = [await receive(), await receive(), await receive()]
    const hooks = [
      await add(alice, ofAlice.url),
      await add(bob, ofBob.url),
      await add(admin, ofAll.url, { eventTypes: ['transfer.completed'] }, '/v1/admin/webhooks'),
    ] as const
    const id = await pay('12.5')
    const all = () => ofAll.received.filter(({ event }) => event.data.transferId === id)
    await vi.waitFor(() => {
      expect([ofAlice, ofBob].map(({ received }) => received.length)).toEqual([1, 1])
      expect(all()).toHaveLength(1)
    }, soon)
    for (const [hook, one] of [
      [hooks[0], ofAlice.received[0]!],
      [hooks[1], ofBob.received[0]!],
      [hooks[2], all()[0]!],
    ] as const)
      expect(verify(hook.secret, one)).toMatchObject({ type: 'transfer.completed', data: { transferId: id } })
    expect(ofAlice.received[0]!.event).toEqual({
      type: 'transfer.completed',
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      data: expect.objectContaining({
        ...{ transferType: 'transfer', amount: '12.50', currency: 'USD', toWalletId: wallets[1].id },
        entries: [
          { walletId: wallets[0].id, amount: '-12.50', currency: 'USD', balanceAfter: '487.50', sequence: 2 },
        ],
      }),
    })
    expect(ofBob.received[0]!.event.data.entries).toMatchObject([{ amount: '12.50', balanceAfter: '12.50' }])
    expect(all()[0]!.event.data.entries).toHaveLength(2)
    // Nobody's name, and no text of a person.
    expect(JSON.stringify([ofAlice.received, ofBob.received, all()])).not.toMatch(/Smith|Brown|example\.com/)
  })

  test('a forged, a changed and an old delivery are refused by the library', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    await pay('1')
    await came(receiver, 1)
    const { body, headers } = receiver.received[0]!
    expect(() => verify(hook.secret, { body: body.replace('1.00', '9.00'), headers })).toThrow('signature')
    expect(() => verify(`whsec_${Buffer.alloc(32).toString('base64')}`, { body, headers })).toThrow(
      'signature',
    )
    const old = { ...headers, 'webhook-timestamp': String(Math.floor(Date.now() / 1_000) - 600) }
    expect(() => verify(hook.secret, { body, headers: old })).toThrow('too old')
  })

  test('after a rotation both secrets sign until the overlap ends, then the new one alone', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    const { password } = bob
    const rotated = await bob.ask('POST', `/v1/webhooks/${hook.id}/rotate-secret`, { password })
    expect(rotated.status).toBe(200)
    await pay('1')
    await came(receiver, 1)
    for (const secret of [hook.secret, rotated.body.secret]) verify(secret, receiver.received[0]!)
    const once = await bob.ask('POST', `/v1/webhooks/${hook.id}/rotate-secret`, {
      ...{ overlapSeconds: 0, password },
    })
    await pay('2')
    await came(receiver, 2)
    verify(once.body.secret, receiver.received[1]!)
    for (const secret of [hook.secret, rotated.body.secret])
      expect(() => verify(secret, receiver.received[1]!)).toThrow('signature')
  })

  test('only the chosen events, and none while they are not chosen', async () => {
    const receiver = await receive()
    await add(bob, receiver.url, { eventTypes: ['transfer.rejected', 'wallet.frozen'] })
    await pay('1')
    expect((await send(bob, wallets[0], '99')).status).toBe(402)
    await bob.ask('POST', `/v1/wallets/${wallets[1].id}/freeze`, {})
    await came(receiver, 2)
    expect(receiver.received.map(({ event }) => event.type)).toEqual(['transfer.rejected', 'wallet.frozen'])
    expect(receiver.received[0]!.event.data).toMatchObject({ code: 'INSUFFICIENT_BALANCE', amount: '99.00' })
  })

  test('a test event', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    const { status, body } = await bob.ask('POST', `/v1/webhooks/${hook.id}/test`)
    expect([status, body.eventType]).toEqual([202, 'webhook.test'])
    await came(receiver, 1)
    expect(verify(hook.secret, receiver.received[0]!)).toMatchObject({ type: 'webhook.test' })
    expect(receiver.received[0]!.headers['webhook-id']).toBe(body.id)
  })

  test('a receiver in Python verifies it, and refuses a forged one', async context => {
    const run = promisify(execFile)
    const python = await run('python3', ['--version']).then(
      () => true,
      () => false,
    )
    if (!python) return context.skip('there is no python3 here')
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    await pay('1')
    await came(receiver, 1)
    const { body, headers } = receiver.received[0]!
    const script = join(import.meta.dirname, '..', 'examples', 'webhooks', 'verify_webhook.py')
    const check = (text: string) =>
      run('python3', [
        script,
        ...[
          hook.secret,
          headers['webhook-id'],
          headers['webhook-timestamp'],
          headers['webhook-signature'],
        ].map(String),
        text,
      ])
    expect((await check(body)).stdout).toBe('transfer.completed\n')
    await expect(check(`${body} `)).rejects.toMatchObject({ code: 1 })
  })
})

describe('a receiver that fails', () => {
  test('gets its events in order once it is well, each under one id', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    receiver.answer(response => response.writeHead(503).end('later'))
    const ids = [await pay('1'), await pay('2'), await pay('3')]
    await came(receiver, 1)
    await hurry(hook)
    await came(receiver, 2)
    // Those behind wait for the first.
    expect(new Set(idsOf(receiver))).toEqual(new Set([ids[0]]))
    expect(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
    receiver.received.length = 0
    receiver.answer(response => response.writeHead(200).end('ok'))
    await vi.waitFor(async () => {
      await hurry(hook)
      expect(idsOf(receiver)).toEqual(ids)
    }, soon)
    await vi.waitFor(async () => {
      const log = await deliveriesOf(bob, hook)
      expect(log.map(({ state }: { state: string }) => state)).toEqual(['sent', 'sent', 'sent'])
      expect(
        log[2].tries.map(({ error, answer }: { error: string; answer: string }) => [error, answer]),
      ).toEqual([...Array(log[2].attempts - 1).fill(['HTTP 503', 'later']), [null, 'ok']])
    }, soon)
  })

  test('because of one event holds up no other event', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    receiver.answer((response, { event }) =>
      response.writeHead(event.data.amount === '2.00' ? 422 : 204).end(),
    )
    const ids = [await pay('1'), await pay('2'), await pay('3')]
    await came(receiver, 3)
    expect(idsOf(receiver)).toEqual(ids)
    const [due] = await deliveriesOf(bob, hook, '?state=due')
    expect(due).toMatchObject({ attempts: 1, tries: [{ status: 422 }] })
    receiver.answer(response => response.writeHead(204).end())
    await sql`update notifier.deliveries set next_attempt_at = now() where endpoint_id = ${hook.id}`
    await vi.waitFor(() => expect(idsOf(receiver)).toEqual([...ids, ids[1]]), soon)
  })

  test('and is gone is disabled at once; its owner is told, and sends the rest again', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    receiver.answer(response => response.writeHead(410).end())
    const from = new Date(Date.now() - 60_000).toISOString()
    await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { active: false })
    const ids = [await pay('1'), await pay('2')]
    await vi.waitFor(async () => expect(await deliveriesOf(bob, hook, '?state=due')).toHaveLength(2), soon)
    await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { active: true })
    await vi.waitFor(async () => {
      const { body } = await bob.ask('GET', '/v1/notifications')
      expect(body.items.map(({ type }: { type: string }) => type)).toContain('webhook_disabled')
    }, soon)
    expect((await bob.ask('GET', `/v1/webhooks/${hook.id}`)).body.state).toBe('disabled')
    await vi.waitFor(async () => expect(await deliveriesOf(bob, hook, '?state=failed')).toHaveLength(2), soon)
    // What happens now is not stored.
    await pay('3')
    await vi.waitFor(async () => {
      const { items } = (await bob.ask('GET', '/v1/notifications')).body
      const received = items.filter(({ type }: { type: string }) => type === 'transfer_received')
      expect(received).toHaveLength(3)
    }, soon)
    receiver.answer(response => response.writeHead(204).end())
    receiver.received.length = 0
    expect((await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { active: true })).body.state).toBe('active')
    const redriven = await bob.ask('POST', `/v1/webhooks/${hook.id}/redrive`, {
      ...{ from, to: new Date(Date.now() + 60_000).toISOString() },
    })
    expect([redriven.status, redriven.body]).toEqual([202, { redriven: 2 }])
    await came(receiver, 2)
    expect(idsOf(receiver)).toEqual(ids)
  })

  test('one delivery is sent again on request, under its id', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    await pay('1')
    await came(receiver, 1)
    const [sent] = await vi.waitFor(async () => {
      const log = await deliveriesOf(bob, hook, '?state=sent')
      expect(log).toHaveLength(1)
      return log
    }, soon)
    const again = await bob.ask('POST', `/v1/webhooks/${hook.id}/deliveries/${sent.id}/redrive`)
    expect(again.status).toBe(202)
    await came(receiver, 2)
    expect(receiver.received[1]!.body).toBe(receiver.received[0]!.body)
    expect(receiver.received[1]!.headers['webhook-id']).toBe(sent.id)
  })

  test('and was changed meanwhile: what the old address answers is not held against the new one', async () => {
    const [old, next] = [await receive(), await receive()]
    const hook = await add(bob, old.url)
    const answers: Array<() => void> = []
    old.answer(response => answers.push(() => response.writeHead(410).end()))
    const id = await pay('1')
    await came(old, 1)
    const { password } = bob
    const change = { url: next.url, password }
    expect((await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, change)).status).toBe(200)
    for (const answer of answers) answer()
    await came(next, 1)
    expect(idsOf(next)).toEqual([id])
    expect((await bob.ask('GET', `/v1/webhooks/${hook.id}`)).body.state).toBe('active')
  })

  test('paused, its events wait', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { active: false })
    const id = await pay('1')
    await vi.waitFor(async () => expect(await deliveriesOf(bob, hook, '?state=due')).toHaveLength(1), soon)
    expect(receiver.received).toEqual([])
    await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { active: true })
    await came(receiver, 1)
    expect(idsOf(receiver)).toEqual([id])
  })
})

test('a dead, a silent, a redirecting and an endless receiver slow no other', async () => {
  const good = await receive()
  const redirecting = await receive()
  const endless = await receive()
  redirecting.answer(response => response.writeHead(307, { location: good.url }).end())
  endless.answer(response => {
    response.writeHead(200)
    const write = () => {
      if (!response.writableEnded && !response.destroyed)
        response.write('x'.repeat(65_536), () => setImmediate(write))
    }
    write()
  })
  // Takes connections and never says a word.
  const silent = createServer(() => {})
  await new Promise<void>(resolve => silent.listen(0, '127.0.0.1', resolve))
  const silentPort = (silent.address() as { port: number }).port
  // Ends each request without an answer and without an error.
  const switching = createServer(socket => {
    socket.on('error', () => {})
    socket.on('data', () =>
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'),
    )
  })
  await new Promise<void>(resolve => switching.listen(0, '127.0.0.1', resolve))
  const switchingPort = (switching.address() as { port: number }).port
  try {
    const hooks = {
      dead: await add(bob, 'http://127.0.0.1:9/hook'),
      silent: await add(bob, `http://127.0.0.1:${silentPort}/hook`),
      switching: await add(bob, `http://127.0.0.1:${switchingPort}/hook`),
      redirecting: await add(bob, redirecting.url),
      endless: await add(bob, endless.url),
    }
    await add(bob, good.url)
    const ids: string[] = []
    for (let n = 1; n <= 8; n++) {
      ids.push(await pay('1'))
      // Each comes while the others are being tried.
      await came(good, n, { timeout: 8_000, interval: 20 })
    }
    expect(idsOf(good)).toEqual(ids)
    await vi.waitFor(async () => {
      const errorOf = async (hook: Hook) => (await deliveriesOf(bob, hook)).at(-1).tries.at(-1)?.error
      expect(await errorOf(hooks.dead)).toBe('ECONNREFUSED')
      expect(await errorOf(hooks.silent)).toBe('TIMEOUT')
      expect(await errorOf(hooks.redirecting)).toBe('HTTP 307')
      expect(await errorOf(hooks.switching)).toBe('NO_ANSWER')
    }, soon)
    // What answers without end has answered: its log keeps a kilobyte.
    const [sent] = await deliveriesOf(bob, hooks.endless, '?state=sent')
    expect(sent.tries[0].answer).toBe('x'.repeat(1_024))
  } finally {
    silent.close()
    switching.close()
  }
}, 60_000)

test('however often the notifier is killed, each event comes, in order, under one id', async () => {
  const receiver = await receive()
  await add(bob, receiver.url)
  const ids: string[] = []
  for (let n = 1; n <= 6; n++) {
    ids.push(await pay(`${n}`))
    if (n % 2 === 1) continue
    await control('notifier', 'SIGKILL')
    await control('notifier', 'restart')
  }
  await vi.waitFor(() => expect(new Set(idsOf(receiver))).toEqual(new Set(ids)), {
    timeout: 90_000,
    interval: 100,
  })
  // A repeat aside, in the order of the payments; and a repeat has the id of the first.
  expect([...new Set(idsOf(receiver))]).toEqual(ids)
  const keys = receiver.received.map(
    ({ headers, event }) => `${headers['webhook-id']} ${event.data.transferId}`,
  )
  expect(new Set(keys).size).toBe(ids.length)
}, 120_000)

describe('endpoints', () => {
  test('are changed, listed and deleted by their owner alone', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url, { description: 'books', eventTypes: ['hold.placed'] })
    const { body: shown } = await bob.ask('GET', `/v1/webhooks/${hook.id}`)
    expect(shown).toMatchObject({ url: receiver.url, description: 'books', state: 'active' })
    expect(shown.secret).toBeUndefined()
    expect((await bob.ask('GET', '/v1/webhooks')).body.items).toEqual([shown])
    const changed = await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { description: null, eventTypes: [] })
    expect(changed.body).toMatchObject({ description: null, eventTypes: [], url: receiver.url })
    for (const [method, path, body] of [
      ['GET', ''],
      ['PATCH', '', {}],
      ['POST', '/rotate-secret', { password: alice.password }],
      ['POST', '/test'],
      ['GET', '/deliveries'],
      ['POST', '/redrive', { from: new Date(0).toISOString(), to: new Date().toISOString() }],
      ['DELETE', ''],
    ] as const) {
      const answer = await alice.ask(method, `/v1/webhooks/${hook.id}${path}`, body)
      expect([answer.status, answer.body.code], `${method} ${path}`).toEqual([404, 'WEBHOOK_NOT_FOUND'])
    }
    expect((await admin.ask('GET', `/v1/admin/webhooks/${hook.id}`)).status).toBe(404)
    expect((await bob.ask('DELETE', `/v1/webhooks/${hook.id}`)).status).toBe(204)
    expect((await bob.ask('GET', '/v1/webhooks')).body.items).toEqual([])
  })

  test('are at most twenty', async () => {
    for (let n = 0; n < 20; n++) await add(bob, `http://127.0.0.1:9/${n}`)
    const { status, body } = await bob.ask('POST', '/v1/webhooks', {
      ...{ url: 'http://127.0.0.1:9/more', password: bob.password },
    })
    expect([status, body.code]).toEqual([409, 'TOO_MANY_WEBHOOKS'])
  })

  test.each([
    [{ url: 'ftp://example.com' }, 'url'],
    [{ url: 'nowhere' }, 'url'],
    [{ url: 'https://user:pass@example.com' }, 'url'],
    [{ url: `https://example.com/${'x'.repeat(2_048)}` }, 'url'],
    [{ url: 'https://example.com', eventTypes: ['money.lost'] }, 'eventTypes.0'],
    [{ url: 'https://example.com', description: ' ' }, 'description'],
    [{ url: 'https://example.com', secret: 'mine' }, 'secret'],
    [{}, 'url'],
  ])('%j is refused by name', async (body, field) => {
    const answer = await bob.ask('POST', '/v1/webhooks', { password: bob.password, ...body })
    expect([answer.status, answer.body.errors?.[0]?.field]).toEqual([422, field])
  })

  test('where they lead to, and their secret, need the password', async () => {
    const hook = await add(bob, 'http://127.0.0.1:9/hook')
    const url = 'http://127.0.0.1:9/other'
    for (const [method, path, body] of [
      ['POST', '/v1/webhooks', { url }],
      ['PATCH', `/v1/webhooks/${hook.id}`, { url }],
      ['POST', `/v1/webhooks/${hook.id}/rotate-secret`, {}],
    ] as const) {
      const without = await bob.ask(method, path, body)
      expect([without.status, without.body.errors?.[0]?.field], path).toEqual([422, 'password'])
      const wrong = await bob.ask(method, path, { ...body, password: 'Wrong-Horse-7' })
      expect([wrong.status, wrong.body.code], path).toEqual([400, 'PASSWORD_MISMATCH'])
    }
    expect((await bob.ask('GET', `/v1/webhooks/${hook.id}`)).body.url).not.toBe(url)
    const { password } = bob
    expect((await bob.ask('PATCH', `/v1/webhooks/${hook.id}`, { url, password })).body.url).toBe(url)
  })

  test('of the operator need an admin with the second factor', async () => {
    const answer = await bob.ask('POST', '/v1/admin/webhooks', { url: 'http://127.0.0.1:9/x' })
    expect([answer.status, answer.body.code]).toEqual([403, 'INSUFFICIENT_PERMISSIONS'])
    const unknown = await admin.ask('GET', `/v1/admin/webhooks/${randomUUID()}/deliveries`)
    expect(unknown.body.code).toBe('WEBHOOK_NOT_FOUND')
  })
})
