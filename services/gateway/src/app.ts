import { randomUUID } from 'node:crypto'
import type { BlockList } from 'node:net'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { isDatabaseAway } from '@pennywire/runtime/database.ts'
import { operationsRoutes, type ReadinessCheck } from '@pennywire/runtime/health.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { secondsHistogram } from '@pennywire/runtime/metrics.ts'
import { continueTrace, traceIdOf } from '@pennywire/runtime/tracing.ts'
import type { Context, MiddlewareHandler } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { HTTPException } from 'hono/http-exception'
import { matchedRoutes } from 'hono/route'
import { clientAddress } from './client-address.ts'
import { ProblemError, problemResponse } from './problems.ts'
import type { GatewayEnv, Routes } from './routes/define-route.ts'
import { referenceRoutes } from './routes/reference.ts'

export type AppParts = {
  logger: Logger
  /** Where clients reach the gateway; HTTPS here turns on HSTS. */
  publicUrl: string
  trustedProxies: BlockList
  readiness: Record<string, ReadinessCheck>
  /** The groups of routes, in the order of the reference page. */
  routes: Routes[]
}

const BODY_LIMIT_BYTES = 64 * 1024
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/
const HSTS_SECONDS = 365 * 24 * 60 * 60

/** Asked every few seconds by machines: not worth a line of log each. */
const PROBES = new Set(['/healthz', '/readyz', '/metrics'])

const httpSeconds = secondsHistogram('http_request_seconds', 'HTTP requests by route and status', [
  'method',
  'route',
  'status',
])

/** The pattern of the route that answered ("/v1/wallets/:id"), which unlike the path holds no ids or tokens. */
const routePattern = (context: Context): string =>
  matchedRoutes(context).findLast(route => route.method !== 'ALL')?.path ?? 'none'

/**
 * Names the request (id, trace, address), sets the headers every answer has, and writes its one line of log: no
 * body and no query string, because both may hold secrets.
 */
const frameRequest = ({ logger, publicUrl, trustedProxies }: AppParts): MiddlewareHandler<GatewayEnv> => {
  const secure = publicUrl.startsWith('https:')
  // Looking for secrets by name costs 7% of a busy gateway, and this line is made here of members that hold none.
  const accessLog = logger.child({}, { redact: [] })
  return async (context, next) => {
    const begun = performance.now()
    const given = context.req.header('x-request-id')
    const requestId = given && REQUEST_ID.test(given) ? given : randomUUID()
    const traceparent = continueTrace(context.req.header('traceparent'))
    context.set('requestId', requestId)
    context.set('traceparent', traceparent)
    context.set(
      'address',
      clientAddress(
        context.env?.incoming?.socket?.remoteAddress,
        context.req.header('x-forwarded-for'),
        trustedProxies,
      ),
    )
    context.header('x-request-id', requestId)
    context.header('x-content-type-options', 'nosniff')
    context.header('x-frame-options', 'DENY')
    context.header('referrer-policy', 'no-referrer')
    context.header('cache-control', 'no-store')
    context.header('content-security-policy', "default-src 'none'; frame-ancestors 'none'")
    if (secure) context.header('strict-transport-security', `max-age=${HSTS_SECONDS}; includeSubDomains`)
    await next()
    const ms = performance.now() - begun
    const { method } = context.req
    const route = routePattern(context)
    const { status } = context.res
    httpSeconds.observe({ method, route, status }, ms / 1_000)
    accessLog[PROBES.has(route) ? 'debug' : 'info'](
      {
        method,
        route,
        status,
        problem: context.var.problem,
        ms: Math.round(ms * 10) / 10,
        requestId,
        traceId: traceIdOf(traceparent),
        userId: context.var.user?.userId,
        apiKeyId: context.var.user?.apiKey?.id,
      },
      'request',
    )
  }
}

/** Refuses bodies above 64 KiB: by their declared length, which Node enforces, or by counting a chunked one. */
const limitBody = (): MiddlewareHandler<GatewayEnv> => {
  const refuse = () => {
    throw new ProblemError('PAYLOAD_TOO_LARGE', `body: must be at most ${BODY_LIMIT_BYTES} bytes`)
  }
  const count = bodyLimit({ maxSize: BODY_LIMIT_BYTES, onError: refuse })
  return async (context, next) => {
    if (context.req.method === 'GET' || context.req.method === 'HEAD') return next()
    // Looking at the body itself builds the whole Request object, which costs more than all else here.
    const length = context.req.header('content-length')
    if (length === undefined || context.req.header('transfer-encoding') !== undefined)
      return count(context, next)
    if (Number(length) > BODY_LIMIT_BYTES) refuse()
    return next()
  }
}

const CODE_OF_STATUS: Record<number, [ProblemCode, string]> = {
  400: ['MALFORMED_JSON', 'body: must be well-formed JSON'],
  413: ['PAYLOAD_TOO_LARGE', `body: must be at most ${BODY_LIMIT_BYTES} bytes`],
  415: ['UNSUPPORTED_MEDIA_TYPE', 'Content-Type: must be application/json'],
}

/** Every error becomes a problem; one that nobody foresaw is logged in full and says nothing to the client. */
const answerError =
  (logger: Logger) =>
  (error: Error, context: Context<GatewayEnv>): Response => {
    if (error instanceof ProblemError) {
      return problemResponse(context, error.code, error.detail, error.members, error.headers)
    }
    const known = error instanceof HTTPException ? CODE_OF_STATUS[error.status] : undefined
    if (known) return problemResponse(context, ...known)
    const { requestId, traceparent } = context.var
    if (isDatabaseAway(error)) {
      logger.warn({ err: error, requestId, traceId: traceIdOf(traceparent) }, 'the database is away')
      return problemResponse(
        context,
        'SERVICE_UNAVAILABLE',
        'A part of the system is away. Try again; where money moves, with the same Idempotency-Key.',
      )
    }
    // Node's word for a body whose sender hung up; the database's own network errors were told apart above.
    if ('code' in error && error.code === 'ECONNRESET') {
      return problemResponse(context, 'MALFORMED_JSON', 'body: ended before it was complete')
    }
    logger.error({ err: error, requestId, traceId: traceIdOf(traceparent) }, 'request failed')
    return problemResponse(context, 'INTERNAL_ERROR', 'The request failed on our side; quote the requestId.')
  }

const segmentPattern = (segment: string) => (segment.startsWith(':') ? '[^/]+' : RegExp.escape(segment))

/** 405 with the methods that the path knows, or 404. Runs only where no route matched, so it may take its time. */
const answerUnknown = (app: OpenAPIHono<GatewayEnv>) => {
  let known: Array<{ method: string; spelled: string; path: RegExp }> | undefined
  return (context: Context<GatewayEnv>): Response => {
    known ??= app.routes
      .filter(route => route.method !== 'ALL')
      .map(({ method, path }) => ({
        method,
        spelled: path,
        path: new RegExp(`^${path.split('/').map(segmentPattern).join('/')}$`),
      }))
    const matching = known.filter(({ path }) => path.test(context.req.path))
    // A path that is spelled out is none that merely fits: "/v1/transfers/preview" is no transfer's.
    const exact = matching.filter(({ spelled }) => spelled === context.req.path)
    const allowed = new Set((exact.length > 0 ? exact : matching).map(({ method }) => method))
    if (allowed.size === 0)
      return problemResponse(context, 'ROUTE_NOT_FOUND', 'There is no route at this path.')
    if (allowed.has('GET')) allowed.add('HEAD')
    const allow = [...allowed].sort().join(', ')
    return problemResponse(context, 'METHOD_NOT_ALLOWED', `This path takes ${allow}.`, {}, { allow })
  }
}

/** The whole HTTP surface, apart from any server: tests ask it with `app.request(path, init, env)`. */
export const createApp = (parts: AppParts): OpenAPIHono<GatewayEnv> => {
  const app = new OpenAPIHono<GatewayEnv>()
  app.onError(answerError(parts.logger))
  app.notFound(answerUnknown(app))
  app.use('*', frameRequest(parts), limitBody())
  app.route('/', operationsRoutes(parts.readiness))
  for (const routes of parts.routes) app.route('/', routes)
  app.route('/', referenceRoutes(app))
  return app
}
