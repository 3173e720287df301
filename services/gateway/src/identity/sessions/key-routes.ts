import { createRoute, z } from '@hono/zod-openapi'
import { jsonAnswer, newRoutes, type Routes } from '../../http/define-route.ts'
import type { Tokens } from './tokens.ts'

/** Less than the lead of a new key: a client that keeps to it knows each key before it signs. */
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

/** The published keys. Old ones stay until the last token they signed has expired. */
export const keyRoutes = (tokens: Tokens): Routes => {
  const routes = newRoutes()
  routes.openapi(jwksRoute, context => {
    context.header('cache-control', `public, max-age=${CACHE_SECONDS}`)
    return context.json({ keys: tokens.jwks().keys as Array<{ kid: string }> }, 200)
  })
  return routes
}
