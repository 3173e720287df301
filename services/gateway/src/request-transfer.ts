import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { decimalsOf } from '@pennywire/contracts/money.ts'
import { isProblemCode } from '@pennywire/contracts/problems.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { type Publisher, PublisherFull } from '@pennywire/kafka/publisher.ts'
import { envelope } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Outcome, Outcomes, Waiter } from './await-outcome.ts'
import { fingerprintOf } from './fingerprint.ts'
import type { Names } from './identity/names.ts'
import type { PersonKeys } from './identity/person-keys.ts'
import { ProblemError } from './problems.ts'
import type { SignedInUser } from './routes/define-route.ts'
import type { TransferFacts, TransferGroundwork, TransferQuestion, WalletBrief } from './sql/ledger-reads.ts'
import type { PendingRequest } from './sql/pending-requests.ts'
import { type Metadata, type TransferView, viewDecided, viewTransfer } from './transfer-view.ts'

/** A transfer as a signed-in client asks for it; the form is checked, the amount in minor units. */
export type AskedTransfer = {
  user: SignedInUser
  idempotencyKey: string
  fromWalletId: string | null
  toWalletId: string | null
  toWalletCode: string | null
  amount: bigint
  currency: string
  note: string | null
  metadata: Metadata | null
  pin: string | null
  stepUpToken: string | null
  /** How long the client waits for the outcome; 0: answer as soon as Kafka has the request. */
  waitMs: number
  traceparent: string
}

export type TransferAnswer = { status: 201 | 202; transfer: TransferView; replayed: boolean }

export type RequestTransferParts = {
  logger: Logger
  codec: Pick<Codec, 'encode'>
  /** Throws 503 where the request would only wait: asked before anything is tried, stored or sent. */
  admit: () => void
  publisher: Pick<Publisher, 'publish'>
  outcomes: Pick<Outcomes, 'wait'>
  names: Pick<Names, 'namesOf'>
  personKeys: Pick<PersonKeys, 'encryptFor' | 'decryptAll'>
  /** The ledger's primary, asked once a tick for all requests of that tick. */
  lookUp: (question: TransferQuestion) => Promise<TransferGroundwork>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  writePending: (request: PendingRequest) => Promise<void>
  verifyPin: (userId: string, pin: string, traceparent?: string) => Promise<void>
  verifyStepUp: (token: string, session: SignedInUser) => Promise<{ at: Date }>
  /** Amounts above this many major units need the PIN itself. */
  freshPinAbove: number
  /** How long a request may wait for the ledger before nobody wants it any more. */
  expiresAfterMs: number
  clock: Clock
}

/** The event is only a wake-up: whoever has not heard by then asks the ledger itself, once. */
const ASK_AFTER_MS = 250
/** How long a client that does not wait for the outcome waits for Kafka to have its request. */
const ACKNOWLEDGE_WITHIN_MS = 5_000

/**
 * The way of a transfer through the gateway, from a well-formed request of a signed-in user to its answer. Throws
 * ProblemError for what is refused here (nothing is stored, the key may be used again) and for what the ledger
 * rejected (final).
 */
export const createRequestTransfer =
  (parts: RequestTransferParts) =>
  async (asked: AskedTransfer): Promise<TransferAnswer> => {
    const { user } = asked
    const transferId = transferIdOf(user.userId, asked.idempotencyKey)

    // Is the answer known already? Before the PIN: a repeat costs no try, and needs none.
    const { decided, sender, recipient } = await parts.lookUp({ ...asked, transferId, userId: user.userId })
    const fingerprint = sender && recipient && fingerprintOfTransfer(asked, sender, recipient)
    if (decided) {
      const facts = await parts.readDecided(transferId)
      if (!facts) throw new Error(`transfer ${transferId} is decided and cannot be read`)
      return answerDecided(parts, user.userId, facts, fingerprint, true)
    }

    // Is there any use in asking now? Before the PIN as well: a refusal costs no try.
    parts.admit()

    // Is it the user, and the user's money?
    if (!sender) {
      throw new ProblemError('WALLET_NOT_FOUND', ownWalletMissing(asked))
    }
    const authenticated = await authenticate(parts, asked)
    if (!recipient) {
      const field = asked.toWalletCode === null ? 'toWalletId' : 'toWalletCode'
      throw new ProblemError('RECIPIENT_NOT_FOUND', `${field}: there is no such wallet`)
    }

    // Ask the ledger, by a record that stays for ever. Whoever waits listens before it is sent.
    const requestedAt = parts.clock.now()
    const request: TransferRequested = {
      transferId,
      type: 'transfer',
      userId: user.userId,
      fromWalletId: sender.id,
      toWalletId: recipient.id,
      amountMinor: asked.amount,
      currency: asked.currency,
      fingerprint: fingerprintOfTransfer(asked, sender, recipient),
      requestedAt,
      expiresAt: requestedAt + parts.expiresAfterMs,
      authenticatedBy: authenticated.by,
      authenticatedAt: authenticated.at,
      note: asked.note === null ? null : await parts.personKeys.encryptFor(user.userId, asked.note, 'note'),
      metadata:
        asked.metadata === null
          ? null
          : await parts.personKeys.encryptFor(user.userId, JSON.stringify(asked.metadata), 'metadata'),
      holdUntil: null,
    }
    const waiter = parts.outcomes.wait(transferId, asked.waitMs, request.fingerprint)
    const publishing = publish(parts, request, asked.traceparent)
    let heard: Outcome | TransferFacts | undefined
    try {
      if (asked.waitMs > 0) heard = await hear(parts, waiter, publishing.failed, transferId)
    } finally {
      waiter.leave()
    }

    if (heard && 'fingerprint' in heard)
      return answerDecided(parts, user.userId, heard, request.fingerprint, false)
    if (heard) return answerOutcome(parts, asked, sender, recipient, request, heard)
    return answerPending(parts, asked, sender, recipient, request, publishing)
  }

const ownWalletMissing = ({ fromWalletId, currency }: AskedTransfer) =>
  fromWalletId === null
    ? `currency: you have no open wallet in ${currency}`
    : 'fromWalletId: you have no such wallet'

const fingerprintOfTransfer = (asked: AskedTransfer, sender: WalletBrief, recipient: WalletBrief): Buffer =>
  fingerprintOf({
    type: 'transfer',
    fromWalletId: sender.id,
    toWalletId: recipient.id,
    amount: asked.amount,
    currency: asked.currency,
    note: asked.note,
    metadata: asked.metadata,
  })

/** How the user proved to be present: by the PIN, or a step-up token where the amount allows. */
const authenticate = async (
  parts: RequestTransferParts,
  { user, pin, stepUpToken, amount, currency, traceparent }: AskedTransfer,
): Promise<{ by: 'pin' | 'step_up'; at: number }> => {
  if (pin !== null) {
    await parts.verifyPin(user.userId, pin, traceparent)
    return { by: 'pin', at: parts.clock.now() }
  }
  if (stepUpToken === null) {
    throw new ProblemError('PIN_REQUIRED', 'pin: send it, or a Step-Up-Token header from POST /v1/pin/verify')
  }
  const { at } = await parts.verifyStepUp(stepUpToken, user)
  const threshold = BigInt(Math.floor(parts.freshPinAbove * 10 ** decimalsOf(currency)))
  if (amount > threshold) {
    throw new ProblemError(
      'PIN_REQUIRED',
      `pin: amounts above ${parts.freshPinAbove} ${currency} need the PIN itself`,
    )
  }
  return { by: 'step_up', at: at.getTime() }
}

type Publishing = {
  /** Settles, with true, where Kafka did not acknowledge the request; never where it did. */
  failed: Promise<true>
  acknowledged: Promise<boolean>
}

const publish = (
  parts: RequestTransferParts,
  request: TransferRequested,
  traceparent: string,
): Publishing => {
  const key = request.fromWalletId!
  const published = parts.publisher.publish({
    topic: 'ledger.commands',
    key,
    value: parts.codec.encode('pennywire.ledger.TransferRequested', request),
    headers: envelope({
      id: request.transferId,
      type: 'pennywire.ledger.TransferRequested',
      source: 'gateway',
      time: request.requestedAt,
      subject: request.transferId,
      traceparent,
    }),
  })
  const acknowledged = published.then(
    () => true,
    error => {
      parts.logger.warn({ err: error, transferId: request.transferId }, 'request not acknowledged by Kafka')
      // Certain that it was not sent: the client may simply try again.
      if (error instanceof PublisherFull) {
        throw new ProblemError('SERVICE_UNAVAILABLE', 'Too many requests wait already; nothing was sent.')
      }
      return false
    },
  )
  const failed = new Promise<true>((resolve, reject) =>
    acknowledged.then(yes => {
      if (!yes) resolve(true)
    }, reject),
  )
  // Whoever does not wait for the outcome does not listen to this one.
  failed.catch(() => {})
  return { failed, acknowledged }
}

/** Whether it is acknowledged, as far as is known within `ms`: a Kafka that stands still keeps nobody longer. */
const within = async (clock: Clock, ms: number, acknowledged: Promise<boolean>): Promise<boolean> => {
  let cancel = () => {}
  const late = new Promise<boolean>(resolve => {
    if (ms === 0) resolve(false)
    else cancel = clock.after(ms, () => resolve(false))
  })
  try {
    return await Promise.race([acknowledged, late])
  } finally {
    cancel()
  }
}

/** The outcome as soon as it is known, by event or by asking; undefined where the wait is over or nothing was sent. */
const hear = async (
  parts: RequestTransferParts,
  waiter: Waiter,
  failed: Promise<true>,
  transferId: string,
): Promise<Outcome | TransferFacts | undefined> => {
  let cancel = () => {}
  const asking = new Promise<TransferFacts>((resolve, reject) => {
    cancel = parts.clock.after(ASK_AFTER_MS, () => {
      parts.readDecided(transferId).then(facts => facts && resolve(facts), reject)
    })
  })
  asking.catch(error => parts.logger.warn({ err: error, transferId }, 'the ledger could not be asked'))
  try {
    const heard = await Promise.race([waiter.outcome, asking, failed])
    return heard === true ? undefined : heard
  } finally {
    cancel()
  }
}

const answerOutcome = async (
  parts: RequestTransferParts,
  asked: AskedTransfer,
  sender: WalletBrief,
  recipient: WalletBrief,
  request: TransferRequested,
  outcome: Outcome,
): Promise<TransferAnswer> => {
  // Anything else under this id answers another command.
  if (!('fingerprint' in outcome.value) || !outcome.value.fingerprint.equals(request.fingerprint)) {
    throw keyReused()
  }
  if (outcome.type === 'pennywire.ledger.TransferCompleted') {
    const { entries, completedAt, requestedAt } = outcome.value
    const balanceOf = (walletId: string) =>
      entries.find(entry => entry.walletId === walletId)?.balanceAfterMinor ?? null
    const transfer = await viewTransfer(parts.names, asked.user.userId, {
      id: request.transferId,
      type: request.type,
      status: 'completed',
      userId: request.userId,
      from: {
        walletId: sender.id,
        userId: sender.userId,
        code: sender.code,
        balanceAfter: balanceOf(sender.id),
      },
      to: {
        walletId: recipient.id,
        userId: recipient.userId,
        code: recipient.code,
        balanceAfter: balanceOf(recipient.id),
      },
      amount: request.amountMinor,
      currency: request.currency,
      note: asked.note,
      metadata: asked.metadata,
      // The one that was decided: of two requests at once the other's moment counts for both.
      requestedAt: new Date(requestedAt),
      decidedAt: new Date(completedAt),
      rejection: null,
    })
    return { status: 201, transfer, replayed: false }
  }
  if (outcome.type !== 'pennywire.ledger.TransferRejected') throw keyReused()
  const { code, detail } = outcome.value
  throw rejectionProblem(request.transferId, code, detail, false)
}

/** Answers with what the ledger decided: 201 with the transfer, the rejection, or 422 where the request is another. */
const answerDecided = async (
  parts: RequestTransferParts,
  caller: string,
  facts: TransferFacts,
  fingerprint: Buffer | null,
  replayed: boolean,
): Promise<TransferAnswer> => {
  if (!fingerprint || !facts.fingerprint.equals(fingerprint)) throw keyReused()
  if (facts.rejectionCode !== null) {
    throw rejectionProblem(facts.id, facts.rejectionCode, facts.rejectionDetail ?? '', replayed)
  }
  const [transfer] = await viewDecided(parts, caller, [facts])
  return { status: 201, transfer: transfer!, replayed }
}

/** Nobody knows yet. The owner must be able to find it, so it is written down before anything is said. */
const answerPending = async (
  parts: RequestTransferParts,
  asked: AskedTransfer,
  sender: WalletBrief,
  recipient: WalletBrief,
  request: TransferRequested,
  publishing: Publishing,
): Promise<TransferAnswer> => {
  const acknowledged = await within(
    parts.clock,
    asked.waitMs === 0 ? ACKNOWLEDGE_WITHIN_MS : 0,
    publishing.acknowledged,
  )
  const facts = await parts.readDecided(request.transferId)
  if (facts) return answerDecided(parts, asked.user.userId, facts, request.fingerprint, false)
  await parts.writePending({
    transferId: request.transferId,
    userId: request.userId,
    type: request.type,
    fromWallet: sender.id,
    toWallet: recipient.id,
    amount: request.amountMinor,
    currency: request.currency,
    fingerprint: request.fingerprint,
    note: request.note,
    metadata: request.metadata,
    requestedAt: new Date(request.requestedAt),
    expiresAt: new Date(request.expiresAt!),
    acknowledged,
  })
  if (!acknowledged) {
    throw new ProblemError(
      'SERVICE_UNAVAILABLE',
      'Whether the request arrived is not known. Send it again with the same Idempotency-Key: it is applied once.',
      { transferId: request.transferId },
      { location: `/v1/transfers/${request.transferId}` },
    )
  }
  const transfer = await viewTransfer(parts.names, asked.user.userId, {
    id: request.transferId,
    type: request.type,
    status: 'pending',
    userId: request.userId,
    from: { walletId: sender.id, userId: sender.userId, code: sender.code, balanceAfter: null },
    to: { walletId: recipient.id, userId: recipient.userId, code: recipient.code, balanceAfter: null },
    amount: request.amountMinor,
    currency: request.currency,
    note: asked.note,
    metadata: asked.metadata,
    requestedAt: new Date(request.requestedAt),
    decidedAt: null,
    rejection: null,
  })
  return { status: 202, transfer, replayed: false }
}

/** The key belongs to a request with other content, whose outcome stands. */
export const keyReused = (): ProblemError =>
  new ProblemError(
    'IDEMPOTENCY_KEY_REUSED',
    'Idempotency-Key: it belongs to an earlier request with other content; use a new key for a new request',
  )

/** The ledger's rejection as a problem: always final, whatever its code means elsewhere. */
export const rejectionProblem = (
  transferId: string,
  code: string,
  detail: string,
  replayed: boolean,
): ProblemError =>
  new ProblemError(
    isProblemCode(code) ? code : 'INTERNAL_ERROR',
    detail,
    { transferId, final: true, retryable: false },
    replayed ? { 'idempotency-replayed': 'true' } : {},
  )
