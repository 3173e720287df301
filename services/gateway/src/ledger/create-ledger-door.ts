import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { openDatabase, ping } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import { batchPerTick } from '../queues/batch-per-tick.ts'
import { createAskLedger } from './ask-ledger.ts'
import { awaitOutcomes, createOutcomeWaiters } from './await-outcome.ts'
import { type BackPressureLimits, createBackPressure } from './back-pressure.ts'
import { createPublishCommand } from './publish-command.ts'
import { readClock, readDecidedIds, readOutcomes, readTransfers } from './sql/ledger-reads.ts'

/** Maximum clock difference: beyond it, a gateway would let fresh requests expire, or keep expired ones. */
const MAX_CLOCK_DIFFERENCE_MS = 5_000

export type LedgerDoor = Awaited<ReturnType<typeof createLedgerDoor>>

/** The one door to the ledger: its published views, its events, and the publishing of commands to it. */
export const createLedgerDoor = async (deps: {
  logger: Logger
  kafka: KafkaClient
  codec: Codec
  publisher: Publisher
  readUrl: string
  instanceId: string
  limits: BackPressureLimits
  waitsPerUser: number
  requestExpiresAfterMs: number
}) => {
  const { logger, kafka, codec, publisher, instanceId } = deps
  // The ledger's published views, over a URL of their own: never in one statement with our own tables. All queries find
  // their rows by keys. A connection keeps its plans, and plans made while the tables were empty would scan whole
  // tables just when many requests wait for their outcome.
  const ledgerRead = openDatabase(deps.readUrl, {
    applicationName: `${instanceId}-reads-ledger`,
    connection: { enable_seqscan: 'off' },
  })
  const readDecided = batchPerTick(async (ids: string[]) => {
    const found = new Map((await readTransfers(ledgerRead, ids)).map(facts => [facts.id, facts]))
    return ids.map(id => found.get(id))
  })

  const waiters = createOutcomeWaiters(codec, systemClock, deps.waitsPerUser)
  const backPressure = createBackPressure({
    limits: deps.limits,
    publisher,
    waitingRequests: waiters.waiting,
    makeRoom: waiters.makeRoom,
    findDecided: ids => readDecidedIds(ledgerRead, ids),
    forgetAfterMs: deps.requestExpiresAfterMs + 60_000,
    clock: systemClock,
    logger,
  })
  const outcomes = await awaitOutcomes({
    kafka,
    logger,
    instanceId,
    waiters,
    onDecided: backPressure.decided,
  })
  measuredGauge('gateway_waiting_requests', 'Requests that wait for their outcome', waiters.waiting)
  measuredGauge(
    'gateway_undecided_requests',
    'Commands that this gateway sent and whose outcome it has not seen',
    backPressure.undecided,
  )
  measuredGauge(
    'gateway_oldest_undecided_seconds',
    'Age of the oldest of them',
    backPressure.oldestUndecidedSeconds,
  )
  measuredGauge(
    'gateway_publisher_waiting_records',
    'Records not yet acknowledged by Kafka',
    () => publisher.load().waiting,
  )
  measuredGauge(
    'gateway_publisher_oldest_seconds',
    'Age of the oldest of them',
    () => publisher.load().oldestMs / 1_000,
  )

  /** Not counted as undecided: for commands whose outcome is not among those that back-pressure looks up. */
  const publishUncounted = createPublishCommand({ publisher, clock: systemClock, logger })
  const ask = createAskLedger({
    logger,
    codec,
    admit: backPressure.admit,
    publishCommand: publishUncounted,
    outcomes,
    readOutcome: batchPerTick(async (ids: string[]) => {
      const found = new Map((await readOutcomes(ledgerRead, ids)).map(row => [row.id, row]))
      return ids.map(id => found.get(id))
    }),
    clock: systemClock,
  })

  return {
    /** A connection to the ledger's views. */
    ledgerRead,
    readDecided,
    outcomes,
    ask,
    admit: backPressure.admit,
    /** Counts each published command as undecided until its outcome is seen. */
    countedPublisher: backPressure,
    publishCounted: createPublishCommand({ publisher: backPressure, clock: systemClock, logger }),
    publishUncounted,
    readiness: {
      outcomes: outcomes.check,
      ledgerViews: () => ping(ledgerRead),
    },
    /** Rejects if this gateway's clock differs too much from the ledger's. */
    checkClock: async () => {
      const difference = Math.abs(systemClock.now() - (await readClock(ledgerRead)).getTime())
      if (difference > MAX_CLOCK_DIFFERENCE_MS)
        throw new Error(`differs from the ledger's by ${difference} ms`)
    },
    /** Ends the waits and the counting; the views stay open until `close`. */
    stop: () => Promise.all([outcomes.stop(), backPressure.stop()]),
    close: () => ledgerRead.end(),
  }
}
