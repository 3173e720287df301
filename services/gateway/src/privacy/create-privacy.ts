import type { Codec } from '@pennywire/kafka/codec.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { measuredGauge } from '@pennywire/runtime/metrics.ts'
import type { createListHolds } from '../holds/list-holds.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { Identity } from '../identity/create-identity.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import type { InTransaction } from '../outbox/in-transaction.ts'
import { appendToOutbox } from '../outbox/sql/outbox.ts'
import type { createListTransfers } from '../transfers/list-transfers.ts'
import { deletionRoutes } from './deletion-routes.ts'
import { startEndingErasures } from './end-due-erasures.ts'
import { createErasePerson } from './erase-person.ts'
import { exportRoutes } from './export-routes.ts'
import { createExportSections } from './export-sections.ts'
import { startMakingExports } from './make-exports.ts'
import { measureErasures } from './sql/erasures.ts'
import { measureExports } from './sql/exports.ts'

/** Privacy: copies of a person's data, and their erasure. */
export const createPrivacy = (deps: {
  logger: Logger
  sql: Database
  /** The notifier's views. */
  notifier: Database
  codec: Codec
  guards: Guards
  identity: Identity
  ledger: Pick<LedgerDoor, 'ledgerRead'>
  inTransaction: InTransaction
  listTransfers: ReturnType<typeof createListTransfers>
  listHolds: ReturnType<typeof createListHolds>
  waitMs: number
  clock: Clock
}): Room => {
  const { logger, sql, codec, guards, identity, inTransaction, clock } = deps
  const { ledgerRead } = deps.ledger
  const { names, personKeys, announce, confirmPassword } = identity
  const erasePerson = createErasePerson({
    ...{ sql, ledgerRead, codec, inTransaction, announce, clock },
    tellBlocked: async (tx, userId, traceparent) =>
      appendToOutbox(tx, [await announce.mail({ userId, template: 'deletion_blocked' }, traceparent)]),
    pushEnded: identity.pushEnded,
    forget: userId => {
      names.forget(userId)
      personKeys.forget(userId)
    },
  })
  const ending = startEndingErasures({ sql, erasePerson, clock, logger })
  const making = startMakingExports({
    ...{ sql, personKeys, clock, logger },
    sectionsOf: createExportSections({ ...identity, ...deps, ledgerRead }),
  })
  measuredGauge(
    'gateway_erasures_overdue_seconds',
    'How long the oldest erasure is due that has not happened',
    async () => (await measureErasures(sql)).overdueSeconds,
  )
  measuredGauge(
    'gateway_exports_waiting_seconds',
    'How long the oldest export of a person waits to be made',
    () => measureExports(sql),
  )
  return {
    routes: [
      deletionRoutes({
        ...{ guards, sql, inTransaction, announce, personKeys, confirmPassword, erasePerson, clock },
        staff: identity.manageUsers,
        waitMs: deps.waitMs,
      }),
      exportRoutes({ guards, sql, personKeys, confirmPassword, wake: making.wake }),
    ],
    // What is under way is claimed again by the next gateway.
    stop: () => Promise.all([ending.stop(), making.stop()]),
  }
}
