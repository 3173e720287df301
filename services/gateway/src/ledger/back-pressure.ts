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
  /** Records that wait for Kafka, and how long the oldest of the wallet's partition may have. */
  publishWaiting: number
  publishMs: number
  /** Requests of clients that wait for their outcome. */
  waitingRequests: number
  /**
   * Commands in Kafka whose outcome this gateway has not seen, and how long the oldest of the wallet's partition may
   * have waited.
   */
  undecided: number
  undecidedMs: number
}

export type BackPressure = {
  /**
   * Throws 503 where one more command of this wallet would only wait: to be asked before anything is stored, sent, or
   * tried (a PIN). Then the client's key is still free, and it knows at once. Requests that wait already go on waiting.
   * What is too slow concerns the wallet's partition; what is too many concerns this process.
   */
  admit: (walletId: string) => void
  /** Publishes a command, and counts it as undecided until its outcome is seen. */
  publish: (record: RawRecord & { headers: { ce_subject?: string } }) => Promise<void>
  /** The outcome of a command was seen, of this gateway's or another's. */
  decided: (commandId: string) => void
  undecided: () => number
  /** Seconds since the oldest undecided command was sent; 0 where there is none. */
  oldestUndecidedSeconds: () => number
  stop: () => Promise<void>
}

/** How often undecided commands are looked for in the ledger's books, and from which age on. */
const LOOK_EVERY_MS = 1_000
const LOOK_FROM_MS = 5_000
const LOOK_FOR_PER_PARTITION = 100

/**
 * Refuses early when Kafka stands still, when too many wait, or when the ledger falls behind: a queue without a bound
 * answers nobody, and takes the process with it. Each gateway bounds what it has sent itself, by what it sees itself.
 */
export const createBackPressure = (deps: {
  limits: BackPressureLimits
  publisher: Pick<Publisher, 'publish' | 'load'>
  waitingRequests: () => number
  /** Makes room for the current request by ending the wait of a user who has more; see await-outcome.ts. */
  makeRoom: () => boolean
  /** Which of these commands the ledger has decided: its events may have passed while this gateway did not listen. */
  findDecided: (ids: string[]) => Promise<string[]>
  /** After so long a command has its outcome or was lost: it counts no more. */
  forgetAfterMs: number
  clock: Clock
  logger: Logger
}): BackPressure => {
  const { limits, publisher, clock, logger } = deps
  /** By partition, when each command was sent, in that order. */
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

  /** A partition that is behind admits nothing more, so what it has counts no more against the others. */
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

  /** Events are wake-ups, and some may be missed: before old ones shut the door, the ledger itself is asked. */
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
        // It may be in the log or not; either way it is not known to wait for the ledger.
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
