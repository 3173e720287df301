import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import { problemBody } from '../problems/problem.ts'
import type { GatewayEnv } from './context.ts'

/** The first metric that shows a wave of guessing or of forged tokens. */
const problems = counter('gateway_problems_total', 'Requests answered with a problem, by its code', ['code'])

/** Default Retry-After of 429 and 503 (seconds). */
const RETRY_AFTER_SECONDS = 1

/** RFC 6750, section 3: the challenge that a bearer-token client needs in a 401. */
const challengeFor = (code: ProblemCode) =>
  code === 'TOKEN_MISSING' ? 'Bearer' : `Bearer error="invalid_token", error_description="${code}"`

/** Answers with a problem. 429 and 503 always carry Retry-After, a 401 for a token its challenge. */
export const problemResponse = (
  context: Context<GatewayEnv>,
  code: ProblemCode,
  detail: string,
  members: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Response => {
  const body = problemBody(code, detail, context.var.requestId, members)
  problems.inc({ code })
  context.set('problem', code)
  const status = body.status as ContentfulStatusCode
  return context.body(JSON.stringify(body), status, {
    'content-type': 'application/problem+json',
    ...(status === 429 || status === 503 ? { 'retry-after': String(RETRY_AFTER_SECONDS) } : {}),
    ...(status === 401 && code.startsWith('TOKEN_') ? { 'www-authenticate': challengeFor(code) } : {}),
    ...headers,
  })
}
