// Who asks, as all rooms know them.
/**
 * Who signed in, as the access token says and the session confirms. Where the PIN was locked within the life of a step-up
 * token, `pinLockedAt` says when (milliseconds since 1970).
 */
export type SignedInUser = { userId: string; sessionId: string; roles: string[]; pinLockedAt?: number }

/** Who makes the request: a person in a session of theirs, or a back end of theirs with an API key. */
export type Requester =
  | (SignedInUser & { apiKey: null })
  | { userId: string; sessionId: null; roles: string[]; apiKey: UsedApiKey }

/** What the key of a request may do, beyond what its user may. */
export type UsedApiKey = {
  id: string
  scopes: string[]
  /** The most that it moves at once, in major units of any currency; null: no limit of its own. */
  maxAmount: string | null
  /** When its user allowed it, with the PIN where money leaves. */
  authorizedAt: number
  /** How many requests it may make within how many seconds. */
  limit: { requests: number; seconds: number }
}

/** Who calls, as far as it is known. The address itself is kept only under the person's key. */
export type Caller = {
  address: string
  addressHash: string
  userAgent: string | undefined
  traceparent: string
}
