import { createHash, createHmac, randomBytes, randomUUIDv7 } from 'node:crypto'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { InTransaction } from '../in-transaction.ts'
import { ProblemError } from '../problems.ts'
import { appendToOutbox } from '../sql/outbox.ts'
import {
  endSessions,
  insertRefreshToken,
  insertSession,
  listOpenSessions,
  lockSessionOfToken,
  readRefreshToken,
  spendRefreshToken,
  touchSession,
} from '../sql/sessions.ts'
import { findUser, type User } from '../sql/users.ts'
import type { Announce } from './announce.ts'
import type { PersonKeys } from './person-keys.ts'
import type { Revocations } from './revocations.ts'
import type { Tokens } from './tokens.ts'

const SECRET_BYTES = 32
const DEVICE_LENGTH_MAX = 200
const DEVICE_PURPOSE = 'session-device'

export type Grant = {
  accessToken: string
  expiresIn: number
  refreshToken: string
  user: User
}

/** Who calls, as far as it is known. */
export type Caller = { addressHash: string; userAgent: string | undefined; traceparent: string }

export type Sessions = {
  /** Starts a session for a user who has proven who they are. */
  start: (user: User, caller: Caller) => Promise<Grant>
  /**
   * Exchanges a refresh token for new tokens. Throws REFRESH_TOKEN_INVALID (unknown, expired, session ended) or
   * REFRESH_TOKEN_REUSED, which also ends the session: somebody else may have the token.
   */
  refresh: (refreshToken: string, traceparent: string) => Promise<Grant>
  /** Ends one session of the user, or all; returns the ids of those that were open. */
  end: (
    session: { userId: string; sessionId?: string; reason: string },
    traceparent: string,
  ) => Promise<string[]>
  list: (page: {
    userId: string
    before: string | undefined
    limit: number
  }) => Promise<
    Array<{ id: string; startedAt: Date; lastUsedAt: Date; expiresAt: Date; device: string | null }>
  >
}

export const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

/**
 * The successor of a refresh token follows from the token itself and a salt that is kept beside its hash. So the
 * same answer can be given again while its loss is likely (the grace), to two tabs that refresh at once as well, and
 * the database alone still does not yield a usable token.
 */
const successorOf = (refreshToken: string, salt: Buffer): string =>
  createHmac('sha256', refreshToken).update(salt).digest('base64url')

export const createSessions = (parts: {
  sql: Database
  inTransaction: InTransaction
  tokens: Tokens
  revocations: Revocations
  announce: Announce
  personKeys: PersonKeys
}): Sessions => {
  const { sql, inTransaction, tokens, revocations, announce, personKeys } = parts

  const grantFor = async (user: User, sessionId: string, refreshToken: string): Promise<Grant> => ({
    ...(await tokens.signAccess({ userId: user.id, sessionId, roles: user.roles })),
    refreshToken,
    user,
  })

  const endIn = async (
    tx: Tx,
    session: { userId: string; sessionId?: string; reason: string },
    traceparent: string,
  ) => {
    const ended = await endSessions(tx, session)
    const { userId, reason } = session
    await appendToOutbox(
      tx,
      ended.map(sessionId =>
        announce.identityEvent('SessionRevoked', { userId, sessionId, reason }, traceparent),
      ),
    )
    return ended
  }

  /** Decides under the session's lock what a refresh token is still good for. */
  const rotate = async (tx: Tx, refreshToken: string, traceparent: string) => {
    const hash = sha256(refreshToken)
    const session = await lockSessionOfToken(tx, hash)
    if (!session?.open) return { outcome: 'invalid' as const }
    const token = await readRefreshToken(tx, hash)
    const { sessionId, userId } = session

    if (!token.used) {
      if (token.idle) return { outcome: 'invalid' as const }
      const salt = randomBytes(SECRET_BYTES)
      const successor = successorOf(refreshToken, salt)
      await spendRefreshToken(tx, hash, salt)
      await insertRefreshToken(tx, { hash: sha256(successor), sessionId })
      await touchSession(tx, sessionId)
      return { outcome: 'rotated' as const, successor, sessionId, userId }
    }
    if (token.inGrace) {
      const successor = successorOf(refreshToken, token.successorSalt!)
      // Whoever uses the successor has had the answer, so it was not lost and this is somebody else.
      if (!(await readRefreshToken(tx, sha256(successor))).used) {
        return { outcome: 'rotated' as const, successor, sessionId, userId }
      }
    }
    const ended = await endIn(tx, { userId, sessionId, reason: 'refresh_reuse' }, traceparent)
    return { outcome: 'reused' as const, ended }
  }

  return {
    start: async (user, caller) => {
      const sessionId = randomUUIDv7()
      const refreshToken = randomBytes(SECRET_BYTES).toString('base64url')
      const device = caller.userAgent
        ? await personKeys.encryptFor(user.id, caller.userAgent.slice(0, DEVICE_LENGTH_MAX), DEVICE_PURPOSE)
        : null
      await inTransaction(async tx => {
        await insertSession(tx, { id: sessionId, userId: user.id, device })
        await insertRefreshToken(tx, { hash: sha256(refreshToken), sessionId })
        await appendToOutbox(tx, [
          announce.identityEvent(
            'SessionStarted',
            { userId: user.id, sessionId, addressHash: caller.addressHash },
            caller.traceparent,
          ),
        ])
      })
      return grantFor(user, sessionId, refreshToken)
    },

    refresh: async (refreshToken, traceparent) => {
      const result = await inTransaction(tx => rotate(tx, refreshToken, traceparent))
      if (result.outcome === 'reused') {
        await revocations.push(result.ended)
        throw new ProblemError(
          'REFRESH_TOKEN_REUSED',
          'refreshToken: was used before; its session has ended for safety, sign in again.',
        )
      }
      const user = result.outcome === 'rotated' ? await findUser(sql, result.userId) : undefined
      if (result.outcome === 'invalid' || !user || user.disabled) {
        throw new ProblemError(
          'REFRESH_TOKEN_INVALID',
          'refreshToken: is unknown, expired, or its session has ended.',
        )
      }
      return grantFor(user, result.sessionId, result.successor)
    },

    end: async (session, traceparent) => {
      const ended = await inTransaction(tx => endIn(tx, session, traceparent))
      await revocations.push(ended)
      return ended
    },

    list: async page => {
      const sessions = await listOpenSessions(sql, page)
      const devices = await personKeys.decryptAll(
        sessions.flatMap(({ device }) =>
          device ? [{ userId: page.userId, cipher: device, purpose: DEVICE_PURPOSE }] : [],
        ),
      )
      return sessions.map(session => ({ ...session, device: session.device ? devices.shift()! : null }))
    },
  }
}
