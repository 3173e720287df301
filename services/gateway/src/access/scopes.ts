import { ProblemError } from '../problems/problem.ts'

/**
 * The scopes of an API key, each named after what it reads or does. Routes without a scope refuse API keys: the
 * account, its PIN, limits, wallet states and keys are for the person alone, so that no key, leaked or not, can extend
 * its own rights.
 */
export const SCOPES = [
  'wallets:read',
  'transfers:read',
  'transfers:write',
  'holds:capture',
  'deposits:write',
  'withdrawals:write',
] as const
export type Scope = (typeof SCOPES)[number]

const MONEY_OUT: readonly string[] = ['transfers:write', 'withdrawals:write'] satisfies Scope[]

/** Whether a key with these scopes moves money out of its user's wallets: creating it then requires the PIN once. */
export const movesMoneyOut = (scopes: readonly string[]): boolean =>
  scopes.some(scope => MONEY_OUT.includes(scope))

/** Throws if the route takes no API key (`needed` is undefined), or if the key lacks the scope. */
export const requireScope = (scopes: readonly string[], needed: Scope | undefined): void => {
  if (needed === undefined) {
    throw new ProblemError('API_KEY_NOT_ALLOWED', 'Authorization: an API key cannot do this; sign in.')
  }
  if (scopes.includes(needed)) return
  throw new ProblemError(
    'INSUFFICIENT_SCOPE',
    `Authorization: the API key needs the scope ${needed}.`,
    { requiredScope: needed },
    // RFC 6750, section 3.1.
    { 'www-authenticate': `Bearer error="insufficient_scope", scope="${needed}"` },
  )
}
