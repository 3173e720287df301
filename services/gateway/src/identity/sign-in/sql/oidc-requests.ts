import type { Database, Tx } from '@pennywire/runtime/database.ts'

export type OidcRequest = {
  provider: string
  returnTo: string | null
  /** The user who links the identity, and the session that must stay open; both null for a sign-in. */
  userId: string | null
  sessionId: string | null
}

export const insertOidcRequest = async (
  sql: Database,
  request: OidcRequest & { stateHash: Buffer; browserHash: Buffer; seconds: number },
): Promise<void> => {
  await sql`
    insert into gateway.oidc_requests
      (state_hash, browser_hash, provider, return_to, user_id, session_id, expires_at)
    values (${request.stateHash}, ${request.browserHash}, ${request.provider}, ${request.returnTo}, ${request.userId},
      ${request.sessionId}, now() + make_interval(secs => ${request.seconds}))`
}

/**
 * Spends a request in one statement, so that of two callbacks with one state only one gets it. Undefined if the request
 * is unknown, expired, or another browser's, which does not spend it.
 */
export const takeOidcRequest = async (
  sql: Database,
  hashes: { stateHash: Buffer; browserHash: Buffer },
): Promise<OidcRequest | undefined> => {
  const [request] = await sql<OidcRequest[]>`
    delete from gateway.oidc_requests
    where state_hash = ${hashes.stateHash} and browser_hash = ${hashes.browserHash} and expires_at > now()
    returning provider, return_to as "returnTo", user_id as "userId", session_id as "sessionId"`
  return request
}

/** Deletes the user's pending link requests. */
export const forgetOidcRequests = async (tx: Tx, userId: string): Promise<void> => {
  await tx`delete from gateway.oidc_requests where user_id = ${userId}`
}
