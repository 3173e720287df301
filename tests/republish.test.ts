// ledger.events is lost and recreated empty: the ledger stops what it cannot publish, the journal is published again, and
// nobody is told twice.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { createPublisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import { balanceOf, control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { kafka, kafkaEnv } = inject('stack')
const { opsUrls, env, databaseUrls } = inject('system')
const logger = createLogger('test', { level: 'silent', instance: 'test' })
const sql = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
const client = createKafkaClient({ connection: kafka, clientId: 'republish-test', logger })
const admin = client.admin()
const SERVICES = ['gateway', 'ledger', 'notifier', 'audit']

let alice: Person
let bob: Person
let wallets: { alice: Wallet; bob: Wallet }
beforeAll(async () => {
  await admin.connect()
  alice = await makePerson('Alice Smith')
  bob = await makePerson('Bob Brown')
  wallets = { alice: await openWallet(alice, 'USD', '100'), bob: await openWallet(bob, 'USD') }
  for (let payment = 0; payment < 20; payment++) await send(alice, wallets.bob, '0.10')
}, 60_000)
afterAll(async () => {
  for (const name of SERVICES.toReversed()) await control(name, 'restart').catch(() => {})
  await admin.disconnect()
  await sql.end()
}, 120_000)

const until = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 60_000, interval: 200 })
const run = (script: string, environment: Record<string, string>, ...args: string[]) =>
  new Promise<{ exitCode: number; out: string; err: string }>(resolve =>
    execFile(
      process.execPath,
      [join(import.meta.dirname, '..', script), ...args],
      { env: { ...process.env, ...environment } },
      (error, out, err) => resolve({ exitCode: Number(error?.code ?? 0), out, err }),
    ),
  )
const republish = (...args: string[]) => run('services/ledger/src/republish.ts', env.ledger, ...args)
const readiness = async () => {
  const response = await fetch(`${opsUrls.ledger}/readyz`)
  return (await response.json()) as { checks: { consumer: string } }
}

/** The first appearance of each event, with a digest of all that Kafka holds of it. */
const readEvents = async () => {
  const events = new Map<string, string>()
  const order: string[] = []
  await readTopic({
    client,
    logger,
    topic: 'ledger.events',
    handle: records => {
      for (const record of records) {
        const id = `${record.partition}/${headerOf(record, 'seq')}`
        const headers = record.headers.map(([name, value]) => `${name}=${value}`).toSorted()
        const text = createHash('sha256')
          .update(record.key ?? '')
          .update(record.value ?? '')
          .update(headers.join())
        if (!events.has(id)) order.push(id)
        events.set(id, events.get(id) ?? text.digest('hex'))
      }
    },
  })
  const inOrder = Map.groupBy(order, id => id.split('/')[0])
  return {
    events,
    inOrder: [...inOrder.values()].every(ids => ids.every((id, at) => id.endsWith(`/${at + 1}`))),
  }
}
const makeAnew = async () => {
  await admin.deleteTopics({ topics: ['ledger.events'] })
  await until(async () => expect(await admin.listTopics()).not.toContain('ledger.events'))
  const made = await run('packages/kafka/src/set-up.ts', {
    ...env.ledger,
    ...kafkaEnv.admin,
    KAFKA_ACCESS_LISTS: 'true',
  })
  expect(made).toMatchObject({ exitCode: 0 })
}
const beginEpoch = async () =>
  expect(
    await run(
      'services/audit/src/begin-epoch.ts',
      { MIGRATE_DATABASE_URL: databaseUrls.owner },
      ...['ledger.events', 'lost by a test'],
    ),
  ).toMatchObject({ exitCode: 0 })
/** Of these two alone: others may have wanted to be told nothing for a while, and have changed their minds. */
const toldOf = async () => {
  const users = sql`(${alice.id}, ${bob.id})`
  const [row] = await sql<[{ notices: number; deliveries: number; last: number }]>`
    select (select count(*)::int from notifier.notices where user_id in ${users}) as notices,
      (select count(*)::int from notifier.deliveries where user_id in ${users}) as deliveries,
      (select sum(last_seq)::int from notifier.inboxes where user_id in ${users}) as last`
  return row
}
const untilTold = () =>
  until(async () => {
    const ends = await admin.fetchTopicOffsets('ledger.events')
    const rows = await sql<{ partition: number; next: bigint }[]>`
      select partition, next_offset as next from notifier.positions where topic = 'ledger.events'`
    const next = new Map(rows.map(row => [row.partition, String(row.next)]))
    for (const { partition, high } of ends) if (high !== '0') expect(next.get(partition)).toBe(high)
  })

test('O1, O2, X1: an events topic that lost all is published again from the journal, the same to the byte; nobody is told twice', {
  timeout: 300_000,
}, async () => {
  await untilTold()
  const [before, told] = [await readEvents(), await toldOf()]
  for (const name of SERVICES) await control(name, 'stop')
  await makeAnew()

  const starting = control('ledger', 'restart').catch((error: Error) => error)
  await until(async () => {
    expect((await readiness()).checks.consumer).toMatch(
      /is halted: ledger\.events\/\d+ ends with seq 0, but seq \d+ was published; it was made anew or lost/,
    )
  })
  expect(await republish('--json')).toMatchObject({
    exitCode: 3,
    out: expect.stringMatching(
      /stop all ledgers first; with the ledger's role are connected: ledger-1|a ledger is running/,
    ),
  })
  expect(await republish('--check')).toMatchObject({
    exitCode: 1,
    out: expect.stringMatching(
      /^0 records of ledger\.events compared; \d+ events of the journal are missing$/m,
    ),
  })
  await control('ledger', 'stop')
  await starting

  const { exitCode, out, err } = await republish()
  expect(err).toBe('')
  expect(out).toMatch(/^\d+ events published in /m)
  expect(exitCode).toBe(0)
  const after = await readEvents()
  expect(after.inOrder).toBe(true)
  for (const [id, digest] of before.events) expect([id, after.events.get(id)]).toEqual([id, digest])
  // There is nothing left to do, and it does nothing.
  expect(await republish()).toMatchObject({ exitCode: 0, out: expect.stringContaining('0 events published') })

  await beginEpoch()
  for (const name of SERVICES.toReversed()) await control(name, 'restart')
  await untilTold()
  const { deliveries, ...notices } = await toldOf()
  expect(notices).toEqual({ notices: told.notices, last: told.last })
  expect(deliveries).toBe(told.deliveries)
  expect((await send(alice, wallets.bob, '1.00')).status).toBe(201)
  expect(await balanceOf(bob, wallets.bob)).toBe('3.00')
  await expectBooksToBeRight()
})

test('O1: a topic that holds another history is named and left as it is; so is one that lacks events in the middle', {
  timeout: 300_000,
}, async () => {
  for (const name of SERVICES) await control(name, 'stop')
  const records: IncomingRecord[] = []
  await readTopic({ client, logger, topic: 'ledger.events', handle: batch => void records.push(...batch) })
  const own = [...Map.groupBy(records, record => record.partition).values()].reduce((most, all) =>
    all.length > most.length ? all : most,
  )
  const { partition } = own[0]!
  const publisher = await createPublisher(client)
  const put = (chosen: IncomingRecord[], change: (value: Buffer) => Buffer = value => value) =>
    publisher.publishAll(
      chosen.map(({ key, value, headers }) => ({
        ...{ topic: 'ledger.events' as const, partition, key, value: change(value!) },
        headers: Object.fromEntries(headers.map(([name, text]) => [name, String(text)])),
      })),
    )
  await makeAnew()
  await put(own.slice(0, 1), value =>
    Buffer.concat([value.subarray(0, -1), Buffer.from([value.at(-1)! ^ 1])]),
  )
  const other = await republish()
  expect(other.out).toContain(
    `first difference: ledger.events/${partition} offset 0 seq 1: the journal holds another event: these are two histories`,
  )
  expect(other.exitCode).toBe(1)

  await makeAnew()
  await put(own.slice(0, 1))
  await put(own.slice(2, 3))
  const gap = await republish()
  expect(gap.out).toContain('it comes before the events from seq 2 on, which cannot be put in front of it')
  expect(gap.exitCode).toBe(1)

  await makeAnew()
  await put(own.slice(0, 2))
  expect(await republish()).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining('ledger.events holds every event'),
  })
  await publisher.stop()
  expect((await readEvents()).inOrder).toBe(true)
  await beginEpoch()
  for (const name of SERVICES.toReversed()) await control(name, 'restart')
  await untilTold()
  await expectBooksToBeRight()
})

test('the options of the commands are told, and unknown ones refused', async () => {
  expect(await republish('--help', '--check')).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining('usage: npm run'),
  })
  expect(await republish('--yes')).toMatchObject({ exitCode: 2, err: expect.stringContaining('usage:') })
  const restore = (...args: string[]) => run('services/ledger/src/restore-schemas.ts', env.ledger, ...args)
  expect(await restore('--help')).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining('usage: npm run'),
  })
  expect(await restore('--now')).toMatchObject({ exitCode: 2, err: expect.stringContaining('usage:') })
  expect(await restore()).toMatchObject({
    exitCode: 0,
    out: expect.stringMatching(/^0 schemas restored under their ids, \d+ were there/),
  })
  const drill = (...args: string[]) => run('tests/faults/drill.ts', {}, ...args)
  expect(await drill('--help', 'kafka-lost')).toMatchObject({
    exitCode: 0,
    out: expect.stringContaining('usage: npm run drill'),
  })
  for (const wrong of [[], ['kafka'], ['kafka-lost', 'database-behind'], ['kafka-lost', '--now']])
    expect(await drill(...wrong)).toMatchObject({
      exitCode: 2,
      out: '',
      err: expect.stringContaining('usage:'),
    })
})
