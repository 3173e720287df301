import { createRoute, z } from '@hono/zod-openapi'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import { parseWalletCode } from '@pennywire/contracts/wallet-code.ts'
import type { Context } from 'hono'
import type { GatewayEnv } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  currencyCode,
  cursorParam,
  dayParam,
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
import type { Names } from '../identity/persons/names.ts'
import { pinField } from '../identity/pin/pin-routes.ts'
import type { readOwnEntries, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import {
  headAnswer,
  moneyOut,
  readAmount,
  readMoneyRequest,
  sendingHeaders,
  transferSchema,
} from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import { entrySchema, viewEntries } from '../wallets/entry-view.ts'
import type { FindTransfer } from './find-transfer.ts'
import type { ListQuery } from './list-transfers.ts'
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
    query: ListQuery,
    cursor: string | undefined,
    limit: number,
  ) => Promise<{ items: TransferView[]; nextCursor: string | null }>
  readOwnEntries: (userId: string, transferId: string) => ReturnType<typeof readOwnEntries>
  readWalletByCode: (code: string) => Promise<WalletFacts | undefined>
  names: Pick<Names, 'namesOf'>
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

export const listQuery = z.strictObject({
  limit: limitParam,
  cursor: cursorParam,
  type: z
    .string()
    .regex(/^[a-z_]{1,32}$/, 'must be a type such as transfer or deposit')
    .optional()
    .openapi({ example: 'transfer' }),
  status: z.enum(['pending', 'in_suspense', 'completed', 'rejected', 'reversed']).optional(),
  direction: z.enum(['in', 'out']).optional(),
  from: dayParam('2026-01-01').optional(),
  to: dayParam('2026-01-31').optional(),
  walletId: uuidParam.optional().openapi({ description: 'One of your wallets' }),
  counterparty: z
    .string()
    .max(40)
    .optional()
    .openapi({ example: 'PW-7K2M9QXA', description: "The other side's wallet: its code or its id" }),
  currency: currencyCode.optional(),
  minAmount: moneyString.optional().openapi({ example: '10.00', description: 'Needs `currency`' }),
  maxAmount: moneyString.optional().openapi({ example: '50.00', description: 'Needs `currency`' }),
})

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers',
    tags: ['Money'],
    summary: 'Lists your transfers of every type, newest first',
    description:
      'What moved, and what you requested: transfers, deposits and withdrawals that are pending, and refused ones, by ' +
      'the ledger or by the payment provider. A hold is listed once it is captured or refused; `GET /v1/holds` lists ' +
      'the others. `from` and `to` are UTC days, both included: of the movement, of what has not moved the day of the ' +
      'request. With a filter a page may have fewer items than `limit`, or none, before the last page: go on while ' +
      'there is a `nextCursor`, with the same filters.',
    ...signedIn({ scope: 'transfers:read' }),
    request: { query: listQuery },
    responses: {
      200: jsonAnswer('Transfers', pageOf(transferSchema)),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const ownEntrySchema = entrySchema
  .extend({
    walletId: z.uuid().openapi({ description: 'Yours' }),
    currency: z.string().openapi({ example: 'USD' }),
  })
  .openapi('TransferEntry')

const entriesRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/{id}/entries',
    tags: ['Money'],
    summary: 'Shows the entries of a transfer in your wallets',
    description:
      "Never another party's. Entries of movements that came with the transfer, such as a fee, are among them. A " +
      'transfer that has moved nothing has none.',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: jsonAnswer('Your entries', z.object({ items: z.array(ownEntrySchema) })),
      ...problemResponses('TRANSFER_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
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

const DAY_MS = 86_400_000
/** A period until this day has no end: Postgres reads no moment after it in this form. */
const LAST_DAY = '9999-12-31'
/** The id of no wallet. */
const NO_WALLET = '00000000-0000-0000-0000-000000000000'

/**
 * The list's filters. A code of no wallet, or of one that the caller never dealt with, is a filter like any other: the
 * same rows are read, and none is found.
 */
export const readListQuery = async (
  { readWalletByCode }: Pick<TransferDeps, 'readWalletByCode'>,
  query: Omit<z.output<typeof listQuery>, 'limit' | 'cursor'>,
): Promise<ListQuery> => {
  const { from, to, currency = null, counterparty } = query
  if (from !== undefined && to !== undefined && from > to) {
    throw validationProblem([{ field: 'from', rule: 'must not be after to' }])
  }
  const amounts = [query.minAmount, query.maxAmount]
  if (currency === null && amounts.some(amount => amount !== undefined)) {
    throw validationProblem([{ field: 'currency', rule: 'is required with minAmount or maxAmount' }])
  }
  const amountOf = (field: 'minAmount' | 'maxAmount') =>
    query[field] === undefined ? null : readAmount(query[field], currency!, field)
  return {
    type: query.type ?? null,
    status: query.status ?? null,
    direction: query.direction ?? null,
    since: from === undefined ? null : new Date(from),
    until: to === undefined || to >= LAST_DAY ? null : new Date(Date.parse(to) + DAY_MS),
    walletId: query.walletId ?? null,
    currency,
    counterpartyId:
      counterparty === undefined ? null : await readCounterparty(readWalletByCode, counterparty),
    minAmount: amountOf('minAmount'),
    maxAmount: amountOf('maxAmount'),
  }
}

const readCounterparty = async (
  readWalletByCode: TransferDeps['readWalletByCode'],
  text: string,
): Promise<string> => {
  const id = uuidParam.safeParse(text)
  if (id.success) return id.data
  const code = parseWalletCode(text)
  if (code === null) {
    throw validationProblem([{ field: 'counterparty', rule: 'must be the code or the id of a wallet' }])
  }
  return (await readWalletByCode(code))?.id ?? NO_WALLET
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
export const transferRoutes = (deps: TransferDeps): Routes => {
  const { guards, requestTransfer, previewTransfer, findTransfer, listTransfers } = deps
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
    const { limit, cursor, ...filters } = context.req.valid('query')
    const query = await readListQuery(deps, filters)
    return context.json(await listTransfers(context.var.user.userId, query, cursor, limit), 200)
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

  routes.openapi(entriesRoute(guards), async context => {
    const { userId } = context.var.user
    const { id } = await findTransfer.byId(userId, context.req.valid('param').id)
    const entries = await deps.readOwnEntries(userId, id)
    const items = await Promise.all(
      entries.map(async ({ walletId, currency, ...entry }) => ({
        ...(await viewEntries(deps.names, [entry], currency))[0]!,
        walletId,
        currency,
      })),
    )
    return context.json({ items }, 200)
  })

  return routes
}
