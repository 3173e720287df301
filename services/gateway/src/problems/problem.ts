import { PROBLEMS, type ProblemCode } from '@pennywire/contracts/problems.ts'

/** A field of the request and the rule it breaks, as text. */
export type BrokenRule = { field: string; rule: string }

/**
 * Refuses a request with a problem of the closed table. `detail` is for people and names the field and the rule;
 * `members` are the code's own, such as `attemptsRemaining`. Neither may ever hold a secret.
 */
export class ProblemError extends Error {
  override name = 'ProblemError'
  readonly code: ProblemCode
  readonly detail: string
  readonly members: Record<string, unknown>
  readonly headers: Record<string, string>

  constructor(
    code: ProblemCode,
    detail: string,
    members: Record<string, unknown> = {},
    headers: Record<string, string> = {},
  ) {
    super(`${code}: ${detail}`)
    this.code = code
    this.detail = detail
    this.members = members
    this.headers = headers
  }
}

/** Clients choose the number and the names of their fields; the answer must not grow with them. */
const MOST_SHOWN = 20
const FIELD_LETTERS = 100

/** 422 VALIDATION_ERROR for one or several fields, up to twenty named at once. */
export const validationProblem = (broken: BrokenRule[]): ProblemError => {
  const errors = broken
    .slice(0, MOST_SHOWN)
    .map(({ field, rule }) => ({ field: field.slice(0, FIELD_LETTERS), rule }))
  const more = broken.length > MOST_SHOWN ? `; and ${broken.length - MOST_SHOWN} more` : ''
  const detail = `${errors.map(({ field, rule }) => `${field}: ${rule}`).join('; ')}${more}`
  return new ProblemError('VALIDATION_ERROR', detail, { errors })
}

/**
 * The body of a problem (RFC 9457). `type` is a path of the gateway's own documentation. `retryable` and `final` are
 * the table's, unless `members` override them: the ledger's decision on one request outranks a code's usual meaning.
 */
export const problemBody = (
  code: ProblemCode,
  detail: string,
  requestId: string,
  members: Record<string, unknown> = {},
) => {
  const { title, status, retryable, final } = PROBLEMS[code]
  return {
    ...members,
    type: `/docs/problems#${code}`,
    title,
    status,
    code,
    detail,
    requestId,
    retryable: members.retryable ?? retryable,
    final: members.final ?? final,
  }
}
