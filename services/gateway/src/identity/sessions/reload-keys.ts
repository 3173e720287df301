import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { JwtKey } from './tokens.ts'

/**
 * Re-reads the signing keys periodically, so that all gateways with one file follow a rotation without a restart. An
 * unusable file changes nothing: the current keys stay.
 */
export const startReloadingKeys = (deps: {
  read: () => JwtKey[]
  use: (keys: JwtKey[]) => Promise<void>
  everyMs: number
  clock: Clock
  logger: Logger
}): { stop: () => Promise<void> } => {
  const { read, use, everyMs, clock, logger } = deps
  let known = JSON.stringify(read())

  const reload = async () => {
    const keys = read()
    const text = JSON.stringify(keys)
    if (text === known) return
    await use(keys)
    known = text
    logger.warn({ kids: keys.map(({ kid }) => kid) }, 'JWT_KEY_FILE: the keys have changed')
  }

  return repeat({
    ...{ clock, everyMs, pauseFirst: true, work: reload },
    // The error message names the violated rule and never contains the file's content.
    onError: error =>
      logger.error({ reason: (error as Error).message }, 'JWT_KEY_FILE cannot be used; the keys stay'),
  })
}
