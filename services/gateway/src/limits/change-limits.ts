import { randomUUID } from 'node:crypto'
import { commandIdOf } from '@pennywire/contracts/ids.ts'
import { isProblemCode } from '@pennywire/contracts/problems.ts'
import type { LimitedAction, LimitKind, Limits } from '@pennywire/rules/limits.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Ask } from '../ledger/ask-ledger.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import { ProblemError } from '../problems/problem.ts'

/** Limits of a wallet for one action, as its owner (`self`) or staff set them. */
export type LimitsInput = {
  userId: string
  source: 'self' | 'staff'
  walletId: string
  action: LimitedAction
  limits: Limits
  /** Those that stay as this source has set them; null in `limits`. */
  keeps?: LimitKind[]
  /** Null: each request is a new one. */
  idempotencyKey: string | null
  traceparent: string
}

/**
 * Changes limits by a command: each transfer is decided under the limits before or after it. Throws the ledger's
 * refusal.
 */
export const createChangeLimits =
  ({ ask, clock }: { ask: Ask; clock: Clock }) =>
  async (input: LimitsInput): Promise<void> => {
    const { userId, source, walletId, action, limits, keeps = [], idempotencyKey } = input
    const text = (minor: bigint | null) => minor?.toString() ?? null
    const outcome = await ask(
      'pennywire.ledger.LimitChangeRequested',
      walletId,
      {
        commandId: idempotencyKey === null ? randomUUID() : commandIdOf(userId, idempotencyKey),
        walletId,
        userId,
        source,
        action,
        perTransactionMinor: limits.perTransaction,
        dailyMinor: limits.daily,
        monthlyMinor: limits.monthly,
        tier: null,
        keeps,
        fingerprint: fingerprintOfCommand('LimitChangeRequested', {
          walletId,
          source,
          action,
          perTransaction: text(limits.perTransaction),
          daily: text(limits.daily),
          monthly: text(limits.monthly),
          // Absent from a change of all three, whose fingerprint stays that of the version before.
          ...(keeps.length === 0 ? {} : { keeps: keeps.toSorted().join(' ') }),
        }),
        requestedAt: clock.now(),
      },
      input.traceparent,
    )
    if (outcome.type !== 'pennywire.ledger.CommandRefused') return
    const { code, detail } = outcome.value
    throw new ProblemError(isProblemCode(code) ? code : 'INTERNAL_ERROR', detail)
  }
