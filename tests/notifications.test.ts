// What a user is told in the app: both sides by name, in their language, read once and counted right.
import { randomUUID } from 'node:crypto'
import { beforeEach, describe, expect, test, vi } from 'vitest'
import { ask, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const soon = { timeout: 20_000, interval: 50 }

let alice: Person
let bob: Person
let wallets: [Wallet, Wallet]

beforeEach(async () => {
  ;[alice, bob] = await Promise.all([makePerson('Alice Smith'), makePerson('Bob Brown')])
  wallets = await Promise.all([openWallet(alice, 'USD', '5000'), openWallet(bob, 'USD')])
  // Their first PIN is news as well, and is read before a test begins.
  for (const person of [alice, bob]) {
    await vi.waitFor(async () => expect(await allOf(person)).toContainEqual(FIRST_PIN), soon)
    await person.ask('POST', '/v1/notifications/read-all')
  }
})

type Item = { id: string; type: string; kind: string; title: string; body: string; readAt: string | null }
const FIRST_PIN = expect.objectContaining({ type: 'pin_set', title: 'PIN set' })
const allOf = async (person: Person, query = '', headers: Record<string, string> = {}): Promise<Item[]> =>
  (await person.ask('GET', `/v1/notifications${query}`, undefined, headers)).body.items
const listOf = async (...of: Parameters<typeof allOf>): Promise<Item[]> =>
  (await allOf(...of)).filter(({ type }) => type !== 'pin_set')
const unreadOf = async (person: Person): Promise<number> =>
  (await person.ask('GET', '/v1/notifications/unread-count')).body.unreadCount
/** As soon as the person has been told of these, newest first. */
const told = (person: Person, ...types: string[]): Promise<Item[]> =>
  vi.waitFor(async () => {
    const items = await listOf(person)
    expect(items.map(({ type }) => type)).toEqual(types)
    return items
  }, soon)
const pay = async (amount: string): Promise<string> => {
  const { status, body } = await send(alice, wallets[1], amount)
  expect(status).toBe(201)
  return body.id
}

describe('a transfer', () => {
  test('tells both sides, each with the other’s name as strangers see it', async () => {
    const id = await pay('23.4')
    const [sent] = await told(alice, 'transfer_sent', 'deposit_completed')
    const [received] = await told(bob, 'transfer_received')
    expect(sent).toMatchObject({
      transferId: id,
      kind: 'money_sent',
      counterparty: { name: 'Bob B.' },
      body: expect.stringMatching(
        /^You sent 23\.40 USD to Bob B\. Your balance is 4,976\.60 USD \(TXN-\w{12}\)\.$/,
      ),
    })
    expect(received).toMatchObject({ counterparty: { name: 'Alice S.' }, kind: 'money_received' })
    expect(received!.body).toMatch(/^You received 23\.40 USD from Alice S\. Your balance is 23\.40 USD/)
  })

  test('that is refused tells the sender alone, with the reason', async () => {
    expect((await send(bob, wallets[0], '99')).status).toBe(402)
    const [refused] = await told(bob, 'transfer_rejected')
    expect(refused).toMatchObject({ kind: 'declined', title: 'Transfer declined' })
    expect(refused!.body).toMatch(
      /^Your transfer of 99\.00 USD to Alice S\. was not made\. The balance is too low \(TXN-\w{12}\)\.$/,
    )
    expect(await listOf(alice)).toHaveLength(1)
  })

  test('is told by the name that the other side has when it is read', async () => {
    await pay('1')
    await told(bob, 'transfer_received')
    expect((await alice.ask('PATCH', '/v1/users/me', { fullName: 'Alicia Jones' })).status).toBe(200)
    await vi.waitFor(async () => expect((await listOf(bob))[0]!.body).toContain('from Alicia J. '), soon)
  })
})

describe('language', () => {
  test('is what the client asks for, until the user chooses one', async () => {
    await pay('23.4')
    await told(bob, 'transfer_received')
    const german = /^Sie haben 23,40 USD von Alice S\. erhalten\. Ihr Kontostand beträgt 23,40 USD/
    const asked = await bob.ask('GET', '/v1/notifications', undefined, {
      'accept-language': 'de-AT,en;q=0.5',
    })
    expect(asked.headers.get('content-language')).toBe('de')
    expect(asked.body.items[0].body).toMatch(german)
    expect((await listOf(bob))[0]!.body).toMatch(/^You received/)

    const chosen = await bob.ask('PATCH', '/v1/notifications/preferences', { language: 'de' })
    expect([chosen.status, chosen.body.language]).toEqual([200, 'de'])
    expect((await listOf(bob, '', { 'accept-language': 'en' }))[0]!.body).toMatch(german)
    await bob.ask('PATCH', '/v1/notifications/preferences', { language: null })
    expect((await listOf(bob))[0]!.body).toMatch(/^You received/)
  })
})

describe('reading', () => {
  test('marks one once, and the count follows', async () => {
    await pay('1')
    await pay('2')
    const [second, first] = await told(bob, 'transfer_received', 'transfer_received')
    expect(await unreadOf(bob)).toBe(2)
    const read = await bob.ask('POST', `/v1/notifications/${first!.id}/read`)
    expect(read.status).toBe(200)
    expect(read.body).toMatchObject({ id: first!.id, title: 'Money received', readAt: expect.any(String) })
    expect((await bob.ask('POST', `/v1/notifications/${first!.id}/read`)).body).toEqual(read.body)
    expect(await unreadOf(bob)).toBe(1)
    expect((await listOf(bob, '?unreadOnly=true')).map(({ id }) => id)).toEqual([second!.id])
    expect((await listOf(bob)).map(({ readAt }) => readAt !== null)).toEqual([false, true])
  })

  test('marks all, and what comes later is unread again', async () => {
    await pay('1')
    await pay('2')
    await told(bob, 'transfer_received', 'transfer_received')
    expect((await bob.ask('POST', '/v1/notifications/read-all')).body).toEqual({ markedCount: 2 })
    expect((await bob.ask('POST', '/v1/notifications/read-all')).body).toEqual({ markedCount: 0 })
    expect([await unreadOf(bob), await listOf(bob, '?unreadOnly=true')]).toEqual([0, []])
    await pay('3')
    await told(bob, 'transfer_received', 'transfer_received', 'transfer_received')
    expect(await unreadOf(bob)).toBe(1)
  })

  test('by many at once counts each once, while more come', async () => {
    for (let n = 0; n < 5; n++) await pay('1')
    const items = await told(bob, ...Array<string>(5).fill('transfer_received'))
    const reading = items.flatMap(({ id }) =>
      Array.from({ length: 4 }, () => bob.ask('POST', `/v1/notifications/${id}/read`)),
    )
    const [answers] = await Promise.all([Promise.all(reading), pay('1'), pay('1'), pay('1')])
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(200))
    await told(bob, ...Array<string>(8).fill('transfer_received'))
    expect(await unreadOf(bob)).toBe(3)
    const marked = await Promise.all(
      Array.from({ length: 4 }, () => bob.ask('POST', '/v1/notifications/read-all')),
    )
    expect(marked.map(({ body }) => body.markedCount).sort()).toEqual([0, 0, 0, 3])
    expect(await unreadOf(bob)).toBe(0)
  })

  test('of somebody else’s is refused, and changes nothing', async () => {
    await pay('1')
    const [item] = await told(bob, 'transfer_received')
    const answer = await alice.ask('POST', `/v1/notifications/${item!.id}/read`)
    expect([answer.status, answer.body.code]).toEqual([404, 'NOTIFICATION_NOT_FOUND'])
    expect(await unreadOf(bob)).toBe(1)
  })

  test('in pages shows each once, also what comes in between', async () => {
    for (let n = 1; n <= 5; n++) await pay(`${n}`)
    const all = await told(bob, ...Array<string>(5).fill('transfer_received'))
    const seen: string[] = []
    let cursor: string | null = null
    do {
      const { body } = await bob.ask('GET', `/v1/notifications?limit=2${cursor ? `&cursor=${cursor}` : ''}`)
      seen.push(...body.items.map(({ id }: Item) => id))
      cursor = body.nextCursor
      if (seen.length === 2) await pay('6')
    } while (cursor)
    expect(seen.slice(0, -1)).toEqual(all.map(({ id }) => id))
    const wrong = await bob.ask('GET', '/v1/notifications?cursor=abc')
    expect([wrong.status, wrong.body.errors?.[0]?.field]).toEqual([422, 'cursor'])
  })
})

describe('preferences', () => {
  test('a kind that is turned off is not told, all others are, and it can be turned on again', async () => {
    const off = await bob.ask('PATCH', '/v1/notifications/preferences', {
      kinds: { money_received: { inApp: false } },
    })
    expect(off.body.kinds).toMatchObject({ money_received: { inApp: false }, declined: { inApp: true } })
    await pay('1')
    await told(alice, 'transfer_sent', 'deposit_completed')
    await bob.ask('PATCH', '/v1/notifications/preferences', { kinds: { money_received: { inApp: true } } })
    await pay('2')
    const [only] = await told(bob, 'transfer_received')
    expect(only!.body).toMatch(/^You received 2\.00 USD/)
  })

  test.each([
    [{ kinds: { security: { inApp: false } } }, 'kinds.security.inApp'],
    [{ kinds: { gossip: { inApp: false } } }, 'kinds.gossip'],
    [{ kinds: { holds: { pigeon: true } } }, 'kinds.holds.pigeon'],
    [{ kinds: { holds: { inApp: 'no' } } }, 'kinds.holds.inApp'],
    [{ language: 'xx' }, 'language'],
    [{ languages: 'en' }, 'languages'],
  ])('%j is refused by name', async (change, field) => {
    const before = (await bob.ask('GET', '/v1/notifications/preferences')).body
    const answer = await bob.ask('PATCH', '/v1/notifications/preferences', change)
    expect([answer.status, answer.body.errors?.[0]?.field]).toEqual([422, field])
    expect((await bob.ask('GET', '/v1/notifications/preferences')).body).toEqual(before)
  })
})

describe('accounts', () => {
  const logIn = async (userAgent: string) => {
    const answer = await ask('POST', '/v1/auth/login', {
      body: { email: bob.email, password: bob.password },
      headers: { 'user-agent': userAgent },
    })
    expect(answer.status).toBe(200)
  }

  test('a sign-in with a new device is told, one with a known device is not, nor is its next version', async () => {
    await logIn('Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0')
    await told(bob, 'signed_in')
    await logIn('Mozilla/5.0 (X11; Linux x86_64) Firefox/141.0')
    await pay('1')
    const [, signedIn] = await told(bob, 'transfer_received', 'signed_in')
    expect(signedIn).toMatchObject({ kind: 'security', title: 'New sign-in' })
  })

  test('what changes how one signs in or pays is told', async () => {
    const key = await bob.ask('POST', '/v1/api-keys', {
      ...{ name: `key ${randomUUID()}`, scopes: ['wallets:read'], password: bob.password },
    })
    expect(key.status).toBe(201)
    await told(bob, 'api_key_created')
  })
})
