import { randomUUID } from 'node:crypto'
import { availableParallelism } from 'node:os'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { startPurging } from '@pennywire/runtime/start-purging.ts'
import { continueTrace } from '@pennywire/runtime/tracing.ts'
import type { Redis } from 'ioredis'
import { type GatewayConfig, rateLimitsOf } from '../config.ts'
import type { Guards, Routes } from '../http/define-route.ts'
import { createRateLimits } from '../http/rate-limit.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { createTurns, type InTurn } from '../queues/turns.ts'
import { type Accounts, bootstrapAdmin, createAccounts } from './accounts/accounts.ts'
import { createPasswordMeter } from './accounts/password-meter.ts'
import { createPasswords } from './accounts/passwords.ts'
import { createSlowHash } from './accounts/slow-hash.ts'
import { apiKeyRoutes } from './api-keys/api-key-routes.ts'
import { type ApiKeys, createApiKeys, endApiKeys } from './api-keys/api-keys.ts'
import { authRoutes } from './auth-routes.ts'
import { type Announce, createAnnounce } from './events/announce.ts'
import { createRefusalCounter, type RefusalCounter } from './events/count-refusals.ts'
import { createGuards } from './guards.ts'
import { mailCallbackRoutes } from './mail-callback-routes.ts'
import { createNames, type Names } from './persons/names.ts'
import { createAddressHash, createPersonKeys, type PersonKeys } from './persons/person-keys.ts'
import { isOwnerUnproved, readCommonCost } from './persons/sql/users.ts'
import { createPins, type Pins } from './pin/pin.ts'
import { pinRoutes } from './pin/pin-routes.ts'
import { createSecondFactor } from './second-factor/second-factor.ts'
import { secondFactorRoutes } from './second-factor/second-factor-routes.ts'
import { keyRoutes } from './sessions/key-routes.ts'
import { createLoginAttempts } from './sessions/login-attempts.ts'
import { createLoginHistory, type LoginHistory } from './sessions/login-history.ts'
import { startReloadingKeys } from './sessions/reload-keys.ts'
import { createRevocations, type Revocations } from './sessions/revocations.ts'
import { sessionRoutes } from './sessions/session-routes.ts'
import { createSessions, type Sessions } from './sessions/sessions.ts'
import { createTokens, type Tokens } from './sessions/tokens.ts'
import { createExternalIdentities, type ExternalIdentities } from './sign-in/external-identities.ts'
import { externalIdentityRoutes } from './sign-in/external-identity-routes.ts'
import { createExternalTokens } from './sign-in/external-tokens.ts'
import { createOidcProviders } from './sign-in/oidc-providers.ts'
import { oidcRoutes } from './sign-in/oidc-routes.ts'
import { createSocialLogin } from './sign-in/social-login.ts'
import { forgetOidcRequests } from './sign-in/sql/oidc-requests.ts'
import { purgeExpired } from './sql/purge.ts'
import { createManageUsers, type ManageUsers } from './staff/manage-users.ts'
import { createRecordView } from './staff/staff-views.ts'
import { adminUserRoutes } from './staff/user-staff-routes.ts'
import { userRoutes } from './user-routes.ts'

/**
 * The thread pool has four threads, and signatures need one as well: PINs take at most two, passwords one, and PINs
 * leave a core to payments if there is another. A flood of sign-ins therefore never holds up payments.
 */
const PINS_AT_ONCE = availableParallelism() > 2 ? 2 : 1
const PASSWORDS_AT_ONCE = 1
/** A request behind a longer queue is not worth hashing: its client has given up. */
const MAX_WAITING = 60

const purged = counter(
  'gateway_purged_rows_total',
  'Rows of expired tokens, old sign-ins, addresses and finished requests that were deleted',
)

export type Identity = {
  /** Reads take turns for the gateway's own database. */
  guards: Guards
  /** The same guards, whose reads take turns for another database. */
  guardsWith: (inReadTurn: InTurn) => Guards
  tokens: Tokens
  pins: Pins
  personKeys: PersonKeys
  names: Names
  announce: Announce
  confirmPassword: Accounts['confirmPassword']
  manageUsers: ManageUsers
  sessions: Pick<Sessions, 'list'>
  logins: Pick<LoginHistory, 'list'>
  apiKeys: Pick<ApiKeys, 'list'>
  externalIdentities: Pick<ExternalIdentities, 'list'>
  /** Sends the ends of sessions that are in Postgres to all gateways. */
  pushEnded: Revocations['push']
  /** Why a session has ended, by Postgres; null while it is open. */
  readSessionEnd: (sessionId: string) => Promise<string | null>
  hashAddress: (address: string) => string
  refusals: Pick<RefusalCounter, 'count' | 'record'>
  routes: Routes[]
  /** Rejects while sessions and limits cannot be checked (Redis). For readiness. */
  check: () => Promise<void>
  stop: () => Promise<void>
}

/** Builds all of identity in one place: the parts that the rest of the gateway needs, and its own routes. */
export const createIdentity = async (deps: {
  config: GatewayConfig
  logger: Logger
  sql: Database
  redis: Redis
  codec: Pick<Codec, 'encode'>
  inTransaction: InTransaction
}): Promise<Identity> => {
  const { config, logger, sql, redis, codec, inTransaction } = deps
  const slowHash = (of: 'pin' | 'password', atOnce: number) =>
    createSlowHash({ of, cost: config.BCRYPT_COST, atOnce, maxWaiting: MAX_WAITING })

  const hashAddress = createAddressHash(config.ADDRESS_HMAC_FILE)
  const announce = await createAnnounce(codec, config.NOTIFIER_PUBLIC_KEY_FILE, systemClock)
  const personKeys = createPersonKeys(sql, config.PERSON_KEK_FILE)
  personKeys.rewrapAll().then(
    many => many > 0 && logger.info({ many }, 'keys of persons are wrapped by another key now'),
    error => logger.error({ err: error }, 'keys of persons were not wrapped anew'),
  )
  const names = createNames(sql)
  const tokens = await createTokens({
    keys: config.JWT_KEY_FILE.value,
    issuer: config.ISSUER,
    audience: config.AUDIENCE,
    accessTokenSeconds: config.ACCESS_TOKEN_SECONDS,
    stepUpSeconds: config.STEP_UP_SECONDS,
    clock: systemClock,
  })
  const reloading = startReloadingKeys({
    read: config.JWT_KEY_FILE.read,
    use: tokens.useKeys,
    everyMs: config.JWT_KEY_RELOAD_SECONDS * 1_000,
    clock: systemClock,
    logger,
  })
  const revocations = createRevocations({
    clock: systemClock,
    sql,
    redis,
    logger,
    accessTokenSeconds: config.ACCESS_TOKEN_SECONDS,
    stepUpSeconds: config.STEP_UP_SECONDS,
  })
  const takeFromLimits = createRateLimits(redis, rateLimitsOf(config), hashAddress)
  const loginAttempts = createLoginAttempts({ sql, takeFromLimits, hash: hashAddress })
  const logins = createLoginHistory({ sql, inTransaction, announce, personKeys, logger })
  const sessions = createSessions({
    sql,
    inTransaction,
    tokens,
    revocations,
    announce,
    personKeys,
    logins,
    loginAttempts,
  })
  const passwords = await createPasswords(slowHash('password', PASSWORDS_AT_ONCE), await readCommonCost(sql))
  const passwordMeter = createPasswordMeter()
  const secondFactor = createSecondFactor({
    sql,
    inTransaction,
    announce,
    passwords,
    logins,
    sessions,
    keys: config.SECOND_FACTOR_KEY_FILE,
    pepper: config.PIN_PEPPER_FILE,
    issuer: config.ISSUER,
    clock: systemClock,
  })
  const accounts = createAccounts({
    clock: systemClock,
    sql,
    inTransaction,
    logger,
    passwords,
    passwordMeter,
    announce,
    personKeys,
    sessions,
    logins,
    urls: {
      verification: `${config.PUBLIC_URL}/v1/auth/verify-email`,
      newPassword: `${config.PUBLIC_URL}/v1/auth/reset-password`,
    },
    bootstrapAdminEmail: config.BOOTSTRAP_ADMIN_EMAIL,
    endApiKeys,
    forgetOidcRequests,
    hashAddress,
  })
  // For a setting that came after the account. A changed role ends the sessions: the next token contains it.
  if (config.BOOTSTRAP_ADMIN_EMAIL !== undefined) {
    const email = config.BOOTSTRAP_ADMIN_EMAIL
    const traceparent = continueTrace(undefined)
    const userId = await inTransaction(tx => bootstrapAdmin(tx, announce, email, traceparent))
    if (userId) {
      logger.warn({ userId }, 'BOOTSTRAP_ADMIN_EMAIL: its owner is super_admin now')
      await sessions.end({ userId, reason: 'role_changed' }, traceparent)
    } else if (await isOwnerUnproved(sql, email)) {
      logger.warn(
        'BOOTSTRAP_ADMIN_EMAIL: its owner becomes super_admin with a new password by mail: POST /v1/auth/forgot-password',
      )
    }
  }
  const externalIdentities = createExternalIdentities({
    sql,
    inTransaction,
    announce,
    accounts,
    tokens: createExternalTokens(config.TRUSTED_ISSUERS),
    logins,
    sessions,
  })
  const socialLogin = createSocialLogin({
    sql,
    inTransaction,
    announce,
    personKeys,
    accounts,
    externalIdentities,
    oidcProviders: createOidcProviders({
      providers: config.OIDC_PROVIDERS_FILE ?? [],
      publicUrl: config.PUBLIC_URL,
      logger,
    }),
    returnUrls: config.OIDC_RETURN_URLS,
    bootstrapAdminEmail: config.BOOTSTRAP_ADMIN_EMAIL,
    clock: systemClock,
  })
  const purging = startPurging({
    purge: () => purgeExpired(sql),
    purged,
    clock: systemClock,
    logger,
    everyMs: config.PURGE_SECONDS * 1_000,
  })
  const pins = createPins({
    sql,
    inTransaction,
    slowHash: slowHash('pin', PINS_AT_ONCE),
    pepper: config.PIN_PEPPER_FILE,
    announce,
    accounts,
    sessions,
    revocations,
    clock: systemClock,
  })
  const apiKeys = createApiKeys({
    sql,
    inTransaction,
    logger,
    announce,
    personKeys,
    accounts,
    pins,
    limit: config.RATE_LIMIT_API_KEY,
  })
  const manageUsers = createManageUsers({
    sql,
    inTransaction,
    announce,
    personKeys,
    sessions,
    accounts,
    apiKeys,
  })
  const recordView = createRecordView({ inTransaction, announce })
  const refusals = createRefusalCounter({
    announceAll: counted =>
      inTransaction(tx =>
        appendToOutbox(
          tx,
          counted.map(({ lastAt, ...fact }) =>
            announce.identityEvent('RequestsRefused', fact, undefined, {
              ...{ eventId: randomUUID(), occurredAt: lastAt },
            }),
          ),
        ),
      ),
    clock: systemClock,
    logger,
  })
  const guardsWith = (inReadTurn: InTurn): Guards =>
    createGuards({ tokens, revocations, apiKeys, takeFromLimits, recordView, inReadTurn, logger })
  const guards = guardsWith(createTurns('reads', 'gateway', systemClock))

  return {
    guards,
    guardsWith,
    tokens,
    pins,
    personKeys,
    names,
    announce,
    confirmPassword: accounts.confirmPassword,
    manageUsers,
    sessions,
    logins,
    apiKeys,
    externalIdentities,
    pushEnded: revocations.push,
    readSessionEnd: revocations.storedEndOf,
    hashAddress,
    refusals,
    routes: [
      authRoutes({
        guards,
        accounts,
        externalIdentities,
        secondFactor,
        sessions,
        loginAttempts,
        sql,
        hashAddress,
        publicUrl: config.PUBLIC_URL,
      }),
      userRoutes({ guards, sql, accounts, manageUsers, logins, pins, names }),
      sessionRoutes({ guards, sessions }),
      externalIdentityRoutes({ guards, externalIdentities }),
      oidcRoutes({
        guards,
        socialLogin,
        secondFactor,
        sessions,
        hashAddress,
        publicUrl: config.PUBLIC_URL,
      }),
      secondFactorRoutes({
        guards,
        secondFactor,
        sessions,
        tokens,
        hashAddress,
        publicUrl: config.PUBLIC_URL,
      }),
      pinRoutes({ guards, pins, tokens, clock: systemClock }),
      apiKeyRoutes({ guards, apiKeys }),
      keyRoutes(tokens),
      mailCallbackRoutes({ guards, inTransaction, announce, secret: config.MAIL_CALLBACK_SECRET }),
      adminUserRoutes({ guards, sql, personKeys, sessions, apiKeys, manageUsers }),
    ],
    check: revocations.check,
    stop: async () => {
      await refusals.stop()
      await revocations.stop()
      await reloading.stop()
      await purging.stop()
      await passwordMeter.stop()
    },
  }
}
