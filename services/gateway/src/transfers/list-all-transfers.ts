import type { Clock } from '@pennywire/runtime/clock.ts'
import { z } from 'zod'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { DecidedFilter, DecidedPlace, Period, TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { validationProblem } from '../problems/problem.ts'
import { openDecided, type TransferSubject } from './transfer-view.ts'

/** The first period that is read for a page, and how much longer each further one is. */
const FIRST_PERIOD_MS = 60_000
const LONGER = 8
/** Before this no transfer was decided. */
const FIRST_MOMENT = new Date('2026-01-01T00:00:00Z')
const FIRST_ID = '00000000-0000-0000-0000-000000000000'
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

export type ListAllDeps = {
  personKeys: PersonKeys
  readDecidedAfter: (
    place: DecidedPlace,
    since: Date,
    filter: DecidedFilter,
    most: number,
  ) => Promise<Array<DecidedPlace & { matches: boolean }>>
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  /** Rows read for one page. */
  mostRead: number
  clock: Clock
}

const writeCursor = ({ decidedAt, id }: DecidedPlace) => `${decidedAt.getTime().toString(36)}_${id}`
const readCursor = (text: string): DecidedPlace => {
  const [, ms, id] = /^([0-9a-z]{1,9})_(.{36})$/.exec(text) ?? []
  if (!z.uuid().safeParse(id).success)
    throw validationProblem([{ field: 'cursor', rule: 'must be the nextCursor of an earlier page' }])
  return { decidedAt: new Date(Number.parseInt(ms!, 36)), id: id! }
}

/**
 * Decided transfers of all users, newest first, for staff. The table has no index by which to walk in that order, but
 * one that finds the pages of a period: periods are read backwards, each longer than the one after it, until the page is
 * full. A page reads a bounded number of rows, and with a filter may end before it is full.
 */
export const createListAllTransfers =
  (deps: ListAllDeps) =>
  async (
    filter: DecidedFilter & Period,
    cursor: string | undefined,
    limit: number,
  ): Promise<{ subjects: TransferSubject[]; nextCursor: string | null }> => {
    const first = filter.since ?? FIRST_MOMENT
    // A ledger's database may be ahead of this clock.
    const now = deps.clock.now() + FIRST_PERIOD_MS
    // `until` itself is not part of the period.
    const last = filter.until === null ? now : Math.min(filter.until.getTime() - 1, now)
    let place = cursor === undefined ? { decidedAt: new Date(last), id: LAST_ID } : readCursor(cursor)
    const found: DecidedPlace[] = []
    let left = deps.mostRead
    let hasMore = false
    for (let periodMs = FIRST_PERIOD_MS; place.decidedAt >= first; periodMs *= LONGER) {
      const since = new Date(Math.max(first.getTime(), place.decidedAt.getTime() - periodMs))
      const most = Math.min(left, Math.max(limit + 1, Math.ceil(deps.mostRead / LONGER)))
      const rows = await deps.readDecidedAfter(place, since, filter, most)
      for (const { matches, ...row } of rows) {
        if (matches && found.length === limit) {
          hasMore = true
          break
        }
        if (matches) found.push(row)
        place = row
      }
      left -= rows.length
      hasMore ||= left === 0
      if (hasMore) break
      // Not all of the period was read: the next reading goes on in it.
      if (rows.length === most) continue
      if (since <= first) break
      place = { decidedAt: since, id: FIRST_ID }
    }
    const facts = found.length > 0 ? await deps.readTransfers(found.map(({ id }) => id)) : []
    const byId = new Map(facts.map(one => [one.id, one]))
    const subjects = await openDecided(
      deps.personKeys,
      found.flatMap(({ id }) => byId.get(id) ?? []),
    )
    return { subjects, nextCursor: hasMore ? writeCursor(place) : null }
  }
