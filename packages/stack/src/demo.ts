// `npm run demo`: moves money once through the running system, as two users would, and prints its path. `npm start`
// runs it as well.
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { TransferCompleted } from '@pennywire/contracts/schemas.ts'
import { createKafkaClient, type KafkaConnection, kafkaConnectionOf } from '@pennywire/kafka/client.ts'
import { connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { beginCommand } from '@pennywire/runtime/command.ts'
import { kafkaSettings, loadConfig } from '@pennywire/runtime/config.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { databaseUrl } from '@pennywire/runtime/database-url.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { z } from 'zod'
import { waitUntil } from './wait-until.ts'

export type DemoSettings = {
  GATEWAY_URL: string
  MAIL_URL: string
  kafka: KafkaConnection
  REGISTRY_URL: string
  AUDIT_DATABASE_URL: string
}

const PASSWORD = 'Demo-pass-1'
const PIN = '482915'
/** Alice's balance before she sends, and the amount that she sends, in cents. */
const [FULL, SPENT] = [100_00n, 12_50n]
const PATIENCE = { deadlineMs: 30_000 }
/** The demo has its own loopback address where there are several, so that it uses up no other client's rate limit. */
const OWN_ADDRESS = process.platform === 'linux' ? '127.0.0.42' : undefined

// biome-ignore lint/suspicious/noExplicitAny: bodies of every shape
type Answer = { status: number; headers: Record<string, string | string[] | undefined>; body: any }

const askOnce = (
  url: string,
  method: string,
  body: unknown,
  headers: Record<string, string>,
): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const asking = request(
      url,
      {
        method,
        ...(OWN_ADDRESS ? { localAddress: OWN_ADDRESS } : {}),
        headers: text === undefined ? headers : { 'content-type': 'application/json', ...headers },
      },
      response => {
        let answer = ''
        response.setEncoding('utf8')
        response.on('data', chunk => {
          answer += chunk
        })
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: answer === '' ? null : JSON.parse(answer),
          }),
        )
      },
    )
    asking.on('error', reject)
    asking.end(text)
  })

/** Moves money from Alice to Bob and prints the steps, then a refused transfer. Rejects if any step deviates. */
export const runDemo = async (
  settings: DemoSettings,
  print: (line: string) => void,
): Promise<{ codes: { bob: string } }> => {
  const { GATEWAY_URL: gateway } = settings
  const ask = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    for (;;) {
      const answer = await askOnce(`${gateway}${path}`, method, body, headers)
      if (answer.status !== 429) return answer
      const seconds = Number(answer.headers['retry-after'] ?? 1)
      print(`  (a rate limit was met, as anybody's would be: waiting ${seconds} s)`)
      await sleep(seconds * 1_000)
    }
  }
  const expectStatus = (answer: Answer, ...statuses: number[]): Answer => {
    if (statuses.includes(answer.status)) return answer
    throw new Error(
      `the demo got ${answer.status} where ${statuses.join(' or ')} was due: ${JSON.stringify(answer.body)}`,
    )
  }

  const mailedToken = (email: string) =>
    waitUntil(
      `the mail to ${email}`,
      async () => {
        const { body } = await askOnce(`${settings.MAIL_URL}/messages`, 'GET', undefined, {})
        const mail = body.find((message: { to: unknown }) => JSON.stringify(message.to).includes(email))
        return /\?token=([\w-]+)/.exec(mail?.text ?? '')?.[1]
      },
      PATIENCE,
    )

  /** A demo user, created at the first run and reused at later ones. */
  const meet = async (name: string, fullName: string) => {
    const email = `${name}@example.com`
    const credentials = { email, password: PASSWORD }
    const signup = expectStatus(await ask('POST', '/v1/auth/signup', { ...credentials, fullName }), 201, 409)
    let login = signup.status === 409 ? await ask('POST', '/v1/auth/login', credentials) : undefined
    if (login?.status !== 200) {
      if (signup.status === 409)
        expectStatus(await ask('POST', '/v1/auth/resend-verification', { email }), 200)
      expectStatus(await ask('POST', '/v1/auth/verify-email', { token: await mailedToken(email) }), 200)
      login = expectStatus(await ask('POST', '/v1/auth/login', credentials), 200)
    }
    const authorization = { authorization: `Bearer ${login.body.accessToken}` }
    const me = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) =>
      ask(method, path, body, { ...authorization, ...headers })
    expectStatus(await me('POST', '/v1/pin', { pin: PIN }), 201, 409)
    const opened = expectStatus(await me('POST', '/v1/wallets', { currency: 'USD' }), 201, 409)
    const walletId = opened.status === 201 ? opened.body.id : opened.body.walletId
    const wallet = expectStatus(await me('GET', `/v1/wallets/${walletId}`), 200).body
    return { me, wallet, fullName }
  }

  print('Demo: Alice and Bob sign up, verify their mail addresses, set a PIN and open wallets in USD ...')
  const alice = await meet('alice', 'Alice Smith')
  const bob = await meet('bob', 'Bob Brown')
  const run = randomUUID().slice(0, 8)
  // Tops up to 100 each time, so that any number of runs a day exceeds neither her limits nor the amount refused below.
  const has = BigInt(alice.wallet.balance.replace('.', ''))
  const wanted = has + SPENT < FULL ? FULL - has : SPENT
  const deposit = await alice.me(
    'POST',
    '/v1/deposits',
    { walletId: alice.wallet.id, amount: formatAmount(wanted, 'USD'), currency: 'USD' },
    { 'idempotency-key': `demo-deposit-${run}` },
  )
  expectStatus(deposit, 201)
  const { stepUpToken } = expectStatus(await alice.me('POST', '/v1/pin/verify', { pin: PIN }), 200).body

  const topics = await watchTopics(settings)
  const audit = openDatabase(settings.AUDIT_DATABASE_URL, { applicationName: 'demo', maxConnections: 1 })
  try {
    const key = `demo-transfer-${run}`
    const sentAt = Date.now()
    const sent = await alice.me(
      'POST',
      '/v1/transfers',
      { toWalletCode: bob.wallet.code, amount: '12.50', currency: 'USD', note: 'Lunch' },
      { 'idempotency-key': key, 'step-up-token': stepUpToken },
    )
    const answered = Date.now()
    const transfer = expectStatus(sent, 201).body
    const command = await topics.find('ledger.commands', transfer.id)
    const event = await topics.find('ledger.events', transfer.id)
    const completed = (await topics.decode(event)) as TransferCompleted
    const notification = await waitUntil(
      "Bob's notification",
      async () => {
        const { body } = await bob.me('GET', '/v1/notifications?limit=10')
        return body.items?.find((item: { transferId: string }) => item.transferId === transfer.id)
      },
      PATIENCE,
    )
    const record = await waitUntil(
      'the audit record',
      async () => {
        const [row] = await audit`
          select hash from audit.records
          where topic = 'ledger.events' and partition = ${event.partition} and record_offset = ${String(event.offset)}
          order by epoch desc limit 1`
        return row as { hash: Buffer } | undefined
      },
      PATIENCE,
    )
    const refused = await alice.me(
      'POST',
      '/v1/transfers',
      { toWalletCode: bob.wallet.code, amount: '999.00', currency: 'USD' },
      { 'idempotency-key': `demo-refused-${run}`, 'step-up-token': stepUpToken },
    )

    const after = (ms: number) => `+${Math.max(0, ms - sentAt)} ms`.padStart(8)
    const place = (incoming: IncomingRecord) => `partition ${incoming.partition}, offset ${incoming.offset}`
    const step = (when: string, where: string, what: string) => print(`  ${when}  ${where.padEnd(16)}${what}`)
    print(`\nThe way of one transfer, ${transfer.reference} (${transfer.id})`)
    step('   +0 ms', 'POST /v1/…', `Alice sends 12.50 USD to ${bob.wallet.code}, Idempotency-Key ${key}`)
    step(
      after(command.timestamp),
      'ledger.commands',
      `TransferRequested, ${place(command)}, key ${command.key}`,
    )
    step(
      after(completed.completedAt),
      'ledger',
      'one SQL transaction: balances, entries, transfer, event, offset',
    )
    for (const entry of completed.entries) {
      const code = entry.walletId === alice.wallet.id ? alice.wallet.code : bob.wallet.code
      const [amount, balance] = [entry.amountMinor, entry.balanceAfterMinor].map(minor =>
        formatAmount(minor, entry.currency),
      )
      step('        ', '', `  entry ${entry.sequence} of ${code}: ${amount} USD, balance ${balance} USD`)
    }
    step(
      after(event.timestamp),
      'ledger.events',
      `TransferCompleted, ${place(event)}, seq ${headerOf(event, 'seq')}`,
    )
    step(
      after(answered),
      '201 Created',
      `status ${transfer.status}, Alice's balance ${transfer.balanceAfter} USD`,
    )
    step('        ', 'notifier', `Bob reads "${notification.title}": ${notification.body}`)
    step('        ', 'audit', `record chained, SHA-256 ${record.hash.toString('hex').slice(0, 32)}…`)
    step('        ', 'trace', headerOf(event, 'traceparent') ?? 'none')
    print(
      `\nAnd one that is refused: ${expectStatus(refused, 402).status} ${refused.body.code}: ${refused.body.detail}`,
    )
    print('Nothing moved; asked again with the same key the answer is the same.')
  } finally {
    await topics.stop()
    await audit.end()
  }
  return { codes: { bob: bob.wallet.code } }
}

/** Consumes commands and events from their ends on, as any other team's consumer could. */
const watchTopics = async (settings: DemoSettings) => {
  const logger = createLogger('demo', { level: 'silent', instance: 'demo' })
  const client = createKafkaClient({ connection: settings.kafka, clientId: 'demo', logger })
  const codec = await createCodec(connectRegistry(settings.REGISTRY_URL))
  const records: IncomingRecord[] = []
  const consumer = await startConsumer({
    client,
    logger,
    groupId: `demo-${randomUUID()}`,
    topics: ['ledger.commands', 'ledger.events'],
    positions: (_assigned, readEnds) => readEnds(),
    handle: async batch => void records.push(...batch),
  })
  await waitUntil(
    'a place in the topics',
    async () => {
      consumer.check()
      return true
    },
    PATIENCE,
  )
  return {
    find: (topic: string, transferId: string): Promise<IncomingRecord> =>
      waitUntil(
        `the record in ${topic}`,
        async () =>
          records.find(record => record.topic === topic && headerOf(record, 'ce_subject') === transferId),
        PATIENCE,
      ),
    decode: async (record: IncomingRecord) => (await codec.decode(record.value)).value,
    stop: consumer.stop,
  }
}

/** Two lines to paste into a shell, with the demo's users. */
export const curlToTry = (gatewayUrl: string, toWalletCode: string): string =>
  [
    `TOKEN=$(curl -s ${gatewayUrl}/v1/auth/login -H 'content-type: application/json' -d '{"email":"alice@example.com","password":"${PASSWORD}"}' | sed 's/.*"accessToken":"\\([^"]*\\)".*/\\1/')`,
    `curl -i ${gatewayUrl}/v1/transfers -H "authorization: Bearer $TOKEN" -H 'content-type: application/json' -H "idempotency-key: try-$(date +%s)" -d '{"toWalletCode":"${toWalletCode}","amount":"1.00","currency":"USD","pin":"${PIN}"}'`,
  ].join('\n')

if (import.meta.main) {
  beginCommand(`usage: npm run demo

Moves money once through the running system, as two users would, and prints its path. It makes the users alice@example.com
and bob@example.com, a deposit of up to 100 USD and a transfer of 12.50 USD.

  --help  Writes this, and moves nothing.

Exit codes: 0 all steps went as they must, 2 wrong options or settings, 3 one did not, or the system is away.
Example: npm run demo`)
  const settings = loadConfig(
    {
      GATEWAY_URL: z.url(),
      MAIL_URL: z.url(),
      ...kafkaSettings,
      REGISTRY_URL: z.url(),
      AUDIT_DATABASE_URL: databaseUrl,
    },
    process.env,
  )
  const { codes } = await runDemo({ ...settings, kafka: kafkaConnectionOf(settings) }, console.log)
  console.log(`\nTry it:\n${curlToTry(settings.GATEWAY_URL, codes.bob)}`)
}
