import {
  OrderRefused,
  type PaymentProvider,
  type PaymentState,
} from '../services/gateway/src/payments/payment-provider.ts'
import { ProblemError } from '../services/gateway/src/problems/problem.ts'
import type { Process, World } from './world.ts'

/** The part of a gateway that the provider uses. */
type ProviderCallbacks = {
  call: <Result>(client: Process, what: string, work: () => Promise<Result>) => Promise<Result>
  applyProviderState: (body: string) => Promise<unknown>
}

/** The states that the provider will report for a payment, and whether it calls back with them. */
type Plan = { words: ('succeeded' | 'failed' | 'returned')[]; calls: boolean }
type Ordered = { state: PaymentState; plan: Plan }

const MAX_LATE_MS = 15_000

export type SimulatedProvider = {
  portOf: (process: Process) => Pick<PaymentProvider, 'order' | 'cancel' | 'ask' | 'list' | 'readCallback'>
  /** The state of every payment that was ordered. */
  states: () => PaymentState[]
  /** Calls back again for these payments, as an operator requests after `npm run reconcile` found them. */
  sayAgain: (which: (state: PaymentState) => boolean) => void
  /** The number of payments and callbacks in progress. */
  busy: () => number
}

/**
 * The payment provider: accepts an order once, pays out, refuses, fails, or gets a payout back. It calls back until the
 * call succeeds, more than once, or never, and answers queries.
 */
export const createProvider = (
  world: World,
  faults: { away: number },
  gateways: () => ProviderCallbacks[],
): SimulatedProvider => {
  const { random } = world
  const process = world.createProcess('provider')
  const ordered = new Map<string, Ordered>()
  let busy = 0

  const away = () => new ProblemError('SERVICE_UNAVAILABLE', 'The payment provider does not answer.')

  const drawPlan = (kind: PaymentState['kind']): Plan => {
    const calls = random.chance(0.7)
    const draw = random.float()
    if (draw < 0.25) return { words: ['failed'], calls }
    if (kind === 'withdrawal' && draw < 0.5) return { words: ['succeeded', 'returned'], calls }
    return { words: ['succeeded'], calls }
  }

  const callBack = async (state: PaymentState) => {
    busy++
    let repeats = random.pick([0, 0, 1, 2])
    for (;;) {
      const gateway = random.pick(gateways())
      try {
        await gateway.call(process, `provider says ${state.status} of ${state.id.slice(0, 8)}`, () =>
          gateway.applyProviderState(JSON.stringify(state)),
        )
        if (repeats-- === 0) break
      } catch {
        await world.sleep(50 + random.float() * 1_500, process, 'calls back again')
      }
    }
    busy--
  }

  const begin = async ({ state, plan }: Ordered) => {
    const said: Promise<void>[] = []
    for (const word of plan.words) {
      const ms = random.float() * random.pick([20, 1_000, 6_000])
      await world.sleep(ms, process, `payment ${state.id.slice(0, 8)} is worked on`)
      state.status = word
      // An earlier state may arrive after a later one. A returned payout is always called back: done payments are not
      // queried.
      if (plan.calls || word === 'returned') said.push(callBack({ ...state }))
    }
    await Promise.all(said)
  }

  /** A request and its answer: either may be lost, and the request may be slow: others query and order meanwhile. */
  const travel = <Result>(client: Process, what: string, answer: () => Result): Promise<Result> =>
    new Promise((resolve, reject) => {
      const fate = random.float()
      const lateMs = random.chance(faults.away / 2) ? random.float() * MAX_LATE_MS : 0
      world.after(world.latency() + lateMs, null, what, () => {
        const heard = (then: () => void) => world.after(world.latency(), client, `${what}: answer`, then)
        if (fate < faults.away / 2) return void heard(() => reject(away()))
        try {
          const result = answer()
          heard(() => (fate < faults.away ? reject(away()) : resolve(result)))
        } catch (error) {
          heard(() => reject(error))
        }
      })
    })

  return {
    portOf: client => ({
      order: order =>
        travel(client, `provider is ordered ${order.id.slice(0, 8)}`, () => {
          if (order.method === 'nowhere') throw new OrderRefused()
          // A check is stricter than at the first order: the repeat is refused, although `ask` finds the payment.
          if (ordered.has(order.id) && random.chance(0.5)) throw new OrderRefused()
          if (!ordered.has(order.id)) {
            // An order that arrives after its validity is not accepted.
            if (world.wall() > Date.parse(order.validUntil)) throw away()
            // Refused by chance: an account is closed now, and may be open again for a later order.
            if (random.chance(0.15)) throw new OrderRefused()
            const { id, kind, amount, currency } = order
            const state: PaymentState = {
              id,
              kind,
              status: 'pending',
              amount,
              currency,
              providerReference: `p${ordered.size}`,
            }
            const payment = { state, plan: drawPlan(kind) }
            ordered.set(id, payment)
            busy++
            begin(payment)
              .finally(() => busy--)
              .catch(world.fail)
          }
          return { providerReference: ordered.get(order.id)!.state.providerReference }
        }),
      ask: id =>
        travel(client, `provider is asked for ${id.slice(0, 8)}`, () => {
          const state = ordered.get(id)?.state
          return state && { ...state }
        }),
      cancel: async () => undefined,
      list: async () => [],
      readCallback: (_, body) => JSON.parse(body),
    }),
    states: () => [...ordered.values()].map(({ state }) => state),
    sayAgain: which => {
      for (const { state } of ordered.values()) if (which(state)) callBack({ ...state }).catch(world.fail)
    },
    busy: () => busy,
  }
}
