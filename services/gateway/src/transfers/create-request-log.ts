import { systemClock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readDecidedIds } from '../ledger/sql/ledger-reads.ts'
import { batchPerTick } from '../queues/batch-per-tick.ts'
import { startSendingOverdueAgain } from './send-overdue-again.ts'
import { claimKeys, type KeyClaim } from './sql/key-claims.ts'
import {
  claimOverdue,
  countOverdue,
  markDecided,
  type NewPendingRequest,
  readPending,
  writePending,
} from './sql/pending-requests.ts'

export type RequestLog = ReturnType<typeof createRequestLog>

/** The log of accepted requests: the key claims, and the requests that are pending until the ledger decides them. */
export const createRequestLog = (deps: {
  logger: Logger
  sql: Database
  ledger: LedgerDoor
  /** How long after its expiry an undecided request is sent again. */
  lookMs: number
}) => {
  const { logger, sql, ledger, lookMs } = deps
  const overdue = startSendingOverdueAgain({
    claim: limit => claimOverdue(sql, limit, lookMs),
    readDecidedIds: ids => readDecidedIds(ledger.ledgerRead, ids),
    markDecided: ids => markDecided(sql, ids),
    publishCommand: ledger.publishUncounted,
    clock: systemClock,
    logger,
    everyMs: Math.min(lookMs, 1_000),
  })
  measuredGauge(
    'gateway_overdue_requests',
    'Requests that the ledger had not decided PENDING_LOOK_SECONDS after their expiry, and has not yet',
    () => countOverdue(sql),
  )
  return {
    claimKey: batchPerTick((claims: KeyClaim[]) => claimKeys(sql, claims)),
    writePending: batchPerTick(async (requests: NewPendingRequest[]) => {
      await writePending(sql, requests, lookMs)
      return requests.map(() => undefined)
    }),
    readPendingBetween: (first: string, last: string) => readPending(sql, first, last),
    stop: overdue.stop,
  }
}
