import { type Clock, sleep } from './clock.ts'

export type Repeated = {
  /** Ends the pause between two rounds, or skips the next one. */
  wake: () => void
  /** Resolves once the running round is over. */
  stop: () => Promise<void>
}

/**
 * The loop of every worker: a round of work, a pause, the next round. A failed round is reported to `onError`, and the
 * next begins after a pause that `wake` does not end: a worker woken by each request must not press a server that is
 * away.
 *
 * ```ts
 * const purging = repeat({
 *   clock,
 *   everyMs: 60_000,
 *   work: async signal => (await purgeSome(signal)) === 'more',
 *   onError: error => logger.warn({ err: error }, 'old rows were not purged; trying again'),
 * })
 * await purging.stop()
 * ```
 */
export const repeat = (options: {
  clock: Clock
  /** The pause; a function is called after each round. */
  everyMs: number | (() => number)
  /** Begins with a pause. */
  pauseFirst?: boolean
  /** The pause after a failed round, by default `everyMs`. It doubles with each further failure up to `lastRetryMs`. */
  retryMs?: number
  lastRetryMs?: number
  /** One round. Resolves with true if there is more to do: the next round begins at once. */
  work: (signal: AbortSignal) => Promise<boolean | undefined> | Promise<void>
  /** Not called for failures that `stop` causes. */
  onError: (error: unknown, retryMs: number) => void
}): Repeated => {
  const { clock, work, onError } = options
  const stopped = new AbortController()
  const { signal } = stopped
  let woken = false
  let endPause = () => {}

  const pauseMs = () => (typeof options.everyMs === 'number' ? options.everyMs : options.everyMs())
  const pause = async () => {
    if (woken || signal.aborted) return
    const ended = new AbortController()
    endPause = () => ended.abort()
    await sleep(clock, pauseMs(), ended.signal)
  }

  const working = (async () => {
    if (options.pauseFirst) await pause()
    let failures = 0
    while (!signal.aborted) {
      woken = false
      try {
        const more = await work(signal)
        failures = 0
        if (more !== true) await pause()
      } catch (error) {
        if (signal.aborted) return
        const { retryMs = pauseMs(), lastRetryMs = retryMs } = options
        const waitMs = Math.min(retryMs * 2 ** failures++, lastRetryMs)
        onError(error, waitMs)
        await sleep(clock, waitMs, signal)
      }
    }
  })()

  return {
    wake: () => {
      woken = true
      endPause()
    },
    stop: async () => {
      stopped.abort()
      endPause()
      await working
    },
  }
}
