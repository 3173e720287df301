import type { Database } from '@pennywire/runtime/database.ts'
import { LRUCache } from 'lru-cache'
import { readNames } from './sql/users.ts'

const CACHED_NAMES = 50_000
const CACHE_MS = 60_000

export type PersonName = { fullName: string; masked: string }

/** Placeholder for the rest of a name, regardless of its length. */
const HIDDEN = '***'
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

/** The first letter as people see it, with its marks; empty if no letter follows that stays hidden. */
const initialOf = (word: string): string => {
  const [first, next] = graphemes.segment(word)
  return first && /\p{L}/u.test(word.slice(next?.index ?? word.length)) ? first.segment : ''
}

/** Masks a name for strangers: "Alice Smith" becomes "Alice S.", "Anna" becomes "A***"; never the whole name. */
export const maskName = (fullName: string): string => {
  const words = fullName.trim().split(/\s+/)
  const initial = initialOf(words.at(-1)!)
  if (words.length === 1) return `${initial}${HIDDEN}`
  return `${words[0]} ${initial === '' ? HIDDEN : `${initial.toUpperCase()}.`}`
}

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
        const name = { fullName, masked: maskName(fullName) }
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
