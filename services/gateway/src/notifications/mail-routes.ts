import { timingSafeEqual } from 'node:crypto'
import { createRoute, z } from '@hono/zod-openapi'
import {
  ANYBODY_PROBLEMS,
  BODY_PROBLEMS,
  type Guards,
  jsonBody,
  newRoutes,
  problemResponses,
  type Routes,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import { emailAddress } from '../identity/accounts/email-address.ts'
import { MAIL_BLOCK_REASONS, type MailBlockReason } from '../identity/persons/sql/mail-blocks.ts'
import { ProblemError } from '../problems/problem.ts'

export type MailDeps = {
  guards: Guards
  /** What the mail server's callbacks prove themselves by; undefined where it has none. */
  secret: string | undefined
  block: (email: string, reason: MailBlockReason) => Promise<void>
  unblock: (userId: string) => Promise<boolean>
}

const callbackRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/mail/callbacks',
    tags: ['Notifications'],
    summary: 'Where the mail server says that an address bounced or its owner complained',
    description:
      'No mail goes to that address any more. The header `Mail-Callback-Secret` carries the shared secret. A bounce that ' +
      'is not permanent changes nothing, and an address that no account has is answered alike.',
    ...anybody(),
    request: {
      headers: z.object({ 'mail-callback-secret': z.string().max(1_000).optional() }),
      body: jsonBody(
        z.strictObject({
          event: z.enum(MAIL_BLOCK_REASONS),
          email: emailAddress,
          permanent: z.boolean().default(true),
        }),
      ),
    },
    responses: {
      204: { description: 'Noted' },
      ...problemResponses('SIGNATURE_INVALID', ...BODY_PROBLEMS, ...ANYBODY_PROBLEMS),
    },
  })

const unblockRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'delete',
    path: '/v1/admin/users/{id}/mail-block',
    tags: ['Staff'],
    summary: 'Lets mail go to a user’s address again',
    ...signedIn({ role: 'admin', stepUp: true }),
    request: { headers: stepUpHeader, params: z.object({ id: uuidParam }) },
    responses: {
      204: { description: 'Mail goes to it again' },
      ...problemResponses('VALIDATION_ERROR', 'USER_NOT_FOUND', ...STAFF_PROBLEMS, ...STEP_UP_PROBLEMS),
    },
  })

const isSecret = (given: string | undefined, secret: string | undefined): boolean => {
  if (given === undefined || secret === undefined) return false
  const [a, b] = [Buffer.from(given), Buffer.from(secret)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Which addresses get no mail any more. */
export const mailRoutes = ({ guards, secret, block, unblock }: MailDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(callbackRoute(guards), async context => {
    if (!isSecret(context.req.valid('header')['mail-callback-secret'], secret)) {
      throw new ProblemError('SIGNATURE_INVALID', 'Mail-Callback-Secret: is not the shared secret.')
    }
    const { event, email, permanent } = context.req.valid('json')
    if (permanent) await block(email, event)
    return context.body(null, 204)
  })

  routes.openapi(unblockRoute(guards), async context => {
    if (!(await unblock(context.req.valid('param').id))) {
      throw new ProblemError('USER_NOT_FOUND', 'id: there is no such user.')
    }
    return context.body(null, 204)
  })

  return routes
}
