// For tests: every kind of command at random, over several partitions, days and wallets of a user, on a test ledger.
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import type { LedgerEvent } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { JournalRow } from './store.ts'
import { type TestLedger, type User, user } from './test-ledger.ts'

/** A journal row as the record of ledger.events. */
export const recordOf = (row: JournalRow, offset: bigint): IncomingRecord => ({
  topic: 'ledger.events',
  partition: row.partition,
  offset,
  timestamp: 0,
  key: Buffer.from(row.key),
  value: row.bytes,
  headers: Object.entries(row.headers).map(([name, value]) => [name, Buffer.from(value)]),
})

const DAY_MS = 86_400_000
const USERS = 6

/** Draws numbers below `most`, the same for the same seed. */
const drawFrom = (seed: number) => {
  let state = seed * 2_654_435_761 + 1
  return (most: number): number => {
    state = (Math.imul(state ^ (state >>> 15), 2_246_822_507) + 3_266_489_909) | 0
    return (state >>> 0) % most
  }
}

/**
 * Random commands for a ledger; remembers what it sent and the events that came of it. Commands of one wallet are in
 * its partition, as a gateway sends them.
 */
export const createTestLoad = (ledger: TestLedger, codec: Codec, seed: number) => {
  const below = drawFrom(seed)
  const users = Array.from({ length: USERS }, (_, index) => user(index % 4))
  const commands: IncomingRecord[] = []
  const topic: IncomingRecord[] = []
  const holds: Array<{ id: string; from: User; to: User | null; until: number | null }> = []
  const transfers: Array<{ id: string; from: User; to: User }> = []
  const closings = new Map(users.map(one => [one.id, 0]))
  let now = Date.UTC(2026, 0, 30, 12)
  const pick = <Item>(items: Item[]): Item => items[below(items.length)]!
  const two = (): [User, User] => {
    const from = pick(users)
    return [from, pick(users.filter(one => one !== from))]
  }
  const kinds: Array<() => IncomingRecord> = [
    () => ledger.deposit(pick(users), BigInt(1 + below(5_000))),
    () => ledger.deposit(pick(users), BigInt(1 + below(5_000))),
    () =>
      ledger.transfer(...two(), BigInt(1 + below(1_000)), {
        note: Buffer.from('note'),
        metadata: Buffer.from('{}'),
      }),
    () => ledger.transfer(...two(), BigInt(1 + below(1_000))),
    () => ledger.hold(...two(), BigInt(1 + below(500)), { holdUntil: now + 2 * DAY_MS }),
    () => ledger.withdrawal(pick(users), BigInt(1 + below(500))),
    () => {
      const hold = pick(holds)
      if (!hold) return ledger.deposit(pick(users), 7n)
      const part = hold.to && below(2) === 0 ? { amountMinor: BigInt(1 + below(100)) } : {}
      return ledger.capture(hold.id, hold.from, hold.to, part)
    },
    () => {
      const hold = pick(holds)
      if (!hold) return ledger.deposit(pick(users), 7n)
      const source = hold.to === null ? 'provider' : below(2) === 0 ? 'user' : 'timer'
      return ledger.voidHold(hold.id, hold.from, hold.to, { source })
    },
    () => {
      const transfer = pick(transfers)
      if (!transfer) return ledger.deposit(pick(users), 7n)
      return ledger.reversal(transfer.id, transfer.from, transfer.to, BigInt(1 + below(100)))
    },
    () => ledger.freeze(pick(users), pick(['self', 'pin', 'staff']), { reason: Buffer.from('reason') }),
    () => ledger.unfreeze(pick(users), 'staff'),
    () => ledger.unfreeze(pick(users), 'staff'),
    () =>
      ledger.limit(pick(users), {
        action: pick(['send', 'deposit', 'withdrawal']),
        dailyMinor: BigInt(below(9_000)),
      }),
    () => ledger.limit(pick(users), { source: 'staff', action: 'send', monthlyMinor: BigInt(below(90_000)) }),
    () => ledger.limit(pick(users), { source: 'kyc', tier: pick(['verified', 'unverified']) }),
    () => {
      const owner = pick(users)
      return ledger.command(owner.partition, owner.wallet, 'pennywire.ledger.WalletRenameRequested', {
        ...{ commandId: crypto.randomUUID(), walletId: owner.wallet, userId: owner.id },
        ...{
          label: Buffer.from(`label ${below(100)}`),
          requestedAt: 1_000,
          fingerprint: Buffer.alloc(16, 3),
        },
      })
    },
    () => ledger.closeWallet(pick(users)),
    () => ledger.open(pick(users)),
    () => pick(commands.slice(-30)) ?? ledger.open(pick(users)),
    () => {
      // Another request under an id that is in use.
      const used = pick(transfers)
      return ledger.transfer(...two(), 1n, used ? { transferId: used.id } : {})
    },
  ]

  const follow = async (rows: JournalRow[]) => {
    for (const row of rows) {
      topic.push(recordOf(row, row.seq - 1n))
      const event = (await codec.decode(row.bytes)) as LedgerEvent
      const of = (wallet: string | null) => users.find(one => one.wallet === wallet)
      if (event.type === 'pennywire.ledger.HoldPlaced') {
        const { transferId: id, fromWalletId, toWalletId, holdUntil: until } = event.value
        const [from, to] = [of(fromWalletId), of(toWalletId)]
        if (from && (toWalletId === null || to)) holds.push({ id, from, to: to ?? null, until })
      }
      if (event.type === 'pennywire.ledger.TransferCompleted' && event.value.type === 'transfer') {
        const { transferId: id, fromWalletId, toWalletId } = event.value
        const [from, to] = [of(fromWalletId), of(toWalletId)]
        if (from && to) transfers.push({ id, from, to })
      }
      if (event.type === 'pennywire.ledger.WalletClosed') {
        const owner = of(event.value.walletId)!
        const n = closings.get(owner.id)! + 1
        closings.set(owner.id, n)
        // Its next wallet has commands in another partition.
        owner.wallet = walletIdOf(owner.id, 'USD', n)
        owner.partition = (owner.partition + 1) % 4
      }
    }
  }

  return {
    users,
    /** Every command sent, and every event decided. */
    commands,
    topic,
    /** Sends batches of commands; the time goes on by hours, over days and months. */
    run: async (batches: number) => {
      for (let batch = 0; batch < batches; batch++) {
        now += below(10 * 3_600_000)
        ledger.circumstances.now = new Date(now)
        const opened = commands.length === 0 ? users.map(owner => ledger.open(owner)) : []
        const records = [...opened, ...Array.from({ length: 1 + below(8) }, () => pick(kinds)())]
        // A repeat is delivered at an offset of its own.
        const delivered = records.map(record =>
          commands.includes(record) || records.indexOf(record) !== records.lastIndexOf(record)
            ? ledger.append(record.partition, record.key!.toString(), record.value!)
            : record,
        )
        delivered.sort((a, b) => a.partition - b.partition || Number(a.offset - b.offset))
        commands.push(...delivered)
        await follow((await ledger.apply(delivered)).events)
      }
    },
  }
}
