import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Answer, ask, PASSWORD, type Person } from '../faults/people.ts'

/** Each when the one before is done and so long has passed. */
const PAYMENT_PACE_MS = 200
const SIGN_IN_PACE_MS = 2_000
const ANSWER_WITHIN_MS = 60_000

/** How long each took, and what was not answered as it should have been. */
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
    await sleep(paceMs)
  } while (!signal.aborted)
  return timed
}

/** Pays again and again until the signal comes. */
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

/** Signs in again and again, from the address that the person is known at. */
export const signInHonestly = (gatewayUrl: string, { email }: Person, signal: AbortSignal): Promise<Timed> =>
  repeat(SIGN_IN_PACE_MS, signal, 200, () =>
    ask(`${gatewayUrl}/v1/auth/login`, 'POST', {
      body: { email, password: PASSWORD },
      timeoutMs: ANSWER_WITHIN_MS,
    }),
  )
