import { createHmac, timingSafeEqual } from 'node:crypto'
import { z } from 'zod'
import { ProblemError } from './problems.ts'

/** A payment as the provider is asked for it. `id` is its idempotency key, the amount a decimal string. */
export type PaymentOrder = {
  id: string
  kind: 'deposit'
  amount: string
  currency: string
  method: string
  reference: string
}

/** The port to whoever moves money to and from the outside world. */
export type PaymentProvider = {
  /** Orders a payment; any number of times with one id is one payment. Throws 503 where it cannot be asked. */
  order: (order: PaymentOrder) => Promise<{ providerReference: string }>
  /** Reads a callback, after its signature; throws SIGNATURE_INVALID or VALIDATION_ERROR. `body` is as received. */
  readCallback: (signature: string | undefined, body: string) => PaymentCallback
}

const callbackSchema = z.object({
  id: z.uuid(),
  kind: z.enum(['deposit', 'withdrawal']),
  status: z.enum(['succeeded', 'failed']),
  amount: z.string().max(40),
  currency: z.string().max(3),
  providerReference: z.string().min(1).max(200),
  failureReason: z.string().max(500).optional(),
})
export type PaymentCallback = z.infer<typeof callbackSchema>

const TOLERANCE_SECONDS = 300
const ORDER_TIMEOUT_MS = 5_000

/**
 * The provider over HTTP. Both directions are signed with the shared secret: `Provider-Signature: t=SECONDS,v1=HEX`,
 * HMAC-SHA-256 over `t.body`, at most five minutes old.
 */
export const connectPaymentProvider = (options: {
  url: string
  secret: string
  callbackUrl: string
  now: () => number
}): PaymentProvider => {
  const sign = (seconds: number, body: string) =>
    createHmac('sha256', options.secret).update(`${seconds}.${body}`).digest()

  return {
    order: async order => {
      const body = JSON.stringify({ ...order, callbackUrl: options.callbackUrl })
      const seconds = Math.floor(options.now() / 1_000)
      let response: Response
      try {
        response = await fetch(`${options.url}/payments`, {
          method: 'POST',
          headers: {
            'content-type': 'application/json',
            'provider-signature': `t=${seconds},v1=${sign(seconds, body).toString('hex')}`,
          },
          body,
          redirect: 'error',
          signal: AbortSignal.timeout(ORDER_TIMEOUT_MS),
        })
      } catch {
        throw providerAway()
      }
      if (response.status === 422 || response.status === 400) {
        throw new ProblemError('VALIDATION_ERROR', 'source: the payment provider does not take it', {
          errors: [{ field: 'source', rule: 'is not taken by the payment provider' }],
        })
      }
      if (!response.ok) throw providerAway()
      return z.object({ providerReference: z.string() }).parse(await response.json())
    },
    readCallback: (signature, body) => {
      const match = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(signature ?? '')
      const genuine = match && timingSafeEqual(sign(Number(match[1]), body), Buffer.from(match[2]!, 'hex'))
      if (!genuine)
        throw new ProblemError('SIGNATURE_INVALID', 'Provider-Signature: it does not fit the body')
      if (Math.abs(options.now() / 1_000 - Number(match[1])) > TOLERANCE_SECONDS) {
        throw new ProblemError('SIGNATURE_INVALID', 'Provider-Signature: it is more than five minutes off')
      }
      const parsed = callbackSchema.safeParse(JSON.parse(body))
      if (!parsed.success) throw new ProblemError('VALIDATION_ERROR', 'body: it is no payment callback')
      return parsed.data
    },
  }
}

const providerAway = () =>
  new ProblemError(
    'SERVICE_UNAVAILABLE',
    'The payment provider does not answer. Send it again with the same Idempotency-Key.',
  )
