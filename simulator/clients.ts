import { transferIdOf, walletIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { fingerprintOf } from '../services/gateway/src/fingerprint.ts'
import type { AskedTransfer } from '../services/gateway/src/request-transfer.ts'
import { problemOf, type SimulatedGateway, type Site } from './processes.ts'
import { type Answer, type Attempt, BrokenPromise, type Watch } from './promises.ts'
import type { Process } from './world.ts'

const CURRENCIES = ['USD', 'EUR']
/** A client that has heard nothing by then believes its request lost. */
const GIVE_UP_MS = 12_000
const REMEMBERED_ASKED = 12

export type Person = { userId: string; asked: AskedTransfer[]; keys: number }

export type Clients = {
  /** Begins; each client does one thing after the other. */
  start: (count: number) => void
  /** Nothing new is begun. */
  rest: () => void
  busy: () => number
  /** Asks for everything once more, and looks it up: then every answer must be final and the same. */
  askAgain: (limit: number) => void
  /** What the provider confirmed, by payment id. */
  confirmed: () => Map<string, Buffer>
}

const personOf = (index: number): Person => ({
  userId: `00000000-0000-4000-8000-${String(index + 1).padStart(12, '0')}`,
  asked: [],
  keys: 0,
})

class Lost extends Error {}

/**
 * People with their wallets, and clients that act for them, several for one person: they ask for transfers, ask again
 * with the same key and the same or other content, open wallets, pay in, and look up. Each answer goes to the watch.
 */
export const createClients = (parts: {
  site: Site
  watch: Watch
  people: number
  gateways: () => SimulatedGateway[]
}): Clients => {
  const { site, watch } = parts
  const { world, database } = site
  const { random } = world
  const people = Array.from({ length: parts.people }, (_, index) => personOf(index))
  const contents = new Map<string, { asked: AskedTransfer; attempt: Attempt }>()
  const confirmed = new Map<string, Buffer>()
  let resting = false
  let busy = 0

  /** Sends something to a gateway; the answer may never come. */
  const call = <Result>(
    client: Process,
    gateway: SimulatedGateway,
    what: string,
    work: () => Promise<Result>,
  ): Promise<Result> =>
    new Promise((resolve, reject) => {
      const giveUp = world.after(GIVE_UP_MS, client, `gives up on ${what}`, () => reject(new Lost(what)))
      const told = (how: string, then: () => void) =>
        world.after(world.latency(), client, `hears ${how} of ${what}`, () => {
          giveUp()
          then()
        })
      if (!gateway.process.alive) return void told('no answer', () => reject(new Lost(what)))
      gateway.onKill(() => told('nothing more', () => reject(new Lost(what))))
      world.after(world.latency(), gateway.process, what, () => {
        work().then(
          result => told('the answer', () => resolve(result)),
          error => {
            if (error instanceof BrokenPromise) world.fail(error)
            told('an error', () => reject(error))
          },
        )
      })
    })

  const attemptOf = (asked: AskedTransfer): Attempt | undefined => {
    const { user, idempotencyKey: key, amount, currency, note } = asked
    const fromWalletId = asked.fromWalletId ?? walletIdOf(user.userId, currency, 0)
    const wallets = database.tables.wallets
    let toWalletId = asked.toWalletId
    if (toWalletId === null) {
      for (const wallet of wallets.values()) if (wallet.code === asked.toWalletCode) toWalletId = wallet.id
    }
    if (toWalletId === null) return undefined
    const fingerprint = fingerprintOf({
      type: 'transfer',
      fromWalletId,
      toWalletId,
      amount,
      currency,
      note,
      metadata: asked.metadata,
    })
    const transferId = transferIdOf(user.userId, key)
    return {
      userId: user.userId,
      key,
      transferId,
      fingerprint,
      fromWalletId,
      toWalletId,
      amount,
      currency,
      note,
    }
  }

  const short = (id: string) => id.slice(0, 8)

  /** Asks a gateway for a transfer and holds its answer against the books, as the gateway gives it. */
  const ask = async (client: Process, gateway: SimulatedGateway, asked: AskedTransfer): Promise<Answer> => {
    const attempt = attemptOf(asked)
    if (!attempt) return { is: 'nothing', why: 'no such code' }
    const content = `${attempt.transferId} ${attempt.fingerprint.toString('hex')}`
    contents.set(content, { asked, attempt })
    const what = `${asked.idempotencyKey} ${short(attempt.transferId)} ${asked.amount} ${asked.currency}`
    try {
      return await call(client, gateway, what, async () => {
        const answer = await answerOf(gateway, asked)
        world.note(
          `${gateway.process.name} answers ${what}: ${answer.is} ${'code' in answer ? answer.code : ''}`,
        )
        watch.answered(attempt, answer, gateway.process.name)
        return answer
      })
    } catch (error) {
      if (error instanceof Lost) return { is: 'nothing', why: 'lost' }
      throw error
    }
  }

  const answerOf = async (gateway: SimulatedGateway, asked: AskedTransfer): Promise<Answer> => {
    try {
      const { status, transfer } = await gateway.requestTransfer(asked)
      return { is: status === 201 ? 'completed' : 'pending', view: transfer }
    } catch (error) {
      const problem = problemOf(error)
      if (!problem) return { is: 'nothing', why: String(error) }
      if (problem.members.final === true) return { is: 'rejected', code: problem.code }
      if (problem.code === 'IDEMPOTENCY_KEY_REUSED') return { is: 'reused' }
      if (problem.code === 'SERVICE_UNAVAILABLE' && problem.members.transferId !== undefined)
        return { is: 'unknown' }
      return { is: 'nothing', why: problem.code }
    }
  }

  const newAsked = (person: Person, key: string): AskedTransfer => {
    const currency = random.chance(0.8) ? 'USD' : 'EUR'
    const to = random.pick(people)
    const recipient = walletIdOf(to.userId, random.chance(0.95) ? currency : random.pick(CURRENCIES), 0)
    const code = random.chance(0.2) ? database.tables.wallets.get(recipient)?.code : undefined
    const odd = random.float()
    return {
      user: { userId: person.userId } as AskedTransfer['user'],
      idempotencyKey: key,
      fromWalletId: random.chance(0.3) ? walletIdOf(person.userId, currency, 0) : null,
      toWalletId: code ? null : odd < 0.01 ? '00000000-0000-4000-8000-ffffffffffff' : recipient,
      toWalletCode: code ?? null,
      amount: BigInt(1 + random.int(random.chance(0.2) ? 40_000 : 900)),
      currency,
      note: random.chance(0.2) ? `note ${random.int(3)}` : null,
      metadata: null,
      pin: '2580',
      stepUpToken: null,
      waitMs: random.pick([0, 300, 1_000, 10_000, 10_000]),
      traceparent: '',
    }
  }

  const remember = (person: Person, asked: AskedTransfer) => {
    person.asked.push(asked)
    if (person.asked.length > REMEMBERED_ASKED) person.asked.shift()
  }

  const openWallet = async (client: Process, person: Person) => {
    const currency = random.pick(CURRENCIES)
    const gateway = random.pick(parts.gateways())
    await call(client, gateway, `opens ${currency} for ${short(person.userId)}`, () =>
      gateway.openWallet(person.userId, currency, 2_000),
    ).catch(() => {})
  }

  /** Pays in: the provider confirms until it is told that it was heard, and now and then once more. */
  const payIn = async (client: Process, person: Person) => {
    const currency = random.chance(0.8) ? 'USD' : 'EUR'
    // Now and then under a key that belongs to a transfer as well.
    const taken = random.chance(0.25) && person.asked.length > 0
    const key = taken ? random.pick(person.asked).idempotencyKey : `k${person.keys++}`
    const walletId = walletIdOf(person.userId, currency, 0)
    const amount = BigInt(100 + random.int(20_000))
    const id = transferIdOf(person.userId, key)
    const fingerprint = fingerprintOf({
      type: 'deposit',
      fromWalletId: null,
      toWalletId: walletId,
      amount,
      currency,
      note: null,
      metadata: null,
      method: 'card',
    })
    if (site.gatewayTables.payments.has(id)) return
    site.gatewayTables.payments.set(id, {
      id,
      kind: 'deposit',
      userId: person.userId,
      walletId,
      amount,
      currency,
      method: Buffer.from('card'),
      fingerprint,
      status: 'pending',
      providerReference: null,
      failureReason: null,
      requestedAt: new Date(1_800_000_000_000),
    })
    const body = JSON.stringify({
      id,
      kind: 'deposit',
      status: 'succeeded',
      amount: formatAmount(amount, currency),
      currency,
      providerReference: 'provider',
    })
    let repeats = random.pick([0, 0, 1, 2])
    for (;;) {
      const gateway = random.pick(parts.gateways())
      try {
        await call(client, gateway, `confirms deposit ${short(id)} of ${amount} ${currency}`, () =>
          gateway.confirmDeposit(body),
        )
        confirmed.set(id, fingerprint)
        if (repeats-- === 0) return
      } catch {
        await world.sleep(50 + random.float() * 500, client, 'confirms again')
      }
    }
  }

  const transfer = async (client: Process, person: Person) => {
    const asked = newAsked(person, `k${person.keys++}`)
    remember(person, asked)
    await ask(client, random.pick(parts.gateways()), asked)
  }

  const askOnceMore = async (client: Process, person: Person, other: boolean) => {
    if (person.asked.length === 0) return transfer(client, person)
    const before = random.pick(person.asked)
    const asked = other
      ? newAsked(person, before.idempotencyKey)
      : { ...before, waitMs: random.pick([0, 500, 10_000]) }
    if (other) remember(person, asked)
    await ask(client, random.pick(parts.gateways()), asked)
  }

  /** Two requests with one key at once: from two wallets, so perhaps in two partitions. */
  const race = async (client: Process, person: Person) => {
    const first = newAsked(person, `k${person.keys++}`)
    const second = {
      ...newAsked(person, first.idempotencyKey),
      currency: first.currency === 'USD' ? 'EUR' : 'USD',
    }
    second.fromWalletId = null
    remember(person, first)
    remember(person, second)
    await Promise.all([first, second].map(asked => ask(client, random.pick(parts.gateways()), asked)))
  }

  const lookUp = async (client: Process, person: Person) => {
    if (person.asked.length === 0) return
    const { idempotencyKey: key } = random.pick(person.asked)
    const gateway = random.pick(parts.gateways())
    await find(client, gateway, person.userId, key)
  }

  /** GET by key: what it says of a finished transfer is what the books say. */
  const find = (client: Process, gateway: SimulatedGateway, userId: string, key: string) =>
    call(client, gateway, `looks up ${key}`, async () => {
      const id = transferIdOf(userId, key)
      const before = database.tables.transfers.get(id)
      const view = await gateway.find.byIdempotencyKey(userId, key).catch(error => {
        if (before && problemOf(error)?.code === 'TRANSFER_NOT_FOUND')
          throw new BrokenPromise('X2', `the decided transfer ${id} was not found by its key`)
        throw error
      })
      const row = database.tables.transfers.get(id)
      const says = view.final ? view.status : 'pending'
      const right = says === 'pending' ? before === undefined : row?.status === says
      if (!right) throw new BrokenPromise('X2', `the key of ${id} says ${says}, the books say ${row?.status}`)
      return says
    }).catch(error => {
      if (error instanceof BrokenPromise) throw error
      return 'nothing' as const
    })

  const act = async (client: Process, person: Person) => {
    const draw = random.float()
    if (draw < 0.04) return openWallet(client, person)
    if (draw < 0.16) return payIn(client, person)
    if (draw < 0.3) return askOnceMore(client, person, false)
    if (draw < 0.4) return askOnceMore(client, person, true)
    if (draw < 0.46) return lookUp(client, person)
    if (draw < 0.54) return race(client, person)
    return transfer(client, person)
  }

  const live = async (client: Process) => {
    while (!resting) {
      await world.sleep(random.float() * 40, client, 'thinks')
      if (resting) return
      busy++
      await act(client, random.pick(people))
      busy--
    }
  }

  /** In a system where all is well, everything has a final answer. */
  const verify = async (client: Process, { asked, attempt }: { asked: AskedTransfer; attempt: Attempt }) => {
    const gateway = random.pick(parts.gateways())
    const before = database.tables.transfers.get(attempt.transferId)
    const answer = await ask(client, gateway, { ...asked, waitMs: 10_000 })
    const row = database.tables.transfers.get(attempt.transferId)
    if (answer.is === 'pending' || answer.is === 'unknown' || (answer.is === 'nothing' && before))
      throw new BrokenPromise(
        'X2',
        `with everything up ${attempt.transferId} is answered ${answer.is} ${'why' in answer ? answer.why : ''}`,
      )
    const says = await find(client, gateway, attempt.userId, attempt.key)
    if (row && says === 'nothing')
      throw new BrokenPromise('X2', `the key of ${attempt.transferId} finds nothing`)
  }

  return {
    start: count => {
      for (let index = 0; index < count; index++) {
        const client = world.createProcess(`client${index + 1}`)
        // The first thing everybody does is to open a wallet, some of them at two gateways at once.
        void (async () => {
          busy++
          await openWallet(client, people[index % people.length]!)
          busy--
          await live(client)
        })().catch(world.fail)
      }
    },
    rest: () => {
      resting = true
    },
    busy: () => busy,
    askAgain: limit => {
      const all = [...contents.values()]
      const chosen = all.length <= limit ? all : Array.from({ length: limit }, () => random.pick(all))
      for (let index = 0; index < 8; index++) {
        const client = world.createProcess(`checker${index + 1}`)
        busy++
        void (async () => {
          for (let next = chosen.pop(); next; next = chosen.pop()) await verify(client, next)
          busy--
        })().catch(world.fail)
      }
    },
    confirmed: () => confirmed,
  }
}
