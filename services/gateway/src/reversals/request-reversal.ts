import { transferIdOf } from '@pennywire/contracts/ids.ts'
import type { ReversalRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { SignedInUser } from '../access/requester.ts'
import { refuseOwn } from '../access/roles.ts'
import { keyReused, rejectionProblem } from '../http/idempotency.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { askUntilAnswered, type Outcomes } from '../ledger/await-outcome.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOfCommand } from '../ledger/fingerprint.ts'
import type { PublishCommand } from '../ledger/publish-command.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { ProblemError } from '../problems/problem.ts'
import type { KeyClaim, KeyHolder } from '../transfers/sql/key-claims.ts'
import type { NewPendingRequest } from '../transfers/sql/pending-requests.ts'
import { openDecided, rejectionOf, type TransferSubject } from '../transfers/transfer-view.ts'

/** A staff member's request for a reversal, validated. */
export type ReversalInput = {
  staff: SignedInUser
  idempotencyKey: string
  originalId: string
  /** The amount in minor units of the currency; null: all that is left. */
  amountIn: (currency: string) => bigint | null
  /** Null: the original's. */
  currency: string | null
  /** The reason; both parties can read it. */
  reason: string
  waitMs: number
  traceparent: string
}

export type ReversalAnswer = { status: 201 | 202; reversal: TransferSubject; replayed: boolean }

export type RequestReversalDeps = {
  codec: Pick<Codec, 'encode'>
  /** Throws 503 if the request would only wait. */
  admit: (walletId: string) => void
  publishCommand: PublishCommand
  outcomes: Pick<Outcomes, 'wait'>
  personKeys: Pick<PersonKeys, 'encryptFor' | 'decryptAll'>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  claimKey: (claim: KeyClaim) => Promise<KeyHolder>
  writePending: (request: NewPendingRequest) => Promise<void>
  clock: Clock
}

/**
 * Reverses a completed transfer or deposit, in whole or in part, by a new transfer that refers to it. The ledger
 * decides how much is left and whether the recipient still has it. Throws ProblemError for a refusal here (nothing is
 * stored) and for a rejection by the ledger (final).
 */
export const createRequestReversal =
  (deps: RequestReversalDeps) =>
  async (input: ReversalInput): Promise<ReversalAnswer> => {
    const { staff, originalId, reason } = input
    const transferId = transferIdOf(staff.userId, input.idempotencyKey)
    const [decided, original] = await Promise.all([
      deps.readDecided(transferId),
      deps.readDecided(originalId),
    ])
    if (!original) throw new ProblemError('TRANSFER_NOT_FOUND', 'id: there is no such decided transfer')
    refuseOwn(staff.userId, [original.from?.userId, original.to?.userId], 'a transfer')
    const { currency } = original
    if (input.currency !== null && input.currency !== currency) {
      throw new ProblemError('CURRENCY_MISMATCH', `currency: the transfer was in ${currency}`, {
        final: false,
      })
    }
    const amount = input.amountIn(currency)
    // The amount as requested: "all that is left" resolves to another amount after the first try has succeeded.
    const fingerprint = fingerprintOfCommand('ReversalRequested', {
      originalId,
      amount: amount === null ? null : String(amount),
      currency,
      reason,
    })
    if (decided) return answerDecided(deps, decided, fingerprint, true)
    if (original.status !== 'completed') {
      throw new ProblemError('NOT_REVERSIBLE', `id: a ${original.status} ${original.type} moved nothing`, {
        final: false,
      })
    }
    // The deposit waits for a person, in a wallet that has no user and that no user's command should lock.
    if (original.type === 'deposit' && original.to?.userId == null) {
      throw new ProblemError('NOT_REVERSIBLE', 'id: the deposit is in suspense', { final: false })
    }
    const [fromWalletId, toWalletId] = [
      original.type === 'withdrawal' ? null : (original.to?.walletId ?? null),
      original.type === 'deposit' ? null : (original.from?.walletId ?? null),
    ]
    deps.admit(fromWalletId ?? toWalletId ?? originalId)
    if ((await deps.claimKey({ id: transferId, fingerprint, recipientId: null })) === 'another') {
      throw keyReused()
    }

    const left = original.amount - original.reversed
    const request: ReversalRequested = {
      transferId,
      originalId,
      userId: staff.userId,
      source: 'staff',
      fromWalletId,
      toWalletId,
      // If nothing is left, the ledger rejects the request, finally.
      amountMinor: amount ?? (left > 0n ? left : original.amount),
      currency,
      fingerprint,
      requestedAt: deps.clock.now(),
      note: await deps.personKeys.encryptFor(staff.userId, reason, 'note'),
    }
    const key = request.fromWalletId ?? request.toWalletId ?? request.originalId
    const record = commandRecord(deps.codec, REVERSAL_REQUESTED, key, request, input.traceparent)
    const waiter = deps.outcomes.wait(transferId, input.waitMs, fingerprint)
    try {
      await deps.publishCommand(record)
      const facts = await askUntilAnswered(
        [waiter],
        async outcome => {
          const found = await deps.readDecided(transferId)
          // A command that is not a transfer has this id.
          if (!found && outcome?.type === 'pennywire.ledger.CommandRefused') throw keyReused()
          return found
        },
        deps.clock,
      )
      if (facts) return await answerDecided(deps, facts, fingerprint, false)
    } finally {
      waiter.leave()
    }
    return answerPending(deps, request, record, original, reason)
  }

const REVERSAL_REQUESTED = 'pennywire.ledger.ReversalRequested'

const answerDecided = async (
  deps: RequestReversalDeps,
  facts: TransferFacts,
  fingerprint: Buffer,
  replayed: boolean,
): Promise<ReversalAnswer> => {
  if (!facts.fingerprint.equals(fingerprint)) throw keyReused()
  const rejection = rejectionOf(facts)
  if (rejection) throw rejectionProblem(facts.id, rejection.code, rejection.detail, replayed)
  const [reversal] = await openDecided(deps.personKeys, [facts])
  return { status: 201, reversal: reversal!, replayed }
}

/** Acknowledged but undecided: stored as pending, so that a GET finds it. */
const answerPending = async (
  deps: RequestReversalDeps,
  request: ReversalRequested,
  record: OutgoingRecord,
  original: TransferFacts,
  reason: string,
): Promise<ReversalAnswer> => {
  const requestedAt = new Date(request.requestedAt)
  const pending = {
    userId: request.userId,
    type: 'reversal',
    amount: request.amountMinor,
    currency: request.currency,
    requestedAt,
  }
  await deps.writePending({
    ...pending,
    transferId: request.transferId,
    fromWallet: request.fromWalletId,
    toWallet: request.toWalletId,
    fingerprint: request.fingerprint,
    note: request.note,
    metadata: null,
    // Never expires, and Kafka has it for certain.
    expiresAt: requestedAt,
    acknowledged: true,
    command: { key: record.key, type: REVERSAL_REQUESTED, value: record.value },
  })
  const party = (facts: TransferFacts['from']) => facts && { ...facts, balanceAfter: null }
  const reversal: TransferSubject = {
    ...pending,
    id: request.transferId,
    status: 'pending',
    from: party(original.to),
    to: party(original.from),
    note: reason,
    metadata: null,
    decidedAt: null,
    rejection: null,
    originalId: request.originalId,
  }
  return { status: 202, reversal, replayed: false }
}
