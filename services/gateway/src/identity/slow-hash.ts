import { counter } from '@pennywire/runtime/metrics.ts'
import bcrypt from 'bcrypt'
import { ProblemError } from '../problems.ts'

const hashes = counter(
  'gateway_slow_hashes_total',
  'bcrypt hashes that were made or compared, by what was hashed; a payment with a step-up token adds none',
  ['of'],
)
const refusals = counter(
  'gateway_slow_hashes_refused_total',
  'Requests that were refused because too many waited to be hashed',
  ['of'],
)

export type SlowHash = {
  hash: (text: string) => Promise<string>
  matches: (text: string, hash: string) => Promise<boolean>
}

/**
 * bcrypt in its thread pool, a few at once and a bounded queue behind them: each takes a core for a quarter of a
 * second, and guessing must not starve what the pool does for everybody else (signatures, name look-ups). When the
 * queue is full the request is refused at once (503). The text must be at most 72 bytes, where bcrypt stops reading.
 */
export const createSlowHash = (options: {
  of: 'pin' | 'password'
  cost: number
  atOnce: number
  maxWaiting: number
}): SlowHash => {
  const { of } = options
  const waiting: Array<() => void> = []
  let running = 0

  const inTurn = async <Result>(work: () => Promise<Result>): Promise<Result> => {
    if (running >= options.atOnce) {
      if (waiting.length >= options.maxWaiting) {
        refusals.inc({ of })
        throw new ProblemError(
          'SERVICE_UNAVAILABLE',
          'Too many sign-ins or PIN checks at once; try again shortly.',
        )
      }
      await new Promise<void>(resolve => waiting.push(resolve))
    } else {
      running++
    }
    try {
      hashes.inc({ of })
      return await work()
    } finally {
      // The turn passes on as it is, so that nobody who comes now overtakes the queue.
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }

  return {
    hash: text => inTurn(() => bcrypt.hash(text, options.cost)),
    matches: (text, hash) => inTurn(() => bcrypt.compare(text, hash)),
  }
}
