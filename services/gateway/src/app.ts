import { randomUUID } from 'node:crypto'
import type { BlockList } from 'node:net'
import { OpenAPIHono } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { isDatabaseAway } from '@pennywire/runtime/database.ts'
import { healthRoutes } from '@pennywire/runtime/health.ts'
import type { RefusedStatus } from '@pennywire/runtime/http-server.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { secondsHistogram } from '@pennywire/runtime/metrics.ts'
import { continueTrace, traceIdOf } from '@pennywire/runtime/tracing.ts'
import type { Context, MiddlewareHandler } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { matchedRoutes } from 'hono/route'
import { clientAddress } from './http/client-address.ts'
import type { GatewayEnv } from './http/context.ts'
import type { Guards, Routes } from './http/define-route.ts'
import { problemResponse } from './http/problem-response.ts'
import { BODY_LIMIT_BYTES, readBody } from './http/read-body.ts'
import { referenceRoutes } from './http/reference.ts'
import type { Refusal } from './identity/events/count-refusals.ts'
import { ProblemError, problemBody } from './problems/problem.ts'
import { type RequestScope, runInScope } from './queues/request-scope.ts'

export type AppDeps = {
  logger: Logger
  /** Base URL of the gateway for clients; HTTPS here turns on HSTS. */
  publicUrl: string
  trustedProxies: BlockList
  guards: Pick<Guards, 'anybody'>
  /** The keyed hash by which records name a network address. */
  hashAddress: (address: string) => string
  /** Counts a refused request of a route that guards money or is for staff, of which no record tells. */
  countRefusal: (refusal: Refusal) => void
  /** Whether `/docs` and `/openapi.json` are served. */
  apiDocs: boolean
  /** The groups of routes, in the order of the reference page. */
  routes: Routes[]
}

const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/
const HSTS_SECONDS = 365 * 24 * 60 * 60

/** Polled every few seconds by machines: not worth an access log line each time. */
const PROBE = '/healthz'

const httpSeconds = secondsHistogram('http_request_seconds', 'HTTP requests by route and status', [
  'method',
  'route',
  'status',
])

/** The pattern of the matched route ("/v1/wallets/:id"): unlike the path, it contains no ids or tokens. */
const routePattern = (context: Context): string =>
  matchedRoutes(context).findLast(route => route.method !== 'ALL')?.path ?? 'none'

/** Headers of every response, including those that no handler produces. */
const securityHeaders = (publicUrl: string): Record<string, string> => ({
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  ...(publicUrl.startsWith('https:')
    ? { 'strict-transport-security': `max-age=${HSTS_SECONDS}; includeSubDomains` }
    : {}),
})

const REFUSALS: Record<RefusedStatus, [ProblemCode, string]> = {
  400: [
    'MALFORMED_REQUEST',
    "The request is not HTTP/1.1 that can be read: its first line, a header or the body's frame.",
  ],
  408: ['REQUEST_TIMEOUT', 'The request did not come within 30 seconds, or its headers within 10.'],
  413: ['PAYLOAD_TOO_LARGE', "body: the chunks' extensions are too long"],
  431: ['HEADERS_TOO_LARGE', 'headers: must be at most 16 KiB together, the first line included'],
}

/** Builds the server's response to a request that reaches no handler, because it cannot be parsed. */
export const createAnswerRefused = (publicUrl: string) => {
  const always = securityHeaders(publicUrl)
  return (status: RefusedStatus) => {
    const requestId = randomUUID()
    return {
      headers: { ...always, 'content-type': 'application/problem+json', 'x-request-id': requestId },
      body: JSON.stringify(problemBody(...REFUSALS[status], requestId)),
    }
  }
}

/**
 * Sets the request's id, trace and address, sets the headers of every response, and writes one access log line: without
 * body and query string, because both may contain secrets.
 */
const frameRequest = (deps: AppDeps): MiddlewareHandler<GatewayEnv> => {
  const { logger, publicUrl, trustedProxies, hashAddress, countRefusal } = deps
  const always = Object.entries(securityHeaders(publicUrl))
  // No redaction: it costs 7% of a busy gateway, and the members of this line, all set here, contain no secrets.
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
    for (const [name, value] of always) context.header(name, value)
    const { address } = context.var
    let addressHash: string | undefined
    const scope: RequestScope = {
      requestId,
      address,
      known: false,
      // Most requests leave no record.
      get addressHash() {
        addressHash ??= hashAddress(address)
        return addressHash
      },
      // Created on first access: most requests wait for nothing.
      get gone() {
        return context.req.raw.signal
      },
    }
    await runInScope(scope, next)
    const ms = performance.now() - begun
    const { method } = context.req
    const route = routePattern(context)
    const { status } = context.res
    httpSeconds.observe({ method, route, status }, ms / 1_000)
    const { problem, user, isGuarded } = context.var
    if (isGuarded && problem && status < 500 && !scope.isRecorded)
      countRefusal({
        userId: user?.userId ?? null,
        role: scope.role ?? null,
        ...{ method, route, code: problem, requestId, addressHash: scope.addressHash ?? null },
      })
    accessLog[route === PROBE ? 'debug' : 'info'](
      {
        method,
        route,
        status,
        problem,
        ms: Math.round(ms * 10) / 10,
        requestId,
        traceId: traceIdOf(traceparent),
        userId: user?.userId,
        apiKeyId: user?.apiKey?.id,
      },
      'request',
    )
  }
}

/** Headers that must occur once: of two values, a proxy may use another one than the gateway. */
const SENT_ONCE = new Set(['host', 'authorization', 'content-type', 'idempotency-key', 'step-up-token'])

const refuseRepeatedHeaders = (): MiddlewareHandler<GatewayEnv> => async (context, next) => {
  // Names and values alternate, as sent; in `headers` Node has already dropped or joined the second value.
  const sent = context.env?.incoming?.rawHeaders ?? []
  const seen = new Set<string>()
  for (let at = 0; at < sent.length; at += 2) {
    const name = sent[at]!.toLowerCase()
    if (!SENT_ONCE.has(name)) continue
    if (seen.has(name)) throw new ProblemError('MALFORMED_REQUEST', `${sent[at]}: must be sent once`)
    seen.add(name)
  }
  return next()
}

const CODE_OF_STATUS: Record<number, [ProblemCode, string]> = {
  400: ['MALFORMED_JSON', 'body: must be well-formed JSON'],
  413: ['PAYLOAD_TOO_LARGE', `body: must be at most ${BODY_LIMIT_BYTES} bytes`],
  415: ['UNSUPPORTED_MEDIA_TYPE', 'Content-Type: must be application/json'],
}

/** Maps every error to a problem; an unexpected one is logged in full and discloses nothing to the client. */
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
    // Node's error for a body whose client disconnected; the database's network errors are handled above.
    if ('code' in error && error.code === 'ECONNRESET') {
      return problemResponse(context, 'MALFORMED_JSON', 'body: ended before it was complete')
    }
    logger.error({ err: error, requestId, traceId: traceIdOf(traceparent) }, 'request failed')
    return problemResponse(context, 'INTERNAL_ERROR', 'The request failed on our side; quote the requestId.')
  }

const segmentPattern = (segment: string) => (segment.startsWith(':') ? '[^/]+' : RegExp.escape(segment))

/** 405 with the methods that the path supports, or 404. Runs only if no route matched, so it may be slow. */
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
    // A literal path takes precedence over a pattern: "/v1/transfers/preview" is not a transfer.
    const exact = matching.filter(({ spelled }) => spelled === context.req.path)
    const allowed = new Set((exact.length > 0 ? exact : matching).map(({ method }) => method))
    if (allowed.size === 0)
      return problemResponse(context, 'ROUTE_NOT_FOUND', 'There is no route at this path.')
    if (allowed.has('GET')) allowed.add('HEAD')
    const allow = [...allowed].sort().join(', ')
    return problemResponse(context, 'METHOD_NOT_ALLOWED', `This path takes ${allow}.`, {}, { allow })
  }
}

/** The whole HTTP surface, without a server: tests call it with `app.request(path, init, env)`. */
export const createApp = (deps: AppDeps): OpenAPIHono<GatewayEnv> => {
  const app = new OpenAPIHono<GatewayEnv>()
  app.onError(answerError(deps.logger))
  app.notFound(answerUnknown(app))
  app.use('*', frameRequest(deps), refuseRepeatedHeaders(), readBody())
  app.route('/', healthRoutes())
  for (const routes of deps.routes) app.route('/', routes)
  app.route('/', referenceRoutes(app, deps))
  return app
}
