import { setTimeout as sleep } from 'node:timers/promises'

/**
 * Asks again and again until `condition` answers true; an error counts as "not yet". Throws after `deadlineMs`
 * with the last error, or at once when `gaveUp` answers with a reason.
 */
export const waitUntil = async (
  what: string,
  condition: () => Promise<boolean>,
  { deadlineMs, gaveUp }: { deadlineMs: number; gaveUp?: () => string | undefined },
): Promise<void> => {
  const end = Date.now() + deadlineMs
  for (;;) {
    let last: unknown
    const met = await condition().catch(error => {
      last = error
      return false
    })
    if (met) return
    const reason = gaveUp?.()
    if (reason) throw new Error(reason)
    if (Date.now() > end) {
      const seen = last instanceof Error ? ` (last error: ${last.message})` : ''
      throw new Error(`${what}: not there after ${deadlineMs / 1000} s${seen}`)
    }
    await sleep(50)
  }
}
