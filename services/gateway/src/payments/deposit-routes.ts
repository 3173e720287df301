import { createRoute, z } from '@hono/zod-openapi'
import {
  BODY_PROBLEMS,
  currencyCode,
  type Guards,
  jsonAnswer,
  jsonBody,
  KEY_PROBLEMS,
  moneyString,
  newRoutes,
  problemResponses,
  type Routes,
  uuidParam,
} from '../http/define-route.ts'
import {
  headAnswer,
  moneyHeaders,
  readAmount,
  readMoneyRequest,
  transferSchema,
} from '../money/money-headers.ts'
import type { TransferAnswer } from '../transfers/request-transfer.ts'
import { DEFAULT_SOURCE } from '../transfers/transfer-view.ts'
import type { DepositInput } from './request-deposit.ts'

export type DepositRouteDeps = {
  guards: Guards
  requestDeposit: (input: DepositInput) => Promise<TransferAnswer>
  handleCallback: (signature: string | undefined, body: string, traceparent: string) => Promise<void>
}

const depositRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/deposits',
    tags: ['Money'],
    summary: 'Brings money into a wallet through the payment provider',
    description:
      'Booked once the provider confirms. The sandbox provider confirms at once, or does as a magic `source` says: ' +
      '`sandbox:fail`, `sandbox:delay`, `sandbox:silent`, `sandbox:lost`. The limits of deposits are looked at before the ' +
      'provider is asked; what it confirms is booked no matter what they are.',
    ...signedIn({ scope: 'deposits:write', limit: 'DEPOSIT', guardsMoney: true }),
    request: {
      headers: moneyHeaders,
      body: jsonBody(
        z.strictObject({
          walletId: uuidParam,
          amount: moneyString,
          currency: currencyCode,
          source: z
            .string()
            .regex(/\S/, 'must not be blank')
            .max(200)
            .nullish()
            .openapi({ example: 'sandbox:delay' }),
        }),
      ),
    },
    responses: {
      201: jsonAnswer('The money is in the wallet', transferSchema),
      202: jsonAnswer('The provider has not confirmed yet', transferSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...KEY_PROBLEMS,
        'IDEMPOTENCY_KEY_REQUIRED',
        'IDEMPOTENCY_KEY_REUSED',
        'WALLET_NOT_FOUND',
        'WALLET_CLOSED',
        'RECIPIENT_UNAVAILABLE',
        'CURRENCY_MISMATCH',
        'API_KEY_AMOUNT_EXCEEDED',
        'PER_TRANSACTION_LIMIT_EXCEEDED',
        'DAILY_LIMIT_EXCEEDED',
        'MONTHLY_LIMIT_EXCEEDED',
        'REQUEST_EXPIRED',
        'PAYMENT_FAILED',
        'BALANCE_LIMIT',
      ),
    },
  })

const callbackRoute = () =>
  createRoute({
    method: 'post',
    path: '/v1/provider/callbacks',
    tags: ['Money'],
    summary: 'Where the payment provider says what became of a payment',
    description:
      'Signed: `Provider-Signature: t=SECONDS,v1=HEX`, HMAC-SHA-256 over `t.body` with the shared secret.',
    request: { headers: z.object({ 'provider-signature': z.string().optional() }) },
    responses: {
      204: { description: 'Heard, and booked where there is something to book' },
      ...problemResponses(
        'SIGNATURE_INVALID',
        'PAYMENT_NOT_FOUND',
        'MALFORMED_JSON',
        'UNSUPPORTED_MEDIA_TYPE',
        'VALIDATION_ERROR',
        'PAYLOAD_TOO_LARGE',
        'SERVICE_UNAVAILABLE',
        'INTERNAL_ERROR',
      ),
    },
  })

/** Routes of deposits: money that comes in from outside. */
export const depositRoutes = ({ guards, requestDeposit, handleCallback }: DepositRouteDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(depositRoute(guards), async context => {
    const body = context.req.valid('json')
    const { status, transfer, replayed } = await requestDeposit({
      ...readMoneyRequest(context),
      walletId: body.walletId,
      amount: readAmount(body.amount, body.currency),
      currency: body.currency,
      source: body.source ?? DEFAULT_SOURCE,
    })
    headAnswer(context, `/v1/transfers/${transfer.id}`, replayed)
    return context.json(transfer, status)
  })

  routes.openapi(callbackRoute(), async context => {
    await handleCallback(
      context.req.header('provider-signature'),
      await context.req.text(),
      context.var.traceparent,
    )
    return context.body(null, 204)
  })

  return routes
}
