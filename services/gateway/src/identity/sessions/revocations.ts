import { randomUUID } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { Redis } from 'ioredis'
import { LRUCache } from 'lru-cache'
import { type EndedSession, readRecentlyEnded, readRecentPinLocks, readSessionEnd } from './sql/sessions.ts'

/** Within so long others' gateways honour what a gateway wrote that died before it told Redis. */
const REPUSH_MS = 1_000
/** How far back the repeated push looks: many times its interval, so that a missed one is made up for. */
const REPUSH_SECONDS = 15
/**
 * What is older is told again as well, in so many parts, one with each push: half a minute later all of it, for as long
 * as a token may be good, even if it was deleted from Redis.
 */
const REPUSH_PARTS = 30
/** What a gateway has told it remembers itself, up to so many: beyond that the next push tells Redis. */
const REMEMBERED = 100_000
/** For so long a gateway's mark outlives it. */
const MARK_SECONDS = 60
/** Beyond an access token's life: it is accepted a little longer, see the clock tolerance of tokens.ts. */
const SPARE_SECONDS = 10

export type Revocations = {
  /** Tells Redis at once of sessions that have ended. Never rejects: what does not get there is pushed again. */
  push: (sessionIds: string[], reason: string) => Promise<void>
  /** Tells Redis at once that a user's PIN was locked. Never rejects: what does not get there is pushed again. */
  pushPinLock: (userId: string) => Promise<void>
  /**
   * Why a session has ended, or null; and when its user's PIN was last locked (milliseconds since 1970), where a step-up
   * token of before may still be good. Rejects where Redis is away, or has not yet been told of what it missed.
   */
  stateOf: (session: {
    userId: string
    sessionId: string
  }) => Promise<{ ended: string | null; pinLockedAt: number | null }>
  /** The same from Postgres: for when Redis is away. */
  storedEndOf: (sessionId: string) => Promise<string | null>
  /** Rejects with the reason while Redis cannot be asked. For readiness. */
  check: () => Promise<void>
  stop: () => Promise<void>
}

/**
 * Redis knows the sessions that ended while an access token of theirs may still be good, and the PINs that were locked
 * while a step-up token may; Postgres stays the truth.
 * After each (re)connection the gateway tells Redis all of them before it believes its answers. A mark of the gateway's,
 * set before it tells and asked for with every session, shows that Redis has lost nothing since: a Redis that comes back
 * empty, or is emptied under an open connection, never lets an ended session pass.
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
      // Not set again while it should be there: that would hide a loss.
      if (caughtUp && (await redis.expire(mark, MARK_SECONDS)) === 0) caughtUp = false
      if (!caughtUp) await redis.set(mark, '1', 'EX', MARK_SECONDS)
      // The older part first: of two locks of one user the later is to stand.
      if (caughtUp) {
        part = (part + 1) % REPUSH_PARTS
        const [ends, locks] = [lifeSeconds / REPUSH_PARTS, lockSeconds / REPUSH_PARTS]
        await write(await readRecentlyEnded(sql, (part + 1) * ends, part * ends))
        await Promise.all((await readRecentPinLocks(sql, (part + 1) * locks, part * locks)).map(writeLock))
      }
      await write(await readRecentlyEnded(sql, caughtUp ? REPUSH_SECONDS : lifeSeconds))
      const locks = await readRecentPinLocks(sql, caughtUp ? REPUSH_SECONDS : lockSeconds)
      await Promise.all(locks.map(writeLock))
      // Only if it is the same connection still: another one may be to another, empty Redis.
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
  // One push at a time: the mark of one must not vouch for what another told before Redis lost it. One that is asked for while
  // another runs, as by a connection that is made in between, follows at once.
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
      // One key that somebody deleted is no loss of what this gateway told.
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
