import { Readable } from 'node:stream'
import { createRoute, z } from '@hono/zod-openapi'
import {
  dayParam,
  type Guards,
  jsonAnswer,
  KEY_PROBLEMS,
  momentParam,
  newRoutes,
  problemResponses,
  type Routes,
  timestamp,
  uuidParam,
} from '../http/define-route.ts'
import { money, moneyOut } from '../money/money-headers.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { BalanceAt, Period } from './sql/statement-reads.ts'
import {
  checkPeriod,
  lastDayOf,
  linesOf,
  PDF_MOST_ENTRIES,
  type StatementDeps,
  type StatementLine,
  summarise,
} from './statement.ts'
import { statementCsv } from './statement-csv.ts'
import type { PdfPool } from './statement-pdf-pool.ts'

export type StatementRouteDeps = StatementDeps & {
  guards: Guards
  readBalanceAt: (userId: string, walletId: string, at: Date | null) => Promise<BalanceAt | undefined>
  readPeriod: (userId: string, walletId: string, from: string, to: string) => Promise<Period | undefined>
  pdfs: Pick<PdfPool, 'run'>
}

const walletParams = z.object({ id: uuidParam })

const balanceRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets/{id}/balance',
    tags: ['Wallets'],
    summary: 'Shows the balance of one of your wallets, now or at a moment',
    ...signedIn({ scope: 'wallets:read' }),
    request: {
      params: walletParams,
      query: z.strictObject({
        at: momentParam.optional().openapi({
          type: 'string',
          format: 'date-time',
          example: '2026-01-31T09:30:00Z',
          description: 'RFC 3339; now where it is missing. Not in the future; 0 before the wallet was opened',
        }),
      }),
    },
    responses: {
      200: jsonAnswer(
        'The balance',
        z
          .object({
            walletId: z.uuid(),
            balance: moneyOut,
            available: moneyOut
              .nullable()
              .openapi({ description: 'The balance less what is held; null for the past' }),
            currency: z.string().openapi({ example: 'USD' }),
            at: timestamp,
            sequence: z
              .int()
              .openapi({ example: 12, description: 'How many entries the wallet had: the last of them' }),
          })
          .openapi('Balance'),
      ),
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const statementRoute = ({ signedIn }: Guards) =>
  createRoute({
    method: 'get',
    path: '/v1/wallets/{id}/statement',
    tags: ['Wallets'],
    summary: 'Makes a statement of one of your wallets as CSV or PDF',
    description:
      'Opening balance, every entry with the balance after it, money in and out, closing balance: opening + in − out = ' +
      'closing. Days are UTC days, `from` and `to` included, at most 366; one that ends later than today ends now. The CSV is RFC 4180 in UTF-8 with a record ' +
      'in each line (`opening_balance`, `entry`, `sum_in`, `sum_out`, `closing_balance`); one without the last record ' +
      "was cut off. Where a text could begin a formula in a spreadsheet stands an apostrophe. A note is the sender's, in the statements of both. " +
      `A PDF has at most ${PDF_MOST_ENTRIES} entries. One statement of a user is made at a time: another one is 429 meanwhile.`,
    ...signedIn({ scope: 'wallets:read', limit: 'STATEMENT', ownTurns: true }),
    request: {
      params: walletParams,
      query: z.strictObject({
        from: dayParam('2026-01-01'),
        to: dayParam('2026-01-31'),
        format: z.enum(['csv', 'pdf']).default('csv').openapi({ example: 'csv' }),
        bom: z.enum(['true', 'false']).default('false').openapi({
          description: 'Of a CSV: a byte-order mark in front, which Excel needs to read it as UTF-8',
        }),
      }),
    },
    responses: {
      200: {
        description: 'The statement',
        content: {
          'text/csv': {
            schema: z.string(),
            example:
              'record,date,reference,type,counterparty,counterparty_code,amount,balance,currency,note\r\n' +
              'opening_balance,2026-01-01,,,,,,100.00,USD,\r\n' +
              'entry,2026-01-31T09:30:00.000Z,TXN-6J3V0G8Q2KXA,transfer,Bob B.,PW-7K2M9QXA,-12.50,87.50,USD,Lunch\r\n' +
              'sum_in,,,,,,0.00,,USD,\r\nsum_out,,,,,,12.50,,USD,\r\nclosing_balance,2026-01-31,,,,,,87.50,USD,\r\n',
          },
          'application/pdf': { schema: z.string().openapi({ format: 'binary' }) },
        },
      },
      ...problemResponses('WALLET_NOT_FOUND', 'VALIDATION_ERROR', ...KEY_PROBLEMS),
    },
  })

const notFound = () => new ProblemError('WALLET_NOT_FOUND', 'id: you have no such wallet')

const TYPES = { csv: 'text/csv; charset=utf-8; header=present', pdf: 'application/pdf' } as const

/** Yields the pieces, and calls `call` when they end or are abandoned: before their reader sees the end. */
async function* lastly<Piece>(pieces: AsyncIterable<Piece>, call: () => void): AsyncGenerator<Piece> {
  try {
    yield* pieces
  } finally {
    call()
  }
}

/** Routes of a wallet's balance at a moment, and of its statement over a period. */
export const statementRoutes = (deps: StatementRouteDeps): Routes => {
  const routes = newRoutes()
  /** Users whose statement is being built or sent, however slowly it is read. */
  const atWork = new Set<string>()
  const begin = (userId: string): (() => void) => {
    if (atWork.has(userId)) {
      const detail = 'At most 1 of your statements at a time; wait for the one before.'
      throw new ProblemError('RATE_LIMIT_EXCEEDED', detail, {}, { 'retry-after': '1' })
    }
    atWork.add(userId)
    return () => atWork.delete(userId)
  }

  routes.openapi(balanceRoute(deps.guards), async context => {
    const { at } = context.req.valid('query')
    const moment = at === undefined ? null : new Date(at)
    const found = await deps.readBalanceAt(context.var.user.userId, context.req.valid('param').id, moment)
    if (!found) throw notFound()
    const { id, balance, available, currency, sequence, now } = found
    // The ledger's clock decides, which is the database's.
    if (moment !== null && moment > now) {
      throw validationProblem([
        { field: 'at', rule: `must not be in the future (now: ${now.toISOString()})` },
      ])
    }
    return context.json(
      {
        walletId: id,
        balance: money(balance, currency),
        available: available === null ? null : money(available, currency),
        currency,
        at: (moment ?? now).toISOString(),
        sequence: Number(sequence),
      },
      200,
    )
  })

  routes.openapi(statementRoute(deps.guards), async context => {
    const { userId } = context.var.user
    const { from, to, format, bom } = context.req.valid('query')
    checkPeriod(from, to)
    const over = begin(userId)
    let isStreaming = false
    try {
      const read = await deps.readPeriod(userId, context.req.valid('param').id, from, to)
      if (!read) throw notFound()
      const period = { ...read, to: lastDayOf(from, to, read.now) }
      const name = (await deps.names.namesOf([userId])).get(userId)
      const statement = summarise(period, name?.fullName ?? '')
      if (format === 'pdf' && statement.count > PDF_MOST_ENTRIES) {
        throw validationProblem([
          {
            field: 'format',
            rule: `a PDF has at most ${PDF_MOST_ENTRIES} entries, here are ${statement.count}: take csv or fewer days`,
          },
        ])
      }
      const pages = linesOf(deps, period)
      const headers = {
        'content-type': TYPES[format],
        'content-disposition': `attachment; filename="statement-${statement.code}-${from}-${period.to}.${format}"`,
      }
      // The body of a HEAD answer is never read, so `over` would never be called.
      if (context.req.method === 'HEAD') return context.body(null, 200, headers)
      if (format === 'pdf') {
        const lines: StatementLine[] = []
        for await (const page of pages) lines.push(...page)
        const pdf = await deps.pdfs.run({ statement, lines }, userId, context.req.raw.signal)
        return context.body(pdf as Uint8Array<ArrayBuffer>, 200, headers)
      }
      const stream = Readable.from(lastly(statementCsv(statement, pages, bom === 'true'), over), {
        objectMode: false,
      })
      // If the first piece is never read, `lastly` does not call `over`.
      stream.once('close', over)
      isStreaming = true
      return context.body(Readable.toWeb(stream) as ReadableStream, 200, headers)
    } finally {
      if (!isStreaming) over()
    }
  })

  return routes
}
