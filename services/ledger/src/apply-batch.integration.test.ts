// The money path against a real Postgres: batches as Kafka delivers them, and batches as it never should.
import { randomUUID } from 'node:crypto'
import { displacedDepositIdOf, walletIdOf } from '@pennywire/contracts/ids.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import { transferRequested } from '@pennywire/contracts/test-records.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type postgres from 'postgres'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import type { BatchResult } from './apply-batch.ts'
import {
  dumpBooks,
  findBroken,
  readBalances,
  readPartitions,
  TAMPERINGS,
  tryToChangeHistory,
} from './sql/test-database.ts'
import { openTestLedger, type TestLedger, type User, user } from './test-ledger.ts'

const { superuserUrl, registryUrl } = inject('stack')

let codec: Codec
let ledger: TestLedger
let sql: Database
let superuser: postgres.Sql

beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  ledger = await openTestLedger(codec, superuserUrl)
  ;({ sql, superuser } = ledger)
})
afterEach(() => ledger.close())

const apply: TestLedger['apply'] = (...of) => ledger.apply(...of)
const open: TestLedger['open'] = (...of) => ledger.open(...of)
const deposit: TestLedger['deposit'] = (...of) => ledger.deposit(...of)
const transfer: TestLedger['transfer'] = (...of) => ledger.transfer(...of)
const funded: TestLedger['funded'] = (...of) => ledger.funded(...of)
const decode = ({ events }: BatchResult) => ledger.decode(events)
const balancesOf = async (...users: User[]) => {
  const balances = await readBalances(sql)
  return users.map(({ wallet }) => balances.get(wallet))
}
const expectRightBooks = async () => expect(await findBroken(sql)).toBeUndefined()

describe('a batch', () => {
  test('M1, M2: moves money between wallets of several partitions, each decision seeing those before it', async () => {
    const [alice, bob, carol] = (await funded(100n, 0n, 0n)) as [User, User, User]
    const result = await apply([
      transfer(alice, bob, 100n),
      transfer(bob, carol, 60n),
      transfer(alice, carol, 1n),
      transfer(bob, carol, 40n),
    ])
    expect(result.counts).toMatchObject({ completed: 3, rejected: 1 })
    expect(await balancesOf(alice, bob, carol)).toEqual([0n, 0n, 100n])
    expect(await decode(result)).toMatchObject([
      {
        entries: [
          {
            walletId: alice.wallet,
            userId: alice.id,
            amountMinor: -100n,
            balanceAfterMinor: 0n,
            sequence: 2,
          },
          { walletId: bob.wallet, userId: bob.id, amountMinor: 100n, balanceAfterMinor: 100n, sequence: 1 },
        ],
      },
      { amountMinor: 60n },
      { code: 'INSUFFICIENT_BALANCE' },
      { amountMinor: 40n },
    ])
    await expectRightBooks()
  })

  test('M4: a rejection leaves nothing but itself', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const before = await balancesOf(alice, bob)
    await apply([
      transfer(alice, bob, 101n),
      transfer(alice, alice, 1n),
      transfer(alice, user(), 1n),
      transfer(alice, bob, 1n, { userId: bob.id }),
      transfer(alice, bob, 1n, { expiresAt: 1_001 }),
    ])
    expect(await balancesOf(alice, bob)).toEqual(before)
    await expectRightBooks()
  })

  test('M3: the schema itself refuses what decide would never ask for, and history cannot be changed', async () => {
    const [alice] = (await funded(100n)) as [User]
    await expect(
      superuser`update ledger.wallets set balance = -1 where id = ${alice.wallet}`,
    ).rejects.toThrow('check')
    const refusals = await tryToChangeHistory(sql)
    expect(refusals).toHaveLength(24)
    for (const refusal of refusals) expect(refusal).toContain('permission denied')
  })

  test('frozen and closed wallets are as decide says', async () => {
    const [alice, bob] = (await funded(100n, 100n)) as [User, User]
    await apply([ledger.freeze(bob, 'staff')])
    const result = await apply([transfer(bob, alice, 1n), transfer(alice, bob, 1n), deposit(bob, 5n)])
    expect(await decode(result)).toMatchObject([
      { code: 'WALLET_FROZEN' },
      { code: 'RECIPIENT_UNAVAILABLE' },
      { entries: [{}, { userId: null, amountMinor: 5n }] },
    ])
    expect(result.counts.suspense).toBe(1)
    await expectRightBooks()
  })
})

describe('X1: one id, one effect', () => {
  test('a command that comes again, in the same batch or a later one, is answered by its first event', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const said = { transferId: randomUUID() }
    const first = await apply([transfer(alice, bob, 30n, said), transfer(alice, bob, 30n, said)])
    expect([first.events.length, first.counts.completed, first.counts.repeated]).toEqual([1, 1, 1])
    const again = await apply([transfer(alice, bob, 30n, said)])
    expect([again.events, again.repeats]).toEqual([[], first.events])
    expect(await balancesOf(alice, bob)).toEqual([70n, 30n])
    await expectRightBooks()
  })

  test('X3: other content under the id is refused under its own fingerprint, and the first outcome stands', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const transferId = randomUUID()
    const other = transferRequested({
      transferId,
      userId: alice.id,
      fromWalletId: alice.wallet,
      toWalletId: bob.wallet,
      amountMinor: 31n,
    })
    const result = await apply([
      transfer(alice, bob, 30n, { transferId }),
      transfer(alice, bob, 31n, { transferId }),
    ])
    expect(await decode(result)).toMatchObject([
      { transferId, amountMinor: 30n },
      { commandId: transferId, code: 'IDEMPOTENCY_KEY_REUSED', fingerprint: other.fingerprint },
    ])
    expect(await balancesOf(alice, bob)).toEqual([70n, 30n])
    await expectRightBooks()
  })

  test('a confirmed deposit whose id another request has is booked once, under an id of its own', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const transferId = randomUUID()
    await apply([transfer(alice, bob, 30n, { transferId })])
    await apply([deposit(alice, 500n, { transferId })])
    await apply([deposit(alice, 500n, { transferId })])
    expect(await balancesOf(alice, bob)).toEqual([570n, 30n])
    expect(await dumpBooks(sql)).toContain(displacedDepositIdOf(transferId))
    await expectRightBooks()
  })

  test('a redelivered batch changes nothing', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const batch = [transfer(alice, bob, 10n), transfer(alice, bob, 10n)]
    await apply(batch)
    const before = await dumpBooks(sql)
    const again = await apply(batch)
    expect([again.counts.dropped, again.events, again.repeats]).toEqual([2, [], []])
    expect(await dumpBooks(sql)).toBe(before)
  })

  test('the topic read again from offset 0, in other batches, changes nothing', async () => {
    const users = [user(0), user(1)] as [User, User]
    const records = [
      ...users.map(owner => open(owner)),
      deposit(users[0], 100n),
      transfer(users[0], users[1], 30n),
      transfer(users[0], users[1], 71n),
    ]
    await apply(records)
    const before = await dumpBooks(sql)
    for (const record of records) await apply([record])
    expect(await dumpBooks(sql)).toBe(before)
    expect(await balancesOf(...users)).toEqual([70n, 30n])
  })

  test('two ledgers with the same batch at once: one applies it, the zombie finds it done', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const zombie = ledger.rival()
    for (let round = 0; round < 20; round++) {
      const batch = [transfer(alice, bob, 1n), transfer(bob, alice, 1n), transfer(alice, bob, 1n)]
      const [one, two] = await Promise.all([apply(batch), apply(batch, zombie)])
      expect(one.counts.completed + two.counts.completed).toBe(3)
      expect(one.counts.dropped + two.counts.dropped).toBe(3)
    }
    expect(await balancesOf(alice, bob)).toEqual([80n, 20n])
    await expectRightBooks()
  })

  test('rivals in two partitions open one wallet per user and currency, and each command has an answer', async () => {
    const owner = user(0)
    const second = walletIdOf(owner.id, 'USD', 1)
    const rival = ledger.rival()
    const command = { userId: owner.id, currency: 'USD', requestedAt: 1_000, tier: 'unverified' }
    const records = [
      open(owner),
      ledger.command(1, second, 'pennywire.ledger.WalletOpenRequested', {
        ...command,
        commandId: second,
        walletId: second,
      }),
    ]
    const results = await Promise.all([apply([records[0]!]), apply([records[1]!], rival)])
    expect(results.map(({ counts }) => counts.opened).toSorted()).toEqual([0, 1])
    expect(results.map(({ counts }) => counts.refused).toSorted()).toEqual([0, 1])
    await expectRightBooks()
  })

  test('P1: ledgers whose batches cross in the same wallets do not deadlock', async () => {
    const users = await funded(1_000n, 1_000n, 1_000n, 1_000n)
    const ledgers = [sql, ledger.rival(), ledger.rival(), ledger.rival()]
    for (let round = 0; round < 15; round++) {
      const batches = users.map(from =>
        Array.from({ length: 12 }, (_, n) => transfer(from, users[(from.partition + 1 + (n % 3)) % 4]!, 1n)),
      )
      const results = await Promise.all(batches.map((batch, index) => apply(batch, ledgers[index])))
      for (const { counts } of results) expect(counts.completed).toBe(12)
    }
    await expectRightBooks()
  })
})

describe('the fence', () => {
  test('a gap applies nothing of its partition and says where to read on; other partitions go on', async () => {
    const [alice, bob] = (await funded(100n, 100n)) as [User, User]
    const lost = transfer(alice, bob, 1n)
    const behind = transfer(alice, bob, 2n)
    const fine = transfer(bob, alice, 3n)
    const result = await apply([behind, fine])
    expect(result.gaps).toEqual([{ partition: alice.partition, offset: lost.offset }])
    expect(result.counts.completed).toBe(1)
    const healed = await apply([lost, behind])
    expect([healed.gaps, healed.counts.completed]).toEqual([[], 2])
    expect(await balancesOf(alice, bob)).toEqual([100n, 100n])
    await expectRightBooks()
  })

  test('another record where the last decided one was: the topic is a stranger, and nothing of it is applied', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const { offset } = transfer(alice, bob, 1n)
    const stranger = { ...transfer(alice, bob, 50n), offset: offset - 1n }
    const result = await apply([stranger, { ...transfer(alice, bob, 50n), offset }])
    expect(result.mismatches).toMatchObject([{ partition: alice.partition }])
    expect(await balancesOf(alice, bob)).toEqual([100n, 0n])
  })

  test('the very record that was decided last is no stranger', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const last = transfer(alice, bob, 1n)
    await apply([last])
    const result = await apply([last, transfer(alice, bob, 1n)])
    expect([result.mismatches, result.counts.dropped, result.counts.completed]).toEqual([[], 1, 1])
  })

  test('O1: a batch that fails at its last statement leaves nothing, and goes through afterwards', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const before = [await dumpBooks(sql), await readPartitions(sql)]
    const batch = [transfer(alice, bob, 10n)]
    await superuser`revoke update on ledger.partitions from ledger`
    await expect(apply(batch)).rejects.toThrow('permission denied')
    await superuser`grant update on ledger.partitions to ledger`
    expect([await dumpBooks(sql), await readPartitions(sql)]).toEqual(before)
    expect((await apply(batch)).counts.completed).toBe(1)
    await expectRightBooks()
  })
})

describe('D1: records that nobody can decide', () => {
  const bytes = (text: string) => Buffer.from(text)

  test('are set aside with the reason, and what is around them goes on', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const unknownSchema = Buffer.from([0, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3])
    const result = await apply([
      transfer(alice, bob, 1n),
      ledger.append(alice.partition, alice.wallet, bytes('not avro')),
      ledger.append(alice.partition, alice.wallet, unknownSchema),
      ledger.append(
        alice.partition,
        alice.wallet,
        codec.encode('pennywire.ledger.TransferRequested', transferRequested({})).subarray(0, 9),
      ),
      ledger.append(
        alice.partition,
        alice.wallet,
        codec.encode('pennywire.identity.PinSet', { eventId: randomUUID(), userId: alice.id, occurredAt: 1 }),
      ),
      transfer(alice, bob, 1n),
    ])
    expect(result.counts).toMatchObject({ completed: 2, poison: 4 })
    expect(ledger.setAside.map(({ reason }) => reason)).toEqual([
      'not in the Confluent wire format',
      expect.stringContaining('unknown to the registry'),
      expect.stringContaining('not a pennywire.ledger.TransferRequested'),
      'pennywire.identity.PinSet is no command',
    ])
    expect(await balancesOf(alice, bob)).toEqual([98n, 2n])
    await expectRightBooks()
  })

  test.each<[string, Partial<TransferRequested>]>([
    ['an id that is none', { transferId: 'x' }],
    ['an owner that is none', { userId: "'; drop table ledger.wallets" }],
    ['a currency that is none', { currency: '\0' }],
    ['an amount of nothing', { amountMinor: 0n }],
    ['a negative amount', { amountMinor: -5n }],
    ['a moment beyond time', { requestedAt: 8_640_000_000_000_001 }],
    ['a short fingerprint', { fingerprint: Buffer.alloc(3) }],
  ])('%s is set aside', async (_what, over) => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const result = await apply([transfer(alice, bob, 1n, over), transfer(alice, bob, 1n)])
    expect(result.counts).toMatchObject({ completed: 1, poison: 1 })
    expect(ledger.setAside).toHaveLength(1)
    await expectRightBooks()
  })

  test('X2: one whose id can be read is answered all the same', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const result = await apply([transfer(alice, bob, 1n, { type: 'teleport' })])
    expect(await decode(result)).toMatchObject([{ code: 'INTERNAL_ERROR', type: 'teleport' }])
    expect(ledger.setAside[0]!.reason).toContain('teleport')
    await expectRightBooks()
  })

  test('those in a row are counted, for the partition to stop, wherever a batch begins and ends', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const garbage = (count: number) =>
      Array.from({ length: count }, () => ledger.append(alice.partition, alice.wallet, bytes('?')))
    const counted = async (...records: IncomingRecord[]) =>
      (await apply(records)).setAsideInARow.get(alice.partition)
    expect(await counted(...garbage(10))).toEqual({ atEnd: 10, most: 10 })
    expect(await counted(...garbage(7), transfer(alice, bob, 1n), ...garbage(2))).toEqual({
      atEnd: 2,
      most: 7,
    })
    expect(await counted(transfer(alice, bob, 1n))).toEqual({ atEnd: 0, most: 0 })
  })
})

test.each(TAMPERINGS)('verify-books finds %s', async (_what, named, statement) => {
  const [alice, bob] = (await funded(100n, 0n)) as [User, User]
  await apply([transfer(alice, bob, 10n), transfer(alice, bob, 500n)])
  await expectRightBooks()
  await superuser.unsafe(statement)
  // With any range size, and so also where the corruption lies between two ranges.
  for (const rangeRows of [undefined, 1, 2, 3])
    expect(await findBroken(sql, rangeRows)).toMatch(new RegExp(named, 'i'))
})

test('M1, M2, O1: books that are checked in ranges while transfers go on make no false alarm', async () => {
  const [alice, bob] = (await funded(1_000n, 1_000n)) as [User, User]
  let over = false
  const paying = (async () => {
    for (let turn = 0; turn < 100; turn++)
      await apply([transfer(alice, bob, 3n), transfer(bob, alice, 2n), transfer(alice, bob, 5_000n)])
    over = true
  })()
  // Small ranges, so that transfers commit between any two, and each wallet's end moves while it is read.
  const found: Array<string | undefined> = []
  do found.push(await findBroken(sql, 2))
  while (!over)
  await paying
  found.push(await findBroken(sql, 3))
  expect(found.filter(broken => broken !== undefined)).toEqual([])
})
