// The consumers of examples/balances know from the events alone what the ledger knows, and report what is missing.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { canonicalSchema } from '@pennywire/contracts/schemas.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import avsc from 'avsc'
import { afterAll, beforeAll, describe, expect, inject, type TestContext, test, vi } from 'vitest'
import { makePerson, makeStaff, openWallet, type Person, send, type Wallet } from './client.ts'
import {
  type Example,
  LANGUAGES,
  type Language,
  prepareExample,
  type Running,
  startExample,
} from './consumers/examples.ts'

const { kafka, kafkaEnv, registryUrl } = inject('stack')
const root = join(import.meta.dirname, '..')
const INSTALL_WITHIN_MS = 600_000
const RUN_WITHIN_MS = 120_000
/** Each has a topic of its own, and mostly waits. */
const AT_ONCE = { timeout: RUN_WITHIN_MS, concurrent: true }

const installed = new Map<Language, Example>()
const client = createKafkaClient({
  connection: kafka,
  clientId: 'consumers-test',
  logger: createLogger('test', { level: 'silent', instance: 'test' }),
})
const admin = client.admin()
const producer = client.producer({ allowAutoTopicCreation: false })
let sql: Database

beforeAll(async () => {
  for (const language of LANGUAGES) installed.set(language, prepareExample(language))
  await Promise.all([admin.connect(), producer.connect()])
  sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
}, INSTALL_WITHIN_MS)
afterAll(() => Promise.all([admin.disconnect(), producer.disconnect(), sql.end()]))

/** Starts a language's consumer; skips the test, with the reason, where this machine cannot run it. */
const start = (
  { skip }: TestContext,
  language: Language,
  user: 'downstream' | 'admin',
  ...options: string[]
): Running => {
  const example = installed.get(language)!
  if ('missing' in example) return skip(`the consumer in ${language} is not tested: ${example.missing}`)
  return startExample(example, { ...kafkaEnv[user], REGISTRY_URL: registryUrl }, ...options)
}

describe('on ledger.events, as the user `downstream`', () => {
  type Row = { walletId: string; currency: string; balance: string; sequence: number }
  const readLedger = () => sql<Row[]>`
    select id as "walletId", currency, balance::text, sequence::int from ledger.wallets where sequence > 0`

  /** The balance that an entry left. */
  const readEntries = async (): Promise<Map<string, string>> => {
    const rows = await sql<{ entry: string; balance: string }[]>`
      select wallet_id || ' ' || sequence as entry, balance_after::text as balance from ledger.entries`
    return new Map(rows.map(({ entry, balance }) => [entry, balance]))
  }

  const post = async (person: Person, path: string, body: object, status = 201) => {
    const headers = { 'idempotency-key': randomUUID(), 'step-up-token': person.stepUp, prefer: 'wait=10' }
    const answer = await person.ask('POST', path, body, headers)
    expect([path, answer.status, answer.body]).toEqual([path, status, expect.anything()])
    return answer.body
  }

  let ours: { alice: Wallet; bob: Wallet; whale: string }

  beforeAll(async () => {
    const [alice, bob, moderator] = await Promise.all([
      makePerson('Alice Smith'),
      makePerson('Bob Brown'),
      makeStaff('admin'),
    ])
    const [from, to] = await Promise.all([openWallet(alice, 'USD', '500'), openWallet(bob, 'USD', '20')])
    // Both wallets receive from each other's partition, so their entries overtake each other.
    const sent = await Promise.all(
      Array.from({ length: 24 }, (_, index) =>
        index % 3 === 0 ? send(bob, from, '0.25') : send(alice, to, '1.10'),
      ),
    )
    expect(sent.map(({ status }) => status)).toEqual(sent.map(() => 201))
    expect((await send(alice, to, '490')).status).toBe(402)
    const hold = (amount: string) => post(alice, '/v1/holds', { toWalletId: to.id, amount, currency: 'USD' })
    const [captured, voided] = [await hold('40'), await hold('7')]
    await post(bob, `/v1/holds/${captured.id}/capture`, { amount: '15.50' })
    await post(bob, `/v1/holds/${voided.id}/void`, {}, 200)
    const reversal = { reason: 'Paid twice', amount: '0.60' }
    await post(moderator, `/v1/admin/transfers/${sent[1]!.body.id}/reversals`, reversal)
    const payout = { walletId: from.id, amount: '30.00', currency: 'USD', destination: 'bank' }
    await post(alice, '/v1/withdrawals', payout)
    // Nine million billion: the wallet of the outside world is as far below zero. Once on a stack that is kept.
    const [{ id: known } = { id: '' }] = await sql<{ id: string }[]>`
      select id from ledger.wallets where balance = 9000000000000000 and currency = 'UYW'`
    const whale = known || (await openWallet(await makePerson('Carla Gold'), 'UYW', '900000000000')).id
    ours = { alice: from, bob: to, whale }
    await vi.waitFor(
      async () => {
        const [row] = await sql<[{ unpublished: number }]>`
          select sum(next_seq - 1 - published_through)::int as unpublished
          from ledger.partitions join ledger.published using (partition)`
        expect(row.unpublished).toBe(0)
      },
      { timeout: 20_000, interval: 100 },
    )
  }, 60_000)

  test.for(LANGUAGES)(
    '%s: the balance of every wallet is the ledger’s, to the cent, and no entry is missing',
    { timeout: RUN_WITHIN_MS },
    async (language, context) => {
      const before = await readLedger()
      const { code, lines, errors } = await start(context, language, 'downstream', '--until-end').ended
      expect(errors.at(-1)).toMatch(/^\d+ records, \d+ wallets, \d+ entries, \d+ repeats, 0 missing$/)
      expect([code, errors.length]).toEqual([0, 1])
      const rows = lines.map(line => JSON.parse(line) as Row)
      const found = new Map(rows.map(row => [row.walletId, row]))
      expect(found.size).toBe(rows.length)
      const entries = await readEntries()
      const wrong = rows.filter(
        ({ walletId, sequence, balance }) => entries.get(`${walletId} ${sequence}`) !== balance,
      )
      expect(wrong).toEqual([])
      // Other files' payments may be settled meanwhile: a wallet may be further on, never behind.
      const behind = before.filter(
        ({ walletId, sequence, currency }) =>
          !((found.get(walletId)?.sequence ?? 0) >= sequence && found.get(walletId)!.currency === currency),
      )
      expect(behind).toEqual([])
      // 500 - 16 * 1.10 + 8 * 0.25 - 15.50 + 0.60 - 30, and 20 with the same of the other side.
      expect(found.get(ours.alice.id)).toMatchObject({ currency: 'USD', balance: '43950' })
      expect(found.get(ours.bob.id)).toMatchObject({ currency: 'USD', balance: '5050' })
      expect(found.get(ours.whale)).toMatchObject({ currency: 'UYW', balance: '9000000000000000' })
      expect(rows.filter(({ currency }) => currency === 'UYW').map(({ balance }) => balance)).toContain(
        '-9000000000000000',
      )
    },
  )
})

describe('docs/consume.md', () => {
  const page = readFileSync(join(root, 'docs', 'consume.md'), 'utf8')
  const blocks = (language: string) =>
    [...page.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)\`\`\`$`, 'gm'))].map(
      ([, block]) => block!,
    )

  test('the settings and the questions to the registry, pasted into one shell', async () => {
    const { KAFKA_BROKERS, KAFKA_SASL_PASSWORD_FILE } = kafkaEnv.downstream
    const script = blocks('bash')
      .join('\n')
      .replaceAll('127.0.0.1:19092', KAFKA_BROKERS!)
      .replaceAll('.pennywire/keys/kafka-downstream.password', KAFKA_SASL_PASSWORD_FILE!)
      .replaceAll('http://127.0.0.1:18081/apis/ccompat/v7', registryUrl)
    const consumer = join(root, 'examples', 'balances', 'typescript', 'balances.ts')
    const { stdout } = await promisify(execFile)(
      'bash',
      ['-euc', `${script}\necho\n'${process.execPath}' '${consumer}' --until-end`],
      { timeout: 60_000 },
    )
    expect(stdout).toMatch(/"schema":/)
    expect(stdout).toMatch(/\[1(,\d+)*\]/)
    expect(stdout).toMatch(
      /^\{"walletId":"[\w-]{36}","currency":"[A-Z]{3}","balance":"-?\d+","sequence":\d+\}$/m,
    )
  })

  test('the statements for a database: repeats, overtaking, and a wallet with missing entries', async () => {
    const statements = blocks('sql')
      .join('')
      .split(';')
      .map(statement => statement.trim())
      .filter(statement => statement !== '')
    expect(statements).toHaveLength(4)
    const [create, insert, balances, missing] = statements as [string, string, string, string]
    const [one, two] = [randomUUID(), randomUUID()].sort() as [string, string]
    await sql.begin(async tx => {
      await tx.unsafe(create.replace('create table', 'create temporary table'))
      const come: [string, number, number][] = [
        ...([
          [one, 2, 20],
          [one, 1, 10],
          [one, 2, 20],
          [two, 5, 5],
          [two, 1, 1],
        ] as [string, number, number][]),
      ]
      for (const [wallet, sequence, balance] of come)
        await tx.unsafe(insert, [wallet, sequence, 'USD', balance])
      const found = (await tx.unsafe(balances)).map(row => [row.wallet_id, Number(row.balance_minor)])
      expect(found).toEqual([
        [one, 20],
        [two, 5],
      ])
      const lacking = (await tx.unsafe(missing)).map(row => [row.wallet_id, Number(row.missing)])
      expect(lacking).toEqual([[two, 3]])
      await tx.unsafe('drop table pg_temp.entries')
    })
  })
})

describe('on a topic with everything that may come', () => {
  const TYPE = 'pennywire.ledger.TransferCompleted'
  /** Avro's long as a bigint, over the whole range that a reader in another language may meet. */
  const bigLong = avsc.types.LongType.__with({
    fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
    toBuffer: (value: bigint) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigInt64LE(value)
      return bytes
    },
    fromJSON: BigInt,
    toJSON: String,
    isValid: (value: unknown) => typeof value === 'bigint',
    compare: (a: bigint, b: bigint) => (a < b ? -1 : Number(a > b)),
  })
  type Schema = { fields: { name: string; type: { items?: Schema } }[] }
  const typeOf = (schema: object) =>
    avsc.Type.forSchema(schema as avsc.Schema, {
      typeHook: (at: unknown) =>
        at === 'long' || (at as { type?: unknown }).type === 'long' ? bigLong : undefined,
    })

  const today = JSON.parse(canonicalSchema(TYPE)) as Schema
  /** The next version: a field more in the record, and one in its entries, each in front and with a default. */
  const next = JSON.parse(canonicalSchema(TYPE)) as Schema
  const added = (name: string) => ({ name, type: 'string', default: '' }) as never
  next.fields.find(({ name }) => name === 'entries')!.type.items!.fields.unshift(added('addedToEntries'))
  next.fields.unshift(added('addedToRecord'))

  type Entry = [walletId: string, sequence: number, balance: bigint]
  type Version = { id: number; type: avsc.Type }
  const versions = new Map<'today' | 'next' | 'reversed', Version>()
  const topics: string[] = []

  /** Registers a schema under a subject of this test alone, so that no service meets it. */
  const register = async (schema: object): Promise<Version> => {
    const response = await fetch(`${registryUrl}/subjects/consumers-test-${randomUUID()}/versions`, {
      method: 'POST',
      headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
      body: JSON.stringify({ schema: JSON.stringify(schema) }),
    })
    expect(response.status).toBe(200)
    return { id: ((await response.json()) as { id: number }).id, type: typeOf(schema) }
  }

  beforeAll(async () => {
    versions.set('today', await register(today))
    versions.set('next', await register(next))
    const reversed = JSON.parse(canonicalSchema('pennywire.ledger.TransferReversed')) as object
    versions.set('reversed', await register(reversed))
  })
  afterAll(() => admin.deleteTopics({ topics }))

  const makeTopic = async (): Promise<string> => {
    const topic = `consumers-test-${randomUUID()}`
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: 3 }] })
    topics.push(topic)
    return topic
  }

  /** An event of these entries in the registry's wire format. */
  const event = (version: 'today' | 'next' | 'reversed', ...entries: Entry[]) => {
    const { id, type } = versions.get(version)!
    const payload = type.toBuffer({
      ...{ transferId: randomUUID(), type: 'transfer', userId: randomUUID(), amountMinor: 1n },
      ...{ originalId: randomUUID(), source: 'staff', originalAmountMinor: 1n, reversedMinor: 1n },
      ...{ currency: 'USD', fingerprint: Buffer.alloc(16), requestedAt: 1n, completedAt: 2n, linked: [] },
      ...{ fromWalletId: null, toWalletId: null, note: null, metadata: null, commandId: null },
      ...{ holdMinor: null, addedToRecord: 'of a later version' },
      entries: entries.map(([walletId, sequence, balance]) => ({
        ...{ walletId, userId: null, currency: 'USD', amountMinor: 1n, balanceAfterMinor: balance },
        ...{ sequence: BigInt(sequence), addedToEntries: 'of a later version' },
      })),
    })
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(id, 1)
    const ceType = version === 'reversed' ? 'pennywire.ledger.TransferReversed' : TYPE
    return { value: Buffer.concat([prefix, payload]), headers: { ce_type: ceType } }
  }
  const line = ([walletId, sequence, balance]: Entry) =>
    `{"walletId":"${walletId}","currency":"USD","balance":"${balance}","sequence":${sequence}}`
  const walletId = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
  const [a, b, c, d] = [walletId(1), walletId(2), walletId(3), walletId(4)]

  test.for(LANGUAGES)(
    '%s: repeats, overtaking, unknown types and fields, an older and a newer version, and longs of 64 bits',
    AT_ONCE,
    async (language, context) => {
      const topic = await makeTopic()
      const repeated = event('today', [a, 1, 100n], [b, 1, -100n])
      await producer.send({
        topic,
        messages: [
          { partition: 0, ...repeated },
          { partition: 0, ...event('next', [a, 4, 2n ** 63n - 1n], [b, 3, -(2n ** 63n)]) },
          { partition: 0, ...repeated },
          { partition: 1, ...event('today', [a, 2, 7n]) },
          { partition: 1, ...event('reversed', [a, 3, 2n ** 53n + 1n]) },
          { partition: 1, value: 'of no schema', headers: { ce_type: 'pennywire.ledger.NotYetKnown' } },
          { partition: 1, value: 'without an envelope' },
          { partition: 1, value: null, headers: { ce_type: TYPE } },
          { partition: 1, ...event('next', [b, 2, -5n], [c, 1, -(2n ** 52n) - 1n]) },
          { partition: 1, ...event('today', [c, 2, -(2n ** 53n) - 1n], [d, 1, 0n]) },
          { partition: 1, ...event('today') },
        ],
      })
      const { code, lines, errors } = await start(
        context,
        language,
        'admin',
        ...['--until-end', '--topic', topic],
      ).ended
      expect({ code, lines, errors }).toEqual({
        code: 0,
        lines: [
          line([a, 4, 9_223_372_036_854_775_807n]),
          line([b, 3, -9_223_372_036_854_775_808n]),
          line([c, 2, -9_007_199_254_740_993n]),
          line([d, 1, 0n]),
        ],
        errors: ['11 records, 4 wallets, 10 entries, 2 repeats, 0 missing'],
      })
    },
  )

  test.for(LANGUAGES)(
    '%s: a gap is reported by wallet, and the exit code is 1',
    AT_ONCE,
    async (language, context) => {
      const topic = await makeTopic()
      await producer.send({
        topic,
        messages: [
          { partition: 0, ...event('today', [a, 1, 100n], [b, 1, 1n]) },
          { partition: 1, ...event('today', [a, 2, 200n], [c, 3, 1n]) },
          { partition: 2, ...event('today', [b, 2, 2n], [b, 5, 5n]) },
        ],
      })
      const { code, lines, errors } = await start(
        context,
        language,
        'admin',
        ...['--until-end', '--topic', topic, '--wait', '1'],
      ).ended
      expect({ code, lines, errors }).toEqual({
        code: 1,
        lines: [line([a, 2, 200n]), line([b, 5, 5n]), line([c, 3, 1n])],
        errors: [
          `wallet ${b} lacks 2 of its first 5 entries, from 3 on`,
          `wallet ${c} lacks 2 of its first 3 entries, from 1 on`,
          '3 records, 3 wallets, 6 entries, 0 repeats, 4 missing',
        ],
      })
    },
  )

  test.for(LANGUAGES)(
    '%s: an entry that is under way at the end is waited for',
    // Alone, so that even a Java that compiles has reached the end when the entry comes.
    { timeout: RUN_WITHIN_MS },
    async (language, context) => {
      const topic = await makeTopic()
      const messages = [{ partition: 0, ...event('today', [a, 2, 200n]) }]
      await producer.send({ topic, messages })
      const running = start(context, language, 'admin', ...['--until-end', '--topic', topic, '--wait', '60'])
      let ended = false
      void running.ended.then(() => {
        ended = true
      })
      await new Promise(resolve => setTimeout(resolve, 6_000))
      expect(ended).toBe(false)
      await producer.send({ topic, messages: [{ partition: 2, ...event('today', [a, 1, 100n]) }] })
      const { code, lines, errors } = await running.ended
      expect({ code, lines, errors }).toEqual({
        code: 0,
        lines: [line([a, 2, 200n])],
        errors: ['2 records, 1 wallets, 2 entries, 0 repeats, 0 missing'],
      })
    },
  )

  test.for(LANGUAGES)(
    '%s: without --until-end it prints each newer balance, and what is missing when it is stopped',
    AT_ONCE,
    async (language, context) => {
      const topic = await makeTopic()
      const publish = (entry: Entry) =>
        producer.send({ topic, messages: [{ partition: 0, ...event('today', entry) }] })
      const running = start(context, language, 'admin', '--topic', topic)
      const shown = (...lines: string[]) =>
        vi.waitFor(() => expect(running.lines()).toEqual(lines), { timeout: 60_000, interval: 100 })
      await publish([a, 1, 1n])
      await shown(line([a, 1, 1n]))
      await publish([a, 3, 3n])
      await publish([a, 2, 2n])
      await publish([a, 5, 5n])
      const all = [line([a, 1, 1n]), line([a, 3, 3n]), line([a, 5, 5n])]
      await shown(...all)
      running.stop()
      expect(await running.ended).toEqual({
        code: 1,
        lines: all,
        errors: [
          `wallet ${a} lacks 1 of its first 5 entries, from 4 on`,
          '4 records, 1 wallets, 4 entries, 0 repeats, 1 missing',
        ],
      })
    },
  )

  test.for(LANGUAGES)(
    '%s: bytes that are no record, no such topic, no right and a wrong option end with 2 and the reason',
    AT_ONCE,
    async (language, context) => {
      const topic = await makeTopic()
      const broken = { value: Buffer.from([1, 0, 0, 0, 0, 1, 2]), headers: { ce_type: TYPE } }
      await producer.send({ topic, messages: [{ partition: 0, ...broken }] })
      const options = ['--until-end', '--topic']
      const ends = await Promise.all(
        [
          start(context, language, 'admin', ...options, topic),
          start(context, language, 'downstream', ...options, topic),
          start(context, language, 'admin', '--until-en'),
          start(context, language, 'admin', '--wait', 'x'),
        ].map(({ ended }) => ended),
      )
      expect(ends.map(({ code, lines }) => [code, lines])).toEqual(ends.map(() => [2, []]))
      for (const { errors } of ends.slice(0, 2)) expect(errors.join('\n')).toContain(topic)
      for (const { errors } of ends.slice(2)) expect(errors.join('\n')).toMatch(/usage:.*--until-end/s)
    },
  )
})
