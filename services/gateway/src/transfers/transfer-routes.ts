import { createRoute, z } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { parseWalletCode } from '@pennywire/contracts/wallet-code.ts'
import type { Context } from 'hono'
import type { GatewayEnv } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  currencyCode,
  cursorParam,
  type Guards,
  jsonAnswer,
  jsonBody,
  KEY_PROBLEMS,
  limitParam,
  moneyString,
  newRoutes,
  pageOf,
  problemResponses,
  type Routes,
  uuidParam,
} from '../http/define-route.ts'
import { pinField } from '../identity/pin/pin-routes.ts'
import type { TransferFilter } from '../ledger/sql/ledger-reads.ts'
import {
  headAnswer,
  moneyOut,
  readAmount,
  readMoneyRequest,
  sendingHeaders,
  transferSchema,
} from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { FindTransfer } from './find-transfer.ts'
import type { Preview, PreviewInput } from './preview-transfer.ts'
import type { TransferAnswer, TransferInput } from './request-transfer.ts'
import type { TransferView } from './transfer-view.ts'

export type TransferDeps = {
  guards: Guards
  requestTransfer: (input: TransferInput) => Promise<TransferAnswer>
  previewTransfer: (input: PreviewInput) => Promise<Preview>
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

const previewFields = {
  fromWalletId: uuidParam
    .nullish()
    .openapi({ description: 'Your open wallet in the currency where it is missing' }),
  toWalletCode: z
    .string()
    .max(40)
    .nullish()
    .openapi({ example: 'PW-7K2M9QXA', description: 'This or `toWalletId`' }),
  toWalletId: uuidParam.nullish(),
  amount: moneyString,
  currency: currencyCode,
  note: z.string().max(255).nullish().openapi({ example: 'Lunch' }),
  metadata: metadataField.nullish(),
}

/** The body's fields of a request that sends money, at once or as a hold. */
export const sendingFields = { ...previewFields, pin: pinField.nullish() }

/** The recipient is named in one way, which the schema cannot express. */
const PREVIEW_EXAMPLE = { toWalletCode: 'PW-7K2M9QXA', amount: '12.50', currency: 'USD', note: 'Lunch' }
export const SENDING_EXAMPLE = { ...PREVIEW_EXAMPLE, pin: '482915' }

/** Reasons for which the ledger rejects a transfer. */
const SENDING_REFUSALS = [
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
] as const

export const SENDING_PROBLEMS = [
  ...BODY_PROBLEMS,
  ...KEY_PROBLEMS,
  'IDEMPOTENCY_KEY_REQUIRED',
  'IDEMPOTENCY_KEY_REUSED',
  'WALLET_NOT_FOUND',
  'RECIPIENT_NOT_FOUND',
  'PIN_REQUIRED',
  'PIN_NOT_SET',
  'PIN_LOCKED',
  'INVALID_PIN',
  'STEP_UP_INVALID',
  'API_KEY_AMOUNT_EXCEEDED',
  ...SENDING_REFUSALS,
  'REQUEST_EXPIRED',
] as const satisfies ProblemCode[]

const requestRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/transfers',
    tags: ['Money'],
    summary: 'Sends money to another wallet',
    description:
      'Give the recipient by `toWalletCode` or `toWalletId`, and a PIN or a `Step-Up-Token`. The answer is definite: ' +
      '201 when the money has moved, a problem with `final: true` when it will not, 202 when it is not decided yet. ' +
      'After a 5xx or no answer at all send it again with the same `Idempotency-Key`: it is applied once. A refusal ' +
      'by a limit has the members `limit`, `used` and `requested`.',
    ...signedIn({ scope: 'transfers:write', limit: 'TRANSFER', guardsMoney: true }),
    request: {
      headers: sendingHeaders,
      body: jsonBody(z.strictObject(sendingFields).openapi({ example: SENDING_EXAMPLE })),
    },
    responses: {
      201: jsonAnswer('The money has moved', transferSchema),
      202: jsonAnswer('Not decided yet: ask by the Location', transferSchema),
      ...problemResponses(...SENDING_PROBLEMS),
    },
  })

const limitOut = z.string().nullable().openapi({ example: '2000.00' })
const periodOut = z.object({
  limit: limitOut,
  own: limitOut.openapi({ example: null }),
  maximum: limitOut,
  used: moneyOut.openapi({ example: '0.00' }),
  left: limitOut,
})

const previewSchema = z
  .object({
    outcome: z.enum(['completed', 'rejected']),
    code: z.string().nullable().openapi({ example: null }),
    detail: z.string().nullable().openapi({ example: null }),
    amount: moneyOut,
    currency: z.string().openapi({ example: 'USD' }),
    balanceAfter: moneyOut.openapi({
      example: '87.50',
      description: "The sender's, as it would be after it",
    }),
    availableAfter: moneyOut.openapi({ example: '87.50' }),
    limits: z
      .object({
        perTransaction: z.object({ limit: limitOut, own: limitOut, maximum: limitOut }),
        daily: periodOut,
        monthly: periodOut,
      })
      .openapi({ description: 'What the sender may send, before it' }),
    limit: z.string().optional(),
    used: z.string().optional(),
    requested: z.string().optional(),
  })
  .openapi('TransferPreview')

const previewRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/transfers/preview',
    tags: ['Money'],
    summary: 'Tells what would become of a transfer',
    description:
      'Decided by the rules of the ledger on the wallets as they are: nothing moves, and no PIN is needed. When the ' +
      'money is really sent, it may be otherwise. `code` is one of ' +
      `${SENDING_REFUSALS.map(code => `\`${code}\``).join(', ')}; \`limit\`, \`used\` and \`requested\` are there ` +
      'where a limit refuses it.',
    ...signedIn({ scope: 'transfers:write', limit: 'RECIPIENT' }),
    request: { body: jsonBody(z.strictObject(previewFields).openapi({ example: PREVIEW_EXAMPLE })) },
    responses: {
      200: jsonAnswer('What would become of it', previewSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...KEY_PROBLEMS,
        'WALLET_NOT_FOUND',
        'RECIPIENT_NOT_FOUND',
        'RECIPIENT_UNAVAILABLE',
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
    ...signedIn({ scope: 'transfers:read' }),
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
      ...problemResponses('VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const oneAnswer = {
  200: jsonAnswer('The transfer', transferSchema),
  ...problemResponses('TRANSFER_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
}

const byReferenceRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/by-reference/{reference}',
    tags: ['Money'],
    summary: 'Finds a transfer by the reference that people see',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ reference: z.string().max(40).openapi({ example: 'TXN-6J3V0G8Q2KXA' }) }) },
    responses: oneAnswer,
  })

const byKeyRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/by-idempotency-key/{key}',
    tags: ['Money'],
    summary: 'Finds what has become of the request with this Idempotency-Key',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ key: z.string().max(255).openapi({ example: 'order-4711-payment-1' }) }) },
    responses: oneAnswer,
  })

const byIdRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/{id}',
    tags: ['Money'],
    summary: 'Shows one of your transfers',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ id: uuidParam }) },
    responses: oneAnswer,
  })

/** Requires exactly one way to name the recipient; a code with a typing error matches no wallet. */
const readRecipient = (body: {
  toWalletCode?: string | null | undefined
  toWalletId?: string | null | undefined
}): { toWalletId: string | null; toWalletCode: string | null } => {
  if ((body.toWalletCode == null) === (body.toWalletId == null)) {
    throw validationProblem([{ field: 'toWalletCode', rule: 'give either toWalletCode or toWalletId' }])
  }
  if (body.toWalletCode == null) return { toWalletId: body.toWalletId!, toWalletCode: null }
  const toWalletCode = parseWalletCode(body.toWalletCode)
  if (toWalletCode === null) {
    throw new ProblemError(
      'RECIPIENT_NOT_FOUND',
      'toWalletCode: it is no wallet code; is there a typing error?',
    )
  }
  return { toWalletId: null, toWalletCode }
}

type SendingBody = {
  [Field in keyof typeof sendingFields]?: z.infer<(typeof sendingFields)[Field]>
} & { amount: string; currency: string }

/** Reads a well-formed request to send money. Throws if the recipient is not named in exactly one way. */
export const readSending = (context: Context<GatewayEnv>, body: SendingBody) => ({
  ...readMoneyRequest(context),
  ...readParties(body),
  note: body.note ?? null,
  metadata: body.metadata ?? null,
  pin: body.pin ?? null,
  stepUpToken: context.req.header('step-up-token') ?? null,
})

/** The payer's wallet, the recipient, the amount and the currency. */
const readParties = (body: SendingBody) => ({
  fromWalletId: body.fromWalletId ?? null,
  ...readRecipient(body),
  amount: readAmount(body.amount, body.currency),
  currency: body.currency,
})

/** Routes to send money between wallets, and to find the outcome. */
export const transferRoutes = ({
  guards,
  requestTransfer,
  previewTransfer,
  findTransfer,
  listTransfers,
}: TransferDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(requestRoute(guards), async context => {
    const { status, transfer, replayed } = await requestTransfer({
      ...readSending(context, context.req.valid('json')),
      type: 'transfer',
      expiresInSeconds: null,
    })
    headAnswer(context, `/v1/transfers/${transfer.id}`, replayed)
    return context.json(transfer, status)
  })

  routes.openapi(previewRoute(guards), async context => {
    const { userId } = context.var.user
    return context.json(await previewTransfer({ userId, ...readParties(context.req.valid('json')) }), 200)
  })

  // Not a transfer with the id "preview".
  routes.all('/v1/transfers/preview', context => context.notFound())

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
    context.json(await findTransfer.byId(context.var.user.userId, context.req.valid('param').id), 200),
  )

  return routes
}
