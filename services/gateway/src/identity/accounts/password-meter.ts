import { Worker } from 'node:worker_threads'
import { type Clock, systemClock } from '@pennywire/runtime/clock.ts'
import { ProblemError } from '../../problems/problem.ts'
import { createFairQueue, NotServed } from '../../queues/fair-queue.ts'
import { currentPlace } from '../../queues/request-scope.ts'
import type { MeterAnswer, MeterQuestion } from './password-meter-worker.ts'

/** Only the beginning is checked: it shows a long password's strength, and check time grows faster than the length. */
const LOOKED_AT = 40
/** A name and an address contain fewer words; more only cost time. */
const KNOWN_WORDS_MAX = 10
const KNOWN_WORD_LENGTH_MAX = 30
/** The worst input takes a tenth of a second of one core; a thread that exceeds this timeout is terminated. */
const CHECK_WITHIN_MS = 5_000
const START_WITHIN_MS = 60_000
const QUEUE = { atOnce: 1, maxWaiting: 30, maxPerPath: 5, maxWaitMs: 5_000 }
const WORKER_MEMORY_MB = 128

export type PasswordMeter = {
  /**
   * Whether an attacker guesses the password among the first; `about` contains texts that an attacker has as well, such
   * as the person's name and address. Throws SERVICE_UNAVAILABLE if too many passwords are being checked.
   */
  isGuessedFirst: (password: string, about: string[]) => Promise<boolean>
  stop: () => Promise<void>
}

/** The lower-case words of these texts that a password may contain. */
const knownWords = (texts: string[]): string[] => {
  const words = texts.flatMap(text => {
    const parts = text.toLowerCase().split(/[^\p{L}\p{Nd}]+/u)
    return [...parts, parts.slice(0, 2).join(''), text.toLowerCase().split('@')[0]!]
  })
  const long = words.filter(word => word.length > 2 && word.length <= KNOWN_WORD_LENGTH_MAX)
  return [...new Set(['pennywire', ...long])].slice(0, KNOWN_WORDS_MAX)
}

const busy = () =>
  new ProblemError('SERVICE_UNAVAILABLE', 'password: too many are being checked now; try again shortly.')

/**
 * Checks new passwords in a thread of its own, one at a time, with a bounded fair queue before it: no
 * input blocks the main thread.
 */
export const createPasswordMeter = (clock: Clock = systemClock): PasswordMeter => {
  const queue = createFairQueue({ ...QUEUE, clock })

  let worker: Worker | undefined
  /** Starts the thread on the first question: loading the dictionaries takes a second, and many processes ask none. */
  const start = async (): Promise<Worker> => {
    const started = new Worker(new URL('./password-meter-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: WORKER_MEMORY_MB },
    })
    worker = started
    // The process may end while the thread is idle.
    started.unref()
    // Without a listener an error of the thread would end the process; `hear` rejects on `exit`.
    started.on('error', () => {})
    started.once('exit', () => {
      if (worker === started) worker = undefined
    })
    await hear(started, START_WITHIN_MS)
    return started
  }

  /** Resolves with the thread's next message. A thread that sends none within `withinMs` is terminated. */
  const hear = (from: Worker, withinMs: number): Promise<MeterAnswer> =>
    new Promise((resolve, reject) => {
      const settle = () => {
        cancel()
        from.off('message', onMessage).off('exit', onExit)
      }
      const onMessage = (message: MeterAnswer) => {
        settle()
        resolve(message)
      }
      const onExit = () => {
        settle()
        reject(busy())
      }
      const cancel = clock.after(withinMs, () => void from.terminate())
      from.once('message', onMessage).once('exit', onExit)
    })

  const ask = async (question: MeterQuestion): Promise<MeterAnswer> => {
    const running = worker ?? (await start())
    const answer = hear(running, CHECK_WITHIN_MS)
    running.postMessage(question)
    return answer
  }

  return {
    isGuessedFirst: async (password, texts) => {
      const letters = [...password.normalize('NFKC')]
      const question = {
        password: letters.slice(0, LOOKED_AT).join(''),
        unread: Math.max(0, letters.length - LOOKED_AT),
        about: knownWords(texts),
      }
      try {
        return (await queue.run(currentPlace(), () => ask(question))).isGuessedFirst
      } catch (error) {
        throw error instanceof NotServed ? busy() : error
      }
    },
    stop: async () => {
      await worker?.terminate()
    },
  }
}
