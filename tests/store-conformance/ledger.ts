import { createHash } from 'node:crypto'
import { walletIdOf } from '@pennywire/contracts/ids.ts'
import type { RecordName, Records, TransferRequested } from '@pennywire/contracts/schemas.ts'
import {
  reversalRequested,
  transferRequested,
  walletOpenRequested,
} from '@pennywire/contracts/test-records.ts'
import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults } from '../../packages/rules/src/limits.ts'
import { applyBatch } from '../../services/ledger/src/apply-batch.ts'
import type { JournalRow, LedgerStore } from '../../services/ledger/src/store.ts'
import { decodeNow } from '../../simulator/broken-promise.ts'
import { byPartition, bytes, id, NOW, type StoreSite } from './site.ts'

export const PARTITIONS = [0, 1, 2]

const LIMITS: LimitDefaults = {
  unverified: () => ({ perTransaction: 80n, daily: 130n, monthly: 300n }),
  verified: () => ({ perTransaction: 800n, daily: 2_000n, monthly: 4_000n }),
}
export type AnyCommand = {
  [Name in RecordName]: Records[Name] extends { commandId: string; requestedAt: number; fingerprint: Buffer }
    ? Name
    : never
}[RecordName]

/** A topic in memory, and a ledger that applies batches of it, each a second later. Wallet codes are masked. */
export const createLedger = (site: StoreSite) => {
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
  /** A journal row with its decoded event. A wallet's code is masked, because it is drawn anew in each run. */
  const tell = ({ bytes, ...row }: JournalRow) => {
    const event = decodeNow(bytes)
    const opened = event?.type === 'pennywire.ledger.WalletOpened'
    return { ...row, type: event?.type, value: { ...event?.value, ...(opened && { code: 'drawn' }) } }
  }
  return {
    log,
    append,
    setAside,
    open: ({ user, wallet, partition }: Person, over: { id?: string; currency?: string } = {}) =>
      command(
        partition,
        wallet,
        'pennywire.ledger.WalletOpenRequested',
        walletOpenRequested({ walletId: over.id ?? wallet, userId: user, currency: over.currency ?? 'USD' }),
      ),
    /** Any other command, under the id of this number; its fingerprint is the hash of its fields. */
    command: <Name extends AnyCommand>(
      { partition, wallet }: Person,
      name: Name,
      number: number,
      fields: Omit<Records[Name], 'commandId' | 'requestedAt' | 'fingerprint'>,
    ) =>
      command(partition, wallet, name, {
        ...fields,
        commandId: id(number),
        requestedAt: 1_000,
        fingerprint: createHash('md5')
          .update(JSON.stringify(fields, (_, value) => (typeof value === 'bigint' ? String(value) : value)))
          .digest(),
      } as unknown as Records[Name]),
    reverse: (
      person: Person,
      fields: Omit<Records['pennywire.ledger.ReversalRequested'], 'requestedAt' | 'fingerprint' | 'note'>,
    ) =>
      command(
        person.partition,
        person.wallet,
        'pennywire.ledger.ReversalRequested',
        reversalRequested({ ...fields, note: bytes('why') }),
      ),
    pass: (ms: number) => {
      nowMs += ms
    },
    ask: (person: Person, over: Partial<TransferRequested> & { transferId: string }) =>
      command(
        person.partition,
        person.wallet,
        'pennywire.ledger.TransferRequested',
        transferRequested({ userId: person.user, amountMinor: 10n, ...over }),
      ),
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

export type Person = { user: string; wallet: string; partition: number }
export const person = (number: number): Person => {
  const user = id(10 + number)
  return { user, wallet: walletIdOf(user, 'USD', 0), partition: number % PARTITIONS.length }
}
export const to = (amountMinor: bigint, from: Person, recipient: Person) => ({
  fromWalletId: from.wallet,
  toWalletId: recipient.wallet,
  amountMinor,
})
export const into = (amountMinor: bigint, recipient: Person) => ({
  type: 'deposit',
  toWalletId: recipient.wallet,
  amountMinor,
})

/** A ledger in which two people have a wallet each, the first with a balance of 100. */
export const begunLedger = async (site: StoreSite) => {
  const ledger = createLedger(site)
  const [alice, bob] = [person(0), person(1)]
  await site.store.readPositions(PARTITIONS)
  await ledger.apply([ledger.open(alice), ledger.open(bob)])
  await ledger.apply([ledger.ask(alice, { transferId: id(2_000), ...into(100n, alice) })])
  return { ...ledger, alice, bob }
}

export const HOUR_MS = 3_600_000
export const capture = (
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
export const voidHold = (
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
export const STAFF = id(99)
export const CAPTURE = 'pennywire.ledger.HoldCaptureRequested'
export const VOID = 'pennywire.ledger.HoldVoidRequested'
export const FREEZE = 'pennywire.ledger.WalletFreezeRequested'
export const UNFREEZE = 'pennywire.ledger.WalletUnfreezeRequested'
export const CLOSE = 'pennywire.ledger.WalletCloseRequested'
export const LIMIT = 'pennywire.ledger.LimitChangeRequested'
export const limitChange = (
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
  keeps: [],
  ...over,
})
export const freezeBy = (person: Person, source: string) => ({
  walletId: person.wallet,
  userId: source === 'staff' ? STAFF : person.user,
  source,
  reason: bytes('reason'),
})
