import { setTimeout as sleep } from 'node:timers/promises'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import type { ReversalRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { envelope } from '@pennywire/kafka/record.ts'
import type { Outcome, Outcomes } from './await-outcome.ts'
import { fingerprintOfCommand } from './fingerprint.ts'
import type { PersonKeys } from './identity/person-keys.ts'
import { refuseOwn } from './identity/roles.ts'
import { ProblemError } from './problems.ts'
import type { PublishCommand } from './publish-command.ts'
import { keyReused, rejectionProblem } from './request-transfer.ts'
import type { SignedInUser } from './routes/define-route.ts'
import type { KeyClaim, KeyHolder } from './sql/key-claims.ts'
import type { TransferFacts } from './sql/ledger-reads.ts'
import type { PendingRequest } from './sql/pending-requests.ts'
import { openDecided, rejectionOf, type TransferSubject } from './transfer-view.ts'

/** A reversal as a staff member asks for it; the form is checked. */
export type AskedReversal = {
  staff: SignedInUser
  idempotencyKey: string
  originalId: string
  /** In minor units, once the currency is known; null: all that is left. */
  amountIn: (currency: string) => bigint | null
  /** Null: the original's, whatever it is. */
  currency: string | null
  /** Why; both parties read it. */
  reason: string
  waitMs: number
  traceparent: string
}

export type ReversalAnswer = { status: 201 | 202; reversal: TransferSubject; replayed: boolean }

export type RequestReversalParts = {
  codec: Pick<Codec, 'encode'>
  /** Throws 503 where the request would only wait. */
  admit: () => void
  publishCommand: PublishCommand
  outcomes: Pick<Outcomes, 'wait'>
  personKeys: Pick<PersonKeys, 'encryptFor' | 'decryptAll'>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  claimKey: (claim: KeyClaim) => Promise<KeyHolder>
  writePending: (request: PendingRequest) => Promise<void>
  now: () => number
}

/** The event is only a wake-up: whoever has not heard by then asks the ledger itself. */
const ASK_EVERY_MS = 250

/**
 * Gives a completed transfer or deposit back, whole or in part, by a new transfer that points at it. The ledger decides
 * how much is left and whether the recipient still has it. Throws ProblemError for what is refused here (nothing is
 * stored) and for what the ledger rejected (final).
 */
export const createRequestReversal =
  (parts: RequestReversalParts) =>
  async (asked: AskedReversal): Promise<ReversalAnswer> => {
    const { staff, originalId, reason } = asked
    const transferId = transferIdOf(staff.userId, asked.idempotencyKey)
    const [decided, original] = await Promise.all([
      parts.readDecided(transferId),
      parts.readDecided(originalId),
    ])
    if (!original) throw new ProblemError('TRANSFER_NOT_FOUND', 'id: there is no such decided transfer')
    refuseOwn(staff.userId, [original.from?.userId, original.to?.userId], 'a transfer')
    const { currency } = original
    if (asked.currency !== null && asked.currency !== currency) {
      throw new ProblemError('CURRENCY_MISMATCH', `currency: the transfer was in ${currency}`, {
        final: false,
      })
    }
    const amount = asked.amountIn(currency)
    // As it was asked for: what "all that is left" comes to is another amount after the first try has done it.
    const fingerprint = fingerprintOfCommand('ReversalRequested', {
      originalId,
      amount: amount === null ? null : String(amount),
      currency,
      reason,
    })
    if (decided) return answerDecided(parts, decided, fingerprint, true)
    if (original.status !== 'completed') {
      throw new ProblemError('NOT_REVERSIBLE', `id: a ${original.status} ${original.type} moved nothing`, {
        final: false,
      })
    }
    // It waits for a person, in a wallet that is no user's and that no user's command should lock.
    if (original.type === 'deposit' && original.to?.userId == null) {
      throw new ProblemError('NOT_REVERSIBLE', 'id: the deposit is in suspense', { final: false })
    }
    parts.admit()
    if ((await parts.claimKey({ id: transferId, fingerprint, recipientId: null })) === 'another') {
      throw keyReused()
    }

    const left = original.amount - original.reversed
    const request: ReversalRequested = {
      transferId,
      originalId,
      userId: staff.userId,
      source: 'staff',
      fromWalletId: original.type === 'withdrawal' ? null : (original.to?.walletId ?? null),
      toWalletId: original.type === 'deposit' ? null : (original.from?.walletId ?? null),
      // Where nothing is left the ledger says so, for good.
      amountMinor: amount ?? (left > 0n ? left : original.amount),
      currency,
      fingerprint,
      requestedAt: parts.now(),
      note: await parts.personKeys.encryptFor(staff.userId, reason, 'note'),
    }
    const waiter = parts.outcomes.wait(transferId, asked.waitMs, fingerprint)
    try {
      await publish(parts, request, asked.traceparent)
      const facts = await hear(parts, transferId, waiter.outcome, asked.waitMs)
      if (facts) return await answerDecided(parts, facts, fingerprint, false)
    } finally {
      waiter.leave()
    }
    return answerPending(parts, request, original, reason)
  }

const publish = (parts: RequestReversalParts, request: ReversalRequested, traceparent: string) => {
  const { transferId, fromWalletId, toWalletId, requestedAt } = request
  const type = 'pennywire.ledger.ReversalRequested'
  return parts.publishCommand({
    topic: 'ledger.commands',
    key: fromWalletId ?? toWalletId ?? request.originalId,
    value: parts.codec.encode(type, request),
    headers: envelope({
      id: transferId,
      type,
      source: 'gateway',
      time: requestedAt,
      subject: transferId,
      traceparent,
    }),
  })
}

/** What the ledger decided, as soon as it is known; undefined where the wait is over. */
const hear = async (
  parts: RequestReversalParts,
  transferId: string,
  outcome: Promise<Outcome | undefined>,
  waitMs: number,
): Promise<TransferFacts | undefined> => {
  const deadline = parts.now() + waitMs
  let listening: Promise<Outcome | undefined> | undefined = outcome
  for (;;) {
    const leftMs = Math.max(0, deadline - parts.now())
    const pause: Promise<undefined> = sleep(Math.min(ASK_EVERY_MS, leftMs), undefined)
    // What is heard once is not heard again: from then on the pause alone sets the pace.
    const heard = await Promise.race(listening ? [listening, pause] : [pause])
    if (heard) listening = undefined
    const facts = await parts.readDecided(transferId)
    if (facts) return facts
    // Something that is no transfer has the id.
    if (heard?.type === 'pennywire.ledger.CommandRefused') throw keyReused()
    if (leftMs === 0) return undefined
  }
}

const answerDecided = async (
  parts: RequestReversalParts,
  facts: TransferFacts,
  fingerprint: Buffer,
  replayed: boolean,
): Promise<ReversalAnswer> => {
  if (!facts.fingerprint.equals(fingerprint)) throw keyReused()
  const rejection = rejectionOf(facts)
  if (rejection) throw rejectionProblem(facts.id, rejection.code, rejection.detail, replayed)
  const [reversal] = await openDecided(parts.personKeys, [facts])
  return { status: 201, reversal: reversal!, replayed }
}

/** Kafka has it and nobody knows more: written down, so that whoever asked finds it until it is decided. */
const answerPending = async (
  parts: RequestReversalParts,
  request: ReversalRequested,
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
  await parts.writePending({
    ...pending,
    transferId: request.transferId,
    fromWallet: request.fromWalletId,
    toWallet: request.toWalletId,
    fingerprint: request.fingerprint,
    note: request.note,
    metadata: null,
    // Never expires, and is there for certain.
    expiresAt: requestedAt,
    acknowledged: true,
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
