import { NOTHING_USED } from '../../packages/rules/src/limits.ts'
import type { LedgerTx, Writes } from '../../services/ledger/src/store.ts'
import {
  ALICE,
  BOB,
  balance,
  balancesOf,
  begin,
  bytes,
  claim,
  endOf,
  entry,
  event,
  holdRow,
  id,
  isWaiting,
  limit,
  NOW,
  OUTSIDE,
  opened,
  type StoreScript,
  TIMEOUTS,
  transfer,
  twoWallets,
  USED,
  write,
  writesOf,
} from './site.ts'

export const TRANSACTIONS: StoreScript[] = [
  {
    name: 'what is committed is read back by every read',
    run: async ({ store, dump }) => {
      await store.readPositions([0])
      await twoWallets(store)
      await write(store, {
        partitions: [{ partition: 0, nextOffset: 7n, lastDigest: bytes('digest'), nextSeq: 3n }],
        balances: [balance(BOB, 5n, 1), balance(ALICE, 95n, 1)],
        transfers: [
          transfer(2, { status: 'rejected', rejectionCode: 'NO', rejectionDetail: 'a "detail", \\ {}' }),
          transfer(1, { note: Buffer.from([0, 1, 255]), metadata: Buffer.alloc(0) }),
          transfer(3, { type: 'fee', linkedTo: id(1_001) }),
        ],
        entries: [entry(ALICE, 1, -5n), entry(BOB, 1)],
        commands: [{ id: id(500), fingerprint: bytes('command'), partition: 0, seq: 2n }],
        journal: [event(0, 1n), event(0, 2n)],
      })
      const read = await store.transact(async tx => ({
        partitions: await tx.lockPartitions([0]),
        wallets: await tx.lockWallets([BOB, ALICE]),
        earlier: (await tx.findOutcomes([id(1_001), id(1_002), id(500), id(501)])).toSorted((a, b) =>
          a.id < b.id ? -1 : 1,
        ),
        own: (await tx.findWalletsOf([ALICE])).length,
        journal: await tx.readJournalAt([{ partition: 0, seq: 2n }]),
      }))
      const after = await store.readJournalAfter(0, 0n, 10)
      return [read, after, await store.readProgress([0]), await dump()]
    },
  },
  {
    name: 'work that throws leaves nothing',
    run: async ({ store, dump }) => {
      await store.readPositions([0])
      await twoWallets(store)
      const before = await dump()
      const failing = store.transact(async tx => {
        await tx.openSystemWallets([OUTSIDE], NOW)
        await tx.writeBatch(
          writesOf({
            partitions: [{ partition: 0, nextOffset: 1n, lastDigest: null, nextSeq: 2n }],
            balances: [balance(ALICE, 1n, 1)],
            transfers: [transfer(1)],
            entries: [entry(ALICE, 1)],
            opened: [opened(id(3), 'C')],
            commands: [{ id: id(500), fingerprint: bytes(''), partition: 0, seq: 1n }],
            journal: [event(0, 1n)],
          }),
        )
        throw new Error('changed its mind')
      })
      const end = await endOf(failing)
      return [end, JSON.stringify(await dump()) === JSON.stringify(before)]
    },
    expected: ['changed its mind', true],
  },
  {
    name: 'a transaction sees its own writes, nobody else does before the commit',
    run: async ({ store }) => {
      await store.readPositions([0])
      await twoWallets(store)
      const look = async (tx: LedgerTx) => [
        (await tx.findOutcomes([id(1_001), id(500)])).length,
        (await tx.readJournalAt([{ partition: 0, seq: 1n }])).length,
        (await tx.findWalletsOf([id(3)])).length,
        (await store.readJournalAfter(0, 0n, 9)).length,
        (await store.readProgress([0]))[0]!.writtenThrough,
      ]
      const writer = await begin(store)
      const reader = await begin(store)
      await writer.tx.writeBatch(
        writesOf({
          partitions: [{ partition: 0, nextOffset: 1n, lastDigest: null, nextSeq: 2n }],
          transfers: [transfer(1)],
          commands: [claim(1), { id: id(500), fingerprint: bytes(''), partition: 0, seq: 1n }],
          opened: [opened(id(3), 'C')],
          journal: [event(0, 1n)],
        }),
      )
      const seen = [await look(writer.tx), await look(reader.tx)]
      await writer.commit()
      seen.push(await look(reader.tx))
      await reader.commit()
      return seen
    },
    expected: [
      [2, 1, 1, 0, 0n],
      [0, 0, 0, 0, 0n],
      [2, 1, 1, 1, 1n],
    ],
  },
  {
    name: 'locked rows come once each, in order, those that are there',
    run: async ({ store }) => {
      await store.readPositions([2, 0, 1])
      await twoWallets(store)
      return store.transact(async tx => [
        (await tx.lockPartitions([2, 0, 2, 9])).map(({ partition }) => partition),
        (await tx.lockWallets([BOB, id(77), ALICE, BOB])).map(({ id }) => id),
        (await tx.lockWallets([])).length,
        (await tx.findOutcomes([])).length,
        (await tx.readJournalAt([{ partition: 0, seq: 1n }])).length,
      ])
    },
    expected: [[0, 2], [ALICE, BOB], 0, 0, 0],
  },
  {
    name: 'a locked partition makes the next one wait, who then sees it fresh, as do the statements after it',
    run: async site => {
      const { store } = site
      await store.readPositions([0, 1])
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockPartitions([0])
      // A lock on another partition does not wait.
      await second.tx.lockPartitions([1])
      const locked = second.tx.lockPartitions([0])
      const earlier = second.tx.findOutcomes([id(1_001)])
      const waits = await isWaiting(site, locked)
      await first.tx.writeBatch(
        writesOf({
          partitions: [{ partition: 0, nextOffset: 4n, lastDigest: bytes('d'), nextSeq: 2n }],
          transfers: [transfer(1)],
          commands: [claim(1)],
          journal: [event(0, 1n)],
        }),
      )
      await first.commit()
      const seen = [(await locked)[0]!.nextOffset, (await earlier).length]
      await second.commit()
      return [waits, seen]
    },
    expected: [true, [4n, 1]],
  },
  {
    name: 'X1: statements are taken in the order in which they are asked for: who waits for the fence has no wallet yet',
    run: async site => {
      const { store } = site
      await store.readPositions([0])
      await twoWallets(store)
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockPartitions([0])
      // In the same order as applyBatch.
      const reads = Promise.all([
        second.tx.lockPartitions([0]),
        second.tx.lockWallets([ALICE]),
        second.tx.findOutcomes([id(1_001)]),
        second.tx.readLimits([ALICE]),
        second.tx.readHolds([id(1_501)]),
        second.tx.readOriginals([id(1_001)]),
        second.tx.findWalletsOf([id(3)]),
      ])
      const waits = await isWaiting(site, reads)
      const isFree = !(await isWaiting(
        site,
        store.transact(tx => tx.lockWallets([ALICE])),
      ))
      await first.tx.writeBatch(
        writesOf({
          transfers: [transfer(1)],
          commands: [claim(1)],
          opened: [opened(id(3), 'C')],
          holds: [holdRow(1)],
          limits: [limit(ALICE)],
        }),
      )
      await first.commit()
      const [, , ...seen] = await reads
      await second.commit()
      return [waits, isFree, seen.map(({ length }) => length)]
    },
    expected: [true, true, [1, 1, 1, 1, 1]],
  },
  {
    name: 'a locked wallet makes the next ones wait in line, and each sees what those before it left',
    run: async site => {
      const { store } = site
      await twoWallets(store)
      const first = await begin(store)
      await first.tx.lockWallets([ALICE])
      const spend = () =>
        store.transact(async tx => {
          const [wallet] = await tx.lockWallets([ALICE])
          const left = wallet!.balance - 10n
          await tx.writeBatch(writesOf({ balances: [balance(ALICE, left, wallet!.sequence + 1)] }))
          return left
        })
      const spent = [spend(), spend(), spend()]
      const waits = await isWaiting(site, Promise.race(spent))
      await first.rollback()
      const left = (await Promise.all(spent)).toSorted((a, b) => Number(b - a))
      return [waits, left, balancesOf(await store.transact(tx => tx.lockWallets([ALICE])))]
    },
    expected: [true, [90n, 80n, 70n], [[ALICE, 70n, 3]]],
  },
  {
    name: 'who waits for a wallet sees the status that it was given meanwhile',
    run: async site => {
      const { store } = site
      await twoWallets(store)
      const first = await begin(store)
      await first.tx.lockWallets([ALICE])
      const frozen = site.setStatus(ALICE, 'frozen', 'self')
      const waits = [await isWaiting(site, frozen)]
      const locked = store.transact(tx => tx.lockWallets([ALICE]))
      waits.push(await isWaiting(site, locked))
      await first.commit()
      await frozen
      return [waits, (await locked)[0]!.status]
    },
    expected: [[true, true], 'frozen'],
  },
  {
    name: 'locks are gone with a rollback, and what was undone is not seen',
    run: async site => {
      const { store } = site
      await twoWallets(store)
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockWallets([ALICE, BOB])
      await first.tx.writeBatch(writesOf({ balances: [balance(ALICE, 1n, 1)] }))
      const locked = second.tx.lockWallets([ALICE])
      const waits = await isWaiting(site, locked)
      await first.rollback()
      const seen = balancesOf(await locked)
      await second.commit()
      return [waits, seen]
    },
    expected: [true, [[ALICE, 100n, 0]]],
  },
  {
    name: 'P1: locks that are asked for in opposite order are taken in one',
    run: async ({ store }) => {
      await twoWallets(store)
      const lock = (ids: string[]) => store.transact(tx => tx.lockWallets(ids))
      const ends = await Promise.all(
        Array.from({ length: 20 }, (_, index) => endOf(lock(index % 2 ? [ALICE, BOB] : [BOB, ALICE]))),
      )
      return [...new Set(ends)]
    },
    expected: ['done'],
  },
  {
    name: 'transactions that wait for each other: one is ended, the other goes on',
    run: async ({ store }) => {
      await twoWallets(store)
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockWallets([ALICE])
      await second.tx.lockWallets([BOB])
      const ends = await Promise.all([
        endOf(first.tx.lockWallets([BOB]).then(first.commit)),
        endOf(second.tx.lockWallets([ALICE]).then(second.commit)),
      ])
      await Promise.allSettled([first.rollback(), second.rollback()])
      return ends.toSorted()
    },
    expected: ['40P01', 'done'],
  },
  {
    name: 'a lock is not waited for without end',
    run: async ({ store }) => {
      await twoWallets(store)
      const [first, second] = [await begin(store), await begin(store)]
      await first.tx.lockWallets([ALICE])
      const end = await endOf(second.tx.lockWallets([ALICE]))
      await first.commit()
      return [end, await endOf(second.commit())]
    },
    // A failed statement fails the whole transaction, even if the work ignores the error.
    expected: ['55P03', '55P03'],
  },
  {
    name: 'a transaction that does nothing for long is ended, its locks and writes with it',
    run: async ({ store, pass }) => {
      await twoWallets(store)
      const idle = await begin(store)
      await idle.tx.lockWallets([ALICE])
      await idle.tx.writeBatch(writesOf({ balances: [balance(ALICE, 1n, 1)] }))
      const ended = idle.ended.then(
        () => 'done',
        () => 'failed',
      )
      await pass(TIMEOUTS.idleMs + 700)
      const seen = balancesOf(await store.transact(tx => tx.lockWallets([ALICE])))
      await idle.commit().catch(() => {})
      return [seen, await ended]
    },
    expected: [[[ALICE, 100n, 0]], 'failed'],
  },
  {
    name: 'a transaction that takes too long is ended, though it is busy',
    run: async ({ store, pass }) => {
      await twoWallets(store)
      const slow = await begin(store)
      await slow.tx.lockWallets([ALICE])
      let end = 'done'
      for (let passed = 0; passed < TIMEOUTS.transactionMs + 1_500 && end === 'done'; passed += 500) {
        await pass(500)
        end = (await endOf(slow.tx.readClock())) === 'done' ? 'done' : 'failed'
      }
      const seen = balancesOf(await store.transact(tx => tx.lockWallets([ALICE])))
      return [end, seen, (await endOf(slow.commit())) === 'done']
    },
    expected: ['failed', [[ALICE, 100n, 0]], false],
  },
  {
    name: 'a key that is taken is a rivalry, and the batch leaves nothing',
    run: async ({ store, dump }) => {
      await store.readPositions([0])
      await twoWallets(store)
      await write(store, {
        transfers: [transfer(1)],
        entries: [entry(ALICE, 1)],
        commands: [{ id: id(500), fingerprint: bytes(''), partition: 0, seq: 2n }],
        journal: [event(0, 1n)],
      })
      const before = JSON.stringify(await dump())
      const tries: Record<string, Partial<Writes>> = {
        transfer: { transfers: [transfer(2), transfer(1, { fingerprint: bytes('other') })] },
        entry: { entries: [entry(BOB, 1), entry(ALICE, 1)] },
        command: { commands: [{ id: id(500), fingerprint: bytes('x'), partition: 1, seq: 9n }] },
        event: { journal: [event(0, 2n), event(0, 1n)] },
        wallet: { opened: [opened(ALICE, 'Z', id(9), 'EUR')] },
        code: { opened: [opened(id(3), 'A')] },
        'open wallet': { opened: [opened(id(3), 'C', ALICE)] },
        'twice in one batch': { transfers: [transfer(3), transfer(3)] },
      }
      const ends: unknown[] = []
      for (const [what, some] of Object.entries(tries)) {
        const error = await write(store, some).catch(error => error)
        ends.push([what, error?.code, store.isRivalry(error)])
      }
      return [ends, JSON.stringify(await dump()) === before]
    },
    expected: [
      ['transfer', 'entry', 'command', 'event', 'wallet', 'code', 'open wallet', 'twice in one batch'].map(
        what => [what, '23505', true],
      ),
      true,
    ],
  },
  {
    name: 'a rival that writes the same key waits for the first: its commit is a rivalry, its rollback is none',
    run: async site => {
      const { store } = site
      const race = async (number: number, how: 'commit' | 'rollback') => {
        const [first, second] = [await begin(store), await begin(store)]
        await first.tx.writeBatch(writesOf({ transfers: [transfer(number)] }))
        const rival = endOf(second.tx.writeBatch(writesOf({ transfers: [transfer(number)] })))
        const waits = await isWaiting(site, rival)
        await first[how]()
        return [waits, await rival, await endOf(second.commit())]
      }
      return [await race(1, 'commit'), await race(2, 'rollback')]
    },
    expected: [
      [true, '23505', '23505'],
      [true, 'done', 'done'],
    ],
  },
  {
    name: 'M3: what the schema forbids is refused, and is no rivalry',
    run: async ({ store, dump }) => {
      await twoWallets(store)
      await store.transact(tx => tx.openSystemWallets([OUTSIDE], NOW))
      const tries: Record<string, Partial<Writes>> = {
        'below zero': { balances: [balance(ALICE, -1n, 1)] },
        'too much': { balances: [balance(ALICE, 9_007_199_254_740_991n, 1)] },
        'outside too low': { balances: [balance(OUTSIDE.id, -9_007_199_254_740_991n, 1)] },
        'an entry over nothing': { entries: [entry(ALICE, 1, 0n)] },
        'entry 0': { entries: [entry(ALICE, 0)] },
        'event 0': { journal: [event(0, 0n)] },
        'rejected without a code': { transfers: [transfer(1, { status: 'rejected' })] },
        'completed with a code': { transfers: [transfer(1, { rejectionCode: 'NO' })] },
        'linked to itself': { transfers: [transfer(1, { linkedTo: transfer(1).id })] },
        'refused and linked': {
          transfers: [transfer(1, { status: 'rejected', rejectionCode: 'NO', linkedTo: transfer(2).id })],
        },
      }
      const before = JSON.stringify(await dump())
      const ends: unknown[] = []
      for (const [what, some] of Object.entries(tries)) {
        const error = await write(store, some).catch(error => error)
        ends.push([what, error?.code, store.isRivalry(error)])
      }
      const unchanged = JSON.stringify(await dump()) === before
      await write(store, { balances: [balance(OUTSIDE.id, -9_007_199_254_740_990n, 1)] })
      return [ends, unchanged]
    },
    expected: [
      [
        'below zero',
        'too much',
        'outside too low',
        'an entry over nothing',
        'entry 0',
        'event 0',
        'rejected without a code',
        'completed with a code',
        'linked to itself',
        'refused and linked',
      ].map(what => [what, '23514', false]),
      true,
    ],
  },
  {
    name: 'a transaction runs on the server that answers outside of it, and says so',
    run: async ({ store }) => (await store.transact(tx => tx.readServer())) === (await store.readServer()),
    expected: true,
  },
  {
    name: 'after a statement has failed the transaction takes no other, and ends as that one did',
    run: async ({ store, dump }) => {
      await twoWallets(store)
      const before = JSON.stringify(await dump())
      const seen: string[] = []
      const end = await endOf(
        store.transact(async tx => {
          await tx.writeBatch(writesOf({ transfers: [transfer(1)] }))
          seen.push(await endOf(tx.writeBatch(writesOf({ opened: [opened(id(3), 'A')] }))))
          seen.push(await endOf(tx.readClock()))
        }),
      )
      const rejected = await endOf(
        store.transact(async tx => {
          await Promise.all([tx.writeBatch(writesOf({ opened: [opened(id(3), 'A')] })), tx.readClock()])
        }),
      )
      return [seen, end, rejected, JSON.stringify(await dump()) === before]
    },
    expected: [['23505', '25P02'], '23505', '23505', true],
  },
  {
    name: 'a balance of a wallet that is not there is an error',
    run: async ({ store }) => {
      await twoWallets(store)
      return endOf(write(store, { balances: [balance(ALICE, 1n, 1), balance(id(77), 1n, 1)] }))
    },
    expected: '2 locked wallets, 1 updated',
  },
  {
    name: 'system wallets are made where they are missing, and locked either way',
    run: async site => {
      const { store, dump } = site
      const suspense = { id: id(91), system: 'suspense:USD:00', currency: 'USD' }
      const [first, second] = [await begin(store), await begin(store)]
      const made = await first.tx.openSystemWallets([OUTSIDE, suspense], NOW)
      await first.tx.writeBatch(writesOf({ balances: [balance(OUTSIDE.id, -5n, 1)] }))
      const again = second.tx.openSystemWallets([suspense, OUTSIDE], NOW)
      const waits = await isWaiting(site, again)
      await first.commit()
      const found = balancesOf(await again)
      const third = store.transact(tx => tx.lockWallets([OUTSIDE.id]))
      const waitsToo = await isWaiting(site, third)
      await second.commit()
      return [made, waits, found, waitsToo, (await third).length, (await dump()).length]
    },
    expected: [
      [OUTSIDE.id, id(91)].map(wallet => ({ ...balance(wallet, 0n, 0), userId: null })),
      true,
      [
        [OUTSIDE.id, -5n, 1],
        [id(91), 0n, 0],
      ],
      true,
      1,
      2,
    ],
  },
  {
    name: 'the wallets of users are all that they have or had, oldest first, of users only',
    run: async ({ store, setStatus }) => {
      await twoWallets(store)
      const later = new Date(NOW.getTime() + 1_000)
      await write(store, {
        opened: [{ ...opened(id(3), 'C', ALICE, 'EUR'), openedAt: later, tier: 'verified', usage: USED }],
      })
      await store.transact(tx => tx.openSystemWallets([OUTSIDE], NOW))
      await setStatus(ALICE, 'frozen', 'staff')
      await setStatus(BOB, 'closed', null)
      const own = await store.transact(tx => tx.findWalletsOf([ALICE, BOB, id(9)]))
      // After a wallet is closed, another may be opened in its place.
      await write(store, { opened: [{ ...opened(id(5), 'E', BOB), openedAt: later }] })
      const again = await store.transact(tx => tx.findWalletsOf([BOB]))
      const [frozen] = await store.transact(tx => tx.lockWallets([ALICE]))
      const back = await endOf(setStatus(BOB, 'active', null))
      return [
        own.filter(({ userId }) => userId === ALICE),
        own.length,
        again.map(wallet => [wallet.id, wallet.status]),
        frozen,
        back,
      ]
    },
    expected: [
      [
        {
          id: ALICE,
          userId: ALICE,
          currency: 'USD',
          status: 'frozen',
          tier: 'unverified',
          usage: NOTHING_USED,
        },
        { id: id(3), userId: ALICE, currency: 'EUR', status: 'active', tier: 'verified', usage: USED },
      ],
      3,
      [
        [BOB, 'closed'],
        [id(5), 'active'],
      ],
      { ...balance(ALICE, 100n, 0), status: 'frozen', freezeSource: 'staff' },
      '23505',
    ],
  },
]
