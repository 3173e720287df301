// The requester types that all rooms share.
/**
 * The signed-in user, as the access token states and the session confirms. `pinLockedAt` (milliseconds since 1970) is
 * set if the PIN was locked within the lifetime of a step-up token.
 */
export type SignedInUser = { userId: string; sessionId: string; roles: string[]; pinLockedAt?: number }

/** The requester: a person in their session, or their back end with an API key. */
export type Requester =
  | (SignedInUser & { apiKey: null })
  | { userId: string; sessionId: null; roles: string[]; apiKey: UsedApiKey }

/** The API key of a request, with its restrictions on top of its user's. */
export type UsedApiKey = {
  id: string
  scopes: string[]
  /** Maximum amount of one request, in major units of any currency; null: no limit of its own. */
  maxAmount: string | null
  /** When its user created the key: with the PIN if its scopes move money out. */
  authorizedAt: number
  /** The key's rate limit: `requests` within `seconds`. */
  limit: { requests: number; seconds: number }
}

/** The caller, as far as identified. The address itself is stored only under the person's key. */
export type Caller = {
  address: string
  addressHash: string
  userAgent: string | undefined
  traceparent: string
}
