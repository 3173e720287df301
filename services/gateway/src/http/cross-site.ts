import type { Context } from 'hono'
import { ProblemError } from '../problems/problem.ts'
import type { GatewayEnv } from './context.ts'

/**
 * Throws CROSS_SITE_REQUEST if the browser's headers state that another origin's page made the request. For routes that
 * act on a cookie: SameSite=Strict withholds it from other sites, this check from other origins of the same site (a
 * sibling subdomain that was taken over), and from browsers without SameSite. Every browser sends one of the two
 * headers with a POST and lets no page set them. A client that sends neither is not a browser, and no page can make it
 * send a forged request. A double-submitted token would need a readable cookie, which siblings can plant.
 */
export const refuseCrossSite = (context: Context<GatewayEnv>, publicOrigin: string): void => {
  const site = context.req.header('sec-fetch-site')
  const origin = context.req.header('origin')
  if (site === undefined ? origin === undefined || origin === publicOrigin : site === 'same-origin') return
  throw new ProblemError('CROSS_SITE_REQUEST', 'Origin: must be the gateway itself where a cookie is used.')
}
