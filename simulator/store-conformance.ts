// What the ledger's store promises, as scripts that run against any store: against the simulator's (memory-store.ts)
// and against Postgres (tests/store-conformance.test.ts), so that the replacement is known to behave alike.
import { createHash } from 'node:crypto'
import {
  displacedDepositIdOf,
  externalWalletId,
  payoutReturnIdOf,
  walletIdOf,
} from '@pennywire/contracts/ids.ts'
import type { RecordName, Records, TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Wallet } from '../packages/rules/src/decide.ts'
import { type LimitDefaults, NOTHING_USED, type Usage } from '../packages/rules/src/limits.ts'
import type { DueHold } from '../services/gateway/src/holds/sql/hold-reads.ts'
import type {
  TransferFacts,
  TransferLookup,
  TransferLookupKeys,
  WalletFacts,
} from '../services/gateway/src/ledger/sql/ledger-reads.ts'
import type { LedgerStatus } from '../services/gateway/src/payments/sql/payment-reads.ts'
import type { Payment, Settlement } from '../services/gateway/src/payments/sql/payments.ts'
import type {
  NewPendingRequest,
  PendingRequest,
} from '../services/gateway/src/transfers/sql/pending-requests.ts'
import { applyBatch } from '../services/ledger/src/apply-batch.ts'
import {
  type Earlier,
  type EntryRow,
  type HoldEnd,
  type HoldRow,
  type JournalRow,
  type LedgerStore,
  type LedgerTx,
  type LimitRow,
  noWrites,
  type StatusRow,
  type TransferRow,
  type Writes,
} from '../services/ledger/src/store.ts'
import { decodeNow } from './broken-promise.ts'
import { createRandom, type Random } from './random.ts'

/** As both stores are set up here: the ledger's own (main.ts) in their order, shorter. */
export const TIMEOUTS = { lockMs: 1_500, idleMs: 2_500, transactionMs: 4_000 }

/** What the gateway reads of the ledger, and what it keeps itself. */
export type GatewaySite = {
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  lookUpTransfers: (questions: TransferLookupKeys[]) => Promise<TransferLookup[]>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  writePending: (requests: NewPendingRequest[]) => Promise<void>
  readPending: (id: string) => Promise<PendingRequest[]>
  /** Written as the provider's order leaves it. */
  writePayment: (payment: Payment) => Promise<unknown>
  readPayment: (id: string) => Promise<Payment | undefined>
  markPending: (id: string, reference: string) => Promise<unknown>
  settle: (id: string, settlement: Settlement) => Promise<boolean>
  markDone: (id: string, status: Payment['status']) => Promise<boolean>
  readLedgerStatuses: (ids: string[]) => Promise<Map<string, LedgerStatus>>
  readOutcome: (id: string) => Promise<{ fingerprint: Buffer; bytes: Buffer } | undefined>
  readDueHolds: (after: { until: Date; id: string }, limit: number) => Promise<DueHold[]>
}

/** One store, and what a script needs beside it. */
export type StoreSite = {
  store: LedgerStore
  gateway: GatewaySite
  /** The time by the store's own clock. */
  now: () => number
  codec: Codec
  pass: (ms: number) => Promise<void>
  /** Freezes or closes a wallet past all rules. */
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

const writesOf = (some: Partial<Writes>): Writes => ({ ...noWrites(), ...some })
const opened = (wallet: string, code: string, user = wallet, currency = 'USD') => ({
  id: wallet,
  userId: user,
  code,
  currency,
  tier: 'unverified' as const,
  usage: NOTHING_USED,
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
  rejectionLimit: null,
  rejectionUsed: null,
  originalId: null,
  partition: 0,
  seq: BigInt(number),
  ...over,
})
/** What was decided under a transfer's id, as it stands beside it. */
const claim = (number: number): Earlier => {
  const { id, fingerprint, partition, seq } = transfer(number)
  return { id, fingerprint, partition, seq }
}
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
const holdRow = (number: number, over: Partial<HoldRow> = {}): HoldRow => ({
  id: id(1_500 + number),
  type: 'hold',
  status: 'active',
  userId: ALICE,
  walletId: ALICE,
  toWalletId: BOB,
  amount: 50n,
  currency: 'USD',
  placedMs: NOW.getTime(),
  untilMs: NOW.getTime() + 60_000,
  fingerprint: bytes(`hold ${number}`),
  note: null,
  metadata: null,
  requestedAt: NOW,
  ...over,
})
const holdEnd = (number: number, over: Partial<HoldEnd> = {}): HoldEnd => ({
  id: id(1_500 + number),
  status: 'captured',
  captured: 20n,
  commandId: id(1_700 + number),
  endedAt: NOW,
  ...over,
})
const status = (wallet: string, over: Partial<StatusRow> = {}): StatusRow => ({
  id: wallet,
  status: 'frozen',
  freezeSource: 'self',
  reason: bytes('why'),
  closedAt: null,
  ...over,
})
const closed = (wallet: string) =>
  status(wallet, { status: 'closed', freezeSource: null, reason: null, closedAt: NOW })
const limit = (wallet: string, over: Partial<LimitRow> = {}): LimitRow => ({
  walletId: wallet,
  action: 'send',
  source: 'self',
  perTransaction: 1n,
  daily: null,
  monthly: 0n,
  ...over,
})
const USED: Usage = {
  day: 20_833,
  used: { send: { day: 1n, month: 2n }, deposit: { day: 3n, month: 4n }, withdrawal: { day: 5n, month: 6n } },
}
const balance = (wallet: string, amount: bigint, sequence: number, over: Partial<Wallet> = {}): Wallet => ({
  id: wallet,
  userId: wallet,
  currency: 'USD',
  status: 'active',
  freezeSource: null,
  balance: amount,
  held: 0n,
  sequence,
  tier: 'unverified',
  usage: NOTHING_USED,
  ownLimits: [],
  ...over,
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
      // Another partition waits for nobody.
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
      // As applyBatch asks.
      const asked = Promise.all([
        second.tx.lockPartitions([0]),
        second.tx.lockWallets([ALICE]),
        second.tx.findOutcomes([id(1_001)]),
        second.tx.readLimits([ALICE]),
        second.tx.readHolds([id(1_501)]),
        second.tx.readOriginals([id(1_001)]),
        second.tx.findWalletsOf([id(3)]),
      ])
      const waits = await isWaiting(site, asked)
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
      const [, , ...seen] = await asked
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
      // A closed wallet leaves its place to another.
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

const byWallet = (a: LimitRow, b: LimitRow) =>
  `${a.walletId} ${a.action} ${a.source}` < `${b.walletId} ${b.action} ${b.source}` ? -1 : 1

/** What was decided of one wallet and what is held of it. */
const aliceHolds = async (store: LedgerStore) => {
  await twoWallets(store)
  await write(store, {
    balances: [balance(ALICE, 100n, 0, { held: 50n, usage: USED })],
    holds: [holdRow(1)],
    commands: [{ id: id(1_501), fingerprint: bytes('hold 1'), partition: 0, seq: 1n }],
  })
}

const OPERATIONS: StoreScript[] = [
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
        // The other one is opened in this very batch.
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
        // Opened and closed in one batch, and set anew.
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
        // A hold that became a transfer is found by what placed it.
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

const byPartition = (a: { partition: number }, b: { partition: number }) => a.partition - b.partition

const POSITIONS: StoreScript[] = [
  {
    name: 'where MACs begin is set once: at the end that is given, at 0 where nothing is decided',
    run: async ({ store }) => {
      await store.readPositions([0, 1])
      await write(store, { partitions: [{ partition: 1, nextOffset: 9n, lastDigest: null, nextSeq: 1n }] })
      const at = async (...offsets: bigint[]) => [
        ...(await store.readMacsFrom(offsets.map((offset, partition) => ({ partition, offset })))),
      ]
      const inOrder = (rows: [number, bigint][]) => rows.toSorted(([a], [b]) => a - b)
      // A partition that nobody has seen is not made by asking for it.
      return [inOrder(await at(12n, 12n, 12n)), inOrder(await at(40n, 40n))]
    },
    expected: [
      [
        [0, 0n],
        [1, 12n],
      ],
      [
        [0, 0n],
        [1, 12n],
      ],
    ],
  },
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
        { partition: 0, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 1, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
      ],
      [
        { partition: 0, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 1, nextOffset: 9n, nextSeq: 1n, publishedThrough: 0n },
        { partition: 2, nextOffset: 0n, nextSeq: 1n, publishedThrough: 0n },
      ],
      3,
      3,
      { partition: 0, publishedThrough: 0n, writtenThrough: 0n },
    ],
  },
  {
    name: 'O1: a published mark is raised and never lowered, by a late writer either',
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

const LIMITS: LimitDefaults = {
  unverified: () => ({ perTransaction: 80n, daily: 200n, monthly: 400n }),
  verified: () => ({ perTransaction: 800n, daily: 2_000n, monthly: 4_000n }),
}
type AnyCommand = {
  [Name in RecordName]: Records[Name] extends { commandId: string; requestedAt: number; fingerprint: Buffer }
    ? Name
    : never
}[RecordName]

/** A topic in memory, and a ledger that applies what it is given of it, a second later each time. Codes are not told. */
const createLedger = (site: StoreSite) => {
  let nowMs = NOW.getTime()
  const log = PARTITIONS.map((): IncomingRecord[] => [])
  const setAside: string[] = []
  const store: LedgerStore = {
    ...site.store,
    transact: work =>
      site.store.transact(tx => {
        const readClock = () => tx.readClock().then(() => new Date(nowMs))
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
        tier: 'unverified',
      }),
    /** Any other command, under an id with this number; what it says is told apart by its fingerprint. */
    command: <Name extends AnyCommand>(
      { partition, wallet }: Person,
      name: Name,
      number: number,
      said: Omit<Records[Name], 'commandId' | 'requestedAt' | 'fingerprint'>,
    ) =>
      command(partition, wallet, name, {
        ...said,
        commandId: id(number),
        requestedAt: 1_000,
        fingerprint: createHash('md5')
          .update(JSON.stringify(said, (_, value) => (typeof value === 'bigint' ? String(value) : value)))
          .digest(),
      } as unknown as Records[Name]),
    reverse: (
      person: Person,
      said: Omit<Records['pennywire.ledger.ReversalRequested'], 'requestedAt' | 'fingerprint' | 'note'>,
    ) =>
      command(person.partition, person.wallet, 'pennywire.ledger.ReversalRequested', {
        ...said,
        requestedAt: 1_000,
        fingerprint: createHash('md5').update(`${said.originalId} ${said.amountMinor}`).digest(),
        note: bytes('why'),
      }),
    pass: (ms: number) => {
      nowMs += ms
    },
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
        holdUntil: null,
        ...said,
      })
    },
    apply: async (records: IncomingRecord[]) => {
      nowMs += 1_000
      const result = await applyBatch(
        {
          store,
          codec: site.codec,
          limitDefaults: LIMITS,
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
      const booked = await site.store.transact(tx => tx.findOutcomes([displacedDepositIdOf(id(2_002))]))
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
    name: 'X1: a user opens one wallet in a currency, by any partitions and ids',
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

const HOUR_MS = 3_600_000
const capture = (
  holdId: string,
  payer: Person,
  to: Person | null,
  amountMinor: bigint | null,
  source = 'user',
) => ({
  holdId,
  walletId: payer.wallet,
  toWalletId: to?.wallet ?? null,
  userId: to?.user ?? payer.user,
  source,
  amountMinor,
  currency: 'USD',
})
const voidHold = (
  holdId: string,
  payer: Person,
  to: Person | null,
  source: string,
  userId = to?.user ?? payer.user,
) => ({
  holdId,
  walletId: payer.wallet,
  toWalletId: to?.wallet ?? null,
  userId,
  source,
})
const STAFF = id(99)
const CAPTURE = 'pennywire.ledger.HoldCaptureRequested'
const VOID = 'pennywire.ledger.HoldVoidRequested'
const FREEZE = 'pennywire.ledger.WalletFreezeRequested'
const UNFREEZE = 'pennywire.ledger.WalletUnfreezeRequested'
const CLOSE = 'pennywire.ledger.WalletCloseRequested'
const LIMIT = 'pennywire.ledger.LimitChangeRequested'
const limitChange = (
  person: Person,
  source: string,
  daily: bigint | null,
  over: Partial<Records[typeof LIMIT]> = {},
) => ({
  walletId: person.wallet,
  userId: source === 'self' ? person.user : STAFF,
  source,
  action: 'send',
  perTransactionMinor: null,
  dailyMinor: daily,
  monthlyMinor: null,
  tier: null,
  ...over,
})
const freezeBy = (person: Person, source: string) => ({
  walletId: person.wallet,
  userId: source === 'staff' ? STAFF : person.user,
  source,
  reason: bytes('reason'),
})

const EVERY_COMMAND: StoreScript[] = [
  {
    name: 'holds: placed, captured whole and in part, let go, expired, each once, in one batch and in several',
    run: async site => {
      const { alice, bob, ask, command, apply, pass } = await begunLedger(site)
      const held = (n: number, amount: bigint) =>
        ask(alice, {
          transferId: id(n),
          ...to(amount, alice, bob),
          type: 'hold',
          holdUntil: NOW.getTime() + HOUR_MS,
        })
      const results = [
        await apply([
          held(2_001, 30n),
          held(2_002, 20n),
          held(2_003, 10n),
          held(2_004, 60n),
          command(alice, CAPTURE, 2_101, capture(id(2_001), alice, bob, 12n)),
          command(alice, CAPTURE, 2_102, capture(id(2_001), alice, bob, 1n)),
        ]),
        await apply([
          command(alice, CAPTURE, 2_101, capture(id(2_001), alice, bob, 12n)),
          command(alice, CAPTURE, 2_103, capture(id(2_002), alice, bob, 21n)),
          command(alice, VOID, 2_104, voidHold(id(2_002), alice, bob, 'user', alice.user)),
          command(alice, VOID, 2_105, voidHold(id(2_002), alice, bob, 'timer')),
          command(alice, VOID, 2_106, voidHold(id(2_002), alice, bob, 'user')),
          held(2_001, 30n),
          held(2_001, 31n),
        ]),
      ]
      pass(HOUR_MS)
      results.push(
        await apply([
          command(alice, CAPTURE, 2_107, capture(id(2_003), alice, bob, null)),
          command(alice, VOID, 2_108, voidHold(id(2_003), alice, bob, 'timer')),
          command(alice, VOID, 2_108, voidHold(id(2_003), alice, bob, 'timer')),
        ]),
      )
      return [results, await site.dump()]
    },
  },
  {
    name: 'withdrawals: paid out, failed, returned, the provider alone says so',
    run: async site => {
      const { alice, ask, command, reverse, apply } = await begunLedger(site)
      const out = (n: number, amountMinor: bigint) =>
        ask(alice, { transferId: id(n), type: 'withdrawal', fromWalletId: alice.wallet, amountMinor })
      const back = {
        transferId: payoutReturnIdOf(id(2_001)),
        originalId: id(2_001),
        userId: alice.user,
        source: 'provider',
        fromWalletId: null,
        toWalletId: alice.wallet,
        amountMinor: 40n,
        currency: 'USD',
      }
      const results = [
        await apply([out(2_001, 40n), out(2_002, 30n), out(2_003, 50n), out(2_004, 81n)]),
        await apply([
          command(alice, CAPTURE, 2_101, capture(id(2_001), alice, null, null)),
          command(alice, CAPTURE, 2_102, capture(id(2_001), alice, null, null, 'provider')),
          command(alice, VOID, 2_103, voidHold(id(2_002), alice, null, 'provider')),
          reverse(alice, back),
        ]),
        await apply([
          reverse(alice, back),
          command(alice, VOID, 2_104, voidHold(id(2_001), alice, null, 'provider')),
        ]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'reversals: in parts, never more than the original, never below zero, in one batch and in several',
    run: async site => {
      const { alice, bob, ask, reverse, apply } = await begunLedger(site)
      const back = (n: number, originalId: string, amountMinor: bigint, from: Person, to: Person | null) =>
        reverse(from, {
          transferId: id(n),
          originalId,
          userId: STAFF,
          source: 'staff',
          fromWalletId: from.wallet,
          toWalletId: to?.wallet ?? null,
          amountMinor,
          currency: 'USD',
        })
      const results = [
        await apply([
          ask(alice, { transferId: id(2_001), ...to(40n, alice, bob) }),
          back(2_101, id(2_001), 10n, bob, alice),
        ]),
        await apply([
          back(2_102, id(2_001), 20n, bob, alice),
          back(2_103, id(2_001), 11n, bob, alice),
          back(2_104, id(2_001), 10n, bob, alice),
          back(2_104, id(2_001), 10n, bob, alice),
        ]),
        await apply([
          back(2_105, id(2_000), 70n, alice, null),
          ask(alice, { transferId: id(2_002), ...to(25n, alice, bob) }),
          back(2_106, id(2_000), 10n, alice, null),
          back(2_107, id(2_002), 5n, alice, bob),
        ]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'freezes: by every source, lifted by its own or staff, seen by the rest of the batch',
    run: async site => {
      const { alice, bob, ask, command, apply } = await begunLedger(site)
      const results = [
        await apply([
          command(alice, FREEZE, 2_101, freezeBy(alice, 'self')),
          command(alice, FREEZE, 2_102, freezeBy(alice, 'self')),
          command(alice, FREEZE, 2_103, freezeBy(alice, 'pin')),
          ask(alice, { transferId: id(2_001), ...to(1n, alice, bob) }),
          command(alice, UNFREEZE, 2_104, freezeBy(alice, 'self')),
        ]),
        await apply([
          command(alice, FREEZE, 2_105, freezeBy(alice, 'staff')),
          command(alice, UNFREEZE, 2_106, freezeBy(alice, 'pin')),
          ask(alice, { transferId: id(2_002), ...into(5n, alice) }),
          command(alice, UNFREEZE, 2_107, freezeBy(alice, 'staff')),
          command(alice, UNFREEZE, 2_107, freezeBy(alice, 'staff')),
          ask(alice, { transferId: id(2_003), ...to(1n, alice, bob) }),
        ]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'a wallet closed and opened anew, in one batch and in two, goes on with its limits and what is used of them',
    run: async site => {
      const { alice, bob, ask, open, command, apply } = await begunLedger(site)
      const close = (n: number, wallet = alice.wallet) =>
        command(alice, CLOSE, n, { walletId: wallet, userId: alice.user })
      const second = { ...alice, wallet: walletIdOf(alice.user, 'USD', 1) }
      const third = { ...alice, wallet: walletIdOf(alice.user, 'USD', 2) }
      const results = [
        await apply([
          command(alice, LIMIT, 2_101, limitChange(alice, 'staff', 120n)),
          command(alice, LIMIT, 2_102, limitChange(alice, 'kyc', null, { tier: 'verified', action: '' })),
          close(2_103),
          ask(alice, { transferId: id(2_001), ...to(70n, alice, bob) }),
          ask(alice, { transferId: id(2_002), ...to(30n, alice, bob) }),
          close(2_104),
          open(second),
          ask(second, { transferId: id(2_003), ...into(50n, second) }),
          ask(second, { transferId: id(2_004), ...to(21n, second, bob) }),
          ask(second, { transferId: id(2_005), ...to(20n, second, bob) }),
          ask(second, { transferId: id(2_006), ...to(30n, second, bob) }),
          command(second, LIMIT, 2_105, limitChange(second, 'self', 100n)),
        ]),
        await apply([ask(bob, { transferId: id(2_007), ...to(1n, bob, second) }), open(third)]),
        await apply([
          command(second, LIMIT, 2_106, limitChange(second, 'staff', null)),
          ask(second, { transferId: id(2_008), ...to(31n, second, bob) }),
          close(2_107, second.wallet),
        ]),
        await apply([open(third)]),
      ]
      return [results, await site.dump()]
    },
  },
  {
    name: 'limits: per transaction, day and month, set, tightened, passed, over midnight and the end of the month',
    run: async site => {
      const { alice, bob, ask, command, apply, pass } = await begunLedger(site)
      let next = 2_001
      const pay = (amount: bigint) => ask(alice, { transferId: id(next++), ...to(amount, alice, bob) })
      const fill = () => ask(alice, { transferId: id(next++), ...into(200n, alice) })
      const results = [
        await apply([
          fill(),
          fill(),
          pay(81n),
          command(alice, LIMIT, 2_901, limitChange(alice, 'self', 201n)),
          command(alice, LIMIT, 2_902, limitChange(alice, 'self', 100n, { monthlyMinor: 180n })),
          pay(80n),
          pay(21n),
          pay(20n),
          pay(1n),
        ]),
      ]
      pass(24 * HOUR_MS)
      results.push(
        await apply([pay(80n), pay(1n), command(alice, LIMIT, 2_903, limitChange(alice, 'self', null))]),
      )
      results.push(await apply([pay(80n), pay(41n)]))
      pass(31 * 24 * HOUR_MS)
      results.push(await apply([pay(80n)]))
      return [results, await site.dump()]
    },
  },
  {
    name: 'X1: two ledgers end one hold at once, and give one transfer back: once each',
    run: async site => {
      const { alice, bob, ask, command, reverse, apply } = await begunLedger(site)
      const counts: number[][] = []
      const elsewhere = { ...alice, partition: 2 }
      for (let round = 0; round < 4; round++) {
        const [held, paid] = [id(2_200 + round), id(2_300 + round)]
        await apply([
          ask(alice, { transferId: held, ...to(5n, alice, bob), type: 'hold', holdUntil: 4e12 }),
          ask(alice, { transferId: paid, ...to(5n, alice, bob) }),
        ])
        const back = (person: Person, n: number) =>
          reverse(person, {
            transferId: id(n),
            originalId: paid,
            userId: STAFF,
            source: 'staff',
            fromWalletId: bob.wallet,
            toWalletId: alice.wallet,
            amountMinor: 3n,
            currency: 'USD',
          })
        const both = await Promise.all([
          apply([
            command(alice, CAPTURE, 2_400 + round, capture(held, alice, bob, 2n)),
            back(alice, 2_600 + round),
          ]),
          apply([
            command(elsewhere, VOID, 2_500 + round, voidHold(held, alice, bob, 'user')),
            back(elsewhere, 2_700 + round),
          ]),
        ])
        const sum = (...what: ('completed' | 'released' | 'refused' | 'rejected')[]) =>
          both.reduce((total, { counts }) => total + what.reduce((all, each) => all + counts[each], 0), 0)
        counts.push([sum('completed', 'released'), sum('refused'), sum('rejected')])
      }
      return counts
    },
    expected: Array.from({ length: 4 }, () => [2, 1, 1]),
  },
]

// --- the gateway's side ---

const pendingRequest = (over: Partial<PendingRequest> = {}): NewPendingRequest => ({
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
  command: { key: ALICE, type: 'pennywire.ledger.TransferRequested', value: bytes('command') },
  ...over,
})

const WORDS = ['confirmed', 'failed', 'returned'] as const

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
        status: 'created',
        providerReference: null,
        failureCode: null,
        failureReason: null,
        authenticatedBy: null,
        authenticatedAt: null,
        requestedAt: NOW,
        expiresAt: NOW,
        orderedAt: null,
        orderAttempts: 0,
        done: false,
      }
      const told: unknown[] = []
      const word = (status: Settlement['status']): Settlement => ({
        status,
        providerReference: status === 'failed' ? null : 'other',
        failureCode: status === 'failed' ? 'PAYMENT_FAILED' : null,
        failureReason: null,
        orderAttempts: null,
      })
      let number = 4_000
      for (const kind of ['deposit', 'withdrawal'] as const) {
        // What is paid in does not come back.
        const words = kind === 'deposit' ? (['confirmed', 'failed'] as const) : WORDS
        for (const first of words) {
          const own = id(number++)
          await gateway.writePayment({ ...payment, kind, id: own })
          await gateway.markPending(own, 'ref')
          await gateway.settle(own, word(first))
          await gateway.markPending(own, 'late')
          told.push(await gateway.markDone(own, 'pending'), await gateway.markDone(own, first))
          for (const next of words) told.push(await gateway.settle(own, word(next)))
          told.push(await gateway.readPayment(own), await gateway.markDone(own, 'confirmed'))
        }
      }
      return [
        told,
        await gateway.settle(id(number), word('confirmed')),
        await gateway.readPayment(id(number)),
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
  const questions = Array.from({ length: 80 }, (): TransferLookupKeys => {
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
  const groundwork = await gateway.lookUpTransfers(questions)
  const ids = Array.from({ length: 100 }, (_, n) => id(3_000 + n))
  const ledgerStatuses = await gateway.readLedgerStatuses(ids)
  const outcomes = await Promise.all(ids.map(gateway.readOutcome))
  const first = { until: new Date(0), id: id(0) }
  const due = await gateway.readDueHolds(first, 4)
  const rest = await gateway.readDueHolds(due.at(-1) ?? first, 100)
  return [
    ids.map(id => ledgerStatuses.get(id)),
    outcomes.map(outcome => outcome && [outcome.fingerprint, decodeNow(outcome.bytes)?.type]),
    [...due, ...rest].map(({ now, ...hold }) => [hold, now > hold.until]),
    known.map(blank).toSorted(byId),
    transfers
      .map(({ from, to, ...facts }) => ({ ...facts, from: blank(from), to: blank(to) }))
      .toSorted(byId),
    groundwork.map(({ decided, sender, recipient }) => [decided, blank(sender), blank(recipient)]),
  ]
}

// --- what a seed draws ---

const STATUSES = [
  ['active', null],
  ['frozen', 'self'],
  ['frozen', 'staff'],
  ['closed', null],
] as const

/** Appends a few commands, of every kind. */
const appendSome = (random: Random, ledger: ReturnType<typeof createLedger>) => {
  const { ask, open, append, command, reverse, log } = ledger
  const someone = () => person(random.int(5))
  for (let count = random.int(9); count > 0; count--) {
    const [one, other] = [someone(), someone()]
    // Few ids, so that they meet.
    const number = 3_000 + random.int(60)
    const transferId = id(number)
    const target = id(3_000 + random.int(60))
    const amount = BigInt(1 + random.int(90))
    const source = random.pick(['self', 'pin', 'staff'])
    const draw = random.float()
    if (draw < 0.15) open(one)
    else if (draw < 0.2) open(one, { id: walletIdOf(one.user, 'USD', 1 + random.int(2)) })
    else if (draw < 0.37) ask(one, { transferId, ...into(amount, one) })
    else if (draw < 0.48) ask(one, { transferId, ...to(amount, one, other) })
    else if (draw < 0.6) {
      const holdUntil = random.pick([null, NOW.getTime() + random.int(20_000)])
      ask(one, { transferId, ...to(amount, one, other), type: 'hold', holdUntil })
    } else if (draw < 0.65)
      ask(one, { transferId, fromWalletId: one.wallet, amountMinor: amount, type: 'withdrawal' })
    else if (draw < 0.71) {
      const part = random.pick([null, amount])
      const by = random.pick(['user', 'user', 'provider'])
      command(one, CAPTURE, number, capture(target, one, by === 'user' ? other : null, part, by))
    } else if (draw < 0.76) {
      const by = random.pick(['user', 'staff', 'timer', 'provider'])
      command(one, VOID, number, voidHold(target, one, by === 'provider' ? null : other, by))
    } else if (draw < 0.82) {
      const parties = random.pick([
        { source: 'staff', fromWalletId: one.wallet, toWalletId: other.wallet },
        { source: 'staff', fromWalletId: one.wallet, toWalletId: null },
        { source: 'provider', fromWalletId: null, toWalletId: one.wallet },
      ])
      const said = { userId: STAFF, amountMinor: amount, currency: 'USD', ...parties }
      reverse(one, { transferId, originalId: target, ...said })
    } else if (draw < 0.85) command(one, FREEZE, number, freezeBy(one, source))
    else if (draw < 0.88) command(one, UNFREEZE, number, freezeBy(one, source))
    else if (draw < 0.9) command(one, CLOSE, number, { walletId: one.wallet, userId: one.user })
    else if (draw < 0.93)
      command(one, LIMIT, number, limitChange(one, random.pick(['self', 'staff']), 2n * amount))
    else if (draw < 0.94)
      command(one, LIMIT, number, limitChange(one, 'kyc', null, { tier: 'verified', action: '' }))
    else if (draw < 0.97) append(one.partition, one.wallet, bytes('no record'))
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
  ...OPERATIONS,
  ...MONEY_PATH,
  ...EVERY_COMMAND,
  ...GATEWAY,
  ...Array.from({ length: 20 }, (_, index) => liveBySeed(index + 1)),
]
