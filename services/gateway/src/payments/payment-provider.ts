import { createHmac, timingSafeEqual } from 'node:crypto'
import type { Clock } from '@pennywire/runtime/clock.ts'
import { z } from 'zod'
import { ProblemError } from '../problems/problem.ts'

/** A payment order to the provider. `id` is its idempotency key, the amount a decimal string. */
export type PaymentOrder = {
  id: string
  kind: 'deposit' | 'withdrawal'
  amount: string
  currency: string
  /** The source of a deposit, or the destination of a withdrawal. */
  method: string
  reference: string
  /** The provider refuses the order after that: a delayed order must not arrive late. */
  validUntil: string
}

/** The provider refuses the order for good: it recognises no such source or destination. */
export class OrderRefused extends Error {
  override name = 'OrderRefused'
}

/** The port to the payment provider, which moves money to and from the outside world. */
export type PaymentProvider = {
  /**
   * Orders a payment; any number of orders with one id are one payment. Throws OrderRefused, or 503 if the provider
   * does not answer: it may still have the order.
   */
  order: (order: PaymentOrder) => Promise<{ providerReference: string | null }>
  /**
   * Cancels a payment that has not ended, and returns its state: it may have succeeded meanwhile. Undefined if the
   * provider never had it. Throws 503 as above.
   */
  cancel: (id: string) => Promise<PaymentState | undefined>
  /** Returns a payment's state, or undefined if the provider never had it. Throws 503 as above. */
  ask: (id: string) => Promise<PaymentState | undefined>
  /** One page of the provider's payments in id order, above `after`; empty at the end. */
  list: (after: string) => Promise<PaymentState[]>
  /** Verifies and reads a callback; throws SIGNATURE_INVALID or VALIDATION_ERROR. `body` is as received. */
  readCallback: (signature: string | undefined, body: string) => PaymentState & { status: ProviderWord }
}

/** The provider's result for a payment. A payout that succeeded may be returned later. */
export type ProviderWord = 'succeeded' | 'failed' | 'returned'

const TEXT_MAX = 500

/** Cleans and truncates the provider's text for storage: no text may make a payment fail. */
const textOf = (value: unknown, max: number): string | undefined => {
  if (typeof value !== 'string' && typeof value !== 'number') return undefined
  return String(value).replaceAll('\0', '').slice(0, max).toWellFormed() || undefined
}

const stateSchema = z.object({
  id: z.uuid(),
  kind: z.enum(['deposit', 'withdrawal']),
  status: z.enum(['pending', 'succeeded', 'failed', 'returned']),
  amount: z.union([z.string().max(40), z.number().transform(String)]),
  currency: z.string().max(3),
  providerReference: z
    .unknown()
    .optional()
    .transform(value => textOf(value, 200) ?? null),
  failureReason: z
    .unknown()
    .optional()
    .transform(value => textOf(value, TEXT_MAX)),
})
export type PaymentState = Omit<z.infer<typeof stateSchema>, 'failureReason'> & {
  failureReason?: string | undefined
}

const callbackSchema = stateSchema
  .extend({ status: z.enum(['succeeded', 'failed', 'returned']) })
  .refine(
    ({ kind, status }) => kind === 'withdrawal' || status !== 'returned',
    'only what was paid out comes back',
  )
const listSchema = z.object({ items: z.array(stateSchema) })

const TOLERANCE_SECONDS = 300
const REQUEST_TIMEOUT_MS = 5_000

const secretText = z.string().min(32)

/** The shared secret; during a rotation also the previous one, with which the provider may still sign. */
export const providerSecrets = z.strictObject({ secret: secretText, previous: secretText.optional() })
type ProviderSecrets = z.output<typeof providerSecrets>

/**
 * The provider over HTTP. Both directions are signed with the shared secret: `Provider-Signature: t=SECONDS,v1=HEX`,
 * HMAC-SHA-256 over `t.body`, at most five minutes old.
 */
export const connectPaymentProvider = (options: {
  url: string
  secrets: ProviderSecrets
  callbackUrl: string
  clock: Pick<Clock, 'now'>
}): PaymentProvider => {
  const { secret, previous } = options.secrets
  const sign = (seconds: number, body: string, by = secret) =>
    createHmac('sha256', by).update(`${seconds}.${body}`).digest()

  const request = async (method: 'GET' | 'POST', path: string, body: string): Promise<Response> => {
    const seconds = Math.floor(options.clock.now() / 1_000)
    try {
      return await fetch(`${options.url}${path}`, {
        method,
        headers: {
          'provider-signature': `t=${seconds},v1=${sign(seconds, body).toString('hex')}`,
          ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
        },
        ...(method === 'POST' ? { body } : {}),
        redirect: 'error',
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      })
    } catch {
      throw providerAway()
    }
  }

  const prove = (signature: string | undefined, body: string) => {
    const match = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(signature ?? '')
    const genuine =
      match &&
      [secret, ...(previous === undefined ? [] : [previous])].some(by =>
        timingSafeEqual(sign(Number(match[1]), body, by), Buffer.from(match[2]!, 'hex')),
      )
    if (!genuine) throw new ProblemError('SIGNATURE_INVALID', 'Provider-Signature: it does not fit the body')
    if (Math.abs(options.clock.now() / 1_000 - Number(match[1])) > TOLERANCE_SECONDS) {
      throw new ProblemError('SIGNATURE_INVALID', 'Provider-Signature: it is more than five minutes off')
    }
  }

  /** A state in an answer moves money like a callback, so its signature is verified as well. */
  const readAnswer = async <Schema extends z.ZodType>(response: Response, schema: Schema) => {
    if (!response.ok) throw providerAway()
    const body = await response.text()
    prove(response.headers.get('provider-signature') ?? undefined, body)
    return schema.parse(JSON.parse(body))
  }

  return {
    order: async order => {
      const body = JSON.stringify({ ...order, callbackUrl: options.callbackUrl })
      const response = await request('POST', '/payments', body)
      if (response.status === 422 || response.status === 400) throw new OrderRefused()
      if (!response.ok) throw providerAway()
      const { providerReference } = (await response.json()) as { providerReference?: unknown }
      return { providerReference: textOf(providerReference, 200) ?? null }
    },
    ask: async id => {
      const response = await request('GET', `/payments/${id}`, '')
      if (response.status === 404) return undefined
      const state = await readAnswer(response, stateSchema)
      if (state.id !== id) throw providerAway()
      return state
    },
    cancel: async id => {
      const response = await request('POST', `/payments/${id}/cancel`, '{}')
      if (response.status === 404) return undefined
      const state = await readAnswer(response, stateSchema)
      if (state.id !== id) throw providerAway()
      return state
    },
    list: async after => {
      const response = await request('GET', `/payments?${new URLSearchParams({ after })}`, '')
      return (await readAnswer(response, listSchema)).items
    },
    readCallback: (signature, body) => {
      prove(signature, body)
      const parsed = callbackSchema.safeParse(parseJson(body))
      if (!parsed.success) throw new ProblemError('VALIDATION_ERROR', 'body: it is no payment callback')
      return parsed.data
    },
  }
}

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const providerAway = () =>
  new ProblemError(
    'SERVICE_UNAVAILABLE',
    'The payment provider does not answer. Send it again with the same Idempotency-Key.',
  )
