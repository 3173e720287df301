import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { ask, type Person } from '../faults/people.ts'

/** Payments at this pace, each when the one before is done. */
const PACE_MS = 200
const PAYMENT_WITHIN_MS = 60_000

export type Payments = { ms: number[]; failures: string[] }

/** Pays again and again until the signal comes; what is not answered 201 is a failure. */
export const payHonestly = async (
  gatewayUrl: string,
  from: Person,
  to: Person,
  signal: AbortSignal,
): Promise<Payments> => {
  const payments: Payments = { ms: [], failures: [] }
  do {
    const begun = performance.now()
    const { status, body } = await ask(`${gatewayUrl}/v1/transfers`, 'POST', {
      token: from.token,
      body: { toWalletId: to.walletId, amount: '0.01', currency: 'USD' },
      headers: { 'idempotency-key': randomUUID(), 'step-up-token': from.stepUp },
      timeoutMs: PAYMENT_WITHIN_MS,
    }).catch((error: Error) => ({ status: 0, body: { code: error.message } }))
    payments.ms.push(performance.now() - begun)
    if (status !== 201) payments.failures.push(`${status} ${body?.code}`)
    await sleep(PACE_MS)
  } while (!signal.aborted)
  return payments
}
