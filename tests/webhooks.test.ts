// Webhooks through the whole system: signed, in order, once under one id, and one endpoint never in another's way.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { Webhook } from 'standardwebhooks'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  ask,
  control,
  mailedToken,
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
let codec: Codec
let alice: Person
let bob: Person
let wallets: [Wallet, Wallet]
const receivers: Receiver[] = []

beforeAll(async () => {
  admin = await makeStaff('admin')
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
  codec = await createCodec(connectRegistry(inject('stack').registryUrl))
})
afterAll(() => sql.end())
beforeEach(async () => {
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  wallets = await Promise.all([openWallet(alice, 'USD', '500'), openWallet(bob, 'USD')])
  // An endpoint gets what happened in the minute before it was made, where the notifier reads it only then.
  await vi.waitFor(async () => {
    const { items } = (await alice.ask('GET', '/v1/notifications')).body
    expect(items.map(({ type }: { type: string }) => type)).toContain('deposit_completed')
  }, soon)
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
    const hook = await add(bob, receiver.url, { eventTypes: ['transfer.completed'] })
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

describe('what becomes of endpoints is told', () => {
  const SECRET_PATH = '/T0K3N/in-the-path?key=K3Y'

  /** The events of webhooks in the audit trail, oldest first: those of a user, or of an endpoint of the operator. */
  const eventsOf = async (key: string) => {
    const rows = await sql<Array<{ value: Buffer }>>`
      select value from audit.records
      where topic = 'identity.events' and key = ${Buffer.from(key)} order by record_offset`
    const records = await Promise.all(rows.map(({ value }) => codec.decode(value)))
    return records.flatMap(({ type, value }) =>
      type.startsWith('pennywire.identity.Webhook')
        ? [{ type: type.split('.').at(-1)!, ...(value as object) } as Record<string, unknown>]
        : [],
    )
  }
  const noticesOf = async (person: Person) =>
    (await person.ask('GET', '/v1/notifications')).body.items.filter(({ type }: { type: string }) =>
      type.startsWith('webhook'),
    )
  const subjectsOf = async ({ email }: Person): Promise<string[]> => {
    const { mail } = inject('stack')
    const messages = (await (await fetch(`${mail.httpUrl}/messages`)).json()) as Array<{
      to: unknown
      subject: string
    }>
    return messages.filter(({ to }) => JSON.stringify(to).includes(email)).map(({ subject }) => subject)
  }
  const resetPassword = async (person: Person): Promise<string> => {
    const before = await mailedToken(person.email)
    await ask('POST', '/v1/auth/forgot-password', { body: { email: person.email } })
    const token = await vi.waitFor(async () => {
      const next = await mailedToken(person.email)
      expect(next).not.toBe(before)
      return next
    }, soon)
    const password = 'Battery-Staple-8'
    expect((await ask('POST', '/v1/auth/reset-password', { body: { token, password } })).status).toBe(200)
    return password
  }
  const again = async ({ email }: Person, password: string): Promise<Person['ask']> => {
    const { body } = await ask('POST', '/v1/auth/login', { body: { email, password } })
    return (method, path, sent) => ask(method, path, { token: body.accessToken, body: sent })
  }

  test('to the audit trail and to their owner: by whom and what, and never a path or a secret', async () => {
    const url = `http://127.0.0.1:9${SECRET_PATH}`
    const hook = await add(bob, url)
    const { password } = bob
    const path = `/v1/webhooks/${hook.id}`
    const change = { url: `http://localhost:9${SECRET_PATH}`, eventTypes: ['hold.placed'], password }
    expect((await bob.ask('PATCH', path, change)).status).toBe(200)
    // Nothing changes, nothing is told.
    expect((await bob.ask('PATCH', path, { active: true })).status).toBe(200)
    expect((await bob.ask('POST', `${path}/rotate-secret`, { password })).status).toBe(200)
    expect((await bob.ask('PATCH', path, { active: false })).status).toBe(200)
    expect((await bob.ask('DELETE', path)).status).toBe(204)
    await vi.waitFor(async () => expect(await eventsOf(bob.id)).toHaveLength(5), soon)
    const about = { userId: bob.id, byUserId: bob.id, webhookId: hook.id }
    const events = await eventsOf(bob.id)
    expect(events).toMatchObject([
      { ...about, type: 'WebhookAdded', origin: '', eventTypes: [] },
      { ...about, type: 'WebhookChanged', origin: '', changed: ['url', 'eventTypes'], state: 'active' },
      { ...about, type: 'WebhookChanged', changed: ['secret'], reason: 'asked' },
      { ...about, type: 'WebhookChanged', changed: ['state'], state: 'paused', reason: 'asked' },
      { ...about, type: 'WebhookRemoved', origin: '' },
    ])
    expect(new Set(events.map(({ eventId }) => eventId)).size).toBe(5)
    expect(JSON.stringify(events)).not.toMatch(/T0K3N|K3Y|whsec|in-the-path|localhost|127\.0/)
    await vi.waitFor(async () => expect(await noticesOf(bob)).toHaveLength(5), soon)
    const notices = await noticesOf(bob)
    expect(notices.map(({ type }: { type: string }) => type)).toEqual([
      ...['webhook_removed', 'webhook_changed', 'webhook_changed', 'webhook_changed', 'webhook_added'],
    ])
    expect(notices[2].body).toContain('localhost:9 was changed: its secret')
    expect(JSON.stringify(notices)).not.toMatch(/T0K3N|K3Y/)
    await vi.waitFor(async () => {
      const subjects = await subjectsOf(bob)
      for (const subject of ['New webhook', 'Webhook changed', 'Webhook deleted'])
        expect(subjects).toContain(subject)
    }, soon)
    expect(notices[0].body).toContain('localhost:9')
    expect(notices[4].body).toContain('127.0.0.1:9')
    // Everything is moved on.
    expect(await sql`select id from notifier.changed_urls where owner_id = ${bob.id}`).toEqual([])
    expect(await sql`select id from notifier.webhook_changes where owner_id = ${bob.id}`).toEqual([])
  })

  test('of the operator to the audit trail, with the member of staff', async () => {
    const hook = await add(admin, `http://127.0.0.1:9${SECRET_PATH}`, {}, '/v1/admin/webhooks')
    await admin.ask('DELETE', `/v1/admin/webhooks/${hook.id}`)
    await vi.waitFor(async () => expect(await eventsOf(hook.id)).toHaveLength(2), soon)
    expect(await eventsOf(hook.id)).toMatchObject(
      ['WebhookAdded', 'WebhookRemoved'].map(type => ({
        ...{ type, userId: null, byUserId: admin.id, webhookId: hook.id, origin: 'http://127.0.0.1:9' },
      })),
    )
  })

  test('a new password after a forgotten one pauses them; their owner is told once, and turns them on again', async () => {
    const receiver = await receive()
    const hooks = [await add(bob, receiver.url), await add(bob, `${receiver.url}/2`)]
    const password = await resetPassword(bob)
    const asBob = await again(bob, password)
    await vi.waitFor(async () => {
      const { items } = (await asBob('GET', '/v1/webhooks')).body
      expect(items.map(({ state }: { state: string }) => state)).toEqual(['paused', 'paused'])
    }, soon)
    const id = await pay('1')
    await vi.waitFor(async () => {
      const { items } = (await asBob('GET', '/v1/notifications')).body
      const types = items.map(({ type }: { type: string }) => type)
      expect(types.filter((type: string) => type === 'webhooks_paused')).toHaveLength(1)
      expect(types).toContain('transfer_received')
    }, soon)
    await vi.waitFor(async () => expect(await subjectsOf(bob)).toContain('Webhooks paused'), soon)
    expect(receiver.received).toEqual([])
    await vi.waitFor(async () => {
      const events = (await eventsOf(bob.id)).filter(({ type }) => type === 'WebhookChanged')
      expect(events).toMatchObject(
        hooks.map(() => ({ reason: 'password_reset', state: 'paused', byUserId: null, changed: ['state'] })),
      )
    }, soon)
    // What has waited comes.
    expect((await asBob('PATCH', `/v1/webhooks/${hooks[0]!.id}`, { active: true })).body.state).toBe('active')
    await came(receiver, 1)
    expect(idsOf(receiver)).toEqual([id])
  })

  test('and one that was being added at that moment is not left', async () => {
    const holder = openDatabase(inject('system').databaseUrls.superuser, {
      ...{ applicationName: 'test', maxConnections: 1 },
    })
    const held = Promise.withResolvers<void>()
    const released = Promise.withResolvers<void>()
    // The request has proven the old password, and waits for its turn to add.
    const holding = holder.begin(async tx => {
      await tx`select pg_advisory_xact_lock(hashtextextended(${`webhooks of ${bob.id}`}, 0))`
      held.resolve()
      await released.promise
    })
    try {
      await held.promise
      const url = 'http://127.0.0.1:9/strange'
      const adding = bob.ask('POST', '/v1/webhooks', { url, password: bob.password })
      await vi.waitFor(async () => {
        const waiting = await sql`select from pg_locks where locktype = 'advisory' and not granted`
        expect(waiting).toHaveLength(1)
      }, soon)
      const asBob = await again(bob, await resetPassword(bob))
      released.resolve()
      const { status, body } = await adding
      expect([status, body.code]).toEqual([401, 'TOKEN_REVOKED'])
      expect((await asBob('GET', '/v1/webhooks')).body.items).toEqual([])
    } finally {
      released.resolve()
      await holding
      await holder.end()
    }
  })

  test('a changed password pauses none, a deactivated account all', async () => {
    const receiver = await receive()
    const hook = await add(bob, receiver.url)
    const { password } = bob
    const changed = { currentPassword: password, newPassword: 'Battery-Staple-8' }
    expect((await bob.ask('POST', '/v1/auth/change-password', changed)).status).toBe(200)
    await pay('1')
    await came(receiver, 1)
    const ended = await admin.ask('POST', `/v1/admin/users/${bob.id}/deactivate`, { reason: 'a test' })
    expect(ended.status).toBe(200)
    const stateOf = async () =>
      (await sql`select state from notifier.webhook_endpoints where id = ${hook.id}`)[0]!.state
    await vi.waitFor(async () => expect(await stateOf()).toBe('paused'), soon)
    await vi.waitFor(
      async () => expect((await eventsOf(bob.id)).at(-1)).toMatchObject({ reason: 'account_disabled' }),
      soon,
    )
    await vi.waitFor(async () => expect(await subjectsOf(bob)).toContain('Webhooks paused'), soon)
  })

  test('staff see where a user’s lead, and turn one off with a reason that its owner is told of', async () => {
    const receiver = await receive()
    const hook = await add(bob, `${receiver.url}${SECRET_PATH}`)
    const path = `/v1/admin/users/${bob.id}/webhooks`
    const shown = await admin.ask('GET', path)
    expect(shown.body.items).toMatchObject([
      { id: hook.id, origin: new URL(receiver.url).origin, state: 'active' },
    ])
    expect(JSON.stringify(shown.body)).not.toMatch(/T0K3N|K3Y|secret/)
    expect((await admin.ask('GET', `/v1/admin/users/${randomUUID()}/webhooks`)).body.code).toBe(
      'USER_NOT_FOUND',
    )
    const disable = (id: string, body: object, user = bob.id) =>
      admin.ask('POST', `/v1/admin/users/${user}/webhooks/${id}/disable`, body)
    const reason = 'Leads to a stranger, case 4711'
    expect((await disable(hook.id, {})).body.errors?.[0]?.field).toBe('reason')
    expect((await disable(randomUUID(), { reason })).body.code).toBe('WEBHOOK_NOT_FOUND')
    // Under another user it is not found, and one's own is refused.
    expect((await disable(hook.id, { reason }, alice.id)).body.code).toBe('WEBHOOK_NOT_FOUND')
    expect((await disable(hook.id, { reason }, admin.id)).body.code).toBe('INSUFFICIENT_PERMISSIONS')
    expect((await disable(hook.id, { reason })).body).toMatchObject({ id: hook.id, state: 'disabled' })
    await vi.waitFor(
      async () => expect((await noticesOf(bob))[0]?.type).toBe('webhook_disabled_by_staff'),
      soon,
    )
    const told = await vi.waitFor(async () => {
      const last = (await eventsOf(bob.id)).at(-1)!
      expect(last).toMatchObject({ byUserId: admin.id, reason: 'disabled_by_staff', state: 'disabled' })
      return last
    }, soon)
    // What staff wrote is there, and nobody reads it without the owner's key.
    expect(String(told.staffReason)).not.toContain('stranger')
    expect((told.staffReason as Buffer).length).toBeGreaterThan(reason.length)
    await pay('1')
    await vi.waitFor(
      async () => expect(await subjectsOf(bob)).toContain('Webhook turned off by our staff'),
      soon,
    )
    expect(receiver.received).toEqual([])
  })

  test('also where the gateway was killed before it could tell', async () => {
    const id = randomUUID()
    // As a gateway leaves it that dies between the change and its event.
    await sql`
      insert into notifier.webhook_endpoints (id, owner_id, url, secrets)
      values (${id}, ${bob.id}, 'https://hooks.example/', '[]')`
    await vi.waitFor(async () => expect(await eventsOf(bob.id)).toHaveLength(1), soon)
    expect(await eventsOf(bob.id)).toMatchObject([{ type: 'WebhookAdded', webhookId: id, byUserId: null }])
  })
})

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

  test('are at most twenty of a person', async () => {
    for (let n = 0; n < 20; n++) await add(bob, `http://127.0.0.1:9/${n}`)
    const { status, body } = await bob.ask('POST', '/v1/webhooks', {
      ...{ url: 'http://127.0.0.1:9/more', password: bob.password },
    })
    expect([status, body.code]).toEqual([409, 'TOO_MANY_WEBHOOKS'])
  })

  test('are at most twenty of the operator, also where all are added at one moment', async () => {
    // No password is hashed on the way, so that the requests reach the database together.
    const asked = await Promise.all(
      Array.from({ length: 32 }, (_, n) =>
        admin.ask('POST', '/v1/admin/webhooks', { url: `http://127.0.0.1:9/${n}` }),
      ),
    )
    const answers = Map.groupBy(asked, ({ status, body }) => `${status} ${body.code ?? ''}`)
    expect([...answers].map(([answer, all]) => [answer, all.length]).sort()).toEqual([
      ['201 ', 20],
      ['409 TOO_MANY_WEBHOOKS', 12],
    ])
    expect((await admin.ask('GET', '/v1/admin/webhooks')).body.items).toHaveLength(20)
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
