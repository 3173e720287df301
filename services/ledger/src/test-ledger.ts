// For tests: a ledger with its own database, and an in-memory topic with its commands.
import { randomUUID } from 'node:crypto'
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import type {
  HoldCaptureRequested,
  HoldVoidRequested,
  LimitChangeRequested,
  RecordName,
  Records,
  ReversalRequested,
  TransferRequested,
  WalletCloseRequested,
  WalletFreezeRequested,
  WalletOpenRequested,
} from '@pennywire/contracts/schemas.ts'
import {
  holdCaptureRequested,
  holdVoidRequested,
  limitChangeRequested,
  reversalRequested,
  transferRequested,
  walletCloseRequested,
  walletFreezeRequested,
  walletOpenRequested,
} from '@pennywire/contracts/test-records.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { type LimitDefaults, type Limits, NO_LIMITS } from '@pennywire/rules/limits.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { applyBatch, type BatchResult } from './apply-batch.ts'
import { readPositions } from './sql/positions.ts'
import { postgresStore } from './sql/store.ts'
import { createLedgerDatabase } from './sql/test-database.ts'
import type { JournalRow, LedgerStore } from './store.ts'

export type TestLedger = Awaited<ReturnType<typeof openTestLedger>>
export type User = { id: string; wallet: string; partition: number }

/** A user whose wallet is not open yet. */
export const user = (partition = 0): User => {
  const id = randomUUID()
  return { id, wallet: walletIdOf(id, 'USD', 0), partition }
}

/** The same limits for every wallet in every currency. */
export const limitsOf = (limits: Partial<Limits>): LimitDefaults => {
  const all = () => ({ ...NO_LIMITS, ...limits })
  return { unverified: all, verified: all }
}

/** The Postgres store with the test's clock. */
const atTime = (store: LedgerStore, now: () => Date | undefined): LedgerStore => ({
  ...store,
  transact: work =>
    store.transact(tx => work({ ...tx, readClock: async () => now() ?? (await tx.readClock()) })),
})

type Place = { partition?: number; key?: string }

export const openTestLedger = async (codec: Codec, superuserUrl: string) => {
  const database = await createLedgerDatabase(superuserUrl)
  const sql = database.open()
  await readPositions(sql, [0, 1, 2, 3])
  const others: Database[] = []
  const setAside: Array<{ record: IncomingRecord; reason: string }> = []
  const circumstances: { limits: LimitDefaults; now: Date | undefined } = {
    limits: limitsOf({}),
    now: undefined,
  }

  /** Each partition's next offset, assigned as Kafka would. */
  const ends = new Map<number, bigint>()
  const append = (partition: number, key: string, value: Buffer): IncomingRecord => {
    const offset = ends.get(partition) ?? 0n
    ends.set(partition, offset + 1n)
    return {
      topic: 'ledger.commands',
      partition,
      offset,
      timestamp: 0,
      key: Buffer.from(key),
      value,
      headers: [],
    }
  }
  const command = <Name extends RecordName>(
    partition: number,
    key: string,
    name: Name,
    value: Records[Name],
  ) => append(partition, key, codec.encode(name, value))

  /** `speaking`: another codec, for tests in which one must fail. */
  const apply = (records: IncomingRecord[], through = sql, speaking = codec): Promise<BatchResult> =>
    applyBatch(
      {
        store: atTime(postgresStore(through, through), () => circumstances.now),
        codec: speaking,
        limitDefaults: circumstances.limits,
        setAside: async (record, reason) => void setAside.push({ record, reason }),
      },
      records,
    )

  const open = (owner: User, over: Partial<WalletOpenRequested> & Place = {}) => {
    const { partition = owner.partition, key = owner.wallet, ...fields } = over
    const value = walletOpenRequested({ walletId: owner.wallet, userId: owner.id, ...fields })
    return command(partition, key, 'pennywire.ledger.WalletOpenRequested', value)
  }
  const request = (
    payer: User,
    value: TransferRequested,
    { partition = payer.partition, key = payer.wallet }: Place,
  ) => command(partition, key, 'pennywire.ledger.TransferRequested', value)
  type RequestOver = Partial<TransferRequested> & Place
  const deps = ({ partition, key, ...fields }: RequestOver): [Partial<TransferRequested>, Place] => [
    fields,
    { ...(partition === undefined ? {} : { partition }), ...(key === undefined ? {} : { key }) },
  ]
  const deposit = (to: User, amountMinor: bigint, over: RequestOver = {}) => {
    const [fields, place] = deps(over)
    return request(
      to,
      transferRequested({ type: 'deposit', userId: to.id, toWalletId: to.wallet, amountMinor, ...fields }),
      place,
    )
  }
  const transfer = (from: User, to: User, amountMinor: bigint, over: RequestOver = {}) => {
    const [fields, place] = deps(over)
    const value = {
      userId: from.id,
      fromWalletId: from.wallet,
      toWalletId: to.wallet,
      amountMinor,
      ...fields,
    }
    return request(from, transferRequested(value), place)
  }
  const hold = (from: User, to: User, amountMinor: bigint, over: RequestOver = {}) =>
    transfer(from, to, amountMinor, { type: 'hold', ...over })
  const withdrawal = (from: User, amountMinor: bigint, over: RequestOver = {}) =>
    transfer(from, from, amountMinor, { type: 'withdrawal', toWalletId: null, ...over })

  /** Requested by the recipient; for a withdrawal (`to` is null) by the provider. */
  const capture = (
    holdId: string,
    from: User,
    to: User | null,
    over: Partial<HoldCaptureRequested> & Place = {},
  ) => {
    const { partition = from.partition, key = from.wallet, ...fields } = over
    const ended = { holdId, walletId: from.wallet, toWalletId: to?.wallet ?? null, userId: (to ?? from).id }
    const value = holdCaptureRequested({ ...ended, source: to ? 'user' : 'provider', ...fields })
    return command(partition, key, 'pennywire.ledger.HoldCaptureRequested', value)
  }
  const voidHold = (
    holdId: string,
    from: User,
    to: User | null,
    over: Partial<HoldVoidRequested> & Place = {},
  ) => {
    const { partition = from.partition, key = from.wallet, ...fields } = over
    const ended = { holdId, walletId: from.wallet, toWalletId: to?.wallet ?? null, userId: (to ?? from).id }
    const value = holdVoidRequested({ ...ended, source: to ? 'user' : 'provider', ...fields })
    return command(partition, key, 'pennywire.ledger.HoldVoidRequested', value)
  }
  /** Reverses a transfer from `from` to `to`; null is the outside world. */
  const reversal = (
    originalId: string,
    from: User | null,
    to: User | null,
    amountMinor: bigint,
    over: Partial<ReversalRequested> & Place = {},
  ) => {
    const payer = (to ?? from)!
    const { partition = payer.partition, key = payer.wallet, ...fields } = over
    const value = reversalRequested({
      ...{ originalId, userId: payer.id, source: to ? 'staff' : 'provider' },
      ...{ fromWalletId: to?.wallet ?? null, toWalletId: from?.wallet ?? null, amountMinor },
      ...fields,
    })
    return command(partition, key, 'pennywire.ledger.ReversalRequested', value)
  }

  const aboutWallet = (owner: User) => ({ walletId: owner.wallet, userId: owner.id })
  const freeze = (owner: User, source: string, over: Partial<WalletFreezeRequested> & Place = {}) => {
    const { partition = owner.partition, key = owner.wallet, ...fields } = over
    const value = walletFreezeRequested({ ...aboutWallet(owner), source, ...fields })
    return command(partition, key, 'pennywire.ledger.WalletFreezeRequested', value)
  }
  const unfreeze = (owner: User, source: string, over: Partial<WalletFreezeRequested> = {}) =>
    command(
      owner.partition,
      owner.wallet,
      'pennywire.ledger.WalletUnfreezeRequested',
      walletFreezeRequested({ ...aboutWallet(owner), source, ...over }),
    )
  const closeWallet = (owner: User, over: Partial<WalletCloseRequested> = {}) =>
    command(
      owner.partition,
      owner.wallet,
      'pennywire.ledger.WalletCloseRequested',
      walletCloseRequested({ ...aboutWallet(owner), ...over }),
    )
  const limit = (owner: User, over: Partial<LimitChangeRequested> & Place = {}) => {
    const { partition = owner.partition, key = owner.wallet, ...fields } = over
    const value = limitChangeRequested({ ...aboutWallet(owner), ...fields })
    return command(partition, key, 'pennywire.ledger.LimitChangeRequested', value)
  }

  return {
    database,
    sql,
    superuser: database.superuser,
    /** The limits and the time for the next batches; without a time, Postgres' clock is used. */
    circumstances,
    setAside,
    apply,
    /** The connections of another, concurrent ledger. */
    rival: (): Database => {
      const other = database.open()
      others.push(other)
      return other
    },
    append,
    command,
    open,
    deposit,
    transfer,
    hold,
    withdrawal,
    capture,
    voidHold,
    reversal,
    freeze,
    unfreeze,
    closeWallet,
    limit,
    /** Users with open wallets and money, one in each partition in turn. */
    funded: async (...balances: bigint[]): Promise<User[]> => {
      const users = balances.map((_, index) => user(index % 4))
      await apply(users.map(owner => open(owner)))
      await apply(
        users.flatMap((owner, index) => (balances[index]! > 0n ? [deposit(owner, balances[index]!)] : [])),
      )
      return users
    },
    /** Decodes events, each with its type's short name as `event`. */
    decode: (events: JournalRow[]): Promise<Array<Record<string, unknown> & { event: string }>> =>
      Promise.all(
        events.map(async ({ bytes }) => {
          const { type, value } = await codec.decode(bytes)
          return { ...(value as object), event: type.slice(type.lastIndexOf('.') + 1) }
        }),
      ),
    close: async () => {
      await Promise.all([sql, ...others].map(each => each.end()))
      await database.drop()
    },
  }
}
