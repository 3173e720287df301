import { z } from 'zod'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type {
  Period,
  Posted,
  RequestBrief,
  RequestPlace,
  TransferFacts,
  TransferFilter,
  WalletFacts,
} from '../ledger/sql/ledger-reads.ts'
import { ProblemError, validationProblem } from '../problems/problem.ts'
import { openRequests, type PaymentFound } from './find-transfer.ts'
import type { PendingRequest } from './sql/pending-requests.ts'
import {
  openDecided,
  openMethods,
  type SealedMethod,
  statusOf,
  type TransferSubject,
  viewTransfer,
} from './transfer-view.ts'

/** Which of a user's transfers to list. */
export type ListQuery = TransferFilter &
  Period & {
    /** One of the user's own wallets. */
    walletId: string | null
    currency: string | null
  }

type ReadRequests<Row> = (
  userId: string,
  before: RequestPlace,
  since: Date | null,
  limit: number,
) => Promise<Row[]>

export type ListTransfersDeps = {
  names: Names
  personKeys: PersonKeys
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  readPosted: (
    wallets: Array<{ id: string; before: bigint }>,
    filter: TransferFilter,
    period: Period,
    limit: number,
    scan: number,
  ) => Promise<Posted[]>
  readRejected: ReadRequests<RequestBrief>
  /** Requests for transfers that were answered as pending, decided or not. */
  readRequestsOf: ReadRequests<PendingRequest>
  /** Those of the ids under which `readRequestsOf` reads a request. */
  readRequestIds: (ids: string[]) => Promise<string[]>
  /** Deposits and withdrawals, however they stand. */
  readPaymentsOf: ReadRequests<PaymentFound>
  readMethods: (paymentIds: string[]) => Promise<SealedMethod[]>
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  readWallets: (ids: string[]) => Promise<WalletFacts[]>
  /** Rows read for one page with a filter: of all wallets together, and of each table of requests. */
  mostRead: { entries: number; requests: number }
}

const LAST_MOMENT = new Date('9999-12-31T00:00:00Z')
const [FIRST_ID, LAST_ID] = ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff']
const LAST_PLACE: RequestPlace = { requestedAt: LAST_MOMENT, id: LAST_ID }

/**
 * The position after a page. Of each wallet: how many entries it had when the list was begun, and the sequence below
 * which the next page reads; of requests, the place below which it reads.
 */
type Cursor = { wallets: Map<string, { count: bigint; before: bigint }>; request: RequestPlace }

/**
 * A prefix of a wallet's id, which is a hash: enough to distinguish one user's wallets, because hundreds of whole ids
 * do not fit into a URL.
 */
const shortOf = (walletId: string): string => walletId.replaceAll('-', '').slice(0, 12)

/** The form of the cursor. A cursor of another form is refused: read as this one, it would miss transfers. */
const FORM = '2'
const WALLET = /^([0-9a-f]{12})([0-9a-z]{1,10})-([0-9a-z]{1,10})$/
const REQUEST = /^([0-9a-z]{1,10})-(.{36})$/

const writeCursor = ({ wallets, request }: Cursor): string =>
  [
    FORM,
    `${request.requestedAt.getTime().toString(36)}-${request.id}`,
    ...[...wallets].map(
      ([short, { count, before }]) => `${short}${count.toString(36)}-${before.toString(36)}`,
    ),
  ].join('_')

const readCursor = (text: string): Cursor => {
  const refuse = (): never => {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
  const [form, request = '', ...places] = text.split('_')
  if (form !== FORM) refuse()
  const read = (digits: string | undefined) => BigInt(Number.parseInt(digits!, 36))
  const wallets = places.map(place => {
    const [, short, count, before] = WALLET.exec(place) ?? refuse()
    return [short!, { count: read(count), before: read(before) }] as const
  })
  const [, ms, id] = REQUEST.exec(request) ?? refuse()
  const requestedMs = Number.parseInt(ms!, 36)
  if (requestedMs > LAST_MOMENT.getTime() || !z.uuid().safeParse(id).success) refuse()
  return { wallets: new Map(wallets), request: { requestedAt: new Date(requestedMs), id: id! } }
}

/** The beginning of a list. A wallet without entries may be missing: what is posted to it later is new. */
const begin = (wallets: WalletFacts[]): Cursor => ({
  wallets: new Map(
    wallets
      .filter(({ sequence }) => sequence > 0n)
      .map(({ id, sequence }) => [shortOf(id), { count: sequence, before: sequence + 1n }]),
  ),
  request: LAST_PLACE,
})

/** A transfer on a page: an entry's, decided, or still a request or a payment. */
type Item = { transferId: string } | RequestItem
type RequestItem = { facts: TransferFacts } | { request: PendingRequest } | { payment: PaymentFound }

/** One step of reading: past a row, which is on the page or is skipped. */
type Step = { at: Date; pass: (cursor: Cursor) => void; item: Item | null; isBound: boolean }

const isBelow = (a: RequestPlace, b: RequestPlace) =>
  a.requestedAt < b.requestedAt || (a.requestedAt.getTime() === b.requestedAt.getTime() && a.id < b.id)

/**
 * A user's transfers, newest first: the entries of the user's wallets in the order of each wallet's sequence, merged
 * with requests (pending, refused) in the order of their places. The cursor contains a position in each of these lists
 * and the number of entries that each wallet had at the beginning. A request that is completed meanwhile stays in its
 * place, and its entry is above that number: pages neither repeat nor miss a transfer, no matter what is decided
 * between them. With a filter a page reads a bounded number of rows, and may end before it is full.
 */
export const createListSubjects =
  (deps: ListTransfersDeps) =>
  async (
    userId: string,
    query: ListQuery,
    cursorText: string | undefined,
    limit: number,
  ): Promise<{ subjects: TransferSubject[]; nextCursor: string | null }> => {
    const given = cursorText === undefined ? undefined : readCursor(cursorText)
    const all = await deps.readWalletsOf(userId)
    const wallets = all.filter(
      ({ id, currency }) => [null, id].includes(query.walletId) && [null, currency].includes(query.currency),
    )
    if (query.walletId !== null && !all.some(({ id }) => id === query.walletId)) {
      throw new ProblemError('WALLET_NOT_FOUND', 'walletId: you have no such wallet')
    }
    const cursor = given ?? begin(wallets)

    const [requests, ...entries] = await Promise.all([
      readRequests(deps, userId, all, query, cursor, limit),
      readEntries(deps, wallets, query, cursor, limit),
    ])
    const lists = [requests, ...entries.flat()]
    const items: Item[] = []
    const next: Cursor = { wallets: new Map(cursor.wallets), request: cursor.request }
    let isBound = false
    while (items.length < limit && !isBound) {
      const heads = lists.filter(list => list.length > 0)
      if (heads.length === 0) break
      const step = heads.reduce((a, b) => (b[0]!.at > a[0]!.at ? b : a)).shift()!
      step.pass(next)
      if (step.item) items.push(step.item)
      isBound = step.isBound
    }
    const hasMore = isBound || lists.some(list => list.some(step => step.item || step.isBound))
    return {
      subjects: await openItems(deps, wallets, items),
      nextCursor: hasMore ? writeCursor(next) : null,
    }
  }

/** The same, as the user sees them. */
export const createListTransfers = (deps: ListTransfersDeps) => {
  const listSubjects = createListSubjects(deps)
  return async (...[userId, query, cursor, limit]: Parameters<typeof listSubjects>) => {
    const { subjects, nextCursor } = await listSubjects(userId, query, cursor, limit)
    const told = await openMethods(deps, subjects)
    const items = await Promise.all(told.map(subject => viewTransfer(deps.names, userId, subject)))
    return { items, nextCursor }
  }
}

const wantsOneOf = (query: ListQuery, ...statuses: Array<TransferFilter['status']>) =>
  query.status === null || statuses.includes(query.status)

/** Whether a filter may skip rows: then more of them are read. */
const skips = ({ type, status, direction, walletId, currency, counterpartyId, ...amounts }: ListQuery) =>
  [type, status, direction, walletId, currency, counterpartyId, amounts.minAmount, amounts.maxAmount].some(
    wanted => wanted !== null,
  )

/** Steps through each wallet's entries. */
const readEntries = async (
  deps: ListTransfersDeps,
  wallets: WalletFacts[],
  query: ListQuery,
  cursor: Cursor,
  limit: number,
): Promise<Step[][]> => {
  const places = wallets.flatMap(({ id }) => {
    const place = cursor.wallets.get(shortOf(id))
    return place && place.before > 1n ? [{ id, before: place.before }] : []
  })
  if (places.length === 0 || !wantsOneOf(query, 'completed', 'reversed', 'in_suspense')) return []
  const scan = Math.max(limit + 1, Math.floor(deps.mostRead.entries / places.length))
  const posted = await deps.readPosted(places, query, query, limit + 1, scan)
  return places.map(({ id }) =>
    posted
      .filter(({ walletId }) => walletId === id)
      .map(({ transferId, decidedAt, sequence, matches, isBound }) => ({
        at: decidedAt,
        pass: ({ wallets }) => {
          wallets.set(shortOf(id), { ...wallets.get(shortOf(id))!, before: sequence })
        },
        item: matches ? { transferId } : null,
        isBound,
      })),
  )
}

type RequestRow = RequestBrief & { request?: PendingRequest; payment?: PaymentFound }

/** Steps through what a user requested: answered as pending, brought in or paid out, or rejected by the ledger. */
const readRequests = async (
  deps: ListTransfersDeps,
  userId: string,
  wallets: WalletFacts[],
  query: ListQuery,
  cursor: Cursor,
  limit: number,
): Promise<Step[]> => {
  if (!wantsOneOf(query, 'pending', 'in_suspense', 'rejected')) return []
  const until: RequestPlace = { requestedAt: query.until ?? LAST_MOMENT, id: FIRST_ID }
  const before = query.until !== null && isBelow(until, cursor.request) ? until : cursor.request
  // Twice a page: of the requests that are completed, the entries are listed.
  const most = skips(query) ? deps.mostRead.requests : 2 * (limit + 1)
  // Read before the ledger's decisions: a decision that is not found below has not been made before.
  const [requests, payments] = await Promise.all([
    deps.readRequestsOf(userId, before, query.since, most),
    deps.readPaymentsOf(userId, before, query.since, most),
  ])
  const rejected = wantsOneOf(query, 'rejected')
    ? await deps.readRejected(userId, before, query.since, most)
    : []
  const stored: RequestRow[] = [
    ...requests.map(request => ({ ...request, id: request.transferId, request })),
    ...payments.map(payment => ({ ...briefOfPayment(payment), payment })),
  ]
  const places = new Map(stored.map(({ id, requestedAt }) => [id, requestedAt.getTime()]))
  const elsewhere = rejected.filter(({ id, requestedAt }) => places.get(id) !== requestedAt.getTime())
  // A request that was sent again may be decided as of a later time: it keeps the place that it had.
  const placed = new Set(elsewhere.length > 0 ? await deps.readRequestIds(elsewhere.map(({ id }) => id)) : [])
  const rows = [...stored, ...elsewhere].sort((a, b) => (isBelow(a, b) ? 1 : -1)).slice(0, most)
  const isCut = [requests, payments, rejected, rows].some(list => list.length === most)

  const isElsewhere = (row: RequestRow) => !row.request && placed.has(row.id)
  const wanted = new Set(rows.filter(row => !isElsewhere(row) && isWanted(row, wallets, query)))
  const facts = wanted.size > 0 ? await deps.readTransfers([...wanted].map(({ id }) => id)) : []
  const decided = new Map(facts.map(facts => [facts.id, facts]))
  const itemOf = (row: RequestRow): RequestItem | null => {
    const facts = decided.get(row.id)
    if (facts) return isListedAsEntry(facts, wallets, cursor) ? null : { facts }
    const { request, payment } = row
    if (request) return request.isOpen ? { request } : null
    // A payment that is done and not here is booked under another id, as a transfer of its own.
    return payment && (payment.failed || !payment.done) ? { payment } : null
  }
  const statusOfRequest = (item: RequestItem) =>
    'facts' in item ? statusOf(item.facts) : 'payment' in item && item.payment.failed ? 'rejected' : 'pending'
  return rows.map((row, index) => {
    const item = wanted.has(row) ? itemOf(row) : null
    return {
      at: row.requestedAt,
      pass: cursor => {
        cursor.request = { requestedAt: row.requestedAt, id: row.id }
      },
      item: item && wantsOneOf(query, statusOfRequest(item)) ? item : null,
      isBound: isCut && index === rows.length - 1,
    }
  })
}

const briefOfPayment = (payment: PaymentFound): RequestBrief => {
  const { id, kind, walletId, amount, currency, requestedAt } = payment
  const [fromWallet, toWallet] = kind === 'withdrawal' ? [walletId, null] : [null, walletId]
  return { id, type: kind, fromWallet, toWallet, amount, currency, requestedAt }
}

/** Whether a request passes the filters that its outcome does not change. */
const isWanted = (row: RequestBrief, wallets: WalletFacts[], query: ListQuery): boolean => {
  const isOwn = (walletId: string | null) => wallets.some(({ id }) => id === walletId)
  const { type, walletId, currency, counterpartyId, minAmount, maxAmount, direction } = query
  const other = isOwn(row.fromWallet) ? row.toWallet : row.fromWallet
  return (
    [null, row.type].includes(type) &&
    [null, row.fromWallet, row.toWallet].includes(walletId) &&
    [null, row.currency].includes(currency) &&
    [null, other].includes(counterpartyId) &&
    (minAmount === null || row.amount >= minAmount) &&
    (maxAmount === null || row.amount <= maxAmount) &&
    (direction === null || isOwn(direction === 'in' ? row.toWallet : row.fromWallet))
  )
}

/** Whether an own wallet had the transfer's entry when the list was begun. */
const isListedAsEntry = ({ from, to }: TransferFacts, wallets: WalletFacts[], cursor: Cursor): boolean =>
  [from, to].some(party => {
    if (party?.sequence == null || !wallets.some(({ id }) => id === party.walletId)) return false
    return party.sequence <= (cursor.wallets.get(shortOf(party.walletId))?.count ?? 0n)
  })

/** The items of a page in their order, with their parties and texts. */
const openItems = async (
  deps: ListTransfersDeps,
  wallets: WalletFacts[],
  items: Item[],
): Promise<TransferSubject[]> => {
  const ids = items.flatMap(item => ('transferId' in item ? [item.transferId] : []))
  const posted = new Map(
    (ids.length > 0 ? await deps.readTransfers(ids) : []).map(facts => [facts.id, facts]),
  )
  const facts = items.flatMap(item =>
    'facts' in item ? [item.facts] : 'transferId' in item ? [posted.get(item.transferId)!] : [],
  )
  const decided = await openDecided(deps.personKeys, facts)
  const requests = items.flatMap(item => ('request' in item ? [item.request] : []))
  const pending = requests.length > 0 ? await openRequests(deps, requests) : []
  return items.map((item): TransferSubject => {
    if ('request' in item) return pending.shift()!
    if ('payment' in item)
      return item.payment.subject(wallets.find(({ id }) => id === item.payment.walletId)!)
    return decided.shift()!
  })
}
