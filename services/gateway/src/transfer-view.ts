import { referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Names, PersonName } from './identity/names.ts'
import type { PersonKeys } from './identity/person-keys.ts'
import type { PartyFacts, TransferFacts } from './sql/ledger-reads.ts'

export type Metadata = Record<string, unknown>

/** What a transfer consists of before anybody looks at it; pending ones are not decided, others have their outcome. */
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
  rejection: { code: string; detail: string } | null
}

/** A transfer as the API shows it to one of its parties. */
export type TransferView = {
  id: string
  reference: string
  type: string
  status: 'pending' | 'completed' | 'rejected'
  from: PartyView | null
  to: PartyView | null
  amount: string
  currency: string
  note: string | null
  metadata: Metadata | null
  requestedAt: string
  completedAt: string | null
  rejection: { code: string; detail: string } | null
  final: boolean
  reversedAmount: string
  balanceAfter: string | null
}
export type PartyView = { walletId: string; walletCode: string; name: string }

/** The outside world and suspense are nobody that a client could name: null. */
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

/**
 * A transfer for one of its parties: both sides and the amount, but only the caller's own balance. The same facts
 * give the same view, whether they came with the event or are read years later.
 */
export const viewTransfer = async (
  names: Pick<Names, 'namesOf'>,
  caller: string,
  subject: TransferSubject,
): Promise<TransferView> => {
  const { from, to, currency, status } = subject
  const known = await names.namesOf([from?.userId, to?.userId].filter(id => id !== null && id !== undefined))
  const own = [from, to].find(party => party?.userId === caller && party.balanceAfter !== null)
  return {
    id: subject.id,
    reference: referenceOf(subject.id),
    type: subject.type,
    status,
    from: partyOf(from, caller, known),
    to: partyOf(to, caller, known),
    amount: formatAmount(subject.amount, currency),
    currency,
    note: subject.note,
    metadata: subject.metadata,
    requestedAt: subject.requestedAt.toISOString(),
    completedAt: status === 'completed' ? (subject.decidedAt?.toISOString() ?? null) : null,
    rejection: subject.rejection,
    final: status !== 'pending',
    reversedAmount: formatAmount(0n, currency),
    balanceAfter: own?.balanceAfter == null ? null : formatAmount(own.balanceAfter, currency),
  }
}

/** Reads what the requester wrote, which is stored only as ciphertext; null where the person's key is destroyed. */
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

/** Decided transfers for one of their parties, their texts opened with one look for all keys. */
export const viewDecided = async (
  parts: { names: Pick<Names, 'namesOf'>; personKeys: Pick<PersonKeys, 'decryptAll'> },
  caller: string,
  decided: TransferFacts[],
): Promise<TransferView[]> => {
  const texts = await openTexts(parts.personKeys, decided)
  return Promise.all(
    decided.map((facts, index) =>
      viewTransfer(parts.names, caller, {
        ...facts,
        ...texts[index]!,
        rejection:
          facts.rejectionCode === null
            ? null
            : { code: facts.rejectionCode, detail: facts.rejectionDetail ?? '' },
      }),
    ),
  )
}
