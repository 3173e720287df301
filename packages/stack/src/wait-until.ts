import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Polls `condition` until it returns a value, and returns that value; false, undefined or an error mean "not yet".
 * Throws after `deadlineMs` with the last error, or at once if `gaveUp` returns a reason.
 */
export const waitUntil = async <Found>(
  what: string,
  condition: () => Promise<Found | false | undefined>,
  { deadlineMs, gaveUp }: { deadlineMs: number; gaveUp?: () => string | undefined },
): Promise<Found> => {
  const end = performance.now() + deadlineMs
  for (;;) {
    let last: unknown
    const met = await condition().catch(error => {
      last = error
      return undefined
    })
    if (met !== undefined && met !== false) return met
    const reason = gaveUp?.()
    if (reason) throw new Error(reason)
    if (performance.now() > end) {
      const seen = last instanceof Error ? ` (last error: ${last.message})` : ''
      throw new Error(`${what}: not there after ${deadlineMs / 1000} s${seen}`)
    }
    await sleep(50)
  }
}
