import { createRoute, z } from '@hono/zod-openapi'
import { referenceOf } from '@pennywire/contracts/ids.ts'
import { CHECK_PATH, sideOfUser } from '@pennywire/documents/describe-receipt.ts'
import { receiptFileName } from '@pennywire/documents/receipt-file-name.ts'
import { LANGUAGES, type Language, languageOf } from '@pennywire/messages/render-notice.ts'
import {
  ANYBODY_PROBLEMS,
  type Guards,
  jsonAnswer,
  KEY_PROBLEMS,
  newRoutes,
  problemResponses,
  type Routes,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { moneyOut } from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { InTurn } from '../queues/turns.ts'
import type { FindTransfer } from '../transfers/find-transfer.ts'
import { CHECK_PAGE_POLICY, checkPage } from './check-page.ts'
import type { CheckReceipt } from './check-receipt.ts'
import { completedOf } from './make-receipts.ts'
import type { Requested } from './sql/receipts.ts'

export type ReceiptRouteDeps = {
  guards: Guards
  findTransfer: Pick<FindTransfer, 'byId'>
  readDecided: (id: string) => Promise<TransferFacts | undefined>
  /** The language that the user has chosen. */
  readLanguage: (userId: string) => Promise<Language | null>
  request: (receipt: { transferId: string; userId: string; language: Language }) => Promise<Requested>
  /** The PDF; null while it waits; undefined if the user has asked for none. */
  read: (transferId: string, userId: string) => Promise<Uint8Array | null | undefined>
  check: CheckReceipt
  inReadTurn: InTurn
}

export const MAX_WAITING = 1_000
export const MAX_WAITING_OF_USER = 20

/** All who check receipts have the turns of one user: however many they are, reads of users go on. */
const VISITORS = 'visitors who check receipts'

const receiptSchema = z
  .object({
    transferId: z.uuid(),
    status: z.enum(['waiting', 'made']),
  })
  .openapi('Receipt', { example: { transferId: '2ebecfd1-5839-8d4b-b140-f6840d8ed5ac', status: 'waiting' } })

const requestRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'post',
    path: '/v1/transfers/{id}/receipt',
    tags: ['Receipts'],
    summary: 'Asks for the receipt of a completed transfer as PDF',
    description:
      'It is made apart from the request, within a second where nobody else waits, and kept for a day. A repeat asks ' +
      'for the same receipt. `language` defaults to the one of your preferences, then to `Accept-Language`; another ' +
      'language makes the receipt again.',
    ...signedIn({ scope: 'transfers:read', limit: 'RECEIPT' }),
    request: {
      params: z.object({ id: uuidParam }),
      query: z.strictObject({ language: z.enum(LANGUAGES).optional() }),
    },
    responses: {
      200: jsonAnswer('It is there', receiptSchema),
      202: jsonAnswer('It waits to be made', receiptSchema),
      ...problemResponses(
        'TRANSFER_NOT_FOUND',
        'TRANSFER_NOT_COMPLETED',
        'VALIDATION_ERROR',
        ...KEY_PROBLEMS,
      ),
    },
  })

const readRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/transfers/{id}/receipt',
    tags: ['Receipts'],
    summary: 'Gives the receipt that you asked for',
    ...signedIn({ scope: 'transfers:read' }),
    request: { params: z.object({ id: uuidParam }) },
    responses: {
      200: {
        description: 'The receipt',
        content: { 'application/pdf': { schema: z.string().openapi({ format: 'binary' }) } },
      },
      202: jsonAnswer('It waits to be made: ask again after `Retry-After`', receiptSchema),
      ...problemResponses('RECEIPT_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const checkedSchema = z
  .object({
    authentic: z.literal(true),
    side: z.enum(['sender', 'recipient']).openapi({ description: 'For whom the receipt was made' }),
    reference: z.string().openapi({ example: 'TXN-6J3V0G8Q2KXA' }),
    type: z.string().openapi({ example: 'transfer' }),
    amount: moneyOut,
    currency: z.string().openapi({ example: 'USD' }),
    completedAt: timestamp,
    fromWalletCode: z
      .string()
      .nullable()
      .openapi({ example: 'PW-4Q8T1ZKC', description: 'null is the world outside' }),
    toWalletCode: z.string().nullable().openapi({ example: 'PW-7K2M9QXA' }),
    reversedAmount: moneyOut.openapi({ example: '0.00', description: 'What was given back since' }),
  })
  .openapi('CheckedReceipt')

const PAGE_EXAMPLE = '<!doctype html>\n<html lang="en"> … </html>'

const checkRoute = ({ anybody }: Guards) =>
  createRoute({
    method: 'get',
    path: CHECK_PATH,
    tags: ['Receipts'],
    summary: 'Checks whether a receipt is authentic',
    description:
      'By the reference and the check code that are printed on it; dashes, blanks and case do not matter. To a browser ' +
      '(`Accept: text/html`) the answer is a page, without a query a form. Compare what it states with the receipt. ' +
      'No name is shown.',
    ...anybody({ limit: 'RECEIPT' }),
    request: {
      query: z.strictObject({
        reference: z.string().max(40).optional().openapi({ example: 'TXN-6J3V0G8Q2KXA' }),
        code: z.string().max(64).optional().openapi({ example: '7K2M-9QXA-3BCD-EFGH-JKMN' }),
      }),
    },
    responses: {
      200: {
        description: 'It is authentic',
        content: {
          'application/json': { schema: checkedSchema },
          'text/html': { schema: z.string(), example: PAGE_EXAMPLE },
        },
      },
      ...problemResponses('VALIDATION_ERROR', ...ANYBODY_PROBLEMS),
      404: {
        description: '`RECEIPT_NOT_AUTHENTIC` The receipt is not authentic',
        content: {
          ...(problemResponses('RECEIPT_NOT_AUTHENTIC') as { 404: { content: object } })[404].content,
          'text/html': { schema: z.string(), example: PAGE_EXAMPLE },
        },
      },
    },
  })

/** Routes to ask for receipts, to get them, and to check them. */
export const receiptRoutes = (deps: ReceiptRouteDeps): Routes => {
  const { guards } = deps
  const routes = newRoutes()

  routes.openapi(requestRoute(guards), async context => {
    const { userId } = context.var.user
    const { id } = context.req.valid('param')
    const { completedAt } = await deps.findTransfer.byId(userId, id)
    const facts = completedAt === null ? undefined : await deps.readDecided(id)
    const transfer = facts && completedOf(facts)
    if (!transfer || sideOfUser(transfer, userId) === undefined) {
      throw new ProblemError(
        'TRANSFER_NOT_COMPLETED',
        'A receipt states that money has moved from or to you.',
      )
    }
    const language =
      context.req.valid('query').language ??
      (await deps.readLanguage(userId)) ??
      languageOf(context.req.header('accept-language'))
    const requested = await deps.request({ transferId: id, userId, language })
    if (requested === 'too_many') {
      const detail = `At most ${MAX_WAITING_OF_USER} of your receipts wait at a time.`
      throw new ProblemError('RATE_LIMIT_EXCEEDED', detail, {}, { 'retry-after': '5' })
    }
    if (requested === 'full') {
      const detail = 'Too many receipts wait; try again.'
      throw new ProblemError('SERVICE_UNAVAILABLE', detail, {}, { 'retry-after': '30' })
    }
    context.header('location', `/v1/transfers/${id}/receipt`)
    return context.json({ transferId: id, status: requested }, requested === 'made' ? 200 : 202)
  })

  routes.openapi(readRoute(guards), async context => {
    const { id } = context.req.valid('param')
    const pdf = await deps.read(id, context.var.user.userId)
    if (pdf === undefined) {
      throw new ProblemError(
        'RECEIPT_NOT_FOUND',
        'You have asked for no receipt of such a transfer, or it was a day ago.',
      )
    }
    if (pdf === null) {
      context.header('retry-after', '1')
      return context.json({ transferId: id, status: 'waiting' as const }, 202)
    }
    return context.body(pdf as Uint8Array<ArrayBuffer>, 200, {
      'content-type': 'application/pdf',
      'content-disposition': `attachment; filename="${receiptFileName(referenceOf(id))}"`,
    })
  })

  routes.openapi(checkRoute(guards), async context => {
    const { reference = '', code = '' } = context.req.valid('query')
    const isPage = /\btext\/html\b/.test(context.req.header('accept') ?? '')
    const asked = reference !== '' && code !== ''
    if (!asked && !isPage) {
      throw validationProblem(
        Object.entries({ reference, code })
          .filter(([, value]) => value === '')
          .map(([field]) => ({ field, rule: 'is required' })),
      )
    }
    const checked = asked ? await deps.inReadTurn(VISITORS, () => deps.check(reference, code)) : undefined
    if (!isPage) {
      if (checked) return context.json(checked, 200)
      throw new ProblemError('RECEIPT_NOT_AUTHENTIC', 'No receipt has this reference and check code.')
    }
    context.header('content-security-policy', CHECK_PAGE_POLICY)
    const language = languageOf(context.req.header('accept-language'))
    const page = await checkPage(language, { reference, code }, asked ? (checked ?? 'refused') : null)
    return context.html(page, asked && !checked ? 404 : 200)
  })

  return routes
}
