// The kit as another team uses it: its own Postgres client with default types, and events in the registry's wire format.
import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import type avsc from 'avsc'
import postgres from 'postgres'
import { afterAll, afterEach, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { SCHEMAS } from './generated/events.ts'
import {
  exactType,
  fromRegistry,
  migrate,
  type PennywireEvent,
  pruneInbox,
  type RunningConsumer,
  readBalances,
  readDeadLetters,
  readGaps,
  startConsumer,
  type Trouble,
  UnusableEvent,
} from './index.ts'

const { superuserUrl, kafka, registryUrl } = inject('stack')
const COMPLETED = 'pennywire.ledger.TransferCompleted'
const OPENED = 'pennywire.ledger.WalletOpened'
const logger = createLogger('test', { level: 'silent', instance: 'test' })
const client = createKafkaClient({ connection: kafka, clientId: 'kit-test', logger })
const admin = client.admin()
const producer = client.producer({ allowAutoTopicCreation: false })
const types = new Map<string, { id: number; type: avsc.Type }>()

const database = `kit_${randomBytes(6).toString('hex')}`
const databaseUrl = Object.assign(new URL(superuserUrl), { pathname: `/${database}` }).href
const server = postgres(superuserUrl, { max: 1 })
let sql: postgres.Sql
const running: RunningConsumer[] = []

beforeAll(async () => {
  await Promise.all([admin.connect(), producer.connect(), server`create database ${server(database)}`])
  for (const name of [COMPLETED, OPENED] as const) {
    const answer = await fetch(`${registryUrl}/subjects/kit-test-${randomUUID()}/versions`, {
      method: 'POST',
      headers: { 'content-type': 'application/vnd.schemaregistry.v1+json' },
      body: JSON.stringify({ schema: JSON.stringify(SCHEMAS[name]) }),
    })
    const { id } = (await answer.json()) as { id: number }
    types.set(name, { id, type: exactType(SCHEMAS[name]) })
  }
  sql = postgres(databaseUrl, { onnotice: () => {} })
  await sql`create table effects (n bigint generated always as identity, id text not null)`
})
afterEach(async () => {
  await Promise.all(running.splice(0).map(consumer => consumer.stop()))
  await sql`truncate effects restart identity`
})
afterAll(async () => {
  await sql.end()
  await server`drop database ${server(database)} with (force)`
  await Promise.all([server.end(), admin.disconnect(), producer.disconnect()])
})

const framed = (name: string, value: object) => {
  const { id, type } = types.get(name)!
  const prefix = Buffer.alloc(5)
  prefix.writeUInt32BE(id, 1)
  return Buffer.concat([prefix, type.toBuffer(value)])
}
type Entry = [walletId: string, sequence: number, balance: bigint]
const transfer = (transferId: string, ...entries: Entry[]) => ({
  headers: { ce_type: COMPLETED },
  value: framed(COMPLETED, {
    ...{ transferId, type: 'transfer', userId: randomUUID(), fromWalletId: null, toWalletId: null },
    ...{ amountMinor: 1n, currency: 'USD', fingerprint: Buffer.alloc(16), requestedAt: 1, completedAt: 2 },
    ...{ note: null, metadata: null, commandId: null, holdMinor: null, linked: [] },
    entries: entries.map(([walletId, sequence, balance]) => ({
      ...{ walletId, userId: null, currency: 'USD', amountMinor: 1n, balanceAfterMinor: balance, sequence },
    })),
  }),
})
const opened = (commandId: string) => ({
  headers: { ce_type: OPENED },
  value: framed(OPENED, {
    ...{ commandId, walletId: randomUUID(), code: 'PW-7K3M9Q2B', userId: randomUUID(), currency: 'USD' },
    ...{ sequence: 0, openedAt: 1, tier: null },
  }),
})
const ids = (count: number) => Array.from({ length: count }, (_, index) => `transfer-${index}`)

/** A topic, and a schema with the kit's tables, of a test's own. */
const setUp = async (numPartitions = 1) => {
  const topic = `kit-test-${randomUUID()}`
  const schema = `kit_${randomBytes(6).toString('hex')}`
  await Promise.all([
    admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions }] }),
    migrate(sql, schema),
  ])
  const publish = (messages: object[], partition = 0) =>
    producer.send({ topic, messages: messages.map(message => ({ partition, ...message })) as never })
  return {
    topic,
    schema,
    publish,
    options: { kafka: kafka as never, groupId: `kit-${topic}`, topics: [topic], schema },
  }
}

type Options = Parameters<typeof startConsumer>[0]
const effect = async ({ id }: PennywireEvent, tx: postgres.TransactionSql) => {
  await tx`insert into effects (id) values (${id})`
}
const start = async (options: Omit<Options, 'schemas' | 'sql' | 'handle'> & Partial<Options>) => {
  const consumer = await startConsumer({
    schemas: fromRegistry(registryUrl),
    sql,
    handle: effect,
    ...options,
  })
  running.push(consumer)
  return consumer
}
const effects = async () =>
  (await sql<{ id: string }[]>`select id from effects order by n`).map(({ id }) => id)
const shown = (wanted: string[]) =>
  vi.waitFor(async () => expect(await effects()).toEqual(wanted), { timeout: 40_000, interval: 50 })

test('each event has its effect once, however often it comes; types that are unknown are passed over', async () => {
  const { publish, options } = await setUp()
  const [a, b, c] = ids(3)
  await publish([
    transfer(a!),
    transfer(a!),
    { value: 'of no schema', headers: { ce_type: 'pennywire.ledger.NotYetKnown' } },
    { value: 'without an envelope' },
    { value: null, headers: { ce_type: COMPLETED } },
    opened(b!),
    transfer(a!),
  ])
  const consumer = await start(options)
  await shown([a!, b!])
  await publish([transfer(b!), transfer(c!)])
  await shown([a!, b!, c!])
  consumer.check()
  await consumer.stop()
  await start(options)
  await publish([transfer(c!), transfer('last')])
  await shown([a!, b!, c!, 'last'])
})

test('a crash between the effect and its commit: the effect is there once', async () => {
  const { publish, options } = await setUp()
  await publish(ids(20).map(id => transfer(id)))
  for (const killAt of [1, 7]) {
    const settings = { ...options, databaseUrl, registryUrl, killAt, sessionMs: 6_000 }
    const file = join(import.meta.dirname, 'test-crash-after-effect.ts')
    const child = spawn(process.execPath, [file, JSON.stringify(settings)], { stdio: 'inherit' })
    const [, signal] = await once(child, 'exit')
    expect(signal).toBe('SIGKILL')
    expect(await effects()).toEqual([])
  }
  await start(options)
  await shown(ids(20))
}, 120_000)

test('a connection that breaks before the commit: the event is handled again, and its effect is there once', async () => {
  const { publish, options } = await setUp()
  await publish(ids(3).map(id => transfer(id)))
  let broken = 0
  await start({
    ...options,
    handle: async (event, tx) => {
      await effect(event, tx)
      if (event.id === 'transfer-1' && broken++ < 2) {
        const [row] = await tx<[{ pid: number }]>`select pg_backend_pid() as pid`
        await server`select pg_terminate_backend(${row.pid})`
      }
    },
  })
  await shown(ids(3))
})

test('two instances share the partitions; each effect is there once while they come and go', async () => {
  const { publish, options } = await setUp(4)
  const all = ids(400)
  const send = (from: number, to: number) =>
    Promise.all(
      [0, 1, 2, 3].map(p =>
        publish(
          all
            .slice(from, to)
            .filter((_, n) => n % 4 === p)
            .map(id => transfer(id)),
          p,
        ),
      ),
    )
  const handledBy = [new Set<number>(), new Set<number>()]
  const instance = (n: number) =>
    start({
      ...options,
      handle: async (event, tx) => {
        handledBy[n]!.add(event.partition)
        await effect(event, tx)
        await new Promise(resolve => setTimeout(resolve, 5))
      },
    })
  const first = await instance(0)
  await send(0, 100)
  await instance(1)
  await send(100, 300)
  await vi.waitFor(async () => expect(handledBy[1]!.size).toBeGreaterThan(0), {
    timeout: 40_000,
    interval: 50,
  })
  await first.stop()
  await send(300, 400)
  await vi.waitFor(async () => expect((await effects()).length).toBeGreaterThanOrEqual(400), {
    timeout: 60_000,
    interval: 100,
  })
  expect((await effects()).toSorted()).toEqual(all.toSorted())
  expect(handledBy[0]!.size).toBeGreaterThan(0)
}, 120_000)

describe('records that cannot be handled', () => {
  const poison = {
    value: Buffer.from([1, 2, 3]),
    headers: { ce_type: COMPLETED, odd: Buffer.from([255, 0]) },
    key: 'k',
  }

  test('go to the table as received, and to a topic of the team; the partition goes on', async () => {
    const { topic, schema, publish, options } = await setUp()
    const troubles: Trouble[] = []
    const published: string[] = []
    await publish([transfer('before'), poison, transfer('refused'), transfer('after')])
    await start({
      ...options,
      onTrouble: trouble => troubles.push(trouble),
      publishDeadLetter: async ({ offset }, reason) => void published.push(`${offset} ${reason}`),
      handle: async (event, tx) => {
        await effect(event, tx)
        if (event.id === 'refused') throw new UnusableEvent('not for us')
      },
    })
    await shown(['before', 'after'])
    const letters = await readDeadLetters(sql, schema)
    expect(letters.map(({ offset, reason }) => [offset, reason])).toEqual([
      [1n, 'not in the registry’s wire format'],
      [2n, 'not for us'],
    ])
    expect(letters[0]).toMatchObject({ topic, partition: 0, key: Buffer.from('k'), value: poison.value })
    expect(letters[0]!.headers.odd).toEqual(['ff00'])
    expect(new Set(published)).toEqual(new Set(['1 not in the registry’s wire format', '2 not for us']))
    expect(
      troubles
        .filter(({ kind }) => kind === 'set aside')
        .map(({ offset }) => offset)
        .sort(),
    ).toEqual([1n, 2n])
  })

  test('are handled once the cause is mended, once; those that fail again stay', async () => {
    const { schema, publish, options } = await setUp()
    await publish([transfer('refused'), poison])
    let mended = false
    const consumer = await start({
      ...options,
      handle: async (event, tx) => {
        if (!mended) throw new UnusableEvent('not yet')
        await effect(event, tx)
      },
    })
    await vi.waitFor(async () => expect((await readDeadLetters(sql, schema)).length).toBe(2), {
      timeout: 40_000,
    })
    expect(await consumer.retryDeadLetters()).toEqual({ done: 0, failed: 2 })
    mended = true
    expect(await consumer.retryDeadLetters()).toEqual({ done: 1, failed: 1 })
    expect(await consumer.retryDeadLetters()).toEqual({ done: 0, failed: 1 })
    await publish([transfer('refused'), transfer('next')])
    await shown(['refused', 'next'])
  })

  test('any other error: the record waits with its partition alone, and check says why; or is set aside after so many', async () => {
    const { publish, options, schema } = await setUp(2)
    await publish([transfer('stuck'), transfer('behind')], 0)
    await publish([transfer('elsewhere')], 1)
    let fails = true
    const handle: Options['handle'] = async (event, tx) => {
      if (event.id === 'stuck' && fails) throw new Error('the shop is closed')
      await effect(event, tx)
    }
    const consumer = await start({ ...options, handle })
    await vi.waitFor(
      () => expect(() => consumer.check()).toThrow(/\/0 waits at offset 0: the shop is closed/),
      {
        timeout: 40_000,
      },
    )
    fails = false
    await vi.waitFor(
      async () => expect((await effects()).toSorted()).toEqual(['behind', 'elsewhere', 'stuck']),
      {
        timeout: 40_000,
      },
    )
    consumer.check()
    await consumer.stop()
    fails = true
    await publish([transfer('stuck again')], 0)
    await start({
      ...options,
      setAsideAfter: 3,
      handle: async () => {
        throw new Error('always')
      },
    })
    await vi.waitFor(
      async () =>
        expect((await readDeadLetters(sql, schema)).map(({ reason }) => reason)).toEqual(['always']),
      { timeout: 40_000 },
    )
  })
})

describe('replay', () => {
  test('from an offset, from a time: what was handled is passed over, or handled again where that is asked', async () => {
    const { topic, schema, publish, options } = await setUp()
    await publish(ids(3).map(id => transfer(id)))
    const published = Date.now()
    // A record of this millisecond would count as one of the moment.
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(published))
    const moment = new Date()
    await publish([transfer('late'), transfer('later')])
    const consumer = await start(options)
    const all = [...ids(3), 'late', 'later']
    await shown(all)
    await consumer.replay(topic, 'first')
    await publish([transfer('mark')])
    await shown([...all, 'mark'])
    await consumer.replay(topic, new Map([[0, 2n]]), { again: true })
    await shown([...all, 'mark', 'transfer-2', 'late', 'later', 'mark'])
    await sql`truncate effects`
    await consumer.replay(topic, moment, { again: true })
    await shown(['late', 'later', 'mark'])
    expect(await pruneInbox(sql, schema, new Date())).toBe(6)
  })

  test('reaches an instance that did not ask for it, while the topic is quiet', async () => {
    const { topic, publish, options } = await setUp(1)
    await publish([transfer('one')])
    await start(options)
    await shown(['one'])
    // In the group it has no partition; its replay is for the one that has.
    const idle = await start(options)
    await vi.waitFor(() => idle.check(), { timeout: 40_000 })
    await idle.replay(topic, 'first', { again: true })
    await shown(['one', 'one'])
  })

  test('a new consumer begins at the end, or at a time', async () => {
    const { publish, options } = await setUp()
    await publish([transfer('old')])
    const consumer = await start({ ...options, begin: 'end' })
    await vi.waitFor(() => consumer.check(), { timeout: 40_000 })
    await publish([transfer('new')])
    await shown(['new'])
  })
})

test('balances by sequence, with longs of 64 bits; a gap is named until it closes', async () => {
  const { schema, publish, options } = await setUp(2)
  const [w, v] = [randomUUID(), randomUUID()].toSorted() as [string, string]
  await publish([transfer('1', [w, 1, 1n], [v, 1, -1n]), transfer('3', [w, 3, 2n ** 53n + 1n])], 0)
  await publish([transfer('4', [w, 4, 2n ** 63n - 1n], [v, 2, -(2n ** 53n) - 1n])], 1)
  await start({ ...options, keepBalances: true, types: [OPENED] })
  const balances = [
    { walletId: w, currency: 'USD', balance: 2n ** 63n - 1n, sequence: 4 },
    { walletId: v, currency: 'USD', balance: -(2n ** 53n) - 1n, sequence: 2 },
  ]
  await vi.waitFor(async () => expect(await readBalances(sql, schema)).toEqual(balances), { timeout: 40_000 })
  await vi.waitFor(
    async () => expect(await readGaps(sql, schema)).toEqual([{ walletId: w, missing: 1, upTo: 4, from: 2 }]),
    { timeout: 40_000 },
  )
  await publish([transfer('2', [w, 2, 5n])], 1)
  await vi.waitFor(async () => expect(await readGaps(sql, schema)).toEqual([]), { timeout: 40_000 })
  expect(await readBalances(sql, schema)).toEqual(balances)
  // Only balances were kept of the transfers: they are no event of the types that it handles.
  expect(await effects()).toEqual([])
})

test('pause keeps records waiting, resume and stop are orderly', async () => {
  const { publish, options } = await setUp()
  await publish([transfer('a')])
  const consumer = await start(options)
  await shown(['a'])
  consumer.pause()
  await publish([transfer('b')])
  // Another group reads it meanwhile, from the topic's beginning.
  const seen: string[] = []
  const { options: others } = await setUp()
  await start({
    ...others,
    topics: options.topics,
    handle: async ({ id }) => {
      seen.push(id)
    },
  })
  await vi.waitFor(() => expect(seen).toHaveLength(2), { timeout: 20_000 })
  expect(await effects()).toEqual(['a'])
  consumer.resume()
  await shown(['a', 'b'])
  let [started, ended] = [0, 0]
  const { publish: publishMore, options: more } = await setUp()
  const slow = await start({
    ...more,
    handle: async (event, tx) => {
      started++
      await new Promise(resolve => setTimeout(resolve, 500))
      await effect(event, tx)
      ended++
    },
  })
  await publishMore([transfer('slow')])
  await vi.waitFor(() => expect(started).toBe(1), { timeout: 40_000, interval: 20 })
  await slow.stop()
  expect(ended).toBe(1)
  expect(await effects()).toEqual(['a', 'b', 'slow'])
})

test('without its tables, or without the topic, it does not start and says why', async () => {
  const { options } = await setUp()
  await expect(start({ ...options, schema: 'nowhere' })).rejects.toThrow(/nowhere.positions/)
  await expect(start({ ...options, topics: ['no-such-topic'] })).rejects.toThrow()
  await expect(start({ ...options, schema: 'a"b' })).rejects.toThrow(/must be of a-z/)
})
