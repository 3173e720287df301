// The books rebuilt from the events alone in a database of their own, and compared with those that decided them.
import { randomBytes } from 'node:crypto'
import { frozenType } from '@pennywire/contracts/frozen-schemas.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { migrate } from '@pennywire/runtime/migrate.ts'
import postgres from 'postgres'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { TwoHistories } from './catch-up-books.ts'
import { compareBooks } from './compare-books.ts'
import { isOtherRequest } from './event-rows.ts'
import { NotEmpty, type RebuildDeps, rebuildBooks } from './rebuild-books.ts'
import { createDatabaseOf, dropDatabase, readHorizon } from './sql/rebuild.ts'
import { findBroken, readPartitions } from './sql/test-database.ts'
import { openTestLedger, type TestLedger } from './test-ledger.ts'
import { createTestLoad } from './test-load.ts'
import { MissingEvents } from './write-replayed.ts'

const { superuserUrl, registryUrl } = inject('stack')
const OWNER = 'pennywire_owner'
/** The last version of each event before it told all that the books hold. */
const OLDER = {
  ...{ TransferCompleted: 3, TransferRejected: 1, TransferReversed: 1, HoldEnded: 1, WalletOpened: 1 },
  ...{ WalletFrozen: 1, WalletUnfrozen: 1, WalletClosed: 1, WalletRenamed: 1, LimitChanged: 1 },
}

let codec: Codec
let ledger: TestLedger
let superuser: Database
let target: Database
let name: string
let url: string
beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  ledger = await openTestLedger(codec, superuserUrl)
  superuser = openDatabase(superuserUrl, { applicationName: 'test', maxConnections: 1 })
  name = `test_${randomBytes(8).toString('hex')}`
  await createDatabaseOf(superuser, name, OWNER)
  const own = new URL(superuserUrl)
  own.pathname = `/${name}`
  own.searchParams.set('role', OWNER)
  url = own.href
  target = openDatabase(url, { applicationName: 'test', maxConnections: 2 })
})
afterEach(async () => {
  await target.end()
  await dropDatabase(superuser, name)
  await superuser.end()
  await ledger.close()
})

const progressOf = () => ({ add: () => {}, end: () => {} })
/** A topic in memory, read in portions that mix the partitions; `stop` aborts after that many portions. */
const depsOf = (
  topic: () => IncomingRecord[],
  { live = ledger.sql, stop, seed = 0 }: { live?: Database | undefined; stop?: number; seed?: number } = {},
): RebuildDeps => {
  const stopped = new AbortController()
  let portions = 0
  return {
    ...{ target, live, codec, clock: systemClock, signal: stopped.signal, progressOf },
    migrate: () =>
      migrate({ url, schema: 'ledger', directory: new URL('./sql/migrations/', import.meta.url) }),
    readFrom: async (offsets, _onTotal, handle) => {
      const wanted = topic()
        .filter(({ partition, offset }) => offset >= (offsets.get(partition) ?? 0n))
        .toSorted((a, b) =>
          seed % 2 === 0
            ? b.partition - a.partition || Number(a.offset - b.offset)
            : Number(a.offset - b.offset),
        )
      for (let at = 0; at < wanted.length && !stopped.signal.aborted; at += 61) {
        await handle(wanted.slice(at, at + 61))
        if (++portions === stop) stopped.abort()
      }
    },
  }
}
const compare = async () =>
  compareBooks({
    ...{ live: ledger.sql, rebuilt: target, horizon: await readHorizon(target), progressOf },
    signal: new AbortController().signal,
    tells: async () => true,
  })

describe('the books from the events', () => {
  test.each(Array.from({ length: 10 }, (_, seed) => seed))(
    'are equal to the live ones, row by row, seed %i',
    { timeout: 60_000 },
    async seed => {
      const load = createTestLoad(ledger, codec, 100 + seed)
      await load.run(60)
      const rebuilt = await rebuildBooks(depsOf(() => load.topic, { seed }))
      expect(rebuilt?.events).toBe(load.topic.length)
      // The live books go on while they are compared.
      await load.run(10)
      const comparison = await compare()
      expect(comparison.named).toEqual([])
      expect(comparison).toMatchObject({ different: 0, untold: 0 })
      const rows = Object.fromEntries(comparison.tables.map(one => [one.table, one.rows]))
      expect(rows.journal).toBe(rebuilt?.events)
      for (const table of ['transfers', 'entries', 'wallets', 'commands', 'holds', 'limits'])
        expect([table, rows[table]! > 0]).toEqual([table, true])
      expect(await findBroken(target)).toBeUndefined()
      for (const { partition, nextSeq, publishedThrough, nextOffset } of await readPartitions(target)) {
        expect([partition, publishedThrough]).toEqual([partition, nextSeq - 1n])
        const last = load.topic.find(
          record => record.partition === partition && headerOf(record, 'seq') === String(nextSeq - 1n),
        )!
        expect(nextOffset).toBe(BigInt(headerOf(last, 'command_offset')!) + 1n)
      }
    },
  )

  test('stopped after each portion and run again they become the same', { timeout: 60_000 }, async () => {
    const load = createTestLoad(ledger, codec, 42)
    await load.run(60)
    let runs = 0
    let rebuilt: Awaited<ReturnType<typeof rebuildBooks>> = null
    while (rebuilt === null) {
      expect(runs++).toBeLessThan(60)
      rebuilt = await rebuildBooks(depsOf(() => load.topic, { stop: 1 }))
      // An event that is decided between two runs is in the next one.
      if (runs === 2) await load.run(2)
    }
    expect(runs).toBeGreaterThan(3)
    expect(rebuilt.events + rebuilt.resumed).toBe(load.topic.length)
    expect((await compare()).named).toEqual([])
  })

  test('two at once: one is refused, and the other one is right', async () => {
    const load = createTestLoad(ledger, codec, 49)
    await load.run(40)
    await rebuildBooks(depsOf(() => load.topic, { stop: 1 }))
    const both = await Promise.allSettled([
      rebuildBooks(depsOf(() => load.topic)),
      rebuildBooks(depsOf(() => load.topic)),
    ])
    const failed = both.filter(({ status }) => status === 'rejected')
    expect(failed.length).toBeGreaterThanOrEqual(1)
    if (failed.length === 2) await rebuildBooks(depsOf(() => load.topic))
    expect((await compare()).named).toEqual([])
  })

  test('events of older versions are read; what they do not tell is counted and named no difference', async () => {
    const load = createTestLoad(ledger, codec, 50)
    await load.run(60)
    const older = new Map(
      Object.entries(OLDER).map(
        ([name, version], index): [string, { id: number; type: ReturnType<typeof frozenType> }] => [
          `pennywire.ledger.${name}`,
          { id: 1_000_000 + index, type: frozenType(name, version) },
        ],
      ),
    )
    const registry = connectRegistry(registryUrl)
    const reading = await createCodec({
      ...registry,
      schemaOf: async id => [...older.values()].find(one => one.id === id)?.type ?? registry.schemaOf(id),
    })
    const topic = await Promise.all(
      load.topic.map(async record => {
        const { type, value } = await codec.decode(record.value)
        const before = older.get(type)
        if (!before) return record
        const prefix = Buffer.alloc(5)
        prefix.writeUInt32BE(before.id, 1)
        const bytes = Buffer.concat([prefix, before.type.toBuffer(value)])
        await ledger.superuser`
          update ledger.journal set bytes = ${bytes}
          where partition = ${record.partition} and seq = ${String(headerOf(record, 'seq'))}`
        return { ...record, value: bytes }
      }),
    )
    await rebuildBooks({ ...depsOf(() => topic), codec: reading })
    const comparison = await compareBooks({
      ...{ live: ledger.sql, rebuilt: target, horizon: await readHorizon(target), progressOf },
      signal: new AbortController().signal,
      tells: async (bytes, field) =>
        ![...older.values()].some(
          ({ id, type }) =>
            bytes.readUInt32BE(1) === id &&
            !(type as unknown as { fields: { name: string }[] }).fields.some(({ name }) => name === field),
        ),
    })
    expect(comparison.named).toEqual([])
    expect(comparison.untold).toBeGreaterThan(10)
    // A repeat of a command whose fingerprint is not told is answered, not refused.
    const [freeze] = await target<{ id: string; fingerprint: Buffer }[]>`
      select id, fingerprint from ledger.commands where fingerprint = '' limit 1`
    expect(isOtherRequest(freeze!, Buffer.alloc(16, 9))).toBe(false)
  })

  test('repeats in the topic change nothing; a repeat with other bytes is two histories', async () => {
    const load = createTestLoad(ledger, codec, 43)
    await load.run(30)
    const ends = Map.groupBy(load.topic, ({ partition }) => partition)
    const again = [...ends.values()].map(records => ({ ...records[2]!, offset: BigInt(records.length) }))
    const rebuilt = await rebuildBooks(depsOf(() => [...load.topic, ...again]))
    expect(rebuilt?.repeats).toBe(again.length)
    expect((await compare()).named).toEqual([])
  })

  test('a repeat with other bytes is two histories', async () => {
    const load = createTestLoad(ledger, codec, 44)
    await load.run(30)
    const records = load.topic.filter(({ partition }) => partition === 1)
    const value = Buffer.from(records[2]!.value!)
    value[value.length - 1]! ^= 1
    const forged = { ...records[2]!, value, offset: BigInt(records.length) }
    await expect(rebuildBooks(depsOf(() => [...load.topic, forged]))).rejects.toThrow(
      new TwoHistories('ledger.events/1 holds two different events with seq 3'),
    )
  })

  test('a topic that lacks an event is refused by name', async () => {
    const load = createTestLoad(ledger, codec, 45)
    await load.run(30)
    const topic = load.topic.filter(record => record.partition !== 2 || headerOf(record, 'seq') !== '3')
    await expect(rebuildBooks(depsOf(() => topic))).rejects.toThrow(
      new MissingEvents('ledger.events/2 goes on with seq 4 at offset 3; it does not hold 3 to 3'),
    )
  })

  test('every difference in every table is named by table, key and column', async () => {
    const load = createTestLoad(ledger, codec, 46)
    await load.run(60)
    await rebuildBooks(depsOf(() => load.topic))
    const live = ledger.superuser
    const [transfer] =
      await live`select id from ledger.transfers where status = 'completed' order by id limit 1`
    const [entry] = await live`select wallet_id, sequence from ledger.entries order by 1, 2 limit 1`
    const [hold] = await live`select id from ledger.holds order by id limit 1`
    const [command] = await live`select id from ledger.commands order by id desc limit 1`
    await live`update ledger.transfers set amount = amount + 1 where id = ${transfer!.id}`
    await live`update ledger.entries set amount = amount + 1
               where wallet_id = ${entry!.wallet_id} and sequence = ${entry!.sequence}`
    await live`update ledger.holds set amount = amount + 1 where id = ${hold!.id}`
    await live`delete from ledger.commands where id = ${command!.id}`
    await live`update ledger.journal set headers = '{}' where partition = 0 and seq = 1`
    const { named, different } = await compare()
    expect(different).toBe(5)
    expect(named.map(({ table, key, column }) => [table, key, column])).toEqual([
      ['journal', '0 1', 'headers'],
      ['commands', command!.id, null],
      ['transfers', transfer!.id, 'amount'],
      ['entries', `${entry!.wallet_id} ${entry!.sequence}`, 'amount'],
      ['holds', hold!.id, 'amount'],
    ])
    expect(named[1]).toMatchObject({ live: null, rebuilt: 'a row' })
  })

  test('a wallet or limit that was changed by hand before is found', async () => {
    const load = createTestLoad(ledger, codec, 47)
    await load.run(60)
    const live = ledger.superuser
    const [wallet] = await live`select id from ledger.wallets where user_id is not null order by id limit 1`
    const [limit] = await live`select wallet_id, action, source from ledger.limits order by 1, 2, 3 limit 1`
    await live`update ledger.wallets set balance = balance + 1, usage = '{1,2,3,4,5,6,7}' where id = ${wallet!.id}`
    await live`update ledger.limits set daily = 77
               where wallet_id = ${limit!.wallet_id} and action = ${limit!.action} and source = ${limit!.source}`
    await rebuildBooks(depsOf(() => load.topic))
    const { named } = await compare()
    expect(named.map(({ table, key, column }) => [table, key, column])).toEqual([
      ['wallets', wallet!.id, 'balance'],
      ['wallets', wallet!.id, 'usage'],
      ['limits', `${limit!.wallet_id} ${limit!.action} ${limit!.source}`, 'daily'],
    ])
  })

  test('live books that are behind their own events are refused', async () => {
    const load = createTestLoad(ledger, codec, 48)
    await load.run(20)
    await ledger.superuser`update ledger.partitions set next_seq = next_seq - 1 where partition = 1`
    await expect(rebuildBooks(depsOf(() => load.topic))).rejects.toThrow(
      'the live database is behind its own events in partition 1',
    )
  })

  test('a database that is neither empty nor a rebuild is refused', async () => {
    const sql = postgres(url, { max: 1, onnotice: () => {} })
    await sql`create schema somebodys`
    await sql.end()
    await expect(rebuildBooks(depsOf(() => []))).rejects.toThrow(
      new NotEmpty('the database is not empty (it has schema somebodys), and no rebuild of ours'),
    )
  })
})
