import { ERASED_NAME, maskName } from '@pennywire/messages/mask-name.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import { LRUCache } from 'lru-cache'
import { readNames } from './sql/users.ts'

const CACHED_NAMES = 50_000
const CACHE_MS = 60_000

export type PersonName = { fullName: string; masked: string }

export type Names = {
  /** The names of those users that exist. */
  namesOf: (userIds: string[]) => Promise<Map<string, PersonName>>
  /** Removes a user whose name has changed from the cache. */
  forget: (userId: string) => void
}

/**
 * Names shown to other users, cached for a minute. One SQL statement reads all names that are missing in one tick, so
 * that the transfer path does not pay one for each request.
 */
export const createNames = (sql: Database): Names => {
  const cache = new LRUCache<string, PersonName>({ max: CACHED_NAMES, ttl: CACHE_MS })
  let wanted = new Set<string>()
  let answer: Promise<Map<string, PersonName>> | undefined

  const readAsked = async (): Promise<Map<string, PersonName>> => {
    await new Promise(resolve => setImmediate(resolve))
    const ids = [...wanted]
    wanted = new Set()
    answer = undefined
    const rows = await readNames(sql, ids)
    return new Map(
      rows.map(({ id, fullName }) => {
        const name = { fullName: fullName || ERASED_NAME, masked: maskName(fullName) }
        cache.set(id, name)
        return [id, name]
      }),
    )
  }

  return {
    namesOf: async userIds => {
      const names = new Map<string, PersonName>()
      const missing: string[] = []
      for (const id of new Set(userIds)) {
        const name = cache.get(id)
        if (name) names.set(id, name)
        else missing.push(id)
      }
      if (missing.length === 0) return names
      for (const id of missing) wanted.add(id)
      answer ??= readAsked()
      const read = await answer
      for (const id of missing) {
        const name = read.get(id)
        if (name) names.set(id, name)
      }
      return names
    },
    forget: userId => cache.delete(userId),
  }
}
