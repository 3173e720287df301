import type { Records } from '@pennywire/contracts/schemas.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { startConsumer } from '@pennywire/kafka/consumer.ts'
import { measureConsumer } from '@pennywire/kafka/measure-consumer.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'

const OUTCOMES = [
  'pennywire.ledger.TransferCompleted',
  'pennywire.ledger.TransferRejected',
  'pennywire.ledger.TransferReversed',
  'pennywire.ledger.HoldPlaced',
  'pennywire.ledger.HoldEnded',
  'pennywire.ledger.WalletOpened',
  'pennywire.ledger.WalletFrozen',
  'pennywire.ledger.WalletUnfrozen',
  'pennywire.ledger.WalletClosed',
  'pennywire.ledger.LimitChanged',
  'pennywire.ledger.CommandRefused',
] as const satisfies (keyof Records)[]
type OutcomeName = (typeof OUTCOMES)[number]

/** How a command ended, as its event says. */
export type Outcome = { [Name in OutcomeName]: { type: Name; value: Records[Name] } }[OutcomeName]

export const isOutcome = (record: { type: string }): record is Outcome =>
  (OUTCOMES as readonly string[]).includes(record.type)

export type Waiter = {
  /** The outcome, or undefined where the wait ended without one. */
  outcome: Promise<Outcome | undefined>
  /** Ends the wait: nobody listens any more. */
  leave: () => void
}

export type Outcomes = {
  /**
   * Waits for a command's outcome, up to `waitMs`. Register before publishing: the answer may be quicker. A refusal
   * that carries a fingerprint is for the command that has it, not for another one under the same id.
   */
  wait: (commandId: string, waitMs: number, fingerprint?: Buffer) => Waiter
  /** Throws while this gateway is not positioned on all partitions of ledger.events. */
  check: () => void
  /** How many wait: several may for one command. */
  waiting: () => number
  stop: () => Promise<void>
}

type Waiting = { fingerprint: Buffer | undefined; settle: (outcome: Outcome | undefined) => void }

const isFor = ({ fingerprint }: Waiting, outcome: Outcome): boolean =>
  outcome.type !== 'pennywire.ledger.CommandRefused' ||
  fingerprint === undefined ||
  outcome.value.fingerprint.equals(fingerprint)

export type OutcomeWaiters = Pick<Outcomes, 'wait' | 'waiting'> & {
  /** Wakes whoever waits for what this record of ledger.events tells. Rejects where it cannot be read. */
  wake: (record: IncomingRecord) => Promise<void>
}

/** Those who wait in this process, apart from how the events come. */
export const createOutcomeWaiters = (codec: Pick<Codec, 'decodeRecord'>, clock: Clock): OutcomeWaiters => {
  const waiters = new Map<string, Set<Waiting>>()
  let count = 0
  return {
    wake: async record => {
      // Most events belong to other gateways' clients: the envelope tells without decoding.
      const id = headerOf(record, 'ce_subject')
      if (id === undefined || !waiters.has(id)) return
      const event = await codec.decodeRecord(record)
      if (!isOutcome(event)) return
      for (const waiting of waiters.get(id) ?? []) if (isFor(waiting, event)) waiting.settle(event)
    },
    wait: (commandId, waitMs, fingerprint) => {
      let leave: () => void = () => {}
      const outcome = new Promise<Outcome | undefined>(resolve => {
        const waiting: Waiting = {
          fingerprint,
          settle: value => {
            cancel()
            const mine = waiters.get(commandId)
            if (mine?.delete(waiting)) count--
            if (mine?.size === 0) waiters.delete(commandId)
            resolve(value)
          },
        }
        count++
        leave = () => waiting.settle(undefined)
        const cancel = clock.after(waitMs, leave)
        const others = waiters.get(commandId)
        if (others) others.add(waiting)
        else waiters.set(commandId, new Set([waiting]))
      })
      return { outcome, leave }
    },
    waiting: () => count,
  }
}

/**
 * Wakes the requests that wait for an outcome: each gateway reads all of ledger.events in a group of its own, from
 * the end it found at its start. An event is a wake-up and no more; who misses it asks the ledger's database.
 */
export const awaitOutcomes = async (parts: {
  kafka: KafkaClient
  logger: Logger
  instanceId: string
  waiters: OutcomeWaiters
  /** Told the id of each command whose outcome passes, whoever waits for it. */
  onDecided: (commandId: string) => void
}): Promise<Outcomes> => {
  const { kafka, logger, waiters } = parts
  const consumer = await startConsumer({
    client: kafka,
    logger,
    groupId: `gateway-${parts.instanceId}`,
    topics: ['ledger.events'],
    maxBatch: 2_000,
    positions: async (_assigned, ends) => ends,
    handle: async records => {
      for (const record of records) {
        const id = headerOf(record, 'ce_subject')
        if (id !== undefined) parts.onDecided(id)
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
  return { wait: waiters.wait, waiting: waiters.waiting, check: consumer.check, stop: consumer.stop }
}
