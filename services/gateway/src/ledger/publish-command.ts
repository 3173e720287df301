import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { ProblemError } from '../problems/problem.ts'

/** Resolves once Kafka has acknowledged the command; throws 503 without that in time, though Kafka may have it. */
export type PublishCommand = (record: OutgoingRecord) => Promise<void>

const ACKNOWLEDGE_WITHIN_MS = 5_000

/** For commands that are safe to repeat: the client requests again, and the ledger recognises the id. */
export const createPublishCommand =
  (deps: { publisher: Pick<Publisher, 'publish'>; clock: Clock; logger: Logger }): PublishCommand =>
  async record => {
    let cancel = () => {}
    const late = new Promise<never>((_, reject) => {
      cancel = deps.clock.after(ACKNOWLEDGE_WITHIN_MS, () =>
        reject(new Error(`no acknowledgement within ${ACKNOWLEDGE_WITHIN_MS} ms`)),
      )
    })
    try {
      await Promise.race([deps.publisher.publish(record), late])
    } catch (error) {
      deps.logger.warn({ err: error, id: record.headers.ce_id }, 'command not acknowledged by Kafka')
      throw new ProblemError(
        'SERVICE_UNAVAILABLE',
        'Whether the request arrived is not known. Asking again is safe: it is applied once.',
      )
    } finally {
      cancel()
    }
  }
