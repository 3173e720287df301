import { z } from 'zod'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { TransferFacts, TransferFilter, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { validationProblem } from '../problems/problem.ts'
import { type TransferView, viewDecided } from './transfer-view.ts'

export type ListTransfersDeps = {
  names: Names
  personKeys: PersonKeys
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  readPosted: (
    wallets: Array<{ id: string; before: bigint }>,
    filter: TransferFilter,
    limit: number,
  ) => Promise<Array<{ walletId: string; sequence: bigint; facts: TransferFacts }>>
  readRejected: (
    userId: string,
    before: { decidedAt: Date; id: string },
    type: string | null,
    limit: number,
  ) => Promise<TransferFacts[]>
}

const LAST_MOMENT = {
  decidedAt: new Date('9999-12-31T00:00:00Z'),
  id: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
}
const LAST_MS = LAST_MOMENT.decidedAt.getTime()

/** The position after a page: the last sequence shown of each wallet, and the last rejected request. */
type Cursor = { wallets: Map<string, bigint>; rejected: { decidedAt: Date; id: string } | null }

const LAST_SEQUENCE = 2n ** 62n

/**
 * A prefix of a wallet's id, which is a hash: enough to distinguish one user's wallets, because hundreds of whole ids
 * do not fit into a URL.
 */
const shortOf = (walletId: string): string => walletId.replaceAll('-', '').slice(0, 12)

const PLACE = /^([0-9a-f]{12})([0-9a-z]{1,10})$/
const REJECTED = /^([0-9a-z]{1,10})-(.{36})$/

const writeCursor = ({ wallets, rejected }: Cursor): string =>
  [
    rejected === null ? '' : `${rejected.decidedAt.getTime().toString(36)}-${rejected.id}`,
    ...[...wallets].map(([short, sequence]) => `${short}${sequence.toString(36)}`),
  ].join('_')

const readCursor = (text: string | undefined): Cursor => {
  if (text === undefined) return { wallets: new Map(), rejected: null }
  const refuse = (): never => {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
  const [last = '', ...places] = text.split('_')
  const wallets = places.map(place => {
    const [, short, sequence] = PLACE.exec(place) ?? refuse()
    return [short!, BigInt(Number.parseInt(sequence!, 36))] as const
  })
  if (last === '') return { wallets: new Map(wallets), rejected: null }
  const [, ms, id] = REJECTED.exec(last) ?? refuse()
  const decidedMs = Number.parseInt(ms!, 36)
  if (decidedMs > LAST_MS || !z.uuid().safeParse(id).success) refuse()
  return { wallets: new Map(wallets), rejected: { decidedAt: new Date(decidedMs), id: id! } }
}

/**
 * A user's transfers, newest first: completed ones by the entries of the user's wallets, each wallet's in the order of
 * its sequence, merged with the rejected ones. The cursor contains a position in each of these lists, so that pages
 * neither repeat nor miss a transfer, even if more are decided meanwhile or a clock steps back.
 */
export const createListTransfers =
  (deps: ListTransfersDeps) =>
  async (
    userId: string,
    filter: TransferFilter,
    cursorText: string | undefined,
    limit: number,
  ): Promise<{ items: TransferView[]; nextCursor: string | null }> => {
    const cursor = readCursor(cursorText)
    const wallets = await deps.readWalletsOf(userId)
    const before = wallets.map(({ id }) => ({ id, before: cursor.wallets.get(shortOf(id)) ?? LAST_SEQUENCE }))
    const rejectedBefore = cursor.rejected ?? LAST_MOMENT
    const wantsRejected = [null, 'rejected'].includes(filter.status) && filter.direction !== 'in'
    const [posted, rejected] = await Promise.all([
      filter.status === 'rejected' ? [] : deps.readPosted(before, filter, limit + 1),
      wantsRejected ? deps.readRejected(userId, rejectedBefore, filter.type, limit + 1) : [],
    ])

    const lists = new Map<string, Array<{ facts: TransferFacts; sequence?: bigint }>>([
      ['rejected', rejected.map(facts => ({ facts }))],
    ])
    for (const { walletId, sequence, facts } of posted) {
      const list = lists.get(walletId)
      if (list) list.push({ facts, sequence })
      else lists.set(walletId, [{ facts, sequence }])
    }
    const items: TransferFacts[] = []
    const next: Cursor = { wallets: new Map(cursor.wallets), rejected: cursor.rejected }
    const takeNewest = () => {
      const heads = [...lists].filter(([, list]) => list.length > 0)
      const newest = heads.reduce((a, b) => (b[1][0]!.facts.decidedAt > a[1][0]!.facts.decidedAt ? b : a))
      const { facts, sequence } = newest[1].shift()!
      if (sequence === undefined) next.rejected = { decidedAt: facts.decidedAt, id: facts.id }
      else next.wallets.set(shortOf(newest[0]), sequence)
      items.push(facts)
    }
    const remaining = () => [...lists.values()].some(list => list.length > 0)
    while (items.length < limit && remaining()) takeNewest()
    return {
      items: await viewDecided(deps, userId, items),
      nextCursor: remaining() ? writeCursor(next) : null,
    }
  }
