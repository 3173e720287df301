import type { HttpBindings } from '@hono/node-server'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import type { Context } from 'hono'
import type { Requester, SignedInUser } from '../access/requester.ts'

/** What every handler finds in `context.var`. `user` is there only on routes that are `signedIn`. */
export type GatewayEnv = {
  Bindings: HttpBindings
  Variables: {
    requestId: string
    traceparent: string
    /** The client's network address; see client-address.ts. Never logged or stored as it is. */
    address: string
    user: Requester
    /** The code of the answer, where it is a problem. For the log. */
    problem: ProblemCode | undefined
    /** The ids of what a list shows to staff, for the record of what they have seen. */
    viewed: string[] | undefined
  }
}

/** The person's session, on a route that takes no API key. */
export const sessionOf = (context: Context<GatewayEnv>): SignedInUser => {
  const { user } = context.var
  if (user.sessionId === null) throw new Error('a route that takes API keys has no session to go by')
  return user
}
