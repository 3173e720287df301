import { createHash, createHmac, randomBytes, randomUUIDv7 } from 'node:crypto'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Caller } from '../../access/requester.ts'
import { rolesOfSession } from '../../access/roles.ts'
import type { InTransaction } from '../../outbox/in-transaction.ts'
import { appendToOutbox } from '../../outbox/sql/outbox.ts'
import { ProblemError } from '../../problems/problem.ts'
import type { Announce } from '../events/announce.ts'
import type { PersonKeys } from '../persons/person-keys.ts'
import { findUser, lockUserShared, lockUsers, type User } from '../persons/sql/users.ts'
import type { LoginAttempts } from './login-attempts.ts'
import type { LoginHistory, LoginMethod } from './login-history.ts'
import type { Revocations } from './revocations.ts'
import {
  changeEndReason,
  endSessions,
  insertRefreshToken,
  insertSession,
  listOpenSessions,
  lockSessionOfToken,
  readRefreshToken,
  spendRefreshToken,
  touchSession,
} from './sql/sessions.ts'
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

/** End reason of the sessions of a disabled account: their tokens are refused with ACCOUNT_DISABLED. */
export const ACCOUNT_DISABLED = 'account_disabled'

/** Selects one of a user's sessions, all, or all but one. `byUserId` is the acting user, such as a member of staff. */
type Ending = {
  userId: string
  sessionId?: string
  exceptSessionId?: string
  reason: string
  byUserId?: string
}

export type Sessions = {
  /**
   * Starts a session for an authenticated user. Throws if the account changed since `user` was read: ACCOUNT_DISABLED;
   * INVALID_CREDENTIALS for a new password; SERVICE_UNAVAILABLE for a changed second factor or an unlinked identity.
   */
  start: (user: User, caller: Caller, method?: LoginMethod) => Promise<Grant>
  /**
   * Exchanges a refresh token for new tokens. Throws REFRESH_TOKEN_INVALID (unknown, expired, session ended) or
   * REFRESH_TOKEN_REUSED, which also ends the session, because the token may be stolen.
   */
  refresh: (refreshToken: string, traceparent: string) => Promise<Grant>
  /** Ends sessions of the user; returns the ids of those that were open. */
  end: (ending: Ending, traceparent: string) => Promise<string[]>
  /**
   * Like `end`, inside the caller's transaction. Call the returned function after the commit: it broadcasts the
   * revocation.
   */
  endIn: (tx: Tx, ending: Ending, traceparent: string) => Promise<() => Promise<void>>
  /**
   * Changes the end reason of the sessions that the deactivation ended: their tokens are refused with TOKEN_REVOKED
   * instead of ACCOUNT_DISABLED. Call the returned function after the commit.
   */
  forgetDisabled: (tx: Tx, userId: string) => Promise<() => Promise<void>>
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
 * The successor of a refresh token is derived from the token itself and a salt stored beside its hash. So the gateway
 * can repeat an answer within the grace period (lost response, or two tabs that refresh at once), while the database
 * alone does not yield a usable token.
 */
const successorOf = (refreshToken: string, salt: Buffer): string =>
  createHmac('sha256', refreshToken).update(salt).digest('base64url')

export const createSessions = (deps: {
  sql: Database
  inTransaction: InTransaction
  tokens: Tokens
  revocations: Revocations
  announce: Announce
  personKeys: PersonKeys
  logins: LoginHistory
  loginAttempts: Pick<LoginAttempts, 'rememberSignIn'>
}): Sessions => {
  const { sql, inTransaction, tokens, revocations, announce, personKeys, logins, loginAttempts } = deps

  /** No access token outlives its session. */
  const grantFor = async (
    user: User,
    session: { sessionId: string; secondFactor: boolean; secondsLeft?: number },
    refreshToken: string,
  ): Promise<Grant> => {
    const { sessionId, secondFactor, secondsLeft } = session
    const roles = rolesOfSession(user.roles, secondFactor)
    return {
      ...(await tokens.signAccess({ userId: user.id, sessionId, roles }, secondsLeft)),
      refreshToken,
      user,
    }
  }

  const endIn = async (tx: Tx, session: Ending, traceparent: string) => {
    const ended = await endSessions(tx, session)
    const { userId, reason, byUserId = null } = session
    await appendToOutbox(
      tx,
      ended.map(sessionId =>
        announce.identityEvent('SessionRevoked', { userId, sessionId, reason, byUserId }, traceparent),
      ),
    )
    return ended
  }

  /** Decides under the session's lock whether a refresh token is rotated, invalid or reused. */
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
      return { outcome: 'rotated' as const, successor, session }
    }
    if (token.inGrace) {
      const successor = successorOf(refreshToken, token.successorSalt!)
      // A used successor shows that the answer arrived: this request comes from another client with the old token.
      if (!(await readRefreshToken(tx, sha256(successor))).used) {
        return { outcome: 'rotated' as const, successor, session }
      }
    }
    const ended = await endIn(tx, { userId, sessionId, reason: 'refresh_reuse' }, traceparent)
    return { outcome: 'reused' as const, ended }
  }

  return {
    start: async (user, caller, method = 'password') => {
      const { id: userId } = user
      const sessionId = randomUUIDv7()
      const secondFactor = method === 'second_factor'
      const refreshToken = randomBytes(SECRET_BYTES).toString('base64url')
      const device = caller.userAgent
        ? await personKeys.encryptFor(userId, caller.userAgent.slice(0, DEVICE_LENGTH_MAX), DEVICE_PURPOSE)
        : null
      const sealed = await logins.seal(userId, caller)
      const refused = (code: ProblemCode, detail: string, reason = code.toLowerCase()) => {
        logins.failed(userId, { method, reason }, caller)
        return new ProblemError(code, detail)
      }
      const isAsRead = (known: User) =>
        known.passwordVersion === user.passwordVersion &&
        known.secondFactorVersion === user.secondFactorVersion
      const current = await inTransaction(async tx => {
        // Share lock: a change of account, password or second factor either commits before, or ends this session too.
        const known = await lockUserShared(tx, userId)
        if (!known || known.disabled || !isAsRead(known)) return known
        const { isNewPlace } = await loginAttempts.rememberSignIn(tx, { userId, ...caller })
        await insertSession(tx, { id: sessionId, userId, device, secondFactor })
        await insertRefreshToken(tx, { hash: sha256(refreshToken), sessionId })
        await logins.succeeded(tx, { userId, sessionId, method, sealed })
        await appendToOutbox(tx, [
          announce.identityEvent(
            'SessionStarted',
            { userId, sessionId, method, addressHash: caller.addressHash, isNewPlace },
            caller.traceparent,
          ),
        ])
        return known
      })
      if (!current || current.disabled) throw refused('ACCOUNT_DISABLED', 'The account is disabled.')
      if (current.passwordVersion !== user.passwordVersion) {
        throw refused('INVALID_CREDENTIALS', 'email or password: is wrong.')
      }
      if (!isAsRead(current)) {
        const detail = 'How you sign in was being changed; sign in again.'
        throw refused('SERVICE_UNAVAILABLE', detail, 'second_factor_changed')
      }
      return grantFor(current, { sessionId, secondFactor }, refreshToken)
    },

    refresh: async (refreshToken, traceparent) => {
      const result = await inTransaction(tx => rotate(tx, refreshToken, traceparent))
      if (result.outcome === 'reused') {
        await revocations.push(result.ended, 'refresh_reuse')
        throw new ProblemError(
          'REFRESH_TOKEN_REUSED',
          'refreshToken: was used before; its session has ended for safety, sign in again.',
        )
      }
      const user = result.outcome === 'rotated' ? await findUser(sql, result.session.userId) : undefined
      if (result.outcome === 'invalid' || !user || user.disabled) {
        throw new ProblemError(
          'REFRESH_TOKEN_INVALID',
          'refreshToken: is unknown, expired, or its session has ended.',
        )
      }
      return grantFor(user, result.session, result.successor)
    },

    end: async (ending, traceparent) => {
      const ended = await inTransaction(async tx => {
        // Lock order: users before sessions, as everywhere; else two requests that end several sessions deadlock.
        await lockUsers(tx, [ending.userId])
        return endIn(tx, ending, traceparent)
      })
      await revocations.push(ended, ending.reason)
      return ended
    },

    endIn: async (tx, ending, traceparent) => {
      const ended = await endIn(tx, ending, traceparent)
      return () => revocations.push(ended, ending.reason)
    },

    forgetDisabled: async (tx, userId) => {
      const to = 'account_was_disabled'
      const changed = await changeEndReason(tx, { userId, from: ACCOUNT_DISABLED, to })
      return () => revocations.push(changed, to)
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
