import { isProblemCode } from '@pennywire/contracts/problems.ts'
import { ProblemError } from '../problems/problem.ts'

/** The key belongs to a request with other content, whose outcome stands. */
export const keyReused = (): ProblemError =>
  new ProblemError(
    'IDEMPOTENCY_KEY_REUSED',
    'Idempotency-Key: it belongs to an earlier request with other content; use a new key for a new request',
  )

/** The ledger's rejection as a problem: always final, even if its code is not final elsewhere. */
export const rejectionProblem = (
  transferId: string,
  code: string,
  detail: string,
  replayed: boolean,
  members: { limit?: string; used?: string; requested?: string } = {},
): ProblemError =>
  new ProblemError(
    isProblemCode(code) ? code : 'INTERNAL_ERROR',
    detail,
    { ...members, transferId, final: true, retryable: false },
    replayed ? { 'idempotency-replayed': 'true' } : {},
  )
