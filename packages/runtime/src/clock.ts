/** Time as a dependency: code that waits or compares times can run in a simulator, or in a test that does not wait. */
export type Clock = {
  /** Milliseconds since 1970: for times that are shown or stored. It may step back. */
  now: () => number
  /** Milliseconds since some moment: for durations. It never steps back. */
  elapsed: () => number
  /** Runs `action` after `ms`; the returned function cancels it. */
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

/** Resolves after `ms`, or as soon as the signal is aborted. */
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
