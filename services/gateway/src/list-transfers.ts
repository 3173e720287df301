import { z } from 'zod'
import type { Names } from './identity/names.ts'
import type { PersonKeys } from './identity/person-keys.ts'
import { validationProblem } from './problems.ts'
import type { TransferFacts, TransferFilter, WalletFacts } from './sql/ledger-reads.ts'
import { type TransferView, viewDecided } from './transfer-view.ts'

export type ListTransfersParts = {
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

/** Where a page ended: the last sequence shown of each wallet, and the last rejected request. */
const cursorSchema = z.object({
  wallets: z.record(z.string(), z.string().regex(/^\d{1,18}$/)),
  rejected: z.tuple([z.int().min(0).max(LAST_MS), z.uuid()]).nullable(),
})
type Cursor = z.infer<typeof cursorSchema>

const LAST_SEQUENCE = 2n ** 62n

const readCursor = (text: string | undefined): Cursor => {
  if (text === undefined) return { wallets: {}, rejected: null }
  try {
    return cursorSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')))
  } catch {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
}

/**
 * A user's transfers, newest first: completed ones by the entries of the user's wallets, each wallet's in the order
 * of its sequence, merged with what was rejected. The cursor holds a place in each of these lists, so that pages
 * neither repeat nor miss one, whatever is decided meanwhile and whatever a clock does.
 */
export const createListTransfers =
  (parts: ListTransfersParts) =>
  async (
    userId: string,
    filter: TransferFilter,
    cursorText: string | undefined,
    limit: number,
  ): Promise<{ items: TransferView[]; nextCursor: string | null }> => {
    const cursor = readCursor(cursorText)
    const wallets = await parts.readWalletsOf(userId)
    const before = wallets.map(({ id }) => ({ id, before: BigInt(cursor.wallets[id] ?? LAST_SEQUENCE) }))
    const { rejected: place } = cursor
    const rejectedBefore = place ? { decidedAt: new Date(place[0]), id: place[1] } : LAST_MOMENT
    const wantsRejected = [null, 'rejected'].includes(filter.status) && filter.direction !== 'in'
    const [posted, rejected] = await Promise.all([
      filter.status === 'rejected' ? [] : parts.readPosted(before, filter, limit + 1),
      wantsRejected ? parts.readRejected(userId, rejectedBefore, filter.type, limit + 1) : [],
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
    const next: Cursor = { wallets: { ...cursor.wallets }, rejected: cursor.rejected }
    const takeNewest = () => {
      const heads = [...lists].filter(([, list]) => list.length > 0)
      const newest = heads.reduce((a, b) => (b[1][0]!.facts.decidedAt > a[1][0]!.facts.decidedAt ? b : a))
      const { facts, sequence } = newest[1].shift()!
      if (sequence === undefined) next.rejected = [facts.decidedAt.getTime(), facts.id]
      else next.wallets[newest[0]] = sequence.toString()
      items.push(facts)
    }
    const remaining = () => [...lists.values()].some(list => list.length > 0)
    while (items.length < limit && remaining()) takeNewest()
    return {
      items: await viewDecided(parts, userId, items),
      nextCursor: remaining() ? Buffer.from(JSON.stringify(next)).toString('base64url') : null,
    }
  }
