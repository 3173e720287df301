// Many clients that send all kinds of requests while faults are injected, and record every answer.
import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { type Answer, ask, type Person, SIDE_CURRENCY } from './people.ts'
import type { World } from './world.ts'

/** `void`, `freeze`, `unfreeze`, `limit`, `open` and `close` move no money. */
export type Kind =
  | 'transfer'
  | 'deposit'
  | 'withdrawal'
  | 'hold'
  | 'capture'
  | 'void'
  | 'reversal'
  | 'freeze'
  | 'unfreeze'
  | 'limit'
  | 'open'
  | 'close'

/** The content of a request. */
export type Content = {
  /** The index of the recipient: the requester, except for transfers, holds and reversals. */
  to: number
  /** Null: the whole hold, or all that is left to reverse; for a limit: no limit. */
  minor: bigint | null
  /** For deposits and withdrawals: the method, which selects the sandbox provider's behaviour. */
  method?: string
  /** For a hold: the time until it expires. */
  seconds?: number
  /** The hold to end, or the transfer to reverse. */
  of?: string
  /** The wallet to close. */
  walletId?: string
}
export type Attempt = { content: Content; answer: Answer | 'lost' }

/** One idempotency key with all attempts under it. */
export type Request = {
  kind: Kind
  from: number
  key: string
  content: Content
  attempts: Attempt[]
}

export type Load = {
  requests: Request[]
  /** Whether every client got a 201 for a request sent after this moment. */
  servedSince: (moment: number) => boolean
  /** When the last client got its first 201 for a request sent after this moment. */
  servedAgainAt: (moment: number) => number
  /** The clients without such a 201, for the error message. */
  unservedSince: (moment: number) => number[]
  /** The longest time without any 201, in seconds. */
  longestOutage: () => number
  pause: () => Promise<void>
  resume: () => void
  stop: () => Promise<void>
}

const WAIT_SECONDS = 2
/** A client treats an answer as lost after this time. */
const PATIENCE_MS = 5_000
/** The limits that apply to every person, in cents: LIMITS_UNVERIFIED of the tests' settings. */
export const MAXIMUM = 90_000_000_000_000n

export const isLostOr5xx = (answer: Answer | 'lost'): boolean => answer === 'lost' || answer.status >= 500

/** The HTTP request of each kind. */
const saidBy = (
  people: Person[],
  { kind, from }: Request,
  { to, minor, method, seconds, of, walletId }: Content,
): [method: string, path: string, body?: object] => {
  const own = people[from]!.walletId
  const amount = minor === null ? {} : { amount: formatAmount(minor, 'USD') }
  const money = { ...amount, currency: 'USD' }
  switch (kind) {
    case 'deposit':
      return ['POST', 'deposits', { walletId: own, ...money, source: method }]
    case 'withdrawal':
      return ['POST', 'withdrawals', { walletId: own, ...money, destination: method }]
    case 'transfer':
      return ['POST', 'transfers', { toWalletId: people[to]!.walletId, ...money }]
    case 'hold':
      return ['POST', 'holds', { toWalletId: people[to]!.walletId, ...money, expiresInSeconds: seconds }]
    case 'capture':
      return ['POST', `holds/${of}/capture`, amount]
    case 'void':
      return ['POST', `holds/${of}/void`]
    case 'reversal':
      return ['POST', `admin/transfers/${of}/reversals`, { ...amount, reason: 'Case 4711' }]
    case 'freeze':
    case 'unfreeze':
      return ['POST', `wallets/${own}/${kind}`]
    case 'limit':
      return ['PUT', 'limits/send', { walletId: own, perTransaction: amount.amount ?? null }]
    case 'open':
      return ['POST', 'wallets', { currency: SIDE_CURRENCY }]
    case 'close':
      return ['DELETE', `wallets/${walletId}`]
  }
}

/** Sends one request to one gateway and records the answer. */
export const attempt = async (
  people: Person[],
  gateway: string,
  request: Request,
  content: Content,
): Promise<Attempt> => {
  const { token, stepUp } = people[request.from]!
  const done: Attempt = { content, answer: 'lost' }
  request.attempts.push(done)
  const [method, path, body] = saidBy(people, request, content)
  done.answer = await ask(`${gateway}/v1/${path}`, method, {
    token,
    ...(body ? { body } : {}),
    headers: {
      'idempotency-key': request.key,
      'step-up-token': stepUp,
      prefer: `wait=${WAIT_SECONDS}`,
    },
    timeoutMs: PATIENCE_MS,
  }).catch((): 'lost' => 'lost')
  return done
}

const chance = (percent: number) => randomInt(100) < percent
const oneOf = <Item>(...items: Item[]): Item => items[randomInt(items.length)]!

const requestOf = (kind: Kind, from: number, content: Content): Request => ({
  ...{ kind, from, content },
  key: randomUUID(),
  attempts: [],
})

/** A client's next request; its follow-ups (ending a hold, lifting a freeze) are in the client's loop. */
const newRequest = (people: Person[], from: number, earlier: Request[]): Request => {
  const self = { to: from, minor: 0n }
  const small = () => BigInt(randomInt(1, 500))
  // The last person is the admin, who receives no payments.
  const to = (from + randomInt(1, people.length - 1)) % (people.length - 1)
  const die = randomInt(100)
  if (die < 4) {
    const method = oneOf('card', 'card', 'card', 'sandbox:fail', 'sandbox:delay', 'sandbox:forgets')
    return requestOf('deposit', from, { to: from, minor: BigInt(randomInt(100, 2_000)), method })
  }
  if (die < 8) {
    const method = oneOf(
      'bank',
      'bank',
      'bank',
      'sandbox:fail',
      'sandbox:delay',
      'sandbox:return',
      'sandbox:lost',
      'sandbox:forgets',
    )
    return requestOf('withdrawal', from, { to: from, minor: small(), method })
  }
  if (die < 14)
    return requestOf('hold', from, { to, minor: small(), seconds: chance(10) ? 86_400 : randomInt(1, 5) })
  if (die < 17) {
    const moved = earlier.filter(isGivenBack)
    // Any client's transfer will do, because the admin requests the reversal.
    if (moved.length > 0) return reversalOf(people.length - 1, moved[randomInt(moved.length)]!)
  }
  if (die === 17) return requestOf('freeze', from, self)
  if (die === 18)
    return requestOf('limit', from, { to: from, minor: oneOf(50_000n, 90_000n, null, MAXIMUM + 1n) })
  if (die === 19 || die === 20) {
    const person = people[from]!
    if (chance(20)) return requestOf('close', from, { ...self, walletId: person.filledWalletId })
    if (person.sideWalletId === undefined) return requestOf('open', from, self)
    return requestOf('close', from, { ...self, walletId: person.sideWalletId })
  }
  // Some transfers exceed the balance: a refusal must stay true like any answer.
  return requestOf('transfer', from, { to, minor: chance(3) ? 99_900n : small() })
}

const isGivenBack = ({ kind, attempts }: Request) =>
  ['transfer', 'deposit', 'capture'].includes(kind) &&
  attempts.some(({ answer }) => answer !== 'lost' && answer.status === 201)

const idIn = ({ attempts }: Request): string =>
  attempts
    .map(({ answer }) => (answer !== 'lost' && answer.status === 201 ? answer.body.id : ''))
    .find(Boolean)

/** Reverses all that is left, a part, or more than the original amount. */
const reversalOf = (admin: number, original: Request): Request => {
  const of = idIn(original)
  const whole = original.content.minor
  const minor = whole === null ? null : oneOf(null, (whole + 1n) / 2n, (whole + 1n) / 2n, whole + 1n)
  return requestOf('reversal', admin, { to: original.from, minor, of })
}

/** The recipient's requests that end a hold: sometimes two at once, of which only one may succeed. */
const endsOf = ({ content }: Request, of: string): Request[] => {
  const { to, minor } = content
  const capture = () =>
    requestOf('capture', to, {
      to,
      minor: oneOf(null, (minor! + 1n) / 2n, chance(10) ? minor! + 1n : minor!),
      of,
    })
  const voidHold = () => requestOf('void', to, { to, minor: 0n, of })
  if (chance(25)) return []
  if (chance(20)) return [capture(), chance(50) ? capture() : voidHold()]
  return [chance(70) ? capture() : voidHold()]
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
    const from = client % (people.length - 1)
    /** Half of the clients repeat every request without an answer; the others leave that to the checks. */
    const persistent = client % 2 === 0
    let gateway = client
    /** The freeze or unfreeze to send next: until the wallet is known to be unfrozen, the client sends nothing else. */
    let owed: Request | undefined

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
    /** Sends the request; a persistent client repeats it with the same key until it is answered or the load ends. */
    const insist = async (request: Request, sending = send(request)) => {
      let result = await sending
      for (let pauseMs = 100; persistent && isLostOr5xx(result.answer) && running && !paused(); ) {
        await sleep(pauseMs)
        pauseMs = Math.min(2 * pauseMs, 1_000)
        result = await send(request)
      }
      return result
    }

    /** Handles the follow-ups of an answer. */
    const follow = async (request: Request, { answer }: Attempt) => {
      if (request.kind === 'freeze' || request.kind === 'unfreeze') {
        if (isLostOr5xx(answer)) owed = request
        else if (request.kind === 'freeze' && answer !== 'lost' && answer.status === 200) {
          owed = requestOf('unfreeze', from, request.content)
          requests.push(owed)
        } else owed = undefined
        return
      }
      if (answer === 'lost') return
      const { status, body } = answer
      const person = people[from]!
      if (request.kind === 'open') person.sideWalletId = status === 201 ? body.id : body.walletId
      if (request.kind === 'close' && status === 200) person.sideWalletId = undefined
      if (request.kind === 'close' && body?.code === 'WALLET_ALREADY_CLOSED') person.sideWalletId = undefined
      if (request.kind !== 'hold' || status !== 201) return
      const ends = endsOf(request, body.id)
      requests.push(...ends)
      await Promise.all(ends.map(end => insist(end)))
    }

    while (running) {
      if (gate) {
        await gate.promise
        continue
      }
      busy++
      const known = owed
      const request = known ?? newRequest(people, from, requests)
      if (!known) requests.push(request)
      const sending = send(request)
      // Twice at once, on two gateways: one effect, and both get its outcome.
      if (chance(4)) {
        gateway++
        await send(request)
      }
      const result = await insist(request, sending)
      await follow(request, result)
      const { kind, content } = request
      if ((kind === 'transfer' || kind === 'hold') && chance(4))
        await send(request, { ...content, minor: content.minor! + 1n })
      if (chance(6) && kind !== 'open') await send(request)
      busy--
      // A client with a lost or 5xx answer pauses longer.
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
      // No client sends requests during a pause, so the pause is not an outage.
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
