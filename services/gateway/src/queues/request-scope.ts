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
  /** Set by the guards: a session's or an API key's user. */
  userId?: string
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

/** The header by which a record names the request that caused it; none outside of a request. */
export const requestIdHeader = (): { request_id?: string } => {
  const requestId = currentRequest()?.requestId
  return requestId === undefined ? {} : { request_id: requestId }
}

/** The place that the current request takes in a queue: by network, address and account, over all keys and sessions. */
export const currentPlace = (): Place => {
  const scope = currentRequest()
  if (!scope) return { path: ['gateway'], known: true }
  const { address, userId, known, gone } = scope
  return { path: [...networksOf(address), ...(userId === undefined ? [] : [userId])], known, gone }
}
