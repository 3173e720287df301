import { partitionOf } from '@pennywire/kafka/partition-of.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { RawRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { ProblemError } from '../problems/problem.ts'

const refusedEarly = counter(
  'gateway_refused_early_total',
  'Requests refused before anything was stored or sent, by what was too slow or too full',
  ['reason'],
)

export type BackPressureLimits = {
  /** Maximum number of records that wait for Kafka, and maximum age of the oldest of the wallet's partition. */
  publishWaiting: number
  publishMs: number
  /** Maximum number of client requests that wait for their outcome. */
  waitingRequests: number
  /**
   * Maximum number of commands in Kafka whose outcome this gateway has not seen, and maximum age of the oldest of the
   * wallet's partition.
   */
  undecided: number
  undecidedMs: number
}

export type BackPressure = {
  /**
   * Throws 503 if one more command of this wallet would only wait. Called before anything is stored, sent, or tried (a
   * PIN): then the client's key is still free, and the client is answered at once. Requests that wait already keep
   * waiting. Limits of time apply to the wallet's partition; limits of number apply to this process.
   */
  admit: (walletId: string) => void
  /** Publishes a command, and counts it as undecided until its outcome is seen. */
  publish: (record: RawRecord & { headers: { ce_subject?: string } }) => Promise<void>
  /** To be called for each outcome that arrives, of a command of this gateway or of another. */
  decided: (commandId: string) => void
  undecided: () => number
  /** Seconds since the oldest undecided command was sent; 0 if there is none. */
  oldestUndecidedSeconds: () => number
  stop: () => Promise<void>
}

/** How often, and from which age on, undecided commands are looked up in the ledger's database. */
const LOOK_EVERY_MS = 1_000
const LOOK_FROM_MS = 5_000
const LOOK_FOR_PER_PARTITION = 100

/**
 * Refuses early when Kafka stalls, when too many requests wait, or when the ledger falls behind: an unbounded queue
 * answers no client, and takes the process down with it. Each gateway bounds its own commands, by its own observations.
 */
export const createBackPressure = (deps: {
  limits: BackPressureLimits
  publisher: Pick<Publisher, 'publish' | 'load'>
  waitingRequests: () => number
  /** Makes room for the current request by ending the wait of a user who has more; see await-outcome.ts. */
  makeRoom: () => boolean
  /** The ids among these that the ledger has decided: this gateway may have missed their events. */
  findDecided: (ids: string[]) => Promise<string[]>
  /** Age at which a command no longer counts: by then it has its outcome or was lost. */
  forgetAfterMs: number
  clock: Clock
  logger: Logger
}): BackPressure => {
  const { limits, publisher, clock, logger } = deps
  /** By partition: each command's id and the time it was sent, in that order. */
  const undecided = new Map<number, Map<string, number>>()
  const partitionOfCommand = new Map<string, number>()

  const add = (id: string, partition: number) => {
    if (partitionOfCommand.has(id)) return
    partitionOfCommand.set(id, partition)
    const known = undecided.get(partition)
    if (known) known.set(id, clock.elapsed())
    else undecided.set(partition, new Map([[id, clock.elapsed()]]))
  }
  const remove = (id: string) => {
    undecided.get(partitionOfCommand.get(id) ?? -1)?.delete(id)
    partitionOfCommand.delete(id)
  }

  const oldestMsOf = (sent: Map<string, number> | undefined): number => {
    for (const sentAt of sent?.values() ?? []) return clock.elapsed() - sentAt
    return 0
  }
  const isBehind = (sent: Map<string, number> | undefined): boolean =>
    oldestMsOf(sent) >= limits.undecidedMs || (sent?.size ?? 0) >= limits.undecided

  /** A partition that is behind admits nothing more, so its commands do not count against the others. */
  const isFull = (): boolean => {
    let count = 0
    for (const sent of undecided.values()) if (!isBehind(sent)) count += sent.size
    return count >= limits.undecided
  }

  const brokenLimit = (
    walletId: string,
  ): [reason: string, detail: string, retryAfterSeconds: number] | undefined => {
    const partition = partitionOf('ledger.commands', walletId)
    if (
      publisher.load({ topic: 'ledger.commands', partition }).oldestMs >= limits.publishMs ||
      publisher.load().waiting >= limits.publishWaiting
    )
      return ['kafka', 'The log of commands does not answer.', 2]
    if (deps.waitingRequests() >= limits.waitingRequests && !deps.makeRoom())
      return ['waiting', 'Too many requests wait for their outcome.', 1]
    if (isBehind(undecided.get(partition)) || isFull()) return ['ledger', 'The ledger is behind.', 2]
    return undefined
  }

  /** Events are wake-ups, and some may be missed: queries the ledger before old commands cause refusals. */
  const lookForMissed = async () => {
    const now = clock.elapsed()
    const old: string[] = []
    for (const sent of undecided.values()) {
      let looked = 0
      for (const [id, sentAt] of sent) {
        if (now - sentAt >= deps.forgetAfterMs) remove(id)
        else if (now - sentAt < LOOK_FROM_MS || looked++ === LOOK_FOR_PER_PARTITION) break
        else old.push(id)
      }
    }
    if (old.length === 0) return
    for (const id of await deps.findDecided(old)) remove(id)
  }

  const looking = repeat({
    ...{ clock, everyMs: LOOK_EVERY_MS, pauseFirst: true, work: lookForMissed },
    onError: error => logger.warn({ err: error }, 'the ledger could not be asked for undecided commands'),
  })

  return {
    admit: walletId => {
      const broken = brokenLimit(walletId)
      if (!broken) return
      const [reason, detail, retryAfterSeconds] = broken
      refusedEarly.inc({ reason })
      throw new ProblemError(
        'SERVICE_UNAVAILABLE',
        `${detail} Nothing was stored or sent; send it again, with the same Idempotency-Key where there is one.`,
        {},
        { 'retry-after': String(retryAfterSeconds) },
      )
    },
    publish: async record => {
      const id = record.headers.ce_subject
      if (id !== undefined) add(id, record.partition ?? partitionOf('ledger.commands', record.key))
      try {
        await publisher.publish(record)
      } catch (error) {
        // The record may be in the log or not; either way it is not known to wait for the ledger.
        if (id !== undefined) remove(id)
        throw error
      }
    },
    decided: remove,
    undecided: () => partitionOfCommand.size,
    oldestUndecidedSeconds: () => Math.max(0, ...[...undecided.values()].map(oldestMsOf)) / 1_000,
    stop: looking.stop,
  }
}
