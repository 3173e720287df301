import { referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Names, PersonName } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { HoldFacts, PartyFacts, TransferFacts } from '../ledger/sql/ledger-reads.ts'

export type Metadata = Record<string, unknown>

/** The reason for a rejection; if it is a limit, with the limit and its used amount. */
export type Rejection = { code: string; detail: string; limit?: string; used?: string; requested?: string }

/** A transfer before it is shown to a caller; pending ones are undecided, others have their outcome. */
export type TransferSubject = {
  id: string
  type: string
  status: 'pending' | 'completed' | 'rejected'
  userId: string
  from: PartyFacts | null
  to: PartyFacts | null
  amount: bigint
  currency: string
  note: string | null
  metadata: Metadata | null
  requestedAt: Date
  decidedAt: Date | null
  rejection: Rejection | null
  /** For a reversal: the transfer that it reverses. */
  originalId?: string | null
  /** For a transfer booked with another: that other transfer. */
  linkedTo?: string | null
  /** The reversed amount; none if missing. */
  reversed?: bigint
  /** The part of `reversed` that is in a suspense wallet, not in the payer's. */
  suspended?: bigint
  /** The hold of the transfer in the ledger, active or ended. */
  hold?: HoldFacts | null
  /** The source of a deposit or the destination of a withdrawal, as the user gave it. */
  method?: string | null
}

/** A transfer as the API shows it to one of its parties. */
export type TransferView = {
  id: string
  reference: string
  type: string
  status: 'pending' | 'in_suspense' | 'completed' | 'rejected' | 'reversed'
  from: PartyView | null
  to: PartyView | null
  source: string | null
  destination: string | null
  amount: string
  currency: string
  note: string | null
  metadata: Metadata | null
  requestedAt: string
  completedAt: string | null
  rejection: Rejection | null
  final: boolean
  reversedAmount: string
  originalId: string | null
  linkedTo: string | null
  balanceAfter: string | null
}

/** A hold as the API shows it to one of its parties. */
export type HoldView = {
  id: string
  status: 'pending' | 'rejected' | HoldFacts['status']
  from: PartyView | null
  to: PartyView | null
  amount: string
  captured: string
  currency: string
  note: string | null
  metadata: Metadata | null
  createdAt: string
  expiresAt: string | null
  endedAt: string | null
  rejection: Rejection | null
}
export type PartyView = { walletId: string; walletCode: string; name: string }

/** Further members of a refusal by a limit: the limit, its used amount and the requested amount. */
export const limitMembers = (
  breach: { limit: bigint | null; used: bigint | null },
  requested: bigint,
  currency: string,
): { limit?: string; used?: string; requested?: string } =>
  breach.limit === null
    ? {}
    : {
        limit: formatAmount(breach.limit, currency),
        used: formatAmount(breach.used ?? 0n, currency),
        requested: formatAmount(requested, currency),
      }

/** A party for a caller. The outside world and suspense wallets are null: clients cannot address them. */
const partyOf = (
  party: PartyFacts | null,
  caller: string,
  names: Map<string, PersonName>,
): PartyView | null => {
  if (!party || party.userId === null || party.code === null) return null
  const name = names.get(party.userId)
  const shown = party.userId === caller ? name?.fullName : name?.masked
  return { walletId: party.walletId, walletCode: party.code, name: shown ?? '' }
}

const namesOfParties = (names: Pick<Names, 'namesOf'>, { from, to }: TransferSubject) =>
  names.namesOf([from?.userId, to?.userId].filter(id => id !== null && id !== undefined))

/** The encryption purpose of a deposit's source and a withdrawal's destination. */
export const METHOD_PURPOSE = 'payment-method'

/** The source of a deposit whose request names none. */
export const DEFAULT_SOURCE = 'default'

/** Maximum number of characters that a mask leaves; of a short text it leaves a third. */
const UNMASKED = 4
const HIDDEN = '•'

/**
 * An account, card or other text of a user, recognisable only for who knows it: its last characters. White space and
 * punctuation stay, so that an IBAN is seen to be one.
 */
export const maskMethod = (text: string): string => {
  const letters = [...text]
  const isHideable = (letter: string) => !/[\s\p{P}]/u.test(letter)
  const count = letters.filter(isHideable).length
  let left = count - Math.min(UNMASKED, Math.floor(count / 3))
  return letters.map(letter => (isHideable(letter) && left-- > 0 ? HIDDEN : letter)).join('')
}

type Standing = Pick<
  TransferSubject,
  'status' | 'from' | 'to' | 'amount' | 'reversed' | 'suspended' | 'linkedTo'
>

/**
 * Whether money that no user's wallet could take waits for a person: a deposit that moved no user's wallet, or a
 * returned payout. A transfer booked with another may move system wallets alone, and does not wait.
 */
const isInSuspense = ({ status, from, to, suspended = 0n, linkedTo = null }: Standing): boolean => {
  const ofNobody = [from, to].every(party => (party?.userId ?? null) === null)
  return status === 'completed' && (suspended > 0n || (ofNobody && linkedTo === null))
}

const reversedOf = ({ reversed = 0n, suspended = 0n }: Standing): bigint => reversed - suspended

/** How a transfer stands, by its facts. */
export const statusOf = (subject: Standing): TransferView['status'] =>
  reversedOf(subject) === subject.amount ? 'reversed' : isInSuspense(subject) ? 'in_suspense' : subject.status

/**
 * A transfer for one of its parties: both sides and the amount, but only the caller's own balance. The same facts give
 * the same view, whether they arrive with the event or are read years later.
 */
export const viewTransfer = async (
  names: Pick<Names, 'namesOf'>,
  caller: string,
  subject: TransferSubject,
): Promise<TransferView> => {
  const { from, to, currency } = subject
  const status = isInSuspense(subject) ? 'in_suspense' : subject.status
  const known = await namesOfParties(names, subject)
  const own = [from, to].find(party => party?.userId === caller && party.balanceAfter !== null)
  const masked = subject.method == null ? null : maskMethod(subject.method)
  return {
    id: subject.id,
    reference: referenceOf(subject.id),
    type: subject.type,
    status: statusOf(subject),
    from: partyOf(from, caller, known),
    to: partyOf(to, caller, known),
    source: subject.type === 'deposit' && subject.method !== DEFAULT_SOURCE ? masked : null,
    destination: subject.type === 'withdrawal' ? masked : null,
    amount: formatAmount(subject.amount, currency),
    currency,
    note: subject.note,
    metadata: subject.metadata,
    requestedAt: subject.requestedAt.toISOString(),
    completedAt: status === 'completed' ? (subject.decidedAt?.toISOString() ?? null) : null,
    rejection: subject.rejection,
    final: status !== 'pending' && status !== 'in_suspense',
    reversedAmount: formatAmount(reversedOf(subject), currency),
    originalId: subject.originalId ?? null,
    linkedTo: subject.linkedTo ?? null,
    balanceAfter: own?.balanceAfter == null ? null : formatAmount(own.balanceAfter, currency),
  }
}

/** A hold, or a request for one, for one of its parties. The same facts give the same view here, too. */
export const viewHold = async (
  names: Pick<Names, 'namesOf'>,
  caller: string,
  subject: TransferSubject,
): Promise<HoldView> => {
  const { from, to, currency, status, hold, rejection } = subject
  const known = await namesOfParties(names, subject)
  return {
    id: subject.id,
    status: hold?.status ?? (status === 'rejected' ? 'rejected' : 'pending'),
    from: partyOf(from, caller, known),
    to: partyOf(to, caller, known),
    amount: formatAmount(hold?.amount ?? subject.amount, currency),
    captured: formatAmount(hold?.captured ?? 0n, currency),
    currency,
    note: subject.note,
    metadata: subject.metadata,
    createdAt: subject.requestedAt.toISOString(),
    expiresAt: hold?.until?.toISOString() ?? null,
    endedAt: hold?.endedAt?.toISOString() ?? null,
    // Only for a refused request: the status states how a hold ended.
    rejection: hold ? null : rejection,
  }
}

/** Decrypts the requester's texts, stored only as ciphertext; null if the person's key is destroyed. */
export const openTexts = async (
  keys: Pick<PersonKeys, 'decryptAll'>,
  sealed: Array<{ userId: string; note: Buffer | null; metadata: Buffer | null }>,
): Promise<Array<{ note: string | null; metadata: Metadata | null }>> => {
  const texts = sealed.flatMap(({ userId, note, metadata }) => [
    ...(note ? [{ userId, cipher: note, purpose: 'note' }] : []),
    ...(metadata ? [{ userId, cipher: metadata, purpose: 'metadata' }] : []),
  ])
  const plain = texts.length > 0 ? await keys.decryptAll(texts) : []
  let next = 0
  return sealed.map(({ note, metadata }) => ({
    note: note ? plain[next++]! : null,
    metadata: metadata ? (JSON.parse(plain[next++] ?? 'null') as Metadata | null) : null,
  }))
}

/** Decided transfers with their texts, decrypted with one lookup for all keys. */
export const openDecided = async (
  keys: Pick<PersonKeys, 'decryptAll'>,
  decided: TransferFacts[],
): Promise<TransferSubject[]> => {
  const texts = await openTexts(keys, decided)
  return decided.map((facts, index) => ({ ...facts, ...texts[index]!, rejection: rejectionOf(facts) }))
}

/** The reason of the ledger's rejection; null without one. */
export const rejectionOf = (facts: TransferFacts): Rejection | null => {
  const { rejectionCode: code, rejectionDetail, rejectionLimit: limit, rejectionUsed: used } = facts
  if (code === null) return null
  return {
    code,
    detail: rejectionDetail ?? '',
    ...limitMembers({ limit, used }, facts.amount, facts.currency),
  }
}

/** A deposit's source or a withdrawal's destination, as ciphertext of its user. */
export type SealedMethod = { id: string; userId: string; method: Buffer }

/** Deposits and withdrawals with their source or destination, decrypted with one lookup for all keys. */
export const openMethods = async (
  deps: {
    personKeys: Pick<PersonKeys, 'decryptAll'>
    readMethods: (paymentIds: string[]) => Promise<SealedMethod[]>
  },
  subjects: TransferSubject[],
): Promise<TransferSubject[]> => {
  const ids = subjects.filter(({ type }) => type === 'deposit' || type === 'withdrawal').map(({ id }) => id)
  const sealed = ids.length > 0 ? await deps.readMethods(ids) : []
  if (sealed.length === 0) return subjects
  const opened = await deps.personKeys.decryptAll(
    sealed.map(({ userId, method }) => ({ userId, cipher: method, purpose: METHOD_PURPOSE })),
  )
  const methods = new Map(sealed.map(({ id }, index) => [id, opened[index] ?? null]))
  return subjects.map(subject => ({ ...subject, method: methods.get(subject.id) ?? null }))
}
