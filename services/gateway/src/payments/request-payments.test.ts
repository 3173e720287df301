import { expect, test } from 'vitest'
import type { Requester } from '../access/requester.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import { advancePayment, type PaymentDeps } from './payment.ts'
import { createRequestDeposit, type DepositDeps } from './request-deposit.ts'
import { createRequestWithdrawal, type WithdrawalDeps } from './request-withdrawal.ts'
import type { Payment } from './sql/payments.ts'

const user: Requester = { userId: 'alice', sessionId: 's', roles: ['user'], apiKey: null }
const input = { user, idempotencyKey: 'key', walletId: 'wallet-a', amount: 500n, currency: 'USD', waitMs: 0 }
const terms = { amount: 500n, currency: 'USD', note: null, metadata: null, method: 'sandbox:ok' }
const FAR_ENOUGH = 'admitted as a repeat of its own'

/**
 * The reads of a repeat while its first try is running: the payment's row exists after `written` reads, the decided
 * command after `decided`. A repeat that is admitted was not taken for another request.
 */
const answers = (fingerprint: Buffer, written: number, decided: number) => {
  let questions = 0
  const after = <Answer>(moment: number, then: Answer, before: Answer) =>
    ++questions > moment ? then : before
  const hold = { status: 'active', type: 'withdrawal', fingerprint }
  const payment = { status: 'created', fingerprint }
  return {
    readLedgerStatuses: async (ids: string[]) =>
      new Map(after(decided, [[ids[0]!, { id: ids[0]!, hold, transfer: null, reversed: 0n }]], [])),
    readDecided: async () => undefined,
    readPayment: async () => after(written, payment, undefined),
    isPending: async () => after(0, false, false),
    isCommand: async () => after(decided, true, false),
    admit: () => {
      throw new Error(FAR_ENOUGH)
    },
  }
}

const moments = Array.from({ length: 8 }, (_, written) =>
  Array.from({ length: 8 - written }, (_, later) => [written, written + later] as const),
).flat()

test.each(moments)(
  'X3: a withdrawal repeated while it is written after %i and decided after %i questions is never told of another',
  async (written, decided) => {
    const fingerprint = fingerprintOf({
      ...{ type: 'withdrawal', fromWalletId: 'wallet-a', toWalletId: null },
      ...terms,
    })
    const request = createRequestWithdrawal(
      answers(fingerprint, written, decided) as unknown as WithdrawalDeps,
    )
    const repeat = { ...input, destination: 'sandbox:ok', pin: null, stepUpToken: null, traceparent: '' }
    await expect(request(repeat)).rejects.toThrow(FAR_ENOUGH)
  },
)

test.each(moments)(
  'X3: a deposit repeated while it is written after %i and decided after %i questions is never told of another',
  async (written, decided) => {
    const fingerprint = fingerprintOf({
      ...{ type: 'deposit', fromWalletId: null, toWalletId: 'wallet-a' },
      ...terms,
    })
    const request = createRequestDeposit(answers(fingerprint, written, decided) as unknown as DepositDeps)
    await expect(request({ ...input, source: 'sandbox:ok' })).rejects.toThrow(FAR_ENOUGH)
  },
)

test.each([
  ['another command has its id', [true, false], 'failed IDEMPOTENCY_KEY_REUSED'],
  ['nothing is decided', [false, false], 'asked again'],
  ['it is decided between the two questions', [false, true], 'ordered'],
  ['it is decided before', [true, true], 'ordered'],
] as const)(
  'X2: a withdrawal that waits for the ledger comes to an end: %s',
  async (_what, decided, expected) => {
    const fingerprint = Buffer.from('own')
    const [isCommand, isHeld] = decided
    const hold = { status: 'active', type: 'withdrawal', fingerprint }
    let outcome = 'nothing'
    let calls = 0
    const deps = {
      codec: { encode: () => Buffer.alloc(0) },
      clock: { now: () => 2_000 },
      isCommand: async () => {
        calls++
        return isCommand
      },
      // Read after `isCommand`: a hold that is missing then does not exist.
      readLedgerStatuses: async (ids: string[]) =>
        new Map(calls > 0 && isHeld ? [[ids[0]!, { id: ids[0]!, hold, transfer: null, reversed: 0n }]] : []),
      settle: async (_id: string, { status, failureCode }: { status: string; failureCode: string }) => {
        outcome = `${status} ${failureCode}`
      },
      markDone: async () => true,
      publishCommand: async () => {
        outcome = 'asked again'
      },
      personKeys: { decryptFor: async () => 'sandbox:ok' },
      markOrdering: async () => {
        outcome = 'ordered'
      },
    } as unknown as PaymentDeps
    const payment = {
      ...{ id: 'payment', kind: 'withdrawal', status: 'created', fingerprint, walletId: 'wallet-a' },
      ...{
        userId: 'alice',
        amount: 500n,
        currency: 'USD',
        requestedAt: new Date(0),
        expiresAt: new Date(1_000),
      },
    } as unknown as Payment
    await advancePayment(deps, payment)
    expect(outcome).toBe(expected)
  },
)
