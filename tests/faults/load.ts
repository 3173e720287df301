// Many clients that move money while the system is being broken, and remember every answer they got.
import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { type Answer, ask, type Person } from './people.ts'
import type { World } from './world.ts'

/** What a request asks for: money for somebody; a deposit is for oneself. */
export type Content = { to: number; minor: bigint }
export type Attempt = { content: Content; answer: Answer | 'lost' }

/** One idempotency key with everything that was asked under it. */
export type Request = {
  kind: 'transfer' | 'deposit'
  from: number
  key: string
  content: Content
  attempts: Attempt[]
}

export type Load = {
  requests: Request[]
  /** Each client that was answered 201 to something it asked after this moment. */
  servedSince: (moment: number) => boolean
  /** When the last client had its first answer 201 to something it asked after this moment. */
  servedAgainAt: (moment: number) => number
  /** Who was not, for a person. */
  unservedSince: (moment: number) => number[]
  /** Longest time in which nobody was answered 201, in seconds. */
  longestOutage: () => number
  pause: () => Promise<void>
  resume: () => void
  stop: () => Promise<void>
}

const WAIT_SECONDS = 2
/** A client that has no answer by then takes it for lost. */
const PATIENCE_MS = 5_000

export const isLostOr5xx = (answer: Answer | 'lost'): boolean => answer === 'lost' || answer.status >= 500

/** Sends one request to one gateway and remembers what came. */
export const attempt = async (
  people: Person[],
  gateway: string,
  request: Request,
  content: Content,
): Promise<Attempt> => {
  const person = people[request.from]!
  const amount = formatAmount(content.minor, 'USD')
  const money = { amount, currency: 'USD' }
  const done: Attempt = { content, answer: 'lost' }
  request.attempts.push(done)
  const body =
    request.kind === 'deposit'
      ? { walletId: person.walletId, ...money }
      : { toWalletId: people[content.to]!.walletId, ...money }
  done.answer = await ask(`${gateway}/v1/${request.kind}s`, 'POST', {
    token: person.token,
    body,
    headers: {
      'idempotency-key': request.key,
      'step-up-token': person.stepUp,
      prefer: `wait=${WAIT_SECONDS}`,
    },
    timeoutMs: PATIENCE_MS,
  }).catch((): 'lost' => 'lost')
  return done
}

const chance = (percent: number) => randomInt(100) < percent

const newRequest = (people: Person[], from: number): Request => {
  const key = randomUUID()
  if (chance(4)) {
    const content = { to: from, minor: BigInt(randomInt(100, 2_000)) }
    return { kind: 'deposit', from, key, content, attempts: [] }
  }
  const to = (from + randomInt(1, people.length)) % people.length
  // Some ask for more than they have: a refusal must stand like any answer.
  const minor = BigInt(chance(3) ? 99_900 : randomInt(1, 500))
  return { kind: 'transfer', from, key, content: { to, minor }, attempts: [] }
}

export const startLoad = (world: World, people: Person[], clients: number): Load => {
  const requests: Request[] = []
  const served: Array<Array<{ sentAt: number; at: number }>> = Array.from({ length: clients }, () => [])
  let lastServed = 0
  let longest = 0
  let running = true
  let gate: PromiseWithResolvers<void> | undefined
  let busy = 0

  const paused = () => gate !== undefined

  const runClient = async (client: number) => {
    const from = client % people.length
    /** A part of the clients repeats whatever they have no answer to; the others leave it, and the checks ask. */
    const persistent = client % 2 === 0
    let gateway = client

    const note = (sentAt: number, { answer }: Attempt) => {
      if (answer === 'lost' || answer.status !== 201) return
      const now = performance.now()
      if (lastServed > 0) longest = Math.max(longest, now - lastServed)
      lastServed = now
      served[client]!.push({ sentAt, at: now })
    }
    const send = async (request: Request, content = request.content) => {
      const sentAt = performance.now()
      const url = world.gateways[gateway % world.gateways.length]!
      const result = await attempt(people, url, request, content)
      note(sentAt, result)
      if (isLostOr5xx(result.answer)) gateway++
      return result
    }

    while (running) {
      if (gate) {
        await gate.promise
        continue
      }
      busy++
      const request = newRequest(people, from)
      requests.push(request)
      const sending = send(request)
      // Twice at once, on two gateways: one effect, and both are told of it.
      if (chance(4)) {
        gateway++
        await send(request)
      }
      let result = await sending
      for (let pauseMs = 100; persistent && isLostOr5xx(result.answer) && running && !paused(); ) {
        await sleep(pauseMs)
        pauseMs = Math.min(2 * pauseMs, 1_000)
        result = await send(request)
      }
      if (request.kind === 'transfer' && chance(4))
        await send(request, { ...request.content, minor: request.content.minor + 1n })
      if (chance(6)) await send(request)
      busy--
      // Whoever met an outage comes back later than others.
      await sleep(isLostOr5xx(result.answer) ? randomInt(500, 1_500) : randomInt(100, 400))
    }
  }
  const clientsDone = Promise.all(served.map((_, client) => runClient(client)))

  const firstSince = (moment: number) =>
    served.map(answers => answers.find(({ sentAt }) => sentAt >= moment)?.at ?? Infinity)
  const unservedSince = (moment: number) =>
    firstSince(moment).flatMap((at, client) => (at === Infinity ? [client] : []))
  return {
    requests,
    unservedSince,
    servedSince: moment => unservedSince(moment).length === 0,
    servedAgainAt: moment => Math.max(...firstSince(moment)),
    longestOutage: () => longest / 1_000,
    pause: async () => {
      gate ??= Promise.withResolvers()
      while (busy > 0) await sleep(20)
      // Nobody asks, so nobody waits: this is no outage.
      lastServed = 0
    },
    resume: () => {
      gate?.resolve()
      gate = undefined
    },
    stop: async () => {
      running = false
      gate?.resolve()
      await clientsDone
    },
  }
}
