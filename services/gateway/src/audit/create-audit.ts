import type { Codec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import type { Guards } from '../http/define-route.ts'
import type { Room } from '../http/room.ts'
import type { PersonKeys } from '../identity/persons/person-keys.ts'
import type { LedgerDoor } from '../ledger/create-ledger-door.ts'
import { readTransfers, readTransfersBetween } from '../ledger/sql/ledger-reads.ts'
import { readPayment } from '../payments/sql/payments.ts'
import { readPending } from '../transfers/sql/pending-requests.ts'
import { originOf } from '../webhooks/tell-changes.ts'
import { auditLogRoutes } from './audit-log-routes.ts'
import {
  type ProvenBalance,
  readDeliveriesOf,
  readEntriesOf,
  readFollowingCommands,
  readNoticesOf,
  readNotifierPosition,
  readOutcomesOf,
  readProvenBalance,
} from './sql/timeline-reads.ts'
import { findRecords, findRecordsOf, findTransferIds, readRecords } from './sql/trail-reads.ts'
import { createTimeline } from './timeline.ts'
import { timelineRoutes } from './timeline-routes.ts'
import { openReasons, openRecords } from './trail.ts'

/** A search that takes longer is ended: the database is shared with the money. */
const DEADLINE_MS = 4_000
const MAX_CONNECTIONS = 3

/** What staff ask of the history: the audit log, a transfer's timeline, a wallet's balance at any time. */
export const createAudit = (deps: {
  guards: Guards
  sql: Database
  notifier: Database
  codec: Pick<Codec, 'decode' | 'decodeRecord'>
  personKeys: Pick<PersonKeys, 'decryptFor'>
  ledger: Pick<LedgerDoor, 'ledgerRead' | 'outcomes'>
  hashAddress: (address: string) => string
  readUrl: string
  instanceId: string
}): Room => {
  const { guards, sql, notifier, codec, personKeys, hashAddress } = deps
  const { ledgerRead, outcomes } = deps.ledger
  // All queries find their rows by an index in the order of the answer: see ledgerRead.
  const trail = openDatabase(deps.readUrl, {
    applicationName: `${deps.instanceId}-reads-audit`,
    connection: { enable_seqscan: 'off', enable_bitmapscan: 'off' },
    deadlineMs: DEADLINE_MS,
    maxConnections: MAX_CONNECTIONS,
  })
  const readRecordsOf: Parameters<typeof createTimeline>[0]['readRecordsOf'] = async (subjects, topics) =>
    openRecords(codec, await readRecords(trail, await findRecordsOf(trail, subjects, topics)))

  /** The record of the event by which a balance came to be, and what it says. */
  const proveEntry = async ({ id, transferId, partition, seq, sequence, balance }: ProvenBalance) => {
    const records = await readRecordsOf([{ kind: 'transfer', id: transferId! }], ['ledger.events'])
    const found = records.find(({ headers }) => headers.get('ce_id') === `${partition}-${seq}`)
    if (!found) return null
    const value = found.record?.value
    const entries = value && 'entries' in value ? value.entries : []
    const entry = entries.find(one => one.walletId === id && BigInt(one.sequence) === sequence)
    return {
      offset: Number(found.stored.offset),
      statesBalance: entry?.balanceAfterMinor === balance,
      verified: found.verified,
    }
  }

  return {
    routes: [
      auditLogRoutes({
        guards,
        hashAddress,
        find: (filter, before, limit) => findRecords(trail, filter, before, limit),
        open: async found => openRecords(codec, await readRecords(trail, found)),
        openReasons: opened =>
          openReasons(
            personKeys,
            opened.map(({ record }) => record),
          ),
      }),
      timelineRoutes({
        guards,
        timelineOf: createTimeline({
          codec,
          readTransfers: ids => readTransfers(ledgerRead, ids),
          readPending: async id => (await readPending(sql, id, id))[0],
          readPayment: id => readPayment(sql, id),
          readFollowingCommands: id => readFollowingCommands(ledgerRead, id),
          readOutcomesOf: ids => readOutcomesOf(ledgerRead, ids),
          readEntriesOf: id => readEntriesOf(ledgerRead, id),
          readRecordsOf,
          readNotifierPosition: partition => readNotifierPosition(notifier, partition),
          readNoticesOf: ids => readNoticesOf(notifier, ids),
          readDeliveriesOf: (mailIds, webhooks) => readDeliveriesOf(notifier, mailIds, webhooks),
          readTo: outcomes.readTo,
          originOf,
        }),
        findByReference: async (first, last) => {
          const decided = await readTransfersBetween(ledgerRead, first, last)
          if (decided.length > 0) return decided.map(({ id }) => id)
          const pending = await readPending(sql, first, last)
          return pending.length > 0
            ? pending.map(({ transferId }) => transferId)
            : findTransferIds(trail, first, last)
        },
        readProvenBalance: (walletId, at) => readProvenBalance(ledgerRead, walletId, at),
        proveEntry,
      }),
    ],
    stop: () => trail.end({ timeout: 5 }),
  }
}
