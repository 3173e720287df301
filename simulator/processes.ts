import { commandIdOf } from '@pennywire/contracts/ids.ts'
import { avroType, RECORD_NAMES, type Records, type ReversalRequested } from '@pennywire/contracts/schemas.ts'
import { type Codec, createCodec } from '@pennywire/kafka/codec.ts'
import { createCommandSigner, createCommandVerifier, signCommands } from '@pennywire/kafka/command-mac.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { LONG_DEADLINE_MS } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { LimitDefaults } from '../packages/rules/src/limits.ts'
import { createEndHold } from '../services/gateway/src/holds/end-hold.ts'
import { startHoldTimer } from '../services/gateway/src/holds/expire-holds.ts'
import type { PersonKeys } from '../services/gateway/src/identity/persons/person-keys.ts'
import { type Ask, createAskLedger } from '../services/gateway/src/ledger/ask-ledger.ts'
import { createOutcomeWaiters, type Outcome } from '../services/gateway/src/ledger/await-outcome.ts'
import { commandRecord } from '../services/gateway/src/ledger/command-record.ts'
import { createPublishCommand } from '../services/gateway/src/ledger/publish-command.ts'
import type { TransferLookupKeys } from '../services/gateway/src/ledger/sql/ledger-reads.ts'
import { createChangeLimits } from '../services/gateway/src/limits/change-limits.ts'
import { advancePayment } from '../services/gateway/src/payments/payment.ts'
import {
  createHandleCallback,
  createRequestDeposit,
} from '../services/gateway/src/payments/request-deposit.ts'
import { createRequestWithdrawal } from '../services/gateway/src/payments/request-withdrawal.ts'
import { startPaymentWorker } from '../services/gateway/src/payments/settle-payments.ts'
import type { NewPayment, Payment, Settlement } from '../services/gateway/src/payments/sql/payments.ts'
import { ProblemError } from '../services/gateway/src/problems/problem.ts'
import {
  createRequestReversal,
  type ReversalInput,
} from '../services/gateway/src/reversals/request-reversal.ts'
import { createFindTransfer } from '../services/gateway/src/transfers/find-transfer.ts'
import { createRequestTransfer } from '../services/gateway/src/transfers/request-transfer.ts'
import type { NewPendingRequest } from '../services/gateway/src/transfers/sql/pending-requests.ts'
import { viewHold, viewTransfer } from '../services/gateway/src/transfers/transfer-view.ts'
import { createChangeWallet } from '../services/gateway/src/wallets/change-wallet.ts'
import { createOpenWallet } from '../services/gateway/src/wallets/open-wallet.ts'
import { type CaughtUp, catchUpBooks } from '../services/ledger/src/catch-up-books.ts'
import type { Tail } from '../services/ledger/src/check-events.ts'
import { createCommandHandler } from '../services/ledger/src/consume-commands.ts'
import { startRelay } from '../services/ledger/src/publish-journal.ts'
import { BrokenPromise, decodeNow } from './broken-promise.ts'
import type { Group } from './consumer-group.ts'
import {
  type GatewayTables,
  lookUpTransfers,
  markPaymentDone,
  markPaymentOrdering,
  markPaymentPending,
  openWalletOf,
  readDueHolds,
  readHoldEndedBy,
  readLedgerStatuses,
  readOutcome,
  readPending,
  readTransfer,
  readWallets,
  settlePayment,
  writePayment,
  writePending,
} from './gateway-store.ts'
import type { LedgerDatabase } from './ledger-store.ts'
import type { Tables } from './ledger-tables.ts'
import type { Log } from './log.ts'
import type { SimulatedProvider } from './provider.ts'
import type { Process, World } from './world.ts'

/** The real bytes and schemas; only the registry is in memory. */
export const createSimulatedCodec = (): Promise<Codec> =>
  createCodec({
    idOf: async name => RECORD_NAMES.indexOf(name) + 1,
    schemaOf: async id => avroType(RECORD_NAMES[id - 1]!),
  })

const MAC_KEYS = [{ kid: 'simulated', key: Buffer.alloc(32, 1) }]
export const signCommand = createCommandSigner(MAC_KEYS)
export const verifyCommand = createCommandVerifier(MAC_KEYS)

const silent = () => {}
export const logger = {
  error: silent,
  warn: silent,
  info: silent,
  debug: silent,
  fatal: silent,
} as unknown as Logger

export type Site = {
  world: World
  database: LedgerDatabase
  log: Log
  group: Group
  codec: Codec
  gatewayTables: GatewayTables
  limitDefaults: LimitDefaults
  /** The largest balance of a system wallet. */
  systemBound: bigint
  provider: SimulatedProvider
}

// --- the ledger ---

export type SimulatedLedger = {
  process: Process
  halted: () => Map<number, string>
  /** Stops as on SIGTERM. */
  stop: () => Promise<void>
  kill: () => void
  pause: () => void
  wake: () => void
}

const tailOf = (log: Log, partition: number, count: number): Tail => {
  const records = log.records('ledger.events', partition)
  return {
    events: records
      .slice(-count)
      .map(record => ({ seq: BigInt(headerOf(record, 'seq')!), value: record.value! })),
    whole: records.length <= count,
  }
}

/** One ledger: the service's own handler and relay, with a simulated store, broker and consumer. */
export const startLedger = (
  site: Site,
  name: string,
  { maxBatch, maxPublished }: { maxBatch: number; maxPublished: number },
): SimulatedLedger => {
  const { world, database, log, group, codec, limitDefaults, systemBound } = site
  const process = world.createProcess(name)
  const publisher = log.publisherOf(process, maxPublished)
  const store = database.connect(process)
  const relay = startRelay({ store, publisher, logger, clock: world.clockOf(process) })
  const handler = createCommandHandler({
    ...{ logger, store, codec, verifyCommand, limitDefaults, systemBound, publisher, relay },
    readTails: async (partitions, count) => {
      // The topics here have fewer partitions than the real ones.
      await log.ends(process, 'ledger.events')
      const known = partitions.filter(partition => partition < log.partitionsOf('ledger.events'))
      return new Map(known.map(partition => [partition, tailOf(log, partition, count)]))
    },
  })
  const member = group.join(process, { ...handler, maxBatch })
  return {
    process,
    halted: member.halted,
    stop: async () => {
      await member.stop()
      await relay.stop()
      await publisher.stop()
      world.kill(process)
    },
    kill: () => {
      group.silence(process)
      database.disconnect(process)
      world.kill(process)
    },
    pause: () => {
      world.pause(process)
      group.silence(process)
    },
    wake: () => {
      world.wake(process)
      group.awake(process)
    },
  }
}

// --- the command ledger:catch-up ---

export type SimulatedCatchUp = {
  /** Rejects if the database fails it; a killed one never ends. */
  done: Promise<CaughtUp>
  kill: () => void
}

/** As services/ledger/src/catch-up.ts sets it: all that was missed is one transaction. */
const CATCH_UP_TIMEOUT_MS = 2 * LONG_DEADLINE_MS

/** The command's own code, on a connection of its own; it reads the topics in portions. */
export const startCatchUp = (site: Site, name: string, portion: number): SimulatedCatchUp => {
  const { world, database, log, codec } = site
  const process = world.createProcess(name)
  const partitions = Array.from({ length: log.partitionsOf('ledger.events') }, (_, partition) => partition)
  const done = catchUpBooks({
    store: database.connect(process, CATCH_UP_TIMEOUT_MS),
    codec,
    readTails: async (asked, count) => {
      await log.ends(process, 'ledger.events')
      const known = asked.filter(partition => partitions.includes(partition))
      return new Map(known.map(partition => [partition, tailOf(log, partition, count)]))
    },
    readEvents: async (from, whole, handle) => {
      // The partitions in turn, as portions come from several brokers.
      const lanes = partitions.map(partition => {
        const first = from.get(partition) ?? 1n
        const records = log.records('ledger.events', partition)
        const start = whole ? 0 : records.findIndex(record => BigInt(headerOf(record, 'seq')!) >= first)
        return start < 0 ? [] : records.slice(Math.max(0, start - 2))
      })
      for (let at = 0; lanes.some(lane => lane.length > at); at += portion)
        for (const lane of lanes.toReversed()) {
          await log.ends(process, 'ledger.events')
          const records = lane.slice(at, at + portion)
          if (records.length > 0) await handle(records)
        }
    },
    readCommands: async at => {
      await log.ends(process, 'ledger.commands')
      return [...at].flatMap(([partition, offset]) =>
        Number(offset) < log.firstOf('ledger.commands', partition)
          ? []
          : (log.records('ledger.commands', partition)[Number(offset)] ?? []),
      )
    },
  })
  return {
    done,
    kill: () => {
      database.disconnect(process)
      world.kill(process)
    },
  }
}

// --- the gateway ---

/** Texts are not secret here: the ciphertext is the text. */
const personKeys = {
  create: async () => {},
  encryptFor: async (_userId, text) => Buffer.from(text),
  decryptFor: async (_userId, cipher) => cipher.toString(),
  decryptAll: async sealed => sealed.map(({ cipher }) => cipher.toString()),
  forget: () => {},
} satisfies PersonKeys

const TRACE = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01'

/** A gateway's clock may be off by this much while the gateway is ready. */
const MAX_SKEW_MS = 4_000

const HOLDS_LOOKED_AT_EVERY_MS = 3_000
const PAYMENTS_LOOKED_AT_EVERY_MS = 1_000
const FIRST_LOOK_MS = 2_000
const LAST_LOOK_MS = 20_000
const PAYMENT_EXPIRES_AFTER_MS = 20_000

/** A client without an answer by then considers its request lost. */
const GIVE_UP_MS = 12_000

/** A request got no answer. */
export class Lost extends Error {}

/** Notified of each answer of the ledger to a gateway. */
export type AnswerWatch = {
  outcome: (commandId: string, fingerprint: Buffer, outcome: Outcome, who: string) => void
  reused: (commandId: string, fingerprint: Buffer, who: string) => void
}

export type SimulatedGateway = ReturnType<typeof startGateway>

/** One gateway: the service's own code for transfers, callbacks and look-ups; only its edges are simulated. */
export const startGateway = (site: Site, name: string, expiresAfterMs: number, answers: AnswerWatch) => {
  const { world, database, log, codec, gatewayTables } = site
  const callers = new Set<() => void>()
  const process = world.createProcess(name, (world.random.float() * 2 - 1) * MAX_SKEW_MS)
  const clock = world.clockOf(process)
  const read = <Result>(label: string, statement: (tables: Tables) => Result) =>
    database.run(process, label, statement)
  const outcomes = createOutcomeWaiters(codec, clock)
  const publisher = signCommands(log.publisherOf(process), signCommand)
  const names = { namesOf: async () => new Map(), forget: () => {} }
  const readDecided = (id: string) => read('gateway reads a transfer', tables => readTransfer(tables, id))

  // Reads from the end on, like every gateway: no request here waits for an earlier event.
  let waking: Promise<void> = Promise.resolve()
  for (let partition = 0; partition < log.partitionsOf('ledger.events'); partition++) {
    const offset = BigInt(log.records('ledger.events', partition).length)
    const onRecords = (records: IncomingRecord[]) => {
      waking = waking.then(async () => {
        for (const record of records) await outcomes.wake(record)
      })
    }
    log.read(process, { topic: 'ledger.events', partition, offset }, { onRecords })
  }

  const transferDeps = {
    logger,
    codec,
    admit: () => {},
    publisher,
    outcomes,
    names,
    personKeys,
    lookUp: (question: TransferLookupKeys) =>
      read('gateway looks up', tables => lookUpTransfers(tables, question)),
    readDecided,
    // The clients here request payments without the routes, so only the ledger checks the keys.
    claimKey: async () => 'own' as const,
    writePending: (request: NewPendingRequest) =>
      read('gateway writes pending', () => writePending(gatewayTables, [request])),
    verifyPin: async () => {},
    verifyStepUp: async () => ({ at: new Date(clock.now()) }),
    freshPinAbove: () => '1000000',
    expiresAfterMs,
    clock,
  }
  const find = createFindTransfer({
    names,
    personKeys,
    readDecidedBetween: async first => {
      const facts = await readDecided(first)
      return facts ? [facts] : []
    },
    readHoldEndedBy: commandId =>
      read('gateway reads what a command ended', tables => readHoldEndedBy(tables, commandId)),
    readPendingBetween: first =>
      read('gateway reads pending', () => readPending(gatewayTables, first, world.wall())),
    // Payments under the same key are not looked up, because the clients here query transfers only.
    readPaymentsBetween: async () => [],
    readMethods: async () => [],
    readWallets: (ids: string[]) => read('gateway reads wallets', tables => readWallets(tables, ids)),
  })
  const publishCommand = createPublishCommand({ publisher, clock, logger })
  const paymentDeps = {
    logger,
    codec,
    publishCommand,
    personKeys,
    provider: site.provider.portOf(process),
    readPayment: (id: string) =>
      read('gateway reads a payment', () => {
        const payment = gatewayTables.payments.get(id)
        return payment && { ...payment }
      }),
    depositExpiresAfterMs: Number.POSITIVE_INFINITY,
    readLedgerStatuses: (ids: string[]) =>
      read('gateway reads how payments stand', tables => readLedgerStatuses(tables, ids)),
    isCommand: (id: string) => read('gateway looks for a command', tables => tables.commands.has(id)),
    markOrdering: (id: string, attempts: number) =>
      read('gateway marks an order', () => markPaymentOrdering(gatewayTables, id, attempts, world.wall())),
    markPending: (id: string, reference: string | null) =>
      read('gateway marks a payment', () => markPaymentPending(gatewayTables, id, reference)),
    settle: (id: string, settlement: Settlement) =>
      read('gateway settles a payment', () => settlePayment(gatewayTables, id, settlement)),
    markDone: (id: string, status: Payment['status']) =>
      read('gateway is done with a payment', () => markPaymentDone(gatewayTables, id, status)),
    clock,
  }
  const handleCallback = createHandleCallback(paymentDeps)
  const askLedger = createAskLedger({
    logger,
    codec,
    admit: () => {},
    publishCommand,
    outcomes,
    readOutcome: commandId => read('gateway reads an outcome', tables => readOutcome(tables, commandId)),
    clock,
  })
  /** Every answer of the ledger is checked against the books, in every use case. */
  const ask: Ask = async (type, key, command, traceparent) => {
    const { commandId, fingerprint } = command as { commandId: string; fingerprint: Buffer }
    const outcome = await askLedger(type, key, command, traceparent).catch(error => {
      if (problemOf(error)?.code === 'IDEMPOTENCY_KEY_REUSED') answers.reused(commandId, fingerprint, name)
      throw error
    })
    answers.outcome(commandId, fingerprint, outcome, name)
    return outcome
  }
  startHoldTimer({
    readDue: (after, limit) =>
      read('gateway reads due holds', tables => readDueHolds(tables, world.wall(), after, limit)),
    publishCommand,
    codec,
    clock,
    logger,
    everyMs: HOLDS_LOOKED_AT_EVERY_MS,
  })

  const paying = {
    ...transferDeps,
    ...paymentDeps,
    expiresAfterMs: PAYMENT_EXPIRES_AFTER_MS,
    readWallet: async (userId: string, walletId: string) =>
      (await read('gateway reads a wallet', tables => readWallets(tables, [walletId]))).find(
        wallet => wallet.userId === userId,
      ),
    isPending: (id: string) =>
      read('gateway reads pending', () => readPending(gatewayTables, id, world.wall()).length > 0),
  }
  const write = (payment: NewPayment) =>
    read('gateway writes a payment', () => writePayment(gatewayTables, payment))
  // The wait before the next look at a payment doubles each time, as claimPayments does it for all gateways together.
  const looks = new Map<string, { atMs: number; afterMs: number }>()
  startPaymentWorker({
    logger,
    clock,
    pollMs: PAYMENTS_LOOKED_AT_EVERY_MS,
    advancePayment: payment => advancePayment(paymentDeps, payment),
    claim: limit =>
      read('gateway claims payments', () => {
        const due: Payment[] = []
        for (const payment of gatewayTables.payments.values()) {
          if (payment.done || due.length === limit) continue
          const look = looks.get(payment.id) ?? { atMs: 0, afterMs: FIRST_LOOK_MS }
          if (look.atMs > 0 && world.now() >= look.atMs) due.push({ ...payment })
          else if (look.atMs > 0) continue
          const afterMs = look.atMs > 0 ? Math.min(2 * look.afterMs, LAST_LOOK_MS) : look.afterMs
          looks.set(payment.id, { atMs: world.now() + afterMs, afterMs })
        }
        return due
      }),
  })

  let opened = 0

  return {
    process,
    /** Sends a request to this gateway; the answer may never arrive. */
    call: <Result>(client: Process, what: string, work: () => Promise<Result>): Promise<Result> =>
      new Promise((resolve, reject) => {
        const giveUp = world.after(GIVE_UP_MS, client, `gives up on ${what}`, () => reject(new Lost(what)))
        const broken = () => told('nothing more', () => reject(new Lost(what)))
        const told = (how: string, then: () => void) => {
          callers.delete(broken)
          world.after(world.latency(), client, `hears ${how} of ${what}`, () => {
            giveUp()
            then()
          })
        }
        if (!process.alive) return void told('no answer', () => reject(new Lost(what)))
        callers.add(broken)
        world.after(world.latency(), process, what, () => {
          work().then(
            result => told('the answer', () => resolve(result)),
            error => {
              if (error instanceof BrokenPromise) world.fail(error)
              told('an error', () => reject(error))
            },
          )
        })
      }),
    now: clock.now,
    requestTransfer: createRequestTransfer({ ...transferDeps, view: viewTransfer }),
    requestHold: createRequestTransfer({ ...transferDeps, view: viewHold }),
    find,
    /** Sends a command unchanged, to any partition. */
    ask: <Name extends Parameters<typeof ask>[0]>(name: Name, key: string, command: Records[Name]) =>
      ask(name, key, command as never, TRACE),
    changeWallet: createChangeWallet({
      ask,
      personKeys,
      readWallet: async id => (await read('gateway reads a wallet', tables => readWallets(tables, [id])))[0],
      clock,
    }),
    readWallet: paying.readWallet,
    endHold: createEndHold({ ask, names, personKeys, readDecided, claimKey: transferDeps.claimKey, clock }),
    changeLimits: createChangeLimits({ ask, clock }),
    applyProviderState: (body: string) => handleCallback(undefined, body, TRACE),
    requestDeposit: createRequestDeposit({ ...paying, writeDeposit: write }),
    requestWithdrawal: createRequestWithdrawal({ ...paying, writePayment: write }),
    /** `elsewhere`: the key of another partition. */
    requestReversal: (input: ReversalInput, elsewhere: string | undefined) =>
      createRequestReversal({
        ...transferDeps,
        publishCommand: record => publishCommand({ ...record, key: elsewhere ?? record.key }),
      })(input),
    /**
     * A reversal that the routes would refuse. Resolves with the ledger's decision, or undefined if it comes too late.
     */
    reverse: async (request: ReversalRequested, elsewhere: string | undefined) => {
      const { transferId, fromWalletId, toWalletId } = request
      const key = elsewhere ?? fromWalletId ?? toWalletId ?? request.originalId
      const waiter = outcomes.wait(transferId, 8_000, request.fingerprint)
      try {
        const decided = await readDecided(transferId)
        if (decided) return decided
        await publishCommand(commandRecord(codec, 'pennywire.ledger.ReversalRequested', key, request, TRACE))
        await waiter.outcome
        return await readDecided(transferId)
      } finally {
        waiter.leave()
      }
    },
    /** `ahead`: added to the count of closed wallets, as if misread; then a wallet is requested even if one is open. */
    openWallet: (userId: string, currency: string, ahead = 0) =>
      createOpenWallet({
        ...{ codec, admit: () => {}, publishCommand, outcomes, clock, readWalletOf: paying.readWallet },
        newCommandId: () => commandIdOf(process.name, `open ${++opened}`),
        readWalletCounts: (userId, currency) =>
          read('gateway counts wallets', tables => {
            const own = [...tables.wallets.values()].filter(
              wallet => wallet.userId === userId && wallet.currency === currency,
            )
            const closed = own.filter(({ status }) => status === 'closed').length
            const openId = openWalletOf(tables, userId, currency)?.id ?? null
            return { closed: closed + ahead, openId: ahead === 0 ? openId : null }
          }),
      })({ userId, currency, traceparent: TRACE }),
    kill: () => {
      world.kill(process)
      for (const tell of [...callers]) tell()
    },
    pause: () => world.pause(process),
    wake: () => world.wake(process),
  }
}

/** The problem that the gateway answers with; any other error is a 500 or 503 without details. */
export const problemOf = (error: unknown): ProblemError | undefined =>
  error instanceof ProblemError ? error : undefined

// --- the subscribers ---

export type Subscriber = {
  /** Describes what is wrong in this subscriber's state, once it has read all events. */
  findWrong: (tables: Tables) => string | undefined
}

const readAll = (site: Site, name: string, onRecord: (record: IncomingRecord) => void) => {
  const process = site.world.createProcess(name)
  for (let partition = 0; partition < site.log.partitionsOf('ledger.events'); partition++) {
    site.log.read(
      process,
      { topic: 'ledger.events', partition, offset: 0n },
      { onRecords: records => records.forEach(onRecord) },
    )
  }
}

/** The entries that an event contains, if any. */
const entriesOf = (record: IncomingRecord) => {
  const event = decodeNow(record.value)
  return event?.type === 'pennywire.ledger.TransferCompleted' ||
    event?.type === 'pennywire.ledger.TransferReversed'
    ? event.value.entries
    : []
}

/** Keeps each wallet's balance by the one rule of the design: the greater sequence wins. */
export const startBalanceKeeper = (site: Site): Subscriber => {
  const balances = new Map<string, { sequence: number; balance: bigint }>()
  readAll(site, 'balances', record => {
    for (const { walletId, sequence, balanceAfterMinor } of entriesOf(record)) {
      const known = balances.get(walletId)
      if (!known || sequence > known.sequence)
        balances.set(walletId, { sequence, balance: balanceAfterMinor })
    }
  })
  return {
    findWrong: tables => {
      for (const { id, balance } of tables.wallets.values()) {
        const kept = balances.get(id)?.balance ?? 0n
        if (kept !== balance) return `a subscriber has ${kept} for wallet ${id}, the books have ${balance}`
      }
      return undefined
    },
  }
}

/** Checks order and completeness: events of one key in order, repeats unchanged, no gap in any wallet's sequence. */
export const startOrderKeeper = (site: Site, fail: (message: string) => void): Subscriber => {
  const lastSeq = new Map<number, number>()
  const bytes = new Map<string, Buffer>()
  const sequences = new Map<string, Set<number>>()
  const lastOfKey = new Map<string, number>()
  readAll(site, 'order', record => {
    const seq = Number(record.headers.find(([name]) => name === 'seq')?.[1].toString())
    const place = `${record.partition} ${seq}`
    const known = bytes.get(place)
    if (known) {
      if (!record.value || !known.equals(record.value)) fail(`event ${place} came again, changed`)
      return
    }
    bytes.set(place, record.value!)
    const key = `${record.partition} ${record.key?.toString('latin1')}`
    if ((lastOfKey.get(key) ?? 0) > seq) fail(`event ${place} of key ${key} came after ${lastOfKey.get(key)}`)
    lastOfKey.set(key, seq)
    lastSeq.set(record.partition, Math.max(lastSeq.get(record.partition) ?? 0, seq))
    for (const { walletId, sequence } of entriesOf(record)) {
      const own = sequences.get(walletId) ?? new Set()
      sequences.set(walletId, own.add(sequence))
    }
  })
  return {
    findWrong: tables => {
      for (const [walletId, own] of sequences) {
        const greatest = [...own].reduce((most, sequence) => Math.max(most, sequence), 0)
        if (own.size !== greatest)
          return `a subscriber saw ${own.size} entries of wallet ${walletId}, the last is ${greatest}`
      }
      for (const { id, sequence } of tables.wallets.values()) {
        if ((sequences.get(id)?.size ?? 0) !== sequence) return `a subscriber missed entries of wallet ${id}`
      }
      return undefined
    },
  }
}
