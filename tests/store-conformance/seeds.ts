import { externalWalletId, walletIdOf } from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import type { TransferLookupKeys } from '../../services/gateway/src/ledger/sql/ledger-reads.ts'
import { decodeNow } from '../../simulator/broken-promise.ts'
import { createRandom, type Random } from '../../simulator/random.ts'
import {
  CAPTURE,
  CLOSE,
  capture,
  createLedger,
  FREEZE,
  freezeBy,
  HOUR_MS,
  into,
  LIMIT,
  limitChange,
  PARTITIONS,
  type Person,
  person,
  STAFF,
  to,
  UNFREEZE,
  VOID,
  voidHold,
} from './ledger.ts'
import { byPartition, bytes, id, NOW, type StoreScript, type StoreSite } from './site.ts'

/** All reads of the gateway, on the rows that a seed's ledger has written. */
const readByGateway = async ({ gateway }: StoreSite, random: Random): Promise<unknown> => {
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1)
  const blank = <Row extends { code: string | null } | null>(row: Row): Row =>
    row && { ...row, code: row.code && 'drawn' }
  const people = Array.from({ length: 6 }, (_, index) => person(index))
  const wallets = people.flatMap(({ user, wallet }) => [wallet, walletIdOf(user, 'USD', 1)])
  const known = await gateway.readWallets([...wallets, externalWalletId('USD', 0)])
  const transfers = await gateway.readTransfers(Array.from({ length: 90 }, (_, n) => id(3_000 + n)))
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

const STATUSES = [
  ['active', null],
  ['frozen', 'self'],
  ['frozen', 'staff'],
  ['closed', null],
] as const

type Asked = { id: string; type: 'transfer' | 'hold' | 'withdrawal' | 'deposit'; from: Person; to: Person }

/** Appends a few commands of every kind; most captures, voids and reversals refer to an earlier request. */
const appendSome = (random: Random, ledger: ReturnType<typeof createLedger>, asked: Asked[]) => {
  const { ask, open, append, command, reverse, log } = ledger
  const someone = () => person(random.int(5))
  for (let count = random.int(12); count > 0; count--) {
    const [one, other] = [someone(), someone()]
    // Few ids, so that they collide.
    const number = 3_000 + random.int(90)
    const transferId = id(number)
    const amount = random.chance(0.01) ? MAX_MINOR : BigInt(1 + random.int(random.pick([20, 90])))
    const currency = random.chance(0.03) ? 'EUR' : 'USD'
    const source = random.pick(['self', 'pin', 'staff', 'self', 'pin', 'staff', 'robot'])
    const expiresAt = random.chance(0.05) ? NOW.getTime() - 1 : null
    const remember = (type: Asked['type'], from: Person, to: Person) =>
      asked.push({ id: transferId, type, from, to })
    /** An earlier request of one of these types, or an arbitrary one. */
    const target = (...types: Asked['type'][]): Asked => {
      const known = asked.filter(({ type }) => types.includes(type))
      return known.length > 0 && random.chance(0.9)
        ? random.pick(known)
        : { id: id(3_000 + random.int(90)), type: types[0]!, from: one, to: other }
    }
    const draw = random.float()
    if (draw < 0.1) open(one)
    else if (draw < 0.13) open(one, { id: walletIdOf(one.user, 'USD', 1 + random.int(2)) })
    else if (draw < 0.3) {
      ask(one, { transferId, ...into(amount, one) })
      remember('deposit', one, one)
    } else if (draw < 0.4) {
      const type = random.chance(0.03) ? 'teleport' : 'transfer'
      ask(one, { transferId, ...to(amount, one, other), type, currency, expiresAt })
      remember('transfer', one, other)
    } else if (draw < 0.5) {
      const holdUntil = random.chance(0.2) ? null : NOW.getTime() + random.int(20_000)
      ask(one, { transferId, ...to(amount, one, other), type: 'hold', holdUntil, expiresAt })
      remember('hold', one, other)
    } else if (draw < 0.55) {
      ask(one, { transferId, fromWalletId: one.wallet, amountMinor: amount, type: 'withdrawal', expiresAt })
      remember('withdrawal', one, one)
    } else if (draw < 0.63) {
      const { id, type, from, to } = target('hold', 'withdrawal')
      const part = random.pick([null, null, amount])
      const by = random.chance(0.1) ? 'staff' : type === 'withdrawal' ? 'provider' : 'user'
      command(from, CAPTURE, number, capture(id, from, type === 'withdrawal' ? null : to, part, by))
    } else if (draw < 0.7) {
      const { id, type, from, to } = target('hold', 'withdrawal')
      const by = type === 'withdrawal' ? 'provider' : random.pick(['user', 'staff', 'timer', 'timer'])
      command(from, VOID, number, voidHold(id, from, type === 'withdrawal' ? null : to, by))
    } else if (draw < 0.78) {
      const { id: originalId, type, from, to } = target('transfer', 'deposit', 'withdrawal', 'hold')
      const parties = {
        source: random.chance(0.1) ? 'user' : type === 'withdrawal' ? 'provider' : 'staff',
        fromWalletId: type === 'withdrawal' ? null : to.wallet,
        toWalletId: type === 'deposit' ? null : from.wallet,
      }
      reverse(one, {
        transferId,
        originalId,
        userId: STAFF,
        amountMinor: amount,
        currency: 'USD',
        ...parties,
      })
    } else if (draw < 0.82) command(one, FREEZE, number, freezeBy(one, source))
    else if (draw < 0.86) command(one, UNFREEZE, number, freezeBy(one, random.pick([source, 'staff'])))
    else if (draw < 0.88) command(one, CLOSE, number, { walletId: one.wallet, userId: one.user })
    else if (draw < 0.9) {
      const label = random.pick([null, bytes('rent')])
      command(one, 'pennywire.ledger.WalletRenameRequested', number, {
        walletId: one.wallet,
        userId: random.pick([one, other]).user,
        label,
      })
    } else if (draw < 0.93) {
      const by = random.pick(['self', 'staff'])
      const monthlyMinor = random.pick([null, 20n])
      command(one, LIMIT, number, limitChange(one, by, BigInt(2 + random.int(300)), { monthlyMinor }))
    } else if (draw < 0.94)
      command(one, LIMIT, number, limitChange(one, 'kyc', null, { tier: 'verified', action: '' }))
    else if (draw < 0.96) append(one.partition, one.wallet, bytes('no record'))
    else {
      const { key, value } = random.pick(log.flat().length > 0 ? log.flat() : [open(one)])
      append(random.int(PARTITIONS.length), String(key), value!)
    }
  }
}

/** One seed's run of a ledger: batches that continue, repeat or skip records; wallets frozen; marks raised. */
const liveBySeed = (seed: number): StoreScript => ({
  name: `seed ${seed}: the same batches have the same results, and the gateway reads them alike`,
  run: async site => {
    const random = createRandom(seed)
    const ledger = createLedger(site)
    const told: unknown[] = []
    const asked: Asked[] = []
    await site.store.readPositions(PARTITIONS)
    const people = [0, 1, 2, 3].map(person)
    for (const one of people) ledger.open(one)
    for (const one of people.slice(0, 2)) ledger.ask(one, { transferId: one.user, ...into(300n, one) })
    for (let round = 0; round < 30; round++) {
      if (random.chance(0.1)) ledger.pass(random.pick([10_000, 24 * HOUR_MS]))
      appendSome(random, ledger, asked)
      const positions = (await site.store.readPositions(PARTITIONS)).toSorted(byPartition)
      const batch = positions.flatMap(({ partition, nextOffset }) => {
        const from = Math.max(0, Number(nextOffset) + random.pick([0, 0, 0, 0, -1, -3, 1]))
        return ledger.log[partition]!.slice(from, from + random.int(10))
      })
      told.push(await ledger.apply(batch))
      if (random.chance(0.05)) {
        const [status, freezeSource] = random.pick(STATUSES)
        const { wallet } = person(random.int(5))
        const [known] = await site.store.transact(tx => tx.lockWallets([wallet]))
        // A closed wallet stays closed, because another wallet may have taken its place.
        if (known && known.status !== 'closed') await site.setStatus(wallet, status, freezeSource)
      }
      const partition = random.int(PARTITIONS.length)
      await site.store.raisePublished(new Map([[partition, BigInt(random.int(10))]]))
      told.push((await site.store.readProgress(PARTITIONS)).toSorted(byPartition))
      const rest = await site.store.readJournalAfter(partition, BigInt(random.int(10)), 1 + random.int(5))
      told.push(rest.map(({ seq, key, headers }) => [seq, key, headers]))
    }
    const applyRest = async () => {
      const positions = (await site.store.readPositions(PARTITIONS)).toSorted(byPartition)
      const rest = positions.flatMap(({ partition, nextOffset }) =>
        ledger.log[partition]!.slice(Number(nextOffset)),
      )
      told.push(await ledger.apply(rest))
    }
    // A wallet with the largest balance: its deposit needs a successor of the external wallet, and nobody can pay it.
    const rich = person(5)
    ledger.open(rich)
    ledger.ask(rich, { transferId: rich.user, ...into(MAX_MINOR, rich) })
    await applyRest()
    for (const [index, one] of people.slice(0, 2).entries())
      ledger.ask(one, { transferId: id(3_500 + index), ...to(1n, one, rich) })
    await applyRest()
    return [told, ledger.setAside, await site.dump(), await readByGateway(site, random)]
  },
})

export const SEEDS: StoreScript[] = Array.from({ length: 30 }, (_, index) => liveBySeed(index + 1))
