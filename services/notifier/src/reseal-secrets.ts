import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { gauge } from '@pennywire/runtime/metrics.ts'
import { type Repeated, repeat } from '@pennywire/runtime/repeat.ts'
import type { Reseal } from './open-secret.ts'
import { type EndpointSecrets, readSecrets, replaceSecrets, type SealedSecret } from './sql/webhooks.ts'

const PAGE = 200
/** While the key is being changed, gateways go on sealing under the old one until they have the new one. */
const EVERY_MS = 10 * 60_000
const FIRST_RETRY_MS = 5_000

const underOldKeys = gauge(
  'notifier_webhook_secrets_under_old_keys',
  'Secrets of webhooks that are not under the current key, after the last round',
)

/** How many secrets of webhooks were sealed under the current key, and how many could not be. */
export type Resealed = { resealed: number; left: number }

/**
 * Seals the secrets of webhooks under the notifier's current key where another one sealed them, so that the other may be
 * removed. Any number of notifiers may do so at once; a secret that its owner changes meanwhile is left to the next round.
 */
export const resealSecrets = async (deps: {
  sql: Database
  reseal: Reseal
  logger: Logger
  signal?: AbortSignal
}): Promise<Resealed> => {
  const { sql, reseal, logger, signal } = deps
  const total = { resealed: 0, left: 0 }

  const resealOne = async ({ id, secrets }: EndpointSecrets): Promise<void> => {
    let made = 0
    let lost = 0
    const to: SealedSecret[] = []
    for (const one of secrets) {
      try {
        const secret = await reseal(one.secret)
        if (secret !== undefined) made++
        to.push(secret === undefined ? one : { ...one, secret })
      } catch (error) {
        // Made for a key that is not here. The others of the endpoint are sealed anew all the same.
        lost++
        to.push(one)
        logger.error({ endpointId: id, code: (error as { code?: string }).code }, 'no key opens this secret')
      }
    }
    const replaced = made > 0 && (await replaceSecrets(sql, id, { from: secrets, to }))
    total.resealed += replaced ? made : 0
    total.left += lost + (replaced ? 0 : made)
  }

  for (let after: string | undefined; signal?.aborted !== true; ) {
    const page = await readSecrets(sql, { after, limit: PAGE })
    if (page.length === 0) break
    for (const endpoint of page) await resealOne(endpoint)
    after = page.at(-1)!.id
  }
  return total
}

/** Reseals at the start, and every ten minutes from then on. */
export const startResealing = (deps: {
  sql: Database
  reseal: Reseal
  logger: Logger
  clock: Clock
}): Repeated =>
  repeat({
    clock: deps.clock,
    everyMs: EVERY_MS,
    retryMs: FIRST_RETRY_MS,
    lastRetryMs: EVERY_MS,
    work: async signal => {
      const { resealed, left } = await resealSecrets({ ...deps, signal })
      underOldKeys.set(left)
      if (resealed > 0)
        deps.logger.info({ resealed, left }, 'secrets of webhooks are under the current key now')
    },
    onError: (error, retryMs) =>
      deps.logger.warn({ err: error, retryMs }, 'secrets of webhooks were not sealed anew; trying again'),
  })
