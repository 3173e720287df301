import { randomBytes, randomUUIDv7 } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { LRUCache } from 'lru-cache'
import type { Requester, UsedApiKey } from '../../access/requester.ts'
import { movesMoneyOut, type Scope } from '../../access/scopes.ts'
import type { RateLimit } from '../../http/rate-limit.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError, validationProblem } from '../../problems/problem.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { lockUsers, type User } from '../persons/sql/users.ts'
import type { Pins } from '../pin/pin.ts'
import { sha256 } from '../sessions/sessions.ts'
import {
  countLiveApiKeys,
  endRotatedApiKey,
  findApiKey,
  insertApiKey,
  listApiKeys,
  type NewApiKey,
  type OfferedApiKey,
  readApiKey,
  revokeApiKeys,
  type StoredApiKey,
  touchApiKey,
} from './sql/api-keys.ts'

const MARK = 'pwk_'
const PREFIX_BYTES = 5
const SECRET_BYTES = 32
const FORM = /^pwk_[0-9a-f]{10}_[A-Za-z0-9_-]{43}$/

/** A user may have this many lasting keys; as many again may be in the overlap of a rotation. */
const MAX_LIVE = 20
const DAY_SECONDS = 86_400
const NAME_PURPOSE = 'api-key-name'

/** A found key is cached for this long: every gateway honours a revocation within a second. */
const BELIEVED_MS = 500
const CACHED_KEYS = 10_000
const TOUCH_MS = 60_000
/** For this long a found key counts as genuine, not as made up. */
const MET_MS = 3_600_000

/** A key as its owner and staff see it. */
export type ApiKey = Omit<StoredApiKey, 'userId' | 'name' | 'lifeSeconds'> & {
  /** Null if the owner was erased. */
  name: string | null
}

type Proof = { password: string; pin: string | null }

export type ApiKeys = {
  /**
   * True for a key that is not cached, so that checking it costs a query. Count such a key against the address first:
   * made-up keys must not cause unlimited queries.
   */
  needsLookup: (secret: string) => boolean
  /**
   * Returns the user and rights of a key. Throws TOKEN_INVALID for an unknown key, TOKEN_EXPIRED, TOKEN_REVOKED,
   * ACCOUNT_DISABLED.
   */
  verify: (secret: string) => Promise<Extract<Requester, { apiKey: UsedApiKey }>>
  /**
   * Creates a key; its secret is returned only here. A key that moves money out requires the PIN. Throws
   * PASSWORD_MISMATCH, PIN_REQUIRED, the errors of `verifyPin`, VALIDATION_ERROR, TOO_MANY_API_KEYS.
   */
  create: (
    input: Proof & {
      userId: string
      name: string
      scopes: Scope[]
      expiresInDays: number
      maxAmount: string | null
      requestsPerMinute: number | null
    },
    traceparent: string,
  ) => Promise<{ key: ApiKey; secret: string }>
  /**
   * Creates a key with the scopes, limits and lifetime of another, and ends the other after `overlapSeconds`. Of two
   * concurrent rotations one succeeds. Throws as `create`, API_KEY_NOT_FOUND, API_KEY_ENDED.
   */
  rotate: (
    input: Proof & { userId: string; id: string; overlapSeconds: number },
    traceparent: string,
  ) => Promise<{ key: ApiKey; secret: string; replacedEndsAt: Date }>
  /** A user's keys, ended ones too, newest first. */
  list: (page: { userId: string; before: string | undefined; limit: number }) => Promise<ApiKey[]>
  /** Throws API_KEY_NOT_FOUND if the key is not the user's. */
  get: (userId: string, id: string) => Promise<ApiKey>
  /** Ends a key at once. Throws API_KEY_NOT_FOUND, API_KEY_ENDED. */
  revoke: (key: { userId: string; id: string; byUserId: string }, traceparent: string) => Promise<void>
}

/** Whether the value of `Authorization: Bearer` is an API key: no JWT begins like that. */
export const isApiKey = (bearer: string): boolean => bearer.startsWith(MARK)

/**
 * Revokes all keys of a user in the transaction of the reset or deactivation: an attacker may have had the account.
 * Gateways read keys from Postgres, so no broadcast is needed.
 */
export const endApiKeys = (
  tx: Tx,
  announce: Pick<Announce, 'identityEvent'>,
  { userId, reason }: { userId: string; reason: 'password_reset' | 'account_disabled' },
  traceparent: string,
): Promise<string[]> => revokeIn(tx, announce, { userId, id: null, reason, byUserId: null }, traceparent)

const revokeIn = async (
  tx: Tx,
  announce: Pick<Announce, 'identityEvent'>,
  keys: { userId: string; id: string | null; reason: string; byUserId: string | null },
  traceparent: string,
): Promise<string[]> => {
  const { userId, byUserId, reason } = keys
  const revoked = await revokeApiKeys(tx, keys)
  const events = revoked.map(keyId =>
    announce.identityEvent('ApiKeyRevoked', { userId, keyId, byUserId, reason }, traceparent),
  )
  await appendToOutbox(tx, events)
  return revoked
}

const notFound = () => new ProblemError('API_KEY_NOT_FOUND', 'id: there is no such API key of yours.')
const hasEnded = () => new ProblemError('API_KEY_ENDED', 'id: the API key has ended or was replaced.')

const hashOf = (secret: string): string => sha256(secret).toString('base64')

/** The key's own limit if it is the stricter one: the setting may have been lowered since. */
const limitOf = (requestsPerMinute: number | null, setting: RateLimit): RateLimit =>
  requestsPerMinute !== null && requestsPerMinute * setting.seconds <= setting.requests * 60
    ? { requests: requestsPerMinute, seconds: 60 }
    : setting

const refusalOf = (key: OfferedApiKey | undefined): ProblemError | undefined => {
  if (!key) return new ProblemError('TOKEN_INVALID', 'The API key is not valid.')
  if (key.userDisabled) return new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
  if (key.state === 'active') return undefined
  if (key.state === 'expired') return new ProblemError('TOKEN_EXPIRED', 'The API key has expired.')
  return new ProblemError('TOKEN_REVOKED', `The API key was ${key.state}.`)
}

/**
 * API keys of users' back ends. Only the SHA-256 of a key is stored: a key has 256 random bits, so a slow hash would
 * protect nothing and cost every request. Postgres alone determines whether a key is valid.
 */
export const createApiKeys = (deps: {
  sql: Database
  inTransaction: InTransaction
  logger: Logger
  announce: Announce
  personKeys: PersonKeys
  accounts: Pick<Accounts, 'confirmPassword'>
  pins: Pick<Pins, 'verifyPin'>
  /** A key's rate limit; its own limit is at most this. */
  limit: RateLimit
}): ApiKeys => {
  const { sql, inTransaction, logger, announce, personKeys, accounts, pins } = deps

  // Keyed by the hash, so that memory does not contain keys either. Concurrent lookups of a key run one query. Unknown
  // keys are not cached, so that guesses evict no key.
  const found = new LRUCache<string, OfferedApiKey>({
    max: CACHED_KEYS,
    ttl: BELIEVED_MS,
    fetchMethod: async hash => {
      const key = await findApiKey(sql, Buffer.from(hash, 'base64'))
      if (key) met.set(hash, true)
      return key
    },
  })
  const met = new LRUCache<string, true>({ max: CACHED_KEYS, ttl: MET_MS })
  const touched = new LRUCache<string, true>({ max: CACHED_KEYS, ttl: TOUCH_MS })

  const touch = (id: string) => {
    if (touched.has(id)) return
    touched.set(id, true)
    touchApiKey(sql, id).catch(error =>
      logger.warn({ err: error, apiKeyId: id }, 'the use of an API key was not noted'),
    )
  }

  const show = async (keys: StoredApiKey[]): Promise<ApiKey[]> => {
    const names = await personKeys.decryptAll(
      keys.map(({ userId, name }) => ({ userId, cipher: name, purpose: NAME_PURPOSE })),
    )
    return keys.map(({ userId: _, lifeSeconds: __, ...key }, index) => ({ ...key, name: names[index]! }))
  }

  const draw = () => {
    const prefix = randomBytes(PREFIX_BYTES).toString('hex')
    const secret = `${MARK}${prefix}_${randomBytes(SECRET_BYTES).toString('base64url')}`
    return { id: randomUUIDv7(), prefix, secret, secretHash: sha256(secret) }
  }

  /** Proves that the user sends the request. The PIN comes last: only requests with the password use its attempts. */
  const prove = async (userId: string, { password, pin }: Proof, scopes: string[], traceparent: string) => {
    const needsPin = movesMoneyOut(scopes)
    if (needsPin && pin === null) {
      throw new ProblemError('PIN_REQUIRED', 'pin: a key by which money leaves has to be allowed with it')
    }
    const user = await accounts.confirmPassword(userId, password)
    if (needsPin) await pins.verifyPin(userId, pin!, traceparent)
    return user
  }

  /** Under the user's lock: concurrent requests keep the limit; no key survives a new password or a deactivation. */
  const lockProven = async (tx: Tx, user: User) => {
    const [known] = await lockUsers(tx, [user.id])
    if (!known || known.disabled) throw new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
    if (known.passwordVersion !== user.passwordVersion) {
      throw new ProblemError('PASSWORD_MISMATCH', 'The current password is wrong.')
    }
  }

  const refuseAbove = (count: number) => {
    if (count < MAX_LIVE) return
    throw new ProblemError('TOO_MANY_API_KEYS', `There are ${MAX_LIVE} already; revoke one first.`)
  }

  const insert = async (tx: Tx, key: NewApiKey) => (await show([await insertApiKey(tx, key)]))[0]!

  return {
    needsLookup: secret => FORM.test(secret) && !met.has(hashOf(secret)),

    verify: async secret => {
      const key = FORM.test(secret) ? await found.fetch(hashOf(secret)) : undefined
      const refusal = refusalOf(key)
      if (!key || refusal) throw refusal!
      touch(key.id)
      const { id, userId, scopes, maxAmount, requestsPerMinute, createdAt } = key
      const limit = limitOf(requestsPerMinute, deps.limit)
      const apiKey = { id, scopes, maxAmount, authorizedAt: createdAt.getTime(), limit }
      // A key never has the roles of staff, even if its user does.
      return { userId, sessionId: null, roles: ['user'], apiKey }
    },

    create: async ({ userId, password, pin, name, expiresInDays, ...input }, traceparent) => {
      const { scopes, requestsPerMinute } = input
      const { requests, seconds } = deps.limit
      if (requestsPerMinute !== null && requestsPerMinute * seconds > requests * 60) {
        const most = Math.floor((requests * 60) / seconds)
        throw validationProblem([{ field: 'requestsPerMinute', rule: `must be at most ${most}` }])
      }
      const user = await prove(userId, { password, pin }, scopes, traceparent)
      const sealed = await personKeys.encryptFor(userId, name, NAME_PURPOSE)
      const { secret, ...drawn } = draw()
      const key = await inTransaction(async tx => {
        await lockProven(tx, user)
        refuseAbove((await countLiveApiKeys(tx, userId)).lasting)
        const lifeSeconds = expiresInDays * DAY_SECONDS
        const made = await insert(tx, {
          ...input,
          ...drawn,
          userId,
          name: sealed,
          lifeSeconds,
          replaces: null,
        })
        const expiresAt = made.expiresAt.getTime()
        await appendToOutbox(tx, [
          announce.identityEvent('ApiKeyCreated', { userId, keyId: made.id, scopes, expiresAt }, traceparent),
          await announce.mail({ userId, template: 'api_key_created' }, traceparent),
        ])
        return made
      })
      return { key, secret }
    },

    rotate: async ({ userId, id, password, pin, overlapSeconds }, traceparent) => {
      const stored = await readApiKey(sql, userId, id)
      if (!stored) throw notFound()
      if (stored.state !== 'active' || stored.endedAt !== null) throw hasEnded()
      const user = await prove(userId, { password, pin }, stored.scopes, traceparent)
      const { secret, ...drawn } = draw()
      return inTransaction(async tx => {
        await lockProven(tx, user)
        if (overlapSeconds > 0) refuseAbove((await countLiveApiKeys(tx, userId)).ending)
        const replacedEndsAt = await endRotatedApiKey(tx, { userId, id, overlapSeconds })
        if (!replacedEndsAt) throw hasEnded()
        const { name, scopes, maxAmount, requestsPerMinute, lifeSeconds } = stored
        const key = await insert(tx, {
          ...drawn,
          ...{ userId, name, scopes, maxAmount, requestsPerMinute, lifeSeconds },
          replaces: id,
        })
        const fact = {
          ...{ userId, keyId: key.id, replacesKeyId: id, scopes },
          replacedEndsAt: replacedEndsAt.getTime(),
          expiresAt: key.expiresAt.getTime(),
        }
        await appendToOutbox(tx, [
          announce.identityEvent('ApiKeyRotated', fact, traceparent),
          await announce.mail({ userId, template: 'api_key_rotated' }, traceparent),
        ])
        return { key, secret, replacedEndsAt }
      })
    },

    list: async page => show(await listApiKeys(sql, page)),

    get: async (userId, id) => {
      const key = await readApiKey(sql, userId, id)
      if (!key) throw notFound()
      return (await show([key]))[0]!
    },

    revoke: async ({ userId, id, byUserId }, traceparent) => {
      const byStaff = byUserId !== userId
      const reason = byStaff ? 'revoked_by_staff' : 'revoked_by_user'
      await inTransaction(async tx => {
        const [revoked] = await revokeIn(tx, announce, { userId, id, reason, byUserId }, traceparent)
        if (!revoked) throw (await readApiKey(tx, userId, id)) ? hasEnded() : notFound()
        if (byStaff) {
          const mail = await announce.mail({ userId, template: 'api_key_revoked' }, traceparent)
          await appendToOutbox(tx, [mail])
        }
      })
    },
  }
}
