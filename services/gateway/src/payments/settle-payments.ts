import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { Payment } from './sql/payments.ts'

/** At once, so that those that the provider does not answer for do not hold up the others. */
const BATCH = 20

export type PaymentWorker = { stop: () => Promise<void> }

/**
 * Looks after payments that a request or a callback has left: because its gateway died, the provider does not call
 * back, or the ledger or Kafka was away. Every gateway has such a worker; one payment is with one worker at a time, and
 * each time that nothing comes of it, it waits twice as long.
 */
export const startPaymentWorker = (deps: {
  logger: Logger
  /** Payments that are due, each for this worker alone for a while. */
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
