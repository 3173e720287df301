import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Answer, ask, PASSWORD, type Person } from '../faults/people.ts'

/** The pause between the end of one payment and the next. */
const PAYMENT_PACE_MS = 200
/** The rate limit allows five sign-ins per minute from one address. */
const SIGN_IN_PACE_MS = 15_000
const ANSWER_WITHIN_MS = 60_000

/** The duration of each request, and the unexpected answers. */
export type Timed = { ms: number[]; failures: string[] }

const repeat = async (
  paceMs: number,
  signal: AbortSignal,
  expected: number,
  once: () => Promise<Answer>,
): Promise<Timed> => {
  const timed: Timed = { ms: [], failures: [] }
  do {
    const begun = performance.now()
    const { status, body } = await once().catch((error: Error) => ({
      status: 0,
      body: { code: error.message },
    }))
    timed.ms.push(performance.now() - begun)
    if (status !== expected) timed.failures.push(`${status} ${body?.code}`)
    await sleep(paceMs, undefined, { signal }).catch(() => {})
  } while (!signal.aborted)
  return timed
}

/** Makes payments until the signal aborts. */
export const payHonestly = (
  gatewayUrl: string,
  from: Person,
  to: Person,
  signal: AbortSignal,
): Promise<Timed> =>
  repeat(PAYMENT_PACE_MS, signal, 201, () =>
    ask(`${gatewayUrl}/v1/transfers`, 'POST', {
      token: from.token,
      body: { toWalletId: to.walletId, amount: '0.01', currency: 'USD' },
      headers: { 'idempotency-key': randomUUID(), 'step-up-token': from.stepUp },
      timeoutMs: ANSWER_WITHIN_MS,
    }),
  )

/** Signs in until the signal aborts, from the address of the person's earlier sign-in. */
export const signInHonestly = (gatewayUrl: string, { email }: Person, signal: AbortSignal): Promise<Timed> =>
  repeat(SIGN_IN_PACE_MS, signal, 200, () =>
    ask(`${gatewayUrl}/v1/auth/login`, 'POST', {
      body: { email, password: PASSWORD },
      timeoutMs: ANSWER_WITHIN_MS,
    }),
  )
