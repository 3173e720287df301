import { counter } from '@pennywire/runtime/metrics.ts'
import * as threads from '@pennywire/runtime/worker-pool.ts'
import { ProblemError } from '../problems/problem.ts'

export type { WorkerPool } from '@pennywire/runtime/worker-pool.ts'
export type WorkerPoolOptions = Omit<threads.WorkerPoolOptions, 'refusal'>

const refusals = counter(
  'gateway_worker_refusals_total',
  'Work that a pool of worker threads refused, by pool and reason (busy, subject, timeout)',
  ['pool', 'reason'],
)

const HUNG_UP = 'The client has hung up.'

/** A pool of threads whose refusals are answers: 429 for too much of one subject, else 503. */
export const createWorkerPool = <Input, Output>(
  options: WorkerPoolOptions,
): threads.WorkerPool<Input, Output> => {
  const { name, maxPerSubject } = options
  return threads.createWorkerPool({
    ...options,
    refusal: reason => {
      if (reason === 'gone') return new ProblemError('SERVICE_UNAVAILABLE', HUNG_UP)
      refusals.inc({ pool: name, reason })
      if (reason === 'subject') {
        const detail = `At most ${maxPerSubject} of your requests for ${name} at a time; wait for the one before.`
        return new ProblemError('RATE_LIMIT_EXCEEDED', detail, {}, { 'retry-after': '1' })
      }
      const detail =
        reason === 'busy' ? `Too many requests for ${name} wait; try again.` : `The ${name} took too long.`
      return new ProblemError('SERVICE_UNAVAILABLE', detail)
    },
  })
}
