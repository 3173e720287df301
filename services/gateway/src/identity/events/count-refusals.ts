import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'

/** A refused request of a route that guards money or is for staff, of which no record tells. */
export type Refusal = {
  userId: string | null
  role: string | null
  method: string
  route: string
  code: string
  requestId: string
  addressHash: string | null
}

export type RefusalCounter = {
  count: (refusal: Refusal) => void
  /** Records what is counted now; rejects, and keeps the counts, if that fails. */
  record: () => Promise<void>
  /** Records what is counted, and counts no more. */
  stop: () => Promise<void>
}

const RECORD_EVERY_MS = 60_000
/**
 * Kinds (account, route, code) that are counted apart in a minute, of one account and of all. Further ones of an account
 * are one record of it, and beyond the second number one record together.
 */
const MOST_KINDS_OF_ACCOUNT = 20
const MOST_KINDS = 500

export type Counted = Refusal & { count: number; firstAt: number; lastAt: number }

/**
 * Records refused requests as `RequestsRefused`: each account's refusals of one route and code are one record a minute,
 * with their number. So nobody fills the log by being refused, and the trail shows who tried what, and how often. A
 * gateway that is killed loses the counts of its last minute.
 */
export const createRefusalCounter = (deps: {
  /** Stores all of them as events, or rejects with none stored. */
  announceAll: (counted: Counted[]) => Promise<void>
  clock: Clock
  logger: Logger
}): RefusalCounter => {
  const { announceAll, clock, logger } = deps
  let counted = new Map<string, Counted>()
  let kindsOf = new Map<string | null, number>()

  const add = (
    refusal: Refusal,
    { count, firstAt, lastAt }: Pick<Counted, 'count' | 'firstAt' | 'lastAt'>,
  ) => {
    const { userId, method, route, code } = refusal
    let kind = `${userId} ${method} ${route} ${code}`
    let first = refusal
    const kinds = kindsOf.get(userId) ?? 0
    if (!counted.has(kind) && userId !== null && kinds >= MOST_KINDS_OF_ACCOUNT) {
      kind = userId
      first = { ...refusal, method: '', route: '', code: '' }
    }
    if (!counted.has(kind) && counted.size >= MOST_KINDS) {
      kind = ''
      first = { ...refusal, userId: null, role: null, method: '', route: '', code: '' }
    }
    const known = counted.get(kind)
    if (!known) {
      kindsOf.set(userId, kinds + 1)
      counted.set(kind, { ...first, count, firstAt, lastAt })
      return
    }
    known.count += count
    known.lastAt = Math.max(known.lastAt, lastAt)
  }

  const record = async (): Promise<void> => {
    if (counted.size === 0) return
    const taken = [...counted.values()]
    counted = new Map()
    kindsOf = new Map()
    try {
      await announceAll(taken)
    } catch (error) {
      for (const one of taken) add(one, one)
      throw error
    }
  }

  const onError = (error: unknown) =>
    logger.warn({ err: error }, 'refused requests were not recorded; trying again')
  const recording = repeat({ clock, everyMs: RECORD_EVERY_MS, pauseFirst: true, work: record, onError })

  return {
    count: refusal => {
      const now = clock.now()
      add(refusal, { count: 1, firstAt: now, lastAt: now })
    },
    record,
    stop: async () => {
      await recording.stop()
      await record().catch(onError)
    },
  }
}
