import { randomUUID } from 'node:crypto'
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { transferRequested, walletOpenRequested } from '@pennywire/contracts/test-records.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { NO_LIMITS } from '@pennywire/rules/limits.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { afterEach, beforeAll, beforeEach, expect, inject, test, vi } from 'vitest'
import { applyBatch } from './apply-batch.ts'
import { chargeFees } from './commands/test-fees.ts'
import { readPositions } from './sql/positions.ts'
import { postgresStore } from './sql/store.ts'
import { createLedgerDatabase, TAMPERINGS } from './sql/test-database.ts'
import { type BooksWatch, WATCHED, type Watched, watchBooks } from './watch-books.ts'

const { superuserUrl, registryUrl } = inject('stack')
const PARTITIONS = [0, 1]

let codec: Codec
let database: Awaited<ReturnType<typeof createLedgerDatabase>>
let watch: BooksWatch | undefined
let logged: string[]
let offsets: number[]

beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  database = await createLedgerDatabase(superuserUrl)
  logged = []
  offsets = [0, 0]
})
afterEach(async () => {
  await watch?.stop()
  watch = undefined
  await database.drop()
})

/** Two people with money who pay each other, one after the other, and one transfer that is refused. */
const decideSome = async () => {
  const sql = database.open()
  await readPositions(sql, PARTITIONS)
  const people = PARTITIONS.map(partition => {
    const userId = randomUUID()
    return { userId, partition, walletId: walletIdOf(userId, 'USD', 0) }
  })
  const [alice, bob] = people as [(typeof people)[0], (typeof people)[0]]
  const record = ({ partition, walletId }: typeof alice, value: Buffer) => ({
    topic: 'ledger.commands' as const,
    partition,
    offset: BigInt(offsets[partition]!++),
    timestamp: 0,
    key: Buffer.from(walletId),
    value,
    headers: [],
  })
  const move = (payer: typeof alice | null, payee: typeof alice, amountMinor: bigint) =>
    record(
      payer ?? payee,
      codec.encode(
        'pennywire.ledger.TransferRequested',
        transferRequested({
          type: payer ? 'transfer' : 'deposit',
          userId: (payer ?? payee).userId,
          fromWalletId: payer?.walletId ?? null,
          toWalletId: payee.walletId,
          amountMinor,
        }),
      ),
    )
  const opens = people.map(({ userId, walletId, ...at }) =>
    record(
      { userId, walletId, ...at },
      codec.encode('pennywire.ledger.WalletOpenRequested', walletOpenRequested({ walletId, userId })),
    ),
  )
  const { counts } = await applyBatch(
    {
      store: postgresStore(sql, sql),
      codec,
      limitDefaults: { unverified: () => NO_LIMITS, verified: () => NO_LIMITS },
      setAside: async () => {},
    },
    [
      ...opens,
      move(null, alice, 100n),
      move(null, bob, 100n),
      move(alice, bob, 30n),
      move(bob, alice, 130n),
      move(bob, alice, 10n),
    ],
  )
  expect(counts).toMatchObject({ completed: 4, rejected: 1, opened: 2, poison: 0 })
  await sql.end()
}

const start = (over: Partial<Parameters<typeof watchBooks>[0]> = {}) => {
  watch = watchBooks({
    sql: database.open(),
    logger: createLogger(
      'test',
      { level: 'warn', instance: 'test' },
      { write: (line: string) => void logged.push(line) },
    ),
    clock: systemClock,
    partitions: () => PARTITIONS,
    everyMs: 20,
    everyMsFull: 0,
    maxEvents: 2_000,
    ...over,
  })
}
const metric = async (name: string) => {
  const line = (await metricsText()).split('\n').find(line => line.startsWith(`pennywire_${name} `))
  return Number(line?.split(' ').at(-1))
}
const broken = async (): Promise<Watched[]> => {
  const text = await metricsText()
  return WATCHED.filter(promise => text.includes(`pennywire_ledger_books_broken{promise="${promise}"} 1`))
}
const checkedEvents = () => metric('ledger_books_checked_events_total')
const soon = { timeout: 10_000, interval: 20 }

test('right books stay right, and each event is looked at once', async () => {
  const before = await checkedEvents()
  start()
  await decideSome()
  await vi.waitFor(async () => expect((await checkedEvents()) - before).toBe(7), soon)
  await decideSome()
  await vi.waitFor(async () => expect((await checkedEvents()) - before).toBe(14), soon)
  // If earlier events were checked twice, the count would be higher.
  await decideSome()
  await vi.waitFor(async () => expect((await checkedEvents()) - before).toBe(21), soon)
  expect([await broken(), logged]).toEqual([[], []])
})

/** The promises that the check of new events must report for each corruption; a mark beyond the journal is no event. */
const SEEN_AT_ONCE: Record<string, Watched[]> = {
  'a balance': ['M2'],
  "an entry's amount": ['M1', 'M2'],
  "an entry's balance": ['M2'],
  'a removed entry': ['M1', 'M2'],
  'a removed transfer': ['O1'],
  'a removed event': ['O1'],
  'a mark beyond the journal': [],
}

test.each(TAMPERINGS)(
  '%s planted: raised at once and by the full check, with the first broken row',
  async (what, _promise, statement) => {
    await decideSome()
    await database.superuser.unsafe(statement)
    const expected = SEEN_AT_ONCE[what]!
    const before = await checkedEvents()
    start()
    await vi.waitFor(async () => expect(await checkedEvents()).toBeGreaterThan(before), soon)
    await vi.waitFor(async () => expect(await broken()).toEqual(expect.arrayContaining(expected)), soon)
    for (const promise of expected)
      expect(logged.join()).toMatch(new RegExp(`"level":"fatal".*"promise":"${promise}","broken":"[^"]+=`))
    await watch!.stop()

    logged = []
    start({ everyMs: 0, everyMsFull: 20 })
    await vi.waitFor(async () => expect((await broken()).length).toBeGreaterThan(0), soon)
    expect(logged.join()).toContain('the books are broken')
  },
)

test('M1: what came with a transfer is looked at with it', async () => {
  chargeFees(true)
  try {
    await decideSome()
  } finally {
    chargeFees(false)
  }
  await database.superuser`
    update ledger.entries set amount = amount - 1
    where amount < 0 and transfer_id in (select id from ledger.transfers where type = 'fee')`
  start()
  await vi.waitFor(async () => expect(await broken()).toEqual(expect.arrayContaining(['M1'])), soon)
  expect(logged.join()).toContain('a transfer and its entries differ')
})

test('what is mended is 0 again once all books were checked', async () => {
  await decideSome()
  await database.superuser`update ledger.wallets set balance = balance + 1 where user_id is not null`
  start({ everyMsFull: 20 })
  await vi.waitFor(async () => expect(await broken()).toContain('M1'), soon)
  await database.superuser`update ledger.wallets set balance = balance - 1 where user_id is not null`
  await vi.waitFor(async () => expect(await broken()).toEqual([]), soon)
})

test('more events than one look may take: the newest are looked at, the others counted', async () => {
  const [before, over] = [await checkedEvents(), await metric('ledger_books_passed_over_events_total')]
  await decideSome()
  start({ maxEvents: 2 })
  await vi.waitFor(async () => expect((await checkedEvents()) - before).toBe(2), soon)
  await decideSome()
  await vi.waitFor(async () => expect((await checkedEvents()) - before).toBe(4), soon)
  expect((await metric('ledger_books_passed_over_events_total')) - over).toBe(5)
})

test('a database that is away is asked again', async () => {
  start()
  await decideSome()
  await database.superuser`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'test'`
  const before = await checkedEvents()
  await decideSome()
  await vi.waitFor(async () => expect(await checkedEvents()).toBeGreaterThan(before), soon)
  expect(await broken()).toEqual([])
})
