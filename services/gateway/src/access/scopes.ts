import { ProblemError } from '../problems/problem.ts'

/**
 * What an API key may be allowed, each named by what it reads or does. Routes without a scope take no key: who an
 * account is, its PIN, its limits, its wallets' state and its keys are for the person alone, so that no key, leaked or
 * not, can make itself more.
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

/** Whether a key with these scopes makes money leave its user's wallets, which the PIN has to allow once. */
export const movesMoneyOut = (scopes: readonly string[]): boolean =>
  scopes.some(scope => MONEY_OUT.includes(scope))

/** Throws where a route takes no API key (`needed` is missing), or this one lacks its scope. */
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
