// The ledger is killed repeatedly in the middle of its work: nothing is lost, nothing is applied twice.
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { headerOf } from '@pennywire/kafka/record.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import {
  type Answer,
  balanceOf,
  control,
  makePerson,
  openWallet,
  type Person,
  send,
  type Wallet,
} from './client.ts'

const { databaseUrls, env } = inject('system')
const { kafka } = inject('stack')
const CLIENTS = 24
const FUNDS_MINOR = 100_000n
/** One kill of each kind: each restart waits until Kafka removes the dead group member, so more would take too long. */
const WANTED_KILLS = { 'committed, not published': 1, 'read, not committed': 1 }
type Moment = keyof typeof WANTED_KILLS

let sql: Database
let people: Array<{ person: Person; wallet: Wallet }>

beforeAll(async () => {
  sql = openDatabase(databaseUrls.superuser, { applicationName: 'crash-test', maxConnections: 2 })
  people = await Promise.all(
    Array.from({ length: 6 }, async (_, index) => {
      const person = await makePerson(`Person ${index}`)
      return { person, wallet: await openWallet(person, 'USD', '1000') }
    }),
  )
})
afterAll(async () => {
  // The ledger must run for the other tests, even if this test failed while it was stopped.
  await control('ledger', 'SIGCONT')
  await sql.end()
})

/** Follows ledger.events: the greatest journal sequence seen per partition, and the next offset to read. */
const followEvents = async () => {
  const client = createKafkaClient({
    connection: kafka,
    clientId: 'crash-test',
    logger: createLogger('test', { level: 'silent', instance: 'test' }),
  })
  const published = new Map<number, bigint>()
  const readTo = new Map<number, bigint>()
  const consumer = await startConsumer({
    client,
    logger: createLogger('test', { level: 'silent', instance: 'test' }),
    groupId: `crash-test-${randomUUID()}`,
    topics: ['ledger.events'],
    positions: async (_assigned, readEnds) => (await readEnds()).map(end => ({ ...end, offset: end.first })),
    handle: async records => {
      for (const record of records) {
        const seq = BigInt(headerOf(record, 'seq')!)
        if (seq > (published.get(record.partition) ?? 0n)) published.set(record.partition, seq)
        readTo.set(record.partition, record.offset + 1n)
      }
    },
  })
  const admin = client.admin()
  await admin.connect()
  return {
    published,
    catchUp: () =>
      vi.waitFor(
        async () => {
          for (const { partition, high } of await admin.fetchTopicOffsets('ledger.events')) {
            if ((readTo.get(partition) ?? 0n) < BigInt(high)) throw new Error('not read to the end yet')
          }
        },
        { timeout: 20_000, interval: 10 },
      ),
    stop: async () => {
      await admin.disconnect()
      await consumer.stop()
    },
  }
}

/** The moments of its work in which the frozen ledger was stopped. */
const momentsOf = async (events: Awaited<ReturnType<typeof followEvents>>): Promise<Moment[]> => {
  // Wait until Postgres has executed the statements received before the freeze, then look for an open transaction. A
  // back end that waits for the rest of the frozen client's message is 'active', but does nothing.
  const open = await vi.waitFor(
    async () => {
      const rows = await sql<{ busy: boolean; open: boolean }[]>`
        select state = 'active' and wait_event_type is distinct from 'Client' as busy, xact_start is not null as open
        from pg_stat_activity where application_name = 'ledger-1' and state is not null`
      if (rows.some(({ busy }) => busy)) throw new Error('a statement is still running')
      return rows.some(({ open }) => open)
    },
    { timeout: 10_000, interval: 5 },
  )
  await events.catchUp()
  const written = await sql<{ partition: number; last: bigint }[]>`
    select partition, next_seq - 1 as last from ledger.partitions`
  const moments: Moment[] = []
  if (open) moments.push('read, not committed')
  if (written.some(({ partition, last }) => last > (events.published.get(partition) ?? 0n))) {
    moments.push('committed, not published')
  }
  return moments
}

test('X1, X2, O1: SIGKILL of the ledger under load, inside its work: every request ends once, the books are right', async () => {
  const events = await followEvents()
  const sent: Array<{ from: number; to: number; minor: bigint; key: string; answer: Answer | undefined }> = []
  let loading = true
  const load = Array.from({ length: CLIENTS }, async (_, client) => {
    for (let n = 0; loading; n++) {
      const from = (client + n) % people.length
      const to = (from + 1 + (n % (people.length - 1))) % people.length
      const request = {
        from,
        to,
        minor: BigInt((n % 900) + 1),
        key: randomUUID(),
        answer: undefined as Answer | undefined,
      }
      sent.push(request)
      const { person } = people[from]!
      // The answer may be lost: the outcome is then looked up by the key.
      request.answer = await send(
        person,
        people[to]!.wallet,
        formatAmount(request.minor, 'USD'),
        request.key,
        { headers: { prefer: 'wait=1' } },
      ).catch(() => undefined)
    }
  })

  const kills: Record<Moment, number> = { 'committed, not published': 0, 'read, not committed': 0 }
  const wanted = () =>
    (Object.keys(WANTED_KILLS) as Moment[]).filter(moment => kills[moment] < WANTED_KILLS[moment])
  let looks = 0
  while (wanted().length > 0) {
    expect(++looks, 'looks for the right moment').toBeLessThan(500)
    // A kill interrupts something only while transfers are being processed.
    const before = sent.length
    await vi.waitFor(() => expect(sent.length).toBeGreaterThan(before + CLIENTS), {
      timeout: 60_000,
      interval: 5,
    })
    await control('ledger', 'SIGSTOP')
    const moments = await momentsOf(events)
    if (!moments.some(moment => wanted().includes(moment))) {
      await control('ledger', 'SIGCONT')
      continue
    }
    await control('ledger', 'SIGKILL')
    for (const moment of moments) kills[moment]++
    await control('ledger', 'restart')
  }
  loading = false
  await Promise.all(load)
  console.log(`kills of the ledger: ${JSON.stringify(kills)}, after ${looks} looks, ${sent.length} requests`)

  // Every answer matches the outcome, and every accepted request is final.
  const balances = people.map(() => FUNDS_MINOR)
  for (const { from, to, minor, key, answer } of sent) {
    const accepted = answer !== undefined && [201, 202, 402].includes(answer.status)
    const found = await vi.waitFor(
      async () => {
        const now = await people[from]!.person.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
        if (now.status === 200 && !now.body.final) throw new Error(`${key} is still pending`)
        if (accepted && now.status !== 200) throw new Error(`${key} was accepted and is gone: ${now.status}`)
        return now
      },
      { timeout: 30_000, interval: 50 },
    )
    if (answer?.status === 201) expect(found.body).toEqual(answer.body)
    if (answer?.status === 402) expect(found.body.status).toBe('rejected')
    if (found.status === 200 && found.body.status === 'completed') {
      balances[from]! -= minor
      balances[to]! += minor
    }
  }
  for (const [index, { person, wallet }] of people.entries()) {
    const minor = BigInt((await balanceOf(person, wallet)).replace('.', ''))
    expect(minor, `balance of person ${index}`).toBe(balances[index])
  }

  await vi.waitFor(
    async () => {
      const [row] = await sql`
        select coalesce(sum(next_seq - 1 - published_through), 0)::int as unpublished
        from ledger.partitions join ledger.published using (partition)`
      expect(row!.unpublished).toBe(0)
    },
    { timeout: 20_000 },
  )
  await events.stop()
  const script = join(import.meta.dirname, '..', 'services', 'ledger', 'src', 'verify-books.ts')
  const verified = spawnSync(process.execPath, [script], { env: env.ledger, encoding: 'utf8' })
  expect(verified.stdout + verified.stderr).toContain('The books are right.')
  expect(verified.status).toBe(0)
}, 240_000)
