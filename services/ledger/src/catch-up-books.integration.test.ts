// Catch-up against real databases: books that lack events become the books that have them, without a decision.
import type { Codec } from '@pennywire/kafka/codec.ts'
import { connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { headerOf } from '@pennywire/kafka/record.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { applyBatch } from './apply-batch.ts'
import { type CatchUpDeps, catchUpBooks, TwoHistories } from './catch-up-books.ts'
import { postgresStore } from './sql/store.ts'
import { createLedgerDatabase, dumpBooks, findBroken, readPartitions } from './sql/test-database.ts'
import type { JournalRow } from './store.ts'
import { limitsOf, openTestLedger, type TestLedger } from './test-ledger.ts'
import { createTestLoad, recordOf } from './test-load.ts'
import { MissingEvents } from './write-replayed.ts'

const { superuserUrl, registryUrl } = inject('stack')

let codec: Codec
let ledger: TestLedger
let behind: Awaited<ReturnType<typeof createLedgerDatabase>>
let sql: Database
beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  ledger = await openTestLedger(codec, superuserUrl)
  behind = await createLedgerDatabase(superuserUrl)
  sql = behind.open()
})
afterEach(async () => {
  await sql.end()
  await behind.drop()
  await ledger.close()
})

/** Reads from in-memory topics, in portions that mix the partitions. */
const depsOf = (
  topic: () => IncomingRecord[],
  commands: IncomingRecord[],
  more: Partial<CatchUpDeps> = {},
): CatchUpDeps => ({
  store: postgresStore(sql, sql),
  codec,
  readTails: async (partitions, count) =>
    new Map(
      partitions.map(partition => {
        const records = topic().filter(record => record.partition === partition)
        const events = records
          .slice(-count)
          .map(record => ({ seq: BigInt(headerOf(record, 'seq')!), value: record.value! }))
        return [partition, { events, whole: records.length <= count }]
      }),
    ),
  readEvents: async (from, whole, handle) => {
    // The last partition comes first: ends come before their holds, entries before the wallets are opened.
    const wanted = topic()
      .filter(record => whole || BigInt(headerOf(record, 'seq')!) >= (from.get(record.partition) ?? 1n) - 3n)
      .toSorted((a, b) => b.partition - a.partition || Number(a.offset - b.offset))
    for (let at = 0; at < wanted.length; at += 17) await handle(wanted.slice(at, at + 17))
  },
  readCommands: async at => commands.filter(record => at.get(record.partition) === record.offset),
  ...more,
})

/**
 * No event tells of a system wallet without entries, or when one was made. Nothing used is written in two forms.
 */
const comparable = (dump: string): string[] =>
  dump
    .split('\n')
    .filter(row => !/^wallets \([^,]*,,(external|suspense):[^,]*,,USD,active,,0,0,0,/.test(row))
    .map(row =>
      row
        .replace(/^(wallets \([^,]*,,(?:external|suspense):(?:[^,]*,){8})"[^"]*"/, '$1')
        .replace('"{0,0,0,0,0,0,0}"', '{}'),
    )
    .toSorted()

const expectEqual = async () => {
  expect(comparable(await dumpBooks(sql))).toEqual(comparable(await dumpBooks(ledger.sql)))
  expect(await findBroken(sql)).toBeUndefined()
  const [own, theirs] = [await readPartitions(sql), await readPartitions(ledger.sql)]
  for (const { partition, nextSeq } of theirs)
    expect(own.find(row => row.partition === partition)).toMatchObject({ nextSeq })
}

describe('catch-up', () => {
  test.each(Array.from({ length: 12 }, (_, seed) => seed))(
    'M1, M2, X1, O1: books that lack events become equal to those that have them, seed %i',
    { timeout: 60_000 },
    async seed => {
      const load = createTestLoad(ledger, codec, seed)
      let published = 0
      const deps = depsOf(() => load.topic.slice(0, published), load.commands)
      for (let round = 0; round < 3; round++) {
        await load.run(25)
        published = load.topic.length
        const result = await catchUpBooks(deps)
        expect(result.events).toBeGreaterThan(10)
        await expectEqual()
        const marks = await readPartitions(sql)
        for (const { partition, nextSeq, publishedThrough } of marks.filter(row => row.nextSeq > 1n))
          expect([partition, publishedThrough]).toEqual([partition, nextSeq - 1n])
      }
    },
  )

  test('X1: afterwards every command that has an event is answered by it, and none is decided again', async () => {
    const load = createTestLoad(ledger, codec, 77)
    await load.run(40)
    await catchUpBooks(depsOf(() => load.topic, load.commands))
    const before = await dumpBooks(sql)
    const positions = await readPartitions(sql)
    const limits = limitsOf({})
    const again = async (records: IncomingRecord[]) =>
      applyBatch(
        { store: postgresStore(sql, sql), codec, limitDefaults: limits, setAside: async () => {} },
        records,
      )
    // From where deciding goes on: what follows there are repeats.
    const rest = load.commands.filter(
      ({ partition, offset }) => offset >= positions.find(row => row.partition === partition)!.nextOffset,
    )
    expect((await again(rest)).events).toEqual([])
    // And the whole topic under a new epoch: nothing but the repeats of answers.
    expect(await dumpBooks(sql)).toBe(before)
    for (const { partition, nextOffset } of positions.filter(row => row.nextSeq > 1n)) {
      const last = load.commands.findLast(
        record => record.partition === partition && record.offset === nextOffset - 1n,
      )
      const event = load.topic.findLast(record => record.partition === partition)!
      expect(headerOf(event, 'command_offset')).toBe(String(last!.offset))
    }
  })

  test('run twice, and on books that are not behind, it changes nothing', async () => {
    const load = createTestLoad(ledger, codec, 5)
    await load.run(20)
    const deps = depsOf(() => load.topic, load.commands)
    await catchUpBooks(deps)
    const before = await dumpBooks(sql)
    const positions = await readPartitions(sql)
    expect(await catchUpBooks(deps)).toMatchObject({ events: 0, partitions: [] })
    expect(await dumpBooks(sql)).toBe(before)
    expect(await readPartitions(sql)).toEqual(positions)
  })

  test('two at once: one adds the events, the other finds nothing to do', async () => {
    const load = createTestLoad(ledger, codec, 6)
    await load.run(20)
    const deps = depsOf(() => load.topic, load.commands)
    const results = await Promise.all([catchUpBooks(deps), catchUpBooks(deps)])
    expect(results.map(({ events }) => events).toSorted((a, b) => a - b)).toEqual([0, load.topic.length])
    await expectEqual()
  })

  test('X1: a ledger at work beside it decides nothing meanwhile', async () => {
    const load = createTestLoad(ledger, codec, 11)
    await load.run(20)
    const deps = depsOf(() => load.topic, load.commands)
    const rival = behind.open()
    let beside: Awaited<ReturnType<typeof applyBatch>> | undefined
    await catchUpBooks({
      ...deps,
      readEvents: async (from, whole, handle) => {
        await deps.readEvents(from, whole, handle)
        beside = await applyBatch(
          {
            ...{ store: postgresStore(rival, rival), codec, limitDefaults: limitsOf({}), skipLocked: true },
            setAside: async () => {},
          },
          load.commands,
        )
      },
    })
    await rival.end()
    expect(beside!.events).toEqual([])
    expect(beside!.held.map(({ partition }) => partition).toSorted()).toEqual([0, 1, 2, 3])
    await expectEqual()
  })

  test('O1: killed at any point it has changed nothing, and the next run ends it', async () => {
    const load = createTestLoad(ledger, codec, 7)
    await load.run(20)
    const before = await dumpBooks(sql)
    const handled = [1, 3]
    for (const most of handled) {
      const deps = depsOf(() => load.topic, load.commands)
      let portions = 0
      const killed = catchUpBooks({
        ...deps,
        readEvents: (from, whole, handle) =>
          deps.readEvents(from, whole, async records => {
            await handle(records)
            if (++portions === most) throw new Error('killed')
          }),
      })
      await expect(killed).rejects.toThrow('killed')
      expect(await dumpBooks(sql)).toBe(before)
    }
    const late = catchUpBooks(
      depsOf(() => load.topic, load.commands, {
        readCommands: async () => {
          throw new Error('killed late')
        },
      }),
    )
    await expect(late).rejects.toThrow('killed late')
    expect(await dumpBooks(sql)).toBe(before)
    await catchUpBooks(depsOf(() => load.topic, load.commands, { dryRun: true }))
    expect(await dumpBooks(sql)).toBe(before)
    await catchUpBooks(depsOf(() => load.topic, load.commands))
    await expectEqual()
  })

  test('two histories: an event that differs from the journal is named, and nothing is changed', async () => {
    const load = createTestLoad(ledger, codec, 8)
    await load.run(20)
    const half = load.topic.length / 2
    await catchUpBooks(depsOf(() => load.topic.slice(0, half), load.commands))
    const before = await dumpBooks(sql)
    const at = load.topic[Math.floor(half) - 1]!
    const value = Buffer.from(at.value!)
    value[value.length - 1]! ^= 1
    const forged = load.topic.map(record => (record === at ? { ...record, value } : record))
    const seq = headerOf(at, 'seq')
    const run = catchUpBooks(depsOf(() => forged, load.commands))
    await expect(run).rejects.toThrow(
      new TwoHistories(
        `ledger.events/${at.partition} holds another event at seq ${seq} than the journal: nothing is changed`,
      ),
    )
    expect(await dumpBooks(sql)).toBe(before)
  })

  test('a topic that lacks events which the books need is named, and nothing is changed', async () => {
    const load = createTestLoad(ledger, codec, 9)
    await load.run(20)
    const before = await dumpBooks(sql)
    const lost = load.topic.findIndex(record => headerOf(record, 'seq') === '3')
    const topic = load.topic.toSpliced(lost, 1)
    await expect(catchUpBooks(depsOf(() => topic, load.commands))).rejects.toThrow(MissingEvents)
    expect(await dumpBooks(sql)).toBe(before)
  })

  test('M1, M2: an event that was never published, on which a published one builds, is found, and nothing is changed', async () => {
    const [alice, bob, carol] = await ledger.funded(100n, 0n, 0n)
    const start = await ledger.sql<JournalRow[]>`
      select partition, seq, key, headers::json as headers, bytes from ledger.journal order by 1, 2`
    const { events: unpublished } = await ledger.apply([ledger.transfer(alice!, bob!, 60n)])
    const { events: published } = await ledger.apply([ledger.transfer(bob!, carol!, 60n)])
    const topic = [...start, ...published].map(row => recordOf(row, row.seq - 1n))
    const before = await dumpBooks(sql)
    await expect(catchUpBooks(depsOf(() => topic, []))).rejects.toThrow(
      new MissingEvents(
        `wallet ${bob!.wallet} has 2 entries by its events, and 1 of them are told: an event was decided and never published`,
      ),
    )
    expect(await dumpBooks(sql)).toBe(before)
    const whole = [...topic, ...unpublished.map(row => recordOf(row, row.seq - 1n))]
    await catchUpBooks(depsOf(() => whole, []))
    await expectEqual()
  })

  test('a topic of commands that was made anew halts the partition, and the events stand', async () => {
    const load = createTestLoad(ledger, codec, 10)
    await load.run(20)
    const strange = load.commands.map(record => ({ ...record, offset: record.offset + 1n }))
    const { partitions } = await catchUpBooks(depsOf(() => load.topic, strange))
    expect(partitions.some(({ halts }) => halts?.includes('the topic was made anew'))).toBe(true)
    await expectEqual()
  })
})
