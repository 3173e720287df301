import { createRoute, z } from '@hono/zod-openapi'
import { parseWalletCode } from '@pennywire/contracts/wallet-code.ts'
import type { FindTransfer } from '../find-transfer.ts'
import { ProblemError, validationProblem } from '../problems.ts'
import type { AskedTransfer, TransferAnswer } from '../request-transfer.ts'
import type { TransferFilter } from '../sql/ledger-reads.ts'
import type { TransferView } from '../transfer-view.ts'
import {
  BODY_PROBLEMS,
  currencyCode,
  cursorParam,
  type Guards,
  jsonAnswer,
  jsonBody,
  limitParam,
  moneyString,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  SIGNED_IN_PROBLEMS,
  uuidParam,
} from './define-route.ts'
import { moneyHeaders, readAmount, readIdempotencyKey, readWaitMs, transferSchema } from './money-headers.ts'
import { pinField } from './pin.ts'

export type TransferParts = {
  guards: Guards
  requestTransfer: (asked: AskedTransfer) => Promise<TransferAnswer>
  findTransfer: FindTransfer
  listTransfers: (
    userId: string,
    filter: TransferFilter,
    cursor: string | undefined,
    limit: number,
  ) => Promise<{ items: TransferView[]; nextCursor: string | null }>
}

const METADATA_BYTES = 4_096

const metadataField = z
  .record(z.string().max(64), z.unknown())
  .refine(
    value => Buffer.byteLength(JSON.stringify(value)) <= METADATA_BYTES,
    `must be at most ${METADATA_BYTES} bytes`,
  )
  .openapi({
    description: 'Any JSON object of at most 4 KiB; given back as it is',
    example: { orderId: '4711' },
  })

const requestRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/transfers',
    tags: ['Money'],
    summary: 'Sends money to another wallet',
    description:
      'Give the recipient by `toWalletCode` or `toWalletId`, and a PIN or a `Step-Up-Token`. The answer is definite: ' +
      '201 when the money has moved, a problem with `final: true` when it will not, 202 when it is not decided yet. ' +
      'After a 5xx or no answer at all send it again with the same `Idempotency-Key`: it is applied once.',
    ...signedIn({ limit: 'TRANSFER', guardsMoney: true }),
    request: {
      headers: moneyHeaders.extend({
        'step-up-token': z.string().optional().openapi({ description: 'From POST /v1/pin/verify' }),
      }),
      body: jsonBody(
        z.strictObject({
          fromWalletId: uuidParam.optional(),
          toWalletCode: z.string().max(40).optional().openapi({ example: 'PW-7K2M9QXA' }),
          toWalletId: uuidParam.optional(),
          amount: moneyString,
          currency: currencyCode,
          note: z.string().max(255).optional().openapi({ example: 'Lunch' }),
          metadata: metadataField.optional(),
          pin: pinField.optional(),
        }),
      ),
    },
    responses: {
      201: jsonAnswer('The money has moved', transferSchema),
      202: jsonAnswer('Not decided yet: ask by the Location', transferSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...SIGNED_IN_PROBLEMS,
        'IDEMPOTENCY_KEY_REQUIRED',
        'IDEMPOTENCY_KEY_REUSED',
        'WALLET_NOT_FOUND',
        'RECIPIENT_NOT_FOUND',
        'PIN_REQUIRED',
        'PIN_NOT_SET',
        'PIN_LOCKED',
        'INVALID_PIN',
        'STEP_UP_INVALID',
        'INSUFFICIENT_BALANCE',
        'WALLET_FROZEN',
        'WALLET_CLOSED',
        'RECIPIENT_UNAVAILABLE',
        'SELF_TRANSFER',
        'CURRENCY_MISMATCH',
        'PER_TRANSACTION_LIMIT_EXCEEDED',
        'DAILY_LIMIT_EXCEEDED',
        'MONTHLY_LIMIT_EXCEEDED',
        'BALANCE_LIMIT',
        'REQUEST_EXPIRED',
      ),
    },
  })

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers',
    tags: ['Money'],
    summary: 'Lists your transfers of every type, newest first',
    description: 'What is decided: completed and rejected ones. Those still pending are found by id or key.',
    ...signedIn(),
    request: {
      query: z.strictObject({
        limit: limitParam,
        cursor: cursorParam,
        type: z
          .string()
          .regex(/^[a-z_]{1,32}$/, 'must be a type such as transfer or deposit')
          .optional(),
        status: z.enum(['completed', 'rejected', 'reversed']).optional(),
        direction: z.enum(['in', 'out']).optional(),
      }),
    },
    responses: {
      200: jsonAnswer('Transfers', pageOf(transferSchema)),
      ...problemResponses('VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
    },
  })

const oneAnswer = {
  200: jsonAnswer('The transfer', transferSchema),
  ...problemResponses('TRANSFER_NOT_FOUND', 'VALIDATION_ERROR', ...SIGNED_IN_PROBLEMS),
}

const byReferenceRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/by-reference/{reference}',
    tags: ['Money'],
    summary: 'Finds a transfer by the reference that people see',
    ...signedIn(),
    request: { params: z.object({ reference: z.string().max(40).openapi({ example: 'TXN-6J3V0G8Q2KXA' }) }) },
    responses: oneAnswer,
  })

const byKeyRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/by-idempotency-key/{key}',
    tags: ['Money'],
    summary: 'Finds what has become of the request with this Idempotency-Key',
    ...signedIn(),
    request: { params: z.object({ key: z.string().max(255).openapi({ example: 'order-4711-payment-1' }) }) },
    responses: oneAnswer,
  })

const byIdRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/{id}',
    tags: ['Money'],
    summary: 'Shows one of your transfers',
    ...signedIn(),
    request: { params: z.object({ id: uuidParam }) },
    responses: oneAnswer,
  })

/** Exactly one way to name the recipient; a code with a typing error is nobody's. */
const readRecipient = (body: { toWalletCode?: string | undefined; toWalletId?: string | undefined }) => {
  if ((body.toWalletCode === undefined) === (body.toWalletId === undefined)) {
    throw validationProblem([{ field: 'toWalletCode', rule: 'give either toWalletCode or toWalletId' }])
  }
  if (body.toWalletCode === undefined)
    return { toWalletId: body.toWalletId!.toLowerCase(), toWalletCode: null }
  const toWalletCode = parseWalletCode(body.toWalletCode)
  if (toWalletCode === null) {
    throw new ProblemError(
      'RECIPIENT_NOT_FOUND',
      'toWalletCode: it is no wallet code; is there a typing error?',
    )
  }
  return { toWalletId: null, toWalletCode }
}

/** Moving money between wallets, and finding out what became of it. */
export const transferRoutes = ({
  guards,
  requestTransfer,
  findTransfer,
  listTransfers,
}: TransferParts): Routes => {
  const routes = newRoutes()

  routes.openapi(requestRoute(guards), async context => {
    const body = context.req.valid('json')
    const { status, transfer, replayed } = await requestTransfer({
      type: 'transfer',
      user: context.var.user,
      idempotencyKey: readIdempotencyKey(context.req.header('idempotency-key')),
      fromWalletId: body.fromWalletId?.toLowerCase() ?? null,
      ...readRecipient(body),
      amount: readAmount(body.amount, body.currency),
      currency: body.currency,
      note: body.note ?? null,
      metadata: body.metadata ?? null,
      expiresInSeconds: null,
      pin: body.pin ?? null,
      stepUpToken: context.req.header('step-up-token') ?? null,
      waitMs: readWaitMs(context.req.header('prefer')),
      traceparent: context.var.traceparent,
    })
    context.header('location', `/v1/transfers/${transfer.id}`)
    if (replayed) context.header('idempotency-replayed', 'true')
    return context.json(transfer, status)
  })

  routes.openapi(listRoute(guards), async context => {
    const { limit, cursor, type = null, status = null, direction = null } = context.req.valid('query')
    return context.json(
      await listTransfers(context.var.user.userId, { type, status, direction }, cursor, limit),
      200,
    )
  })

  routes.openapi(byReferenceRoute(guards), async context =>
    context.json(
      await findTransfer.byReference(context.var.user.userId, context.req.valid('param').reference),
      200,
    ),
  )

  routes.openapi(byKeyRoute(guards), async context =>
    context.json(
      await findTransfer.byIdempotencyKey(context.var.user.userId, context.req.valid('param').key),
      200,
    ),
  )

  routes.openapi(byIdRoute(guards), async context =>
    context.json(
      await findTransfer.byId(context.var.user.userId, context.req.valid('param').id.toLowerCase()),
      200,
    ),
  )

  return routes
}
