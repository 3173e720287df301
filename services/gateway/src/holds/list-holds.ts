import { z } from 'zod'
import type { Names } from '../identity/persons/names.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { TransferFacts, WalletFacts } from '../ledger/sql/ledger-reads.ts'
import { validationProblem } from '../problems/problem.ts'
import { type HoldView, openDecided, viewHold } from '../transfers/transfer-view.ts'
import type { HoldFilter, HoldPlace } from './sql/hold-reads.ts'

export type ListHoldsDeps = {
  names: Names
  personKeys: PersonKeys
  readWalletsOf: (userId: string) => Promise<WalletFacts[]>
  readHoldPlaces: (
    walletIds: string[],
    filter: HoldFilter,
    before: HoldPlace,
    limit: number,
  ) => Promise<HoldPlace[]>
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
}

const LAST: HoldPlace = {
  placedAt: new Date('9999-12-31T00:00:00Z'),
  id: 'ffffffff-ffff-ffff-ffff-ffffffffffff',
}

/** The cursor: `placedAt` and id of the last hold on the page. */
const cursorSchema = z.tuple([z.int().min(0).max(LAST.placedAt.getTime()), z.uuid()])

const readCursor = (text: string | undefined): HoldPlace => {
  if (text === undefined) return LAST
  try {
    const [ms, id] = cursorSchema.parse(JSON.parse(Buffer.from(text, 'base64url').toString('utf8')))
    return { placedAt: new Date(ms), id }
  } catch {
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  }
}

/** The holds that a user placed or may capture, newest first. A hold keeps its place when it ends. */
export const createListHolds =
  (deps: ListHoldsDeps) =>
  async (
    userId: string,
    filter: HoldFilter,
    cursor: string | undefined,
    limit: number,
  ): Promise<{ items: HoldView[]; nextCursor: string | null }> => {
    const before = readCursor(cursor)
    const wallets = await deps.readWalletsOf(userId)
    const walletIds = wallets.map(({ id }) => id)
    const places = await deps.readHoldPlaces(walletIds, filter, before, limit + 1)
    const page = places.slice(0, limit)
    const found = await deps.readTransfers(page.map(({ id }) => id))
    const facts = page.map(({ id }) => found.find(facts => facts.id === id)!)
    const subjects = await openDecided(deps.personKeys, facts)
    const last = page.at(-1)
    return {
      items: await Promise.all(subjects.map(subject => viewHold(deps.names, userId, subject))),
      nextCursor:
        places.length > limit && last
          ? Buffer.from(JSON.stringify([last.placedAt.getTime(), last.id])).toString('base64url')
          : null,
    }
  }
