import type { LedgerStore, LedgerTx, LimitRow, Writes } from '../../services/ledger/src/store.ts'
import {
  ALICE,
  BOB,
  balance,
  begin,
  bytes,
  closed,
  endOf,
  holdEnd,
  holdRow,
  id,
  isWaiting,
  limit,
  opened,
  type StoreScript,
  status,
  transfer,
  twoWallets,
  USED,
  write,
  writesOf,
} from './site.ts'

const byWallet = (a: LimitRow, b: LimitRow) =>
  `${a.walletId} ${a.action} ${a.source}` < `${b.walletId} ${b.action} ${b.source}` ? -1 : 1

/** Writes two wallets; Alice's has a balance of 100 and one hold of 50, with the command that placed it. */
const aliceHolds = async (store: LedgerStore) => {
  await twoWallets(store)
  await write(store, {
    balances: [balance(ALICE, 100n, 0, { held: 50n, usage: USED })],
    holds: [holdRow(1)],
    commands: [{ id: id(1_501), fingerprint: bytes('hold 1'), partition: 0, seq: 1n }],
  })
}

export const OPERATIONS: StoreScript[] = [
  {
    name: 'holds, ends, reversals, limits, tiers and statuses are read back by every read',
    run: async ({ store, dump }) => {
      await store.readPositions([0])
      await aliceHolds(store)
      await write(store, {
        statuses: [status(BOB, { freezeSource: 'pin' })],
        opened: [opened(id(3), 'C'), opened(id(4), 'D')],
        balances: [balance(id(4), 5n, 1, { usage: USED })],
        tiers: [{ id: ALICE, tier: 'verified' }],
        // The second wallet is opened in this batch.
        labels: [
          { id: ALICE, label: bytes('rent') },
          { id: id(3), label: bytes('gone') },
        ],
        limits: [limit(ALICE), limit(ALICE, { source: 'staff' }), limit(BOB, { action: 'deposit' })],
        holds: [
          holdRow(2, { type: 'withdrawal', toWalletId: null, untilMs: null, note: bytes('n') }),
          holdRow(3, { metadata: bytes('m') }),
        ],
        holdEnds: [holdEnd(1), holdEnd(3, { status: 'voided', captured: 0n })],
        transfers: [
          transfer(1, { id: id(1_501), amount: 20n }),
          transfer(2, { type: 'reversal', originalId: id(1_501) }),
          transfer(3, { type: 'reversal', originalId: id(1_501) }),
        ],
        reversals: [
          { originalId: id(1_501), transferId: id(1_002), amount: 5n },
          { originalId: id(1_501), transferId: id(1_003), amount: 7n },
        ],
      })
      await write(store, {
        // A wallet is opened and closed in one batch; a label and a limit are replaced.
        opened: [opened(id(5), 'E')],
        statuses: [closed(id(5)), status(id(3), { freezeSource: 'staff', reason: null })],
        labels: [{ id: id(3), label: null }],
        limits: [limit(ALICE, { perTransaction: null, daily: 9n })],
      })
      const read = await store.transact(async tx => [
        await tx.lockWallets([ALICE, BOB, id(3), id(4), id(5)]),
        (await tx.readHolds([id(1_501), id(1_502), id(1_503), id(1_502), id(1)])).toSorted((a, b) =>
          a.id < b.id ? -1 : 1,
        ),
        await tx.readOriginals([id(1_501), id(1_501), id(1)]),
        (await tx.readLimits([ALICE, BOB, BOB, id(3)])).toSorted(byWallet),
        // A captured hold is found by the command that placed it.
        await tx.findOutcomes([id(1_501)]),
      ])
      return [read, await dump()]
    },
  },
  {
    name: 'operations that are not committed are seen by their own transaction only',
    run: async ({ store }) => {
      await aliceHolds(store)
      await write(store, { transfers: [transfer(1)] })
      const look = async (tx: LedgerTx) => [
        (await tx.readHolds([id(1_501), id(1_502)])).map(({ status }) => status).toSorted(),
        (await tx.readOriginals([id(1_001)])).map(({ reversed }) => reversed),
        (await tx.readLimits([ALICE])).length,
        (await tx.findWalletsOf([BOB])).map(({ status, tier }) => `${status} ${tier}`),
      ]
      const writer = await begin(store)
      const reader = await begin(store)
      await writer.tx.writeBatch(
        writesOf({
          holds: [holdRow(2)],
          holdEnds: [holdEnd(1)],
          reversals: [{ originalId: id(1_001), transferId: id(1_002), amount: 2n }],
          limits: [limit(ALICE)],
          statuses: [status(BOB)],
          tiers: [{ id: BOB, tier: 'verified' }],
        }),
      )
      const seen = [await look(writer.tx), await look(reader.tx)]
      await writer.commit()
      seen.push(await look(reader.tx))
      await reader.commit()
      return seen
    },
    expected: [
      [['active', 'captured'], [2n], 1, ['frozen verified']],
      [['active'], [0n], 0, ['active unverified']],
      [['active', 'captured'], [2n], 1, ['frozen verified']],
    ],
  },
  {
    name: 'a transaction that waits for a wallet then reads its holds, limits and reversals as they are after the wait',
    run: async site => {
      const { store } = site
      await aliceHolds(store)
      await write(store, { transfers: [transfer(1)] })
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockWallets([ALICE])
      const locked = second.tx.lockWallets([ALICE])
      const reads = [
        second.tx.readHolds([id(1_501)]).then(([hold]) => hold!.status),
        second.tx.readOriginals([id(1_001)]).then(([original]) => original!.reversed),
        second.tx.readLimits([ALICE]).then(({ length }) => length),
      ]
      const waits = await isWaiting(site, Promise.race(reads))
      await first.tx.writeBatch(
        writesOf({
          balances: [balance(ALICE, 80n, 1)],
          holdEnds: [holdEnd(1)],
          reversals: [{ originalId: id(1_001), transferId: id(1_002), amount: 2n }],
          limits: [limit(ALICE)],
        }),
      )
      await first.commit()
      const [wallet] = await locked
      const seen = [wallet!.held, ...(await Promise.all(reads))]
      await second.commit()
      return [waits, seen]
    },
    expected: [true, [0n, 'captured', 2n, 1]],
  },
  {
    name: 'M3: what the schema forbids of holds, limits and statuses is refused',
    run: async ({ store, dump }) => {
      await aliceHolds(store)
      const tries: Record<string, Partial<Writes>> = {
        'held below zero': { balances: [balance(ALICE, 100n, 0, { held: -1n })] },
        'held above the balance': { balances: [balance(ALICE, 100n, 0, { held: 101n })] },
        'a hold over nothing': { holds: [holdRow(2, { amount: 0n })] },
        'a hold for nobody': { holds: [holdRow(2, { toWalletId: null })] },
        'a withdrawal to a wallet': { holds: [holdRow(2, { type: 'withdrawal' })] },
        'captured above the hold': { holdEnds: [holdEnd(1, { captured: 51n })] },
        'captured nothing': { holdEnds: [holdEnd(1, { captured: 0n })] },
        'voided and captured': { holdEnds: [holdEnd(1, { status: 'voided' })] },
        'a reversal over nothing': {
          reversals: [{ originalId: id(1_001), transferId: id(1_002), amount: 0n }],
        },
        'a limit below zero': { limits: [limit(ALICE, { daily: -1n })] },
        'a tier that is none': { tiers: [{ id: ALICE, tier: 'golden' as 'verified' }] },
        'frozen by nobody': { statuses: [status(ALICE, { freezeSource: null })] },
        'active and frozen': { statuses: [status(ALICE, { status: 'active' })] },
      }
      const before = JSON.stringify(await dump())
      const ends: unknown[] = []
      for (const [what, some] of Object.entries(tries)) {
        const error = await write(store, some).catch(error => error)
        if (error?.code !== '23514' || store.isRivalry(error)) ends.push([what, error?.code])
      }
      return [ends, JSON.stringify(await dump()) === before]
    },
    expected: [[], true],
  },
  {
    name: 'X1: a hold, its end and a reversal are written once',
    run: async ({ store, dump }) => {
      await aliceHolds(store)
      await write(store, {
        holds: [holdRow(2)],
        holdEnds: [holdEnd(1)],
        reversals: [{ originalId: id(1_001), transferId: id(1_002), amount: 1n }],
      })
      const before = JSON.stringify(await dump())
      const ends: string[] = []
      for (const some of [
        { holds: [holdRow(3), holdRow(1)] },
        { holdEnds: [holdEnd(2, { commandId: id(1_701) })] },
        { reversals: [{ originalId: id(1_001), transferId: id(1_002), amount: 2n }] },
        { reversals: [{ originalId: id(1_009), transferId: id(1_002), amount: 2n }] },
        { holdEnds: [holdEnd(1, { commandId: id(1_799) })] },
        { holdEnds: [holdEnd(2), holdEnd(9)] },
      ]) {
        ends.push(await endOf(write(store, some)))
      }
      return [ends, JSON.stringify(await dump()) === before]
    },
    expected: [
      ['23505', '23505', '23505', '23505', '1 holds to end, 0 ended (X1)', '2 holds to end, 1 ended (X1)'],
      true,
    ],
  },
  {
    name: 'X1: of two that end a hold at once the second waits, and ends it only if the first did not',
    run: async site => {
      const { store } = site
      await aliceHolds(store)
      await write(store, { holds: [holdRow(2)] })
      const race = async (number: number, how: 'commit' | 'rollback') => {
        const [first, second] = [await begin(store), await begin(store)]
        await first.tx.writeBatch(writesOf({ holdEnds: [holdEnd(number)] }))
        const other = holdEnd(number, { status: 'expired', captured: 0n, commandId: id(1_800) })
        const rival = endOf(second.tx.writeBatch(writesOf({ holdEnds: [other] })))
        const waits = await isWaiting(site, rival)
        await first[how]()
        const end = await rival
        await second.rollback().catch(() => {})
        return [waits, end]
      }
      return [await race(1, 'commit'), await race(2, 'rollback')]
    },
    expected: [
      [true, '1 holds to end, 0 ended (X1)'],
      [true, 'done'],
    ],
  },
  {
    name: 'a wallet closed leaves its place: at once in its own transaction, to others once it is committed',
    run: async site => {
      const { store, dump } = site
      await twoWallets(store)
      await write(store, { statuses: [closed(BOB)], opened: [opened(id(3), 'C', BOB)] })
      const race = async (wallet: string, user: string, next: number, how: 'commit' | 'rollback') => {
        const [first, second] = [await begin(store), await begin(store)]
        await first.tx.writeBatch(writesOf({ statuses: [closed(wallet)] }))
        const rival = endOf(second.tx.writeBatch(writesOf({ opened: [opened(id(next), `N${next}`, user)] })))
        const waits = await isWaiting(site, rival)
        await first[how]()
        return [waits, await rival, await endOf(second.commit())]
      }
      const races = [await race(ALICE, ALICE, 5, 'commit'), await race(id(3), BOB, 6, 'rollback')]
      return [races, (await dump()).length]
    },
    expected: [
      [
        [true, 'done', 'done'],
        [true, '23505', '23505'],
      ],
      4,
    ],
  },
  {
    name: 'a limit set anew takes the place of the one before; another that sets it waits',
    run: async site => {
      const { store } = site
      await twoWallets(store)
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.writeBatch(writesOf({ limits: [limit(ALICE), limit(ALICE, { action: 'deposit' })] }))
      const rival = endOf(second.tx.writeBatch(writesOf({ limits: [limit(ALICE, { daily: 7n })] })))
      const waits = await isWaiting(site, rival)
      await first.commit()
      const end = await rival
      await second.commit()
      const read = await store.transact(tx => tx.readLimits([ALICE]))
      return [waits, end, read.toSorted(byWallet)]
    },
    expected: [true, 'done', [limit(ALICE, { action: 'deposit' }), limit(ALICE, { daily: 7n })]],
  },
]
