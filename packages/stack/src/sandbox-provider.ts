// A payment provider for trials: it accepts deposits and payouts over HTTP, moves no money, and calls back with signed
// outcomes. Accepted payments survive a kill: see `readState`. A payment's method (the deposit's source, the payout's
// destination) determines its outcome:
//
//   sandbox:fail    refused, with a reason
//   sandbox:delay   succeeds after SANDBOX_DELAY_MS
//   sandbox:silent  never decided: no callback is sent, and a GET returns "pending"
//   sandbox:lost    succeeds at once, but the callback is lost: only a GET returns the outcome
//   sandbox:return  payouts only: succeeds at once, and is returned after SANDBOX_DELAY_MS
//   sandbox:forgets  accepts the first order but answers 503, and refuses every further one (422)
//   anything else   succeeds at once
import { randomBytes } from 'node:crypto'
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync } from 'node:fs'
import { dirname } from 'node:path'
import { listen } from '@pennywire/runtime/http-server.ts'
import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { z } from 'zod'
import { findSignatureFault, signBody } from './provider-signature.ts'

const RETRY_FIRST_MS = 500
const RETRY_MAX_MS = 30_000
const RETRY_FOR_MS = 24 * 60 * 60 * 1_000
const CALLBACK_TIMEOUT_MS = 10_000
const PAGE_MAX = 500

const LOOPBACK = ['127.0.0.1', 'localhost', '[::1]']

const hostOf = (text: string) => {
  const url = URL.parse(text)
  return url?.protocol === 'http:' ? url.hostname : undefined
}

const PaymentRequest = z
  .strictObject({
    id: z.guid(),
    kind: z.enum(['deposit', 'withdrawal']),
    amount: z
      .string()
      .regex(/^\d{1,16}(\.\d{1,4})?$/)
      .refine(text => /[1-9]/.test(text), 'must be above zero'),
    currency: z.string().regex(/^[A-Z]{3}$/),
    reference: z.string().max(200).optional(),
    /** An order that arrives later is refused, because it was held up on its way. */
    validUntil: z.iso.datetime().optional(),
    method: z
      .string()
      .min(1)
      .max(500)
      .refine(
        text => !/^sandbox:(?!(fail|delay|silent|lost|return|forgets)$)/.test(text),
        'must be fail, delay, silent, lost, return or forgets after sandbox:',
      ),
    callbackUrl: z.string().refine(text => hostOf(text) !== undefined, 'must be an http URL'),
  })
  .refine(({ kind, method }) => kind === 'withdrawal' || method !== 'sandbox:return', {
    path: ['method'],
    message: 'only what was paid out can come back',
  })
type PaymentRequest = z.infer<typeof PaymentRequest>

type Outcome = { status: 'succeeded' | 'failed' | 'returned'; failureReason?: string; occurredAt: string }
type Payment = {
  request: PaymentRequest
  providerReference: string
  acceptedAt: number
  outcome?: Outcome
  /** Whether the callback of this outcome was accepted. */
  calledBack?: boolean
}

// One line of the file: a change to one payment, with the payment's id.
type Change = { id: string } & Partial<Payment>

/** Reads the payments from the file; drops a last line that a kill cut short, because it was never answered. */
const readState = (file: string): Map<string, Payment> => {
  const payments = new Map<string, Payment>()
  if (!existsSync(file)) return payments
  const text = readFileSync(file, 'utf8')
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  if (whole.length < text.length) truncateSync(file, Buffer.byteLength(whole))
  for (const line of whole.split('\n').filter(Boolean)) {
    const { id, ...change } = JSON.parse(line) as Change
    payments.set(id, { ...payments.get(id), ...change } as Payment)
  }
  return payments
}

// Without callbackUrl and validUntil, which are no part of the payment: a gateway at another address may repeat its
// order.
const contentOf = ({ callbackUrl: _, validUntil: __, ...content }: PaymentRequest) => JSON.stringify(content)

const stateOf = ({ request, providerReference, outcome }: Payment) => ({
  id: request.id,
  kind: request.kind,
  status: outcome?.status ?? 'pending',
  amount: request.amount,
  currency: request.currency,
  providerReference,
  ...(outcome?.failureReason && { failureReason: outcome.failureReason }),
  ...(outcome && { occurredAt: outcome.occurredAt }),
})

type Options = {
  secret: string
  stateFile: string
  delayMs: number
  /** Hosts that may be called back beside loopback: a sandbox calls no others. */
  callbackHosts?: string[]
}

/**
 * The provider as an app, with the pending work of earlier runs resumed. `stop` clears its timers; pending work then
 * stays in the file for the next start.
 */
export const createSandboxProvider = ({ secret, stateFile, delayMs, callbackHosts = [] }: Options) => {
  mkdirSync(dirname(stateFile), { recursive: true })
  const payments = readState(stateFile)
  const timers = new Set<NodeJS.Timeout>()
  let stopped = false

  const unixSeconds = () => Math.floor(Date.now() / 1_000)

  const change = (id: string, changed: Partial<Payment>) => {
    appendFileSync(stateFile, `${JSON.stringify({ id, ...changed })}\n`, { mode: 0o600 })
    const payment = { ...payments.get(id), ...changed } as Payment
    payments.set(id, payment)
    return payment
  }

  const after = (ms: number, work: () => void) => {
    if (stopped) return
    const timer = setTimeout(() => {
      timers.delete(timer)
      work()
    }, ms)
    timers.add(timer)
  }

  const callBack = async (id: string, retryMs: number) => {
    const payment = payments.get(id)!
    const { outcome } = payment
    const body = JSON.stringify(stateOf(payment))
    const taken = await fetch(payment.request.callbackUrl, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'provider-signature': signBody(secret, body, unixSeconds()),
      },
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(CALLBACK_TIMEOUT_MS),
    }).then(
      async response => {
        await response.body?.cancel()
        return response.ok
      },
      () => false,
    )
    // A later outcome has its own callbacks.
    if (stopped || payments.get(id)!.outcome !== outcome) return
    if (taken) change(id, { calledBack: true })
    else if (Date.now() - Date.parse(outcome!.occurredAt) < RETRY_FOR_MS)
      after(retryMs, () => callBack(id, Math.min(retryMs * 2, RETRY_MAX_MS)))
  }

  const decide = (id: string, outcome: Omit<Outcome, 'occurredAt'>) => {
    const { method } = payments.get(id)!.request
    const lost = method === 'sandbox:lost'
    change(id, { outcome: { ...outcome, occurredAt: new Date().toISOString() }, calledBack: lost })
    proceed(payments.get(id)!)
  }

  /** Takes a payment's next step, now or when it is due; also after a kill. */
  const proceed = ({ request: { id, method }, acceptedAt, outcome, calledBack }: Payment) => {
    if (method === 'sandbox:silent') return
    if (!outcome) {
      const dueAt = acceptedAt + (method === 'sandbox:delay' ? delayMs : 0)
      after(Math.max(0, dueAt - Date.now()), () => {
        // Cancelled meanwhile.
        if (payments.get(id)!.outcome) return
        method === 'sandbox:fail'
          ? decide(id, { status: 'failed', failureReason: 'Declined: sandbox:fail was asked for.' })
          : decide(id, { status: 'succeeded' })
      })
      return
    }
    if (!calledBack) after(0, () => callBack(id, RETRY_FIRST_MS))
    if (method === 'sandbox:return' && outcome.status === 'succeeded') {
      const dueAt = Date.parse(outcome.occurredAt) + delayMs
      after(Math.max(0, dueAt - Date.now()), () =>
        decide(id, { status: 'returned', failureReason: 'Came back: sandbox:return was asked for.' }),
      )
    }
  }
  for (const payment of payments.values()) proceed(payment)

  const app = new Hono()
  app.use(bodyLimit({ maxSize: 64 * 1024 }))
  app.use(async (c, next) => {
    const fault = findSignatureFault(
      secret,
      await c.req.text(),
      c.req.header('provider-signature'),
      unixSeconds(),
    )
    if (fault) return c.json({ code: 'SIGNATURE_INVALID', detail: fault }, 401)
    return next()
  })

  app.post('/payments', async c => {
    const parsed = PaymentRequest.safeParse(await c.req.json().catch(() => undefined))
    if (!parsed.success)
      return c.json({ code: 'VALIDATION_ERROR', detail: z.prettifyError(parsed.error) }, 422)
    const request = parsed.data
    if (![...LOOPBACK, ...callbackHosts].includes(hostOf(request.callbackUrl)!))
      return c.json({ code: 'VALIDATION_ERROR', detail: 'callbackUrl: must be on loopback' }, 422)
    const earlier = payments.get(request.id)
    if (earlier && contentOf(earlier.request) !== contentOf(request))
      return c.json({ code: 'ID_REUSED', detail: 'This id belongs to a payment with other content.' }, 409)
    if (earlier && request.method === 'sandbox:forgets')
      return c.json({ code: 'VALIDATION_ERROR', detail: 'id: sandbox:forgets was asked for' }, 422)
    if (!earlier && request.validUntil !== undefined && Date.parse(request.validUntil) < Date.now())
      return c.json({ code: 'ORDER_TOO_LATE', detail: 'validUntil: is over' }, 410)
    if (earlier) {
      if (earlier.request.callbackUrl !== request.callbackUrl) change(request.id, { request })
      return c.json(stateOf(payments.get(request.id)!), 202)
    }
    const providerReference = `SBX-${randomBytes(8).toString('hex').toUpperCase()}`
    const payment = change(request.id, { request, providerReference, acceptedAt: Date.now() })
    proceed(payment)
    if (request.method === 'sandbox:forgets')
      return c.json({ code: 'UNAVAILABLE', detail: 'sandbox:forgets was asked for' }, 503)
    return c.json(stateOf(payment), 202)
  })

  // Answers are signed like callbacks: a gateway that moves money because of an answer can prove its origin.
  const signed = (c: Context, answer: object) => {
    const body = JSON.stringify(answer)
    c.header('provider-signature', signBody(secret, body, unixSeconds()))
    return c.body(body, 200, { 'content-type': 'application/json' })
  }

  app.get('/payments', c => {
    const { after = '', limit = '500' } = c.req.query()
    const ids = [...payments.keys()].sort().filter(id => id > after)
    const page = ids.slice(0, Math.min(Number(limit) || PAGE_MAX, PAGE_MAX))
    return signed(c, { items: page.map(id => stateOf(payments.get(id)!)) })
  })

  app.post('/payments/:id/cancel', c => {
    const id = c.req.param('id')
    const payment = payments.get(id)
    if (!payment) return c.json({ code: 'PAYMENT_NOT_FOUND', detail: 'No payment has this id.' }, 404)
    if (payment.outcome) return signed(c, stateOf(payment))
    const outcome: Outcome = {
      status: 'failed',
      failureReason: 'Cancelled.',
      occurredAt: new Date().toISOString(),
    }
    // The cancel request itself is answered, so no callback follows.
    return signed(c, stateOf(change(id, { outcome, calledBack: true })))
  })

  app.get('/payments/:id', c => {
    const payment = payments.get(c.req.param('id'))
    if (!payment) return c.json({ code: 'PAYMENT_NOT_FOUND', detail: 'No payment has this id.' }, 404)
    return signed(c, stateOf(payment))
  })

  return {
    app,
    stop: () => {
      stopped = true
      for (const timer of timers) clearTimeout(timer)
    },
  }
}

if (import.meta.main) {
  if (process.env.NODE_ENV === 'production') {
    process.stderr.write(
      'NODE_ENV=production: the sandbox provider moves no money, so it does not start in production\n',
    )
    process.exit(2)
  }
  const env = z
    .object({
      HTTP_HOST: z.string().default('127.0.0.1'),
      HTTP_PORT: z.coerce.number().int().min(1).max(65_535),
      CALLBACK_HOST: z.string().optional(),
      PROVIDER_SECRET_FILE: z.string(),
      PROVIDER_STATE_FILE: z.string(),
      SANDBOX_DELAY_MS: z.coerce.number().int().min(0).max(3_600_000).default(3_000),
    })
    .parse(process.env)
  const { secret } = z
    .object({ secret: z.string().min(32) })
    .parse(JSON.parse(readFileSync(env.PROVIDER_SECRET_FILE, 'utf8')))
  const { app } = createSandboxProvider({
    secret,
    stateFile: env.PROVIDER_STATE_FILE,
    delayMs: env.SANDBOX_DELAY_MS,
    callbackHosts: env.CALLBACK_HOST ? [env.CALLBACK_HOST] : [],
  })
  await listen(app, { host: env.HTTP_HOST, port: env.HTTP_PORT })
  console.log(`taking payments at http://${env.HTTP_HOST}:${env.HTTP_PORT}`)
}
