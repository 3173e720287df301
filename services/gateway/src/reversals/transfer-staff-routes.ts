import { createRoute, z } from '@hono/zod-openapi'
import { idsOfReference } from '@pennywire/contracts/ids.ts'
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
  pageOf,
  problemResponses,
  type Routes,
  reasonField,
  STAFF_PROBLEMS,
  STEP_UP_PROBLEMS,
  stepUpHeader,
  uuidParam,
} from '../http/define-route.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PartyFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import {
  headAnswer,
  moneyHeaders,
  moneyOut,
  readAmount,
  readMoneyRequest,
  TRANSFER_EXAMPLE,
  transferSchema,
} from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { createListAllTransfers } from '../transfers/list-all-transfers.ts'
import type { createListSubjects } from '../transfers/list-transfers.ts'
import { listQuery, readListQuery } from '../transfers/transfer-routes.ts'
import { type TransferSubject, viewTransfer } from '../transfers/transfer-view.ts'
import type { ReversalAnswer, ReversalInput } from './request-reversal.ts'

export type AdminTransferDeps = {
  guards: Guards
  names: Names
  listSubjects: ReturnType<typeof createListSubjects>
  listAll: ReturnType<typeof createListAllTransfers>
  findSubjects: (first: string, last: string) => Promise<TransferSubject[]>
  readPaymentIds: (providerReference: string) => Promise<string[]>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  readWalletByCode: (code: string) => Promise<WalletFacts | undefined>
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

/** Only the list of one owner knows what moved in, what out, and what is not decided yet. */
const OF_ONE_OWNER = ['direction', 'counterparty'] as const
const DECIDED = ['completed', 'rejected', 'reversed'] as const

const listRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/transfers',
    tags: ['Staff'],
    summary: "Lists users' transfers, newest first",
    description:
      'Of one owner (`userId`, `walletId`): what `GET /v1/transfers` lists for them, pending and refused requests ' +
      'included. Of all: what the ledger decided, without holds that are not captured. By `reference` (of the transfer) ' +
      'or `providerReference` (of its payment): the one. `from` and `to` are UTC days, both included. With a filter a ' +
      'page may have fewer items than `limit`, or none, before the last page. Needs moderator.',
    ...signedIn({ role: 'moderator' }),
    request: {
      query: listQuery.extend({
        userId: uuidParam.optional().openapi({ description: 'The owner' }),
        walletId: uuidParam.optional(),
        reference: z.string().max(40).optional().openapi({ example: 'TXN-6J3V0G8Q2KXA' }),
        providerReference: z.string().min(1).max(255).optional().openapi({ example: 'sandbox-4711' }),
      }),
    },
    responses: {
      200: jsonAnswer('Transfers', pageOf(staffTransferSchema)),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...STAFF_PROBLEMS),
    },
  })

const getRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/admin/transfers/{id}',
    tags: ['Staff'],
    summary: "Shows anybody's transfer",
    description: 'With both parties; also one that is not decided yet. Needs moderator.',
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

  const ownerOf = async (walletId: string): Promise<string> => {
    const [wallet] = await deps.readWallets([walletId])
    if (!wallet?.userId) throw new ProblemError('WALLET_NOT_FOUND', 'walletId: there is no such wallet')
    return wallet.userId
  }

  /** By a reference there is one, of no page. */
  const findByReference = async (reference: string | undefined, providerReference: string | undefined) => {
    const range = reference === undefined ? undefined : idsOfReference(reference)
    if (reference !== undefined && !range)
      throw validationProblem([{ field: 'reference', rule: 'must be the reference of a transfer' }])
    const ranges = range
      ? [range]
      : (await deps.readPaymentIds(providerReference!)).map(id => ({ first: id, last: id }))
    const subjects = await Promise.all(ranges.map(({ first, last }) => deps.findSubjects(first, last)))
    return { subjects: subjects.flat(), nextCursor: null }
  }

  routes.openapi(listRoute(deps.guards), async context => {
    const { limit, cursor, userId, reference, providerReference, ...filters } = context.req.valid('query')
    const list = async () => {
      if (reference !== undefined || providerReference !== undefined)
        return findByReference(reference, providerReference)
      const query = await readListQuery(deps, filters)
      const owner = userId ?? (query.walletId === null ? undefined : await ownerOf(query.walletId))
      if (owner !== undefined) return deps.listSubjects(owner, query, cursor, limit)
      const alone = OF_ONE_OWNER.find(field => filters[field] !== undefined)
      if (alone) throw validationProblem([{ field: alone, rule: 'goes with userId or walletId' }])
      const status = query.status === null ? null : DECIDED.find(decided => decided === query.status)
      if (status === undefined)
        throw validationProblem([
          { field: 'status', rule: `without userId or walletId: ${DECIDED.join(', ')}` },
        ])
      return deps.listAll({ ...query, status }, cursor, limit)
    }
    const { subjects, nextCursor } = await list()
    context.set(
      'viewed',
      subjects.map(({ id }) => id),
    )
    return context.json({ items: await Promise.all(subjects.map(viewForStaff)), nextCursor }, 200)
  })

  routes.openapi(getRoute(deps.guards), async context => {
    const { id } = context.req.valid('param')
    const [subject] = await deps.findSubjects(id, id)
    if (!subject) throw new ProblemError('TRANSFER_NOT_FOUND', 'id: there is no such transfer')
    return context.json(await viewForStaff(subject), 200)
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
