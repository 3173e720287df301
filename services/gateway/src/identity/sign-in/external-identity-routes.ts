import { createRoute, z } from '@hono/zod-openapi'
import { sessionOf } from '../../http/context.ts'
import {
  BODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  jsonBody,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  timestamp,
  uuidParam,
} from '../../http/define-route.ts'
import { externalToken, password } from '../accounts/account-fields.ts'
import type { ExternalIdentities } from './external-identities.ts'
import type { LinkedIdentity } from './sql/external-identities.ts'

export const linkedIdentity = z
  .object({ id: z.uuid(), issuer: z.string(), subject: z.string(), linkedAt: timestamp })
  .openapi('ExternalIdentity', {
    example: {
      id: '0197f3a2-5b1c-7e44-9a7e-3f0c2b6d1e90',
      issuer: 'https://sso.example',
      subject: '248289761001',
      linkedAt: '2026-01-31T09:30:00.000Z',
    },
  })

/** A link as clients see it. */
export const linkedIdentityView = ({ linkedAt, ...link }: LinkedIdentity) => ({
  ...link,
  linkedAt: linkedAt.toISOString(),
})

const tags = ['Accounts']

const linkRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/users/me/external-identities',
    tags,
    summary: 'Links an identity at a trusted issuer',
    description:
      'From then on a token of that issuer and subject signs in, with `POST /v1/auth/external`. Nothing is ever linked ' +
      'by an address that a token claims.',
    ...signedIn({ limit: 'LOGIN', guardsMoney: true }),
    request: { body: jsonBody(z.strictObject({ token: externalToken, password })) },
    responses: {
      201: jsonAnswer('The identity, linked', linkedIdentity),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'PASSWORD_MISMATCH',
        'NO_PASSWORD',
        'EXTERNAL_TOKEN_INVALID',
        'EXTERNAL_IDENTITY_TAKEN',
      ),
    },
  })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/users/me/external-identities',
    tags,
    summary: 'The linked identities',
    ...signedIn(),
    responses: {
      200: jsonAnswer('All of them', pageOf(linkedIdentity)),
      ...problemResponses(...SIGNED_IN_PROBLEMS),
    },
  })

const unlinkRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/users/me/external-identities/{id}',
    tags,
    summary: 'Ends the link of an identity',
    description:
      'It signs in no more, all other sessions end, and the owner is told by mail. The only way into an account without ' +
      'a password stays.',
    ...signedIn(),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('The link has ended', z.object({ id: z.uuid(), unlinkedAt: timestamp })),
      ...problemResponses(
        'EXTERNAL_IDENTITY_NOT_FOUND',
        'LAST_SIGN_IN_METHOD',
        'VALIDATION_ERROR',
        ...SIGNED_IN_PROBLEMS,
      ),
    },
  })

/** The identities of the signed-in user at other issuers. Sign-in with them is in auth-routes.ts and oidc-routes.ts. */
export const externalIdentityRoutes = (deps: {
  guards: Guards
  externalIdentities: ExternalIdentities
}): Routes => {
  const { guards, externalIdentities } = deps
  const routes = newRoutes()

  routes.openapi(linkRoute(guards), async context => {
    const { userId } = context.var.user
    const link = await externalIdentities.link(
      { userId, ...context.req.valid('json') },
      context.var.traceparent,
    )
    return context.json(linkedIdentityView(link), 201)
  })

  routes.openapi(listRoute(guards), async context => {
    const links = await externalIdentities.list(context.var.user.userId)
    return context.json({ items: links.map(linkedIdentityView), nextCursor: null }, 200)
  })

  routes.openapi(unlinkRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const { userId, sessionId } = sessionOf(context)
    await externalIdentities.unlink({ id, userId, sessionId }, context.var.traceparent)
    return context.json({ id, unlinkedAt: new Date().toISOString() }, 200)
  })

  return routes
}
