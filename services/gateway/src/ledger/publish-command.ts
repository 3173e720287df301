import type { Publisher } from '@pennywire/kafka/publisher.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { ProblemError } from '../problems/problem.ts'

/** Resolves once Kafka has the command; throws 503 where that is not known in time. It may still be there. */
export type PublishCommand = (record: OutgoingRecord) => Promise<void>

const ACKNOWLEDGE_WITHIN_MS = 5_000

/** For commands that may be repeated at will: the client asks again, and the ledger knows the id. */
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
