import { transferIdOf, walletIdOf } from '@pennywire/contracts/ids.ts'
import type { Records } from '@pennywire/contracts/schemas.ts'
import {
  LIMIT_KINDS,
  LIMITED_ACTIONS,
  type LimitKind,
  type Limits,
  NO_LIMITS,
} from '../packages/rules/src/limits.ts'
import { fingerprintOf, fingerprintOfCommand } from '../services/gateway/src/ledger/fingerprint.ts'
import type { Payment } from '../services/gateway/src/payments/sql/payments.ts'
import type { ReversalInput } from '../services/gateway/src/reversals/request-reversal.ts'
import type { TransferInput } from '../services/gateway/src/transfers/request-transfer.ts'
import type { TransferRow } from '../services/ledger/src/store.ts'
import { BrokenPromise } from './broken-promise.ts'
import { openWalletOf, readHoldEndedBy, readTransfer } from './gateway-store.ts'
import { Lost, problemOf, type SimulatedGateway, type Site } from './processes.ts'
import type { Answer, Attempt, Watch } from './promises.ts'
import type { Process } from './world.ts'

const CURRENCIES = ['USD', 'EUR']
const REMEMBERED_ASKED = 12
const STAFF = '00000000-0000-4000-a000-000000000001'

/** Only some people close wallets, because a request without a wallet id is ambiguous afterwards. */
type Person = { userId: string; inputs: TransferInput[]; keys: number; closes: boolean }

type Command = {
  [Name in Parameters<SimulatedGateway['ask']>[0]]: { name: Name; key: string; value: Records[Name] }
}[Parameters<SimulatedGateway['ask']>[0]]

export type Clients = {
  /** Starts `count` clients; each does one thing after the other. */
  start: (count: number) => void
  /** Clients begin nothing new. */
  rest: () => void
  busy: () => number
  /**
   * Repeats up to `limit` transfers and commands, and looks the transfers up: each answer must be final and the same.
   */
  askAgain: (limit: number) => void
}

const personOf = (index: number): Person => ({
  userId: `00000000-0000-4000-8000-${String(index + 1).padStart(12, '0')}`,
  inputs: [],
  keys: 0,
  closes: index % 3 === 0,
})

/**
 * People with their wallets, and clients that act for them, several for one person. They request transfers, repeat them
 * with the same key and the same or other content, open wallets, deposit, and look up; they place, capture and void
 * holds, withdraw, freeze, close and limit their wallets, and staff reverse transfers. The watch gets each answer.
 */
export const createClients = (deps: {
  site: Site
  watch: Watch
  people: number
  gateways: () => SimulatedGateway[]
}): Clients => {
  const { site, watch } = deps
  const { world, database } = site
  const { random } = world
  const people = Array.from({ length: deps.people }, (_, index) => personOf(index))
  const contents = new Map<string, { input: TransferInput; attempt: Attempt }>()
  const commands: Command[] = []
  let resting = false
  let busy = 0

  /** Sends a request to a gateway; the answer may never arrive. */
  const call = <Result>(
    client: Process,
    gateway: SimulatedGateway,
    what: string,
    work: () => Promise<Result>,
  ): Promise<Result> => gateway.call(client, what, work)

  const walletOf = (person: Person, currency: string): string =>
    openWalletOf(database.tables, person.userId, currency)?.id ?? walletIdOf(person.userId, currency, 0)
  const now = () => Math.floor(world.wall())

  const attemptOf = (input: TransferInput): Attempt | undefined => {
    const { user, idempotencyKey: key, amount, currency, note } = input
    const fromWalletId = input.fromWalletId ?? walletIdOf(user.userId, currency, 0)
    const wallets = database.tables.wallets
    let toWalletId = input.toWalletId
    if (toWalletId === null) {
      for (const wallet of wallets.values()) if (wallet.code === input.toWalletCode) toWalletId = wallet.id
    }
    if (toWalletId === null) return undefined
    const fingerprint = fingerprintOf({
      type: input.type,
      fromWalletId,
      toWalletId,
      amount,
      currency,
      note,
      metadata: input.metadata,
      ...(input.expiresInSeconds !== null && { expiresInSeconds: input.expiresInSeconds }),
    })
    const transferId = transferIdOf(user.userId, key)
    return {
      type: input.type,
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

  /** Requests a transfer from a gateway and checks its answer against the books, at the moment of the answer. */
  const ask = async (client: Process, gateway: SimulatedGateway, input: TransferInput): Promise<Answer> => {
    const attempt = attemptOf(input)
    if (!attempt) return { is: 'nothing', why: 'no such code' }
    const content = `${attempt.transferId} ${attempt.fingerprint.toString('hex')}`
    contents.set(content, { input, attempt })
    const what = `${input.idempotencyKey} ${short(attempt.transferId)} ${input.amount} ${input.currency}`
    try {
      return await call(client, gateway, what, async () => {
        const answer = await answerOf(gateway, input)
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

  const answerOf = async (gateway: SimulatedGateway, input: TransferInput): Promise<Answer> => {
    try {
      const request = input.type === 'hold' ? gateway.requestHold : gateway.requestTransfer
      const { status, transfer } = await request(input)
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

  const newInput = (person: Person, key: string, type: TransferInput['type'] = 'transfer'): TransferInput => {
    const currency = random.chance(0.8) ? 'USD' : 'EUR'
    // Seldom to oneself, which is refused.
    const others = people.filter(other => other !== person)
    const to = random.pick(random.chance(0.95) ? others : people)
    const recipient = walletOf(to, random.chance(0.95) ? currency : random.pick(CURRENCIES))
    const code = random.chance(0.2) ? database.tables.wallets.get(recipient)?.code : undefined
    const odd = random.float()
    return {
      type,
      user: { userId: person.userId } as TransferInput['user'],
      idempotencyKey: key,
      fromWalletId: person.closes || random.chance(0.3) ? walletOf(person, currency) : null,
      toWalletId: code ? null : odd < 0.01 ? '00000000-0000-4000-8000-ffffffffffff' : recipient,
      toWalletCode: code ?? null,
      amount: BigInt(1 + random.int(random.chance(0.2) ? 40_000 : 900)),
      currency,
      note: random.chance(0.2) ? `note ${random.int(3)}` : null,
      metadata: null,
      expiresInSeconds: type === 'hold' ? random.pick([1, 4, 20, 60, 3_600, 200_000]) : null,
      pin: '2580',
      stepUpToken: null,
      waitMs: random.pick([0, 300, 1_000, 10_000, 10_000]),
      traceparent: '',
    }
  }

  const remember = (person: Person, input: TransferInput) => {
    person.inputs.push(input)
    if (person.inputs.length > REMEMBERED_ASKED) person.inputs.shift()
  }

  const openWallet = async (client: Process, person: Person, currency = random.pick(CURRENCIES)) => {
    const gateway = random.pick(deps.gateways())
    // Now and then under an id out of sequence: then the ledger decides whether a wallet is already open.
    const ahead = random.chance(0.15) ? 1_000 + random.int(1_000) : 0
    const open = openWalletOf(database.tables, person.userId, currency)
    await call(client, gateway, `opens ${currency} for ${short(person.userId)}`, () =>
      gateway.openWallet(person.userId, currency, open ? ahead : 0),
    ).catch(() => {})
  }

  /** Deposits or withdraws: the provider determines the outcome, and the gateways' workers complete the payment. */
  const pay = async (
    client: Process,
    person: Person,
    kind: Payment['kind'],
    currency = random.chance(0.8) ? 'USD' : 'EUR',
  ) => {
    // Now and then under a key that a transfer uses as well.
    const taken = random.chance(0.25) && person.inputs.length > 0 ? random.pick(person.inputs) : undefined
    const key = taken?.idempotencyKey ?? `k${person.keys++}`
    const walletId = walletOf(person, currency)
    const most = kind === 'deposit' ? 20_000 : random.pick([900, 900, 20_000])
    const amount = BigInt(100 + random.int(most))
    const method = random.chance(0.03) ? 'nowhere' : 'card'
    const id = transferIdOf(person.userId, key)
    const gateway = random.pick(deps.gateways())
    const input = {
      user: { userId: person.userId } as TransferInput['user'],
      idempotencyKey: key,
      ...{ walletId, amount, currency, waitMs: random.pick([0, 300, 2_000, 10_000]) },
    }
    const proof = { pin: '2580', stepUpToken: null, traceparent: '' }
    const again = random.chance(0.2) ? [random.pick(deps.gateways())] : []
    await Promise.all(
      [gateway, ...again].map(each =>
        call(client, each, `${kind} ${short(id)} of ${amount} ${currency}`, async () => {
          const answer = await (kind === 'deposit'
            ? each.requestDeposit({ ...input, source: method })
            : each.requestWithdrawal({ ...input, ...proof, destination: method })
          ).catch(error => {
            const problem = problemOf(error)
            if (problem?.members.final === true) checkRefused(id, problem.code, each.process.name)
            throw error
          })
          if (answer.status === 201) checkPaid(id, amount, each.process.name)
        }).catch(error => {
          if (error instanceof BrokenPromise) throw error
        }),
      ),
    )
  }

  /** X2: a payment answered with 201 is in the books, with the amount. */
  const checkPaid = (id: string, amount: bigint | null, who: string) => {
    const row = database.tables.transfers.get(id)
    if (row?.status !== 'completed' || (amount !== null && row.amount !== amount))
      throw new BrokenPromise('X2', `${who} answered 201 to payment ${id}, the books say ${row?.status}`)
  }

  /** X2: a payment that is refused for good moves nothing: the provider or the ledger has refused it. */
  const checkRefused = (id: string, code: string, who: string) => {
    const row = database.tables.transfers.get(id)
    const payment = site.gatewayTables.payments.get(id)
    if (row?.status === 'rejected' && row.rejectionCode === code) return
    if (payment?.status === 'failed' && row?.status !== 'completed') return
    throw new BrokenPromise(
      'X2',
      `${who} refused payment ${id} for good (${code}); the books say ${row?.status} ${row?.rejectionCode}, the payment is ${payment?.status}`,
    )
  }

  // --- commands ---

  /** A client that writes to the topic may choose another partition: then two ledgers decide about one wallet. */
  const elsewhere = (probability = 0.15) =>
    random.chance(probability) ? walletOf(random.pick(people), 'USD') : undefined
  /** Mostly one of the last, so that several commands meet; seldom a withdrawal, which only the provider may end. */
  const pickHold = () => {
    const type = random.chance(0.1) ? 'withdrawal' : 'hold'
    const holds = watch.activeHolds().filter(([, held]) => held.type === type)
    if (holds.length > 0) return random.pick(random.chance(0.7) ? holds.slice(-4) : holds)
    return undefined
  }

  const send = async (client: Process, command: Command, away?: number) => {
    const { name, value } = command
    const key = elsewhere(away) ?? command.key
    const gateway = random.pick(deps.gateways())
    const what = `${name.slice(17)} ${short(value.commandId)}`
    await call(client, gateway, what, async () => {
      const outcome = await gateway.ask(name as 'pennywire.ledger.WalletFreezeRequested', key, value as never)
      const code = 'code' in outcome.value ? outcome.value.code : ''
      world.note(`${gateway.process.name} answers ${what}: ${outcome.type} ${code}`)
    }).catch(error => {
      if (error instanceof BrokenPromise) throw error
    })
  }

  const begin = async (client: Process, command: Command, away?: number) => {
    commands.push(command)
    // Now and then twice at once, at two gateways, or together with another command under the same id.
    const draw = random.float()
    const beside = draw < 0.1 ? [command] : draw < 0.2 ? [otherUnder(command.value.commandId, command)] : []
    await Promise.all([command, ...beside].map(each => send(client, each, away)))
  }

  const commandOnceMore = async (client: Process) => {
    if (commands.length === 0) return
    const before = commands.at(-1 - random.int(Math.min(20, commands.length)))!
    await send(client, random.chance(0.5) ? before : otherUnder(before.value.commandId, before))
  }

  /** Another command under the same commandId. */
  const otherUnder = (commandId: string, { key, value }: Command): Command => {
    const walletId = 'walletId' in value && value.walletId !== null ? value.walletId : key
    const other = others++ % 4
    const fingerprint = fingerprintOfCommand('command', { other: String(other) })
    const same = { commandId, fingerprint, walletId, userId: ownerOf(walletId), requestedAt: now() }
    const none = { action: '', perTransactionMinor: null, dailyMinor: null, monthlyMinor: null }
    return other < 2
      ? {
          name: 'pennywire.ledger.WalletUnfreezeRequested',
          key,
          value: { ...same, source: 'self', reason: null },
        }
      : {
          name: 'pennywire.ledger.LimitChangeRequested',
          key,
          value: { ...same, ...none, source: 'kyc', tier: 'verified', keeps: [] },
        }
  }
  let others = 0

  const headOf = (content: Record<string, string | null>) => ({
    commandId: transferIdOf(STAFF, `c${commands.length}`),
    fingerprint: fingerprintOfCommand('command', content),
    requestedAt: now(),
  })
  const ownerOf = (walletId: string | null): string =>
    database.tables.wallets.get(walletId ?? '')?.userId ?? STAFF

  const capture = async (client: Process) => {
    const picked = pickHold()
    if (!picked) return
    const [holdId, held] = picked
    const draw = random.float()
    const amount =
      draw < 0.4
        ? null
        : draw < 0.58
          ? held.amount + 1n + BigInt(random.int(500))
          : 1n + BigInt(random.int(Number(held.amount)))
    const isOdd = random.chance(0.1)
    const capture = (amountMinor: bigint | null): Command => ({
      name: 'pennywire.ledger.HoldCaptureRequested',
      key: held.walletId,
      value: {
        ...headOf({ holdId, amount: String(amountMinor) }),
        holdId,
        walletId: held.walletId,
        toWalletId: held.toWalletId,
        // By the recipient; now and then by the payer.
        userId: ownerOf(isOdd ? held.walletId : held.toWalletId),
        source: 'user',
        amountMinor,
        currency: held.currency,
      },
    })
    if (random.chance(0.3)) {
      // All at once: only one of the captures and voids succeeds.
      const first = capture(amount)
      commands.push(first)
      await Promise.all([send(client, first), begin(client, capture(null)), voidHold(client, [holdId, held])])
    } else await begin(client, capture(amount))
  }

  const voidHold = async (client: Process, one?: ReturnType<Watch['activeHolds']>[number]) => {
    const chosen = one ?? pickHold()
    if (!chosen) return
    const [holdId, held] = chosen
    const [source, userId] = random.pick([
      ['user', ownerOf(held.toWalletId)],
      ['user', ownerOf(held.toWalletId)],
      ['user', ownerOf(held.walletId)],
      ['staff', STAFF],
      ['timer', STAFF],
    ] as const)
    await begin(client, {
      name: 'pennywire.ledger.HoldVoidRequested',
      key: held.walletId,
      value: {
        ...headOf({ holdId, source, userId }),
        holdId,
        walletId: held.walletId,
        toWalletId: held.toWalletId,
        userId,
        source,
      },
    })
  }

  /** Some concurrent payments from one wallet, while it is changed. */
  const payMeanwhile = (client: Process, person: Person, currency: string) =>
    Promise.all(
      Array.from({ length: 1 + random.int(3) }, async () => {
        if (random.chance(0.3)) return pay(client, person, 'withdrawal', currency)
        const key = `k${person.keys++}`
        const input = {
          ...newInput(person, key, random.pick(['transfer', 'transfer', 'hold'])),
          currency,
          fromWalletId: walletOf(person, currency),
          toWalletId: walletOf(random.pick(people), currency),
          toWalletCode: null,
        }
        remember(person, input)
        await ask(client, random.pick(deps.gateways()), input)
      }),
    )

  const freeze = async (client: Process, person: Person) => {
    const currency = random.pick(CURRENCIES)
    const walletId = walletOf(person, currency)
    const freezeAs = (source: string) => {
      const userId = source === 'staff' ? STAFF : random.chance(0.95) ? person.userId : STAFF
      return begin(client, {
        name: 'pennywire.ledger.WalletFreezeRequested',
        key: walletId,
        value: {
          ...headOf({ walletId, source, is: 'freeze' }),
          ...{ walletId, userId, source, reason: null },
        },
      })
    }
    const change = { walletId, reason: null }
    await Promise.all([
      freezeAs(random.pick(['self', 'pin', 'staff', 'staff'])),
      ...(random.chance(0.5) ? [payMeanwhile(client, person, currency)] : []),
    ])
    await world.sleep(random.float() * 1_500, client, 'thinks of the frozen wallet')
    if (random.chance(0.3)) await pay(client, person, 'withdrawal', currency)
    if (random.chance(0.4)) await freezeAs(random.pick(['self', 'pin', 'staff']))
    // The last attempt is by staff, who may unfreeze any wallet: otherwise all would be frozen in the end.
    for (const by of [random.pick(['self', 'pin', 'staff']), 'staff']) {
      await begin(client, {
        name: 'pennywire.ledger.WalletUnfreezeRequested',
        key: walletId,
        value: {
          ...headOf({ walletId, source: by, is: 'unfreeze' }),
          ...change,
          userId: by === 'staff' ? STAFF : person.userId,
          source: by,
        },
      })
    }
  }

  const closeAndReopen = async (client: Process, person: Person) => {
    if (!person.closes) return
    const currency = random.pick(CURRENCIES)
    const wallet = openWalletOf(database.tables, person.userId, currency)
    if (!wallet) return openWallet(client, person)
    // A wallet is mostly emptied before it is closed.
    if (wallet.balance - wallet.held > 0n && random.chance(0.9)) {
      const to = random.pick(people)
      const input = {
        ...newInput(person, `k${person.keys++}`),
        currency,
        fromWalletId: wallet.id,
        toWalletId: walletOf(to, currency),
        toWalletCode: null,
        amount: wallet.balance - wallet.held,
      }
      remember(person, input)
      await ask(client, random.pick(deps.gateways()), input)
    }
    const { id: walletId } = wallet
    await begin(client, {
      name: 'pennywire.ledger.WalletCloseRequested',
      key: walletId,
      value: { ...headOf({ walletId, is: 'close' }), walletId, userId: person.userId },
    })
    if (random.chance(0.8)) await openWallet(client, person, currency)
  }

  const setLimits = (
    client: Process,
    person: Person,
    walletId: string,
    change: { source: string; action: string; tier?: string | null; keeps?: LimitKind[] } & Limits,
    away?: number,
  ) => {
    const { source, action, tier = null, keeps = [], perTransaction, daily, monthly } = change
    const limits = { perTransactionMinor: perTransaction, dailyMinor: daily, monthlyMinor: monthly }
    const userId = source === 'self' ? person.userId : STAFF
    const content = { walletId, source, action, tier, keeps: keeps.join(' '), ...mapText(limits) }
    return begin(
      client,
      {
        name: 'pennywire.ledger.LimitChangeRequested',
        key: walletId,
        value: { ...headOf(content), walletId, userId, source, action, ...limits, tier, keeps },
      },
      away,
    )
  }

  const changeLimits = async (client: Process, person: Person) => {
    const currency = random.pick(CURRENCIES)
    const walletId = walletOf(person, currency)
    if (random.chance(0.4)) return tightenAndLoosen(client, person, currency)
    const source = random.pick(['self', 'self', 'staff', 'kyc'])
    if (source === 'kyc') {
      const tier = random.pick(['unverified', 'verified'])
      return setLimits(client, person, walletId, { source, action: 'send', tier, ...NO_LIMITS })
    }
    const action = random.pick(LIMITED_ACTIONS)
    const change = (keeps: LimitKind[]) => {
      const some = (kind: LimitKind, most: number) =>
        keeps.includes(kind) || random.chance(0.5) ? null : BigInt(500 + random.int(most))
      const limits = {
        perTransaction: some('perTransaction', 20_000),
        daily: some('daily', 60_000),
        monthly: some('monthly', 200_000),
      }
      return setLimits(client, person, walletId, { source, action, keeps, ...limits })
    }
    if (random.chance(0.7)) await change([])
    await change(LIMIT_KINDS.filter(() => random.chance(0.4)))
  }

  /** Limits payments to almost nothing and lifts the limit, while other ledgers decide payments of the same wallet. */
  const tightenAndLoosen = async (client: Process, person: Person, currency: string) => {
    const walletId = walletOf(person, currency)
    for (const perTransaction of [10n, null, 10n, null]) {
      const change = { ...NO_LIMITS, source: 'staff', action: 'send', perTransaction }
      await Promise.all([
        setLimits(client, person, walletId, change, 0.8),
        payMeanwhile(client, person, currency),
        world
          .sleep(random.float() * 20, client, 'pays a little later')
          .then(() => payMeanwhile(client, person, currency)),
      ])
    }
  }

  /** Changes as the routes request them, one after the other, under keys that a transfer may use too. */
  const changeByRoute = async (client: Process, person: Person) => {
    const walletId = walletOf(person, random.pick(CURRENCIES))
    const isStaff = random.chance(0.4)
    const headOfRoute = () => ({
      userId: isStaff ? STAFF : person.userId,
      source: isStaff ? ('staff' as const) : ('self' as const),
      idempotencyKey: `k${random.int(person.keys + 2)}`,
      traceparent: '',
    })
    const byRoute = (what: string, work: (gateway: SimulatedGateway) => Promise<unknown>) => {
      const gateway = random.pick(deps.gateways())
      return call(client, gateway, what, () => work(gateway)).catch(error => {
        if (error instanceof BrokenPromise) throw error
      })
    }
    const change = (how: 'freeze' | 'unfreeze' | 'close') =>
      byRoute(`${how}s ${short(walletId)}`, async gateway => {
        const wallet = await gateway.readWallet(person.userId, walletId)
        if (wallet) await gateway.changeWallet[how]({ ...headOfRoute(), wallet, reason: null })
      })
    const [holdId, held] = pickHold() ?? []
    const endHold = (how: 'capture' | 'void') =>
      byRoute(`${how}s ${short(holdId ?? '')}`, async gateway => {
        if (!holdId || !held) return
        const userId = ownerOf(held.toWalletId)
        const head = { ...headOfRoute(), holdId, userId }
        if (how === 'capture') await gateway.endHold.capture({ ...head, readAmount: () => null })
        else await gateway.endHold.void({ ...head, source: 'user' })
      })
    const limit = (perTransaction: bigint | null) =>
      byRoute(`limits ${short(walletId)}`, gateway =>
        gateway.changeLimits({
          ...headOfRoute(),
          walletId,
          action: random.pick(LIMITED_ACTIONS),
          limits: { ...NO_LIMITS, perTransaction },
        }),
      )
    const rename = () =>
      byRoute(`renames ${short(walletId)}`, async gateway => {
        const wallet = await gateway.readWallet(person.userId, walletId)
        const label = random.chance(0.3) ? null : `label ${random.int(5)}`
        if (wallet) await gateway.changeWallet.rename({ ...headOfRoute(), wallet, label })
      })
    /** Bypasses the routes, which accept only the user's own wallets. */
    const renameAs = ({ userId }: Person) => {
      const label = Buffer.from(`label ${random.int(5)}`)
      return begin(client, {
        name: 'pennywire.ledger.WalletRenameRequested',
        key: walletId,
        value: { ...headOf({ walletId, userId, label: String(label) }), walletId, userId, label },
      })
    }
    const draw = random.float()
    if (draw < 0.2)
      await Promise.all([rename(), rename(), renameAs(random.pick([person, random.pick(people)]))])
    else if (draw < 0.4) {
      await change('freeze')
      await change('unfreeze')
    } else if (draw < 0.5 && person.closes) {
      await change('close')
      await openWallet(client, person)
    } else if (draw < 0.6) {
      await limit(BigInt(500 + random.int(20_000)))
      await limit(null)
    } else if (draw < 0.8) await Promise.all([endHold('capture'), endHold('void')])
    else await endHold(random.chance(0.5) ? 'capture' : 'void')
  }

  /** A reversal as staff request it at the route, repeated with the same key. */
  const reverseByRoute = async (client: Process, original: TransferRow) => {
    const part = random.chance(0.5) ? null : 1n + BigInt(random.int(Number(original.amount)))
    const input = {
      staff: { userId: STAFF } as ReversalInput['staff'],
      idempotencyKey: `s${reversals++}`,
      originalId: original.id,
      amountIn: () => part,
      currency: null,
      reason: 'asked for',
      waitMs: random.pick([0, 2_000, 10_000]),
      traceparent: '',
    }
    const id = transferIdOf(STAFF, input.idempotencyKey)
    for (let tries = 1 + random.int(3); tries > 0; tries--) {
      const gateway = random.pick(deps.gateways())
      const what = `gives ${part ?? 'all'} of ${short(original.id)} back as ${short(id)}`
      await call(client, gateway, what, async () => {
        const { status } = await gateway.requestReversal(input, elsewhere(0.6)).catch(error => {
          const problem = problemOf(error)
          if (problem?.members.final === true) checkRefused(id, problem.code, gateway.process.name)
          throw error
        })
        if (status === 201) checkPaid(id, part, gateway.process.name)
        else if (!site.gatewayTables.pending.has(id))
          throw new BrokenPromise('X2', `reversal ${id} is answered 202 and nothing was written down`)
      }).catch(error => {
        if (error instanceof BrokenPromise) throw error
      })
    }
  }

  /** Several concurrent reversals of one transfer, each of a part or the whole. */
  const reverse = async (client: Process) => {
    const { transfers } = database.tables
    const last = [...transfers.values()].slice(-12).filter(({ type }) => type !== 'reversal')
    if (last.length === 0) return
    const original = random.pick(last)
    if (random.chance(0.4)) return reverseByRoute(client, original)
    const some = async () => {
      const part = random.chance(0.5) ? original.amount : 1n + BigInt(random.int(Number(original.amount)))
      const key = `r${reversals++}`
      const request = {
        transferId: transferIdOf(STAFF, key),
        originalId: original.id,
        userId: STAFF,
        source: 'staff',
        fromWalletId: original.type === 'withdrawal' ? null : original.toWallet,
        toWalletId: original.type === 'deposit' ? null : original.fromWallet,
        amountMinor: part,
        currency: original.currency,
        fingerprint: fingerprintOfCommand('reversal', { originalId: original.id, part: String(part) }),
        requestedAt: now(),
        note: null,
      }
      for (let tries = 1 + random.int(3); tries > 0; tries--) {
        const gateway = random.pick(deps.gateways())
        const what = `gives ${part} of ${short(original.id)} back as ${short(request.transferId)}`
        const facts = await call(client, gateway, what, () => gateway.reverse(request, elsewhere(0.6))).catch(
          () => undefined,
        )
        if (!facts) continue
        const row = transfers.get(request.transferId)
        if (row?.status !== facts.status || row.rejectionCode !== facts.rejectionCode)
          throw new BrokenPromise(
            'X3',
            `reversal ${row?.id} is answered ${facts.status}, it is ${row?.status}`,
          )
      }
    }
    await Promise.all(Array.from({ length: random.pick([1, 2, 3, 4]) }, some))
  }
  let reversals = 0

  const transfer = async (client: Process, person: Person, type: TransferInput['type'] = 'transfer') => {
    const input = newInput(person, `k${person.keys++}`, type)
    remember(person, input)
    const answer = await ask(client, random.pick(deps.gateways()), input)
    if (type === 'hold' && answer.is === 'completed' && random.chance(0.5)) await capture(client)
  }

  const askOnceMore = async (client: Process, person: Person, other: boolean) => {
    if (person.inputs.length === 0) return transfer(client, person)
    const before = random.pick(person.inputs)
    const input = other
      ? newInput(person, before.idempotencyKey, random.pick(['transfer', 'hold']))
      : { ...before, waitMs: random.pick([0, 500, 10_000]) }
    if (other) remember(person, input)
    await ask(client, random.pick(deps.gateways()), input)
  }

  /** Two requests with one key at once: from two wallets, so perhaps in two partitions. */
  const race = async (client: Process, person: Person) => {
    const first = newInput(person, `k${person.keys++}`)
    const currency = first.currency === 'USD' ? 'EUR' : 'USD'
    const second = {
      ...newInput(person, first.idempotencyKey),
      currency,
      fromWalletId: person.closes ? walletOf(person, currency) : null,
    }
    remember(person, first)
    remember(person, second)
    await Promise.all([first, second].map(input => ask(client, random.pick(deps.gateways()), input)))
  }

  const lookUp = async (client: Process, person: Person) => {
    if (person.inputs.length === 0) return
    const { idempotencyKey: key } = random.pick(person.inputs)
    const gateway = random.pick(deps.gateways())
    await find(client, gateway, person.userId, key)
  }

  /** GET by key: the status of a decided transfer must be that of the books. */
  const find = (client: Process, gateway: SimulatedGateway, userId: string, key: string) =>
    call(client, gateway, `looks up ${key}`, async () => {
      const id = transferIdOf(userId, key)
      // The key may be a capture's, which finds the transfer that its hold became.
      const known = () =>
        readTransfer(database.tables, id) ??
        readTransfer(database.tables, readHoldEndedBy(database.tables, id) ?? id)
      const before = known()
      const view = await gateway.find.byIdempotencyKey(userId, key).catch(error => {
        if (before && problemOf(error)?.code === 'TRANSFER_NOT_FOUND')
          throw new BrokenPromise('X2', `the decided transfer ${id} was not found by its key`)
        throw error
      })
      const after = known()
      const { status } = view
      const says = status === 'reversed' || status === 'in_suspense' ? 'completed' : status
      const right = [before?.status ?? 'pending', after?.status ?? 'pending'].includes(says)
      if (!right)
        throw new BrokenPromise('X2', `the key of ${id} says ${says}, the books say ${after?.status}`)
      return says
    }).catch(error => {
      if (error instanceof BrokenPromise) throw error
      return 'nothing' as const
    })

  const act = async (client: Process, person: Person) => {
    const draw = random.float()
    if (draw < 0.03) return openWallet(client, person)
    if (draw < 0.11) return pay(client, person, 'deposit')
    if (draw < 0.16) return pay(client, person, 'withdrawal')
    if (draw < 0.24) return askOnceMore(client, person, false)
    if (draw < 0.3) return askOnceMore(client, person, true)
    if (draw < 0.34) return lookUp(client, person)
    if (draw < 0.39) return race(client, person)
    if (draw < 0.5) return transfer(client, person, 'hold')
    if (draw < 0.58) return capture(client)
    if (draw < 0.61) return voidHold(client)
    if (draw < 0.66) return reverse(client)
    if (draw < 0.69) return freeze(client, person)
    if (draw < 0.72) return closeAndReopen(client, person)
    if (draw < 0.75) return changeLimits(client, person)
    if (draw < 0.77) return commandOnceMore(client)
    if (draw < 0.81) return changeByRoute(client, person)
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

  /** In a healthy system every request has a final answer. */
  const verify = async (client: Process, { input, attempt }: { input: TransferInput; attempt: Attempt }) => {
    const gateway = random.pick(deps.gateways())
    const before = readTransfer(database.tables, attempt.transferId)
    const answer = await ask(client, gateway, { ...input, waitMs: 10_000 })
    const row = readTransfer(database.tables, attempt.transferId)
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
        // Each client first opens a wallet; several clients of one person do so at two gateways at once.
        void (async () => {
          busy++
          const person = people[index % people.length]!
          await openWallet(client, person)
          for (const currency of CURRENCIES) {
            if (random.chance(0.8)) await openWallet(client, person, currency)
            if (random.chance(0.6)) await pay(client, person, 'deposit', currency)
          }
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
      const toRepeat = commands.slice(-limit)
      for (let index = 0; index < 8; index++) {
        const client = world.createProcess(`checker${index + 1}`)
        busy++
        void (async () => {
          for (let next = chosen.pop(); next; next = chosen.pop()) await verify(client, next)
          for (let next = toRepeat.pop(); next; next = toRepeat.pop()) await send(client, next)
          busy--
        })().catch(world.fail)
      }
    },
  }
}

const mapText = (amounts: Record<string, bigint | null>): Record<string, string | null> =>
  Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, amount?.toString() ?? null]))
