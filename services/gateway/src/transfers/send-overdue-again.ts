import { envelope } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import type { PublishCommand } from '../ledger/publish-command.ts'
import type { OverdueRequest } from './sql/pending-requests.ts'

/** Sent at a time: the ledger must continue with current requests. */
const PAGE = 100

const sentAgain = counter(
  'gateway_requests_sent_again_total',
  'Commands that Kafka had taken and the ledger had not decided, sent again under their ids',
)

export type OverdueDeps = {
  /** Claims overdue requests, each for this gateway alone for a while. */
  claim: (limit: number) => Promise<OverdueRequest[]>
  readDecidedIds: (ids: string[]) => Promise<string[]>
  markDecided: (ids: string[]) => Promise<void>
  publishCommand: PublishCommand
  clock: Clock
  logger: Logger
  everyMs: number
}

/**
 * Ends pending requests (X2) even if no client asks: a request that Kafka acknowledged and the ledger has not decided
 * long after its expiry may have been lost with its topic. Its command is sent again, unchanged. The ledger then
 * rejects it as expired, or has decided it before and ignores the repeat: one id, one outcome. Every gateway does this;
 * one gateway has a request at a time.
 */
export const startSendingOverdueAgain = (deps: OverdueDeps): { stop: () => Promise<void> } => {
  const { clock, logger } = deps

  const send = ({ transferId, requestedAt, key, type, value }: OverdueRequest) =>
    deps
      .publishCommand({
        topic: 'ledger.commands',
        key,
        value,
        headers: envelope({
          id: transferId,
          type,
          source: 'gateway',
          time: requestedAt.getTime(),
          subject: transferId,
          traceparent: continueTrace(undefined),
        }),
      })
      .then(() => sentAgain.inc())

  const look = async () => {
    const overdue = await deps.claim(PAGE)
    if (overdue.length === 0) return
    const decided = new Set(await deps.readDecidedIds(overdue.map(({ transferId }) => transferId)))
    if (decided.size > 0) await deps.markDecided([...decided])
    await Promise.all(overdue.filter(({ transferId }) => !decided.has(transferId)).map(send))
  }

  return repeat({
    ...{ clock, everyMs: deps.everyMs, pauseFirst: true, work: look },
    onError: error => logger.warn({ err: error }, 'overdue requests could not be ended; trying again'),
  })
}
