import { AsyncLocalStorage } from 'node:async_hooks'
import { networksOf } from '../http/client-address.ts'
import type { Place } from './fair-queue.ts'

/**
 * The request that the running code serves. Queues and outcome waiters are far below the routes; they read its place
 * here, so that no function in between has to pass it on.
 */
export type RequestScope = {
  /** The id that the answer's `x-request-id` and the log name. */
  requestId?: string
  /** The client's network address; never logged or stored as it is. */
  address: string
  /** Its keyed hash, as records name it. */
  readonly addressHash?: string
  /** Set by the guards: a session's or an API key's user, their highest role, and the key. */
  userId?: string
  role?: string
  apiKeyId?: string
  /** Whether a record names this request: it left a trace for the audit trail. */
  isRecorded?: boolean
  /** Signed in, or known at this address; see login-attempts.ts. */
  known: boolean
  /** Aborts when the client hangs up before its answer. */
  readonly gone: AbortSignal | undefined
}

const scopes = new AsyncLocalStorage<RequestScope>()

/** Runs a request's work so that `currentRequest` finds the request. */
export const runInScope = <Result>(scope: RequestScope, work: () => Result): Result => scopes.run(scope, work)

/** Undefined outside of a client's request, such as at the start and in workers. */
export const currentRequest = (): RequestScope | undefined => scopes.getStore()

/**
 * The headers by which a record names the request that caused it: its id, who asked and in which role, with which API key,
 * and the keyed hash of the network address. None outside of a request.
 */
export const causeHeaders = (): Record<string, string> => {
  const scope = currentRequest()
  if (scope?.requestId === undefined) return {}
  scope.isRecorded = true
  const { requestId, userId, role, apiKeyId, addressHash } = scope
  return {
    request_id: requestId,
    ...(userId === undefined ? {} : { actor: userId }),
    ...(role === undefined ? {} : { actor_role: role }),
    ...(apiKeyId === undefined ? {} : { actor_key: apiKeyId }),
    ...(addressHash === undefined ? {} : { address_hash: addressHash }),
  }
}

/** The place that the current request takes in a queue: by network, address and account, over all keys and sessions. */
export const currentPlace = (): Place => {
  const scope = currentRequest()
  if (!scope) return { path: ['gateway'], known: true }
  const { address, userId, known, gone } = scope
  return { path: [...networksOf(address), ...(userId === undefined ? [] : [userId])], known, gone }
}
