import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Context, MiddlewareHandler } from 'hono'
import type { Requester } from '../access/requester.ts'
import { highestRole, requireRole } from '../access/roles.ts'
import { requireScope } from '../access/scopes.ts'
import { networksOf } from '../http/client-address.ts'
import { type GatewayEnv, sessionOf } from '../http/context.ts'
import type { Guards } from '../http/define-route.ts'
import { type Counted, enforceLimits, type LimitName, type TakeFromLimits } from '../http/rate-limit.ts'
import { ProblemError } from '../problems/problem.ts'
import { currentRequest } from '../queues/request-scope.ts'
import type { InTurn } from '../queues/turns.ts'
import { type ApiKeys, isApiKey } from './api-keys/api-keys.ts'
import type { Revocations } from './sessions/revocations.ts'
import { ACCOUNT_DISABLED } from './sessions/sessions.ts'
import type { Tokens } from './sessions/tokens.ts'
import type { RecordView } from './staff/staff-views.ts'

const bearerOf = (authorization: string | undefined): string | undefined =>
  /^Bearer +([^ ]+) *$/i.exec(authorization ?? '')?.[1]

/** The problem for tokens of an ended session. */
const endedProblem = (reason: string) =>
  reason === ACCOUNT_DISABLED
    ? new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
    : new ProblemError('TOKEN_REVOKED', 'The session has ended; sign in again.')

const away = () =>
  new ProblemError('SERVICE_UNAVAILABLE', 'Sign-ins and limits cannot be checked now; try again.')

/** Expensive requests and requests that reveal other users count by user, over all their API keys. */
const OVER_ALL_KEYS: readonly LimitName[] = ['STATEMENT', 'RECIPIENT', 'RECEIPT']

/** Limits for people do not fit a back end, whose payments count against its key's own limit. */
const FOR_PERSONS: readonly LimitName[] = ['TRANSFER', 'DEPOSIT', 'WITHDRAWAL']

/** An address as the subject of a limit. All its networks share one key tag, because one script counts them. */
const subjectOf = (address: string): { subject: string; tag: string } => {
  const networks = networksOf(address)
  return { subject: networks.at(-1)!, tag: networks[0]! }
}

/**
 * A network shares this many times the limit of an address: enough for its users, too little for one user with a new
 * address for each request.
 */
const SHARES: Record<string, number> = { '/24': 32, '/56': 4, '/48': 16 }

/** The limit of an address, and the wider limits of its networks. */
const countByNetworks = (name: LimitName, address: string): Counted[] => [
  { name, ...subjectOf(address) },
  ...networksOf(address)
    .slice(0, -1)
    .map(network => ({
      name,
      subject: network,
      tag: subjectOf(address).tag,
      times: SHARES[network.slice(network.lastIndexOf('/'))]!,
    })),
]

/**
 * The guards before every handler: authentication, open session, rate limits. The session and all limits are read in
 * one tick, so in one round trip to Redis. Without Redis, routes that guard money or sign-ins refuse (never fail open),
 * and reads go on with the session read from Postgres. Only Postgres determines whether an API key is valid. Each key
 * has its own limit, so that neither its user nor another of their keys uses it up; all keys of a user share one more
 * limit, so that more keys do not mean more requests.
 */
export const createGuards = (deps: {
  tokens: Tokens
  revocations: Revocations
  apiKeys: Pick<ApiKeys, 'needsLookup' | 'verify'>
  takeFromLimits: TakeFromLimits
  recordView: RecordView
  inReadTurn: InTurn
  logger: Logger
}): Guards => {
  const { tokens, revocations, apiKeys, takeFromLimits, recordView, inReadTurn, logger } = deps

  /** Requests with an invalid token count by address: trying many tokens is limited like all else. */
  const takeByAddress = (context: Context<GatewayEnv>) =>
    takeFromLimits([{ name: 'DEFAULT', ...subjectOf(context.var.address) }]).catch(() => undefined)

  const countByAddress = async (context: Context<GatewayEnv>): Promise<void> => {
    const taken = await takeByAddress(context)
    if (taken) enforceLimits(context, taken)
  }

  const requesterOf = async (bearer: string | undefined): Promise<Requester> => {
    if (bearer === undefined) {
      const detail = 'Authorization: must be "Bearer " and an access token or API key.'
      throw new ProblemError('TOKEN_MISSING', detail)
    }
    return isApiKey(bearer)
      ? apiKeys.verify(bearer)
      : { ...(await tokens.verifyAccess(bearer)), apiKey: null }
  }

  const verify = async (context: Context<GatewayEnv>): Promise<Requester> => {
    const bearer = bearerOf(context.req.header('authorization'))
    // Counted before the lookup: made-up keys must not cost Postgres a query each.
    const unmet = bearer !== undefined && isApiKey(bearer) && apiKeys.needsLookup(bearer)
    const early = unmet ? await takeByAddress(context) : undefined
    if (early?.refused) enforceLimits(context, early)
    try {
      const requester = await requesterOf(bearer)
      await early?.giveBack()
      return requester
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      if (early) enforceLimits(context, early)
      else await countByAddress(context)
      throw error
    }
  }

  /** Requires a fresh second-factor code: an unattended open session grants neither power nor money. */
  const requireStepUp = async (context: Context<GatewayEnv>): Promise<void> => {
    const token = context.req.header('step-up-token')
    if (!token) {
      const detail = 'Step-Up-Token: is required here; POST /v1/auth/2fa/step-up gives it for a code.'
      throw new ProblemError('STEP_UP_REQUIRED', detail)
    }
    await tokens.verifyStaffStepUp(token, sessionOf(context))
  }

  return {
    signedIn: ({
      limit,
      guardsMoney = false,
      ownTurns = false,
      role = 'user',
      scope,
      stepUp = false,
    } = {}) => {
      const guard: MiddlewareHandler<GatewayEnv> = async (context, next) => {
        context.set('isGuarded', guardsMoney || role !== 'user')
        const user = await verify(context)
        const { apiKey, sessionId } = user
        const subject = apiKey?.id ?? user.userId
        const counted: Counted[] = apiKey
          ? [
              { name: 'API_KEY', subject, limit: apiKey.limit },
              { name: 'API_KEYS', subject: user.userId },
            ]
          : [{ name: 'DEFAULT', subject }]
        if (limit && !(apiKey && FOR_PERSONS.includes(limit))) {
          counted.push({ name: limit, subject: OVER_ALL_KEYS.includes(limit) ? user.userId : subject })
        }
        const [revoked, taken] = await Promise.allSettled([
          sessionId === null ? null : revocations.stateOf(user),
          takeFromLimits(counted),
        ])
        if (guardsMoney && (revoked.status === 'rejected' || taken.status === 'rejected')) throw away()
        const known = revoked.status === 'fulfilled' ? revoked.value : undefined
        if (sessionId !== null) {
          const ended = known ? known.ended : await revocations.storedEndOf(sessionId)
          if (ended !== null) {
            // A token of an ended session must not use up its owner's limits.
            if (taken.status === 'fulfilled') await taken.value.giveBack()
            await countByAddress(context)
            throw endedProblem(ended)
          }
        }
        const pinLockedAt = known?.pinLockedAt
        const request = currentRequest()
        if (request) {
          Object.assign(request, { userId: user.userId, role: highestRole(user), known: true })
          if (apiKey) request.apiKeyId = apiKey.id
        }
        context.set('user', pinLockedAt && user.sessionId !== null ? { ...user, pinLockedAt } : user)
        if (taken.status === 'fulfilled') enforceLimits(context, taken.value)
        else logger.warn({ err: taken.reason, requestId: context.var.requestId }, 'limits not checked')
        // After the limits, so that probing many routes is counted like everything else.
        if (apiKey) requireScope(apiKey.scopes, scope)
        requireRole(user, role)
        if (stepUp) await requireStepUp(context)
        const isRead = ['GET', 'HEAD'].includes(context.req.method)
        if (isRead && !ownTurns) await inReadTurn(user.userId, next)
        else await next()
        if (role !== 'user' && context.req.method === 'GET' && context.res.ok) await recordView(context)
      }
      return {
        security: [{ bearer: [] }, ...(scope ? [{ apiKey: [] }] : [])],
        'x-required-role': role,
        ...(scope ? { 'x-required-scope': scope } : {}),
        ...(stepUp ? { 'x-step-up': true as const } : {}),
        'x-fails-closed': guardsMoney,
        middleware: [guard],
      }
    },

    anybody: ({ limit, guardsLogin = false } = {}) => {
      const guard: MiddlewareHandler<GatewayEnv> = async (context, next) => {
        const { address } = context.var
        const counted: Counted[] = [{ name: 'DEFAULT', ...subjectOf(address) }]
        if (limit) counted.push(...countByNetworks(limit, address))
        const taken = await takeFromLimits(counted).catch(error => {
          if (guardsLogin) throw away()
          logger.warn({ err: error, requestId: context.var.requestId }, 'limits not checked')
          return undefined
        })
        if (taken) enforceLimits(context, taken)
        await next()
      }
      return { 'x-fails-closed': guardsLogin, middleware: [guard] }
    },

    confirmSignedIn: async authorization => {
      const user = await requesterOf(bearerOf(authorization))
      if (user.sessionId === null) return
      const known = await revocations.stateOf(user).catch(() => undefined)
      const ended = known ? known.ended : await revocations.storedEndOf(user.sessionId)
      if (ended !== null) throw endedProblem(ended)
    },
  }
}
