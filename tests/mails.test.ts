// Receipts and warnings by mail, through the whole system: to whom they go, once, in which language, and when no longer.
import { randomUUID } from 'node:crypto'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import {
  ask,
  control,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  type Staff,
  send,
  type Wallet,
} from './client.ts'

const soon = { timeout: 20_000, interval: 50 }
const SECRET = 'the mail server of the tests, and nobody else'

let admin: Staff
let alice: Person
let bob: Person
let wallets: [Wallet, Wallet]
let sql: Database

beforeAll(async () => {
  admin = await makeStaff('admin')
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
})
afterAll(() => sql.end())
beforeEach(async () => {
  ;[alice, bob] = await Promise.all([makePerson('Alice <i>Smith'), makePerson('Bob Brown')])
  wallets = await Promise.all([openWallet(alice, 'USD', '500'), openWallet(bob, 'USD')])
})

type Mail = { to: string; subject: string; text: string; html: string }
const mailsTo = async ({ email }: Person, subject: RegExp): Promise<Mail[]> => {
  const all = (await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()) as Mail[]
  return all.filter(mail => mail.to.includes(email) && subject.test(mail.subject))
}
const choose = async (person: Person, change: object) => {
  const { status } = await person.ask('PATCH', '/v1/notifications/preferences', change)
  expect(status).toBe(200)
}
const mailed = { email: true }
/** Once all deliveries of the persons have ended. */
const settled = (...people: Person[]) =>
  vi.waitFor(async () => {
    const rows = await sql`
      select state from notifier.deliveries where user_id = any (${people.map(({ id }) => id)}) and state = 'due'`
    expect(rows).toEqual([])
  }, soon)
const pay = async (amount: string): Promise<string> => {
  const { status, body } = await send(alice, wallets[1], amount)
  expect(status).toBe(201)
  return body.reference
}

describe('receipts', () => {
  test('go to both sides who choose them, each with the other by name, as HTML and text', async () => {
    await choose(alice, { kinds: { money_sent: mailed } })
    await choose(bob, { language: 'de', kinds: { money_received: mailed } })
    const reference = await pay('12.5')
    const [sent] = await vi.waitFor(async () => {
      const mails = await mailsTo(alice, /^Money sent/)
      expect(mails).toHaveLength(1)
      return mails
    }, soon)
    const [received] = await vi.waitFor(async () => {
      const mails = await mailsTo(bob, /^Geld erhalten/)
      expect(mails).toHaveLength(1)
      return mails
    }, soon)
    expect(sent!.subject).toBe(`Money sent: 12.50 USD (${reference})`)
    expect(sent!.text).toContain('You sent 12.50 USD to Bob B. Your balance is 487.50 USD')
    expect(sent!.html).toContain('Hello Alice &lt;i&gt;Smith,')
    expect(sent!.html).not.toContain('<i>')
    expect(received!.subject).toBe(`Geld erhalten: 12,50 USD (${reference})`)
    expect(received!.text).toContain('Betrag: 12,50 USD')
  })

  test('do not go to those who did not', async () => {
    await choose(alice, { kinds: { money_sent: mailed } })
    await pay('1')
    await vi.waitFor(async () => expect(await mailsTo(alice, /^Money sent/)).toHaveLength(1), soon)
    await settled(alice, bob)
    expect(await mailsTo(bob, /Money/)).toEqual([])
    await choose(alice, { kinds: { money_sent: { email: false } } })
    await pay('2')
    await settled(alice, bob)
    expect(await mailsTo(alice, /^Money sent/)).toHaveLength(1)
  })

  test('come once each, however often the notifier is killed meanwhile', async () => {
    await choose(alice, { kinds: { money_sent: mailed } })
    await choose(bob, { kinds: { money_received: mailed } })
    const references: string[] = []
    for (let n = 1; n <= 6; n++) {
      references.push(await pay(`${n}`))
      if (n % 2 === 1) continue
      await control('notifier', 'SIGKILL')
      await control('notifier', 'restart')
    }
    for (const [person, subject] of [
      [alice, /^Money sent/],
      [bob, /^Money received/],
    ] as const) {
      await vi.waitFor(
        async () => {
          const subjects = (await mailsTo(person, subject)).map(mail => mail.subject)
          for (const reference of references)
            expect(
              subjects.some(text => text.includes(reference)),
              reference,
            ).toBe(true)
        },
        { timeout: 90_000, interval: 100 },
      )
    }
    // At least once each; a second time only with the id of the first.
    const rows = await sql`
      select count(*)::int as rows, count(distinct notice->>'transferId')::int as transfers
      from notifier.deliveries where user_id = ${alice.id} and notice->>'type' = 'transfer_sent'`
    expect(rows).toEqual([{ rows: 6, transfers: 6 }])
  }, 120_000)
})

test('a sign-in with a new device is mailed, no matter what is chosen', async () => {
  await ask('POST', '/v1/auth/login', {
    body: { email: bob.email, password: bob.password },
    headers: { 'user-agent': 'Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0' },
  })
  await vi.waitFor(async () => {
    const [mail] = await mailsTo(bob, /^New sign-in$/)
    expect(mail?.text).toContain('If this was not you, set a new password now')
  }, soon)
})

describe('bounces and complaints', () => {
  const tell = (body: object, secret: string | undefined = SECRET) =>
    ask('POST', '/v1/mail/callbacks', {
      body,
      headers: secret === undefined ? {} : { 'mail-callback-secret': secret },
    })
  const blockOf = async (person: Person) =>
    (await person.ask('GET', '/v1/notifications/preferences')).body.mailBlocked

  test('end mail to the address, the user is told in the app, and staff let it begin again', async () => {
    await choose(bob, { kinds: { money_received: mailed } })
    expect((await tell({ event: 'bounced', email: bob.email.toUpperCase() })).status).toBe(204)
    expect((await tell({ event: 'complained', email: bob.email })).status).toBe(204)
    expect(await blockOf(bob)).toMatchObject({ reason: 'bounced', at: expect.any(String) })
    await pay('1')
    await vi.waitFor(async () => {
      const rows =
        await sql`select state from notifier.deliveries where user_id = ${bob.id} and notice is not null`
      expect(rows).toEqual([{ state: 'suppressed' }])
    }, soon)
    expect(await mailsTo(bob, /Money/)).toEqual([])
    await vi.waitFor(async () => {
      const { body } = await bob.ask('GET', '/v1/notifications')
      expect(body.items.map(({ type }: { type: string }) => type)).toContain('mail_blocked')
    }, soon)

    for (let n = 0; n < 2; n++)
      expect((await admin.ask('DELETE', `/v1/admin/users/${bob.id}/mail-block`)).status).toBe(204)
    expect(await blockOf(bob)).toBeNull()
    await pay('2')
    await vi.waitFor(async () => expect(await mailsTo(bob, /Money received: 2\.00/)).toHaveLength(1), soon)
  })

  test('that are not permanent, or of an address that nobody has, change nothing', async () => {
    expect((await tell({ event: 'bounced', email: bob.email, permanent: false })).status).toBe(204)
    expect((await tell({ event: 'bounced', email: `${randomUUID()}@example.com` })).status).toBe(204)
    expect(await blockOf(bob)).toBeNull()
  })

  test.each([
    ['no secret', undefined],
    ['another secret', `${SECRET}!`],
    ['a shorter one', SECRET.slice(1)],
  ])('with %s are refused', async (_what, secret) => {
    const answer = await tell({ event: 'bounced', email: bob.email }, secret ?? '')
    expect([answer.status, answer.body.code]).toEqual([401, 'SIGNATURE_INVALID'])
    expect(await blockOf(bob)).toBeNull()
  })

  test.each([
    [{ event: 'lost', email: 'a@example.com' }, 'event'],
    [{ event: 'bounced', email: 'nobody' }, 'email'],
    [{ event: 'bounced', email: 'a@example.com', permanent: 'yes' }, 'permanent'],
    [{ event: 'bounced' }, 'email'],
  ])('%j is refused by name', async (body, field) => {
    const answer = await tell(body)
    expect([answer.status, answer.body.errors?.[0]?.field]).toEqual([422, field])
  })
})
