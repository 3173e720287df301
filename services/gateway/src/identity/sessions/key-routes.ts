import { createRoute, z } from '@hono/zod-openapi'
import { jsonAnswer, newRoutes, type Routes } from '../../http/define-route.ts'
import type { Tokens } from './tokens.ts'

/** Shorter than a new key's lead time: a client that honours max-age has each key before a gateway signs with it. */
const CACHE_SECONDS = 60

const jwksRoute = createRoute({
  method: 'get',
  path: '/.well-known/jwks.json',
  tags: ['Accounts'],
  summary: 'The public keys that verify access tokens (RFC 7517)',
  responses: {
    200: jsonAnswer(
      'The key set',
      z.object({
        keys: z.array(
          z.looseObject({ kid: z.string() }).openapi({
            example: {
              kid: 'key-1',
              kty: 'RSA',
              alg: 'RS256',
              use: 'sig',
              e: 'AQAB',
              n: 'sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri',
            },
          }),
        ),
      }),
    ),
  },
})

/** The published keys. An old key stays until the last token it signed has expired. */
export const keyRoutes = (tokens: Tokens): Routes => {
  const routes = newRoutes()
  routes.openapi(jwksRoute, context => {
    context.header('cache-control', `public, max-age=${CACHE_SECONDS}`)
    return context.json({ keys: tokens.jwks().keys as Array<{ kid: string }> }, 200)
  })
  return routes
}
