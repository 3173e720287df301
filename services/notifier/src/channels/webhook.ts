// By webhook: each endpoint gets its events in order, and one that is dead or slow holds up nobody but itself.
import { notificationIdOf } from '@pennywire/contracts/ids.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Repeated } from '@pennywire/runtime/repeat.ts'
import { LRUCache } from 'lru-cache'
import { countTry, startSlots } from '../deliver.ts'
import { mailsOfNotices } from '../notice-mails.ts'
import type { Notice } from '../notices-for.ts'
import type { OpenSecret } from '../open-secret.ts'
import { NotPosted, type PostWebhook } from '../post-webhook.ts'
import { signedHeaders } from '../sign-webhook.ts'
import { expireDeliveries, insertNoticeMails } from '../sql/deliveries.ts'
import { insertNotices } from '../sql/notices.ts'
import {
  type ClaimedEndpoint,
  claimEndpoints,
  disableEndpoint,
  failOfDisabled,
  forgiveIdle,
  markDelivered,
  postponeAlone,
  postponeEndpoint,
  releaseEndpoint,
  type SealedSecret,
  type Try,
  takeNext,
  type WebhookDelivery,
} from '../sql/webhooks.ts'

const NAME = 'webhook'
/** Endpoints that are delivered to at the same time, in this instance. */
const AT_ONCE = 128
/** An endpoint is given back after so long, so that all get their turn. */
const TURN_MS = 20_000
/** Longer than a turn and the last try in it. */
const CLAIM_MS = 60_000
const FIRST_PAUSE_MS = 5_000
const LAST_PAUSE_MS = 4 * 60 * 60_000
/** The most that an endpoint's Retry-After may ask for. */
const MOST_RETRY_AFTER_MS = 60 * 60_000
/** What these mean is the event's fault, not the endpoint's: 400, 409, 413, 415, 422. */
const REFUSES_THE_EVENT: readonly number[] = [400, 409, 413, 415, 422]
const GONE = 410

/** After so many failures in a row; doubled each time, and a fifth more or less, so that not all come back at once. */
const pauseAfter = (failures: number, random: () => number): number =>
  Math.min(FIRST_PAUSE_MS * 2 ** (failures - 1), LAST_PAUSE_MS) * (0.8 + 0.4 * random())

/** Milliseconds that a Retry-After header asks for: seconds, or a date (RFC 9110, 10.2.3). */
export const retryAfterMs = (header: string | undefined, now: number): number => {
  if (header === undefined) return 0
  const ms = /^\d{1,9}$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - now
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), MOST_RETRY_AFTER_MS)
}

export const startWebhooks = (deps: {
  sql: Database
  openSecret: OpenSecret
  post: PostWebhook
  logger: Logger
  clock: Clock
  /** An endpoint that has failed for so long is disabled. */
  disableAfterMs: number
  random?: () => number
}): Repeated => {
  const { sql, openSecret, post, logger, clock, disableAfterMs, random = Math.random } = deps
  let stopping = false
  const opened = new LRUCache<string, string>({ max: 10_000 })

  const secretsOf = async (sealed: SealedSecret[]): Promise<string[]> => {
    const now = clock.now()
    const inForce = sealed.filter(({ expiresAt }) => expiresAt === null || Date.parse(expiresAt) > now)
    return Promise.all(
      inForce.map(async ({ secret }) => {
        const known = opened.get(secret)
        if (known !== undefined) return known
        const open = String(((await openSecret(secret)) as { secret: unknown }).secret)
        opened.set(secret, open)
        return open
      }),
    )
  }

  /** Makes one try and tells its log entry, with the pause that the endpoint asks for. */
  const attempt = async (
    endpoint: ClaimedEndpoint,
    delivery: WebhookDelivery,
  ): Promise<{ one: Try; retryMs: number }> => {
    const [at, began] = [clock.now(), clock.elapsed()]
    const tryOf = (result: Pick<Try, 'status' | 'error' | 'answer'>): Try => ({
      ...{ at: new Date(at).toISOString(), ms: Math.round(clock.elapsed() - began) },
      ...result,
    })
    // A secret that this notifier cannot open is no fault of the endpoint: it waits until the claim runs out.
    const headers = signedHeaders(await secretsOf(endpoint.secrets), {
      ...{ id: delivery.id, atSeconds: Math.floor(at / 1_000), body: delivery.payload },
    })
    try {
      const { status, answer, retryAfter } = await post(endpoint.url, headers, delivery.payload)
      const error = status >= 200 && status < 300 ? null : `HTTP ${status}`
      return { one: tryOf({ status, error, answer }), retryMs: retryAfterMs(retryAfter, clock.now()) }
    } catch (error) {
      const code = error instanceof NotPosted ? error.code : ((error as Error).name ?? 'Error')
      return { one: tryOf({ status: null, error: code, answer: null }), retryMs: 0 }
    }
  }

  const disable = async (endpoint: ClaimedEndpoint, reason: string): Promise<void> => {
    const { id, ownerId } = endpoint
    const disabled = await disableEndpoint(sql, endpoint, async tx => {
      if (ownerId === null) return
      const type = 'webhook_disabled'
      const createdAt = clock.now()
      const told: Notice[] = [
        {
          id: notificationIdOf(`${id}:${createdAt}`, ownerId, type),
          ...{ userId: ownerId, type, data: { url: new URL(endpoint.url).host }, aboutUserId: null },
          ...{ transferId: null, createdAt },
        },
      ]
      await insertNotices(tx, told)
      await insertNoticeMails(tx, mailsOfNotices(told))
    })
    if (disabled) logger.error({ channel: NAME, endpointId: id, reason }, 'webhook endpoint disabled')
  }

  /** Delivers what is due to an endpoint, in order, until something fails, nothing is left, or its turn is over. */
  const deliverTo = async (endpoint: ClaimedEndpoint): Promise<void> => {
    const began = clock.elapsed()
    while (!stopping && clock.elapsed() - began < TURN_MS) {
      const delivery = await takeNext(sql, endpoint)
      if (!delivery) break
      const { one, retryMs } = await attempt(endpoint, delivery)
      if (one.error === null) {
        countTry(NAME, 'sent')
        await markDelivered(sql, endpoint, delivery.id, one)
        endpoint.failures = 0
        endpoint.failingMs = null
        continue
      }
      countTry(NAME, 'postponed')
      logger.warn(
        { channel: NAME, endpointId: endpoint.id, id: delivery.id, code: one.error },
        'not delivered',
      )
      const alone = one.status !== null && REFUSES_THE_EVENT.includes(one.status)
      const failures = alone ? delivery.attempts : endpoint.failures + 1
      const pauseMs = Math.max(pauseAfter(failures, random), retryMs)
      await (alone ? postponeAlone : postponeEndpoint)(sql, endpoint, delivery.id, one, pauseMs)
      const tooLong = (endpoint.failingMs ?? 0) > disableAfterMs
      if (one.status === GONE || tooLong) return disable(endpoint, one.error)
      if (!alone) break
    }
    await releaseEndpoint(sql, endpoint)
  }

  const slots = startSlots({
    ...{ name: NAME, atOnce: AT_ONCE, logger, clock },
    claim: async limit => {
      countTry(NAME, 'expired', await expireDeliveries(sql, NAME))
      await failOfDisabled(sql)
      await forgiveIdle(sql)
      return claimEndpoints(sql, limit, CLAIM_MS)
    },
    work: deliverTo,
  })
  return {
    wake: slots.wake,
    // A turn ends after the try that is under way.
    stop: () => {
      stopping = true
      return slots.stop()
    },
  }
}
