import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { Payment } from './sql/payments.ts'

/** Processed concurrently, so that payments without an answer from the provider do not delay the others. */
const BATCH = 20

export type PaymentWorker = { stop: () => Promise<void> }

/**
 * Follows up payments that a request or a callback left unfinished: because its gateway died, the provider sends no
 * callback, or the ledger or Kafka was away. Every gateway runs such a worker. One worker has a payment at a time, and
 * the interval doubles after each look without progress.
 */
export const startPaymentWorker = (deps: {
  logger: Logger
  /** Claims due payments, each for this worker alone for a while. */
  claim: (limit: number) => Promise<Payment[]>
  advancePayment: (payment: Payment) => Promise<void>
  clock: Clock
  pollMs: number
}): PaymentWorker => {
  const { logger, claim, advancePayment, clock, pollMs } = deps

  const lookOnce = async (): Promise<boolean> => {
    const payments = await claim(BATCH)
    await Promise.all(
      payments.map(payment =>
        advancePayment(payment).catch(error => {
          logger.warn(
            { err: error, paymentId: payment.id },
            'a payment could not be looked after; it is later',
          )
        }),
      ),
    )
    return payments.length === BATCH
  }

  return repeat({
    ...{ clock, everyMs: pollMs, work: lookOnce },
    onError: error => logger.warn({ err: error }, 'the payments could not be looked at; trying again'),
  })
}
