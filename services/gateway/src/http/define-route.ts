import { OpenAPIHono, z } from '@hono/zod-openapi'
import { codeAsTyped } from '@pennywire/contracts/as-typed.ts'
import { isCurrency } from '@pennywire/contracts/money.ts'
import { PROBLEMS, type ProblemCode } from '@pennywire/contracts/problems.ts'
import type { MiddlewareHandler } from 'hono'
import type { Role } from '../access/roles.ts'
import type { Scope } from '../access/scopes.ts'
import { type BrokenRule, problemBody, validationProblem } from '../problems/problem.ts'
import { checkText } from './check-text.ts'
import type { GatewayEnv } from './context.ts'
import type { LimitName } from './rate-limit.ts'

export type Routes = OpenAPIHono<GatewayEnv>

const ruleOf = (message: string) =>
  message.endsWith('received undefined') ? 'is required' : message.replace(/^Invalid input: /, '')

const brokenRules = (issues: readonly z.core.$ZodIssue[]): BrokenRule[] =>
  issues.flatMap(issue =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map(key => ({ field: [...issue.path, key].join('.'), rule: 'is not a known field' }))
      : [{ field: issue.path.join('.') || 'body', rule: ruleOf(issue.message) }],
  )

/**
 * A group of routes whose requests are validated before the handler runs: 422 VALIDATION_ERROR names every field
 * that breaks a rule.
 *
 * A route file is a function from its dependencies to its routes, and main.ts lists it in `createApp({ routes })`:
 *
 * ```ts
 * const openWallet = ({ signedIn }: Guards) =>
 *   createRoute({
 *     method: 'post',
 *     path: '/v1/wallets',
 *     tags: ['Wallets'],
 *     summary: 'Opens a wallet',
 *     ...signedIn(),
 *     request: { body: jsonBody(z.strictObject({ currency: currencyCode })) },
 *     responses: {
 *       201: jsonAnswer('The wallet', walletSchema),
 *       ...problemResponses('WALLET_ALREADY_EXISTS', ...SIGNED_IN_PROBLEMS, ...BODY_PROBLEMS),
 *     },
 *   })
 *
 * export const walletRoutes = (deps: WalletDeps): Routes => {
 *   const routes = newRoutes()
 *   routes.openapi(openWallet(deps.guards), async context => {
 *     const { currency } = context.req.valid('json')
 *     return context.json(await deps.open(context.var.user.userId, currency), 201)
 *   })
 *   return routes
 * }
 * ```
 *
 * Handlers refuse a request by throwing `ProblemError`.
 */
export const newRoutes = (): Routes => {
  const routes: Routes = new OpenAPIHono<GatewayEnv>({
    defaultHook: result => {
      if (!result.success) throw validationProblem(brokenRules(result.error.issues))
    },
  })
  const { openapi } = routes
  // Runs after the route's guards, before its validation.
  routes.openapi = ((route, handler) => {
    const { body, query } = route.request ?? {}
    const text = checkText({
      body: body === undefined ? 'none' : body.required ? 'required' : 'optional',
      query: query !== undefined,
    })
    return openapi({ ...route, middleware: [route.middleware ?? [], text].flat() }, handler)
  }) as typeof openapi
  return routes
}

export type Guards = {
  /**
   * For a route of signed-in users: checks the access token, the session and the rate limits (DEFAULT and `limit`)
   * before anything else. `guardsMoney` refuses with 503 if Redis is unavailable; without it the request then
   * continues, and the session is read from Postgres. `role` is the caller's minimum role, by default `user`. With
   * `scope` the route also takes API keys that have the scope, counted by key (API_KEY in place of DEFAULT); its
   * problems are then KEY_PROBLEMS. `stepUp` requires a Step-Up-Token of the second factor: for staff actions that give
   * power or money. Reads by staff are recorded: see `viewed`. Reads wait for their user's turn; a route with
   * `ownTurns` takes its turns itself, because its answer takes long to build.
   */
  signedIn: (
    options?: { limit?: LimitName; guardsMoney?: boolean; ownTurns?: boolean } & (
      | { role?: Role; scope?: never; stepUp?: boolean }
      | { role?: never; scope: Scope; stepUp?: never }
    ),
  ) => {
    security: Array<{ bearer: string[] } | { apiKey: string[] }>
    /** Part of the OpenAPI document, for clients and for the test of every route by every role. */
    'x-required-role': Role
    'x-fails-closed': boolean
    'x-required-scope'?: Scope
    'x-step-up'?: true
    middleware: MiddlewareHandler<GatewayEnv>[]
  }
  /**
   * For a route without sign-in: counts by address (DEFAULT and `limit`). `guardsLogin` refuses with 503 if Redis is
   * unavailable.
   */
  anybody: (options?: { limit?: LimitName; guardsLogin?: boolean }) => {
    /** Part of the OpenAPI document: whether the route refuses (503) while sessions and limits cannot be checked. */
    'x-fails-closed': boolean
    middleware: MiddlewareHandler<GatewayEnv>[]
  }
  /**
   * Throws the problem of an Authorization header that was valid once: its token has expired, its session or key has
   * ended, its user is disabled. For answers that last.
   */
  confirmSignedIn: (authorization: string | undefined) => Promise<void>
}

/** A JSON body by a strict schema (`z.strictObject`): unknown fields are refused. */
export const jsonBody = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true as const,
  content: { 'application/json': { schema } },
})

/** An optional JSON body: read as `{}` if omitted. A body that is sent must still be JSON, else 415. */
export const optionalJsonBody = <Schema extends z.ZodType>(schema: Schema) => ({
  required: false as const,
  content: { 'application/json': { schema } },
})

/** A JSON answer. */
export const jsonAnswer = <Schema extends z.ZodType>(description: string, schema: Schema) => ({
  description,
  content: { 'application/json': { schema } },
})

/** One page of a list: `nextCursor` is null on the last one. */
export const pageOf = <Schema extends z.ZodType>(item: Schema) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() })

/** An amount as clients write it. `parseAmount` checks its decimals against the currency. */
export const moneyString = z
  .string()
  .regex(
    /^(0|[1-9][0-9]{0,18})(\.[0-9]{1,20})?$/,
    'must be a decimal string such as "12.50", digits and at most one point',
  )
  .openapi({ example: '12.50', description: "Decimal string with at most the currency's decimals" })

export const currencyCode = z
  .string()
  .refine(isCurrency, 'must be an ISO 4217 currency in use, in upper case')
  .openapi({ example: 'USD', pattern: '^[A-Z]{3}$' })

const PAGE_DEFAULT = 20
const PAGE_MAX = 100

/** Query parameter `limit`: 1 to 100, by default 20. */
export const limitParam = z
  .string()
  .regex(/^[0-9]{1,9}$/, `must be a whole number from 1 to ${PAGE_MAX}`)
  .transform(Number)
  .refine(limit => limit >= 1 && limit <= PAGE_MAX, `must be from 1 to ${PAGE_MAX}`)
  .default(PAGE_DEFAULT)
  .openapi({ type: 'integer', minimum: 1, maximum: PAGE_MAX, default: PAGE_DEFAULT, example: PAGE_DEFAULT })

/** Query parameter `cursor`: the `nextCursor` of the page before, taken as opaque. */
export const cursorParam = z
  .string()
  .max(12_000)
  .regex(/^[A-Za-z0-9_-]+$/, 'must be the nextCursor of an earlier page')
  .optional()
  .openapi({ description: '`nextCursor` of the page before' })

/** The id that the cursor consists of; undefined without a cursor. */
export const readIdCursor = (cursor: string | undefined): string | undefined => {
  if (cursor === undefined || z.uuid().safeParse(cursor).success) return cursor?.toLowerCase()
  throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
}

/** Cuts a page from up to `limit` + 1 rows: its rows, and the last row's id if others follow. */
export const cutPage = <Row extends { id: string }>(
  found: Row[],
  limit: number,
): { page: Row[]; nextCursor: string | null } => {
  const page = found.slice(0, limit)
  return { page, nextCursor: found.length > limit ? page.at(-1)!.id : null }
}

const LAST_SEQ = 2n ** 63n - 1n

/** The number below which a page of a numbered list begins: above all without a cursor. */
export const readSeqCursor = (cursor: string | undefined): bigint => {
  if (cursor === undefined) return LAST_SEQ
  const seq = Buffer.from(cursor, 'base64url').toString('latin1')
  if (/^[1-9][0-9]{0,17}$/.test(seq)) return BigInt(seq)
  throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
}

/** Cuts a page of a numbered list from up to `limit` + 1 rows, as `cutPage` does by id. */
export const cutNumberedPage = <Row extends { seq: bigint }>(
  found: Row[],
  limit: number,
): { page: Row[]; nextCursor: string | null } => {
  const page = found.slice(0, limit)
  const isLast = found.length <= limit
  return { page, nextCursor: isLast ? null : Buffer.from(String(page.at(-1)!.seq)).toString('base64url') }
}

/** A person's reason for an action, in their words. */
export const reasonField = z.string().trim().min(1).max(255)

/** A code of six digits that a person types or pastes, with or without blanks. */
export const sixDigits = z
  .string()
  .max(32)
  .transform(codeAsTyped)
  .refine(text => /^[0-9]{6}$/.test(text), 'must be 6 digits')
  .openapi({ type: 'string', pattern: '^ *([0-9] *){6}$', example: '048213' })

/** A UUID, in lower case: ids are compared as strings, and other ids are derived from them. */
export const uuidParam = z
  .uuid('must be a UUID')
  .toLowerCase()
  .openapi({ format: 'uuid', example: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11' })

const FIRST_YEAR = 1970
/** Whether a date, with a time or without, is in FIRST_YEAR or later. */
const isSinceFirstYear = (text: string): boolean => Number(text.slice(0, 4)) >= FIRST_YEAR

/** A day in UTC. */
export const dayParam = (example: string) =>
  z.iso
    .date('must be a day such as 2026-01-31')
    .refine(isSinceFirstYear, `must be in ${FIRST_YEAR} or later`)
    .openapi({ format: 'date', example })

/** An offset such as +02:00 whose plus was not encoded. */
const SPACE_FOR_PLUS = / \d{2}:\d{2}$/

/** A moment in a query: RFC 3339 with an offset. */
export const momentParam = z
  .string()
  .refine(
    text => !SPACE_FOR_PLUS.test(text),
    'must have its + percent-encoded as %2B: a + in a query is a space',
  )
  // RFC 3339 allows its letters in either case.
  .toUpperCase()
  .pipe(z.iso.datetime({ offset: true, error: 'must be a date and time such as 2026-01-31T09:30:00Z' }))
  .refine(isSinceFirstYear, `must be in ${FIRST_YEAR} or later`)

/** A timestamp in the format of every answer: RFC 3339 in UTC with milliseconds. */
export const timestamp = z.string().openapi({ format: 'date-time', example: '2026-01-31T09:30:00.000Z' })

const problemSchema = z
  .looseObject({
    type: z.string().openapi({ description: 'A path of this documentation that explains the code' }),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(PROBLEMS) as [ProblemCode, ...ProblemCode[]]),
    detail: z.string().openapi({ description: 'Names the field and the rule' }),
    requestId: z.string(),
    retryable: z.boolean().openapi({ description: 'Whether the same request may succeed later' }),
    final: z.boolean().openapi({ description: 'Whether a new attempt needs a new Idempotency-Key' }),
  })
  .openapi('Problem', { description: 'RFC 9457. Further members depend on the code.' })

const EXAMPLE_REQUEST_ID = '0b9a3c0e-6b1e-4a53-8f6a-2d2f0c9f4a55'

/** Problems that any route with a body may answer. */
export const BODY_PROBLEMS = [
  'MALFORMED_JSON',
  'PAYLOAD_TOO_LARGE',
  'UNSUPPORTED_MEDIA_TYPE',
  'VALIDATION_ERROR',
] as const satisfies ProblemCode[]

/** Problems that any route without sign-in may answer. */
export const ANYBODY_PROBLEMS = [
  'RATE_LIMIT_EXCEEDED',
  'SERVICE_UNAVAILABLE',
  'INTERNAL_ERROR',
] as const satisfies ProblemCode[]

const TOKEN_PROBLEMS = [
  'TOKEN_MISSING',
  'TOKEN_INVALID',
  'TOKEN_EXPIRED',
  'TOKEN_REVOKED',
  'ACCOUNT_DISABLED',
  ...ANYBODY_PROBLEMS,
] as const satisfies ProblemCode[]

/** Problems that any route for signed-in users may answer. */
export const SIGNED_IN_PROBLEMS = [...TOKEN_PROBLEMS, 'API_KEY_NOT_ALLOWED'] as const satisfies ProblemCode[]

/** Problems that any route which also takes API keys may answer. */
export const KEY_PROBLEMS = [...TOKEN_PROBLEMS, 'INSUFFICIENT_SCOPE'] as const satisfies ProblemCode[]

/** Problems that any route for staff may answer. */
export const STAFF_PROBLEMS = [
  ...SIGNED_IN_PROBLEMS,
  'INSUFFICIENT_PERMISSIONS',
] as const satisfies ProblemCode[]

/** Further problems that a staff route with `stepUp` may answer. */
export const STEP_UP_PROBLEMS = ['STEP_UP_REQUIRED', 'STEP_UP_INVALID'] as const satisfies ProblemCode[]

/** The header of a route with `stepUp`, for its document. */
export const stepUpHeader = z.object({
  'step-up-token': z.string().optional().openapi({ description: 'From POST /v1/auth/2fa/step-up' }),
})

/**
 * The problem answers of a route by status, each code with an example. The return type is empty: handlers throw
 * `ProblemError`, so that only their successes are checked against the route.
 */
// biome-ignore lint/complexity/noBannedTypes: the empty type is what is meant: no member that a handler could return
export const problemResponses = (...codes: ProblemCode[]): {} => {
  const responses: Record<number, unknown> = {}
  for (const status of new Set(codes.map(code => PROBLEMS[code].status))) {
    const ofStatus = [...new Set(codes)].filter(code => PROBLEMS[code].status === status)
    responses[status] = {
      description: ofStatus.map(code => `\`${code}\` ${PROBLEMS[code].title}`).join('; '),
      content: {
        'application/problem+json': {
          schema: problemSchema,
          examples: Object.fromEntries(
            ofStatus.map(code => [
              code,
              { value: problemBody(code, `${PROBLEMS[code].title}.`, EXAMPLE_REQUEST_ID) },
            ]),
          ),
        },
      },
    }
  }
  return responses
}
