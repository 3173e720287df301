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
} from '../http/define-route.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import { ProblemError } from '../problems/problem.ts'
import { emailAddress } from './accounts/email-address.ts'
import type { Announce } from './events/announce.ts'
import { MAIL_BLOCK_REASONS, setMailBlock } from './persons/sql/mail-blocks.ts'

export type MailCallbackDeps = {
  guards: Guards
  inTransaction: InTransaction
  announce: Announce
  /** Proves the mail server's callbacks; undefined if none is configured. */
  secret: string | undefined
}

const callbackRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/mail/callbacks',
    tags: ['Accounts'],
    summary: 'Where the mail server says that an address bounced or its owner complained',
    description:
      'No mail goes to that address any more. The header `Mail-Callback-Secret` carries the shared secret. A bounce that ' +
      'is not permanent changes nothing, and an address that no account has gets the same answer.',
    ...anybody(),
    request: {
      headers: z.object({ 'mail-callback-secret': z.string().max(1_000).optional() }),
      body: jsonBody(
        z.strictObject({
          event: z.enum(MAIL_BLOCK_REASONS),
          email: emailAddress,
          permanent: z.boolean().nullish().openapi({ description: 'true where it is left out' }),
        }),
      ),
    },
    responses: {
      204: { description: 'Noted' },
      ...problemResponses('SIGNATURE_INVALID', ...BODY_PROBLEMS, ...ANYBODY_PROBLEMS),
    },
  })

const isSecret = (given: string | undefined, secret: string | undefined): boolean => {
  if (given === undefined || secret === undefined) return false
  const [a, b] = [Buffer.from(given), Buffer.from(secret)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** The mail server's word on addresses. */
export const mailCallbackRoutes = (deps: MailCallbackDeps): Routes => {
  const { guards, inTransaction, announce, secret } = deps
  const routes = newRoutes()

  routes.openapi(callbackRoute(guards), async context => {
    if (!isSecret(context.req.valid('header')['mail-callback-secret'], secret)) {
      throw new ProblemError('SIGNATURE_INVALID', 'Mail-Callback-Secret: is not the shared secret.')
    }
    const { event, email, permanent } = context.req.valid('json')
    const { traceparent } = context.var
    if (permanent !== false) {
      await inTransaction(async tx => {
        const userId = await setMailBlock(tx, email, event)
        if (userId === undefined) return
        await appendToOutbox(tx, [
          announce.identityEvent('MailBlocked', { userId, reason: event }, traceparent),
        ])
      })
    }
    return context.body(null, 204)
  })

  return routes
}
