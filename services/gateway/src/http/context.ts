import type { HttpBindings } from '@hono/node-server'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import type { Context } from 'hono'
import type { Requester, SignedInUser } from '../access/requester.ts'

/** The Hono environment of every handler. `user` is set only on `signedIn` routes. */
export type GatewayEnv = {
  Bindings: HttpBindings
  Variables: {
    requestId: string
    traceparent: string
    /** The client's network address; see client-address.ts. Never logged or stored as it is. */
    address: string
    user: Requester
    /** The problem code of the answer, if it is a problem. For the log. */
    problem: ProblemCode | undefined
    /** Set by the guards: the route guards money or is for staff, so that what it refuses is recorded. */
    isGuarded: boolean | undefined
    /** Ids of the items that a list shows to staff, for the audit trail. */
    viewed: string[] | undefined
  }
}

/** The person's session, on a route that takes no API key. */
export const sessionOf = (context: Context<GatewayEnv>): SignedInUser => {
  const { user } = context.var
  if (user.sessionId === null) throw new Error('a route that takes API keys has no session to go by')
  return user
}
