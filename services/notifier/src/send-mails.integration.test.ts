import { randomUUID } from 'node:crypto'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { CompactEncrypt, exportJWK, generateKeyPair } from 'jose'
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { connectMail } from './channels/mail.ts'
import { createSecretOpener, type OpenSecret, privateJwks } from './open-secret.ts'
import { startSendingMails } from './send-mails.ts'
import { insertDeliveries } from './sql/deliveries.ts'
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
beforeEach(() => superuser`truncate notifier.deliveries, gateway_api.users`)
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})
afterAll(async () => {
  await Promise.all([sql.end(), superuser.end(), gatewayRead.end()])
  await database.drop()
})

const start = (smtpUrl = mail.smtpUrl) => {
  const connection = connectMail(smtpUrl, 'Pennywire <no-reply@pennywire.example>')
  const sending = startSendingMails({ sql, gatewayRead, openSecret, send: connection.send, logger })
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
  await sql.begin(tx => insertDeliveries(tx, [request]))
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
const mailsTo = async (address: string): Promise<Array<{ subject: string; text: string; html: string }>> => {
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
