import { createHash } from 'node:crypto'
import { payoutReturnIdOf, walletIdOf } from '@pennywire/contracts/ids.ts'
import { MAX_MINOR } from '@pennywire/contracts/money.ts'
import { transferRequested, walletOpenRequested } from '@pennywire/contracts/test-records.ts'
import type { IncomingRecord, RawRecord } from '@pennywire/kafka/record.ts'
import type { LimitDefaults, Limits } from '../packages/rules/src/limits.ts'
import { chargeFees } from '../services/ledger/src/commands/test-fees.ts'
import { publishAgain } from '../services/ledger/src/republish-journal.ts'
import type { JournalRow } from '../services/ledger/src/store.ts'
import { BrokenPromise, decodeNow } from './broken-promise.ts'
import { createClients } from './clients.ts'
import { createGroup } from './consumer-group.ts'
import { createLedgerDatabase } from './ledger-store.ts'
import { type Backup, type Changes, eventKey, type PartitionTableRow, partitionKey } from './ledger-tables.ts'
import { createLog, type LogFaults, type RefusedAs } from './log.ts'
import type { StatementFate } from './postgres.ts'
import {
  createSimulatedCodec,
  logger,
  type SimulatedGateway,
  type SimulatedLedger,
  type Site,
  signCommand,
  startBalanceKeeper,
  startCatchUp,
  startGateway,
  startLedger,
  startOrderKeeper,
} from './processes.ts'
import { createWatch } from './promises.ts'
import { createProvider } from './provider.ts'
import { createRandom, type Random } from './random.ts'
import { findOtherBooks } from './same-books.ts'
import { createWorld } from './world.ts'

const LEDGERS = 3
const GATEWAYS = 2
/** The simulated time after the last fault within which everything must be done. */
const QUIET_MS = 240_000
/** How often all stored data is checked. */
const FULL_CHECK_EVERY_STEPS = 10_000
const ASKED_AGAIN = 60

export type SimulationResult = {
  steps: number
  traceHash: string
  /** A hash over all events in order, without the values drawn by chance: a pure refactoring leaves it unchanged. */
  journalHash: string
  simulatedMs: number
  decisions: number
  faults: Record<string, number>
}

/** The failure of a run that broke a promise, with all that is needed to understand and to reproduce it. */
export class SimulationFailure extends Error {
  override name = 'SimulationFailure'
  readonly seed: number
  readonly step: number
  readonly promise: string
  readonly trace: string[]

  constructor(cause: unknown, run: { seed: number; step: number; trace: string[] }) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.seed = run.seed
    this.step = run.step
    this.trace = run.trace
    this.promise = cause instanceof BrokenPromise ? cause.promise : 'error'
  }
}

/** Draws the faults of this run: each seed has its own mixture, without some kinds of fault. */
const drawWeather = (random: Random) => {
  const some = (most: number) => (random.chance(0.6) ? random.float() * most : 0)
  const log: LogFaults = {
    sendLost: some(0.05),
    acknowledgementLost: some(0.05),
    acknowledgementLate: some(0.1),
    sendLate: some(0.03),
    sendTwice: some(0.05),
    publisherFull: some(0.02),
    mostBytes: random.chance(0.3) ? 1_500 : Number.POSITIVE_INFINITY,
    fetchAgain: some(0.1),
    fetchSkips: some(0.03),
  }
  return {
    partitions: 2 + random.int(4),
    people: 3 + random.int(6),
    clients: 8 + random.int(16),
    log,
    statementLost: some(0.004),
    commitAnswerLost: some(0.06),
    /** Milliseconds between two faults of these kinds, on average. */
    everyMs: 150 + random.int(1_500),
    kills: random.chance(0.7),
    pauses: random.chance(0.7),
    stops: random.chance(0.5),
    gatewayFaults: random.chance(0.5),
    databaseCrashes: random.chance(0.4),
    brokerOutages: random.chance(0.4),
    refusals: random.chance(0.5),
    slowness: random.chance(0.4),
    replays: random.chance(0.6),
    poison: random.chance(0.3),
    limits: drawLimits(random),
    leaps: random.chance(0.6),
    provider: { away: some(0.3) },
    paymentsGoBack: random.chance(0.4),
    expiresAfterMs: random.pick([2_000, 20_000, 300_000]),
    topicMadeAnew: random.chance(0.3),
    /** The milliseconds that writing one event takes while writes are slow; a transaction ends after 8 s. */
    rowMs: random.chance(0.3) ? 900 : 0,
    databaseGoesBack: random.chance(0.5),
    clockSteps: random.chance(0.4),
    deletions: random.chance(0.4),
    fees: random.chance(0.5),
    /** So low that system wallets are full now and then; no amount is larger. */
    systemBound: random.chance(0.5) ? 60_000n : MAX_MINOR,
  }
}

/** Limits from so tight that most requests are refused to so wide that none is. */
const drawLimits = (random: Random): LimitDefaults => {
  const daily = random.pick([2_000, 8_000, 40_000, 1_000_000_000])
  const limits = (factor: number): Limits => ({
    perTransaction: BigInt(Math.ceil(factor * daily * random.pick([0.5, 1]))),
    daily: BigInt(factor * daily),
    monthly: BigInt(factor * daily * random.pick([2, 5])),
  })
  const [unverified, verified] = [limits(1), limits(4)]
  return { unverified: () => unverified, verified: () => verified }
}

/** A record as a client with write access to the topic sends it again: byte for byte, including its MAC. */
const asSent = ({ topic, partition, key, value, headers }: IncomingRecord): RawRecord => ({
  topic,
  partition,
  key,
  value,
  headers: Object.fromEntries(headers.map(([name, text]) => [name, [text]])),
})

const hashOf = (journal: JournalRow[]): string => {
  const hash = createHash('sha256')
  for (const { partition, seq, key, headers, bytes } of journal) {
    const { traceparent: _, ...said } = headers
    hash.update(JSON.stringify([partition, String(seq), key, said]))
    const event = decodeNow(bytes)
    if (event?.type !== 'pennywire.ledger.WalletOpened') hash.update(bytes)
    else hash.update(JSON.stringify({ ...event.value, code: '' }))
  }
  return hash.digest('hex').slice(0, 12)
}

/**
 * One run: the services' own code in a world where time, order and every fault come from the seed, watched at every
 * step. Resolves if all promises hold to the end, rejects with a SimulationFailure at the step that breaks one.
 */
export const simulate = async (options: {
  seed: number
  steps: number
  /** How many lines of the trace a failure contains. */
  traceLines?: number
}): Promise<SimulationResult> => {
  const { seed, steps } = options
  // A new codec for each run: decoding a type for the first time takes an additional turn of the event loop, and a seed
  // must not depend on the seeds before it.
  const codec = await createSimulatedCodec()
  const random = createRandom(seed)
  const weather = drawWeather(random)
  chargeFees(weather.fees)
  const world = createWorld(random, options.traceLines)
  const faults: Record<string, number> = {}
  const count = (what: string) => {
    faults[what] = (faults[what] ?? 0) + 1
    world.note(`-- ${what}`)
  }

  const fate = (label: string): StatementFate => {
    if (label === 'commit' && random.chance(weather.commitAnswerLost)) {
      count('answer to commit lost')
      return 'answer-lost'
    }
    if (!random.chance(weather.statementLost)) return 'done'
    count('connection lost')
    return random.chance(0.5) ? 'never-arrives' : 'answer-lost'
  }
  const gatewayTables: Site['gatewayTables'] = { pending: new Map(), payments: new Map() }
  let rowMs = 0
  let clockBackMs = 0
  let catchingUp = false
  const watch = createWatch({
    tables: () => database.tables,
    records: (topic, partition) => log.records(topic, partition),
    partitions: weather.partitions,
    pending: () => gatewayTables.pending,
    limitDefaults: weather.limits,
    systemBound: weather.systemBound,
    fees: weather.fees,
  })
  const database = createLedgerDatabase({
    scheduler: world,
    fate,
    rowMs: () => rowMs,
    clockBackMs: () => clockBackMs,
    losesUnflushed: () => random.chance(0.5),
    // What catch-up commits is no decision; it is compared with the newest books.
    onCommit: (changes: Changes) => catchingUp || watch.committing(changes),
    onCommitted: (changes: Changes) => catchingUp || watch.committed(changes),
    onRaise: watch.raising,
    onDeadlock: names => {
      throw new BrokenPromise('P1', `transactions wait for each other: ${names.join(', ')}`)
    },
  })
  const log = createLog({
    world,
    partitions: weather.partitions,
    faults: weather.log,
    onAppend: watch.appended,
  })
  const group = createGroup(world, log)
  const provider = createProvider(world, weather.provider, () => gateways)
  const site: Site = {
    world,
    database,
    log,
    group,
    codec,
    gatewayTables,
    limitDefaults: weather.limits,
    systemBound: weather.systemBound,
    provider,
  }

  // --- the system ---

  let started = 0
  const ledgers: SimulatedLedger[] = []
  const gateways: SimulatedGateway[] = []
  const startOneLedger = () =>
    ledgers.push(
      startLedger(site, `ledger${++started}`, {
        maxBatch: 1 + random.int(20),
        maxPublished: 1 + random.int(20),
      }),
    )
  const startOneGateway = () =>
    gateways.push(
      startGateway(site, `gateway${++started}`, weather.expiresAfterMs, {
        outcome: watch.answeredCommand,
        reused: watch.answeredReused,
      }),
    )
  for (let i = 0; i < LEDGERS; i++) startOneLedger()
  for (let i = 0; i < GATEWAYS; i++) startOneGateway()
  const subscribers = [
    startBalanceKeeper(site),
    startOrderKeeper(site, message => world.fail(new BrokenPromise('O2', message))),
  ]
  const clients = createClients({ site, watch, people: weather.people, gateways: () => gateways })
  clients.start(weather.clients)

  // --- the faults ---

  let quiet = false
  const drop = <Item>(items: Item[], item: Item) => {
    const index = items.indexOf(item)
    if (index >= 0) items.splice(index, 1)
  }
  const later = (ms: number, what: string, run: () => void) => world.after(ms, null, what, run)
  const upLedgers = () => ledgers.filter(({ process }) => process.alive && !process.paused)

  const killLedger = () => {
    const ledger = random.pick(ledgers)
    if (!ledger) return
    count('ledger killed')
    ledger.kill()
    drop(ledgers, ledger)
    later(random.float() * 4_000, 'a ledger starts', startOneLedger)
  }
  const pauseLedger = () => {
    const ledger = random.pick(upLedgers())
    if (!ledger) return
    count('ledger paused')
    ledger.pause()
    if (random.chance(0.1)) return
    later(random.float() * random.pick([500, 6_000, 30_000]), `${ledger.process.name} wakes`, () => {
      if (ledger.process.alive && ledger.process.paused) ledger.wake()
    })
  }
  const stopLedger = () => {
    const ledger = random.pick(upLedgers())
    if (!ledger) return
    count('ledger stopped')
    drop(ledgers, ledger)
    void ledger.stop().catch(world.fail)
    later(random.float() * 2_000, 'a ledger starts', startOneLedger)
  }
  const troubleGateway = () => {
    const gateway = random.pick(gateways)
    if (random.chance(0.5)) {
      count('gateway killed')
      gateway.kill()
      drop(gateways, gateway)
      startOneGateway()
    } else if (!gateway.process.paused) {
      count('gateway paused')
      gateway.pause()
      later(random.float() * 15_000, `${gateway.process.name} wakes`, gateway.wake)
    }
  }
  const crashDatabase = () => {
    count('database killed')
    database.crash()
    later(random.float() * 3_000, 'the database starts', database.start)
  }
  const stopBroker = () => {
    count('broker away')
    log.setUp(false)
    later(random.float() * 4_000, 'the broker is back', () => log.setUp(true))
  }
  const REFUSED_AS: RefusedAs[] = ['passing', 'for good', 'too large']
  const refuseInOne = () => {
    count('one partition refuses')
    const topic = random.pick(['ledger.events', 'ledger.commands'] as const)
    const partition = random.int(weather.partitions)
    log.refuse(topic, partition, random.pick(REFUSED_AS))
    later(random.float() * 10_000, 'the partition takes records again', () =>
      log.refuse(topic, partition, undefined),
    )
  }
  const slowDown = () => {
    count('everything slow')
    world.setSlowness(1 + random.float() * 30)
    later(random.float() * 2_000, 'as quick as ever', () => world.setSlowness(1))
  }
  const stranger = log.publisherOf(world.createProcess('stranger'))
  const replay = () => {
    const records = log.records('ledger.commands', random.int(weather.partitions))
    const record = records.length > 0 ? random.pick(records) : undefined
    if (!record || watch.isSetAside(record)) return
    count('old command sent again')
    stranger.publish(asSent(record)).catch(() => {})
  }
  /** Can be decoded, but has a transfer type that is unknown to this version. */
  const unknownMovement = (transferId: string) =>
    site.codec.encode(
      'pennywire.ledger.TransferRequested',
      transferRequested({ transferId, type: 'teleport', userId: transferId, fromWalletId: transferId }),
    )
  let poisoned = 0
  let forged = 0
  const poison = () => {
    // So rarely that ten in a row are never set aside: that would halt the partition, as it should.
    if (poisoned++ >= 3) return
    count('record that cannot be read')
    const key = '00000000-0000-4000-8000-000000000001'
    const event: JournalRow | undefined = database.tables.journal.get(eventKey(0, 1))
    const value = random.pick([
      Buffer.from('no record of ours'),
      event?.bytes ?? Buffer.alloc(0),
      unknownMovement(`00000000-0000-4000-9000-${String(poisoned).padStart(12, '0')}`),
    ])
    stranger
      .publish(
        signCommand({
          topic: 'ledger.commands',
          partition: random.int(weather.partitions),
          key,
          value,
          headers: {},
        }),
      )
      .catch(() => {})
  }
  let refused = 0
  /** Can be decoded and decided, but not written. */
  const refuseInDatabase = () => {
    if (refused++ >= 3) return
    count('record that only the database refuses')
    const walletId = `00000000-0000-4000-c000-${String(refused).padStart(12, '0')}`
    const open = walletOpenRequested({ walletId, userId: walletId })
    stranger
      .publish(
        signCommand({
          topic: 'ledger.commands',
          partition: random.int(weather.partitions),
          key: walletId,
          value: site.codec.encode('pennywire.ledger.WalletOpenRequested', open),
          headers: {},
        }),
      )
      .catch(() => {})
  }
  /**
   * Commands in other users' names, from a client with write access to the topic: enough in a row to halt a partition.
   */
  const forge = () => {
    count('commands that no gateway signed')
    const wallets = [...database.tables.wallets.values()].filter(({ system }) => system === null)
    const partition = random.int(weather.partitions)
    for (let n = random.int(12); n > 0 && wallets.length > 0; n--) {
      const [victim, thief] = [random.pick(wallets), random.pick(wallets)]
      const id = `00000000-0000-4000-a000-${String(++forged).padStart(12, '0')}`
      const command = transferRequested({
        transferId: id,
        type: random.pick(['transfer', 'deposit', 'hold']),
        userId: victim.userId ?? id,
        fromWalletId: victim.id,
        toWalletId: thief.id,
        currency: victim.currency,
      })
      const value = site.codec.encode('pennywire.ledger.TransferRequested', command)
      const earlier = random.pick(log.records('ledger.commands', partition).slice(-1))
      // Without a MAC, or with one of another command.
      const headers = earlier && random.chance(0.5) ? asSent(earlier).headers : {}
      stranger
        .publish({ topic: 'ledger.commands', partition, key: victim.id, value, headers })
        .catch(() => {})
    }
  }
  /** All calendars leap: by some hours, or to just before a midnight or the end of a month. */
  const leap = () => {
    const now = new Date(world.wall())
    const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()]
    const boundary = random.pick([Date.UTC(year, month, day + 1), Date.UTC(year, month + 1)])
    const ms = random.chance(0.3) ? random.float() * 4e7 : boundary - now.getTime() - random.float() * 1_500
    if (ms <= 0) return
    count('the calendar leaps')
    world.leap(ms)
  }
  /** Steps back the database's clock alone, as a failover to a server with a late clock does, or NTP. */
  const stepBack = () => {
    if (clockBackMs > 0) return
    count("the database's clock steps back")
    clockBackMs = random.float() * random.pick([60_000, 3_600_000, 2 * 86_400_000, 40 * 86_400_000])
    later(random.float() * 20_000, "the database's clock is right", () => {
      clockBackMs = 0
    })
  }
  /** Deletes decided records from the topic, as retention would, at times including the record that is compared. */
  const deleteDecided = () => {
    const partition = random.int(weather.partitions)
    const decided = Number(database.tables.partitions.get(partitionKey(partition))?.nextOffset ?? 0n)
    if (decided === 0) return
    count('decided records deleted')
    log.deleteBefore('ledger.commands', partition, random.chance(0.5) ? decided : random.int(decided))
  }
  const kinds = [
    ...(weather.kills ? [killLedger, killLedger] : []),
    ...(weather.pauses ? [pauseLedger, pauseLedger] : []),
    ...(weather.stops ? [stopLedger] : []),
    ...(weather.gatewayFaults ? [troubleGateway] : []),
    ...(weather.databaseCrashes ? [crashDatabase] : []),
    ...(weather.brokerOutages ? [stopBroker] : []),
    ...(weather.refusals ? [refuseInOne] : []),
    ...(weather.slowness ? [slowDown] : []),
    ...(weather.replays ? [replay, replay, replay] : []),
    ...(weather.poison ? [poison, forge, refuseInDatabase] : []),
    ...(weather.clockSteps ? [stepBack] : []),
    ...(weather.deletions ? [deleteDecided] : []),
    ...(weather.leaps ? [leap] : []),
  ]
  const disturb = () => {
    if (quiet || kinds.length === 0) return
    random.pick(kinds)()
    later(random.float() * 2 * weather.everyMs, 'next fault', disturb)
  }
  later(weather.everyMs, 'first fault', disturb)

  /** Ends all faults, and brings everything up. */
  const calm = () => {
    quiet = true
    world.note('-- quiet from here on')
    for (const name of Object.keys(weather.log) as (keyof LogFaults)[])
      if (name !== 'mostBytes') weather.log[name] = 0
    weather.statementLost = 0
    weather.provider.away = 0
    clockBackMs = 0
    // The last writes are the hardest to recover, so their answers may still be lost.
    weather.commitAnswerLost = random.chance(0.5) ? 0.4 : 0
    world.setSlowness(1)
    database.start()
    log.setUp(true)
    for (const ledger of [...ledgers]) {
      if (!ledger.process.paused) continue
      if (random.chance(0.5)) ledger.wake()
      else {
        ledger.kill()
        drop(ledgers, ledger)
      }
    }
    for (const gateway of gateways) if (gateway.process.paused) gateway.wake()
    while (ledgers.length < 2) startOneLedger()
    clients.rest()
  }

  const untilDone = async (isDone: () => boolean, problem: () => string) => {
    const deadline = world.now() + QUIET_MS
    let rounds = 0
    await world.runUntil(() => world.now() > deadline || (++rounds % 20 === 0 && isDone()))
    if (!isDone()) throw new BrokenPromise('P1', problem())
  }
  const pass = async (ms: number) => {
    const until = world.now() + ms
    await world.runUntil(() => world.now() > until)
  }
  const haltedOf = () => ledgers.flatMap(({ halted }) => [...halted().values()])
  const unpaid = () => [...gatewayTables.payments.values()].filter(({ done }) => !done)
  const isQuiet = () =>
    clients.busy() === 0 && provider.busy() === 0 && watch.unfinished() === undefined && unpaid().length === 0
  const whatIsStuck = () =>
    `${QUIET_MS / 1_000} s after the last fault ${watch.unfinished() ?? `${clients.busy()} clients still wait, ${provider.busy()} payments are worked on, ${unpaid().length} not done: ${unpaid()[0]?.kind} ${unpaid()[0]?.id} ${unpaid()[0]?.status}`}; ${haltedOf().join('; ')}`

  /** X2: each payment that the provider has executed is booked, once, and nothing else. */
  const checkPayments = () => {
    const { holds, reversals } = database.tables
    for (const { id, kind, status } of provider.states()) {
      const payment = gatewayTables.payments.get(id)!
      const is = (right: boolean, what: string) => {
        if (!right) throw new BrokenPromise('X2', `the ${kind} ${id} is called ${status}, and ${what}`)
      }
      if (kind === 'deposit') {
        const booked = watch.bookingsOf(id, payment.fingerprint)
        is(booked === (status === 'succeeded' ? 1 : 0), `booked ${booked} times`)
        continue
      }
      const held = holds.get(id)
      const back = reversals.of(id).filter(({ transferId }) => transferId === payoutReturnIdOf(id))
      const paidOut = status === 'succeeded' || status === 'returned'
      is(held?.status === (paidOut ? 'captured' : 'voided'), `what is held is ${held?.status}`)
      is(back.length === (status === 'returned' ? 1 : 0), `came back ${back.length} times`)
    }
    for (const { id, type, status } of holds.values()) {
      if (type === 'withdrawal' && status === 'active')
        throw new BrokenPromise('X2', `the money of withdrawal ${id} is held for ever`)
    }
  }
  /** X2: a hold with a time limit ends after it, although every clock was off before. */
  const letHoldsExpire = async () => {
    const overdue = () =>
      [...database.tables.holds.values()].filter(
        ({ status, untilMs }) => status === 'active' && untilMs !== null && untilMs < world.wall() - 5_000,
      )
    world.leap(5 * 86_400_000)
    await pass(5_000)
    await untilDone(
      () => overdue().length === 0 && isQuiet(),
      () => `${overdue().length} holds stand after their time; ${whatIsStuck()}`,
    )
  }
  const checkSubscribers = async () => {
    const findWrong = () => {
      for (const subscriber of subscribers) {
        const wrong = subscriber.findWrong(database.tables)
        if (wrong !== undefined) return wrong
      }
      return undefined
    }
    await pass(5_000)
    const wrong = findWrong()
    if (wrong !== undefined) throw new BrokenPromise('O2', wrong)
  }

  /**
   * X1, O1: Postgres comes back with a backup, as after an asynchronous failover, under running ledgers or before they
   * start. All partitions halt, including those that are not behind: entries of their wallets are missing. If the run
   * of the server is unchanged (a machine reset to a snapshot), only those that are behind must halt. With the newest
   * state restored, all continue. Clients rest and gateways are stopped: reads and decisions meanwhile are not
   * promised.
   */
  const databaseGoesBack = async (older: Backup) => {
    let backup = older
    if (random.chance(0.6)) {
      // Behind by one commit in one partition, whose answer may have been lost.
      backup = database.copy()
      weather.commitAnswerLost = random.pick([0, 0.7])
      openSomebodysWallet(random.int(weather.partitions))
      await untilDone(isQuiet, whatIsStuck)
      weather.commitAnswerLost = 0
    }
    const nextSeqIn = (partition: number) =>
      backup.tables.partitions.get(partitionKey(partition))?.nextSeq ?? 1n
    const behind = [...database.tables.partitions.values()]
      .filter(({ partition, nextSeq }) => nextSeqIn(partition) < nextSeq)
      .map(({ partition }) => partition)
    if (behind.length === 0) return
    count('database goes back')
    for (const gateway of gateways.splice(0)) gateway.kill()
    const running = random.chance(0.5)
    if (!running) for (const ledger of ledgers.splice(0)) ledger.kill()
    const newest = database.copy()
    database.putBack(backup)
    const sameRun = running && random.chance(0.5)
    const concerned = sameRun
      ? behind
      : Array.from({ length: log.partitionsOf('ledger.commands') }, (_, partition) => partition).filter(
          partition => log.records('ledger.commands', partition).length > 0,
        )
    watch.freeze(concerned)
    await pass(random.float() * 2_000)
    database.start({ sameRun })
    // A command to decide, or to decide again, in each partition.
    for (const partition of concerned)
      log.appendNow(asSent(random.pick(log.records('ledger.commands', partition))))
    if (!running) for (let i = 0; i < 2; i++) startOneLedger()
    await pass(20_000)
    const halted = new Set(ledgers.flatMap(({ halted }) => [...halted().keys()]))
    for (const partition of concerned) {
      if (!halted.has(partition))
        throw new BrokenPromise('X1', `partition ${partition} of a database that went back is not halted`)
    }
    const caughtUp = random.chance(0.6)
    if (caughtUp && random.chance(0.3)) await catchUp(newest)
    for (const ledger of ledgers.splice(0)) ledger.kill()
    await pass(12_000)
    if (caughtUp) await catchUp(newest)
    else {
      database.putBack(newest)
      database.start()
    }
    watch.freeze([])
    for (let i = 0; i < 2; i++) startOneLedger()
    startOneGateway()
    await untilDone(isQuiet, whatIsStuck)
  }

  /**
   * X1, O1, M1: the books that went back are caught up by their events, beside halted ledgers or without any, killed in
   * the middle or twice at once, and become the newest ones.
   */
  const catchUp = async (newest: Backup) => {
    count('books caught up by their events')
    catchingUp = true
    const portion = 1 + random.int(40)
    if (random.chance(0.4)) {
      const killed = startCatchUp(site, `catch-up${++started}`, portion)
      killed.done.catch(() => {})
      await pass(random.float() * 300)
      killed.kill()
      await pass(6_000)
    }
    const running = Array.from({ length: 1 + random.int(2) }, () =>
      startCatchUp(site, `catch-up${++started}`, portion),
    )
    let ended = 0
    const failures: unknown[] = []
    for (const { done } of running)
      done
        .catch(error => failures.push(error))
        .finally(() => {
          ended++
        })
    await untilDone(
      () => ended === running.length,
      () => 'catch-up does not end',
    )
    if (failures.length === running.length) throw new BrokenPromise('O1', `catch-up fails: ${failures[0]}`)
    catchingUp = false
    const wrong = findOtherBooks(database.tables, newest.tables)
    if (wrong !== undefined) throw new BrokenPromise('O1', `books caught up by their events: ${wrong}`)
  }

  /** P1: writing events takes so long that a batch of ten never ends in time: batches shrink until they do. */
  const slowWrites = async () => {
    if (weather.rowMs === 0) return
    count('writes are slow')
    rowMs = weather.rowMs
    for (let n = 0; n < 15; n++)
      for (let partition = 0; partition < weather.partitions; partition++) openSomebodysWallet(partition)
    const { partitions } = database.tables
    const wanted = Array.from({ length: weather.partitions }, (_, partition) =>
      Math.min(
        log.records('ledger.commands', partition).length,
        Number(partitions.get(partitionKey(partition))?.nextOffset ?? 0n) + 5,
      ),
    )
    await untilDone(
      () =>
        wanted.every(
          (offset, partition) => Number(partitions.get(partitionKey(partition))?.nextOffset ?? 0n) >= offset,
        ),
      () => `with slow writes ${whatIsStuck()}`,
    )
    rowMs = 0
  }

  /**
   * P1, O2: one partition of ledger.events accepts nothing. The events of all other partitions are published and marked
   * meanwhile, and no event of this one is published out of turn.
   */
  const onePartitionRefuses = async () => {
    count('one partition refuses while all else is well')
    const refusing = random.int(weather.partitions)
    log.refuse('ledger.events', refusing, random.pick(REFUSED_AS))
    for (let round = 0; round < 3; round++) {
      for (let partition = 0; partition < weather.partitions; partition++)
        for (let n = 1 + random.int(4); n > 0; n--) openSomebodysWallet(partition)
      await pass(3_000)
    }
    await untilDone(
      () => watch.unfinished({ unpublished: refusing }) === undefined,
      () => `while partition ${refusing} refuses, ${watch.unfinished({ unpublished: refusing })}`,
    )
    log.refuse('ledger.events', refusing, undefined)
    await untilDone(isQuiet, whatIsStuck)
  }
  let newcomers = 0
  /** Appends a signed command that opens a wallet for a user without a client. */
  const openSomebodysWallet = (partition: number) => {
    const userId = `00000000-0000-4000-b000-${String(++newcomers).padStart(12, '0')}`
    const walletId = walletIdOf(userId, 'USD', 0)
    const open = walletOpenRequested({ walletId, userId })
    log.appendNow(
      signCommand({
        topic: 'ledger.commands',
        partition,
        key: walletId,
        value: site.codec.encode('pennywire.ledger.WalletOpenRequested', open),
        headers: {},
      }),
    )
  }

  /**
   * X1: the gateways' tables are set back to the moment when withdrawals had just been requested, and the holds of
   * these withdrawals have ended since: nothing is paid out for them.
   */
  const paymentsGoBack = async () => {
    for (const payment of gatewayTables.payments.values()) {
      if (payment.kind !== 'withdrawal' || database.tables.holds.get(payment.id)?.status !== 'voided')
        continue
      count('payment goes back to its beginning')
      Object.assign(payment, {
        ...{ status: 'created', done: false, orderAttempts: 0, orderedAt: null, providerReference: null },
        ...{ failureCode: null, failureReason: null },
      })
    }
    await untilDone(isQuiet, whatIsStuck)
  }

  /**
   * X2, P1: commands are deleted before they are decided, under running ledgers or before they start. Their partition
   * halts and skips nothing; the others continue. Once adopted it continues, and lost commands are decided once sent
   * again.
   */
  const deleteUndecided = async () => {
    count('undecided records deleted')
    const partition = random.int(weather.partitions)
    const running = random.chance(0.5)
    if (!running) for (const ledger of ledgers.splice(0)) ledger.kill()
    log.setUp(false)
    const from = log.records('ledger.commands', partition).length
    for (let n = 1 + random.int(5); n > 0; n--) openSomebodysWallet(partition)
    const lost = log.records('ledger.commands', partition).slice(from)
    log.deleteBefore('ledger.commands', partition, from + lost.length)
    log.setUp(true)
    watch.freeze([partition], from)
    for (let each = 0; each < weather.partitions; each++) openSomebodysWallet(each)
    if (!running) for (let i = 0; i < 2; i++) startOneLedger()
    await untilDone(
      () => watch.unfinished({ undecided: partition }) === undefined,
      () => `while partition ${partition} is halted, ${watch.unfinished({ undecided: partition })}`,
    )
    await pass(20_000)
    if (!ledgers.some(({ halted }) => halted().has(partition)))
      throw new BrokenPromise('X2', `partition ${partition} has lost commands and is not halted`)
    for (const ledger of ledgers.splice(0)) ledger.kill()
    await pass(12_000)
    adopt(database.tables.partitions.get(partitionKey(partition))!)
    watch.freeze([])
    for (const record of lost) log.appendNow(asSent(record))
    for (let i = 0; i < 2; i++) startOneLedger()
    await untilDone(isQuiet, whatIsStuck)
  }

  /** Does the same as adoptTopic in sql/positions.ts. */
  const adopt = (row: PartitionTableRow) =>
    database.put('partitions', {
      ...row,
      epoch: row.epoch + 1,
      nextOffset: BigInt(log.firstOf('ledger.commands', row.partition)),
      lastDigest: null,
      macsFrom: 0n,
    })

  /** Kafka's data is lost and the topic is recreated: the ledger halts until it is made to adopt the topic. */
  const makeTopicAnew = async () => {
    count('topic made anew')
    for (const ledger of ledgers.splice(0)) ledger.kill()
    const remembered = [...database.tables.partitions.values()].filter(({ nextOffset }) => nextOffset > 0n)
    const old = remembered.map(({ partition }) => [...log.records('ledger.commands', partition)])
    log.makeAnew('ledger.commands')
    for (const [index, { partition, nextOffset }] of remembered.entries()) {
      // The same commands in another order, somewhat fewer or more than were decided.
      const records = old[index]!.toReversed()
      const length = Math.max(0, Number(nextOffset) - 2 + random.int(6))
      for (let offset = 0; offset < length; offset++) {
        log.appendNow({ ...asSent(records[offset % records.length]!), partition })
      }
    }
    // By chance the record before the position may be the same: then the change cannot be detected.
    const strange = remembered.map(({ partition }) => partition).filter(watch.isMismatched)
    watch.freeze(strange)
    startOneLedger()
    startOneLedger()
    await pass(20_000)
    const halted = new Set(ledgers.flatMap(({ halted }) => [...halted().keys()]))
    for (const partition of strange) {
      if (!halted.has(partition))
        throw new BrokenPromise('X1', `partition ${partition} of a strange topic is not halted`)
    }
    for (const ledger of ledgers.splice(0)) ledger.kill()
    await pass(12_000)
    for (const row of database.tables.partitions.values()) adopt(row)
    watch.freeze([])
    startOneLedger()
    await untilDone(isQuiet, whatIsStuck)
  }

  /**
   * O1, O2: ledger.events is lost, wholly or its end. The partitions that lost published events halt, and nothing is
   * published in front of what is missing. After the journal is published again, from where the topic ends, all continue.
   */
  const loseEvents = async () => {
    count('events lost and published again')
    for (const ledger of ledgers.splice(0)) ledger.kill()
    await pass(12_000)
    const partitions = Array.from({ length: weather.partitions }, (_, partition) => partition)
    const old = partitions.map(partition => [...log.records('ledger.events', partition)])
    log.makeAnew('ledger.events')
    watch.forgetEvents()
    const kept = random.chance(0.5) ? 0 : random.float()
    for (const records of old)
      for (const record of records.slice(0, Math.floor(kept * records.length))) log.appendNow(asSent(record))
    const markOf = (partition: number) =>
      Number(database.tables.published.get(partitionKey(partition))?.publishedThrough ?? 0n)
    const lost = partitions.filter(partition => watch.eventsThrough(partition) < markOf(partition))
    for (const partition of partitions) openSomebodysWallet(partition)
    for (let i = 0; i < 2; i++) startOneLedger()
    await pass(20_000)
    const halted = new Set(ledgers.flatMap(({ halted }) => [...halted().keys()]))
    for (const partition of lost)
      if (!halted.has(partition))
        throw new BrokenPromise('O1', `partition ${partition} lost published events and is not halted`)
    for (const ledger of ledgers.splice(0)) ledger.kill()
    await pass(12_000)

    const process = world.createProcess('republish')
    const store = database.connect(process)
    const ends = partitions.map(partition => database.tables.journal.sizeOf(partitionKey(partition)))
    let published: Map<number, bigint> | undefined
    void publishAgain(
      {
        ...{ store, publisher: log.publisherOf(process, 7), logger, clock: world.clockOf(process) },
        signal: new AbortController().signal,
        progressOf: () => ({ add: () => {}, end: () => {} }),
      },
      new Map(partitions.map(partition => [partition, BigInt(watch.eventsThrough(partition))])),
      new Map(partitions.map(partition => [partition, BigInt(ends[partition]!)])),
      async () => {},
    )
      .then(async reached => {
        await store.raisePublished(reached)
        published = reached
      })
      .catch((error: Error) => world.fail(error))
    await untilDone(
      () => published !== undefined,
      () => 'the journal is not published again',
    )
    world.kill(process)
    subscribers.splice(
      ...[0, subscribers.length],
      startBalanceKeeper(site),
      startOrderKeeper(site, message => world.fail(new BrokenPromise('O2', message))),
    )
    for (let i = 0; i < 2; i++) startOneLedger()
    await untilDone(isQuiet, whatIsStuck)
  }

  try {
    let checkedAt = 0
    let backup: Backup | undefined
    const backupAt = weather.databaseGoesBack ? steps - random.int(random.pick([50, steps])) : steps
    await world.runUntil(() => {
      if (world.steps() >= backupAt && database.tables.partitions.size >= weather.partitions)
        backup ??= database.copy()
      if (world.steps() - checkedAt >= FULL_CHECK_EVERY_STEPS) {
        checkedAt = world.steps()
        watch.checkAll()
      }
      return world.steps() >= steps
    })
    calm()
    await slowWrites()
    await untilDone(isQuiet, whatIsStuck)
    weather.commitAnswerLost = 0
    // An order may reach the provider after its deposit was given up. If the provider never calls back, only
    // reconciliation finds it.
    provider.sayAgain(({ id, kind, status }) => {
      const { failureCode } = gatewayTables.payments.get(id)!
      const late = kind === 'deposit' && status === 'succeeded' && failureCode === 'REQUEST_EXPIRED'
      if (late) count('deposit ordered after it was given up')
      return late
    })
    await untilDone(isQuiet, whatIsStuck)
    const halted = haltedOf()
    if (halted.length > 0) throw new BrokenPromise('P1', `halted without a reason: ${halted[0]}`)
    // The last ledger that died is out of the group by then, and its partitions have another owner.
    await pass(12_000)
    await letHoldsExpire()
    clients.askAgain(ASKED_AGAIN)
    await untilDone(isQuiet, whatIsStuck)
    // A crash while the system is idle: writes that were not flushed yet are repaired although no new command arrives.
    database.crash()
    await pass(500)
    database.start()
    await untilDone(isQuiet, whatIsStuck)
    if (weather.paymentsGoBack) await paymentsGoBack()
    watch.checkAll()
    checkPayments()
    await checkSubscribers()
    if (weather.refusals) {
      await onePartitionRefuses()
      await checkSubscribers()
    }
    if (weather.deletions) {
      await deleteUndecided()
      watch.checkAll()
      await checkSubscribers()
    }
    if (backup) {
      await databaseGoesBack(backup)
      watch.checkAll()
      checkPayments()
      await checkSubscribers()
    }
    if (weather.topicMadeAnew) {
      await makeTopicAnew()
      watch.checkAll()
      checkPayments()
      await checkSubscribers()
    }
    await loseEvents()
    watch.checkAll()
    await checkSubscribers()
  } catch (error) {
    throw new SimulationFailure(error, { seed, step: world.steps(), trace: world.lastSteps() })
  }
  return {
    steps: world.steps(),
    traceHash: world.traceHash(),
    journalHash: hashOf([...database.tables.journal.values()]),
    simulatedMs: world.now(),
    decisions: watch.decisions(),
    faults,
  }
}
