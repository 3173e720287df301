import { createRoute, z } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  type Guards,
  jsonAnswer,
  jsonBody,
  KEY_PROBLEMS,
  limitParam,
  moneyString,
  newRoutes,
  optionalJsonBody,
  pageOf,
  problemResponses,
  type Routes,
  STAFF_PROBLEMS,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import {
  headAnswer,
  moneyHeaders,
  moneyOut,
  party,
  readAmount,
  readIdempotencyKey,
  readOptionalKey,
  rejectionSchema,
  sendingHeaders,
  TRANSFER_EXAMPLE,
  transferSchema,
} from '../money/money-headers.ts'
import type { FindTransfer } from '../transfers/find-transfer.ts'
import type { Answer, TransferInput } from '../transfers/request-transfer.ts'
import {
  readSending,
  SENDING_EXAMPLE,
  SENDING_PROBLEMS,
  sendingFields,
} from '../transfers/transfer-routes.ts'
import type { HoldView } from '../transfers/transfer-view.ts'
import type { EndHold } from './end-hold.ts'
import type { HoldFilter } from './sql/hold-reads.ts'

export type HoldDeps = {
  guards: Guards
  requestHold: (input: TransferInput) => Promise<Answer<HoldView>>
  endHold: EndHold
  findTransfer: Pick<FindTransfer, 'hold'>
  listHolds: (
    userId: string,
    filter: HoldFilter,
    cursor: string | undefined,
    limit: number,
  ) => Promise<{ items: HoldView[]; nextCursor: string | null }>
  /** The shortest time for which money can be held. */
  minSeconds: number
}

const DAY_SECONDS = 86_400
const DEFAULT_SECONDS = 7 * DAY_SECONDS
const MAX_SECONDS = 30 * DAY_SECONDS

const ENDED = ['captured', 'voided', 'expired'] as const

const holdSchema = z
  .object({
    id: z.uuid(),
    status: z
      .enum(['pending', 'rejected', 'active', ...ENDED])
      .openapi({ example: 'active', description: 'pending and rejected: of a request for one' }),
    from: party,
    to: party,
    amount: moneyOut.openapi({ description: 'What is or was held' }),
    captured: moneyOut.openapi({ description: 'What of it was taken', example: '0.00' }),
    currency: z.string().openapi({ example: 'USD' }),
    note: z.string().nullable(),
    metadata: z.record(z.string(), z.unknown()).nullable(),
    createdAt: timestamp,
    expiresAt: timestamp.nullable(),
    endedAt: timestamp.nullable(),
    rejection: rejectionSchema,
  })
  .openapi('Hold', {
    example: {
      id: TRANSFER_EXAMPLE.id,
      status: 'active',
      from: TRANSFER_EXAMPLE.from,
      to: TRANSFER_EXAMPLE.to,
      amount: '12.50',
      captured: '0.00',
      currency: 'USD',
      note: 'Lunch',
      metadata: null,
      createdAt: '2026-01-31T09:30:00.000Z',
      expiresAt: '2026-02-03T09:30:00.000Z',
      endedAt: null,
      rejection: null,
    },
  })

const placeRoute = ({ signedIn }: Guards, minSeconds: number) =>
  createRoute({
    method: 'post',
    path: '/v1/holds',
    tags: ['Holds'],
    summary: 'Promises money to another wallet',
    description:
      'As `POST /v1/transfers`, but the money stays in your wallet and is no longer available. The recipient captures ' +
      'it, whole or in part, or lets it go; after `expiresInSeconds` it is yours again. Limits count it as sent until ' +
      'it ends. A repeat is answered with the hold as it is by then.',
    ...signedIn({ scope: 'transfers:write', limit: 'TRANSFER', guardsMoney: true }),
    request: {
      headers: sendingHeaders,
      body: jsonBody(
        z
          .strictObject({
            ...sendingFields,
            expiresInSeconds: z
              .int()
              .min(minSeconds)
              .max(MAX_SECONDS)
              .nullish()
              .openapi({ example: 3 * DAY_SECONDS, default: DEFAULT_SECONDS }),
          })
          .openapi({ example: { ...SENDING_EXAMPLE, expiresInSeconds: 3 * DAY_SECONDS } }),
      ),
    },
    responses: {
      201: jsonAnswer('The money is held', holdSchema),
      202: jsonAnswer('Not decided yet: ask by the Location', holdSchema),
      ...problemResponses(...SENDING_PROBLEMS),
    },
  })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/holds',
    tags: ['Holds'],
    summary: 'Lists holds that you placed (out) or may capture (in), newest first',
    ...signedIn({ scope: 'transfers:read' }),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        status: z.enum(['active', ...ENDED]).optional(),
        direction: z.enum(['in', 'out']).optional(),
      }),
    },
    responses: {
      200: jsonAnswer('Holds', pageOf(holdSchema)),
      ...problemResponses('VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/holds/{id}',
    tags: ['Holds'],
    summary: 'Shows a hold to either of its parties',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('The hold', holdSchema),
      ...problemResponses('HOLD_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const captureRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/holds/{id}/capture',
    tags: ['Holds'],
    summary: 'Takes held money: by its recipient, once',
    description:
      'All of it, or `amount`; the rest is available to the payer again. The transfer has the id of the hold. It ' +
      'receives money, so that no PIN is needed. After a 5xx send it again with the same `Idempotency-Key`.',
    ...signedIn({ scope: 'holds:capture', limit: 'TRANSFER', guardsMoney: true }),
    request: {
      params: z.object({ id: uuidParam }),
      headers: moneyHeaders.pick({ 'idempotency-key': true }),
      // A capture of the whole amount needs no body.
      body: optionalJsonBody(
        z.strictObject({ amount: moneyString.nullish().openapi({ description: 'All where missing' }) }),
      ),
    },
    responses: {
      201: jsonAnswer('The money has moved', transferSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...KEY_PROBLEMS,
        'INSUFFICIENT_PERMISSIONS',
        'IDEMPOTENCY_KEY_REQUIRED',
        'IDEMPOTENCY_KEY_REUSED',
        'HOLD_NOT_FOUND',
        'HOLD_ENDED',
        'HOLD_EXPIRED',
        'HOLD_AMOUNT_EXCEEDED',
        'RECIPIENT_UNAVAILABLE',
        'BALANCE_LIMIT',
      ),
    },
  })

const voidHeaders = z.object({
  'idempotency-key': z.string().optional().openapi({
    description: 'Without one every repeat of yours is the same request',
    example: 'order-4711-void-1',
  }),
})

const voidAnswers = (...problems: ProblemCode[]) => ({
  200: jsonAnswer('The hold, which has ended', holdSchema),
  ...problemResponses(
    'VALIDATION_ERROR',
    'PAYLOAD_TOO_LARGE',
    ...problems,
    'IDEMPOTENCY_KEY_REUSED',
    'HOLD_NOT_FOUND',
    'HOLD_ENDED',
  ),
})

const voidRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/holds/{id}/void',
    tags: ['Holds'],
    summary: 'Lets held money go: by its recipient',
    description: 'The payer cannot: the money is promised, until it is captured or the time is over.',
    ...signedIn({ scope: 'holds:capture', limit: 'TRANSFER', guardsMoney: true }),
    request: { params: z.object({ id: uuidParam }), headers: voidHeaders },
    responses: voidAnswers(...KEY_PROBLEMS, 'INSUFFICIENT_PERMISSIONS'),
  })

const staffVoidRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/holds/{id}/void',
    tags: ['Staff'],
    summary: 'Lets held money go that is of two others',
    ...signedIn({ guardsMoney: true, role: 'moderator' }),
    request: { params: z.object({ id: uuidParam }), headers: voidHeaders },
    responses: voidAnswers(...STAFF_PROBLEMS),
  })

/** Routes of holds: money that is promised before it moves. */
export const holdRoutes = (deps: HoldDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(placeRoute(deps.guards, deps.minSeconds), async context => {
    const { expiresInSeconds, ...body } = context.req.valid('json')
    const { status, transfer, replayed } = await deps.requestHold({
      ...readSending(context, body),
      type: 'hold',
      expiresInSeconds: expiresInSeconds ?? DEFAULT_SECONDS,
    })
    headAnswer(context, `/v1/holds/${transfer.id}`, replayed)
    return context.json(transfer, status)
  })

  routes.openapi(listRoute(deps.guards), async context => {
    const { limit, cursor, status = null, direction = null } = context.req.valid('query')
    return context.json(
      await deps.listHolds(context.var.user.userId, { status, direction }, cursor, limit),
      200,
    )
  })

  routes.openapi(getRoute(deps.guards), async context => {
    const id = context.req.valid('param').id
    return context.json(await deps.findTransfer.hold(context.var.user.userId, id), 200)
  })

  routes.openapi(captureRoute(deps.guards), async context => {
    const { amount } = context.req.valid('json')
    const { transfer, replayed } = await deps.endHold.capture({
      userId: context.var.user.userId,
      holdId: context.req.valid('param').id,
      idempotencyKey: readIdempotencyKey(context.req.header('idempotency-key')),
      readAmount: currency => (amount == null ? null : readAmount(amount, currency)),
      traceparent: context.var.traceparent,
    })
    headAnswer(context, `/v1/transfers/${transfer.id}`, replayed)
    return context.json(transfer, 201)
  })

  const endRoutes = [
    { route: voidRoute(deps.guards), source: 'user' },
    { route: staffVoidRoute(deps.guards), source: 'staff' },
  ] as const
  for (const { route, source } of endRoutes) {
    routes.openapi(route, async context => {
      const { hold, replayed } = await deps.endHold.void({
        userId: context.var.user.userId,
        holdId: context.req.valid('param').id,
        idempotencyKey: readOptionalKey(context.req.header('idempotency-key')),
        source,
        traceparent: context.var.traceparent,
      })
      if (replayed) context.header('idempotency-replayed', 'true')
      return context.json(hold, 200)
    })
  }

  return routes
}
