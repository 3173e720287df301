import { randomUUID } from 'node:crypto'
import { type AddressInfo, createServer, type Server } from 'node:net'
import type { NoticeKind } from '@pennywire/messages/notices.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test, vi } from 'vitest'
import type { AttachReceipt } from './attach-receipt.ts'
import { mailChannel } from './channels/mail.ts'
import { startDelivering } from './deliver.ts'
import { createSecretOpener, type OpenSecret, privateJwks } from './open-secret.ts'
import { connectMail } from './smtp.ts'
import {
  claimDeliveries,
  endDelivery,
  insertMails,
  insertNoticeMails,
  postponeDelivery,
  writeMailedKinds,
} from './sql/deliveries.ts'
import { createNotifierDatabase } from './sql/test-database.ts'

const { superuserUrl, mail } = inject('stack')
const logger = createLogger('notifier', { level: 'silent', instance: 'test' })

const makeKeyPair = () => generateKeyPair('ECDH-ES', { crv: 'P-256', extractable: true })
const { publicKey, privateKey } = await makeKeyPair()
const encrypt = (secret: object, alg = 'ECDH-ES+A256KW', key = publicKey) =>
  new CompactEncrypt(Buffer.from(JSON.stringify(secret)))
    .setProtectedHeader({ alg, enc: 'A256GCM', kid: 'test' })
    .encrypt(key)

const URL_OF_LINK = 'http://127.0.0.1:8080/v1/auth/verify-email'
const token = () => randomUUID().replaceAll('-', '')

let database: Awaited<ReturnType<typeof createNotifierDatabase>>
let superuser: Database
let sql: Database
let gatewayRead: Database
let openSecret: OpenSecret
const stops: Array<() => unknown> = []

beforeAll(async () => {
  database = await createNotifierDatabase(superuserUrl)
  superuser = openDatabase(database.url(), { applicationName: 'test' })
  sql = openDatabase(database.url('notifier'), { applicationName: 'test' })
  gatewayRead = openDatabase(database.url('gateway_reader'), { applicationName: 'test' })
  openSecret = await createSecretOpener(privateJwks.parse({ ...(await exportJWK(privateKey)), kid: 'test' }))
})
beforeEach(
  () =>
    superuser`truncate notifier.deliveries, notifier.preferences, notifier.mailed_kinds, gateway_api.users`,
)
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})
afterAll(async () => {
  await Promise.all([sql.end(), superuser.end(), gatewayRead.end()])
  await database.drop()
})

const noReceipt: AttachReceipt = () => Promise.reject(new Error('nobody wants a receipt'))

const start = (smtpUrl = mail.smtpUrl, attachReceipt = noReceipt) => {
  const connection = connectMail(smtpUrl, 'Pennywire <no-reply@pennywire.example>')
  const channel = mailChannel({ sql, gatewayRead, openSecret, attachReceipt, send: connection.send })
  const sending = startDelivering({ sql, channel, logger })
  stops.push(sending.stop, connection.close)
  return sending
}

const addUser = async (fullName = 'Alice Example', isVerified = true) => {
  const user = { user_id: randomUUID(), email: `${randomUUID()}@example.com`, full_name: fullName }
  await superuser`insert into gateway_api.users ${superuser({ ...user, email_verified: isVerified })}`
  return user
}

const store = async (userId: string, secret: string, expiresAt = Date.now() + 60_000) => {
  const commandId = randomUUID()
  const request = { commandId, userId, template: 'verify_email', secret, expiresAt, requestedAt: Date.now() }
  await sql.begin(tx => insertMails(tx, [request]))
  return commandId
}

type Delivery = {
  state: string
  attempts: number
  secret: string | null
  last_error: string | null
  sent_at: Date | null
}
const deliveryOf = async (commandId: string): Promise<Delivery> => {
  const [row] = await sql<[Delivery]>`
    select state, attempts, secret, last_error, sent_at from notifier.deliveries where command_id = ${commandId}`
  return row
}
type Sunk = {
  subject: string
  text: string
  html: string
  attachments: Array<{ fileName: string; type: string; content: string }>
}
const mailsTo = async (address: string): Promise<Sunk[]> => {
  const messages = (await (await fetch(`${mail.httpUrl}/messages`)).json()) as Array<{ to: string }>
  return messages.filter(({ to }) => to.includes(address)) as never
}

/** A mail server that answers as told. */
const startSmtp = async (answer: (line: string) => string): Promise<string> => {
  const server: Server = createServer(socket => {
    socket.on('error', () => {})
    socket.write('220 test\r\n')
    socket.on('data', data => {
      for (const line of String(data).trim().split('\r\n')) socket.write(`${answer(line)}\r\n`)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  stops.push(() => void server.close())
  return `smtp://127.0.0.1:${(server.address() as AddressInfo).port}`
}

test.each(['ECDH-ES+A256KW', 'ECDH-ES'])(
  'a mail is sent once, with the link, and its secret forgotten: %s',
  async alg => {
    const user = await addUser('Alice <Example>')
    const secret = { token: token(), url: URL_OF_LINK }
    const commandId = await store(user.user_id, await encrypt(secret, alg))
    // Two instances share the work.
    start().wake()
    start().wake()
    await vi.waitFor(async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'sent' }), 10_000)
    expect(await deliveryOf(commandId)).toMatchObject({
      ...{ attempts: 1, secret: null, last_error: null, sent_at: expect.any(Date) },
    })
    const [sent, ...more] = await mailsTo(user.email)
    expect(more).toEqual([])
    expect(sent!.text.split('\n').map(line => line.trim())).toContain(`${URL_OF_LINK}?token=${secret.token}`)
    expect(sent!.html).toContain('Hello Alice &lt;Example&gt;,')
  },
)

test('nobody is greeted by a name before the address is verified: a stranger may have written it', async () => {
  const user = await addUser('You won 500 USD', false)
  const commandId = await store(user.user_id, await encrypt({ token: 'abc', url: URL_OF_LINK }))
  start().wake()
  await vi.waitFor(async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'sent' }), 10_000)
  const [sent] = await mailsTo(user.email)
  expect(sent!.text.startsWith('Hello,')).toBe(true)
  expect(JSON.stringify(sent)).not.toContain('You won')
})

test('many due mails are each sent once by two instances', async () => {
  const users = await Promise.all(Array.from({ length: 30 }, () => addUser()))
  const secret = await encrypt({ token: token(), url: URL_OF_LINK })
  for (const user of users) await store(user.user_id, secret)
  start().wake()
  start().wake()
  await vi.waitFor(async () => {
    const [row] = await sql`select count(*)::int as left from notifier.deliveries where state <> 'sent'`
    expect(row!.left).toBe(0)
  }, 20_000)
  for (const user of users) expect(await mailsTo(user.email)).toHaveLength(1)
})

test('an expired mail is not sent', async () => {
  const user = await addUser()
  const commandId = await store(
    user.user_id,
    await encrypt({ token: token(), url: URL_OF_LINK }),
    Date.now() - 1,
  )
  start()
  await vi.waitFor(
    async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'expired' }),
    10_000,
  )
  expect(await deliveryOf(commandId)).toMatchObject({ attempts: 0, secret: null })
  expect(await mailsTo(user.email)).toEqual([])
})

test('a mail server that is away is asked again later; its error names nobody', async () => {
  const user = await addUser()
  const commandId = await store(user.user_id, await encrypt({ token: token(), url: URL_OF_LINK }))
  const away = start('smtp://127.0.0.1:1')
  await vi.waitFor(
    async () => expect(await deliveryOf(commandId)).toMatchObject({ last_error: 'ESOCKET' }),
    10_000,
  )
  await away.stop()
  expect(await deliveryOf(commandId)).toMatchObject({ state: 'due', secret: expect.any(String) })
  start()
  await vi.waitFor(async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'sent' }), 20_000)
  expect(await mailsTo(user.email)).toHaveLength(1)
})

test('a recipient that the mail server refuses for good is given up', async () => {
  const user = await addUser()
  const smtpUrl = await startSmtp(line =>
    line.startsWith('RCPT') ? `550 5.1.1 <${user.email}> unknown` : '250 ok',
  )
  const commandId = await store(user.user_id, await encrypt({ token: token(), url: URL_OF_LINK }))
  start(smtpUrl)
  await vi.waitFor(async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'failed' }), 10_000)
  expect(await deliveryOf(commandId)).toMatchObject({
    attempts: 1,
    secret: null,
    last_error: 'EENVELOPE 550',
  })
})

test.each<[string, () => Promise<string>, string]>([
  [
    'made for another key',
    async () => encrypt({ token: token(), url: URL_OF_LINK }, 'ECDH-ES', (await makeKeyPair()).publicKey),
    'ERR_JWE_DECRYPTION_FAILED',
  ],
  ['that is no JWE', async () => 'a.b.c.d.e', 'ERR_JWE_INVALID'],
  ['that is no token and link', () => encrypt({ token: 'a b', url: 'javascript:alert(1)' }), 'ZodError'],
])('a secret %s is never sent, and its error tells nothing of it', async (_what, secret, code) => {
  const user = await addUser()
  const commandId = await store(user.user_id, await secret())
  start()
  await vi.waitFor(
    async () => expect(await deliveryOf(commandId)).toMatchObject({ state: 'due', last_error: code }),
    10_000,
  )
  expect(await mailsTo(user.email)).toEqual([])
})

test('a user whom the gateway does not know is asked for again', async () => {
  const commandId = await store(randomUUID(), await encrypt({ token: token(), url: URL_OF_LINK }))
  start()
  await vi.waitFor(
    async () =>
      expect(await deliveryOf(commandId)).toMatchObject({ state: 'due', last_error: 'USER_UNKNOWN' }),
    10_000,
  )
})

test('mails go to another machine by TLS or not at all, unless plain text is allowed', async () => {
  // Another spelling of 127.0.0.1 that is not known as this machine.
  const url = mail.smtpUrl.replace('127.0.0.1', '127.1')
  const to = { name: 'Alice', address: `${randomUUID()}@example.com` }
  const content = { id: randomUUID(), subject: 'Hello', text: 'Hello', html: '<p>Hello</p>' }
  const [strict, lax] = [
    connectMail(url, 'Pennywire <no-reply@pennywire.example>'),
    connectMail(url, 'Pennywire <no-reply@pennywire.example>', { allowPlaintext: true }),
  ]
  stops.push(strict.close, lax.close)
  await expect(strict.send(to, content)).rejects.toThrow(/STARTTLS/)
  await lax.send(to, content)
})

describe('mails of notices', () => {
  const transferId = '11111111-1111-8111-8111-111111111111'
  const noticeMail = (userId: string, over: { id?: string; kind?: NoticeKind; createdAt?: number } = {}) => {
    const createdAt = over.createdAt ?? Date.now()
    const data = { amount: '12.50', currency: 'USD', balance: '87.50' }
    return {
      id: over.id ?? randomUUID(),
      userId,
      kind: over.kind ?? 'money_received',
      notice: { type: 'transfer_received', data, aboutUserId: bob, transferId, createdAt },
      expiresAt: createdAt + 60_000,
    }
  }
  const storeNotices = (...mails: ReturnType<typeof noticeMail>[]) =>
    sql.begin(tx => insertNoticeMails(tx, mails))
  const choose = (userId: string, chosen: { on?: string[]; off?: string[]; language?: string }) => superuser`
    insert into notifier.preferences (user_id, language, turned_on, turned_off)
    values (${userId}, ${chosen.language ?? null}, ${chosen.on ?? []}, ${chosen.off ?? []})`
  let bob: string
  beforeEach(async () => {
    bob = (await addUser('Bob Brown')).user_id
    await writeMailedKinds(sql, ['money_received'])
  })

  test('go out once, however often the notice comes, with names as they are then, in the language chosen', async () => {
    const user = await addUser('Alice <b>Example')
    await choose(user.user_id, { language: 'de' })
    const id = randomUUID()
    expect(await storeNotices(noticeMail(user.user_id, { id }), noticeMail(user.user_id, { id }))).toBe(1)
    expect(await storeNotices(noticeMail(user.user_id, { id }))).toBe(0)
    await superuser`update gateway_api.users set full_name = 'Bobby Brown' where user_id = ${bob}`
    start()
    start()
    await vi.waitFor(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'sent' }), 10_000)
    const [sent, ...more] = await mailsTo(user.email)
    expect(more).toEqual([])
    expect(sent!.text).toContain('Sie haben 12,50 USD von Bobby B. erhalten.')
    expect(sent!.html).toContain('Guten Tag Alice &lt;b&gt;Example,')
    // The notifier keeps nobody's name and nobody's address.
    const rows = JSON.stringify(await superuser`select to_jsonb(d)::text as row from notifier.deliveries d`)
    expect(rows).not.toMatch(/Bob|Brown|Alice|example\.com/)
  })

  test('go to those who want them: by their choice, else as the setting says', async () => {
    const [one, other, third] = [await addUser(), await addUser(), await addUser()]
    await choose(one.user_id, { on: ['holds:email'], off: ['money_received:email'] })
    await choose(other.user_id, { off: ['security:email'] })
    const count = await storeNotices(
      noticeMail(one.user_id, { kind: 'holds' }),
      noticeMail(one.user_id),
      noticeMail(other.user_id, { kind: 'security' }),
      noticeMail(third.user_id),
      noticeMail(third.user_id, { kind: 'holds' }),
    )
    expect(count).toBe(3)
    const stored = await sql`select user_id from notifier.deliveries`
    expect(new Set(stored.map(({ user_id }) => user_id))).toEqual(
      new Set([one.user_id, other.user_id, third.user_id]),
    )
  })

  test('of a notice that is read again long after are not sent', async () => {
    const user = await addUser()
    expect(await storeNotices(noticeMail(user.user_id, { createdAt: Date.now() - 61_000 }))).toBe(0)
  })

  describe('have the receipt with them', () => {
    const wantReceipts = (userId: string) =>
      superuser`insert into notifier.preferences (user_id, attach_receipts) values (${userId}, true)`
    const file = { filename: 'receipt-TXN.pdf', contentType: 'application/pdf', content: Buffer.from('%PDF') }

    test('where the user wants that, once more after a failure, and the mail says so', async () => {
      const user = await addUser()
      await wantReceipts(user.user_id)
      const id = randomUUID()
      await storeNotices(noticeMail(user.user_id, { id }))
      const asked: object[] = []
      start(undefined, async (_, of) => {
        if (asked.push(of) === 1) throw new Error('the thread died')
        return file
      })
      await vi.waitFor(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'sent' }), 10_000)
      expect(await deliveryOf(id)).toMatchObject({ attempts: 2, last_error: null })
      expect(asked[1]).toEqual({ userId: user.user_id, fullName: 'Alice Example', language: 'en' })
      const [sent, ...more] = await mailsTo(user.email)
      expect(more).toEqual([])
      expect(sent!.text).toContain('The receipt is attached as a PDF.')
      expect(sent!.attachments).toEqual([
        {
          fileName: 'receipt-TXN.pdf',
          type: 'application/pdf',
          content: Buffer.from('%PDF').toString('base64'),
        },
      ])
    })

    test('and go without it at the third attempt: the news is worth more than the file', async () => {
      const user = await addUser()
      await wantReceipts(user.user_id)
      const id = randomUUID()
      await storeNotices(noticeMail(user.user_id, { id }))
      start(undefined, () => Promise.reject(new Error('it cannot be made')))
      await vi.waitFor(
        async () => expect(await deliveryOf(id)).toMatchObject({ last_error: 'RECEIPT_NOT_MADE' }),
        10_000,
      )
      await vi.waitFor(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'sent' }), 15_000)
      expect(await deliveryOf(id)).toMatchObject({ attempts: 3 })
      const [sent] = await mailsTo(user.email)
      expect(sent!.attachments).toEqual([])
      expect(sent!.text).not.toContain('attached')
    })

    test('but not where the user has not chosen it, nor where no money moved', async () => {
      const [plain, choosing] = await Promise.all([addUser(), addUser()])
      await wantReceipts(choosing.user_id)
      const [one, other] = [randomUUID(), randomUUID()]
      const held = noticeMail(choosing.user_id, { id: other })
      const data = { amount: '1.00', currency: 'USD', until: null }
      const notice = { ...held.notice, type: 'incoming_hold_placed', data } as never
      await storeNotices(noticeMail(plain.user_id, { id: one }), { ...held, notice })
      const attach = vi.fn(noReceipt)
      start(undefined, attach)
      for (const id of [one, other])
        await vi.waitFor(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'sent' }), 10_000)
      expect(attach).not.toHaveBeenCalled()
    })
  })

  test('do not go to an address that bounced', async () => {
    const user = await addUser()
    await superuser`update gateway_api.users set mail_blocked = true where user_id = ${user.user_id}`
    const id = randomUUID()
    await storeNotices(noticeMail(user.user_id, { id }))
    start()
    await vi.waitFor(async () => expect(await deliveryOf(id)).toMatchObject({ state: 'suppressed' }), 10_000)
    expect(await mailsTo(user.email)).toEqual([])
  })

  test('one that takes long leaves the others’ room alone', async () => {
    const [slow, ...quick] = await Promise.all(Array.from({ length: 12 }, () => addUser()))
    const users = [slow!, ...quick]
    const ids = users.map(() => randomUUID())
    await storeNotices(...users.map((user, index) => noticeMail(user.user_id, { id: ids[index]! })))
    const connection = connectMail(mail.smtpUrl, 'Pennywire <no-reply@pennywire.example>')
    let free = () => {}
    const held = new Promise<void>(resolve => {
      free = resolve
    })
    const channel = mailChannel({
      ...{ sql, gatewayRead, openSecret, attachReceipt: noReceipt },
      send: async (to, content) => {
        if (to.address === slow!.email) await held
        await connection.send(to, content)
      },
    })
    const sending = startDelivering({ sql, channel, logger })
    stops.push(sending.stop, connection.close)
    await vi.waitFor(async () => {
      for (const id of ids.slice(1)) expect(await deliveryOf(id)).toMatchObject({ state: 'sent' })
    }, 10_000)
    expect(await deliveryOf(ids[0]!)).toMatchObject({ state: 'due' })
    free()
    await vi.waitFor(async () => expect(await deliveryOf(ids[0]!)).toMatchObject({ state: 'sent' }), 10_000)
  })

  test('what an instance finds out after its claim ran out changes nothing', async () => {
    const user = await addUser()
    const id = randomUUID()
    await storeNotices(noticeMail(user.user_id, { id }))
    const [late] = await claimDeliveries(sql, { channel: 'mail', limit: 1, claimMs: 0 })
    const [successor] = await claimDeliveries(sql, { channel: 'mail', limit: 1, claimMs: 60_000 })
    await endDelivery(sql, late!, { state: 'failed', error: 'late' })
    await postponeDelivery(sql, late!, 'late', 0)
    expect(await deliveryOf(id)).toMatchObject({ state: 'due', attempts: 2, last_error: null })
    await endDelivery(sql, successor!, { state: 'sent', error: null })
    expect(await deliveryOf(id)).toMatchObject({ state: 'sent' })
  })
})
