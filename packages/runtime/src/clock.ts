/** Time as a dependency: code that waits or compares times can be run by a simulator, or by a test that does not wait. */
export type Clock = {
  /** Milliseconds since 1970: for times that are told or stored. It may step back. */
  now: () => number
  /** Milliseconds since some moment: for durations. It never steps back. */
  elapsed: () => number
  /** Does something later; the returned function calls it off. */
  after: (ms: number, action: () => void) => () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after: (ms, action) => {
    const timer = setTimeout(action, ms)
    return () => clearTimeout(timer)
  },
}

/** Resolves after `ms`, or as soon as the signal is given. */
export const sleep = (clock: Clock, ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal?.aborted) return resolve()
    const wake = () => {
      cancel()
      signal?.removeEventListener('abort', wake)
      resolve()
    }
    const cancel = clock.after(ms, wake)
    signal?.addEventListener('abort', wake, { once: true })
  })
