import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Context, MiddlewareHandler } from 'hono'
import { addressSubject } from '../client-address.ts'
import { ProblemError } from '../problems.ts'
import { type Counted, enforceLimits, type TakeFromLimits } from '../rate-limit.ts'
import type { GatewayEnv, Guards, SignedInUser } from '../routes/define-route.ts'
import type { Revocations } from './revocations.ts'
import { requireRole } from './roles.ts'
import { ACCOUNT_DISABLED } from './sessions.ts'
import type { Tokens } from './tokens.ts'

const bearerToken = (authorization: string | undefined): string => {
  const [, token] = /^Bearer +([^ ]+) *$/i.exec(authorization ?? '') ?? []
  if (!token) throw new ProblemError('TOKEN_MISSING', 'Authorization: must be "Bearer " and an access token.')
  return token
}

/** What the tokens of a session that has ended are answered. */
const endedProblem = (reason: string) =>
  reason === ACCOUNT_DISABLED
    ? new ProblemError('ACCOUNT_DISABLED', 'The account is disabled.')
    : new ProblemError('TOKEN_REVOKED', 'The session has ended; sign in again.')

const away = () =>
  new ProblemError('SERVICE_UNAVAILABLE', 'Sign-ins and limits cannot be checked now; try again.')

/**
 * The guards before every handler: who it is, whether the session is still open, and how often. The session and all
 * limits are asked in one tick, so in one trip to Redis. Without Redis, what guards money or sign-ins refuses (never
 * fails open), and reads go on with the session asked of Postgres.
 */
export const createGuards = (parts: {
  tokens: Tokens
  revocations: Revocations
  takeFromLimits: TakeFromLimits
  logger: Logger
}): Guards => {
  const { tokens, revocations, takeFromLimits, logger } = parts

  /** What is asked with a token that is worth nothing is counted by address: trying many is limited like all else. */
  const countByAddress = async (context: Context<GatewayEnv>): Promise<void> => {
    const subject = addressSubject(context.var.address)
    const taken = await takeFromLimits([{ name: 'DEFAULT', subject }]).catch(() => undefined)
    if (taken) enforceLimits(context, taken)
  }

  const verify = async (context: Context<GatewayEnv>): Promise<SignedInUser> => {
    try {
      return await tokens.verifyAccess(bearerToken(context.req.header('authorization')))
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      await countByAddress(context)
      throw error
    }
  }

  return {
    signedIn: ({ limit, guardsMoney = false, role = 'user' } = {}) => {
      const guard: MiddlewareHandler<GatewayEnv> = async (context, next) => {
        const user = await verify(context)
        const counted: Counted[] = [{ name: 'DEFAULT', subject: user.userId }]
        if (limit) counted.push({ name: limit, subject: user.userId })
        const [revoked, taken] = await Promise.allSettled([
          revocations.endOf(user.sessionId),
          takeFromLimits(counted),
        ])
        if (guardsMoney && (revoked.status === 'rejected' || taken.status === 'rejected')) throw away()
        const ended =
          revoked.status === 'fulfilled' ? revoked.value : await revocations.storedEndOf(user.sessionId)
        if (ended !== null) {
          // Whoever kept a token of a session that has ended must not use up what its owner may do.
          if (taken.status === 'fulfilled') await taken.value.giveBack()
          await countByAddress(context)
          throw endedProblem(ended)
        }
        context.set('user', user)
        if (taken.status === 'fulfilled') enforceLimits(context, taken.value)
        else logger.warn({ err: taken.reason, requestId: context.var.requestId }, 'limits not checked')
        // After the limits: trying many routes is counted like everything else.
        requireRole(user, role)
        await next()
      }
      return {
        security: [{ bearer: [] }],
        'x-required-role': role,
        'x-fails-closed': guardsMoney,
        middleware: [guard],
      }
    },

    anybody: ({ limit, guardsLogin = false } = {}) => {
      const guard: MiddlewareHandler<GatewayEnv> = async (context, next) => {
        const subject = addressSubject(context.var.address)
        const counted: Counted[] = [{ name: 'DEFAULT', subject }]
        if (limit) counted.push({ name: limit, subject })
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
  }
}
