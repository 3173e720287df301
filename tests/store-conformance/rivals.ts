import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { begunLedger, CAPTURE, capture, type Person, person, STAFF, to, VOID, voidHold } from './ledger.ts'
import { balancesOf, id, type StoreScript } from './site.ts'

/** Two ledgers that apply batches at the same time. */
export const RIVALS: StoreScript[] = [
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
