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

/** A transfer or a hold as a signed-in client asks for it; the form is checked, the amount in minor units. */
export type TransferInput = {
  /** Whether the money moves at once, or is promised until the recipient captures it. */
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
  /** How long a hold stands; null for a transfer. */
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
  /** Throws 503 where a command of this wallet would only wait: asked before anything is tried, stored or sent. */
  admit: (walletId: string) => void
  publisher: Pick<Publisher, 'publish'>
  outcomes: Pick<Outcomes, 'wait'>
  /** What the caller is shown: a transfer, or a hold. */
  view: (names: Pick<Names, 'namesOf'>, caller: string, subject: TransferSubject) => Promise<View>
  names: Pick<Names, 'namesOf'>
  personKeys: Pick<PersonKeys, 'encryptFor' | 'decryptAll'>
  /** The ledger's primary, asked once a tick for all requests of that tick. */
  lookUp: (question: TransferLookupKeys) => Promise<TransferLookup>
  readDecided: (transferId: string) => Promise<TransferFacts | undefined>
  /** Takes the key, over all money routes, just before the request goes out; one statement a tick for all requests. */
  claimKey: (claim: KeyClaim) => Promise<KeyHolder>
  writePending: (request: NewPendingRequest) => Promise<void>
  verifyPin: (userId: string, pin: string, traceparent?: string) => Promise<void>
  verifyStepUp: (token: string, session: SignedInUser) => Promise<{ at: Date }>
  /** Amounts above this many major units of a currency, as a decimal string, need the PIN itself. */
  freshPinAbove: (currency: string) => string
  /** How long a request may wait for the ledger before nobody wants it any more. */
  expiresAfterMs: number
  clock: Clock
}

/** The event is only a wake-up: a request without one by then asks the ledger itself, again after twice the time. */
const ASK_AFTER_MS = 250
const ASK_AGAIN_WITHIN_MS = 2_000
/** How long a client that does not wait for the outcome waits for Kafka to have its request. */
const ACKNOWLEDGE_WITHIN_MS = 5_000

/**
 * The way of a transfer, or of a hold, through the gateway, from a well-formed request of a signed-in user to its
 * answer. Throws ProblemError for what is refused here (nothing is stored, the key may be used again) and for what the
 * ledger rejected (final).
 */
export const createRequestTransfer =
  <View>(deps: RequestTransferDeps<View>) =>
  async (input: TransferInput): Promise<Answer<View>> => {
    const { user } = input
    const transferId = transferIdOf(user.userId, input.idempotencyKey)

    // Is the answer known already? Before the PIN: a repeat costs no try, and needs none.
    const { decided, sender, recipient } = await deps.lookUp({ ...input, transferId, userId: user.userId })
    if (decided) {
      const facts = await deps.readDecided(transferId)
      // Something else has the key, such as the capture of a hold.
      if (!facts) throw keyReused()
      return answerDecided(deps, user.userId, facts, fingerprintOfRepeat(input, facts), true)
    }

    // Is there any use in asking now? Before the PIN as well: a refusal costs no try.
    if (!sender) throw ownWalletMissing(input)
    deps.admit(sender.id)

    // Is it the user, and the user's money?
    const authenticated = await authenticate(deps, input)
    if (!recipient) throw recipientMissing(input)
    const fingerprint = fingerprintOfTransfer(input, sender.id, recipient.id)

    // Is the key this request's? A pending deposit has one too, and the ledger does not know of it.
    const holder = await deps.claimKey({ id: transferId, fingerprint, recipientId: recipient.userId })
    if (holder === 'another') throw keyReused()
    if (holder === 'recipient-unavailable') throw recipientDeactivated()

    // Ask the ledger, by a record that stays for ever. The waiter is registered before it is sent.
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

/** Nobody has such a wallet to be paid to. */
export const recipientMissing = ({ toWalletCode }: Pick<TransferInput, 'toWalletCode'>): ProblemError =>
  new ProblemError(
    'RECIPIENT_NOT_FOUND',
    `${toWalletCode === null ? 'toWalletId' : 'toWalletCode'}: there is no such wallet`,
  )

/** Their money could not be got at; staff may activate the account again, so the key is not used up. */
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
 * What a repeat says, held against the decided request. A wallet that the repeat does not name by its id is the one
 * that the request meant then: a lookup now would find another wallet, or none, once one is closed. Null where it
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
 * Throws API_KEY_AMOUNT_EXCEEDED where an API key asks for more than any of these amounts (major units, null: any
 * amount): a person has to do it then.
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
 * How the user proved to be present: by the PIN, or a step-up token where the amount allows. Or that they need not be:
 * an API key was allowed with the PIN when it was made, for amounts that need no fresh one.
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
    // Not even looked at: who has a key, perhaps by a leak, must not be able to try PINs until they are locked.
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
  /** Settles, with true, where Kafka did not acknowledge the request; never where it did. */
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
      // Certain that it was not sent: the client may simply try again.
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
  // Nothing listens to this promise where the client does not wait for the outcome.
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

/** The request as long as nothing is known of its outcome. */
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
  // Anything else under this id answers another command.
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
  // The moment that was decided: of two requests at once the other's counts for both.
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

/** Answers with what the ledger decided: 201 with what moved or is held, the rejection, or 422 where the request is another. */
const answerDecided = async <View>(
  deps: RequestTransferDeps<View>,
  caller: string,
  facts: TransferFacts,
  fingerprint: Buffer | null,
  replayed: boolean,
): Promise<Answer<View>> => {
  if (!fingerprint || !facts.fingerprint.equals(fingerprint)) throw keyReused()
  const rejection = rejectionOf(facts)
  // A hold that ended was placed before.
  if (rejection && !facts.hold) {
    const { code, detail, ...members } = rejection
    throw rejectionProblem(facts.id, code, detail, replayed, members)
  }
  const [subject] = await openDecided(deps.personKeys, [facts])
  return { status: 201, transfer: await deps.view(deps.names, caller, subject!), replayed }
}

/** Nobody knows yet. The owner must be able to find it, so it is written down before anything is said. */
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
