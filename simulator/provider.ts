import {
  OrderRefused,
  type PaymentProvider,
  type PaymentState,
} from '../services/gateway/src/payments/payment-provider.ts'
import { ProblemError } from '../services/gateway/src/problems/problem.ts'
import type { Process, World } from './world.ts'

/** A gateway, as far as the provider knows it. */
type ProviderCallbacks = {
  call: <Result>(client: Process, what: string, work: () => Promise<Result>) => Promise<Result>
  applyProviderState: (body: string) => Promise<unknown>
}

/** What the provider will say of a payment, and whether it says it unasked. */
type Plan = { words: ('succeeded' | 'failed' | 'returned')[]; calls: boolean }
type Ordered = { state: PaymentState; plan: Plan }

const MAX_LATE_MS = 15_000

export type SimulatedProvider = {
  portOf: (process: Process) => Pick<PaymentProvider, 'order' | 'cancel' | 'ask' | 'list' | 'readCallback'>
  /** What has become of every payment that was ordered. */
  states: () => PaymentState[]
  /** Says these once more, as an operator has it done who finds them by `npm run reconcile`. */
  sayAgain: (which: (state: PaymentState) => boolean) => void
  /** Whether it still has something to say unasked. */
  busy: () => number
}

/**
 * The payment provider: takes an order once, pays out, refuses, fails, or gets a payout
 * back; calls back until it is heard, more than once, or never, and answers when it is asked.
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
      // An earlier word may be heard after a later one. Nobody asks for what is done: what came back is always said.
      if (plan.calls || word === 'returned') said.push(callBack({ ...state }))
    }
    await Promise.all(said)
  }

  /** The way there and back; either may be lost, and the way there may take long: others ask and order meanwhile. */
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
          // A stricter check since the first order: a payment that is known all the same is told when asked for.
          if (ordered.has(order.id) && random.chance(0.5)) throw new OrderRefused()
          if (!ordered.has(order.id)) {
            // What was held up on its way is not taken any more.
            if (world.wall() > Date.parse(order.validUntil)) throw away()
            // Refused by chance: an account that is closed, and open again for a later order.
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
