import { z } from '@hono/zod-openapi'
import { formatAmount, parseAmount } from '@pennywire/contracts/money.ts'
import type { Context } from 'hono'
import type { GatewayEnv } from '../http/context.ts'
import { timestamp } from '../http/define-route.ts'
import type { PersonName } from '../identity/persons/names.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'

const DEFAULT_WAIT_MS = 10_000
const LONGEST_WAIT_SECONDS = 60

/** OpenAPI schema of the headers of money routes; the functions below validate them, so that errors are problems. */
export const moneyHeaders = z.object({
  'idempotency-key': z
    .string()
    .optional()
    .openapi({
      param: { required: true },
      description: '1 to 255 visible ASCII characters; a repeat with the same key and body is applied once.',
      example: 'order-4711-payment-1',
    }),
  prefer: z.string().optional().openapi({
    description: '`wait=N` (0 to 60 seconds, default 10), or `respond-async` to wait for nothing (RFC 7240)',
    example: 'wait=10',
  }),
})

/** The headers of routes that move money out: with the proof that the user is present. */
export const sendingHeaders = moneyHeaders.extend({
  'step-up-token': z.string().optional().openapi({ description: 'From POST /v1/pin/verify' }),
})

/** The requester and headers of a request that moves money: everything outside its body. */
export const readMoneyRequest = (context: Context<GatewayEnv>) => ({
  user: context.var.user,
  idempotencyKey: readIdempotencyKey(context.req.header('idempotency-key')),
  waitMs: readWaitMs(context.req.header('prefer')),
  traceparent: context.var.traceparent,
})

/** Sets Location, where the transfer or hold is found later, and marks a repeated answer. */
export const headAnswer = (
  context: Context<GatewayEnv>,
  found: `/v1/${'transfers' | 'holds'}/${string}`,
  replayed: boolean,
): void => {
  context.header('location', found)
  if (replayed) context.header('idempotency-replayed', 'true')
}

/** The Idempotency-Key header as sent; throws the problem that names the broken rule. */
export const readIdempotencyKey = (header: string | undefined): string => {
  if (header === undefined || header === '') {
    throw new ProblemError('IDEMPOTENCY_KEY_REQUIRED', 'Idempotency-Key: is required where money moves')
  }
  return checkKey(header)
}

/** An optional Idempotency-Key header; an empty one is invalid. */
export const readOptionalKey = (header: string | undefined): string | null =>
  header === undefined ? null : checkKey(header)

const checkKey = (header: string): string => {
  if (!/^[\x21-\x7e]{1,255}$/.test(header)) {
    throw validationProblem([{ field: 'Idempotency-Key', rule: 'must be 1 to 255 visible ASCII characters' }])
  }
  // URLs drop such a segment, even if it is escaped: the client could not look up its request by the key.
  if (header === '.' || header === '..') {
    throw validationProblem([{ field: 'Idempotency-Key', rule: 'must not be a path segment of dots' }])
  }
  return header
}

/**
 * How long the client waits for the outcome (RFC 7240), in milliseconds: the first `wait` in seconds, even beside
 * `respond-async`, which alone means no wait. Unknown preferences are ignored.
 */
const readWaitMs = (prefer: string | undefined): number => {
  const preferences = (prefer ?? '')
    .split(',')
    .map(preference => preference.split(';', 1)[0]!.trim().toLowerCase())
  for (const preference of preferences) {
    const match = /^wait\s*=\s*"?(\d{1,6})"?$/.exec(preference)
    if (match) return Math.min(Number(match[1]), LONGEST_WAIT_SECONDS) * 1_000
  }
  return preferences.includes('respond-async') ? 0 : DEFAULT_WAIT_MS
}

/** An amount in minor units, or 422 naming the field and the rule. */
export const readAmount = (text: string, currency: string, field = 'amount'): bigint => {
  const parsed = parseAmount(text, currency)
  if ('error' in parsed) throw validationProblem([{ field, rule: parsed.error }])
  return parsed.minor
}

/** Money as the API writes it. */
export const money = (minor: bigint, currency: string): string => formatAmount(minor, currency)

/** Another person's name, masked. */
export const maskedName = (name: PersonName | undefined): string => name?.masked ?? ''

export const moneyOut = z.string().openapi({ example: '12.50' })

/** The reason for a rejection. */
export const rejectionSchema = z
  .object({
    code: z.string(),
    detail: z.string(),
    limit: z.string().optional(),
    used: z.string().optional(),
    requested: z.string().optional(),
  })
  .nullable()
  .openapi({ example: null, description: 'With `limit`, `used` and `requested` where a limit is the reason' })

export const party = z
  .object({
    walletId: z.uuid(),
    walletCode: z.string().openapi({ example: 'PW-7K2M9QXA' }),
    name: z
      .string()
      .openapi({ description: 'The full name for its owner, masked for others', example: 'Bob B.' }),
  })
  .nullable()
  .openapi({ description: 'null is the world outside' })

const methodOut = z.string().nullable()

export const TRANSFER_EXAMPLE = {
  id: '2ebecfd1-5839-8d4b-b140-f6840d8ed5ac',
  reference: 'TXN-6J3V0G8Q2KXA',
  type: 'transfer',
  status: 'completed' as const,
  from: { walletId: '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11', walletCode: 'PW-4Q8T1ZKC', name: 'Alice Smith' },
  to: { walletId: 'c1d7a0a4-7f0e-4a53-9f7b-0d5b3a5e2b90', walletCode: 'PW-7K2M9QXA', name: 'Bob B.' },
  source: null,
  destination: null,
  amount: '12.50',
  currency: 'USD',
  note: 'Lunch',
  metadata: null,
  requestedAt: '2026-01-31T09:30:00.000Z',
  completedAt: '2026-01-31T09:30:00.021Z',
  rejection: null,
  final: true,
  reversedAmount: '0.00',
  originalId: null,
  linkedTo: null,
  balanceAfter: '87.50',
}

/** A transfer as every route shows it. */
export const transferSchema = z
  .object({
    id: z.uuid(),
    reference: z.string().openapi({ example: 'TXN-6J3V0G8Q2KXA' }),
    type: z.string().openapi({ example: 'transfer' }),
    status: z.enum(['pending', 'in_suspense', 'completed', 'rejected', 'reversed']),
    from: party,
    to: party,
    source: methodOut.openapi({
      example: null,
      description: 'Of a deposit whose request names one: where the money comes from, masked',
    }),
    destination: methodOut.openapi({
      example: null,
      description: 'Of a withdrawal: where the money goes, masked: `•••• •••• •••• •••• ••20 51`',
    }),
    amount: moneyOut,
    currency: z.string().openapi({ example: 'USD' }),
    note: z.string().nullable(),
    metadata: z.record(z.string(), z.unknown()).nullable(),
    requestedAt: timestamp,
    completedAt: timestamp.nullable(),
    rejection: rejectionSchema,
    final: z.boolean().openapi({ description: 'Whether this is how it ended' }),
    reversedAmount: moneyOut.openapi({
      example: '0.00',
      description: 'How much was given back; all of it: `reversed`',
    }),
    originalId: z
      .uuid()
      .nullable()
      .openapi({ description: 'Of a reversal: the transfer that it gives back' }),
    linkedTo: z
      .uuid()
      .nullable()
      .openapi({ description: 'Of a transfer that came with another, such as a fee: that other one' }),
    balanceAfter: moneyOut
      .nullable()
      .openapi({ description: "The caller's balance after it, where it moved" }),
  })
  .openapi('Transfer', { example: TRANSFER_EXAMPLE })
