import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { decimalsOf, formatAmount } from '@pennywire/contracts/money.ts'
import type { TransferRequested } from '@pennywire/contracts/schemas.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { NotSent, type Publisher } from '@pennywire/kafka/publisher.ts'
import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Requester, SignedInUser } from '../access/requester.ts'
import { keyReused, rejectionProblem } from '../http/idempotency.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { Outcome, Outcomes, Waiter } from '../ledger/await-outcome.ts'
import { commandRecord } from '../ledger/command-record.ts'
import { fingerprintOf } from '../ledger/fingerprint.ts'
import type {
  TransferFacts,
  TransferLookup,
  TransferLookupKeys,
  WalletBrief,
} from '../ledger/sql/ledger-reads.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import type { KeyClaim, KeyHolder } from './sql/key-claims.ts'
import type { NewPendingRequest } from './sql/pending-requests.ts'
import {
  limitMembers,
  type Metadata,
  openDecided,
  rejectionOf,
  type TransferSubject,
  type TransferView,
} from './transfer-view.ts'

/** A signed-in client's request for a transfer or a hold: validated, the amount in minor units. */
export type TransferInput = {
  /** Whether the money moves at once, or is held until the recipient captures it. */
  type: 'transfer' | 'hold'
  user: Requester
  idempotencyKey: string
  fromWalletId: string | null
  toWalletId: string | null
  toWalletCode: string | null
  amount: bigint
  currency: string
  note: string | null
  metadata: Metadata | null
  /** The lifetime of a hold; null for a transfer. */
  expiresInSeconds: number | null
  pin: string | null
  stepUpToken: string | null
  /** How long the client waits for the outcome; 0: answer as soon as Kafka has the request. */
  waitMs: number
  traceparent: string
}

export type Answer<View> = { status: 201 | 202; transfer: View; replayed: boolean }
export type TransferAnswer = Answer<TransferView>

export type RequestTransferDeps<View> = {
  logger: Logger
  codec: Pick<Codec, 'encode'>
  /** Throws 503 if a command of this wallet would only wait: called before anything is tried, stored or sent. */
  admit: (walletId: string) => void
  publisher: Pick<Publisher, 'publish'>
  outcomes: Pick<Outcomes, 'wait'>
  /** Builds the caller's view of a transfer or a hold. */
  view: (names: Pick<Names, 'namesOf'>, caller: string, subject: TransferSubject) => Promise<View>
  names: Pick<Names, 'namesOf'>
  personKeys: Pick<PersonKeys, 'encryptFor' | 'decryptAll'>
  /** Queries the ledger's primary, once a tick for all requests of that tick. */
  lookUp: (question: TransferLookupKeys) => Promise<TransferLookup>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  /**
   * Claims the key, across all money routes, just before the request is sent; one statement a tick for all requests.
   */
  claimKey: (claim: KeyClaim) => Promise<KeyHolder>
  writePending: (request: NewPendingRequest) => Promise<void>
  verifyPin: (userId: string, pin: string, traceparent?: string) => Promise<void>
  verifyStepUp: (token: string, session: SignedInUser) => Promise<{ at: Date }>
  /** Amounts above this many major units of a currency, as a decimal string, need the PIN itself. */
  freshPinAbove: (currency: string) => string
  /** How long a request may wait for the ledger before its outcome is of no use any more. */
  expiresAfterMs: number
  clock: Clock
}

/** The event is only a wake-up: without one by then, the request queries the ledger, again after twice the time. */
const ASK_AFTER_MS = 250
const ASK_AGAIN_WITHIN_MS = 2_000
/** How long a client that does not wait for the outcome waits for Kafka's acknowledgement. */
const ACKNOWLEDGE_WITHIN_MS = 5_000

/**
 * Processes a transfer or a hold, from a well-formed request of a signed-in user to its answer. Throws ProblemError for
 * a refusal here (nothing is stored, the key may be used again) and for a rejection by the ledger (final).
 */
export const createRequestTransfer =
  <View>(deps: RequestTransferDeps<View>) =>
  async (input: TransferInput): Promise<Answer<View>> => {
    const { user } = input
    const transferId = transferIdOf(user.userId, input.idempotencyKey)

    // Look for an existing answer before the PIN: a repeat uses up no PIN try, and needs no PIN.
    const { decided, sender, recipient } = await deps.lookUp({ ...input, transferId, userId: user.userId })
    if (decided) {
      const facts = await deps.readDecided(transferId)
      // Another command has the key, such as the capture of a hold.
      if (!facts) throw keyReused()
      return answerDecided(deps, user.userId, facts, fingerprintOfRepeat(input, facts), true)
    }

    // Refuse a request that would only wait before the PIN as well: a refusal uses up no PIN try.
    if (!sender) throw ownWalletMissing(input)
    deps.admit(sender.id)

    // Authenticate the user for this amount, and check the recipient.
    const authenticated = await authenticate(deps, input)
    if (!recipient) throw recipientMissing(input)
    const fingerprint = fingerprintOfTransfer(input, sender.id, recipient.id)

    // Claim the key. A pending deposit may have it, too, and the ledger has no record of that.
    const holder = await deps.claimKey({ id: transferId, fingerprint, recipientId: recipient.userId })
    if (holder === 'another') throw keyReused()
    if (holder === 'recipient-unavailable') throw recipientDeactivated()

    // Send the command to the ledger, as a record that is kept for ever. The waiter is registered before it is sent.
    const requestedAt = deps.clock.now()
    const request: TransferRequested = {
      transferId,
      type: input.type,
      userId: user.userId,
      fromWalletId: sender.id,
      toWalletId: recipient.id,
      amountMinor: input.amount,
      currency: input.currency,
      fingerprint,
      requestedAt,
      expiresAt: requestedAt + deps.expiresAfterMs,
      authenticatedBy: authenticated.by,
      authenticatedAt: authenticated.at,
      note: input.note === null ? null : await deps.personKeys.encryptFor(user.userId, input.note, 'note'),
      metadata:
        input.metadata === null
          ? null
          : await deps.personKeys.encryptFor(user.userId, JSON.stringify(input.metadata), 'metadata'),
      holdUntil: input.expiresInSeconds === null ? null : requestedAt + input.expiresInSeconds * 1_000,
    }
    const waiter = deps.outcomes.wait(transferId, input.waitMs, request.fingerprint)
    const record = commandRecord(
      deps.codec,
      TRANSFER_REQUESTED,
      request.fromWalletId!,
      request,
      input.traceparent,
    )
    const publishing = publish(deps, record, transferId)
    let outcome: Outcome | TransferFacts | undefined
    try {
      if (input.waitMs > 0) outcome = await awaitAnswer(deps, waiter, publishing.failed, transferId)
    } finally {
      waiter.leave()
    }

    if (outcome && 'fingerprint' in outcome)
      return answerDecided(deps, user.userId, outcome, request.fingerprint, false)
    const pending = pendingSubject(input, sender, recipient, request)
    if (outcome) return answerOutcome(deps, pending, request, outcome)
    return answerPending(deps, pending, request, record.value, publishing, input.waitMs)
  }

/** The requester has no such wallet to pay from. */
export const ownWalletMissing = ({
  fromWalletId,
  currency,
}: Pick<TransferInput, 'fromWalletId' | 'currency'>): ProblemError =>
  new ProblemError(
    'WALLET_NOT_FOUND',
    fromWalletId === null
      ? `currency: you have no open wallet in ${currency}`
      : 'fromWalletId: you have no such wallet',
  )

/** The recipient's wallet does not exist. */
export const recipientMissing = ({ toWalletCode }: Pick<TransferInput, 'toWalletCode'>): ProblemError =>
  new ProblemError(
    'RECIPIENT_NOT_FOUND',
    `${toWalletCode === null ? 'toWalletId' : 'toWalletCode'}: there is no such wallet`,
  )

/** The recipient could not access the money. Staff may reactivate the account, so the key is not used up. */
export const recipientDeactivated = (): ProblemError =>
  new ProblemError('RECIPIENT_UNAVAILABLE', "the recipient's account is deactivated", { final: false })

const fingerprintOfTransfer = (input: TransferInput, fromWalletId: string, toWalletId: string): Buffer =>
  fingerprintOf({
    type: input.type,
    fromWalletId,
    toWalletId,
    amount: input.amount,
    currency: input.currency,
    note: input.note,
    metadata: input.metadata,
    ...(input.expiresInSeconds === null ? {} : { expiresInSeconds: input.expiresInSeconds }),
  })

/**
 * The fingerprint of a repeat, for comparison with the decided request. A wallet that the repeat does not name by its
 * id is that of the decided request: a lookup now would find another wallet, or none, once one is closed. Null if it
 * cannot be the same request.
 */
const fingerprintOfRepeat = (input: TransferInput, { from, to, currency }: TransferFacts): Buffer | null => {
  const then = from?.userId === input.user.userId && currency === input.currency ? from.walletId : null
  const fromWalletId = input.fromWalletId ?? then
  const toWalletId = input.toWalletId ?? (to?.code === input.toWalletCode ? to?.walletId : null)
  return fromWalletId && toWalletId ? fingerprintOfTransfer(input, fromWalletId, toWalletId) : null
}

/** A setting's amount in the currency's minor units; decimals that the currency does not have are dropped. */
const minorOf = (majorUnits: string, currency: string): bigint => {
  const [whole = '0', fraction = ''] = majorUnits.split('.')
  const decimals = decimalsOf(currency)
  return BigInt(whole + fraction.slice(0, decimals).padEnd(decimals, '0'))
}

/**
 * Throws API_KEY_AMOUNT_EXCEEDED if an API key requests more than any of these amounts (major units, null: any amount):
 * then a person must make the request.
 */
export const refuseAboveKey = (amount: bigint, currency: string, most: Array<string | null>): void => {
  const passed = most
    .flatMap(majorUnits => (majorUnits === null ? [] : [minorOf(majorUnits, currency)]))
    .filter(limit => amount > limit)
  const least = passed.find(limit => passed.every(other => limit <= other))
  if (least === undefined) return
  const limit = formatAmount(least, currency)
  throw new ProblemError(
    'API_KEY_AMOUNT_EXCEEDED',
    `amount: this API key moves at most ${limit} ${currency} at once`,
    { limit, requested: formatAmount(amount, currency) },
  )
}

/**
 * How the user proved to be present: by the PIN, or by a step-up token if the amount allows it. An API key needs no
 * such proof: it was authorised with the PIN at its creation, for amounts that need no fresh PIN.
 */
export const authenticate = async (
  deps: Pick<RequestTransferDeps<unknown>, 'verifyPin' | 'verifyStepUp' | 'freshPinAbove' | 'clock'>,
  {
    user,
    pin,
    stepUpToken,
    amount,
    currency,
    traceparent,
  }: Pick<TransferInput, 'user' | 'pin' | 'stepUpToken' | 'amount' | 'currency' | 'traceparent'>,
): Promise<{ by: 'pin' | 'step_up' | 'api_key'; at: number }> => {
  if (user.apiKey) {
    // Refused without verification: the holder of a key, perhaps a leaked one, must not be able to try PINs until they
    // are locked.
    const given = [...(pin === null ? [] : ['pin']), ...(stepUpToken === null ? [] : ['Step-Up-Token'])]
    if (given.length > 0) {
      throw validationProblem(given.map(field => ({ field, rule: 'must not come with an API key' })))
    }
    refuseAboveKey(amount, currency, [user.apiKey.maxAmount, deps.freshPinAbove(currency)])
    return { by: 'api_key', at: user.apiKey.authorizedAt }
  }
  if (pin !== null) {
    await deps.verifyPin(user.userId, pin, traceparent)
    return { by: 'pin', at: deps.clock.now() }
  }
  if (stepUpToken === null) {
    throw new ProblemError('PIN_REQUIRED', 'pin: send it, or a Step-Up-Token header from POST /v1/pin/verify')
  }
  const { at } = await deps.verifyStepUp(stepUpToken, user)
  const freshPinAbove = deps.freshPinAbove(currency)
  if (amount > minorOf(freshPinAbove, currency)) {
    throw new ProblemError(
      'PIN_REQUIRED',
      `pin: amounts above ${freshPinAbove} ${currency} need the PIN itself`,
    )
  }
  return { by: 'step_up', at: at.getTime() }
}

type Publishing = {
  /**
   * Resolves with true if Kafka did not acknowledge the request, rejects if it was not sent; never settles otherwise.
   */
  failed: Promise<true>
  acknowledged: Promise<boolean>
}

const TRANSFER_REQUESTED = 'pennywire.ledger.TransferRequested'

const publish = (
  deps: RequestTransferDeps<unknown>,
  record: OutgoingRecord,
  transferId: string,
): Publishing => {
  const published = deps.publisher.publish(record)
  const acknowledged = published.then(
    () => true,
    error => {
      deps.logger.warn({ err: error, transferId }, 'request not acknowledged by Kafka')
      // It was certainly not sent: the client may simply try again.
      if (error instanceof NotSent) {
        throw new ProblemError(
          'SERVICE_UNAVAILABLE',
          'The log of commands takes no more now; nothing was sent.',
        )
      }
      return false
    },
  )
  const failed = new Promise<true>((resolve, reject) =>
    acknowledged.then(yes => {
      if (!yes) resolve(true)
    }, reject),
  )
  // Nothing awaits this promise if the client does not wait for the outcome.
  failed.catch(() => {})
  return { failed, acknowledged }
}

/** Whether Kafka has acknowledged within `ms`: a stalled Kafka delays the client no longer. */
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

/** The outcome as soon as it is available, by event or by query; undefined if the wait is over or nothing was sent. */
const awaitAnswer = async (
  deps: RequestTransferDeps<unknown>,
  waiter: Waiter,
  failed: Promise<true>,
  transferId: string,
): Promise<Outcome | TransferFacts | undefined> => {
  let cancel = () => {}
  let over = false
  const asking = new Promise<TransferFacts>((resolve, reject) => {
    const askAfter = (ms: number) => {
      cancel = deps.clock.after(ms, async () => {
        try {
          const facts = await deps.readDecided(transferId)
          if (facts) resolve(facts)
          else if (!over) askAfter(Math.min(2 * ms, ASK_AGAIN_WITHIN_MS))
        } catch (error) {
          reject(error)
        }
      })
    }
    askAfter(ASK_AFTER_MS)
  })
  asking.catch(error => deps.logger.warn({ err: error, transferId }, 'the ledger could not be asked'))
  try {
    const outcome = await Promise.race([waiter.outcome, asking, failed])
    return outcome === true ? undefined : outcome
  } finally {
    over = true
    cancel()
  }
}

/** The request while its outcome is unknown. */
const pendingSubject = (
  input: TransferInput,
  sender: WalletBrief,
  recipient: WalletBrief,
  request: TransferRequested,
): TransferSubject => ({
  id: request.transferId,
  type: request.type,
  status: 'pending',
  userId: request.userId,
  from: { walletId: sender.id, userId: sender.userId, code: sender.code, balanceAfter: null },
  to: { walletId: recipient.id, userId: recipient.userId, code: recipient.code, balanceAfter: null },
  amount: request.amountMinor,
  currency: request.currency,
  note: input.note,
  metadata: input.metadata,
  requestedAt: new Date(request.requestedAt),
  decidedAt: null,
  rejection: null,
})

const answerOutcome = async <View>(
  deps: RequestTransferDeps<View>,
  pending: TransferSubject,
  request: TransferRequested,
  outcome: Outcome,
): Promise<Answer<View>> => {
  // Any other event with this id answers another command.
  if (!('fingerprint' in outcome.value) || !outcome.value.fingerprint.equals(request.fingerprint)) {
    throw keyReused()
  }
  if (outcome.type === 'pennywire.ledger.TransferRejected') {
    const { code, detail, limitMinor: limit, usedMinor: used } = outcome.value
    const members = limitMembers({ limit, used }, request.amountMinor, request.currency)
    throw rejectionProblem(request.transferId, code, detail, false, members)
  }
  const subject = subjectOf(pending, outcome)
  if (!subject) throw keyReused()
  const transfer = await deps.view(deps.names, request.userId, subject)
  return { status: 201, transfer, replayed: false }
}

/** The request with its outcome: the money has moved, or is held. */
const subjectOf = (pending: TransferSubject, { type, value }: Outcome): TransferSubject | undefined => {
  // `requestedAt` of the event: of two simultaneous requests, that of the decided one applies to both.
  if (type === 'pennywire.ledger.TransferCompleted') {
    const after = (party: TransferSubject['from']) =>
      party && {
        ...party,
        balanceAfter:
          value.entries.find(({ walletId }) => walletId === party.walletId)?.balanceAfterMinor ?? null,
      }
    return {
      ...pending,
      status: 'completed',
      from: after(pending.from),
      to: after(pending.to),
      requestedAt: new Date(value.requestedAt),
      decidedAt: new Date(value.completedAt),
    }
  }
  if (type === 'pennywire.ledger.HoldPlaced') {
    const until = value.holdUntil === null ? null : new Date(value.holdUntil)
    return {
      ...pending,
      requestedAt: new Date(value.requestedAt),
      decidedAt: new Date(value.placedAt),
      hold: { status: 'active', amount: pending.amount, captured: 0n, until, endedAt: null },
    }
  }
  return undefined
}

/**
 * Answers with the ledger's decision: 201 with the transfer or hold, the rejection, or 422 if it is another request.
 */
const answerDecided = async <View>(
  deps: RequestTransferDeps<View>,
  caller: string,
  facts: TransferFacts,
  fingerprint: Buffer | null,
  replayed: boolean,
): Promise<Answer<View>> => {
  if (!fingerprint || !facts.fingerprint.equals(fingerprint)) throw keyReused()
  const rejection = rejectionOf(facts)
  // A hold that has ended was placed before, so this is no rejection of the request.
  if (rejection && !facts.hold) {
    const { code, detail, ...members } = rejection
    throw rejectionProblem(facts.id, code, detail, replayed, members)
  }
  const [subject] = await openDecided(deps.personKeys, [facts])
  return { status: 201, transfer: await deps.view(deps.names, caller, subject!), replayed }
}

/** Undecided: stored as pending before the answer, so that a GET finds it. */
const answerPending = async <View>(
  deps: RequestTransferDeps<View>,
  pending: TransferSubject,
  request: TransferRequested,
  value: Buffer,
  publishing: Publishing,
  waitedMs: number,
): Promise<Answer<View>> => {
  const acknowledged = await within(
    deps.clock,
    waitedMs === 0 ? ACKNOWLEDGE_WITHIN_MS : 0,
    publishing.acknowledged,
  )
  const facts = await deps.readDecided(request.transferId)
  if (facts) return answerDecided(deps, request.userId, facts, request.fingerprint, false)
  await deps.writePending({
    transferId: request.transferId,
    userId: request.userId,
    type: request.type,
    fromWallet: request.fromWalletId,
    toWallet: request.toWalletId,
    amount: request.amountMinor,
    currency: request.currency,
    fingerprint: request.fingerprint,
    note: request.note,
    metadata: request.metadata,
    requestedAt: new Date(request.requestedAt),
    expiresAt: new Date(request.expiresAt!),
    acknowledged,
    command: { key: request.fromWalletId!, type: TRANSFER_REQUESTED, value },
  })
  if (!acknowledged) {
    throw new ProblemError(
      'SERVICE_UNAVAILABLE',
      'Whether the request arrived is not known. Send it again with the same Idempotency-Key: it is applied once.',
      { transferId: request.transferId },
      { location: `/v1/${request.type}s/${request.transferId}` },
    )
  }
  const transfer = await deps.view(deps.names, request.userId, pending)
  return { status: 202, transfer, replayed: false }
}
