import { expect, test } from 'vitest'
import type { Requester } from '../access/requester.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import { createRequestDeposit, type DepositParts } from './request-deposit.ts'
import { createRequestWithdrawal, type WithdrawalParts } from './request-withdrawal.ts'

const user: Requester = { userId: 'alice', sessionId: 's', roles: ['user'], apiKey: null }
const asked = { user, idempotencyKey: 'key', walletId: 'wallet-a', amount: 500n, currency: 'USD', waitMs: 0 }
const terms = { amount: 500n, currency: 'USD', note: null, metadata: null, method: 'sandbox:ok' }
const FAR_ENOUGH = 'admitted as a repeat of its own'

/**
 * What a repeat finds while its first try goes on: the payment's row after `written` questions, the command decided after
 * `decided`. Whoever is admitted is recognised as nobody else's.
 */
const answers = (fingerprint: Buffer, written: number, decided: number) => {
  let questions = 0
  const after = <Answer>(moment: number, then: Answer, before: Answer) =>
    ++questions > moment ? then : before
  const hold = { status: 'active', type: 'withdrawal', fingerprint }
  const payment = { status: 'created', fingerprint }
  return {
    readStandings: async (ids: string[]) =>
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
      answers(fingerprint, written, decided) as unknown as WithdrawalParts,
    )
    const repeat = { ...asked, destination: 'sandbox:ok', pin: null, stepUpToken: null, traceparent: '' }
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
    const request = createRequestDeposit(answers(fingerprint, written, decided) as unknown as DepositParts)
    await expect(request({ ...asked, source: 'sandbox:ok' })).rejects.toThrow(FAR_ENOUGH)
  },
)
