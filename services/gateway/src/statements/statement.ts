import { referenceOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import { type BrokenRule, validationProblem } from '../problems/problem.ts'
import { openTexts } from '../transfers/transfer-view.ts'
import type { Period, StatementEntry } from './sql/statement-reads.ts'

/** One line of a statement, as its reader sees it. */
export type StatementLine = {
  at: Date
  reference: string
  type: string
  /** The other side's masked name and wallet code; empty for the outside world. */
  counterparty: string
  counterpartyCode: string
  amount: string
  balance: string
  /** The note of the user who sent the money, or of the staff member who gave it back. */
  note: string
}

export type Statement = Pick<Period, 'code' | 'currency' | 'from' | 'to' | 'now'> & {
  ownerName: string
  /** The number of lines. */
  count: number
  opening: string
  sumIn: string
  sumOut: string
  closing: string
}

export type StatementDeps = {
  names: Pick<Names, 'namesOf'>
  personKeys: Pick<PersonKeys, 'decryptAll'>
  readEntries: (
    userId: string,
    walletId: string,
    above: bigint,
    last: bigint,
    limit: number,
  ) => Promise<StatementEntry[]>
}

const DAY_MS = 86_400_000
/** How much earlier than in UTC a day begins in the east (Kiribati). */
const EAST_MS = 14 * 3_600_000
const MOST_DAYS = 366
/** More entries than this require a CSV: people do not read more pages, and their layout costs CPU. */
export const PDF_MOST_ENTRIES = 1_000
/** Entries read at a time: a statement of any length needs no more memory than this many. */
const PAGE = 500

/** Throws 422 if a period is reversed or longer than a leap year. */
export const checkPeriod = (from: string, to: string): void => {
  const broken: BrokenRule[] = []
  const days = (Date.parse(to) - Date.parse(from)) / DAY_MS + 1
  if (days < 1) broken.push({ field: 'from', rule: 'must not be after to' })
  if (days > MOST_DAYS) broken.push({ field: 'to', rule: `must be less than ${MOST_DAYS} days after from` })
  if (broken.length > 0) throw validationProblem(broken)
}

const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10)

/**
 * The last day of a statement: `to`, or today in UTC if `to` is later, so that a running month can be requested. Throws
 * 422 if `from` has begun nowhere on earth; if it has begun in the east, but not in UTC, the statement is that of a day
 * without entries yet.
 */
export const lastDayOf = (from: string, to: string, now: Date): string => {
  const today = dayOf(now.getTime())
  if (from > dayOf(now.getTime() + EAST_MS)) {
    throw validationProblem([{ field: 'from', rule: `must not be in the future (it is ${today} in UTC)` }])
  }
  return from > today || to < today ? to : today
}

/** The totals above and below the lines. */
export const summarise = (period: Period, ownerName: string): Statement => {
  const { code, currency, from, to, now, openingSequence, closingSequence } = period
  return {
    ...{ code, currency, from, to, now, ownerName },
    count: Number(closingSequence - openingSequence),
    opening: formatAmount(period.opening, currency),
    sumIn: formatAmount(period.sumIn, currency),
    sumOut: formatAmount(period.sumOut, currency),
    closing: formatAmount(period.closing, currency),
  }
}

/** The lines of a period in pages, oldest first, read on demand. */
export async function* linesOf(deps: StatementDeps, period: Period): AsyncGenerator<StatementLine[]> {
  const { walletId, userId, currency, closingSequence } = period
  let above = period.openingSequence
  while (above < closingSequence) {
    const entries = await deps.readEntries(userId, walletId, above, closingSequence, PAGE)
    if (entries.length === 0) throw new Error(`wallet ${walletId} has no entry after ${above}`)
    above = entries.at(-1)!.sequence
    const names = await deps.names.namesOf(entries.flatMap(entry => entry.counterpartyUser ?? []))
    const texts = await openTexts(
      deps.personKeys,
      entries.map(({ requester, note }) => ({ userId: requester, note, metadata: null })),
    )
    yield entries.map((entry, index) => ({
      at: entry.createdAt,
      reference: referenceOf(entry.transferId),
      type: entry.type,
      counterparty: entry.counterpartyUser === null ? '' : (names.get(entry.counterpartyUser)?.masked ?? ''),
      counterpartyCode: entry.counterpartyUser === null ? '' : (entry.counterpartyCode ?? ''),
      amount: formatAmount(entry.amount, currency),
      balance: formatAmount(entry.balanceAfter, currency),
      note: texts[index]!.note ?? '',
    }))
  }
}
