import { walletIdOf } from '@pennywire/contracts/ids.ts'
import { avroType, RECORD_NAMES } from '@pennywire/contracts/schemas.ts'
import { type Codec, createCodec } from '@pennywire/kafka/codec.ts'
import { envelope, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { createOutcomeWaiters } from '../services/gateway/src/await-outcome.ts'
import { createFindTransfer } from '../services/gateway/src/find-transfer.ts'
import type { PersonKeys } from '../services/gateway/src/identity/person-keys.ts'
import { ProblemError } from '../services/gateway/src/problems.ts'
import { createHandleCallback } from '../services/gateway/src/request-deposit.ts'
import { createRequestTransfer } from '../services/gateway/src/request-transfer.ts'
import type { TransferQuestion } from '../services/gateway/src/sql/ledger-reads.ts'
import type { PendingRequest } from '../services/gateway/src/sql/pending-requests.ts'
import { createCommandHandler } from '../services/ledger/src/consume-commands.ts'
import { startRelay } from '../services/ledger/src/relay-outbox.ts'
import type { Group } from './consumer-group.ts'
import {
  type GatewayTables,
  readGroundwork,
  readPending,
  readTransfer,
  readWallets,
  settlePayment,
  writePending,
} from './gateway-store.ts'
import type { Log } from './log.ts'
import type { MemoryDatabase, Tables } from './memory-store.ts'
import { decodeNow } from './promises.ts'
import { EPOCH_MS, type Process, type World } from './world.ts'

/** The real bytes and schemas; only the registry is in memory. */
export const createSimulatedCodec = (): Promise<Codec> =>
  createCodec({
    idOf: async name => RECORD_NAMES.indexOf(name) + 1,
    schemaOf: async id => avroType(RECORD_NAMES[id - 1]!),
  })

const silent = () => {}
const logger = {
  error: silent,
  warn: silent,
  info: silent,
  debug: silent,
  fatal: silent,
} as unknown as Logger

export type Site = {
  world: World
  database: MemoryDatabase
  log: Log
  group: Group
  codec: Codec
  gatewayTables: GatewayTables
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

/** One ledger: the service's own handler and relay on a replaced store, publisher and consumer. */
export const startLedger = (site: Site, name: string, maxBatch: number): SimulatedLedger => {
  const { world, database, log, group, codec } = site
  const process = world.createProcess(name)
  const publisher = log.publisherOf(process)
  const store = database.connect(process)
  const relay = startRelay({ store, publisher, logger, clock: world.clockOf(process) })
  const handler = createCommandHandler({ logger, store, codec, publisher, relay })
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

// --- the gateway ---

/** Texts are not secret here: the ciphertext is the text. */
const personKeys = {
  create: async () => {},
  encryptFor: async (_userId, text) => Buffer.from(text),
  decryptFor: async (_userId, cipher) => cipher.toString(),
  decryptAll: async sealed => sealed.map(({ cipher }) => cipher.toString()),
} satisfies PersonKeys

const TRACE = '00-0123456789abcdef0123456789abcdef-0123456789abcdef-01'

/** A gateway's clock may be off by this much and still be ready. */
const MAX_SKEW_MS = 4_000

export type SimulatedGateway = ReturnType<typeof startGateway>

/** One gateway: the service's own way of a transfer, of a callback and of a look-up; replaced are the edges. */
export const startGateway = (site: Site, name: string, expiresAfterMs: number) => {
  const { world, database, log, codec, gatewayTables } = site
  const callers: Array<() => void> = []
  const process = world.createProcess(name, (world.random.float() * 2 - 1) * MAX_SKEW_MS)
  const clock = world.clockOf(process)
  const read = <Result>(label: string, statement: (tables: Tables) => Result) =>
    database.run(process, label, statement)
  const outcomes = createOutcomeWaiters(codec, clock)
  const publisher = log.publisherOf(process)
  const names = { namesOf: async () => new Map(), forget: () => {} }
  const readDecided = (id: string) => read('gateway reads a transfer', tables => readTransfer(tables, id))

  // From the end on, like every gateway: what was before nobody here waits for.
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

  const transferParts = {
    logger,
    codec,
    admit: () => {},
    publisher,
    outcomes,
    names,
    personKeys,
    lookUp: (question: TransferQuestion) =>
      read('gateway looks up', tables => readGroundwork(tables, question)),
    readDecided,
    writePending: (request: PendingRequest) =>
      read('gateway writes pending', () => writePending(gatewayTables, [request])),
    verifyPin: async () => {},
    verifyStepUp: async () => ({ at: new Date(clock.now()) }),
    freshPinAbove: 1_000_000,
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
    readPendingBetween: first =>
      read('gateway reads pending', () => readPending(gatewayTables, first, EPOCH_MS + world.now())),
    // A payment under the same key is a matter of its own; the clients here ask for transfers.
    readPaymentsBetween: async () => [],
    readWallets: (ids: string[]) => read('gateway reads wallets', tables => readWallets(tables, ids)),
  })
  const callbackParts = {
    logger,
    codec,
    admit: () => {},
    publisher: { ...publisher, load: () => ({ waiting: 0, oldestMs: 0 }) },
    publishCommand: publisher.publish,
    outcomes: { ...outcomes, check: () => {}, stop: async () => {} },
    names,
    personKeys,
    provider: {
      order: async () => ({ providerReference: 'provider' }),
      readCallback: (_signature: string | undefined, body: string) => JSON.parse(body),
    },
    readWallet: async () => undefined,
    readDecided,
    isPending: async () => false,
    writePayment: async () => {
      throw new Error('payments are written by the simulation')
    },
    readPayment: (id: string) => read('gateway reads a payment', () => gatewayTables.payments.get(id)),
    markPending: async () => {},
    settle: (...settled: [string, 'confirmed' | 'failed', string, string | null]) =>
      read('gateway settles a payment', () => settlePayment(gatewayTables, ...settled)),
    now: clock.now,
  }
  const handleCallback = createHandleCallback(callbackParts)

  return {
    process,
    requestTransfer: createRequestTransfer(transferParts),
    find,
    confirmDeposit: (body: string) => handleCallback(undefined, body, TRACE),
    /** As routes/wallets.ts does it. */
    openWallet: async (
      userId: string,
      currency: string,
      waitMs: number,
    ): Promise<'open' | 'exists' | 'later'> => {
      const walletId = walletIdOf(userId, currency, 0)
      const known = await read('gateway reads a wallet', tables => tables.wallets.has(walletId))
      if (known) return 'exists'
      const waiter = outcomes.wait(walletId, waitMs)
      try {
        const requestedAt = clock.now()
        await publisher.publish({
          topic: 'ledger.commands',
          key: walletId,
          value: codec.encode('pennywire.ledger.WalletOpenRequested', {
            commandId: walletId,
            walletId,
            userId,
            currency,
            requestedAt,
          }),
          headers: envelope({
            id: walletId,
            type: 'pennywire.ledger.WalletOpenRequested',
            source: 'gateway',
            time: requestedAt,
            subject: walletId,
            traceparent: TRACE,
          }),
        })
        const outcome = await waiter.outcome
        if (outcome?.type === 'pennywire.ledger.CommandRefused') return 'exists'
        return (await read('gateway reads a wallet', tables => tables.wallets.has(walletId)))
          ? 'open'
          : 'later'
      } finally {
        waiter.leave()
      }
    },
    /** Tells those who are connected that the connection broke. */
    onKill: (tell: () => void) => void callers.push(tell),
    kill: () => {
      world.kill(process)
      for (const tell of callers.splice(0)) tell()
    },
    pause: () => world.pause(process),
    wake: () => world.wake(process),
  }
}

/** A problem that the gateway answers with; anything else is a 500 or 503 that says nothing. */
export const problemOf = (error: unknown): ProblemError | undefined =>
  error instanceof ProblemError ? error : undefined

// --- those who subscribe ---

export type Subscriber = {
  /** Says what this subscriber has wrong, once it has read everything. */
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

/** Keeps each wallet's balance by the one rule that the design gives: a greater sequence wins. */
export const startBalanceKeeper = (site: Site): Subscriber => {
  const balances = new Map<string, { sequence: number; balance: bigint }>()
  readAll(site, 'balances', record => {
    const event = decodeNow(record.value)
    if (event?.type !== 'pennywire.ledger.TransferCompleted') return
    for (const { walletId, sequence, balanceAfterMinor } of event.value.entries) {
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

/** Holds order and completeness: events of one key in order, repeats unchanged, no hole in any wallet's sequence. */
export const startOrderKeeper = (site: Site, fail: (message: string) => void): Subscriber => {
  const lastSeq = new Map<number, number>()
  const bytes = new Map<string, Buffer>()
  const sequences = new Map<string, Set<number>>()
  const lastOfKey = new Map<string, number>()
  readAll(site, 'order', record => {
    const event = decodeNow(record.value)
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
    if (event?.type !== 'pennywire.ledger.TransferCompleted') return
    for (const { walletId, sequence } of event.value.entries) {
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
