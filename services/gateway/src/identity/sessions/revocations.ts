import { randomUUID } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { Redis } from 'ioredis'
import { LRUCache } from 'lru-cache'
import { type EndedSession, readRecentlyEnded, readRecentPinLocks, readSessionEnd } from './sql/sessions.ts'

/** Push interval: bounds how long other gateways accept an ended session if its gateway crashes before the push. */
const REPUSH_MS = 1_000
/** Lookback of each repeated push: many times the interval, so that later pushes make up for a missed one. */
const REPUSH_SECONDS = 15
/**
 * Older revocations are pushed again as well, in this many parts, one per push: after half a minute Redis stores all
 * whose tokens may still be valid, even if their keys were deleted from Redis.
 */
const REPUSH_PARTS = 30
/** A gateway caches this many of its own pushes; beyond them a key deleted from Redis returns with a later push. */
const REMEMBERED = 100_000
/** A gateway's mark outlives the gateway by this time. */
const MARK_SECONDS = 60
/** Added to token lifetimes, because the clock tolerance of tokens.ts accepts tokens a little longer. */
const SPARE_SECONDS = 10

export type Revocations = {
  /** Writes ended sessions to Redis at once. Never rejects: entries of a failed write are pushed again. */
  push: (sessionIds: string[], reason: string) => Promise<void>
  /** Writes a user's PIN lock to Redis at once. Never rejects: an entry of a failed write is pushed again. */
  pushPinLock: (userId: string) => Promise<void>
  /**
   * The session's end reason or null, and the time of its user's last PIN lock (milliseconds since 1970) while an older
   * step-up token may still be valid. Rejects if Redis is unavailable or some revocations are not pushed yet.
   */
  stateOf: (session: {
    userId: string
    sessionId: string
  }) => Promise<{ ended: string | null; pinLockedAt: number | null }>
  /** The session's end reason from Postgres, for when Redis is unavailable. */
  storedEndOf: (sessionId: string) => Promise<string | null>
  /** Rejects with the reason while Redis is unavailable or not caught up. For readiness. */
  check: () => Promise<void>
  stop: () => Promise<void>
}

/**
 * Redis stores ended sessions while their access tokens may still be valid, and PIN locks while older step-up tokens
 * may; Postgres is the source of truth. After each (re)connection the gateway writes all of them to Redis before it
 * trusts Redis's answers. The gateway's mark, set before this push and read with every session, shows that Redis has
 * lost nothing since: a Redis that restarts empty, or is flushed under an open connection, lets no ended session pass.
 */
export const createRevocations = (deps: {
  sql: Database
  redis: Redis
  logger: Logger
  accessTokenSeconds: number
  stepUpSeconds: number
  clock: Clock
}): Revocations => {
  const { sql, redis, logger } = deps
  const lifeSeconds = deps.accessTokenSeconds + SPARE_SECONDS
  const lockSeconds = deps.stepUpSeconds + SPARE_SECONDS
  const mark = `sessions-told:${randomUUID()}`
  let caughtUp = false
  let connection = 0
  let part = 0
  const toldEnds = new LRUCache<string, string>({ max: REMEMBERED, ttl: lifeSeconds * 1_000 })
  const toldLocks = new LRUCache<string, number>({ max: REMEMBERED, ttl: lockSeconds * 1_000 })

  const keyOf = (sessionId: string) => `session-ended:${sessionId}`
  const write = (ended: EndedSession[]) => {
    for (const { id, reason } of ended) toldEnds.set(id, reason)
    return Promise.all(ended.map(({ id, reason }) => redis.set(keyOf(id), reason, 'EX', lifeSeconds)))
  }

  const lockKeyOf = (userId: string) => `pin-locked:${userId}`
  const writeLock = ({ userId, lockedAt }: { userId: string; lockedAt: Date }) => {
    toldLocks.set(userId, Math.max(toldLocks.get(userId) ?? 0, lockedAt.getTime()))
    return redis.set(lockKeyOf(userId), lockedAt.getTime(), 'EX', lockSeconds)
  }

  const pushRecent = async () => {
    const mine = connection
    if (redis.status !== 'ready') return
    try {
      // Only extend the mark while caught up: setting it again would hide a loss.
      if (caughtUp && (await redis.expire(mark, MARK_SECONDS)) === 0) caughtUp = false
      if (!caughtUp) await redis.set(mark, '1', 'EX', MARK_SECONDS)
      // Write the older part first: of two locks of one user, the later one must remain.
      if (caughtUp) {
        part = (part + 1) % REPUSH_PARTS
        const [ends, locks] = [lifeSeconds / REPUSH_PARTS, lockSeconds / REPUSH_PARTS]
        await write(await readRecentlyEnded(sql, (part + 1) * ends, part * ends))
        await Promise.all((await readRecentPinLocks(sql, (part + 1) * locks, part * locks)).map(writeLock))
      }
      await write(await readRecentlyEnded(sql, caughtUp ? REPUSH_SECONDS : lifeSeconds))
      const locks = await readRecentPinLocks(sql, caughtUp ? REPUSH_SECONDS : lockSeconds)
      await Promise.all(locks.map(writeLock))
      // Only if the connection is still the same: a new one may lead to another, empty Redis.
      if (mine === connection && redis.status === 'ready') caughtUp = true
    } catch (error) {
      caughtUp = false
      logger.warn({ err: error }, 'revocations not pushed; trying again')
    }
  }

  const assertCaughtUp = () => {
    if (!caughtUp) throw new Error('redis is away, or not yet told of the sessions that ended')
  }

  redis.on('close', () => {
    connection++
    caughtUp = false
  })
  // One push at a time: the mark of one push must not vouch for entries that another push wrote before Redis lost them.
  // A push requested while another runs, such as by a reconnect, follows at once.
  const repush = repeat({
    ...{ clock: deps.clock, everyMs: REPUSH_MS, work: pushRecent },
    onError: error => logger.warn({ err: error }, 'revocations not pushed; trying again'),
  })
  redis.on('ready', repush.wake)

  return {
    push: async (sessionIds, reason) => {
      try {
        await write(sessionIds.map(id => ({ id, reason })))
      } catch (error) {
        caughtUp = false
        logger.warn({ err: error }, 'revocations not pushed; trying again')
      }
    },
    pushPinLock: async userId => {
      try {
        await writeLock({ userId, lockedAt: new Date() })
      } catch (error) {
        caughtUp = false
        logger.warn({ err: error }, 'a lock of a PIN was not pushed; trying again')
      }
    },
    stateOf: async ({ userId, sessionId }) => {
      assertCaughtUp()
      const [ended, marked, lockedAt] = await redis.mget(keyOf(sessionId), mark, lockKeyOf(userId))
      if (!marked) {
        caughtUp = false
        repush.wake()
        assertCaughtUp()
      }
      // A single deleted key does not affect the mark: fall back to the entries that this gateway pushed.
      const lock = Math.max(Number(lockedAt ?? 0), toldLocks.get(userId) ?? 0)
      return { ended: ended ?? toldEnds.get(sessionId) ?? null, pinLockedAt: lock > 0 ? lock : null }
    },
    storedEndOf: sessionId => readSessionEnd(sql, sessionId),
    check: async () => {
      await redis.ping()
      assertCaughtUp()
    },
    stop: () => {
      redis.off('ready', repush.wake)
      return repush.stop()
    },
  }
}
