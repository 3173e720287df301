import { createRoute, z } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { WEBHOOK_EVENT_TYPES, type WebhookEventType } from '@pennywire/contracts/webhook-events.ts'
import type { Context } from 'hono'
import { type GatewayEnv, sessionOf } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  cutNumberedPage,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  readSeqCursor,
  reasonField,
  SIGNED_IN_PROBLEMS,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import { password } from '../identity/accounts/account-fields.ts'
import type { Accounts } from '../identity/accounts/accounts.ts'
import type { ManageUsers } from '../identity/staff/manage-users.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { Webhooks } from './manage-webhooks.ts'
import type { DeliveryFacts, EndpointFacts, Owner } from './sql/webhooks.ts'
import { originOf } from './tell-changes.ts'

const DESCRIPTION_MAX = 200
const OVERLAP_MAX_SECONDS = 7 * 24 * 60 * 60
const OVERLAP_SECONDS = 24 * 60 * 60

const eventTypes = z
  .array(z.enum(WEBHOOK_EVENT_TYPES))
  .max(WEBHOOK_EVENT_TYPES.length)
  .openapi({ description: 'Which events are sent; empty: all', example: ['transfer.completed'] })
const description = z.string().trim().min(1).max(DESCRIPTION_MAX).nullable()

const webhookSchema = z
  .object({
    id: z.uuid(),
    url: z.string().openapi({ example: 'https://hooks.example.com/pennywire' }),
    description: z.string().nullable(),
    eventTypes: z.array(z.string()).openapi({ example: ['transfer.completed'] }),
    state: z.enum(['active', 'paused', 'disabled']).openapi({
      description:
        'paused: by you, or with a new password after a forgotten one: events wait; disabled: it failed for too long, or ' +
        'staff turned it off: events are not stored',
    }),
    failingSince: timestamp.nullable(),
    createdAt: timestamp,
  })
  .openapi('Webhook')
const withSecret = webhookSchema
  .extend({
    secret: z.string().openapi({
      description: 'Signs what is sent; it is shown this once',
      example: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
    }),
  })
  .openapi('WebhookWithSecret')

const trySchema = z.object({
  at: timestamp,
  status: z.int().nullable().openapi({ description: 'Of the answer; null where none came', example: 503 }),
  error: z.string().nullable().openapi({ example: 'HTTP 503' }),
  ms: z.int().openapi({ example: 84 }),
  answer: z.string().nullable().openapi({ description: 'Its first kilobyte' }),
})
const deliverySchema = z
  .object({
    id: z.uuid().openapi({ description: 'The header webhook-id, the same with each try' }),
    eventType: z.string().openapi({ example: 'transfer.completed' }),
    state: z.enum(['due', 'sent', 'expired', 'failed']),
    attempts: z.int().openapi({ example: 2 }),
    nextAttemptAt: timestamp.nullable(),
    createdAt: timestamp,
    sentAt: timestamp.nullable(),
    payload: z.string().openapi({
      description: 'The body as it is sent',
      example: '{"type":"webhook.test","timestamp":"2026-01-31T09:30:00.000Z","data":{}}',
    }),
    tries: z.array(trySchema).openapi({ description: 'The last 20, oldest first' }),
  })
  .openapi('WebhookDelivery')

const viewEndpoint = (endpoint: EndpointFacts): z.output<typeof webhookSchema> => ({
  id: endpoint.id,
  url: endpoint.url,
  description: endpoint.description,
  eventTypes: endpoint.eventTypes,
  state: endpoint.state,
  failingSince: endpoint.failingSince?.toISOString() ?? null,
  createdAt: endpoint.createdAt.toISOString(),
})
const viewDelivery = (delivery: DeliveryFacts): z.output<typeof deliverySchema> => ({
  id: delivery.id,
  eventType: delivery.eventType,
  state: delivery.state,
  attempts: delivery.attempts,
  nextAttemptAt: delivery.state === 'due' ? delivery.nextAttemptAt.toISOString() : null,
  createdAt: delivery.createdAt.toISOString(),
  sentAt: delivery.sentAt?.toISOString() ?? null,
  payload: delivery.payload,
  tries: delivery.tries,
})

export type WebhookRouteDeps = {
  guards: Guards
  webhooks: Webhooks
  confirmPassword: Accounts['confirmPassword']
  staff: Pick<ManageUsers, 'requireUser' | 'requirePower'>
  /** Why a session has ended; null while it is open. */
  readSessionEnd: (sessionId: string) => Promise<string | null>
}

/** What PATCH takes; the password only where the routes ask for it. */
type ChangeBody = {
  url?: string | null | undefined
  eventTypes?: WebhookEventType[] | null | undefined
  description?: string | null | undefined
  active?: boolean | null | undefined
  password?: unknown
}

/** Whose endpoints a group of routes is about. */
type Side = {
  /** Whether what lasts (a destination, a secret) needs the owner's password; staff prove themselves by `writing`. */
  asksPassword: boolean
  base: string
  tag: string
  whose: string
  ownerOf: (context: Context<GatewayEnv>) => Owner
  reading: ReturnType<Guards['signedIn']>
  writing: ReturnType<Guards['signedIn']>
  problems: readonly ProblemCode[]
}

const routesOf = (side: Side, { webhooks, confirmPassword, readSessionEnd }: WebhookRouteDeps): Routes => {
  const { base, tag, whose, ownerOf, reading, writing, asksPassword } = side
  const proof: { password?: typeof password } = asksPassword ? { password } : {}
  const proofProblems: ProblemCode[] = asksPassword ? ['PASSWORD_MISMATCH', 'NO_PASSWORD'] : []
  const prove = async (context: Context<GatewayEnv>, given: unknown) => {
    if (!asksPassword) return
    if (typeof given !== 'string') throw validationProblem([{ field: 'password', rule: 'is required' }])
    await confirmPassword(context.var.user.userId, given)
  }
  /**
   * Takes back what a session did that has ended meanwhile: with a new password or the end of the account the notifier pauses
   * the endpoints that it finds, and this one may have come behind it.
   */
  const undoIfEnded = async (context: Context<GatewayEnv>, undo: () => Promise<unknown>) => {
    if ((await readSessionEnd(sessionOf(context).sessionId)) === null) return
    await undo()
    throw new ProblemError('TOKEN_REVOKED', 'The session has ended; sign in again.')
  }
  const problems = [...side.problems]
  const routes = newRoutes()
  const one = z.object({ id: uuidParam })
  const oneDelivery = one.extend({ deliveryId: uuidParam })

  routes.openapi(
    createRoute({
      method: 'post',
      path: base,
      tags: [tag],
      summary: `Adds a webhook for ${whose}`,
      description:
        'Signed by Standard Webhooks 1.0.0; the secret is in the answer and is not shown again. See docs/webhooks.md.',
      ...writing,
      request: {
        headers: stepUpHeader,
        body: jsonBody(
          z.strictObject({
            url: z.string().openapi({ example: 'https://hooks.example.com/pennywire' }),
            eventTypes: eventTypes.nullish(),
            description: description.optional(),
            ...proof,
          }),
        ),
      },
      responses: {
        201: jsonAnswer('The webhook, with its secret', withSecret),
        ...problemResponses(...BODY_PROBLEMS, ...proofProblems, 'TOO_MANY_WEBHOOKS', ...problems),
      },
    }),
    async context => {
      const { password: given, url, eventTypes: types, description: words } = context.req.valid('json')
      await prove(context, given)
      const wanted = { url, eventTypes: types ?? [], description: words ?? null }
      const { secret, ...endpoint } = await webhooks.create(ownerOf(context), wanted, context.var.user.userId)
      await undoIfEnded(context, () =>
        webhooks.remove(ownerOf(context), endpoint.id, context.var.user.userId),
      )
      context.header('Location', `${base}/${endpoint.id}`)
      return context.json({ ...viewEndpoint(endpoint), secret }, 201)
    },
  )

  routes.openapi(
    createRoute({
      method: 'get',
      path: base,
      tags: [tag],
      summary: `Lists the webhooks of ${whose}`,
      ...reading,
      responses: {
        200: jsonAnswer('All of them, oldest first', z.object({ items: z.array(webhookSchema) })),
        ...problemResponses(...problems),
      },
    }),
    async context => {
      const endpoints = await webhooks.list(ownerOf(context))
      context.set(
        'viewed',
        endpoints.map(({ id }) => id),
      )
      return context.json({ items: endpoints.map(viewEndpoint) }, 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'get',
      path: `${base}/{id}`,
      tags: [tag],
      summary: `One webhook of ${whose}`,
      ...reading,
      request: { params: one },
      responses: {
        200: jsonAnswer('The webhook', webhookSchema),
        ...problemResponses('VALIDATION_ERROR', 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context =>
      context.json(viewEndpoint(await webhooks.read(ownerOf(context), context.req.valid('param').id)), 200),
  )

  routes.openapi(
    createRoute({
      method: 'patch',
      path: `${base}/{id}`,
      tags: [tag],
      summary: `Changes a webhook of ${whose}`,
      description: asksPassword
        ? 'Leaves what it does not name. `active: true` also turns on one that was disabled. Another `url` needs the password.'
        : 'Leaves what it does not name. `active: true` also turns on one that was disabled.',
      ...writing,
      request: {
        headers: stepUpHeader,
        params: one,
        body: jsonBody(
          z.strictObject({
            url: z.string().nullish(),
            eventTypes: eventTypes.nullish(),
            description: description.optional(),
            active: z.boolean().nullish(),
            ...(asksPassword ? { password: password.nullish() } : {}),
          }),
        ),
      },
      responses: {
        200: jsonAnswer('The webhook', webhookSchema),
        ...problemResponses(...BODY_PROBLEMS, ...proofProblems, 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context => {
      const { id } = context.req.valid('param')
      const {
        password: given,
        url,
        eventTypes: types,
        active,
        description: words,
      }: ChangeBody = context.req.valid('json')
      // Nothing else says where a wallet's events go.
      if (typeof url === 'string') await prove(context, given)
      const change = {
        url: url ?? undefined,
        eventTypes: types ?? undefined,
        active: active ?? undefined,
        description: words,
      }
      const owner = ownerOf(context)
      const byUserId = context.var.user.userId
      const endpoint = await webhooks.change(owner, id, change, byUserId)
      if (endpoint.state === 'active')
        await undoIfEnded(context, () => webhooks.change(owner, id, { active: false }, byUserId))
      return context.json(viewEndpoint(endpoint), 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'delete',
      path: `${base}/{id}`,
      tags: [tag],
      summary: `Deletes a webhook of ${whose} with its log`,
      ...writing,
      request: { headers: stepUpHeader, params: one },
      responses: {
        204: { description: 'It is gone' },
        ...problemResponses('VALIDATION_ERROR', 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context => {
      await webhooks.remove(ownerOf(context), context.req.valid('param').id, context.var.user.userId)
      return context.body(null, 204)
    },
  )

  routes.openapi(
    createRoute({
      method: 'post',
      path: `${base}/{id}/rotate-secret`,
      tags: [tag],
      summary: `Gives a webhook of ${whose} a new secret`,
      description: `Until the overlap ends both sign: ${OVERLAP_SECONDS} seconds where nothing else is said.`,
      ...writing,
      request: {
        headers: stepUpHeader,
        params: one,
        body: jsonBody(
          z.strictObject({
            overlapSeconds: z.int().min(0).max(OVERLAP_MAX_SECONDS).nullish(),
            ...proof,
          }),
        ),
      },
      responses: {
        200: jsonAnswer('The webhook, with its new secret', withSecret),
        ...problemResponses(...BODY_PROBLEMS, ...proofProblems, 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context => {
      const { id } = context.req.valid('param')
      const { overlapSeconds, password: given } = context.req.valid('json')
      await prove(context, given)
      const { secret, ...endpoint } = await webhooks.rotate(
        ownerOf(context),
        id,
        overlapSeconds ?? OVERLAP_SECONDS,
        context.var.user.userId,
      )
      return context.json({ ...viewEndpoint(endpoint), secret }, 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'post',
      path: `${base}/{id}/test`,
      tags: [tag],
      summary: `Sends a test event to a webhook of ${whose}`,
      ...writing,
      request: { headers: stepUpHeader, params: one },
      responses: {
        202: jsonAnswer('The delivery that is on its way', deliverySchema),
        ...problemResponses('VALIDATION_ERROR', 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context =>
      context.json(viewDelivery(await webhooks.test(ownerOf(context), context.req.valid('param').id)), 202),
  )

  routes.openapi(
    createRoute({
      method: 'get',
      path: `${base}/{id}/deliveries`,
      tags: [tag],
      summary: `Deliveries of a webhook of ${whose}, newest first`,
      ...reading,
      request: {
        params: one,
        query: z.strictObject({
          limit: limitParam,
          cursor: cursorParam,
          state: z.enum(['due', 'sent', 'expired', 'failed']).optional(),
        }),
      },
      responses: {
        200: jsonAnswer('Deliveries', pageOf(deliverySchema)),
        ...problemResponses('VALIDATION_ERROR', 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context => {
      const { limit, cursor, state } = context.req.valid('query')
      const page = { before: readSeqCursor(cursor), state, limit: limit + 1 }
      const found = await webhooks.deliveries(ownerOf(context), context.req.valid('param').id, page)
      const { page: shown, nextCursor } = cutNumberedPage(found, limit)
      context.set(
        'viewed',
        shown.map(({ id }) => id),
      )
      return context.json({ items: shown.map(viewDelivery), nextCursor }, 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'get',
      path: `${base}/{id}/deliveries/{deliveryId}`,
      tags: [tag],
      summary: `One delivery to a webhook of ${whose}, with each try and its answer`,
      ...reading,
      request: { params: oneDelivery },
      responses: {
        200: jsonAnswer('The delivery', deliverySchema),
        ...problemResponses(
          'VALIDATION_ERROR',
          'WEBHOOK_NOT_FOUND',
          'WEBHOOK_DELIVERY_NOT_FOUND',
          ...problems,
        ),
      },
    }),
    async context => {
      const { id, deliveryId } = context.req.valid('param')
      return context.json(viewDelivery(await webhooks.delivery(ownerOf(context), id, deliveryId)), 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'post',
      path: `${base}/{id}/deliveries/{deliveryId}/redrive`,
      tags: [tag],
      summary: `Sends one delivery to a webhook of ${whose} once more`,
      description: 'Under its id and with the same body, also where it had come.',
      ...writing,
      request: { headers: stepUpHeader, params: oneDelivery },
      responses: {
        202: jsonAnswer('The delivery that is on its way', deliverySchema),
        ...problemResponses(
          'VALIDATION_ERROR',
          'WEBHOOK_NOT_FOUND',
          'WEBHOOK_DELIVERY_NOT_FOUND',
          ...problems,
        ),
      },
    }),
    async context => {
      const { id, deliveryId } = context.req.valid('param')
      await webhooks.redrive(ownerOf(context), id, { id: deliveryId })
      return context.json(viewDelivery(await webhooks.delivery(ownerOf(context), id, deliveryId)), 202)
    },
  )

  routes.openapi(
    createRoute({
      method: 'post',
      path: `${base}/{id}/redrive`,
      tags: [tag],
      summary: `Sends what failed within a time to a webhook of ${whose} once more`,
      ...writing,
      request: {
        headers: stepUpHeader,
        params: one,
        body: jsonBody(
          z.strictObject({
            from: z.iso.datetime().openapi({ description: 'From this moment on' }),
            to: z.iso.datetime().openapi({ description: 'Before this moment' }),
          }),
        ),
      },
      responses: {
        202: jsonAnswer(
          'How many are on their way',
          z.object({ redriven: z.int().openapi({ example: 12 }) }),
        ),
        ...problemResponses(...BODY_PROBLEMS, 'WEBHOOK_NOT_FOUND', ...problems),
      },
    }),
    async context => {
      const { from, to } = context.req.valid('json')
      const range = { from: new Date(from), to: new Date(to) }
      const redriven = await webhooks.redrive(ownerOf(context), context.req.valid('param').id, range)
      return context.json({ redriven }, 202)
    },
  )

  return routes
}

const staffWebhook = webhookSchema
  .omit({ url: true })
  .extend({
    origin: z.string().openapi({
      description: 'Scheme, host and port of its address: what follows may be a secret of the receiver',
      example: 'https://hooks.example.com',
    }),
  })
  .openapi('StaffWebhook')

const viewForStaff = (endpoint: EndpointFacts): z.output<typeof staffWebhook> => {
  const { url, ...view } = viewEndpoint(endpoint)
  return { ...view, origin: originOf(url) }
}

/** Users' webhooks, for staff. */
const userWebhookRoutes = ({ guards, webhooks, staff }: WebhookRouteDeps): Routes => {
  const routes = newRoutes()
  const user = z.object({ id: uuidParam })

  routes.openapi(
    createRoute({
      method: 'get',
      path: '/v1/admin/users/{id}/webhooks',
      tags: ['Staff'],
      summary: "Lists a user's webhooks",
      description: 'Where each leads, without the path of its address. Needs admin.',
      ...guards.signedIn({ role: 'admin' }),
      request: { params: user },
      responses: {
        200: jsonAnswer('All of them, oldest first', z.object({ items: z.array(staffWebhook) })),
        ...problemResponses('USER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
      },
    }),
    async context => {
      const { id } = context.req.valid('param')
      await staff.requireUser(id)
      const endpoints = await webhooks.list(id)
      context.set(
        'viewed',
        endpoints.map(endpoint => endpoint.id),
      )
      return context.json({ items: endpoints.map(viewForStaff) }, 200)
    },
  )

  routes.openapi(
    createRoute({
      method: 'post',
      path: '/v1/admin/users/{id}/webhooks/{webhookId}/disable',
      tags: ['Staff'],
      summary: "Turns one of a user's webhooks off",
      description:
        'What is due to it fails, and nothing more is sent; its owner is told, and may turn it on again. Needs admin. ' +
        'Never one of your own.',
      ...guards.signedIn({ guardsMoney: true, role: 'admin' }),
      request: {
        params: user.extend({ webhookId: uuidParam }),
        body: jsonBody(
          z.strictObject({ reason: reasonField.openapi({ example: 'Leads to a stranger, case 4711' }) }),
        ),
      },
      responses: {
        200: jsonAnswer('The webhook', staffWebhook),
        ...problemResponses('USER_NOT_FOUND', 'WEBHOOK_NOT_FOUND', ...STAFF_PROBLEMS, ...BODY_PROBLEMS),
      },
    }),
    async context => {
      const { id: userId, webhookId } = context.req.valid('param')
      const { reason } = context.req.valid('json')
      const byUserId = context.var.user.userId
      await staff.requirePower({ byUserId, userId })
      return context.json(viewForStaff(await webhooks.disable(userId, webhookId, { byUserId, reason })), 200)
    },
  )

  return routes
}

/** Webhooks of users for their own wallets, and of the operator for all. */
export const webhookRoutes = (deps: WebhookRouteDeps): Routes => {
  const { guards } = deps
  const routes = newRoutes()
  routes.route(
    '/',
    routesOf(
      {
        asksPassword: true,
        base: '/v1/webhooks',
        tag: 'Webhooks',
        whose: 'your wallets',
        ownerOf: context => context.var.user.userId,
        reading: guards.signedIn(),
        writing: guards.signedIn({ limit: 'LOGIN', guardsMoney: true }),
        problems: SIGNED_IN_PROBLEMS,
      },
      deps,
    ),
  )
  routes.route(
    '/',
    routesOf(
      {
        asksPassword: false,
        base: '/v1/admin/webhooks',
        tag: 'Staff',
        whose: 'all wallets',
        ownerOf: () => null,
        reading: guards.signedIn({ role: 'admin' }),
        writing: guards.signedIn({ guardsMoney: true, role: 'admin', stepUp: true }),
        problems: [...STAFF_PROBLEMS, ...STEP_UP_PROBLEMS],
      },
      deps,
    ),
  )
  routes.route('/', userWebhookRoutes(deps))
  return routes
}
