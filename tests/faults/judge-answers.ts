// Judges answers: compares the answers that clients received with the outcomes that the ledger decided. Nothing here
// does I/O, so that a test can inject false answers.
import { isDeepStrictEqual } from 'node:util'
import { commandIdOf, transferIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Attempt, Content, Kind, Request } from './load.ts'
import type { Answer, Person } from './people.ts'

/** The outcome decided under an id: by the ledger, or by the provider if a payment has failed. */
export type Decided = {
  id: string
  type: string
  status: 'completed' | 'rejected'
  from: string | null
  to: string | null
  /** The amount moved or held, or the new limit; null if the outcome contains no amount. */
  amount: bigint | null
  code: string | null
  /** The hold that it ends, or the transfer that it reverses. */
  of?: string | null
  /** The amount reversed since. */
  reversed?: bigint
  /** The current status of a hold. */
  hold?: 'active' | 'captured' | 'voided' | 'expired' | null
}

type Owner = Pick<Person, 'userId' | 'walletId'>

/** Kinds whose id is a transfer id, with one key space per user. All other kinds except `open` are commands. */
const MONEY: readonly Kind[] = ['transfer', 'deposit', 'withdrawal', 'hold', 'reversal', 'capture']
/** For a refused command, the ledger's event contains only the refusal, not the command's content. */
const COMMANDS: readonly Kind[] = ['capture', 'void', 'freeze', 'unfreeze', 'limit', 'close']

/** The refusals that this load can cause; any other is an error of the system. */
const REFUSALS: Record<Kind, readonly string[]> = {
  transfer: ['INSUFFICIENT_BALANCE', 'REQUEST_EXPIRED', 'WALLET_FROZEN', 'PER_TRANSACTION_LIMIT_EXCEEDED'],
  deposit: ['PAYMENT_FAILED', 'REQUEST_EXPIRED'],
  withdrawal: ['INSUFFICIENT_BALANCE', 'REQUEST_EXPIRED', 'WALLET_FROZEN', 'PAYMENT_FAILED'],
  hold: ['INSUFFICIENT_BALANCE', 'REQUEST_EXPIRED', 'WALLET_FROZEN'],
  capture: ['HOLD_ENDED', 'HOLD_EXPIRED', 'HOLD_AMOUNT_EXCEEDED'],
  void: ['HOLD_ENDED'],
  reversal: ['INSUFFICIENT_BALANCE', 'REVERSAL_EXCEEDS_ORIGINAL'],
  freeze: ['WALLET_ALREADY_FROZEN'],
  unfreeze: ['WALLET_NOT_FROZEN'],
  limit: ['LIMIT_ABOVE_MAXIMUM'],
  open: ['WALLET_ALREADY_EXISTS'],
  close: ['WALLET_HAS_BALANCE', 'WALLET_ALREADY_CLOSED'],
}

/** The id under which a request is decided. An opened wallet has its own id, independent of the key. */
export const idOf = (people: Owner[], { kind, from, key }: Request) =>
  (MONEY.includes(kind) ? transferIdOf : commandIdOf)(people[from]!.userId, key)

const isReuse = (answer: Answer) => answer.status === 422 && answer.body?.code === 'IDEMPOTENCY_KEY_REUSED'

/**
 * Answered as completed, refused for good, or pending: from then on the request must have an outcome. An answer that
 * the key is reused does not imply an outcome of the key's first request, which may only have claimed the key.
 */
export const isAccepted = ({ answer }: Attempt) =>
  answer !== 'lost' && answer.status < 500 && !isReuse(answer)

const isContent = (people: Owner[], request: Request, content: Content, decided: Decided): boolean => {
  const { kind } = request
  if (decided.type !== kind) return false
  if (COMMANDS.includes(kind) && decided.status === 'rejected') return true
  const own = people[request.from]!.walletId
  const amount = decided.amount === content.minor
  switch (kind) {
    case 'transfer':
    case 'hold':
      return amount && decided.to === people[content.to]!.walletId && decided.from === own
    case 'deposit':
      return amount && decided.to === own
    case 'withdrawal':
      return amount && decided.from === own
    case 'capture':
      return decided.of === content.of && decided.to === own && (amount || content.minor === null)
    case 'reversal':
      return decided.of === content.of && (amount || content.minor === null)
    case 'void':
      return decided.of === content.of
    case 'limit':
      return amount && decided.to === own
    case 'close':
      return decided.to === content.walletId
    default:
      return decided.to === own
  }
}

const DONE: Partial<Record<Kind, number>> = { void: 200, freeze: 200, unfreeze: 200, limit: 200, close: 200 }

/** Whether the body of a success answer matches the outcome. */
const isBodyOf = (kind: Kind, { content, answer }: Attempt, decided: Decided): boolean => {
  const { body } = answer as Answer
  const isAmount = decided.amount !== null && body.amount === formatAmount(decided.amount, 'USD')
  // A repeat returns the status at that time.
  const isMoved =
    isAmount &&
    body.final === true &&
    (body.status === 'completed' || (body.status === 'reversed' && decided.reversed === decided.amount))
  switch (kind) {
    case 'hold':
      return body.id === decided.id && isAmount && ['active', decided.hold].includes(body.status)
    case 'capture':
      return body.id === decided.of && isMoved
    case 'reversal':
      return body.id === decided.id && body.originalId === decided.of && isMoved
    case 'void':
      return body.id === content.of && body.status === 'voided'
    case 'limit':
      return body.walletId === decided.to
    case 'freeze':
    case 'unfreeze':
      return body.id === decided.to
    case 'close':
      return body.id === decided.to && body.status === 'closed'
    default:
      return body.id === decided.id && isMoved
  }
}

/** Describes the error in one answer, given the outcome; undefined if the answer is true. */
const lieOf = (people: Owner[], request: Request, attempt: Attempt, decided: Decided): string | undefined => {
  const { content, answer } = attempt
  const { kind } = request
  if (answer === 'lost' || answer.status >= 500) return undefined
  const { status, body } = answer
  const same = isContent(people, request, content, decided)
  const told = `${status} ${body?.code ?? body?.status}`
  if (isReuse(answer)) return same ? `${told}, but the key holds this very content` : undefined
  if (status === 202)
    return body.id === decided.id && body.status === 'pending' ? undefined : `${told} of another transfer`
  if (!same) return `${told}, but the key holds other content`
  if (status === (DONE[kind] ?? 201)) {
    if (decided.status !== 'completed') return `${told}, but it was ${decided.status}`
    return isBodyOf(kind, attempt, decided)
      ? undefined
      : `${told} with another content: ${JSON.stringify(body)}`
  }
  if (!REFUSALS[kind].includes(body?.code)) return `answered ${told}, which nothing here should bring about`
  if (decided.status !== 'rejected' || decided.code !== body.code)
    return `${told}, but it was ${decided.status} ${decided.code ?? ''}`
  // The refusal of a limit depends on the staff's settings, so it is not final.
  return body.final === true || kind === 'limit' ? undefined : `${told}, but not as final`
}

/** Checks that the wallet in an answer exists and belongs to the client: `wallets` contains `user/wallet`. */
const lieOfOpening = (
  people: Owner[],
  { from }: Request,
  { answer }: Attempt,
  wallets: ReadonlySet<string>,
): string | undefined => {
  if (answer === 'lost' || answer.status >= 500) return undefined
  const { status, body } = answer
  if (status !== 201 && !REFUSALS.open.includes(body?.code))
    return `answered ${status} ${body?.code}, which nothing here should bring about`
  const id = status === 201 ? body.id : body.walletId
  return wallets.has(`${people[from]!.userId}/${id}`)
    ? undefined
    : `${status} of wallet ${id}, which is not there`
}

/** The body without the fields that a later reversal changes. */
const withoutReversals = ({ status: _, reversedAmount: __, ...body }: Answer['body']) => body

/** Describes the error in the answer to a look-up by key, given the outcome (undefined: not decided yet). */
export const lieOfKey = (
  { kind, attempts }: Request,
  { status, body }: Answer,
  decided: Decided | undefined,
): string | undefined => {
  if (!decided) {
    const unknown = status === 404 || (status === 200 && body.final === false)
    return unknown ? undefined : `undecided, but by its key ${status} ${body?.status}`
  }
  const expected: string[] =
    kind === 'hold' && decided.status === 'completed'
      ? [decided.hold === 'captured' ? 'completed' : decided.hold === 'active' ? 'pending' : 'rejected']
      : [decided.status]
  // A transfer may be reversed in full before or after this answer.
  if (expected[0] === 'completed' && (decided.reversed ?? 0n) > 0n) expected.push('reversed')
  if (status !== 200 || !expected.includes(body.status))
    return `by its key ${status} ${body?.status}, but it was ${decided.status}`
  if (kind === 'hold' || kind === 'reversal') return undefined
  for (const { answer } of attempts)
    if (
      answer !== 'lost' &&
      answer.status === 201 &&
      !isDeepStrictEqual(withoutReversals(answer.body), withoutReversals(body))
    )
      return `answered 201 with ${JSON.stringify(answer.body)}, by its key ${JSON.stringify(body)}`
  return undefined
}

const indexOf = (people: Owner[], walletId: string | null) =>
  people.findIndex(each => each.walletId === walletId && walletId !== null)

/** Compares every answer with the outcome. Adds the moved amounts to `balances`, by person. */
export const judgeAnswers = (
  people: Owner[],
  requests: Request[],
  decided: ReadonlyMap<string, Decided>,
  balances: bigint[],
  wallets: ReadonlySet<string> = new Set(),
): string[] => {
  const violations: string[] = []
  const book = (walletId: string | null, amount: bigint) => {
    const index = indexOf(people, walletId)
    if (index >= 0) balances[index]! += amount
  }
  for (const request of requests) {
    const id = idOf(people, request)
    const tell = (lie: string | undefined) => {
      if (lie) violations.push(`${id} (${request.kind}): ${lie}`)
    }
    if (request.kind === 'open') {
      for (const each of request.attempts) tell(lieOfOpening(people, request, each, wallets))
      continue
    }
    const outcome = decided.get(id)
    if (!outcome) {
      tell('no outcome at the end')
      continue
    }
    for (const each of request.attempts) tell(lieOf(people, request, each, outcome))
    if (!request.attempts.some(({ content }) => isContent(people, request, content, outcome)))
      tell('decided with a content that nobody asked for')
    const { status, from, to, amount, reversed } = outcome
    if (status !== 'completed' || !MONEY.includes(request.kind) || request.kind === 'hold') continue
    book(from, -amount!)
    book(to, amount!)
    // A returned payout. A reversal by staff is a separate request.
    if (request.kind === 'withdrawal') book(from, reversed ?? 0n)
  }
  return violations
}

/** The API's balance must equal the sum of the outcomes, and the unavailable part the sum of the active holds. */
export const lieOfBalance = (
  walletId: string,
  { status, body }: Answer,
  minor: bigint,
  promised = 0n,
): string | undefined => {
  const expected = formatAmount(minor, 'USD')
  if (body?.balance !== expected)
    return `wallet ${walletId} holds ${body?.balance} (${status}), by the outcomes ${expected}`
  const available = formatAmount(minor - promised, 'USD')
  return body.available === available
    ? undefined
    : `of wallet ${walletId} ${body.available} is available, by its holds ${available}`
}
