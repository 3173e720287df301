// By webhook: each endpoint gets its events in order, and one that is dead or slow holds up nobody but itself.
import { notificationIdOf } from '@pennywire/contracts/ids.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import { LRUCache } from 'lru-cache'
import { countTry, startSlots } from '../deliver.ts'
import { mailsOfNotices } from '../notice-mails.ts'
import type { Notice } from '../notices-for.ts'
import type { OpenSecret } from '../open-secret.ts'
import { NotPosted, type PostWebhook, STOPPED } from '../post-webhook.ts'
import { signedHeaders } from '../sign-webhook.ts'
import { expireDeliveries, insertNoticeMails } from '../sql/deliveries.ts'
import { insertNotices } from '../sql/notices.ts'
import {
  type ClaimedEndpoint,
  claimEndpoints,
  disableEndpoint,
  failOfDisabled,
  forgiveIdle,
  type Health,
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
/** Endpoints of each health that are delivered to at the same time, in this instance. */
const AT_ONCE = 128
/** One whose turn lasts longer leaves its slot to another, where not so many do so already. */
const SLOW = { afterMs: 1_000, atOnce: 512 }
/**
 * So many that are not well get one try in so much time, 64 a second: a crowd that falls due together takes neither the
 * database nor the processor from those that are well.
 */
const UNWELL = { atATime: 16, everyMs: 250 }
/** What other instances and gateways made due, or a pause that is over, is found so soon. */
const SWEEP_MS = 900
/** Endpoints with something new that are remembered until they are claimed; a sweep finds those beyond. */
const MAX_WOKEN = 10_000
/** How often what is over is cleared away: expired events, those of disabled endpoints, old failures. */
const CLEAR_MS = 2_000
/** Tries under way when the notifier stops have so long to end. */
const STOP_MS = 2_000
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

export type StartedWebhooks = {
  /** Something new is due to these endpoints. */
  wake: (endpointIds: string[]) => void
  stop: () => Promise<void>
}

/**
 * Delivers to endpoints that are well and to those that are not in slots of their own: however many fail, none of them stands
 * before one that is well. What this instance stored is claimed by the endpoints' ids; a sweep over all finds the rest.
 */
export const startWebhooks = (deps: {
  /**
   * Connections for endpoints that are well, and for those that are not: the statements of so many tries wait for a
   * connection, and neither the others nor what the consumer writes waits behind them.
   */
  sql: Database
  unwellSql: Database
  openSecret: OpenSecret
  post: PostWebhook
  logger: Logger
  clock: Clock
  /** An endpoint that has failed for so long is disabled. */
  disableAfterMs: number
  random?: () => number
}): StartedWebhooks => {
  const { sql, unwellSql, openSecret, post, logger, clock, disableAfterMs, random = Math.random } = deps
  const stopping = new AbortController()
  /** Ends the tries that are under way. */
  const ending = new AbortController()
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

  /** Makes one try and tells its log entry, with the pause that the endpoint asks for; undefined for one that we ended. */
  const attempt = async (
    endpoint: ClaimedEndpoint,
    delivery: WebhookDelivery,
  ): Promise<{ one: Try; isCut: boolean; retryMs: number } | undefined> => {
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
      const { status, answer, isCut, retryAfter } = await post(
        endpoint.url,
        headers,
        delivery.payload,
        ending.signal,
      )
      const error = status >= 200 && status < 300 ? null : `HTTP ${status}`
      return { one: tryOf({ status, error, answer }), isCut, retryMs: retryAfterMs(retryAfter, clock.now()) }
    } catch (error) {
      if (error instanceof NotPosted && error.code === STOPPED) return undefined
      const code = error instanceof NotPosted ? error.code : ((error as Error).name ?? 'Error')
      return { one: tryOf({ status: null, error: code, answer: null }), isCut: false, retryMs: 0 }
    }
  }

  const disable = async (db: Database, endpoint: ClaimedEndpoint, reason: string): Promise<void> => {
    const { id, ownerId } = endpoint
    const why = reason === `HTTP ${GONE}` ? 'gone' : 'failing'
    const disabled = await disableEndpoint(db, endpoint, why, async tx => {
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

  /**
   * Delivers what is due to an endpoint, in order, until something fails, nothing is left, or its turn is over: after one try
   * where it is not well.
   */
  const deliverTo = async (health: Health, db: Database, endpoint: ClaimedEndpoint): Promise<void> => {
    const began = clock.elapsed()
    while (!stopping.signal.aborted) {
      // The next turn begins where this one ends, behind those that wait.
      if (clock.elapsed() - began >= TURN_MS) {
        missed.add(endpoint.id)
        break
      }
      const delivery = await takeNext(db, endpoint)
      if (!delivery) break
      const tried = await attempt(endpoint, delivery)
      if (!tried) break
      const { one, isCut, retryMs } = tried
      if (one.error === null) {
        countTry(NAME, 'sent')
        await markDelivered(db, endpoint, delivery.id, one, isCut)
        endpoint.failures = 0
        endpoint.failingMs = null
        if (health === 'well') continue
        // It is well now, and goes on among those that are.
        if (!isCut) missed.add(endpoint.id)
        break
      }
      countTry(NAME, 'postponed')
      logger.warn(
        { channel: NAME, endpointId: endpoint.id, id: delivery.id, code: one.error },
        'not delivered',
      )
      const alone = one.status !== null && REFUSES_THE_EVENT.includes(one.status)
      const failures = alone ? delivery.attempts : endpoint.failures + 1
      const pauseMs = Math.max(pauseAfter(failures, random), retryMs)
      const tooLong = (endpoint.failingMs ?? 0) > disableAfterMs
      const ends = one.status === GONE || tooLong
      if (alone || ends) await postponeAlone(db, endpoint, delivery.id, one, pauseMs)
      if (ends) return disable(db, endpoint, one.error)
      if (!alone) return postponeEndpoint(db, endpoint, delivery.id, one, pauseMs)
      if (health === 'unwell') break
    }
    await releaseEndpoint(db, endpoint)
  }

  /** Endpoints in a turn of this instance, and those of them that got something new meanwhile. */
  const held = new Set<string>()
  const missed = new Set<string>()

  const startPool = (health: Health, db: Database) => {
    const woken = new Set<string>()
    let sweptAt = Number.NEGATIVE_INFINITY
    const isWell = health === 'well'
    const slots = startSlots({
      ...{ name: NAME, atOnce: AT_ONCE, slow: SLOW, logger, clock },
      ...(isWell ? {} : { pollMs: UNWELL.everyMs }),
      claim: async free => {
        const limit = isWell ? free : Math.min(free, UNWELL.atATime)
        const ids = [...woken].slice(0, limit)
        for (const id of ids) woken.delete(id)
        if (woken.size > 0 && isWell) slots.wake()
        const fresh =
          ids.length > 0 ? await claimEndpoints(db, { health, limit, claimMs: CLAIM_MS, ids }) : []
        // What is new does not wait behind what a sweep finds.
        if (fresh.length === limit || (isWell && clock.elapsed() - sweptAt < SWEEP_MS)) return fresh
        sweptAt = clock.elapsed()
        const rest = await claimEndpoints(db, { health, limit: limit - fresh.length, claimMs: CLAIM_MS })
        return [...fresh, ...rest]
      },
      work: async (endpoint: ClaimedEndpoint) => {
        held.add(endpoint.id)
        try {
          await deliverTo(health, db, endpoint)
        } finally {
          held.delete(endpoint.id)
          if (missed.delete(endpoint.id)) wake([endpoint.id])
        }
      },
    })
    return {
      stop: slots.stop,
      wake: (ids: string[]) => {
        for (const id of ids) if (woken.size < MAX_WOKEN) woken.add(id)
        if (isWell) slots.wake()
      },
    }
  }
  const wake = (endpointIds: string[]) => {
    const free = endpointIds.filter(id => !held.has(id))
    for (const id of endpointIds) if (held.has(id)) missed.add(id)
    if (free.length > 0) for (const pool of pools) pool.wake(free)
  }
  const pools = [startPool('well', sql), startPool('unwell', unwellSql)]
  const clearing = repeat({
    ...{ clock, everyMs: CLEAR_MS },
    work: async () => {
      countTry(NAME, 'expired', await expireDeliveries(unwellSql, NAME))
      await failOfDisabled(unwellSql)
      await forgiveIdle(unwellSql)
    },
    onError: error =>
      logger.warn({ channel: NAME, err: error }, 'what is over was not cleared; trying again'),
  })
  return {
    wake,
    // A try that is under way may end; one that lasts is made again, under the same id.
    stop: async () => {
      stopping.abort()
      const cancel = clock.after(STOP_MS, () => ending.abort())
      await Promise.all([clearing.stop(), ...pools.map(({ stop }) => stop())])
      cancel()
    },
  }
}
