import { createHmac, randomBytes } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import { LRUCache } from 'lru-cache'
import { ProblemError } from '../../problems/problem.ts'
import { type KeyRing, seal, unseal } from './secret-box.ts'
import {
  insertPersonKey,
  readPersonKeys,
  readWrappedByOthers,
  rewrapPersonKeys,
  type WrappedKey,
} from './sql/person-keys.ts'

const CACHED_KEYS = 10_000
/** How long a destroyed key may still be used by a gateway that had it in memory. */
const CACHE_MS = 60_000
const REWRAPPED_AT_ONCE = 500

type SealedText = { userId: string; cipher: Buffer; purpose: string }

export type PersonKeys = {
  /** Creates a person's key in the transaction that creates the person. */
  create: (tx: Tx, userId: string) => Promise<void>
  /**
   * Encrypts a text under a person's key (AES-256-GCM, bound to user and purpose, such as "note"). Throws PERSON_ERASED
   * if the key was destroyed.
   */
  encryptFor: (userId: string, plainText: string, purpose: string) => Promise<Buffer>
  /** Decrypts a text; null if the person's key was destroyed. Rejects bytes not sealed for this user and purpose. */
  decryptFor: (userId: string, cipher: Buffer, purpose: string) => Promise<string | null>
  /** Like `decryptFor` for many texts, in order, with one SQL statement for all keys not in memory. */
  decryptAll: (sealed: SealedText[]) => Promise<Array<string | null>>
  /** Removes the key of an erased person from this process's memory; other gateways keep it for up to a minute. */
  forget: (userId: string) => void
}

type Rewrapping = {
  /**
   * Re-wraps keys of earlier key-encryption keys under the current one; resolves with their number. Any number of
   * gateways may run it at once. Rejects if a key is wrapped by a key-encryption key that this gateway does not have.
   */
  rewrapAll: () => Promise<number>
}

/**
 * One 256-bit key per person, wrapped by the key-encryption key. Personal data in immutable topics and histories is
 * encrypted under the person's key, so that destroying the key erases the person from all of them.
 */
export const createPersonKeys = (sql: Database, keks: KeyRing): PersonKeys & Rewrapping => {
  const cache = new LRUCache<string, Buffer>({ max: CACHED_KEYS, ttl: CACHE_MS })
  const wrapBinding = (userId: string) => `pennywire:person-key:${userId}`
  const textBinding = (userId: string, purpose: string) => `pennywire:${purpose}:${userId}`

  const unwrap = ({ userId, wrappedKey, kekId }: WrappedKey): Buffer => {
    const kek = keks.get(kekId)
    if (!kek) throw new Error(`a person's key is wrapped by ${kekId}, which this gateway does not have`)
    return unseal(kek, wrappedKey, wrapBinding(userId))
  }
  const wrap = (userId: string, key: Buffer): WrappedKey => ({
    userId,
    wrappedKey: seal(keks.current.key, key, wrapBinding(userId)),
    kekId: keks.current.kid,
  })

  const keysOf = async (userIds: string[]): Promise<Map<string, Buffer>> => {
    const keys = new Map<string, Buffer>()
    const missing = new Set<string>()
    for (const userId of userIds) {
      const key = cache.get(userId)
      if (key) keys.set(userId, key)
      else missing.add(userId)
    }
    if (missing.size > 0) {
      for (const { userId, wrappedKey, kekId } of await readPersonKeys(sql, [...missing])) {
        const key = unwrap({ userId, wrappedKey, kekId })
        cache.set(userId, key)
        keys.set(userId, key)
      }
    }
    return keys
  }

  const decryptAll: PersonKeys['decryptAll'] = async sealed => {
    const keys = await keysOf(sealed.map(({ userId }) => userId))
    return sealed.map(({ userId, cipher, purpose }) => {
      const key = keys.get(userId)
      return key ? unseal(key, cipher, textBinding(userId, purpose)).toString('utf8') : null
    })
  }

  return {
    create: async (tx, userId) => {
      await insertPersonKey(tx, wrap(userId, randomBytes(32)))
    },
    encryptFor: async (userId, plainText, purpose) => {
      const key = (await keysOf([userId])).get(userId)
      if (!key)
        throw new ProblemError('PERSON_ERASED', 'The person is erased: nothing is written about them.')
      return seal(key, Buffer.from(plainText), textBinding(userId, purpose))
    },
    decryptFor: async (userId, cipher, purpose) => (await decryptAll([{ userId, cipher, purpose }]))[0]!,
    decryptAll,
    forget: userId => cache.delete(userId),
    rewrapAll: async () => {
      let rewrapped = 0
      for (let after: string | undefined; ; ) {
        const old = await readWrappedByOthers(sql, {
          kekId: keks.current.kid,
          after,
          limit: REWRAPPED_AT_ONCE,
        })
        if (old.length === 0) return rewrapped
        rewrapped += await rewrapPersonKeys(
          sql,
          old.map(key => wrap(key.userId, unwrap(key))),
        )
        after = old.at(-1)!.userId
      }
    },
  }
}

/** Events contain network addresses as a keyed hash, which reveals only whether two addresses are equal. */
export const createAddressHash =
  (key: { kid: string; key: Buffer }) =>
  (address: string): string =>
    `${key.kid}.${createHmac('sha256', key.key).update(address).digest('base64url')}`
