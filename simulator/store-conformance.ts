// What the ledger's store promises, as scripts that run against any store: against the simulator's (memory-store.ts)
// and against Postgres (tests/store-conformance.test.ts), so that the replacement is known to behave alike.
import { createHash } from 'node:crypto'
import { displacedDepositIdOf, externalWalletId, walletIdOf } from '@pennywire/contracts/ids.ts'
import type { RecordName, Records, TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type {
  TransferFacts,
  TransferGroundwork,
  TransferQuestion,
  WalletFacts,
} from '../services/gateway/src/sql/ledger-reads.ts'
import type { Payment } from '../services/gateway/src/sql/payments.ts'
import type { PendingRequest } from '../services/gateway/src/sql/pending-requests.ts'
import { applyBatch } from '../services/ledger/src/apply-batch.ts'
import type { Wallet } from '../services/ledger/src/decide.ts'
import type {
  EntryRow,
  JournalRow,
  LedgerStore,
  LedgerTx,
  TransferRow,
  Writes,
} from '../services/ledger/src/store.ts'
import { decodeNow } from './broken-promise.ts'
import { createRandom, type Random } from './random.ts'

/** As both stores are set up here: the ledger's own (main.ts) in their order, shorter. */
export const TIMEOUTS = { lockMs: 1_500, idleMs: 2_500, transactionMs: 4_000 }

/** What the gateway reads of the ledger, and what it keeps itself. */
export type GatewaySite = {
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  readGroundwork: (questions: TransferQuestion[]) => Promise<TransferGroundwork[]>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  writePending: (requests: PendingRequest[]) => Promise<void>
  readPending: (id: string) => Promise<PendingRequest[]>
  /** Written as the provider's order leaves it. */
  writePayment: (payment: Payment) => Promise<unknown>
  readPayment: (id: string) => Promise<Payment | undefined>
  settle: (id: string, status: 'confirmed' | 'failed', reference: string) => Promise<boolean>
}

/** One store, and what a script needs beside it. */
export type StoreSite = {
  store: LedgerStore
  gateway: GatewaySite
  /** The time by the store's own clock. */
  now: () => number
  codec: Codec
  pass: (ms: number) => Promise<void>
  /** Freezes or closes a wallet, for which there is no command yet. */
  setStatus: (
    id: string,
    status: Wallet['status'],
    freezeSource: 'self' | 'pin' | 'staff' | null,
  ) => Promise<unknown>
  /** All rows of all tables, each as text, in an order that is the same for every store. */
  dump: () => Promise<string[]>
}

export type StoreScript = {
  name: string
  run: (site: StoreSite) => Promise<unknown>
  /** What it returns on every store; without it, what it returns is the same on all. */
  expected?: unknown
}

// --- rows ---

const id = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
const ALICE = id(1)
const BOB = id(2)
const OUTSIDE = { id: id(90), system: 'external:USD:00', currency: 'USD' }
const NOW = new Date(1_800_000_000_000)
const bytes = (text: string) => Buffer.from(text)

const writesOf = (some: Partial<Writes>): Writes => ({
  partitions: [],
  balances: [],
  transfers: [],
  entries: [],
  opened: [],
  commands: [],
  journal: [],
  ...some,
})
const opened = (wallet: string, code: string, user = wallet, currency = 'USD') => ({
  id: wallet,
  userId: user,
  code,
  currency,
  openedAt: NOW,
})
const transfer = (number: number, over: Partial<TransferRow> = {}): TransferRow => ({
  id: id(1_000 + number),
  type: 'transfer',
  status: 'completed',
  userId: ALICE,
  fromWallet: ALICE,
  fromSequence: 1,
  toWallet: BOB,
  toSequence: 1,
  amount: 5n,
  currency: 'USD',
  fingerprint: bytes(`fingerprint ${number}`),
  note: null,
  metadata: null,
  requestedAt: NOW,
  decidedAt: NOW,
  rejectionCode: null,
  rejectionDetail: null,
  partition: 0,
  seq: BigInt(number),
  ...over,
})
const entry = (walletId: string, sequence: number, amount = 5n): EntryRow => ({
  walletId,
  sequence,
  transferId: id(1_001),
  amount,
  balanceAfter: 5n,
})
const event = (partition: number, seq: bigint): JournalRow => ({
  partition,
  seq,
  key: ALICE,
  headers: `{"seq":"${seq}","odd":"\\\\ \\" {}"}`,
  bytes: Buffer.from([0, 255, Number(seq)]),
})
const balance = (wallet: string, amount: bigint, sequence: number): Wallet => ({
  id: wallet,
  userId: wallet,
  currency: 'USD',
  status: 'active',
  freezeSource: null,
  balance: amount,
  held: 0n,
  sequence,
})

// --- transactions that are led by hand ---

class RolledBack extends Error {}

/** A transaction that does what the script says when it says it. */
const begin = async (store: LedgerStore) => {
  const begun = Promise.withResolvers<LedgerTx>()
  const over = Promise.withResolvers<void>()
  const ended = store.transact(async tx => {
    begun.resolve(tx)
    await over.promise
  })
  ended.catch(begun.reject)
  return {
    tx: await begun.promise,
    ended,
    commit: () => {
      over.resolve()
      return ended
    },
    rollback: async () => {
      over.reject(new RolledBack())
      await ended.catch(error => {
        if (!(error instanceof RolledBack)) throw error
      })
    },
  }
}

const write = (store: LedgerStore, some: Partial<Writes>): Promise<void> =>
  store.transact(tx => tx.writeBatch(writesOf(some)))

/** How something ends: 'done', or the error's code; its text where it has none. */
const endOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'done',
    error => String((error as { code?: string }).code ?? (error as Error).message),
  )

const WAITING_MS = 250
/** Whether something waits: it is not done, nor failed, after a while that is long for anything that could go on. */
const isWaiting = ({ pass }: StoreSite, promise: Promise<unknown>): Promise<boolean> =>
  Promise.race([pass(WAITING_MS).then(() => true), endOf(promise).then(() => false)])

const twoWallets = (store: LedgerStore) =>
  store.transact(async tx => {
    await tx.writeBatch(writesOf({ opened: [opened(ALICE, 'A'), opened(BOB, 'B')] }))
    await tx.writeBatch(writesOf({ balances: [balance(ALICE, 100n, 0)] }))
  })
const balancesOf = (wallets: Wallet[]) => wallets.map(wallet => [wallet.id, wallet.balance, wallet.sequence])

// --- the store's own promises ---

const TRANSACTIONS: StoreScript[] = [
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
        ],
        entries: [entry(ALICE, 1, -5n), entry(BOB, 1)],
        commands: [{ id: id(500), fingerprint: bytes('command'), partition: 0, seq: 2n }],
        journal: [event(0, 1n), event(0, 2n)],
      })
      const read = await store.transact(async tx => ({
        partitions: await tx.lockPartitions([0]),
        wallets: await tx.lockWallets([BOB, ALICE]),
        earlier: (await tx.findEarlier([id(1_001), id(1_002), id(500), id(501)])).toSorted((a, b) =>
          a.id < b.id ? -1 : 1,
        ),
        open: (await tx.findOpenWallets([ALICE])).length,
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
        (await tx.findEarlier([id(1_001), id(500)])).length,
        (await tx.readJournalAt([{ partition: 0, seq: 1n }])).length,
        (await tx.findOpenWallets([id(3)])).length,
        (await store.readJournalAfter(0, 0n, 9)).length,
        (await store.readProgress([0]))[0]!.writtenThrough,
      ]
      const writer = await begin(store)
      const reader = await begin(store)
      await writer.tx.writeBatch(
        writesOf({
          partitions: [{ partition: 0, nextOffset: 1n, lastDigest: null, nextSeq: 2n }],
          transfers: [transfer(1)],
          commands: [{ id: id(500), fingerprint: bytes(''), partition: 0, seq: 1n }],
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
        (await tx.findEarlier([])).length,
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
      // Another partition waits for nobody.
      await second.tx.lockPartitions([1])
      const locked = second.tx.lockPartitions([0])
      const earlier = second.tx.findEarlier([id(1_001)])
      const waits = await isWaiting(site, locked)
      await first.tx.writeBatch(
        writesOf({
          partitions: [{ partition: 0, nextOffset: 4n, lastDigest: bytes('d'), nextSeq: 2n }],
          transfers: [transfer(1)],
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
    // What failed within a transaction fails the whole, though the work did not mind.
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
      ].map(what => [what, '23514', false]),
      true,
    ],
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
    name: 'open wallets are those that are not closed, frozen ones too, of users only',
    run: async ({ store, setStatus }) => {
      await twoWallets(store)
      await write(store, { opened: [opened(id(3), 'C', ALICE, 'EUR'), opened(id(4), 'D', id(4))] })
      await store.transact(tx => tx.openSystemWallets([OUTSIDE], NOW))
      await setStatus(ALICE, 'frozen', 'staff')
      await setStatus(BOB, 'closed', null)
      const open = await store.transact(tx => tx.findOpenWallets([ALICE, BOB, id(9)]))
      // A closed wallet leaves its place to another.
      await write(store, { opened: [opened(id(5), 'E', BOB)] })
      const again = await store.transact(tx => tx.findOpenWallets([BOB]))
      const [frozen] = await store.transact(tx => tx.lockWallets([ALICE]))
      return [open.map(({ currency }) => currency).toSorted(), again, frozen]
    },
    expected: [
      ['EUR', 'USD'],
      [{ userId: BOB, currency: 'USD' }],
      { ...balance(ALICE, 100n, 0), status: 'frozen', freezeSource: 'staff' },
    ],
  },
]

const byPartition = (a: { partition: number }, b: { partition: number }) => a.partition - b.partition

const POSITIONS: StoreScript[] = [
  {
    name: 'positions begin at 0 and are made once',
    run: async ({ store }) => {
      const first = (await store.readPositions([1, 0])).toSorted(byPartition)
      await write(store, { partitions: [{ partition: 1, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      // A partition that nobody has seen is not made by writing to it.
      await write(store, { partitions: [{ partition: 5, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      const ends = await Promise.all([store.readPositions([0, 1, 2]), store.readPositions([2, 1, 0])])
      const progress = (await store.readProgress([0, 1, 2, 5])).toSorted(byPartition)
      return [first, ends[0].toSorted(byPartition), ends[1].length, progress.length, progress[0]]
    },
    expected: [
      [
        { partition: 0, nextOffset: 0n },
        { partition: 1, nextOffset: 0n },
      ],
      [
        { partition: 0, nextOffset: 0n },
        { partition: 1, nextOffset: 9n },
        { partition: 2, nextOffset: 0n },
      ],
      3,
      3,
      { partition: 0, publishedThrough: 0n, writtenThrough: 0n },
    ],
  },
  {
    name: 'O1: a published mark is raised and never lowered, whoever comes late',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      const marks = async () =>
        (await store.readProgress([0, 1])).toSorted(byPartition).map(row => row.publishedThrough)
      const raised = (...of: [number, bigint][]) => store.raisePublished(new Map(of)).then(marks)
      return [
        await raised([0, 5n], [1, 1n]),
        await raised([0, 3n], [1, 2n], [7, 9n]),
        await raised([0, 5n]),
        await raised([0, 6n]),
        await raised(),
      ]
    },
    expected: [
      [5n, 1n],
      [5n, 2n],
      [5n, 2n],
      [6n, 2n],
      [6n, 2n],
    ],
  },
  {
    name: 'a mark is raised while a batch holds the partition: the relay waits for nobody',
    run: async ({ store }) => {
      await store.readPositions([0])
      const batch = await begin(store)
      await batch.tx.lockPartitions([0])
      await store.raisePublished(new Map([[0, 1n]]))
      const progress = await store.readProgress([0])
      await batch.commit()
      return progress
    },
    expected: [{ partition: 0, publishedThrough: 1n, writtenThrough: 0n }],
  },
  {
    name: 'the journal is read in order from a place on, and at places',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      await write(store, { journal: [event(0, 1n), event(1, 1n), event(0, 2n), event(0, 3n)] })
      const after = async (...of: [number, bigint, number]) =>
        (await store.readJournalAfter(...of)).map(row => [row.partition, row.seq])
      const at = await store.transact(tx =>
        tx.readJournalAt([
          { partition: 0, seq: 3n },
          { partition: 1, seq: 1n },
          { partition: 1, seq: 2n },
          { partition: 8, seq: 1n },
        ]),
      )
      return [
        await after(0, 0n, 10),
        await after(0, 1n, 1),
        await after(0, 3n, 10),
        await after(8, 0n, 10),
        at.toSorted(byPartition),
      ]
    },
    expected: [
      [
        [0, 1n],
        [0, 2n],
        [0, 3n],
      ],
      [[0, 2n]],
      [],
      [],
      [event(0, 3n), event(1, 1n)],
    ],
  },
]

// --- the money path over it ---

const PARTITIONS = [0, 1, 2]

/** A topic in memory, and a ledger that applies what it is given of it. Time stands still; codes are not told. */
const createLedger = (site: StoreSite) => {
  const log = PARTITIONS.map((): IncomingRecord[] => [])
  const setAside: string[] = []
  const store: LedgerStore = {
    ...site.store,
    transact: work =>
      site.store.transact(tx => {
        const readClock = () => tx.readClock().then(() => NOW)
        return work({ ...tx, readClock })
      }),
  }
  const append = (partition: number, key: string, value: Buffer): IncomingRecord => {
    const records = log[partition]!
    const offset = BigInt(records.length)
    const record: IncomingRecord = {
      topic: 'ledger.commands',
      partition,
      offset,
      timestamp: 0,
      key: Buffer.from(key),
      value,
      headers: [],
    }
    records.push(record)
    return record
  }
  const command = <Name extends RecordName>(
    partition: number,
    key: string,
    name: Name,
    value: Records[Name],
  ) => append(partition, key, site.codec.encode(name, value))
  /** What an event says. A wallet's code is drawn anew in each run. */
  const tell = ({ bytes, ...row }: JournalRow) => {
    const event = decodeNow(bytes)
    return { ...row, type: event?.type, value: { ...event?.value, code: 'code' in (event?.value ?? {}) } }
  }
  return {
    log,
    append,
    setAside,
    open: ({ user, wallet, partition }: Person, over: { id?: string; currency?: string } = {}) =>
      command(partition, wallet, 'pennywire.ledger.WalletOpenRequested', {
        commandId: over.id ?? wallet,
        walletId: over.id ?? wallet,
        userId: user,
        currency: over.currency ?? 'USD',
        requestedAt: 1_000,
      }),
    ask: (person: Person, over: Partial<TransferRequested> & { transferId: string }) => {
      const said = { amountMinor: 10n, currency: 'USD', fromWalletId: null, toWalletId: null, ...over }
      const { fromWalletId, toWalletId, amountMinor, currency } = said
      return command(person.partition, person.wallet, 'pennywire.ledger.TransferRequested', {
        type: 'transfer',
        userId: person.user,
        fingerprint: createHash('md5')
          .update(`${fromWalletId} ${toWalletId} ${amountMinor} ${currency}`)
          .digest(),
        requestedAt: 1_000,
        expiresAt: null,
        authenticatedBy: 'step_up',
        authenticatedAt: 1_000,
        note: null,
        metadata: null,
        ...said,
      })
    },
    apply: async (records: IncomingRecord[]) => {
      const result = await applyBatch(
        {
          store,
          codec: site.codec,
          setAside: async ({ partition, offset }, reason) =>
            void setAside.push(`${partition}/${offset}: ${reason}`),
        },
        records,
      )
      return {
        ...result,
        events: result.events.map(tell),
        repeats: result.repeats.map(tell).toSorted((a, b) => byPartition(a, b) || Number(a.seq - b.seq)),
        setAsideInARow: [...result.setAsideInARow],
      }
    },
  }
}

type Person = { user: string; wallet: string; partition: number }
const person = (number: number): Person => {
  const user = id(10 + number)
  return { user, wallet: walletIdOf(user, 'USD', 0), partition: number % PARTITIONS.length }
}
const to = (amountMinor: bigint, from: Person, recipient: Person) => ({
  fromWalletId: from.wallet,
  toWalletId: recipient.wallet,
  amountMinor,
})
const into = (amountMinor: bigint, recipient: Person) => ({
  type: 'deposit',
  toWalletId: recipient.wallet,
  amountMinor,
})

/** Two people with a wallet each, the first with 100. */
const begunLedger = async (site: StoreSite) => {
  const ledger = createLedger(site)
  const [alice, bob] = [person(0), person(1)]
  await site.store.readPositions(PARTITIONS)
  await ledger.apply([ledger.open(alice), ledger.open(bob)])
  await ledger.apply([ledger.ask(alice, { transferId: id(2_000), ...into(100n, alice) })])
  return { ...ledger, alice, bob }
}

const MONEY_PATH: StoreScript[] = [
  {
    name: 'batches: opened, paid in, moved, refused, expired',
    run: async site => {
      const { alice, bob, ask, open, apply } = await begunLedger(site)
      const results = [
        await apply([
          ask(alice, { transferId: id(2_001), ...to(60n, alice, bob) }),
          ask(alice, { transferId: id(2_002), ...to(60n, alice, bob) }),
          ask(bob, { transferId: id(2_003), ...to(60n, bob, alice), note: bytes('note') }),
          ask(alice, { transferId: id(2_004), ...to(1n, alice, bob), expiresAt: NOW.getTime() - 1 }),
          ask(alice, { transferId: id(2_005), ...to(1n, alice, person(2)) }),
        ]),
        await apply([
          open(alice),
          open(alice, { id: walletIdOf(alice.user, 'USD', 1) }),
          open(alice, { id: walletIdOf(alice.user, 'EUR', 0), currency: 'EUR' }),
        ]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'X1: the same command again, in its batch and later, in its partition and another, has its first event',
    run: async site => {
      const { alice, bob, ask, apply } = await begunLedger(site)
      const said = { transferId: id(2_001), ...to(30n, alice, bob) }
      const elsewhere = { ...alice, partition: 2 }
      const results = [
        await apply([ask(alice, said), ask(alice, said)]),
        await apply([ask(alice, said), ask(elsewhere, said)]),
        await apply([ask(alice, { ...said, amountMinor: 31n })]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'X1: what was decided is dropped, what is ahead is a gap, what is another is a stranger',
    run: async site => {
      const { alice, bob, ask, apply, log } = await begunLedger(site)
      const records = [1, 2, 3].map(n => ask(alice, { transferId: id(2_000 + n), ...to(1n, alice, bob) }))
      const fine = ask(bob, { transferId: id(2_010), ...to(1n, bob, alice) })
      const results = [
        await apply([records[1]!, fine]),
        await apply(records),
        await apply(log[0]!),
        await apply([{ ...records[2]!, value: fine.value }]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'a deposit that its wallet cannot take waits in suspense; one whose id is taken is booked beside it',
    run: async site => {
      const { alice, bob, ask, apply } = await begunLedger(site)
      await site.setStatus(bob.wallet, 'frozen', 'staff')
      const taken = { transferId: id(2_002), ...into(9n, alice) }
      const results = [
        await apply([
          ask(bob, { transferId: id(2_001), ...into(7n, bob) }),
          ask(alice, { transferId: id(2_002), ...to(1n, alice, bob) }),
        ]),
        await apply([ask(alice, taken)]),
        await apply([ask(alice, taken), ask(person(2), { transferId: id(2_003), ...into(1n, person(2)) })]),
      ]
      const booked = await site.store.transact(tx => tx.findEarlier([displacedDepositIdOf(id(2_002))]))
      const [outside] = await site.store.transact(tx => tx.lockWallets([externalWalletId('USD', 0)]))
      return [results, booked.length, outside, await site.dump()]
    },
  },
  {
    name: 'D1: what nobody can decide is set aside, answered where it has an id, and the rest goes on',
    run: async site => {
      const { alice, bob, ask, append, apply, setAside } = await begunLedger(site)
      const result = await apply([
        append(0, alice.wallet, bytes('no record')),
        ask(alice, { transferId: id(2_001), ...to(1n, alice, bob), type: 'teleport' }),
        ask(alice, { transferId: id(2_002), ...to(1n, alice, bob) }),
        ask(alice, { transferId: id(2_003), ...to(1n, alice, bob), currency: 'XXX' }),
      ])
      return [result, setAside, await site.dump()]
    },
  },
  {
    name: 'X1: two ledgers with the same batch at once: one applies it, the other finds it done',
    run: async site => {
      const { alice, bob, ask, apply } = await begunLedger(site)
      const sums: number[][] = []
      for (let round = 0; round < 5; round++) {
        const batch = [0, 1, 2].map(n =>
          ask(alice, { transferId: id(2_100 + 3 * round + n), ...to(2n, alice, bob) }),
        )
        const both = await Promise.all([apply(batch), apply(batch)])
        const sum = (what: 'completed' | 'dropped') =>
          both.reduce((total, { counts }) => total + counts[what], 0)
        sums.push([sum('completed'), sum('dropped'), both.filter(({ events }) => events.length > 0).length])
      }
      return [sums, balancesOf(await site.store.transact(tx => tx.lockWallets([alice.wallet])))]
    },
    expected: [Array.from({ length: 5 }, () => [3, 3, 1]), [[person(0).wallet, 70n, 16]]],
  },
  {
    name: 'X1: one id in two partitions at once is decided once, and the other is told of it',
    run: async site => {
      const { alice, bob, ask, apply } = await begunLedger(site)
      const counts: number[][] = []
      for (let round = 0; round < 5; round++) {
        const said = { transferId: id(2_100 + round), ...to(2n, alice, bob) }
        const both = await Promise.all([
          apply([ask(alice, said)]),
          apply([ask({ ...alice, partition: 2 }, said)]),
        ])
        const sum = (what: 'completed' | 'repeated') =>
          both.reduce((total, { counts }) => total + counts[what], 0)
        counts.push([sum('completed'), sum('repeated')])
      }
      return counts
    },
    expected: Array.from({ length: 5 }, () => [1, 1]),
  },
  {
    name: 'X1: a user opens one wallet in a currency, by whatever partitions and ids',
    run: async site => {
      const { apply, open } = await begunLedger(site)
      const counts: number[][] = []
      for (let round = 0; round < 5; round++) {
        const user = id(300 + round)
        const of = (partition: number, closed: number) =>
          open({ user, wallet: walletIdOf(user, 'USD', closed), partition })
        const both = await Promise.all([apply([of(0, 0)]), apply([of(1, 1)])])
        const sum = (what: 'opened' | 'refused') =>
          both.reduce((total, { counts }) => total + counts[what], 0)
        counts.push([sum('opened'), sum('refused')])
      }
      return counts
    },
    expected: Array.from({ length: 5 }, () => [1, 1]),
  },
]

// --- the gateway's side ---

const pendingRequest = (over: Partial<PendingRequest> = {}): PendingRequest => ({
  transferId: id(4_000),
  userId: ALICE,
  type: 'transfer',
  fromWallet: ALICE,
  toWallet: BOB,
  amount: 5n,
  currency: 'USD',
  fingerprint: bytes('asked first'),
  note: null,
  metadata: bytes('data'),
  requestedAt: NOW,
  expiresAt: NOW,
  acknowledged: false,
  ...over,
})

const GATEWAY: StoreScript[] = [
  {
    name: 'X2: a request written as pending: the first content stands, repeats renew it, in one batch or several',
    run: async ({ gateway }) => {
      const hour = new Date(NOW.getTime() + 3_600_000)
      const requests = [
        pendingRequest({ acknowledged: true }),
        pendingRequest({ expiresAt: hour }),
        pendingRequest(),
        pendingRequest({ fingerprint: bytes('other'), amount: 9n, expiresAt: new Date(4e12) }),
      ]
      await gateway.writePending(requests)
      for (const request of requests) await gateway.writePending([{ ...request, transferId: id(4_001) }])
      // Of two contents at once the first stands too.
      await gateway.writePending([
        pendingRequest({ transferId: id(4_002), acknowledged: true }),
        pendingRequest({ transferId: id(4_002), fingerprint: bytes('other'), amount: 9n }),
      ])
      const read = await Promise.all([id(4_000), id(4_001), id(4_002)].map(gateway.readPending))
      return read.flat().map(({ amount, expiresAt, acknowledged }) => [amount, expiresAt, acknowledged])
    },
    expected: [
      [5n, new Date(NOW.getTime() + 3_600_000), true],
      [5n, new Date(NOW.getTime() + 3_600_000), true],
      [5n, NOW, true],
    ],
  },
  {
    name: 'X2: what Kafka has not for certain is forgotten a minute after its expiry',
    run: async ({ gateway, now }) => {
      const ago = (ms: number) => new Date(Math.floor(now()) - ms)
      const requests = [
        pendingRequest({ expiresAt: ago(40_000) }),
        pendingRequest({ transferId: id(4_001), expiresAt: ago(80_000) }),
        pendingRequest({ transferId: id(4_002), expiresAt: ago(80_000), acknowledged: true }),
      ]
      await gateway.writePending(requests)
      const read = await Promise.all([4_000, 4_001, 4_002, 4_003].map(n => gateway.readPending(id(n))))
      return read.map(({ length }) => length)
    },
    expected: [1, 0, 1, 0],
  },
  {
    name: "a payment's end is settled once, and the first word stands",
    run: async ({ gateway }) => {
      const payment: Payment = {
        id: id(4_000),
        kind: 'deposit',
        userId: ALICE,
        walletId: ALICE,
        amount: 5n,
        currency: 'USD',
        method: bytes('card'),
        fingerprint: bytes('f'),
        status: 'pending',
        providerReference: 'ref',
        failureReason: null,
        requestedAt: NOW,
      }
      await gateway.writePayment(payment)
      await gateway.writePayment({ ...payment, id: id(4_001) })
      return [
        await gateway.readPayment(id(4_000)),
        await gateway.settle(id(4_000), 'confirmed', 'ref'),
        await gateway.settle(id(4_000), 'failed', 'ref'),
        await gateway.settle(id(4_001), 'failed', 'ref'),
        await gateway.settle(id(4_001), 'confirmed', 'ref'),
        await gateway.settle(id(4_002), 'confirmed', 'ref'),
        (await gateway.readPayment(id(4_000)))?.status,
        (await gateway.readPayment(id(4_001)))?.status,
        await gateway.readPayment(id(4_002)),
      ]
    },
  },
]

/** All that the gateway may want to know of what a ledger's life left behind. */
const readByGateway = async ({ gateway }: StoreSite, random: Random): Promise<unknown> => {
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)
  const blank = <Row extends { code: string | null } | null>(row: Row): Row =>
    row && { ...row, code: row.code && 'drawn' }
  const people = Array.from({ length: 6 }, (_, index) => person(index))
  const wallets = people.flatMap(({ user, wallet }) => [wallet, walletIdOf(user, 'USD', 1)])
  const known = await gateway.readWallets([...wallets, externalWalletId('USD', 0)])
  const transfers = await gateway.readTransfers(Array.from({ length: 60 }, (_, n) => id(3_000 + n)))
  const questions = Array.from({ length: 80 }, (): TransferQuestion => {
    const byCode = random.chance(0.5)
    const code = random.pick([...known.toSorted(byId).map(({ code }) => code), 'NONE'])
    return {
      transferId: id(3_000 + random.int(70)),
      userId: random.pick(people).user,
      fromWalletId: random.chance(0.5) ? random.pick(wallets) : null,
      currency: random.pick(['USD', 'EUR']),
      toWalletId: byCode ? null : random.pick([...wallets, externalWalletId('USD', 0)]),
      toWalletCode: byCode ? code : null,
    }
  })
  const groundwork = await gateway.readGroundwork(questions)
  return [
    known.map(blank).toSorted(byId),
    transfers
      .map(({ from, to, ...facts }) => ({ ...facts, from: blank(from), to: blank(to) }))
      .toSorted(byId),
    groundwork.map(({ decided, sender, recipient }) => [decided, blank(sender), blank(recipient)]),
  ]
}

// --- whatever a seed draws ---

const STATUSES = [
  ['active', null],
  ['frozen', 'self'],
  ['frozen', 'staff'],
  ['closed', null],
] as const

/** Appends a few commands, of every kind. */
const appendSome = (random: Random, { ask, open, append, log }: ReturnType<typeof createLedger>) => {
  const someone = () => person(random.int(5))
  for (let count = random.int(9); count > 0; count--) {
    const [one, other] = [someone(), someone()]
    // Few ids, so that they meet.
    const transferId = id(3_000 + random.int(60))
    const amount = BigInt(1 + random.int(80))
    const draw = random.float()
    if (draw < 0.2) open(one)
    else if (draw < 0.25) open(one, { id: walletIdOf(one.user, 'USD', 1 + random.int(2)) })
    else if (draw < 0.5) ask(one, { transferId, ...into(amount, one) })
    else if (draw < 0.85) ask(one, { transferId, ...to(amount, one, other) })
    else if (draw < 0.9) ask(one, { transferId, ...to(amount, one, other), type: 'withdrawal' })
    else if (draw < 0.95) append(one.partition, one.wallet, bytes('no record'))
    else {
      const { key, value } = random.pick(log.flat().length > 0 ? log.flat() : [open(one)])
      append(random.int(PARTITIONS.length), String(key), value!)
    }
  }
}

/** One seed's life of a ledger: batches that go on, come again, leave out; wallets frozen; marks raised. */
const liveBySeed = (seed: number): StoreScript => ({
  name: `seed ${seed}: the same batches have the same results, and the gateway reads them alike`,
  run: async site => {
    const random = createRandom(seed)
    const ledger = createLedger(site)
    const told: unknown[] = []
    await site.store.readPositions(PARTITIONS)
    for (let round = 0; round < 12; round++) {
      appendSome(random, ledger)
      const positions = (await site.store.readPositions(PARTITIONS)).toSorted(byPartition)
      const batch = positions.flatMap(({ partition, nextOffset }) => {
        const from = Math.max(0, Number(nextOffset) + random.pick([0, 0, 0, 0, -1, -3, 1]))
        return ledger.log[partition]!.slice(from, from + random.int(8))
      })
      told.push(await ledger.apply(batch))
      if (random.chance(0.4)) {
        const [status, freezeSource] = random.pick(STATUSES)
        const { wallet } = person(random.int(5))
        const [known] = await site.store.transact(tx => tx.lockWallets([wallet]))
        // What is closed stays so: another may have its place.
        if (known && known.status !== 'closed') await site.setStatus(wallet, status, freezeSource)
      }
      const partition = random.int(PARTITIONS.length)
      await site.store.raisePublished(new Map([[partition, BigInt(random.int(10))]]))
      told.push((await site.store.readProgress(PARTITIONS)).toSorted(byPartition))
      const rest = await site.store.readJournalAfter(partition, BigInt(random.int(10)), 1 + random.int(5))
      told.push(rest.map(({ seq, key, headers }) => [seq, key, headers]))
    }
    return [told, ledger.setAside, await site.dump(), await readByGateway(site, random)]
  },
})

export const STORE_SCRIPTS: StoreScript[] = [
  ...TRANSACTIONS,
  ...POSITIONS,
  ...MONEY_PATH,
  ...GATEWAY,
  ...Array.from({ length: 20 }, (_, index) => liveBySeed(index + 1)),
]
