import { createRoute, z } from '@hono/zod-openapi'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { sessionOf } from '../http/context.ts'
import {
  BODY_PROBLEMS,
  currencyCode,
  type Guards,
  jsonAnswer,
  jsonBody,
  moneyString,
  newRoutes,
  problemResponses,
  type Routes,
  reasonField,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { PartyFacts, TransferFacts } from '../ledger/sql/ledger-reads.ts'
import {
  headAnswer,
  moneyHeaders,
  moneyOut,
  readAmount,
  readMoneyRequest,
  TRANSFER_EXAMPLE,
  transferSchema,
} from '../money/money-headers.ts'
import { ProblemError } from '../problems/problem.ts'
import { openDecided, type TransferSubject, viewTransfer } from '../transfers/transfer-view.ts'
import type { ReversalAnswer, ReversalInput } from './request-reversal.ts'

export type AdminTransferDeps = {
  guards: Guards
  names: Names
  personKeys: PersonKeys
  readDecided: (id: string) => Promise<TransferFacts | undefined>
  requestReversal: (input: ReversalInput) => Promise<ReversalAnswer>
}

const staffParty = z
  .object({
    walletId: z.uuid(),
    walletCode: z.string().openapi({ example: 'PW-7K2M9QXA' }),
    userId: z.uuid(),
    name: z.string().openapi({ example: 'Bob Brown' }),
    balanceAfter: moneyOut
      .nullable()
      .openapi({ description: "The party's balance after it, where it moved" }),
  })
  .nullable()
  .openapi({ description: 'null is the world outside' })

const {
  from,
  to,
  source: _source,
  destination: _destination,
  balanceAfter: _callers,
  ...REST_OF_EXAMPLE
} = TRANSFER_EXAMPLE

const staffTransferSchema = transferSchema
  .omit({ source: true, destination: true, balanceAfter: true })
  .extend({
    from: staffParty,
    to: staffParty,
    requestedBy: z.uuid().openapi({ description: 'The user, or staff member, who asked for it' }),
  })
  .openapi('StaffTransfer', {
    example: {
      ...REST_OF_EXAMPLE,
      from: { ...from, userId: '8f14e45f-ceea-467f-a1d2-6b1c7a3e9d04', balanceAfter: '87.50' },
      to: { ...to, name: 'Bob Brown', userId: '3c59dc04-8e88-4f2b-b6d1-9a0f5c7e2b13', balanceAfter: '12.50' },
      requestedBy: '8f14e45f-ceea-467f-a1d2-6b1c7a3e9d04',
    },
  })

const transferParams = z.object({ id: uuidParam })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/transfers/{id}',
    tags: ['Staff'],
    summary: "Shows anybody's transfer",
    description: 'What the ledger decided, with both parties. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: { params: transferParams },
    responses: {
      200: jsonAnswer('The transfer', staffTransferSchema),
      ...problemResponses('TRANSFER_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const reversalRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/admin/transfers/{id}/reversals',
    tags: ['Staff'],
    summary: 'Gives a transfer or a deposit back, whole or in part',
    description:
      'By a new transfer of type `reversal` from the one who received the original to the one who paid it; the original stays ' +
      'as it was. Without `amount`: all that is left. In sum never more than the original. A recipient who has spent ' +
      'the money is not taken below zero (`INSUFFICIENT_BALANCE`): what is still there can be given back in part. ' +
      'Frozen wallets pay and receive it, no matter who froze them; closed ones do not (`WALLET_CLOSED`, ' +
      '`RECIPIENT_UNAVAILABLE`). A rejected transfer, a reversal and a withdrawal cannot be reversed. Both parties ' +
      'read the reason. Needs admin, and never a transfer of your own.',
    ...signedIn({ guardsMoney: true, role: 'admin', stepUp: true }),
    request: {
      params: transferParams,
      headers: moneyHeaders.extend(stepUpHeader.shape),
      body: jsonBody(
        z.strictObject({
          amount: moneyString.nullish(),
          currency: currencyCode.nullish(),
          reason: reasonField.openapi({ example: 'Paid twice, case 4711' }),
        }),
      ),
    },
    responses: {
      201: jsonAnswer('The money was given back', staffTransferSchema),
      202: jsonAnswer('Not decided yet: ask by the Location', staffTransferSchema),
      ...problemResponses(
        ...BODY_PROBLEMS,
        ...STAFF_PROBLEMS,
        ...STEP_UP_PROBLEMS,
        'IDEMPOTENCY_KEY_REQUIRED',
        'IDEMPOTENCY_KEY_REUSED',
        'TRANSFER_NOT_FOUND',
        'NOT_REVERSIBLE',
        'REVERSAL_EXCEEDS_ORIGINAL',
        'INSUFFICIENT_BALANCE',
        'WALLET_CLOSED',
        'RECIPIENT_UNAVAILABLE',
        'CURRENCY_MISMATCH',
        'BALANCE_LIMIT',
      ),
    },
  })

/** Routes for the transfers of all users, for staff. */
export const adminTransferRoutes = (deps: AdminTransferDeps): Routes => {
  const routes = newRoutes()

  const viewForStaff = async (subject: TransferSubject): Promise<z.infer<typeof staffTransferSchema>> => {
    const {
      source: _source,
      destination: _destination,
      balanceAfter: _,
      ...view
    } = await viewTransfer(deps.names, '', subject)
    const userIds = [subject.from?.userId, subject.to?.userId].filter(id => id != null)
    const names = await deps.names.namesOf(userIds)
    const party = (facts: PartyFacts | null) =>
      facts?.userId == null || facts.code === null
        ? null
        : {
            walletId: facts.walletId,
            walletCode: facts.code,
            userId: facts.userId,
            name: names.get(facts.userId)?.fullName ?? '',
            balanceAfter:
              facts.balanceAfter === null ? null : formatAmount(facts.balanceAfter, subject.currency),
          }
    return { ...view, from: party(subject.from), to: party(subject.to), requestedBy: subject.userId }
  }

  routes.openapi(getRoute(deps.guards), async context => {
    const facts = await deps.readDecided(context.req.valid('param').id)
    if (!facts) throw new ProblemError('TRANSFER_NOT_FOUND', 'id: there is no such decided transfer')
    const [subject] = await openDecided(deps.personKeys, [facts])
    return context.json(await viewForStaff(subject!), 200)
  })

  routes.openapi(reversalRoute(deps.guards), async context => {
    const { amount, currency = null, reason } = context.req.valid('json')
    const { status, reversal, replayed } = await deps.requestReversal({
      ...readMoneyRequest(context),
      staff: sessionOf(context),
      originalId: context.req.valid('param').id,
      amountIn: ofOriginal => (amount == null ? null : readAmount(amount, ofOriginal)),
      currency,
      reason,
    })
    headAnswer(context, `/v1/transfers/${reversal.id}`, replayed)
    return context.json(await viewForStaff(reversal), status)
  })

  return routes
}
