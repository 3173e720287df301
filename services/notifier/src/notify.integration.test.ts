import { randomUUID } from 'node:crypto'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { avroType, RECORD_NAMES, type RecordName, type Records } from '@pennywire/contracts/schemas.ts'
import { entriesOf, transferCompleted, transferReversed } from '@pennywire/contracts/test-records.ts'
import type { Topic } from '@pennywire/contracts/topics.ts'
import { createCodec, type Registry } from '@pennywire/kafka/codec.ts'
import type { Consumer, Position, TopicEnd } from '@pennywire/kafka/consumer.ts'
import type { IncomingRecord, RawRecord } from '@pennywire/kafka/record.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { createNotifying } from './notify.ts'
import { openByKey } from './sql/open-by-key.ts'
import { createNotifierDatabase } from './sql/test-database.ts'

const { superuserUrl } = inject('stack')
const logger = createLogger('notifier', { level: 'silent', instance: 'test' })

const alice = randomUUID()
const bob = randomUUID()

const ENTRIES = entriesOf({ walletId: alice, userId: alice }, { walletId: bob, userId: bob }, 100n)
const ENTRY = ENTRIES[0]!

let database: Awaited<ReturnType<typeof createNotifierDatabase>>
let superuser: Database
let sql: Database

beforeAll(async () => {
  database = await createNotifierDatabase(superuserUrl)
  superuser = openDatabase(database.url(), { applicationName: 'test' })
  sql = openDatabase(database.url('notifier'), { applicationName: 'test' })
})
beforeEach(
  () => superuser`truncate notifier.positions, notifier.notices, notifier.inboxes, notifier.preferences, notifier.topic_starts,
  notifier.deliveries, notifier.webhook_endpoints`,
)
afterAll(async () => {
  await Promise.all([sql.end(), superuser.end()])
  await database.drop()
})

/** A registry in memory that can be away, and knows only its own ids. */
const createRegistry = (): Registry & { away: boolean } => ({
  away: false,
  idOf: async name => RECORD_NAMES.indexOf(name) + 1,
  async schemaOf(id) {
    if (this.away) throw new Error('registry away')
    return avroType(RECORD_NAMES[id - 1]!)
  },
})

const startInstance = async (end: Partial<TopicEnd> = {}, database = sql) => {
  const registry = createRegistry()
  const codec = await createCodec(registry)
  const seen = {
    deadLetters: [] as RawRecord[],
    sought: [] as bigint[],
    halted: [] as string[],
    woken: 0,
    sequences: [] as Array<[string, string, number]>,
  }
  const consumer: Consumer = {
    assigned: () => [],
    waiting: () => 0,
    seek: ({ offset }: Position) => void seen.sought.push(offset),
    hold: () => undefined,
    halt: (_of, reason) => void seen.halted.push(reason),
    check: () => {},
    stop: async () => {},
  }
  const notifying = createNotifying({
    sql: database,
    codec,
    publisher: { publishAll: async records => void seen.deadLetters.push(...records) },
    logger,
    wakeMails: () => {
      seen.woken += 1
    },
    wakeWebhooks: () => {},
    webhookWorthMs: 60_000,
    sequences: {
      saw: (walletId, sequence) => void seen.sequences.push(['saw', walletId, sequence]),
      reached: (walletId, sequence) => void seen.sequences.push(['reached', walletId, sequence]),
    },
  })
  const topics: Topic[] = ['ledger.events', 'identity.events', 'notifier.commands']
  const ends = topics.map(topic => ({ topic, partition: 0, first: 0n, offset: 0n, ...end }))
  const position = () => notifying.positions(ends, async () => ends, consumer)
  const encode = <Name extends RecordName>(
    topic: Topic,
    offset: number,
    name: Name,
    value: Records[Name],
  ): IncomingRecord => raw(topic, offset, codec.encode(name, value), [['ce_type', Buffer.from(name)]])
  const raw = (
    topic: Topic,
    offset: number,
    value: Buffer | null,
    headers: IncomingRecord['headers'] = [],
  ): IncomingRecord => ({
    ...{ topic, partition: 0, offset: BigInt(offset), timestamp: 0, key: Buffer.from('key'), value, headers },
  })
  return {
    seen,
    registry,
    position,
    raw,
    encode,
    handle: (records: IncomingRecord[]) => notifying.handle(records, consumer),
    transfer: (offset: number, changed: Partial<Records['pennywire.ledger.TransferCompleted']> = {}) =>
      encode(
        'ledger.events',
        offset,
        'pennywire.ledger.TransferCompleted',
        transferCompleted({
          ...{
            transferId: transferIdOf(alice, String(offset)),
            userId: alice,
            fromWalletId: alice,
            toWalletId: bob,
          },
          ...{ requestedAt: 1_700_000_000_000, completedAt: 1_700_000_000_001, entries: ENTRIES, ...changed },
        }),
      ),
    mail: (offset: number, changed: Partial<Records['pennywire.notifier.MailRequested']> = {}) =>
      encode('notifier.commands', offset, 'pennywire.notifier.MailRequested', {
        ...{ commandId: randomUUID(), userId: alice, template: 'verify_email', secret: 'a.b.c.d.e' },
        ...{ expiresAt: Date.now() + 60_000, requestedAt: Date.now() },
        ...changed,
      }),
    reversed: (offset: number) =>
      encode(
        'ledger.events',
        offset,
        'pennywire.ledger.TransferReversed',
        transferReversed({
          ...{ transferId: transferIdOf(alice, String(offset)), originalId: bob, userId: bob },
          ...{
            fromWalletId: alice,
            toWalletId: bob,
            entries: ENTRIES.map(entry => ({ ...entry, sequence: 7 })),
          },
        }),
      ),
    frozen: (offset: number) =>
      encode('ledger.events', offset, 'pennywire.ledger.WalletFrozen', {
        ...{ commandId: randomUUID(), walletId: alice, userId: alice, ownerId: alice, source: 'self' },
        ...{
          reason: null,
          sequence: 9,
          frozenAt: 1_700_000_000_000,
          previousSource: null,
          commandFingerprint: null,
        },
      }),
    opened: (offset: number, over: { userId?: string } = {}) =>
      encode('ledger.events', offset, 'pennywire.ledger.WalletOpened', {
        ...{ commandId: alice, walletId: alice, code: 'PW-0', userId: alice, currency: 'USD' },
        ...{ sequence: 0, openedAt: 0, tier: null },
        ...over,
      }),
  }
}

const countOf = async (table: string): Promise<number> => {
  const [row] = await sql<[{ count: bigint }]>`select count(*) from ${sql(table)}`
  return Number(row.count)
}
const positionOf = async (topic: Topic): Promise<bigint | undefined> => {
  const [row] = await sql`select next_offset from notifier.positions where topic = ${topic}`
  return row?.next_offset
}

test('X1: notices come once per event, however often and by whomever it is handled', async () => {
  const [one, two] = [await startInstance(), await startInstance()]
  await one.position()
  const batch = [one.transfer(0), one.opened(1), one.transfer(2), one.mail(0)]
  await Promise.all([one.handle(batch), two.handle(batch)])
  await one.handle(batch)
  expect(await countOf('notifier.notices')).toBe(4)
  expect(await countOf('notifier.deliveries')).toBe(1)
  expect([await positionOf('ledger.events'), await positionOf('notifier.commands')]).toEqual([3n, 1n])
  expect(one.seen.woken + two.seen.woken).toBe(1)
})

test('wallets and reversals tell as well, once; their sequences are watched', async () => {
  const { position, handle, reversed, frozen, seen } = await startInstance()
  await position()
  const batch = [reversed(0), frozen(1)]
  await handle(batch)
  await handle(batch)
  expect(seen.deadLetters).toEqual([])
  const rows = await sql`select user_id, type, transfer_id from notifier.notices order by type`
  expect(rows).toMatchObject([
    { user_id: bob, type: 'reversal_received', transfer_id: transferIdOf(alice, '0') },
    { user_id: alice, type: 'reversal_sent', transfer_id: transferIdOf(alice, '0') },
    { user_id: alice, type: 'wallet_frozen', transfer_id: null },
  ])
  expect(seen.sequences.slice(0, 3)).toEqual([
    ['saw', alice, 7],
    ['saw', bob, 7],
    ['reached', alice, 9],
  ])
})

test('X1: the whole topic read again adds nothing', async () => {
  const { position, handle, transfer, mail } = await startInstance()
  await position()
  const batch = [transfer(0), transfer(1), mail(0)]
  await handle(batch)
  await sql`update notifier.positions set next_offset = 0`
  await handle(batch)
  expect([await countOf('notifier.notices'), await countOf('notifier.deliveries')]).toEqual([4, 1])
})

describe('a user’s list', () => {
  type Inbox = { last: number; unread: number; seqs: number[] }
  const inboxOf = async (userId: string): Promise<Inbox> => {
    const [row] = await sql<[Inbox]>`
      select last_seq::int as last, unread::int as unread,
        array(select seq::int from notifier.notices where user_id = ${userId} order by seq) as seqs
      from notifier.inboxes where user_id = ${userId}`
    return row
  }
  const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1)

  test('is numbered without a gap, over batches of several partitions at once, and repeats', async () => {
    const instances = [await startInstance(), await startInstance(), await startInstance()]
    await instances[0]!.position()
    await sql`insert into notifier.positions select 'ledger.events', p, 0 from generate_series(1, 2) p`
    const batchOf = (partition: number) =>
      upTo(20).map((_, offset) => {
        const record = instances[0]!.transfer(offset, {
          transferId: transferIdOf(alice, `${partition}/${offset}`),
        })
        return { ...record, partition }
      })
    await Promise.all(
      instances.flatMap((instance, partition) => [
        instance.handle(batchOf(partition)),
        instance.handle(batchOf(partition)),
      ]),
    )
    for (const userId of [alice, bob])
      expect(await inboxOf(userId)).toEqual({ last: 60, unread: 60, seqs: upTo(60) })
  })

  test('has two notices of one event in a batch, and the same event twice in a batch once', async () => {
    const { position, handle, transfer } = await startInstance()
    await position()
    const transferId = transferIdOf(alice, 'twice')
    await handle([transfer(0, { transferId }), transfer(1, { transferId }), transfer(2)])
    expect(await inboxOf(alice)).toEqual({ last: 2, unread: 2, seqs: [1, 2] })
  })

  test('leaves out what its user has turned off', async () => {
    await superuser`
      insert into notifier.preferences (user_id, turned_off)
      values (${alice}, '{money_sent:in_app}'), (${bob}, '{money_sent:in_app,money_received:mail}')`
    const { position, handle, transfer } = await startInstance()
    await position()
    await handle([transfer(0)])
    expect(await countOf('notifier.notices')).toBe(1)
    expect(await inboxOf(bob)).toMatchObject({ unread: 1 })
  })
})

describe('the views for others', () => {
  const as = async (
    role: 'notifier_reader' | 'notifier_client',
    run: (client: Database) => Promise<void>,
  ) => {
    const { position, handle, transfer } = await startInstance()
    await position()
    await handle([transfer(0), transfer(1)])
    const client = openDatabase(database.url(role), { applicationName: 'test' })
    await run(client).finally(() => client.end())
  }
  const denied = { code: '42501' }

  test('a reader sees them, as far as the version before does', () =>
    as('notifier_reader', async reader => {
      const rows = await reader`
        select id, user_id, type, title, body, transfer_id, read_at, created_at
        from notifier_api.notifications where user_id = ${bob} order by created_at desc, id desc`
      expect(rows).toMatchObject([
        { type: 'transfer_received', read_at: null, created_at: new Date(1_700_000_000_001) },
        {},
      ])
      for (const statement of [
        reader`select 1 from notifier.notices`,
        reader`delete from notifier_api.notifications`,
        reader`update notifier_api.notifications set read_at = now()`,
      ])
        await expect(statement).rejects.toMatchObject(denied)
    }))

  test('the gateway marks them as read and chooses for users, and does nothing else', () =>
    as('notifier_client', async client => {
      expect(
        await client`update notifier_api.notices set read_at = now() where user_id = ${bob}`,
      ).toMatchObject({
        count: 2,
      })
      await client`update notifier_api.inboxes set unread = 0 where user_id = ${bob}`
      await client`insert into notifier_api.preferences (user_id, language) values (${bob}, 'de')`
      for (const statement of [
        client`select 1 from notifier.notices`,
        client`delete from notifier_api.notices`,
        client`update notifier_api.notices set data = '{}'`,
        client`update notifier_api.inboxes set last_seq = 0`,
        client`insert into notifier_api.inboxes (user_id) values (${alice})`,
      ])
        await expect(statement).rejects.toMatchObject(denied)
    }))
})

describe('what the gateway asks to be told', () => {
  const request = (over: Partial<Records['pennywire.notifier.NoticeRequested']> = {}) => ({
    ...{ commandId: randomUUID(), userId: alice, type: 'deposit_rejected', transferId: null, requestedAt: 5 },
    data: JSON.stringify({ amount: '1.00', currency: 'USD', code: 'PAYMENT_FAILED' }),
    ...over,
  })
  const command = (
    { encode }: Awaited<ReturnType<typeof startInstance>>,
    offset: number,
    value: ReturnType<typeof request>,
  ) => encode('notifier.commands', offset, 'pennywire.notifier.NoticeRequested', value)

  test('is told once', async () => {
    const instance = await startInstance()
    await instance.position()
    const value = request()
    await instance.handle([command(instance, 0, value), command(instance, 1, value)])
    expect(await sql`select id, type, data from notifier.notices`).toEqual([
      { id: value.commandId, type: 'deposit_rejected', data: JSON.parse(value.data) },
    ])
  })

  test.each([
    ['data that is no JSON', { data: '{' }],
    ['data that is no object', { data: '[1]' }],
    ['data with a NUL', { data: '{"code":"\\u0000"}' }],
    ['an id that is none', { userId: 'x' }],
  ])('%s is set aside', async (_what, over) => {
    const instance = await startInstance()
    await instance.position()
    await instance.handle([command(instance, 0, request(over)), command(instance, 1, request())])
    expect(instance.seen.deadLetters).toHaveLength(1)
    expect([await countOf('notifier.notices'), await positionOf('notifier.commands')]).toEqual([1, 2n])
  })
})

describe('identity.events', () => {
  const account = (instance: Awaited<ReturnType<typeof startInstance>>, offset: number, occurredAt: number) =>
    instance.encode('identity.events', offset, 'pennywire.identity.PinSet', {
      ...{ eventId: randomUUID(), userId: alice, occurredAt },
    })

  test('tell of accounts', async () => {
    const instance = await startInstance()
    await instance.position()
    await instance.handle([account(instance, 0, 5)])
    expect(await sql`select type, data, transfer_id from notifier.notices`).toEqual([
      { type: 'pin_set', data: {}, transfer_id: null },
    ])
  })

  test('of before an upgrade are nobody’s news any more', async () => {
    await superuser`insert into notifier.topic_starts values ('identity.events', ${new Date(10)})`
    const instance = await startInstance()
    await instance.position()
    await instance.handle([account(instance, 0, 9), account(instance, 1, 10)])
    expect([await countOf('notifier.notices'), await positionOf('identity.events')]).toEqual([1, 2n])
  })
})

describe('D1: a record that can never be handled goes to the dead letters, and the partition goes on', () => {
  type Instance = Awaited<ReturnType<typeof startInstance>>
  test.each<[string, (instance: Instance) => IncomingRecord, string]>([
    [
      'no Avro',
      ({ raw }) => raw('ledger.events', 0, Buffer.from('hello world')),
      'not in the Confluent wire',
    ],
    ['null', ({ raw }) => raw('ledger.events', 0, null), 'not in the Confluent wire'],
    [
      'cut off',
      ({ raw, transfer }) => raw('ledger.events', 0, transfer(0).value!.subarray(0, 40)),
      'not a pennywire.ledger.TransferCompleted',
    ],
    [
      'an id that is no UUID',
      ({ transfer }) => transfer(0, { entries: [{ ...ENTRY, userId: 'x' }] }),
      'userId: Invalid',
    ],
    [
      'an unknown currency',
      ({ transfer }) => transfer(0, { entries: [{ ...ENTRY, currency: 'ZZZ' }] }),
      'ZZZ is not an ISO 4217 currency',
    ],
    ['an id that only webhooks read', ({ opened }) => opened(0, { userId: 'x' }), 'users.0: Invalid'],
    [
      'a time that no column holds',
      ({ transfer }) => transfer(0, { completedAt: 9e15 }),
      'createdAt: Too big',
    ],
  ])('%s', async (_what, poison, reason) => {
    const instance = await startInstance()
    await instance.position()
    const record = poison(instance)
    await instance.handle([record, instance.transfer(1)])
    expect(instance.seen.deadLetters).toEqual([
      expect.objectContaining({
        topic: 'notifier.dead-letters',
        value: record.value,
        headers: expect.objectContaining({
          dead_letter_reason: expect.stringContaining(reason),
          dead_letter_topic: 'ledger.events',
          dead_letter_offset: '0',
        }),
      }),
    ])
    expect(await countOf('notifier.notices')).toBe(2)
    expect(await positionOf('ledger.events')).toBe(2n)
  })

  test.each([
    ['a NUL character', { secret: 'a\0' }, 'holds a NUL'],
    ['a template newer than this version', { template: 'new' }, 'template: is unknown to this version'],
  ])('a mail with %s', async (_what, changed, reason) => {
    const { position, handle, mail, seen } = await startInstance()
    await position()
    await handle([mail(0, changed), mail(1)])
    expect(seen.deadLetters.map(({ headers }) => headers.dead_letter_reason)).toEqual([
      expect.stringContaining(reason),
    ])
    expect(await countOf('notifier.deliveries')).toBe(1)
  })
})

test('a record type newer than this version is passed over', async () => {
  const { position, handle, raw, seen } = await startInstance()
  await position()
  await handle([
    raw('ledger.events', 0, Buffer.from([0, 0, 0, 99, 1, 1]), [['ce_type', Buffer.from('a.New')]]),
  ])
  expect(seen.deadLetters).toEqual([])
  expect(await positionOf('ledger.events')).toBe(1n)
})

test('a registry that is away holds the records; they are handled once it is back', async () => {
  const { position, handle, transfer, registry, seen } = await startInstance()
  await position()
  registry.away = true
  await expect(handle([transfer(0)])).rejects.toThrow('registry away')
  expect([await positionOf('ledger.events'), seen.deadLetters]).toEqual([0n, []])
  registry.away = false
  await handle([transfer(0)])
  expect(await positionOf('ledger.events')).toBe(1n)
})

test('batches read by keys, also under plans that were made while the tables were small', async () => {
  const applicationName = 'reads-by-keys'
  const pool = openByKey(database.url('notifier'), { applicationName, maxConnections: 1 })
  const { handle, transfer, position } = await startInstance({}, pool)
  const BATCH = 30
  await position()
  const handleBatch = (batch: number) =>
    handle(Array.from({ length: BATCH }, (_, index) => transfer(batch * BATCH + index)))
  // Postgres keeps a plan from the sixth run of a statement on.
  for (let batch = 0; batch < 10; batch++) {
    await superuser`truncate notifier.notices, notifier.inboxes`
    await superuser`vacuum analyze notifier.notices, notifier.inboxes, notifier.preferences`
    await handleBatch(batch)
  }
  const grown = 5_000
  await superuser`insert into notifier.preferences (user_id) select gen_random_uuid() from generate_series(1, ${grown})`
  await superuser`insert into notifier.inboxes (user_id) select gen_random_uuid() from generate_series(1, ${grown})`
  await superuser`
    insert into notifier.notices (user_id, seq, id, type, data, created_at)
    select gen_random_uuid(), 1, gen_random_uuid(), 'transfer_sent', '{}', now() from generate_series(1, ${grown})`
  for (let batch = 10; batch < 20; batch++) await handleBatch(batch)
  await pool.end()
  // A connection reports what it read before it ends.
  const isOver = async () =>
    (await superuser`select from pg_stat_activity where application_name = ${applicationName}`).length === 0
  await expect.poll(isOver).toBe(true)
  const [read] = await superuser<[{ rows: bigint; byKey: bigint }]>`
    select sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint as rows, sum(idx_scan)::bigint as "byKey"
    from pg_stat_user_tables where schemaname = 'notifier' and relname in ('notices', 'inboxes', 'preferences')`
  expect(read.byKey).toBeGreaterThan(0n)
  expect(read.rows).toBeLessThan(BigInt(grown))
})

test('dead letters that Kafka does not take hold the partition', async () => {
  const { position, handle, raw, transfer, seen } = await startInstance()
  await position()
  seen.deadLetters.push = () => {
    throw new Error('Kafka away')
  }
  await expect(handle([transfer(0), raw('ledger.events', 1, null)])).rejects.toThrow('Kafka away')
  expect([await countOf('notifier.notices'), await positionOf('ledger.events')]).toEqual([0, 0n])
})

test('a gap applies nothing and is read again; one that stays halts the partition', async () => {
  const { position, handle, transfer, mail, seen } = await startInstance()
  await position()
  await handle([transfer(3), mail(0)])
  expect([await countOf('notifier.notices'), await countOf('notifier.deliveries')]).toEqual([0, 1])
  await handle([transfer(3)])
  expect([seen.sought, seen.halted]).toEqual([[0n, 0n], []])
  await handle([transfer(3)])
  expect(seen.halted).toEqual(['the topic no longer holds offset 0'])
})

describe('positions', () => {
  test('begin where the topic begins, and are stored', async () => {
    const { position } = await startInstance({ first: 5n, offset: 9n })
    expect(await position()).toMatchObject([{ offset: 5n }, { offset: 5n }, { offset: 5n }])
    expect(await positionOf('ledger.events')).toBe(5n)
  })

  test('go on where they were stored, or past what the retention deleted', async () => {
    await sql`insert into notifier.positions values ('ledger.events', 0, 7), ('notifier.commands', 0, 2)`
    const { position } = await startInstance({ first: 5n, offset: 9n })
    expect(await position()).toMatchObject([{ offset: 7n }, { offset: 5n }, { offset: 5n }])
  })

  test('X2: records of a topic kept for ever that were deleted before they were read halt their partition', async () => {
    await sql`insert into notifier.positions values ('ledger.events', 0, 2)`
    const { position, seen } = await startInstance({ first: 5n, offset: 9n })
    expect(await position()).toMatchObject([
      { topic: 'identity.events' },
      { topic: 'notifier.commands', offset: 5n },
    ])
    expect(seen.halted).toEqual(['the topic begins at offset 5, but offset 2 is next'])
  })

  test('go back to the beginning of a topic made anew, asked twice', async () => {
    await sql`insert into notifier.positions values ('ledger.events', 0, 7), ('notifier.commands', 0, 7)`
    const { position } = await startInstance({ first: 0n, offset: 3n })
    expect(await position()).toMatchObject([{ offset: 0n }, { offset: 0n }, { offset: 0n }])
  })

  test('X1: a topic made anew is recognised by its last record, however long it is; what was told and purged is not told again', async () => {
    const { position, handle, transfer, seen } = await startInstance({ first: 0n, offset: 100n })
    const at = (record: IncomingRecord, moment: string): IncomingRecord => ({
      ...record,
      headers: [...record.headers, ['ce_time', Buffer.from(moment)]],
    })
    const atOffset = (record: IncomingRecord, offset: number) => ({ ...record, offset: BigInt(offset) })
    const old = at(transfer(1), '2026-01-01T00:00:00.000Z')
    const recent = at(transfer(2), '2026-03-01T11:30:00.000Z')
    const last = at(transfer(3), '2026-03-01T12:00:00.000Z')
    await position()
    await handle([atOffset(old, 0), atOffset(old, 1), atOffset(recent, 2), atOffset(last, 3)])
    await superuser`delete from notifier.notices where transfer_id = ${transferIdOf(alice, '1')}`
    await superuser`delete from notifier.notices where transfer_id = ${transferIdOf(alice, '2')}`
    // The repeat is missing in the new topic, and new events stand where the old ended: nothing ends too early.
    const unheard = at(transfer(4), '2026-03-01T12:00:01.000Z')
    const anew = [old, recent, last, unheard].map(atOffset)
    expect(await position()).toMatchObject([{ offset: 3n }, { offset: 0n }, { offset: 0n }])
    await handle(anew.slice(3))
    expect(seen.sought).toEqual([0n])
    await handle(anew)
    const told = await sql<{ id: string }[]>`
      select distinct transfer_id as id from notifier.notices where user_id = ${alice} order by transfer_id`
    expect(told.map(({ id }) => id)).toEqual(
      ['2', '3', '4'].map(number => transferIdOf(alice, number)).toSorted(),
    )
    expect(
      seen.sequences.filter(([what, wallet]) => what === 'saw' && wallet === alice).length,
    ).toBeGreaterThan(4)
    expect(await position()).toMatchObject([{ offset: 3n }, { offset: 0n }, { offset: 0n }])
    await handle(anew.slice(3))
    expect(seen.sought).toEqual([0n])
  })

  test('X1: of a topic restored from an older backup nothing is told twice, and what it lost is told when it comes', async () => {
    const { position, handle, transfer } = await startInstance({ first: 0n, offset: 1n })
    const at = (record: IncomingRecord, moment: string): IncomingRecord => ({
      ...record,
      headers: [...record.headers, ['ce_time', Buffer.from(moment)]],
    })
    const records = [1, 2, 3].map((number, offset) => ({
      ...at(transfer(number), `2026-0${number}-01T00:00:00.000Z`),
      offset: BigInt(offset),
    }))
    await position()
    await handle(records)
    await superuser`delete from notifier.notices`
    expect(await position()).toMatchObject([{ offset: 0n }, { offset: 0n }, { offset: 0n }])
    await handle(records)
    const told = await sql<{ id: string }[]>`select distinct transfer_id as id from notifier.notices`
    // The last one is of less than an hour before the last handled: its row is looked for, and it was deleted by hand.
    expect(told.map(({ id }) => id)).toEqual([transferIdOf(alice, '3')])
  })

  test('a record that claims a time to come makes nothing old news', async () => {
    const { position, handle, transfer } = await startInstance({ first: 0n, offset: 1n })
    const claiming = transfer(1)
    await position()
    await handle([
      {
        ...claiming,
        offset: 0n,
        headers: [...claiming.headers, ['ce_time', Buffer.from('2999-01-01T00:00:00.000Z')]],
      },
      { ...transfer(2), offset: 1n },
    ])
    await position()
    const [row] = await sql<[{ isPast: boolean }]>`
      select news_since < now() as "isPast" from notifier.positions where topic = 'ledger.events'`
    expect(row.isPast).toBe(true)
  })

  test('the version before may have handled further: its positions are compared with nothing', async () => {
    const { position, handle, transfer } = await startInstance({ first: 0n, offset: 100n })
    await position()
    await handle([transfer(0)])
    await sql`update notifier.positions set next_offset = 5 where topic = 'ledger.events'`
    expect(await position()).toMatchObject([{ offset: 5n }, { offset: 0n }, { offset: 0n }])
  })
})
