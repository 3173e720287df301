// The command handler against a real Postgres and a real Kafka: where reading begins, what halts a partition, how a
// failing batch is narrowed down.
import { randomUUID } from 'node:crypto'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import type { Consumer, Position } from '@pennywire/kafka/consumer.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { createReadTails, type Tail } from './check-events.ts'
import { createCommandHandler } from './consume-commands.ts'
import { postgresStore } from './sql/store.ts'
import { readBalances } from './sql/test-database.ts'
import type { JournalRow, LedgerStore } from './store.ts'
import { limitsOf, openTestLedger, type TestLedger, type User, user } from './test-ledger.ts'

const { superuserUrl, registryUrl, kafka } = inject('stack')
const logger = createLogger('test', { level: 'silent', instance: 'test' })
let codec: Codec
let ledger: TestLedger

beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  ledger = await openTestLedger(codec, superuserUrl)
})
afterEach(() => ledger.close())

const start = (over: { store?: Partial<LedgerStore>; tail?: Tail['events']; assigned?: number[] } = {}) => {
  const seen = {
    halted: [] as string[],
    held: [] as string[],
    sought: [] as bigint[],
    events: [] as JournalRow[],
    lanes: [] as number[],
    deadLetters: 0,
  }
  const consumer: Consumer = {
    assigned: () => [],
    waiting: () => 0,
    seek: ({ offset }: Position) => void seen.sought.push(offset),
    hold: ({ partition, offset }) => void seen.held.push(`${partition}/${offset}`),
    halt: ({ partition }, reason) => void seen.halted.push(`${partition}: ${reason}`),
    check: () => {},
    stop: async () => {},
  }
  const handler = createCommandHandler({
    ...{ logger, codec, limitDefaults: limitsOf({}), verifyCommand: () => undefined },
    store: { ...postgresStore(ledger.sql, ledger.sql), ...over.store },
    publisher: {
      publish: async () => {
        seen.deadLetters++
      },
    },
    relay: {
      assign: partitions => {
        seen.lanes = partitions
      },
      offer: events => void seen.events.push(...events),
      repeat: () => {},
    },
    readTails: async (partitions, count) => {
      const tail = over.tail ?? []
      return new Map(
        partitions.map(partition => [
          partition,
          { events: partition === 0 ? tail.slice(-count) : [], whole: tail.length <= count },
        ]),
      )
    },
  })
  const assigned = (over.assigned ?? [0, 1, 2, 3]).map(partition => ({
    topic: 'ledger.commands' as const,
    partition,
  }))
  return {
    seen,
    handle: (records: IncomingRecord[]) => handler.handle(records, consumer),
    position: async (first = 0n, offset = 1_000n) => {
      const ends = assigned.map(of => ({ ...of, first, offset }))
      const positions = await handler.positions(assigned, async () => ends, consumer)
      handler.onAssigned?.(assigned)
      return positions
    },
  }
}

const journalOf = (partition: number) =>
  postgresStore(ledger.sql, ledger.sql).readJournalAfter(partition, 0n, 1_000)

describe('F13: a database behind its own events', () => {
  test('X1, O1, O2: halts every partition before the first batch, publishes nothing, and says where and by how much', async () => {
    await ledger.funded(100n)
    const rows = await journalOf(0)
    const { seen, position } = start({
      // Repeats of older events stand at the end.
      tail: [
        ...rows.map(({ seq, bytes }) => ({ seq, value: bytes })),
        { seq: BigInt(rows.length) + 3n, value: Buffer.from('decided before the failover') },
        { seq: 1n, value: rows[0]!.bytes },
      ],
    })
    expect(await position()).toEqual([])
    const reason = 'the database is behind its own events by 3'
    expect(seen.halted).toEqual([
      expect.stringContaining(`0: ${reason}`),
      // The lost events made entries in wallets of the other partitions, too.
      ...[1, 2, 3].map(other =>
        expect.stringContaining(`${other}: entries may be missing here too; partition 0: ${reason}`),
      ),
    ])
    expect(seen.lanes).toEqual([])
  })

  test('X1, O1: is found behind thousands of repeats, which reach no further than what the database knows as published', async () => {
    await ledger.funded(100n)
    const rows = await journalOf(0)
    await ledger.superuser`
      update ledger.published set published_through = ${rows.length} where partition = 0`
    const { seen, position } = start({
      tail: [
        ...rows.map(({ seq, bytes }) => ({ seq, value: bytes })),
        { seq: BigInt(rows.length) + 1n, value: Buffer.from('decided before the failover') },
        ...Array.from({ length: 9_000 }, () => ({ seq: 1n, value: rows[0]!.bytes })),
      ],
    })
    expect(await position()).toEqual([])
    expect(seen.halted[0]).toContain('0: the database is behind its own events by 1')
  })

  test('O1, O2: a topic that ends before the last published event halts its partition alone, and what is there stays right', async () => {
    await ledger.funded(100n)
    const rows = (await journalOf(0)).map(({ seq, bytes }) => ({ seq, value: bytes }))
    await ledger.superuser`
      update ledger.published set published_through = ${rows.length} where partition = 0`
    const last = `seq ${rows.length} was published; it was made anew or lost: publish the journal again`
    for (const [tail, end] of [
      [[], 0],
      [rows.slice(0, -1), rows.length - 1],
    ] as const) {
      const { seen, position } = start({ tail: [...tail] })
      expect(await position()).toHaveLength(3)
      expect(seen.halted).toEqual([`0: ledger.events/0 ends with seq ${end}, but ${last}`])
      expect(seen.lanes).toEqual([1, 2, 3])
    }
    const whole = start({ tail: rows })
    expect(await whole.position()).toHaveLength(4)
    expect(whole.seen.halted).toEqual([])
  })

  test('X1, O1: another event at the same seq halts it too, repeats of the right ones do not', async () => {
    await ledger.funded(100n)
    const rows = (await journalOf(0)).map(({ seq, bytes }) => ({ seq, value: bytes }))
    const same = start({ tail: [...rows, ...rows] })
    expect(await same.position()).toHaveLength(4)
    const other = start({ tail: [...rows, { seq: rows[0]!.seq, value: Buffer.from('another') }] })
    expect(await other.position()).toEqual([])
    expect(other.seen.halted[0]).toBe('0: ledger.events/0 holds another event at seq 1 than the journal')
  })

  test('X1: goes back under a running ledger: its next batch decides nothing and halts the partition', async () => {
    const alice = user(0)
    const { seen, handle, position } = start()
    await position()
    await handle([ledger.open(alice)])
    await ledger.superuser`update ledger.partitions set next_offset = 0, next_seq = 1, last_digest = null`
    await ledger.superuser`truncate ledger.journal, ledger.commands`
    await ledger.superuser`delete from ledger.wallets`
    await handle([{ ...ledger.open(alice), offset: 0n }])
    expect(seen.halted[0]).toContain('0: the database went back by 1 events')
    expect(seen.halted).toHaveLength(4)
    // Partitions assigned later halt as well.
    expect(await position()).toEqual([])
    expect(await journalOf(0)).toEqual([])
  })

  test('O2: a ledger that has other partitions halts as well', async () => {
    await ledger.funded(100n)
    const { seen, position } = start({
      assigned: [2, 3],
      tail: [{ seq: 99n, value: Buffer.from('decided before the failover') }],
    })
    expect(await position()).toEqual([])
    expect(seen.halted).toEqual(
      [2, 3].map(other => expect.stringContaining(`${other}: entries may be missing`)),
    )
  })

  test('O2: a server that came in the place of one that was away is compared before its first batch', async () => {
    const alice = user(1)
    const tail: Tail['events'] = []
    let away = true
    const store = postgresStore(ledger.sql, ledger.sql)
    const { seen, handle, position } = start({
      tail,
      assigned: [1],
      store: {
        transact: work => (away ? Promise.reject(new Error('away')) : store.transact(work)),
        causeOf: error => ((error as Error).message === 'away' ? 'away' : store.causeOf(error)),
      },
    })
    await position()
    await expect(handle([ledger.open(alice)])).rejects.toThrow('away')
    away = false
    tail.push({ seq: 1n, value: Buffer.from('published of partition 0, and lost') })
    await handle([{ ...ledger.open(alice), offset: 0n }])
    expect(seen.halted).toEqual([
      expect.stringMatching(
        /^1: entries may be missing here too; partition 0: the database is behind .* by 1:/,
      ),
    ])
    expect(await journalOf(1)).toEqual([])
  })

  test('O2: a server that came while the ledger had nothing to do is compared before its first batch', async () => {
    const alice = user(1)
    const tail: Tail['events'] = []
    const store = postgresStore(ledger.sql, ledger.sql)
    let server = 'the old one'
    const { seen, handle, position } = start({
      tail,
      assigned: [1],
      store: {
        readServer: async () => server,
        transact: work => store.transact(tx => work({ ...tx, readServer: async () => server })),
      },
    })
    await position()
    server = 'the new one'
    tail.push({ seq: 1n, value: Buffer.from('published of partition 0, and lost') })
    const record = { ...ledger.open(alice), offset: 0n }
    // The ledger is not notified: none of its connections broke.
    await expect(handle([record])).rejects.toThrow('is not compared')
    await handle([record])
    expect(seen.halted).toEqual([expect.stringMatching(/^1: entries may be missing here too; partition 0:/)])
    expect(await journalOf(1)).toEqual([])
  })

  test('the tail is read from a real ledger.events, to its end', async () => {
    const client = createKafkaClient({ connection: kafka, clientId: 'tail-test', logger })
    const tails = await createReadTails(client, logger)([0, 1], 50)
    expect([...tails.keys()].toSorted()).toEqual([0, 1])
  })
})

describe('F10: records deleted below the stored offset', () => {
  test('X2: halt the partition; where only the record before is deleted it goes on', async () => {
    await ledger.funded(100n)
    const { seen, position } = start()
    expect(await position(2n)).toContainEqual({ topic: 'ledger.commands', partition: 0, offset: 2n })
    // The other partitions' next offset is 0.
    expect(seen.halted).toHaveLength(3)
    expect(seen.halted[0]).toContain('1: the topic begins at offset 2, but offset 0 is next')
  })

  test('X2: a gap that does not close halts the partition', async () => {
    const { seen, handle, position } = start()
    await position()
    const record = { ...ledger.open(user(0)), offset: 5n }
    for (let times = 0; times < 10; times++) await handle([record])
    expect(seen.sought).toHaveLength(9)
    expect(seen.halted).toEqual(['0: the topic no longer holds offset 0, which is next'])
  })
})

describe('F19, G2: a batch that fails is narrowed down', () => {
  test('P1: a wallet that a person has locked holds its own partition; all others flow', async () => {
    const [alice, bob, carol] = (await ledger.funded(100n, 100n, 0n)) as [User, User, User]
    const { seen, handle, position } = start()
    await position()
    await ledger.sql`set lock_timeout = 200`
    const person = await ledger.superuser.reserve()
    await person`begin`
    await person`select from ledger.wallets where id = ${alice.wallet} for update`
    const held = ledger.transfer(alice, carol, 1n)
    await handle([held, ledger.transfer(bob, carol, 1n)])
    expect(seen.held).toEqual([`0/${held.offset}`])
    expect((await readBalances(ledger.sql)).get(bob.wallet)).toBe(99n)
    await person`rollback`
    person.release()
    await handle([held])
    expect((await readBalances(ledger.sql)).get(alice.wallet)).toBe(99n)
  })

  test('D1: a record that Postgres alone refuses is found in its batch and set aside; the others are decided', async () => {
    const users = await ledger.funded(100n, 100n, 100n, 0n)
    const bad = randomUUID()
    const store = postgresStore(ledger.sql, ledger.sql)
    const refusing: LedgerStore['transact'] = work =>
      store.transact(tx =>
        work({
          ...tx,
          writeBatch: async writes => {
            await tx.writeBatch(writes)
            if (writes.transfers.some(({ id }) => id === bad)) await ledger.sql`select 'x'::timestamptz`
          },
        }),
      )
    const { seen, handle, position } = start({ store: { transact: refusing } })
    await position()
    await handle([
      ledger.transfer(users[0]!, users[3]!, 1n),
      ledger.transfer(users[1]!, users[3]!, 1n, { transferId: bad }),
      ledger.transfer(users[2]!, users[3]!, 1n),
    ])
    // Each of the record's last two tries sets it aside: with an answer, which the database refuses too, and without.
    expect([seen.deadLetters, seen.held, seen.halted]).toEqual([2, [], []])
    expect((await readBalances(ledger.sql)).get(users[3]!.wallet)).toBe(2n)
  })

  test('P1: a failure that is not the record’s own holds only its partition', async () => {
    const users = await ledger.funded(100n, 100n, 0n)
    const store = postgresStore(ledger.sql, ledger.sql)
    const failing: LedgerStore['transact'] = work =>
      store.transact(tx =>
        work({
          ...tx,
          writeBatch: async writes => {
            if (writes.partitions.some(({ partition }) => partition === 0)) throw new Error('25P04')
            await tx.writeBatch(writes)
          },
        }),
      )
    const { seen, handle, position } = start({ store: { transact: failing } })
    await position()
    await handle([ledger.transfer(users[0]!, users[2]!, 1n), ledger.transfer(users[1]!, users[2]!, 1n)])
    expect(seen.held).toHaveLength(1)
    expect((await readBalances(ledger.sql)).get(users[2]!.wallet)).toBe(1n)
  })
})

test('D1: ten records in a row that nobody understands halt their partition, wherever a batch begins and ends', async () => {
  const [alice, bob] = (await ledger.funded(100n, 0n)) as [User, User]
  const { seen, position, handle } = start()
  await position()
  const garbage = (count: number) =>
    Array.from({ length: count }, () => ledger.append(0, alice.wallet, Buffer.from('no record of ours')))
  const pays = () => ledger.transfer(alice, bob, 1n)
  // Nine in a row, in one batch and across two.
  await handle([...garbage(9), pays(), ...garbage(5)])
  await handle([...garbage(4), pays(), ...garbage(6)])
  expect([seen.halted, seen.deadLetters]).toEqual([[], 24])
  await handle([...garbage(4), pays()])
  expect(seen.halted).toEqual(['0: 10 records in a row could not be understood'])
})

describe('F8: every field of every command at its extremes', () => {
  const TIMES = [-1, 0, 253_402_300_799_999, 253_402_300_800_000, 8_640_000_000_000_000]
  const BYTES = [Buffer.alloc(0), Buffer.alloc(64 * 1024), Buffer.alloc(64 * 1024 + 1), Buffer.alloc(900_000)]
  const TEXTS = ['', '\0', '\u{10ffff}', 'x'.repeat(33), 'x'.repeat(100_000), "'; drop", '{"a",null}']
  const AMOUNTS = [-1n, 0n, 1n, 9_007_199_254_740_990n]
  const extremesOf = (value: unknown, field: string): unknown[] => {
    if (/(?:At|Until)$/.test(field)) return TIMES
    if (/Minor$/.test(field)) return AMOUNTS
    if (/^(?:note|metadata|reason|fingerprint)$/.test(field)) return BYTES
    return typeof value === 'string' || value === null ? TEXTS : []
  }

  test('D1: each is set aside, refused or committed by Postgres; none fails its batch', async () => {
    const [alice, bob] = (await ledger.funded(100n, 100n)) as [User, User]
    const commands: Array<[string, object]> = []
    for (const record of [
      ledger.transfer(alice, bob, 1n),
      ledger.hold(alice, bob, 1n),
      ledger.withdrawal(alice, 1n),
      ledger.deposit(alice, 1n),
      ledger.capture(randomUUID(), alice, bob),
      ledger.voidHold(randomUUID(), alice, bob),
      ledger.reversal(randomUUID(), alice, bob, 1n),
      ledger.open(user(0)),
      ledger.freeze(alice, 'self'),
      ledger.unfreeze(alice, 'self'),
      ledger.closeWallet(alice),
      ledger.limit(alice),
    ]) {
      const { type, value } = await codec.decode(record.value)
      commands.push([type, value])
    }
    let made = 0
    for (const [type, value] of commands) {
      for (const field of Object.keys(value)) {
        for (const extreme of extremesOf((value as Record<string, unknown>)[field], field)) {
          const idField = 'transferId' in value ? 'transferId' : 'commandId'
          const said = { ...value, [idField]: randomUUID(), [field]: extreme }
          let bytes: Buffer
          try {
            bytes = codec.encode(type as 'pennywire.ledger.TransferRequested', said as never)
          } catch {
            continue
          }
          // In a partition of its own: the records above took offsets in alice's and bob's without being applied.
          const record = ledger.append(2, alice.wallet, bytes)
          const what = `${type} with ${field} = ${String(extreme).slice(0, 40)}`
          const { counts } = await ledger.apply([record]).catch((error: unknown) => {
            throw new Error(`${what}: ${String(error)}`)
          })
          // A gap in the partition would be passed over, and tried nothing.
          expect(
            Object.values(counts).some(count => count > 0),
            what,
          ).toBe(true)
          made++
        }
      }
    }
    expect(made).toBeGreaterThan(200)
  }, 120_000)
})
