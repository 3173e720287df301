// All operations besides transfers and deposits, in whole batches against a real Postgres.
import { randomUUID } from 'node:crypto'
import {
  externalWalletId,
  linkedTransferIdOf,
  type SystemWalletKind,
  suspenseWalletId,
  systemWalletId,
  walletIdOf,
} from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { transferRequested } from '@pennywire/contracts/test-records.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import type { BatchResult } from './apply-batch.ts'
import { chargeFees } from './commands/test-fees.ts'
import { readSystemWallets } from './sql/system-wallets.ts'
import {
  dumpBooks,
  findBroken,
  LINKED_TAMPERINGS,
  OPERATION_TAMPERINGS,
  readBooks,
  sequenceAt,
  tryToChangeHistory,
} from './sql/test-database.ts'
import { limitsOf, openTestLedger, type TestLedger, type User, user } from './test-ledger.ts'

const { superuserUrl, registryUrl } = inject('stack')

let codec: Codec
let ledger: TestLedger

beforeAll(async () => {
  codec = await createCodec(connectRegistry(registryUrl))
})
beforeEach(async () => {
  ledger = await openTestLedger(codec, superuserUrl)
})
afterEach(async () => {
  try {
    // The books are correct after every test, except after one that corrupted them.
    if (!tampered) expect(await findBroken(ledger.sql)).toBeUndefined()
  } finally {
    tampered = false
    await ledger.close()
  }
})
let tampered = false

/** Applies a batch and returns its events, decoded. */
const outcomes = async (...records: IncomingRecord[]) => ledger.decode((await ledger.apply(records)).events)
/** Each outcome in short: the event's name, or the code of its refusal. */
const short = (events: Array<Record<string, unknown>>) =>
  events.map(({ code, event }) => (event === 'WalletOpened' ? event : (code ?? event)))
const outcomesInShort = async (...records: IncomingRecord[]) => short(await outcomes(...records))
const funded: TestLedger['funded'] = (...balances) => ledger.funded(...balances)

/** Balance and held of each. */
const stand = async (...users: User[]) => {
  const { wallets } = await readBooks(ledger.sql)
  return users.map(({ wallet }) => [wallets.get(wallet)!.balance, wallets.get(wallet)!.held])
}
const statusOf = async ({ wallet }: User) => {
  const { status, freezeSource } = (await readBooks(ledger.sql)).wallets.get(wallet)!
  return freezeSource ? `${status} by ${freezeSource}` : status
}
const holdOf = async (id: string) => (await readBooks(ledger.sql)).holds.get(id)
/** Places a hold and returns its id. */
const placed = async (from: User, to: User, amount: bigint, holdUntil: number | null = null) => {
  const transferId = randomUUID()
  expect(await outcomesInShort(ledger.hold(from, to, amount, { transferId, holdUntil }))).toEqual([
    'HoldPlaced',
  ])
  return transferId
}
/** Completes a transfer and returns its id. */
const paid = async (from: User, to: User, amount: bigint) => {
  const transferId = randomUUID()
  expect(await outcomesInShort(ledger.transfer(from, to, amount, { transferId }))).toEqual([
    'TransferCompleted',
  ])
  return transferId
}
/** Requests a withdrawal, which waits for the provider, and returns its id. */
const withdrawn = async (from: User, amount: bigint) => {
  const transferId = randomUUID()
  expect(await outcomesInShort(ledger.withdrawal(from, amount, { transferId }))).toEqual(['HoldPlaced'])
  return transferId
}
/** Appends the same command again, as a client or a gateway repeats it. */
const again = (record: IncomingRecord) =>
  ledger.append(record.partition, record.key!.toString(), record.value!)

describe('holds', () => {
  test('placed, captured in part: the rest is free, the hold became the transfer', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const until = Date.now() + 60_000
    const holdId = randomUUID()
    const events = await outcomes(ledger.hold(alice, bob, 80n, { transferId: holdId, holdUntil: until }))
    expect(events).toMatchObject([
      {
        event: 'HoldPlaced',
        transferId: holdId,
        type: 'hold',
        fromWalletId: alice.wallet,
        toWalletId: bob.wallet,
        amountMinor: 80n,
        balanceMinor: 100n,
        heldMinor: 80n,
        sequence: 1,
        holdUntil: until,
      },
    ])
    expect(await stand(alice, bob)).toEqual([
      [100n, 80n],
      [0n, 0n],
    ])
    expect(await outcomesInShort(ledger.transfer(alice, bob, 21n))).toEqual(['INSUFFICIENT_BALANCE'])

    const commandId = randomUUID()
    const [captured] = await outcomes(ledger.capture(holdId, alice, bob, { commandId, amountMinor: 50n }))
    expect(captured).toMatchObject({
      event: 'TransferCompleted',
      transferId: holdId,
      type: 'transfer',
      commandId,
      holdMinor: 80n,
      amountMinor: 50n,
      userId: alice.id,
      entries: [
        { walletId: alice.wallet, amountMinor: -50n, balanceAfterMinor: 50n, sequence: 2 },
        { walletId: bob.wallet, amountMinor: 50n, balanceAfterMinor: 50n, sequence: 1 },
      ],
    })
    expect(await stand(alice, bob)).toEqual([
      [50n, 0n],
      [50n, 0n],
    ])
    expect(await holdOf(holdId)).toMatchObject({ status: 'captured', captured: 50n })
  })

  test('X1: the request, the capture and the void come again: the first events once more, byte for byte', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const [one, two] = [randomUUID(), randomUUID()]
    const commands = [
      ledger.hold(alice, bob, 10n, { transferId: one }),
      ledger.hold(alice, bob, 20n, { transferId: two }),
      ledger.capture(one, alice, bob),
      ledger.voidHold(two, alice, bob),
      ledger.voidHold(one, alice, bob),
    ]
    const first = await ledger.apply(commands)
    const decided = ['HoldPlaced', 'HoldPlaced', 'TransferCompleted', 'HoldEnded', 'HOLD_ENDED']
    expect(short(await ledger.decode(first.events))).toEqual(decided)
    const before = await dumpBooks(ledger.sql)
    const repeated = await ledger.apply(commands.map(again))
    expect(repeated.events).toEqual([])
    expect(repeated.repeats.toSorted((a, b) => Number(a.seq - b.seq))).toEqual(first.events)
    expect(await dumpBooks(ledger.sql)).toBe(before)
    expect(await stand(alice, bob)).toEqual([
      [90n, 0n],
      [10n, 0n],
    ])
  })

  test('X3: other content under a known id is refused, for every kind of command, and changes nothing', async () => {
    const [alice, bob] = (await funded(100n, 100n)) as [User, User]
    const [one, two] = [await placed(alice, bob, 10n), await placed(alice, bob, 20n)]
    const transferId = await paid(bob, alice, 5n)
    const id = () => randomUUID()
    const [captureId, voidId, freezeId, unfreezeId, limitId, reversalId] = [
      id(),
      id(),
      id(),
      id(),
      id(),
      id(),
    ]
    await outcomes(
      ledger.capture(one, alice, bob, { commandId: captureId, amountMinor: 1n }),
      ledger.voidHold(two, alice, bob, { commandId: voidId }),
      ledger.freeze(bob, 'self', { commandId: freezeId }),
      ledger.unfreeze(bob, 'self', { commandId: unfreezeId }),
      ledger.limit(bob, { commandId: limitId, dailyMinor: 50n }),
      ledger.reversal(transferId, bob, alice, 1n, { transferId: reversalId }),
    )
    const before = (await readBooks(ledger.sql)).wallets
    const events = await outcomes(
      ledger.hold(alice, bob, 11n, { transferId: one }),
      ledger.capture(one, alice, bob, { commandId: captureId, amountMinor: 2n }),
      ledger.voidHold(two, alice, bob, { commandId: voidId, source: 'staff' }),
      ledger.freeze(bob, 'staff', { commandId: freezeId }),
      ledger.unfreeze(bob, 'staff', { commandId: unfreezeId }),
      ledger.limit(bob, { commandId: limitId, dailyMinor: 51n }),
      ledger.reversal(transferId, bob, alice, 2n, { transferId: reversalId }),
      // The id of one type of command under another.
      ledger.closeWallet(bob, { commandId: one }),
      ledger.transfer(alice, bob, 1n, { transferId: captureId }),
    )
    expect(short(events)).toEqual(events.map(() => 'IDEMPOTENCY_KEY_REUSED'))
    expect((await readBooks(ledger.sql)).wallets).toEqual(before)
  })

  test('placed, captured and the transfer reversed in one batch', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const holdId = randomUUID()
    const events = await outcomes(
      ledger.hold(alice, bob, 60n, { transferId: holdId }),
      ledger.capture(holdId, alice, bob, { amountMinor: 40n }),
      ledger.voidHold(holdId, alice, bob),
      ledger.reversal(holdId, alice, bob, 40n, { partition: alice.partition }),
      ledger.reversal(holdId, alice, bob, 1n, { partition: alice.partition }),
    )
    expect(short(events)).toEqual([
      'HoldPlaced',
      'TransferCompleted',
      'HOLD_ENDED',
      'TransferReversed',
      'REVERSAL_EXCEEDS_ORIGINAL',
    ])
    expect(await stand(alice, bob)).toEqual([
      [100n, 0n],
      [0n, 0n],
    ])
  })

  test('fifty captures and voids of one hold in one batch: exactly one end', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const holdId = await placed(alice, bob, 100n)
    const ends = Array.from({ length: 50 }, (_, n) =>
      n % 2 === 0 ? ledger.voidHold(holdId, alice, bob) : ledger.capture(holdId, alice, bob),
    )
    const codes = await outcomesInShort(...ends)
    expect([codes[0], codes.slice(1)]).toEqual(['HoldEnded', codes.slice(1).map(() => 'HOLD_ENDED')])
    expect(await stand(alice, bob)).toEqual([
      [100n, 0n],
      [0n, 0n],
    ])
  })

  test('fifty of them over four partitions and two ledgers at once: exactly one end', async () => {
    const [alice, bob] = (await funded(1_000n, 0n)) as [User, User]
    const rival = ledger.rival()
    let moved = 0n
    for (let round = 0; round < 5; round++) {
      const holdId = await placed(alice, bob, 10n)
      const batches = [0, 1, 2, 3].map(partition =>
        Array.from({ length: 12 + (partition % 2) }, (_, n) =>
          (n + partition + round) % 2 === 0
            ? ledger.voidHold(holdId, alice, bob, { partition })
            : ledger.capture(holdId, alice, bob, { partition }),
        ),
      )
      const results = await Promise.all(
        batches.map((batch, index) => ledger.apply(batch, index % 2 === 0 ? ledger.sql : rival)),
      )
      const codes = short(await ledger.decode(results.flatMap(({ events }) => events)))
      expect(codes).toHaveLength(50)
      expect(codes.filter(code => code !== 'HOLD_ENDED')).toHaveLength(1)
      if (codes.includes('TransferCompleted')) moved += 10n
      expect(await stand(alice, bob)).toEqual([
        [1_000n - moved, 0n],
        [moved, 0n],
      ])
    }
  })

  test('a capture in another partition than the wallet that holds: the wallets are what is locked', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const holdId = await placed(alice, bob, 40n)
    expect(
      await outcomesInShort(ledger.capture(holdId, alice, bob, { partition: 3, key: bob.wallet })),
    ).toEqual(['TransferCompleted'])
    const owed = await withdrawn(alice, 10n)
    expect(await outcomes(ledger.capture(owed, alice, null, { partition: 3 }))).toMatchObject([
      { entries: [{ walletId: alice.wallet }, { walletId: externalWalletId('USD', 3) }] },
    ])
    expect(await stand(alice, bob)).toEqual([
      [50n, 0n],
      [40n, 0n],
    ])
  })

  test.each([
    ["another wallet than the hold's", 'HOLD_NOT_FOUND', { walletId: 'carol' }],
    ["another recipient than the hold's", 'HOLD_NOT_FOUND', { toWalletId: 'carol', userId: 'carol' }],
    ['the outside world as its recipient', 'HOLD_NOT_FOUND', { toWalletId: null, source: 'provider' }],
    ['the payer as who asks', 'HOLD_NOT_FOUND', { userId: 'alice' }],
    ['a stranger as who asks', 'HOLD_NOT_FOUND', { userId: 'carol' }],
    ['the provider', 'HOLD_NOT_FOUND', { source: 'provider' }],
    ['staff, for a capture', 'HOLD_NOT_FOUND', { source: 'staff' }],
    ['a source that is none', 'HOLD_NOT_FOUND', { source: 'nobody' }],
    ['another currency', 'CURRENCY_MISMATCH', { currency: 'JPY' }],
    ['more than is held', 'HOLD_AMOUNT_EXCEEDED', { amountMinor: 41n }],
  ])('a capture that names %s is refused: %s', async (_what, code, over) => {
    const [alice, bob, carol] = (await funded(100n, 0n, 100n)) as [User, User, User]
    const holdId = await placed(alice, bob, 40n)
    const named: Record<string, User> = { alice, bob, carol }
    const lies = Object.entries(over).map(([field, value]) => {
      const person = named[String(value)]
      return [field, person ? (field === 'userId' ? person.id : person.wallet) : value]
    })
    expect(await outcomesInShort(ledger.capture(holdId, alice, bob, Object.fromEntries(lies)))).toEqual([
      code,
    ])
    // Staff may void a hold that they may not capture.
    if (code === 'HOLD_NOT_FOUND' && lies.every(([, value]) => value !== 'staff')) {
      expect(await outcomesInShort(ledger.voidHold(holdId, alice, bob, Object.fromEntries(lies)))).toEqual([
        code,
      ])
    }
    expect(ledger.setAside).toEqual([])
    expect(await stand(alice, bob, carol)).toEqual([
      [100n, 40n],
      [0n, 0n],
      [100n, 0n],
    ])
  })

  test('the timer before its time is refused, after it lets go; a capture is then too late', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const now = new Date('2026-05-15T12:00:00Z')
    ledger.circumstances.now = now
    const [one, two] = [
      await placed(alice, bob, 40n, now.getTime() + 1_000),
      await placed(alice, bob, 50n, now.getTime() + 1_000),
    ]
    const timer = { source: 'timer' }
    ledger.circumstances.now = new Date(now.getTime() + 1_000)
    expect(
      await outcomesInShort(ledger.voidHold(one, alice, bob, timer), ledger.capture(one, alice, bob)),
    ).toEqual(['HOLD_NOT_EXPIRED', 'TransferCompleted'])
    ledger.circumstances.now = new Date(now.getTime() + 1_001)
    const events = await outcomes(ledger.capture(two, alice, bob), ledger.voidHold(two, alice, bob, timer))
    expect(events).toMatchObject([
      { code: 'HOLD_EXPIRED' },
      { event: 'HoldEnded', reason: 'expired', amountMinor: 50n, balanceMinor: 60n, heldMinor: 0n },
    ])
    expect((await holdOf(two))?.status).toBe('expired')
  })

  test('of a payer whom staff froze: captured all the same; for a recipient who is gone: not', async () => {
    const [alice, bob, carol] = (await funded(100n, 0n, 0n)) as [User, User, User]
    const [one, two] = [await placed(alice, bob, 40n), await placed(alice, carol, 40n)]
    expect(
      await outcomesInShort(
        ledger.freeze(alice, 'staff'),
        ledger.closeWallet(alice),
        ledger.closeWallet(carol),
        ledger.capture(one, alice, bob),
        ledger.capture(two, alice, carol),
        ledger.voidHold(two, alice, carol),
      ),
    ).toEqual([
      'WalletFrozen',
      'WALLET_FROZEN',
      'WalletClosed',
      'TransferCompleted',
      'RECIPIENT_UNAVAILABLE',
      'HoldEnded',
    ])
  })
})

describe('withdrawals', () => {
  test('held, paid out, the books of the outside world have it', async () => {
    const [alice] = (await funded(100n)) as [User]
    const id = await withdrawn(alice, 70n)
    expect(await stand(alice)).toEqual([[100n, 70n]])
    expect(await outcomes(ledger.capture(id, alice, null))).toMatchObject([
      {
        event: 'TransferCompleted',
        transferId: id,
        type: 'withdrawal',
        toWalletId: null,
        holdMinor: 70n,
        entries: [{ balanceAfterMinor: 30n }, { userId: null, balanceAfterMinor: -30n }],
      },
    ])
    expect(await stand(alice)).toEqual([[30n, 0n]])
  })

  test('refused by the provider: let go', async () => {
    const [alice] = (await funded(100n)) as [User]
    const id = await withdrawn(alice, 70n)
    expect(await outcomes(ledger.voidHold(id, alice, null))).toMatchObject([
      { event: 'HoldEnded', type: 'withdrawal', reason: 'payment_failed' },
    ])
    expect(await stand(alice)).toEqual([[100n, 0n]])
  })

  test.each([
    ['to a wallet that is open', false],
    ['to suspense where the wallet was closed meanwhile', true],
  ])('a payout that came back returns %s', async (_what, closed) => {
    const [alice] = (await funded(100n)) as [User]
    const id = await withdrawn(alice, 100n)
    await outcomes(ledger.capture(id, alice, null))
    if (closed) expect(await outcomesInShort(ledger.closeWallet(alice))).toEqual(['WalletClosed'])
    const result = await ledger.apply([
      ledger.reversal(id, alice, null, 60n),
      ledger.reversal(id, alice, null, 40n),
      ledger.reversal(id, alice, null, 1n),
    ])
    const events = await ledger.decode(result.events)
    expect(short(events)).toEqual(['TransferReversed', 'TransferReversed', 'REVERSAL_EXCEEDS_ORIGINAL'])
    const walletId = closed ? suspenseWalletId('USD', alice.partition) : alice.wallet
    expect(events[1]).toMatchObject({
      originalId: id,
      originalAmountMinor: 100n,
      reversedMinor: 100n,
      entries: [
        { walletId: externalWalletId('USD', alice.partition) },
        { walletId, balanceAfterMinor: 100n },
      ],
    })
    expect(result.counts.suspense).toBe(closed ? 2 : 0)
  })

  test('M3, X2: a full system wallet is succeeded by the next one: what has happened outside is never refused', async () => {
    const [alice] = (await funded(0n)) as [User]
    expect(await readSystemWallets(ledger.sql)).toEqual({ headroom: 1, successors: 0 })
    const deposit = () => ledger.deposit(alice, MAX_MINOR)
    // Alice's wallet takes the first, suspense the next, its successor the third.
    const result = await ledger.apply([deposit(), deposit(), deposit()])
    expect(result.counts.suspense).toBe(2)
    const walletOf = (kind: SystemWalletKind, n: number) => systemWalletId(kind, 'USD', alice.partition, n)
    expect(await ledger.decode(result.events)).toMatchObject([
      { entries: [{ walletId: walletOf('external', 0) }, { walletId: alice.wallet }] },
      {
        entries: [
          { walletId: walletOf('external', 1), sequence: 1, balanceAfterMinor: -MAX_MINOR },
          { walletId: walletOf('suspense', 0), sequence: 1, balanceAfterMinor: MAX_MINOR },
        ],
      },
      { entries: [{ walletId: walletOf('external', 2) }, { walletId: walletOf('suspense', 1) }] },
    ])
    expect(await readSystemWallets(ledger.sql)).toEqual({ headroom: 0, successors: 3 })
    // In a later batch, which opens one more for suspense in case it is needed: what goes out finds room in the first, which has paid, and so does what comes in after it.
    const id = await withdrawn(alice, MAX_MINOR)
    expect(await outcomes(ledger.capture(id, alice, null), deposit())).toMatchObject([
      { entries: [{ walletId: alice.wallet }, { walletId: walletOf('external', 0), balanceAfterMinor: 0n }] },
      { entries: [{ walletId: walletOf('external', 0) }, { walletId: alice.wallet }] },
    ])
    const names = await ledger.sql<{ system: string }[]>`
      select system from ledger.wallets where system is not null order by system`
    const nn = String(alice.partition).padStart(2, '0')
    expect(names.map(({ system }) => system)).toEqual(
      ['external', 'suspense'].flatMap(kind => ['', ':1', ':2'].map(suffix => `${kind}:USD:${nn}${suffix}`)),
    )
  })

  test('a wallet cannot be closed while money of it is on its way out', async () => {
    const [alice] = (await funded(100n)) as [User]
    await withdrawn(alice, 100n)
    expect(await outcomesInShort(ledger.closeWallet(alice))).toEqual(['WALLET_HAS_BALANCE'])
  })

  test('one that names a wallet to go to is refused, and stops nothing', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    expect(
      await outcomesInShort(
        ledger.withdrawal(alice, 10n, { toWalletId: bob.wallet }),
        ledger.transfer(alice, bob, 1n),
      ),
    ).toEqual(['RECIPIENT_NOT_FOUND', 'TransferCompleted'])
  })

  test.each([
    ['to a wallet', 'HOLD_NOT_FOUND', { toWalletId: randomUUID() }],
    ['in another currency', 'CURRENCY_MISMATCH', { currency: 'JPY' }],
    ['by its owner', 'HOLD_NOT_FOUND', { source: 'user' }],
    ['by staff', 'HOLD_NOT_FOUND', { source: 'staff' }],
    ['by the timer', 'HOLD_NOT_FOUND', { source: 'timer' }],
  ])('a capture %s is refused: %s', async (_what, code, lies) => {
    const [alice] = (await funded(100n)) as [User]
    const id = await withdrawn(alice, 100n)
    expect(await outcomesInShort(ledger.capture(id, alice, null, lies))).toEqual([code])
    if (!('currency' in lies))
      expect(await outcomesInShort(ledger.voidHold(id, alice, null, lies))).toEqual([code])
    expect([await stand(alice), ledger.setAside]).toEqual([[[100n, 100n]], []])
  })

  test('a time at which it would end by itself is not kept: only the provider knows', async () => {
    const [alice] = (await funded(100n)) as [User]
    const transferId = randomUUID()
    await outcomes(ledger.withdrawal(alice, 10n, { transferId, holdUntil: 1_000 }))
    expect((await holdOf(transferId))?.until).toBeNull()
    expect(await outcomesInShort(ledger.capture(transferId, alice, null))).toEqual(['TransferCompleted'])
  })
})

describe('reversals', () => {
  test('two in one batch, in two partitions, that together exceed the original: the second is refused', async () => {
    const [alice, bob] = (await funded(100n, 50n)) as [User, User]
    const id = await paid(alice, bob, 100n)
    expect(
      await outcomes(
        ledger.reversal(id, alice, bob, 60n),
        ledger.reversal(id, alice, bob, 41n, { partition: 3 }),
        ledger.reversal(id, alice, bob, 40n, { partition: 3 }),
      ),
    ).toMatchObject([
      {
        event: 'TransferReversed',
        source: 'staff',
        reversedMinor: 60n,
        entries: [
          { walletId: bob.wallet, amountMinor: -60n, balanceAfterMinor: 90n },
          { walletId: alice.wallet, amountMinor: 60n, balanceAfterMinor: 60n },
        ],
      },
      { code: 'REVERSAL_EXCEEDS_ORIGINAL', type: 'reversal' },
      { event: 'TransferReversed', reversedMinor: 100n },
    ])
    expect(await stand(alice, bob)).toEqual([
      [100n, 0n],
      [50n, 0n],
    ])
  })

  test('by two ledgers at once: never more than the original', async () => {
    const [alice, bob] = (await funded(1_000n, 1_000n)) as [User, User]
    const rival = ledger.rival()
    for (let round = 0; round < 10; round++) {
      const id = await paid(alice, bob, 10n)
      const results = await Promise.all([
        ledger.apply([ledger.reversal(id, alice, bob, 6n, { partition: 2 })]),
        ledger.apply([ledger.reversal(id, alice, bob, 6n, { partition: 3 })], rival),
      ])
      const codes = short(await ledger.decode(results.flatMap(({ events }) => events)))
      expect(codes.toSorted()).toEqual(['REVERSAL_EXCEEDS_ORIGINAL', 'TransferReversed'])
    }
    expect(await stand(alice, bob)).toEqual([
      [960n, 0n],
      [1_040n, 0n],
    ])
  })

  test('of a recipient who has spent or promised the money: what is available can go back, no more', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const id = await paid(alice, bob, 100n)
    await paid(bob, alice, 30n)
    await placed(bob, alice, 30n)
    expect(
      await outcomesInShort(ledger.reversal(id, alice, bob, 41n), ledger.reversal(id, alice, bob, 40n)),
    ).toEqual(['INSUFFICIENT_BALANCE', 'TransferReversed'])
  })

  test('of a deposit: the money leaves for the outside world; of one in suspense: refused', async () => {
    const [alice, bob] = (await funded(0n, 0n)) as [User, User]
    const [taken, displaced] = [randomUUID(), randomUUID()]
    const suspense = suspenseWalletId('USD', bob.partition)
    const codes = await outcomesInShort(
      ledger.deposit(alice, 50n, { transferId: taken }),
      ledger.freeze(bob, 'staff'),
      ledger.deposit(bob, 50n, { transferId: displaced }),
      ledger.reversal(taken, null, alice, 50n),
      ledger.reversal(displaced, null, bob, 50n),
      ledger.reversal(displaced, null, bob, 50n, { fromWalletId: suspense }),
    )
    expect(codes.toSorted()).toEqual(
      [
        'TransferCompleted',
        'WalletFrozen',
        'TransferCompleted',
        'TransferReversed',
        'TRANSFER_NOT_FOUND',
        'NOT_REVERSIBLE',
      ].toSorted(),
    )
    expect(await stand(alice, bob)).toEqual([
      [0n, 0n],
      [0n, 0n],
    ])
  })

  test('what cannot be given back has the same answer in its own batch and in a later one', async () => {
    const [alice, bob] = (await funded(100n, 100n)) as [User, User]
    const one = { partition: 0, key: alice.wallet }
    for (const together of [true, false]) {
      const [refused, given, back] = [randomUUID(), randomUUID(), randomUUID()]
      const commands = [
        ledger.transfer(alice, bob, 500n, { transferId: refused }),
        ledger.transfer(alice, bob, 5n, { transferId: given }),
        ledger.reversal(given, alice, bob, 5n, { transferId: back, ...one }),
        ledger.reversal(refused, alice, bob, 5n, one),
        ledger.reversal(back, bob, alice, 5n, one),
        ledger.reversal(given, bob, alice, 5n, one),
        ledger.reversal(given, alice, bob, 5n, { ...one, currency: 'EUR' }),
        ledger.reversal(given, alice, bob, 5n, { ...one, source: 'provider' }),
        ledger.reversal(given, alice, bob, 5n, { ...one, source: 'user' }),
        ledger.reversal(randomUUID(), alice, bob, 5n, one),
      ]
      const codes: unknown[] = []
      if (together) codes.push(...(await outcomesInShort(...commands)))
      else for (const command of commands) codes.push(...(await outcomesInShort(command)))
      expect(codes).toEqual([
        'INSUFFICIENT_BALANCE',
        'TransferCompleted',
        'TransferReversed',
        'NOT_REVERSIBLE',
        'NOT_REVERSIBLE',
        'TRANSFER_NOT_FOUND',
        'CURRENCY_MISMATCH',
        'NOT_REVERSIBLE',
        'NOT_REVERSIBLE',
        'TRANSFER_NOT_FOUND',
      ])
    }
  })

  test('the wallet that the provider says was paid in vain is locked: a lie about the wallet is refused', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const id = await withdrawn(alice, 100n)
    await outcomes(ledger.capture(id, alice, null))
    expect(
      await outcomesInShort(
        ledger.reversal(id, bob, null, 100n),
        ledger.reversal(id, alice, bob, 100n, { source: 'provider' }),
        ledger.reversal(id, alice, null, 100n, { source: 'staff' }),
      ),
    ).toEqual(['TRANSFER_NOT_FOUND', 'TRANSFER_NOT_FOUND', 'NOT_REVERSIBLE'])
  })
})

describe('wallets', () => {
  test('opened, limited, frozen, paid and closed in one batch, and opened anew in the same', async () => {
    const alice = user(0)
    const second = { walletId: walletIdOf(alice.id, 'USD', 1) }
    const bob = user(0)
    ledger.circumstances.limits = limitsOf({ daily: 100n })
    const codes = await outcomesInShort(
      ledger.open(bob),
      ledger.open(alice),
      ledger.limit(alice, { dailyMinor: 60n }),
      ledger.limit(alice, { source: 'staff', action: 'send', dailyMinor: 80n, userId: bob.id }),
      ledger.limit(alice, { source: 'kyc', action: '', tier: 'verified', userId: bob.id }),
      ledger.deposit(alice, 50n),
      ledger.freeze(alice, 'self'),
      ledger.transfer(alice, bob, 1n),
      ledger.unfreeze(alice, 'self'),
      ledger.transfer(alice, bob, 50n),
      ledger.closeWallet(alice),
      ledger.transfer(bob, alice, 1n),
      ledger.open(alice, second),
    )
    expect(codes).toEqual([
      'WalletOpened',
      'WalletOpened',
      'LimitChanged',
      'LimitChanged',
      'LimitChanged',
      'TransferCompleted',
      'WalletFrozen',
      'WALLET_FROZEN',
      'WalletUnfrozen',
      'TransferCompleted',
      'WalletClosed',
      'RECIPIENT_UNAVAILABLE',
      'WalletOpened',
    ])
    expect(await statusOf(alice)).toBe('closed')
    // The second wallet inherits the first one's usage, limits and tier.
    const anew = { ...alice, wallet: second.walletId }
    expect(await statusOf(anew)).toBe('active')
    expect((await readBooks(ledger.sql)).wallets.get(anew.wallet)?.tier).toBe('verified')
    expect(
      await outcomes(
        ledger.deposit(anew, 50n),
        ledger.transfer(anew, bob, 11n),
        ledger.transfer(anew, bob, 10n),
      ),
    ).toMatchObject([
      { event: 'TransferCompleted' },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 60n, usedMinor: 50n },
      { event: 'TransferCompleted' },
    ])
  })

  test('closed in a wallet whose last one is closed in the same batch: one stays open, in any order', async () => {
    const [alice] = (await funded(0n)) as [User]
    const ids = [1, 2, 3].map(n => walletIdOf(alice.id, 'USD', n))
    const commands = ids.flatMap((walletId, n) => [
      ledger.closeWallet({ ...alice, wallet: n === 0 ? alice.wallet : ids[n - 1]! }),
      ledger.open(alice, { walletId }),
    ])
    expect(await outcomesInShort(...commands)).toEqual(
      commands.map((_, n) => (n % 2 ? 'WalletOpened' : 'WalletClosed')),
    )
    expect(await statusOf({ ...alice, wallet: ids[2]! })).toBe('active')
    expect(await outcomesInShort(ledger.open(alice, { walletId: randomUUID() }))).toEqual([
      'WALLET_ALREADY_EXISTS',
    ])
  })

  test('M4: goes on with what was used and set of the last one, though the clock stepped back between them', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const wallets = [0, 1, 2].map(n => ({ ...alice, wallet: walletIdOf(alice.id, 'USD', n) }))
    const [first, second, third] = wallets as [User, User, User]
    // The first wallet was opened while the clock was ahead.
    const noon = Date.parse('2026-05-15T12:00:00Z')
    ledger.circumstances.now = new Date(noon)
    await outcomes(
      ledger.transfer(first, bob, 100n),
      ledger.closeWallet(first),
      ledger.open(alice, { walletId: second.wallet, commandId: randomUUID() }),
    )
    ledger.circumstances.now = new Date(noon - 3_600_000)
    await outcomes(
      ledger.limit(second, { dailyMinor: 150n }),
      ledger.deposit(second, 30n),
      ledger.transfer(second, bob, 30n),
      ledger.closeWallet(second),
    )
    await outcomes(ledger.open(alice, { walletId: third.wallet, commandId: randomUUID() }))
    expect(await outcomes(ledger.deposit(third, 50n), ledger.transfer(third, bob, 21n))).toMatchObject([
      { event: 'TransferCompleted' },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 150n, usedMinor: 130n },
    ])
  })

  test("an id that is somebody else's wallet is refused, and stops nothing", async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const mallory = user(0)
    expect(
      await outcomesInShort(
        ledger.open(mallory, { walletId: alice.wallet, commandId: randomUUID() }),
        ledger.open(mallory, { walletId: externalWalletId('USD', 0), commandId: randomUUID() }),
        ledger.transfer(alice, bob, 1n),
      ),
    ).toEqual(['WALLET_ALREADY_EXISTS', 'WALLET_ALREADY_EXISTS', 'TransferCompleted'])
  })

  test('who may lift whose freeze; the stronger source takes over', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const reason = Buffer.from('ciphertext')
    const steps: Array<[IncomingRecord, string, string]> = [
      [ledger.freeze(alice, 'self', { userId: bob.id }), 'WALLET_NOT_FOUND', 'active'],
      [ledger.unfreeze(alice, 'self'), 'WALLET_NOT_FROZEN', 'active'],
      [ledger.freeze(alice, 'self'), 'WalletFrozen', 'frozen by self'],
      [ledger.freeze(alice, 'self'), 'WALLET_ALREADY_FROZEN', 'frozen by self'],
      [ledger.freeze(alice, 'pin'), 'WalletFrozen', 'frozen by pin'],
      [ledger.unfreeze(alice, 'self'), 'FREEZE_NOT_YOURS', 'frozen by pin'],
      [ledger.freeze(alice, 'staff', { userId: bob.id, reason }), 'WalletFrozen', 'frozen by staff'],
      [ledger.unfreeze(alice, 'pin'), 'FREEZE_NOT_YOURS', 'frozen by staff'],
      [ledger.closeWallet(alice), 'WALLET_FROZEN', 'frozen by staff'],
      [ledger.unfreeze(alice, 'staff', { userId: bob.id }), 'WalletUnfrozen', 'active'],
      [ledger.closeWallet(alice), 'WALLET_HAS_BALANCE', 'active'],
      [ledger.closeWallet(alice, { userId: bob.id }), 'WALLET_NOT_FOUND', 'active'],
    ]
    for (const [command, code, status] of steps) {
      expect([await outcomesInShort(command), await statusOf(alice)]).toEqual([[code], status])
    }
    await paid(alice, bob, 100n)
    expect(
      await outcomesInShort(
        ledger.closeWallet(alice),
        ledger.closeWallet(alice),
        ledger.freeze(alice, 'staff'),
        ledger.unfreeze(alice, 'staff'),
        ledger.limit(alice, { dailyMinor: 1n }),
        ledger.transfer(alice, bob, 1n),
        ledger.withdrawal(alice, 1n),
        ledger.hold(alice, bob, 1n),
      ),
    ).toEqual([
      'WalletClosed',
      'WALLET_ALREADY_CLOSED',
      'WALLET_ALREADY_CLOSED',
      'WALLET_ALREADY_CLOSED',
      'WALLET_ALREADY_CLOSED',
      'WALLET_CLOSED',
      'WALLET_CLOSED',
      'WALLET_CLOSED',
    ])
  })

  test('system wallets are nobody: not frozen, closed, limited or paid', async () => {
    const [alice] = (await funded(100n)) as [User]
    const outside = { ...alice, wallet: externalWalletId('USD', 0) }
    expect(
      await outcomesInShort(
        ledger.freeze(outside, 'staff'),
        ledger.closeWallet(outside),
        ledger.limit(outside, { source: 'staff', dailyMinor: 1n }),
        ledger.transfer(alice, outside, 1n),
        ledger.hold(outside, alice, 1n),
        ledger.withdrawal(outside, 1n),
      ),
    ).toEqual([
      'WALLET_NOT_FOUND',
      'WALLET_NOT_FOUND',
      'WALLET_NOT_FOUND',
      'RECIPIENT_NOT_FOUND',
      'WALLET_NOT_FOUND',
      'WALLET_NOT_FOUND',
    ])
  })
})

test('X1: a transfer and a capture with one id, in two partitions by two ledgers at once: one outcome', async () => {
  const [alice, bob, carol, dave] = (await funded(1_000n, 0n, 1_000n, 0n)) as [User, User, User, User]
  const rival = ledger.rival()
  for (let round = 0; round < 20; round++) {
    const holdId = await placed(alice, bob, 10n)
    const id = randomUUID()
    const results = await Promise.all([
      ledger.apply([ledger.capture(holdId, alice, bob, { commandId: id, partition: 0 })]),
      ledger.apply([ledger.transfer(carol, dave, 1n, { transferId: id, partition: 1 })], rival),
    ])
    const codes = short(await ledger.decode(results.flatMap(({ events }) => events)))
    expect(codes.toSorted()).toEqual(['IDEMPOTENCY_KEY_REUSED', 'TransferCompleted'])
  }
})

describe('limits', () => {
  const noon = new Date('2026-05-15T12:00:00Z')

  test('at the boundary under parallel batches of two ledgers: exactly up to it', async () => {
    const [alice, bob] = (await funded(10_000n, 0n)) as [User, User]
    const rival = ledger.rival()
    ledger.circumstances.now = noon
    ledger.circumstances.limits = limitsOf({ daily: 100n })
    const batches = [0, 1, 2, 3].map(partition =>
      Array.from({ length: 20 }, (_, n) =>
        n % 3 === 0
          ? ledger.hold(alice, bob, 3n, { partition })
          : ledger.transfer(alice, bob, 2n, { partition }),
      ),
    )
    const results = await Promise.all(
      batches.map((batch, index) => ledger.apply(batch, index % 2 === 0 ? ledger.sql : rival)),
    )
    const events = await ledger.decode(results.flatMap(({ events }) => events))
    const used = events
      .filter(({ code }) => code === undefined)
      .reduce((sum, { amountMinor }) => sum + (amountMinor as bigint), 0n)
    expect(used).toBeLessThanOrEqual(100n)
    expect(used).toBeGreaterThan(97n)
    expect(events.some(({ code }) => code === 'DAILY_LIMIT_EXCEEDED')).toBe(true)
  })

  test('each action has its own; across midnight and the end of the month they begin anew', async () => {
    // Earlier than all times below, because the day of a wallet's usage never goes back.
    ledger.circumstances.now = new Date('2026-05-01T00:00:00Z')
    const [alice, bob] = (await funded(10_000n, 0n)) as [User, User]
    ledger.circumstances.limits = limitsOf({ perTransaction: 100n, daily: 150n, monthly: 200n })
    const at = async (time: string, ...amounts: bigint[]) => {
      ledger.circumstances.now = new Date(time)
      return outcomesInShort(...amounts.map(amount => ledger.transfer(alice, bob, amount)))
    }
    const done = 'TransferCompleted'
    expect(await at('2026-05-30T23:59:59.999Z', 101n, 100n, 51n, 50n, 1n)).toEqual([
      'PER_TRANSACTION_LIMIT_EXCEEDED',
      done,
      'DAILY_LIMIT_EXCEEDED',
      done,
      'DAILY_LIMIT_EXCEEDED',
    ])
    expect(await outcomesInShort(ledger.withdrawal(alice, 100n), ledger.withdrawal(alice, 51n))).toEqual([
      'HoldPlaced',
      'DAILY_LIMIT_EXCEEDED',
    ])
    expect(await at('2026-05-31T00:00:00.000Z', 51n, 50n)).toEqual(['MONTHLY_LIMIT_EXCEEDED', done])
    expect(await at('2026-06-01T00:00:00.000Z', 100n, 50n, 1n)).toEqual([done, done, 'DAILY_LIMIT_EXCEEDED'])
    // The same month of another year, and the same day of another month, are other periods.
    expect(await at('2027-06-01T00:00:00.000Z', 100n)).toEqual([done])
    expect(await at('2027-07-01T00:00:00.000Z', 100n)).toEqual([done])
  })

  test('what is let go or not taken is given back to the periods that are still the same', async () => {
    // Earlier than all times below, because the day of a wallet's usage never goes back.
    ledger.circumstances.now = new Date('2026-05-01T00:00:00Z')
    const [alice, bob] = (await funded(10_000n, 0n)) as [User, User]
    ledger.circumstances.limits = limitsOf({ daily: 100n, monthly: 150n })
    ledger.circumstances.now = new Date('2026-05-30T12:00:00Z')
    const [one, two] = [await placed(alice, bob, 50n), await placed(alice, bob, 50n)]
    expect(
      await outcomesInShort(
        ledger.transfer(alice, bob, 1n),
        ledger.voidHold(one, alice, bob),
        ledger.transfer(alice, bob, 51n),
        ledger.transfer(alice, bob, 50n),
      ),
    ).toEqual(['DAILY_LIMIT_EXCEEDED', 'HoldEnded', 'DAILY_LIMIT_EXCEEDED', 'TransferCompleted'])
    // On the next day the amount is given back to the month's usage alone.
    ledger.circumstances.now = new Date('2026-05-31T12:00:00Z')
    expect(
      await outcomes(
        ledger.transfer(alice, bob, 40n),
        ledger.capture(two, alice, bob, { amountMinor: 20n }),
        ledger.transfer(alice, bob, 61n),
        ledger.transfer(alice, bob, 41n),
        ledger.transfer(alice, bob, 40n),
      ),
    ).toMatchObject([
      {},
      { event: 'TransferCompleted' },
      { code: 'DAILY_LIMIT_EXCEEDED', usedMinor: 40n },
      { code: 'MONTHLY_LIMIT_EXCEEDED', usedMinor: 110n },
      { event: 'TransferCompleted' },
    ])
  })

  test("staff's stand over the settings, the user's own only tighten, and both stay when the wallet is opened anew", async () => {
    const [alice, bob] = (await funded(10_000n, 0n)) as [User, User]
    ledger.circumstances.now = noon
    ledger.circumstances.limits = limitsOf({ daily: 100n })
    const staff = { source: 'staff', userId: bob.id }
    expect(
      await outcomes(
        ledger.limit(alice, { dailyMinor: 101n }),
        ledger.limit(alice, { dailyMinor: 1n, userId: bob.id }),
        ledger.limit(alice, { ...staff, dailyMinor: 200n, tier: 'verified' }),
        ledger.limit(alice, { dailyMinor: 180n, tier: 'verified' }),
        ledger.transfer(alice, bob, 181n),
        ledger.transfer(alice, bob, 170n),
        ledger.limit(alice, { dailyMinor: null }),
        ledger.transfer(alice, bob, 31n),
        ledger.transfer(alice, bob, 30n),
        ledger.limit(alice, { ...staff, dailyMinor: 0n, action: 'withdrawal' }),
        ledger.withdrawal(alice, 1n),
        ledger.limit(alice, { action: 'everything', dailyMinor: 1n }),
        ledger.limit(alice, { source: 'nobody', dailyMinor: 1n }),
        ledger.limit(alice, { source: 'kyc', tier: 'royal' }),
      ),
    ).toMatchObject([
      { code: 'LIMIT_ABOVE_MAXIMUM' },
      { code: 'WALLET_NOT_FOUND' },
      { event: 'LimitChanged', source: 'staff', dailyMinor: 200n, ownerId: alice.id, tier: null },
      { event: 'LimitChanged', source: 'self', dailyMinor: 180n, tier: null },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 180n },
      { event: 'TransferCompleted' },
      { event: 'LimitChanged', dailyMinor: null },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 200n, usedMinor: 170n },
      { event: 'TransferCompleted' },
      { event: 'LimitChanged', action: 'withdrawal', dailyMinor: 0n },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 0n },
      { code: 'VALIDATION_ERROR' },
      { code: 'VALIDATION_ERROR' },
      { code: 'VALIDATION_ERROR' },
    ])
    // Closed and opened again, in later batches, in another partition.
    const anew = { ...alice, wallet: walletIdOf(alice.id, 'USD', 1), partition: 2 }
    ledger.circumstances.limits = limitsOf({})
    await outcomes(
      ledger.limit(alice, { ...staff, dailyMinor: 100_000n }),
      ledger.transfer(alice, bob, 9_800n),
    )
    await outcomes(ledger.limit(alice, { ...staff, dailyMinor: 10_050n }), ledger.closeWallet(alice))
    ledger.circumstances.limits = limitsOf({ daily: 1n })
    expect(
      await outcomes(
        ledger.open(anew),
        ledger.deposit(anew, 100n),
        ledger.transfer(anew, bob, 51n),
        ledger.transfer(anew, bob, 50n),
        ledger.withdrawal(anew, 1n),
      ),
    ).toMatchObject([
      { event: 'WalletOpened' },
      { event: 'TransferCompleted' },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 10_050n, usedMinor: 10_000n },
      { event: 'TransferCompleted' },
      { code: 'DAILY_LIMIT_EXCEEDED', limitMinor: 0n },
    ])
  })

  test('a limit that changes in one batch with transfers holds from its place on', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    expect(
      await outcomesInShort(
        ledger.transfer(alice, bob, 10n),
        ledger.limit(alice, { perTransactionMinor: 9n }),
        ledger.transfer(alice, bob, 10n),
        ledger.limit(alice, { perTransactionMinor: 10n }),
        ledger.transfer(alice, bob, 10n),
      ),
    ).toEqual([
      'TransferCompleted',
      'LimitChanged',
      'PER_TRANSACTION_LIMIT_EXCEEDED',
      'LimitChanged',
      'TransferCompleted',
    ])
    expect(await outcomesInShort(ledger.transfer(alice, bob, 11n))).toEqual([
      'PER_TRANSACTION_LIMIT_EXCEEDED',
    ])
  })

  test('a confirmed deposit is booked above every limit, and counted', async () => {
    const [alice] = (await funded(0n)) as [User]
    ledger.circumstances.limits = limitsOf({ perTransaction: 1n, daily: 1n, monthly: 1n })
    expect(await outcomesInShort(ledger.deposit(alice, 50n))).toEqual(['TransferCompleted'])
    expect((await readBooks(ledger.sql)).wallets.get(alice.wallet)?.usage).toMatch(/^\{\d+,0,0,50,50,0,0\}$/)
  })
})

describe('D1, X2: a command that cannot be decided is set aside and answered', () => {
  test('of every type', async () => {
    const [alice, bob] = (await funded(100n, 100n)) as [User, User]
    const holdId = await placed(alice, bob, 10n)
    const transferId = await paid(bob, alice, 10n)
    // An event that cannot be encoded stands for any failure of one record alone.
    const broken = new Set([
      'TransferCompleted',
      'HoldPlaced',
      'HoldEnded',
      'TransferReversed',
      'WalletOpened',
      'WalletFrozen',
      'WalletUnfrozen',
      'WalletClosed',
      'LimitChanged',
    ])
    const failing: Codec = {
      ...codec,
      encode: (name, value) => {
        if (broken.has(name.slice(name.lastIndexOf('.') + 1))) throw new Error(`${name} cannot be encoded`)
        return codec.encode(name, value)
      },
    }
    const carol = user(0)
    const commands = [
      ledger.transfer(alice, bob, 1n),
      ledger.deposit(alice, 1n),
      ledger.hold(alice, bob, 1n),
      ledger.withdrawal(alice, 1n),
      ledger.capture(holdId, alice, bob),
      ledger.voidHold(holdId, alice, bob),
      ledger.reversal(transferId, bob, alice, 10n, { partition: 0 }),
      ledger.open(carol),
      ledger.freeze(alice, 'self'),
      ledger.unfreeze(alice, 'self', {}),
      ledger.closeWallet({ ...alice, wallet: alice.wallet }),
      ledger.limit(alice, { dailyMinor: 1n }),
    ]
    const before = (await readBooks(ledger.sql)).wallets
    const result = await ledger.apply(commands, ledger.sql, failing)
    const codes = short(await ledger.decode(result.events))
    expect(codes).toEqual([
      ...Array.from({ length: 9 }, () => 'INTERNAL_ERROR'),
      'WALLET_NOT_FROZEN',
      'WALLET_HAS_BALANCE',
      'INTERNAL_ERROR',
    ])
    expect(ledger.setAside).toHaveLength(10)
    expect((await readBooks(ledger.sql)).wallets).toEqual(before)
    // Again, with a codec that works: repeats get the same outcome; new commands are decided.
    const repeated: BatchResult = await ledger.apply(commands.map(again))
    expect([repeated.events, repeated.counts.repeated]).toEqual([[], 12])
    expect(
      await outcomesInShort(
        ledger.reversal(transferId, bob, alice, 10n),
        ledger.capture(holdId, alice, bob),
        ledger.freeze(alice, 'self'),
        ledger.unfreeze(alice, 'self'),
      ),
    ).toEqual(['TransferReversed', 'TransferCompleted', 'WalletFrozen', 'WalletUnfrozen'])
  })

  test.each([
    ['an amount of nothing', { amountMinor: 0n }],
    ['a negative amount', { amountMinor: -1n }],
    ['a hold id that is none', { holdId: 'x' }],
    ['a source that is no word', { source: 'Käse' }],
    ['a short fingerprint', { fingerprint: Buffer.alloc(15) }],
  ])('a capture with %s is set aside', async (_what, over) => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const holdId = await placed(alice, bob, 10n)
    const result = await ledger.apply([
      ledger.capture(holdId, alice, bob, over),
      ledger.transfer(alice, bob, 1n),
    ])
    expect(result.counts).toMatchObject({ poison: 1, completed: 1 })
  })
})

test('D1, X2: no batch fails, no matter what is written to the topic, and each command has one event', async () => {
  const [alice, bob, carol] = (await funded(1_000n, 1_000n, 1_000n)) as [User, User, User]
  const people = [alice, bob, carol, user(3), { ...alice, wallet: externalWalletId('USD', 0) }]
  const ids = Array.from({ length: 12 }, () => randomUUID())
  const rival = ledger.rival()
  let seed = 20_260_515
  const below = (most: number) => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((seed / 2 ** 32) * most)
  }
  const one = <Item>(items: readonly Item[]): Item => items[below(items.length)]!
  /** Holds and transfers to end or to reverse; now and then by a user who may not. */
  const earlier: Array<{ id: string; from: User; to: User | null }> = []
  const draw = (): IncomingRecord => {
    const [from, to, known, partition] = [one(people), one(people), one(ids), below(4)]
    const amount = BigInt(1 + below(300))
    const source = one(['self', 'pin', 'staff', 'provider', 'timer', 'user', 'kyc'])
    const currency = one(['USD', 'USD', 'USD', 'USD', 'JPY'])
    const lies = { fromWalletId: one([from.wallet, null]), toWalletId: one([to.wallet, null]) }
    const transferId = below(5) === 0 ? known : randomUUID()
    const over = { partition, currency, transferId, ...(below(8) === 0 ? lies : {}) }
    const commandId = one([known, randomUUID(), randomUUID()])
    const asked = (payee: User | null, record: IncomingRecord) => {
      earlier.push({ id: transferId, from, to: payee })
      return record
    }
    const of = earlier.length > 0 && below(5) > 0 ? one(earlier) : { id: known, from, to: one([to, null]) }
    const end = { partition, commandId, currency, ...(below(4) === 0 ? { source, amountMinor: amount } : {}) }
    return one<() => IncomingRecord>([
      () => asked(to, ledger.transfer(from, to, amount, over)),
      () => ledger.deposit(to, amount * 3n, over),
      () => asked(to, ledger.hold(from, to, amount, { ...over, holdUntil: one([null, null, 1]) })),
      () => asked(null, ledger.withdrawal(from, amount, over)),
      () => ledger.capture(of.id, of.from, of.to, end),
      () => ledger.capture(of.id, of.from, of.to, end),
      () => ledger.voidHold(of.id, of.from, of.to, { partition, commandId, ...(below(3) ? {} : { source }) }),
      () => ledger.reversal(of.id, of.from, of.to, amount, { partition, currency }),
      () => ledger.reversal(of.id, of.from, of.to, 1n, { partition }),
      () => ledger.open(from, { partition, commandId, walletId: one([to.wallet, known]), currency }),
      () =>
        below(3) ? ledger.unfreeze(from, 'staff') : ledger.freeze(from, source, { partition, commandId }),
      () => ledger.closeWallet(from),
      () =>
        ledger.limit(from, {
          partition,
          source,
          dailyMinor: amount * 9n,
          tier: one([null, 'verified', 'x']),
        }),
    ])()
  }
  const seen = new Set<unknown>()
  for (let round = 0; round < 12; round++) {
    const records = Array.from({ length: 80 }, draw)
    const halves = [0, 1].map(half => records.filter(({ partition }) => partition % 2 === half))
    const results = await Promise.all([ledger.apply(halves[0]!), ledger.apply(halves[1]!, rival)])
    const answers = results.reduce((sum, { events, counts }) => sum + events.length + counts.repeated, 0)
    expect(answers).toBe(records.length)
    expect(results.map(({ counts }) => counts.poison)).toEqual([0, 0])
    for (const { events } of results) for (const code of short(await ledger.decode(events))) seen.add(code)
    expect(await findBroken(ledger.sql)).toBeUndefined()
  }
  const done = [
    'TransferCompleted',
    'HoldPlaced',
    'HoldEnded',
    'TransferReversed',
    'WalletFrozen',
    'LimitChanged',
  ]
  expect([...seen]).toEqual(expect.arrayContaining(done))
})

test('X1: the topic read again from offset 0, in other batches, changes nothing', async () => {
  const [alice, bob] = [user(0), user(1)]
  const [one, two, three] = [randomUUID(), randomUUID(), randomUUID()]
  const records = [
    ledger.open(alice),
    ledger.open(bob),
    ledger.deposit(alice, 100n),
    ledger.hold(alice, bob, 10n, { transferId: one }),
    ledger.withdrawal(alice, 20n, { transferId: two }),
    ledger.transfer(alice, bob, 30n, { transferId: three }),
    ledger.capture(one, alice, bob, { amountMinor: 5n }),
    ledger.capture(two, alice, null),
    ledger.reversal(two, alice, null, 20n),
    ledger.reversal(three, alice, bob, 30n),
    ledger.limit(alice, { dailyMinor: 5n }),
    ledger.freeze(bob, 'pin'),
    ledger.transfer(alice, bob, 30n),
  ]
  await ledger.apply(records)
  const before = await dumpBooks(ledger.sql)
  for (const record of records) await ledger.apply([record])
  expect(await dumpBooks(ledger.sql)).toBe(before)
})

test('history cannot be changed by the role that writes it', async () => {
  const [alice, bob] = (await funded(100n, 0n)) as [User, User]
  await placed(alice, bob, 10n)
  await outcomes(ledger.reversal(await paid(alice, bob, 10n), alice, bob, 10n))
  for (const refusal of await tryToChangeHistory(ledger.sql)) expect(refusal).toContain('permission denied')
})

test('ledger_api.sequence_at tells how many entries a wallet had at a moment', async () => {
  const [alice, bob] = (await funded(0n, 0n)) as [User, User]
  const start = Date.parse('2026-05-15T12:00:00Z')
  const at = (seconds: number) => new Date(start + seconds * 1_000)
  const counts = [1, 3, 0, 2, 1, 7]
  for (const [index, count] of counts.entries()) {
    ledger.circumstances.now = at(index * 10)
    await ledger.apply(Array.from({ length: count }, () => ledger.deposit(alice, 1n)))
  }
  const offsets = [-1, 0, 5, 10, 25, 30, 39, 40, 50, 1_000]
  const told = await Promise.all(
    offsets.map(seconds => sequenceAt(ledger.database, alice.wallet, at(seconds))),
  )
  expect(told).toEqual([0n, 1n, 1n, 4n, 4n, 6n, 6n, 7n, 14n, 14n])
  expect(await sequenceAt(ledger.database, bob.wallet, at(0))).toBe(0n)
  expect(await sequenceAt(ledger.database, randomUUID(), at(0))).toBe(0n)
})

describe('movements that come with a transfer', () => {
  beforeEach(() => chargeFees(true))
  afterEach(() => chargeFees(false))

  test('M1, M2, O1: are transfers of their own, decided and told with it; a repeat finds them', async () => {
    const [alice, bob] = (await funded(200n, 0n)) as [User, User]
    const outside = externalWalletId('USD', alice.partition)
    const transferId = randomUUID()
    const [fee, bonus] = [1, 2].map(n => linkedTransferIdOf(transferId, n))
    const record = ledger.transfer(alice, bob, 100n, { transferId })
    const [completed] = await outcomes(record)
    const entry = (walletId: string, amountMinor: bigint, balanceAfterMinor: bigint, at: number) => ({
      ...{ walletId, amountMinor, balanceAfterMinor, sequence: at },
    })
    expect(completed).toMatchObject({
      ...{ event: 'TransferCompleted', transferId, type: 'transfer', amountMinor: 100n },
      entries: [
        ...[entry(alice.wallet, -100n, 100n, 2), entry(bob.wallet, 100n, 100n, 1)],
        ...[entry(alice.wallet, -2n, 98n, 3), entry(outside, 2n, -198n, 2)],
        ...[entry(outside, -1n, -199n, 3), entry(bob.wallet, 1n, 101n, 2)],
      ],
      linked: [
        { transferId: fee, type: 'fee' },
        { transferId: bonus, type: 'bonus' },
      ],
    })
    expect(await stand(alice, bob)).toEqual([
      [98n, 0n],
      [101n, 0n],
    ])
    const rows = await ledger.sql`
      select id, type, status, user_id, from_wallet, to_wallet, amount, linked_to, partition, seq
      from ledger.transfers where id in (${transferId}, ${fee!}, ${bonus!}) order by amount desc`
    const { partition, seq } = rows[0]!
    const row = (
      id: string,
      type: string,
      from: string,
      to: string,
      amount: bigint,
      linked: string | null,
    ) => ({
      ...{ id, type, status: 'completed', user_id: alice.id, from_wallet: from, to_wallet: to, amount },
      ...{ linked_to: linked, partition, seq },
    })
    expect(rows).toEqual([
      row(transferId, 'transfer', alice.wallet, bob.wallet, 100n, null),
      row(fee!, 'fee', alice.wallet, outside, 2n, transferId),
      row(bonus!, 'bonus', outside, bob.wallet, 1n, transferId),
    ])
    const before = await dumpBooks(ledger.sql)
    expect((await ledger.apply([again(record)])).repeats.map(({ seq }) => seq)).toEqual([seq])
    expect(await dumpBooks(ledger.sql)).toBe(before)
  })

  test('M3: within a batch the next one sees what they took', async () => {
    const [alice, bob] = (await funded(102n, 0n)) as [User, User]
    const records = [ledger.transfer(alice, bob, 99n), ledger.transfer(alice, bob, 2n)]
    expect(await outcomesInShort(...records)).toEqual(['TransferCompleted', 'TransferCompleted'])
    expect(await outcomesInShort(ledger.transfer(alice, bob, 1n))).toEqual(['INSUFFICIENT_BALANCE'])
    expect((await stand(alice))[0]).toEqual([0n, 0n])
  })

  test('come with a captured hold too, and only they are refused a reversal', async () => {
    const [alice, bob] = (await funded(100n, 0n)) as [User, User]
    const holdId = await placed(alice, bob, 60n)
    const [captured] = await outcomes(ledger.capture(holdId, alice, bob, { amountMinor: 50n }))
    expect(captured).toMatchObject({ transferId: holdId, linked: [{ type: 'fee' }, { type: 'bonus' }] })
    expect(await stand(alice, bob)).toEqual([
      [50n, 0n],
      [50n, 0n],
    ])
    const outside = externalWalletId('USD', alice.partition)
    const house: User = { ...bob, wallet: outside }
    expect(
      await outcomesInShort(
        ledger.reversal(linkedTransferIdOf(holdId, 1), bob, house, 1n),
        ledger.reversal(holdId, alice, bob, 50n),
      ),
    ).toEqual(['NOT_REVERSIBLE', 'TransferReversed'])
  })

  test.each(LINKED_TAMPERINGS)('verify-books finds %s', async (_what, named, statement) => {
    const [alice, bob] = (await funded(200n, 0n)) as [User, User]
    await paid(alice, bob, 100n)
    await outcomes(ledger.capture(await placed(alice, bob, 10n), alice, bob))
    expect(await findBroken(ledger.sql)).toBeUndefined()
    tampered = true
    await ledger.superuser.unsafe(statement)
    for (const rangeRows of [undefined, 1, 2, 3])
      expect(await findBroken(ledger.sql, rangeRows)).toMatch(new RegExp(named, 'i'))
  })
})

test.each(OPERATION_TAMPERINGS)('verify-books finds %s', async (_what, named, statement) => {
  const [alice, bob] = (await funded(200n, 0n)) as [User, User]
  const [one, two] = [await placed(alice, bob, 10n), await placed(alice, bob, 20n)]
  await placed(alice, bob, 30n)
  const transferId = await paid(alice, bob, 40n)
  await outcomes(ledger.capture(one, alice, bob), ledger.voidHold(two, alice, bob))
  await outcomes(ledger.reversal(transferId, alice, bob, 15n))
  expect(await findBroken(ledger.sql)).toBeUndefined()
  tampered = true
  await ledger.superuser.unsafe(statement)
  // With any range size, and so also where the corruption lies between two ranges.
  for (const rangeRows of [undefined, 1, 2, 3])
    expect(await findBroken(ledger.sql, rangeRows)).toMatch(new RegExp(named, 'i'))
})

test('requests of a type that is not known yet are answered', async () => {
  const [alice, bob] = (await funded(100n, 0n)) as [User, User]
  const value = transferRequested({
    type: 'teleport',
    userId: alice.id,
    fromWalletId: alice.wallet,
    toWalletId: bob.wallet,
  })
  expect(
    await outcomesInShort(
      ledger.command(alice.partition, alice.wallet, 'pennywire.ledger.TransferRequested', value),
    ),
  ).toEqual(['INTERNAL_ERROR'])
})
