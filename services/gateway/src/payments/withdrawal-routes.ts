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
import { pinField } from '../identity/pin/pin-routes.ts'
import {
  headAnswer,
  readAmount,
  readMoneyRequest,
  sendingHeaders,
  transferSchema,
} from '../money/money-headers.ts'
import type { TransferAnswer } from '../transfers/request-transfer.ts'
import type { WithdrawalInput } from './request-withdrawal.ts'

export type WithdrawalRouteDeps = {
  guards: Guards
  requestWithdrawal: (input: WithdrawalInput) => Promise<TransferAnswer>
}

const withdrawalRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/withdrawals',
    tags: ['Money'],
    summary: 'Pays money out of a wallet through the payment provider',
    description:
      'The money is held at once and leaves the wallet when the provider has paid it out; where it refuses, the money is ' +
      'free again. Give a PIN or a `Step-Up-Token`. A payout that comes back later is booked as a reversal. The sandbox ' +
      'provider pays at once, or does as a magic `destination` says: `sandbox:fail`, `sandbox:delay`, `sandbox:silent`, ' +
      '`sandbox:lost`, `sandbox:return`.',
    ...signedIn({ scope: 'withdrawals:write', limit: 'WITHDRAWAL', guardsMoney: true }),
    request: {
      headers: sendingHeaders,
      body: jsonBody(
        z.strictObject({
          walletId: uuidParam,
          amount: moneyString,
          currency: currencyCode,
          destination: z
            .string()
            .regex(/\S/, 'must not be blank')
            .max(200)
            .openapi({ example: 'DE02 1203 0000 0000 2020 51' }),
          pin: pinField.nullish(),
        }),
      ),
    },
    responses: {
      201: jsonAnswer('The money is paid out', transferSchema),
      202: jsonAnswer('The provider has not paid yet: ask by the Location', transferSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...KEY_PROBLEMS,
        'IDEMPOTENCY_KEY_REQUIRED',
        'IDEMPOTENCY_KEY_REUSED',
        'WALLET_NOT_FOUND',
        'PIN_REQUIRED',
        'PIN_NOT_SET',
        'PIN_LOCKED',
        'INVALID_PIN',
        'STEP_UP_INVALID',
        'API_KEY_AMOUNT_EXCEEDED',
        'INSUFFICIENT_BALANCE',
        'WALLET_FROZEN',
        'WALLET_CLOSED',
        'CURRENCY_MISMATCH',
        'PER_TRANSACTION_LIMIT_EXCEEDED',
        'DAILY_LIMIT_EXCEEDED',
        'MONTHLY_LIMIT_EXCEEDED',
        'REQUEST_EXPIRED',
        'PAYMENT_FAILED',
      ),
    },
  })

/** The route of withdrawals: money that goes outside. */
export const withdrawalRoutes = ({ guards, requestWithdrawal }: WithdrawalRouteDeps): Routes => {
  const routes = newRoutes()

  routes.openapi(withdrawalRoute(guards), async context => {
    const body = context.req.valid('json')
    const { status, transfer, replayed } = await requestWithdrawal({
      ...readMoneyRequest(context),
      walletId: body.walletId,
      amount: readAmount(body.amount, body.currency),
      currency: body.currency,
      destination: body.destination,
      pin: body.pin ?? null,
      stepUpToken: context.req.header('step-up-token') ?? null,
    })
    headAnswer(context, `/v1/transfers/${transfer.id}`, replayed)
    return context.json(transfer, status)
  })

  return routes
}
