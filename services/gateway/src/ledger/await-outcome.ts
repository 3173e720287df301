import { isLedgerEvent, type LedgerEvent } from '@pennywire/contracts/schemas.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { measureConsumer } from '@pennywire/kafka/measure-consumer.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { currentRequest } from '../queues/request-scope.ts'

/** The event that states how a command ended. */
export type Outcome = LedgerEvent

export const isOutcome = (record: { type: string }): record is Outcome => isLedgerEvent(record.type)

export type Waiter = {
  /** The outcome, or undefined if the wait ended without one. */
  outcome: Promise<Outcome | undefined>
  /** Ends the wait and removes the waiter. */
  leave: () => void
}

export type Outcomes = {
  /**
   * Waits for a command's outcome, up to `waitMs`. Register before publishing: the answer may arrive first. A refusal
   * that contains a fingerprint is for the command with that fingerprint, not for another one with the same id.
   */
  wait: (commandId: string, waitMs: number, fingerprint?: Buffer) => Waiter
  /** Throws while this gateway is not positioned on all partitions of ledger.events. */
  check: () => void
  /** The number of waiters: several may wait for one command. */
  waiting: () => number
  /** The last record of a partition of ledger.events that this gateway has read; undefined: none since its start. */
  readTo: (partition: number) => bigint | undefined
  stop: () => Promise<void>
}

type Waiting = { fingerprint: Buffer | undefined; settle: (outcome: Outcome | undefined) => void }

/** Length of each wait of a user beyond `waitsPerUser`: longer than the ledger usually takes. */
const CROWDED_WAIT_MS = 2_000
const WAITS_PER_USER = 20

/** Pauses between queries to the ledger's database during a wait: doubled each time, up to the longest. */
const FIRST_PAUSE_MS = 250
const LONGEST_PAUSE_MS = 4_000

const isFor = ({ fingerprint }: Waiting, outcome: Outcome): boolean =>
  outcome.type !== 'pennywire.ledger.CommandRefused' ||
  fingerprint === undefined ||
  outcome.value.fingerprint.equals(fingerprint)

export type OutcomeWaiters = Pick<Outcomes, 'wait' | 'waiting'> & {
  /**
   * Ends the oldest wait of the user with the most waits, if these are more than the current request's user will have:
   * that client is answered 202 at once. Otherwise false.
   */
  makeRoom: () => boolean
  /** Wakes the waiters for the outcome in this record of ledger.events. Rejects if the record cannot be decoded. */
  wake: (record: IncomingRecord) => Promise<void>
}

/**
 * The waiters in this process, independent of the source of events. A user's waits are counted over all API keys and
 * sessions; beyond `waitsPerUser` they are short, and the answer is a 202 with its Location: no user takes all places.
 * The wait of a client that hangs up ends.
 */
export const createOutcomeWaiters = (
  codec: Pick<Codec, 'decodeRecord'>,
  clock: Clock,
  waitsPerUser = WAITS_PER_USER,
): OutcomeWaiters => {
  const waiters = new Map<string, Set<Waiting>>()
  /** Waits by user, oldest first. */
  const byUser = new Map<string, Set<Waiting>>()
  let count = 0

  const add = (to: Map<string, Set<Waiting>>, key: string, waiting: Waiting) => {
    const others = to.get(key)
    if (others) others.add(waiting)
    else to.set(key, new Set([waiting]))
  }
  const remove = (from: Map<string, Set<Waiting>>, key: string, waiting: Waiting) => {
    const others = from.get(key)
    others?.delete(waiting)
    if (others?.size === 0) from.delete(key)
  }

  return {
    wake: async record => {
      // Most events belong to other gateways' clients: the envelope shows this without decoding.
      const id = headerOf(record, 'ce_subject')
      if (id === undefined || !waiters.has(id)) return
      const event = await codec.decodeRecord(record)
      if (!isOutcome(event)) return
      for (const waiting of waiters.get(id) ?? []) if (isFor(waiting, event)) waiting.settle(event)
    },
    wait: (commandId, waitMs, fingerprint) => {
      const request = currentRequest()
      const userId = request?.userId ?? ''
      const gone = request?.gone
      const isCrowded = request !== undefined && (byUser.get(userId)?.size ?? 0) >= waitsPerUser
      let leave: () => void = () => {}
      const outcome = new Promise<Outcome | undefined>(resolve => {
        const waiting: Waiting = {
          fingerprint,
          settle: value => {
            cancel()
            gone?.removeEventListener('abort', leave)
            if (waiters.get(commandId)?.has(waiting)) count--
            remove(waiters, commandId, waiting)
            remove(byUser, userId, waiting)
            resolve(value)
          },
        }
        count++
        leave = () => waiting.settle(undefined)
        const cancel = clock.after(isCrowded ? Math.min(waitMs, CROWDED_WAIT_MS) : waitMs, leave)
        add(waiters, commandId, waiting)
        add(byUser, userId, waiting)
        gone?.addEventListener('abort', leave, { once: true })
        if (gone?.aborted) leave()
      })
      return { outcome, leave }
    },
    waiting: () => count,
    makeRoom: () => {
      const mine = byUser.get(currentRequest()?.userId ?? '')?.size ?? 0
      let most: Set<Waiting> | undefined
      for (const waits of byUser.values()) if (waits.size > (most?.size ?? mine + 1)) most = waits
      const [oldest] = most ?? []
      oldest?.settle(undefined)
      return oldest !== undefined
    },
  }
}

/**
 * Calls `ask` until it returns an answer: whenever a waiter receives its outcome, after growing pauses in between (the
 * event may have been missed, or there is none), and a last time when a wait ends. Undefined if there is no answer
 * then.
 */
export const askUntilAnswered = async <Answer>(
  waiters: Waiter[],
  ask: (event: Outcome | undefined) => Promise<Answer | undefined>,
  clock: Clock,
): Promise<Answer | undefined> => {
  let listening = new Map(
    waiters.map(({ outcome }) => [
      outcome,
      outcome.then(event => ({ outcome, heard: event, isOver: !event })),
    ]),
  )
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    const paused = new AbortController()
    const told = await Promise.race([...listening.values(), sleep(clock, pauseMs, paused.signal)])
    paused.abort()
    const answer = await ask(told?.heard)
    if (answer !== undefined || told?.isOver) return answer
    if (!told) continue
    // A waiter receives its outcome only once. The ledger's database shows it within moments.
    listening = new Map([...listening].filter(([outcome]) => outcome !== told.outcome))
    pauseMs = FIRST_PAUSE_MS / 2
  }
}

/**
 * Wakes the requests that wait for an outcome: each gateway reads all of ledger.events in a group of its own, from the
 * end offset at its start. An event is only a wake-up; a waiter that misses it queries the ledger's database.
 */
export const awaitOutcomes = async (deps: {
  kafka: KafkaClient
  logger: Logger
  instanceId: string
  waiters: OutcomeWaiters
  /** Called with the id of each command whose outcome arrives, awaited or not. */
  onDecided: (commandId: string) => void
}): Promise<Outcomes> => {
  const { kafka, logger, waiters } = deps
  const readTo = new Map<number, bigint>()
  const consumer = await startConsumer({
    client: kafka,
    logger,
    groupId: `gateway-${deps.instanceId}`,
    topics: ['ledger.events'],
    maxBatch: 2_000,
    positions: (_assigned, readEnds) => readEnds(),
    handle: async records => {
      for (const record of records) {
        readTo.set(record.partition, record.offset)
        const id = headerOf(record, 'ce_subject')
        if (id !== undefined) deps.onDecided(id)
        try {
          await waiters.wake(record)
        } catch (error) {
          logger.warn(
            { err: error, offset: String(record.offset) },
            'an outcome could not be read; its waiter will ask',
          )
        }
      }
    },
  })
  measureConsumer(consumer)
  return {
    wait: waiters.wait,
    waiting: waiters.waiting,
    readTo: partition => readTo.get(partition),
    check: consumer.check,
    stop: consumer.stop,
  }
}
