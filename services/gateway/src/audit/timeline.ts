import { deliveryIdOf, notificationIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { AnyRecord } from '@pennywire/contracts/schemas.ts'
import { WEBHOOK_EVENT_TYPES } from '@pennywire/contracts/webhook-events.ts'
import type { Codec } from '@pennywire/kafka/codec.ts'
import { KIND_OF, type NoticeType } from '@pennywire/messages/notices.ts'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import type { Payment } from '../payments/sql/payments.ts'
import type { PendingRequest } from '../transfers/sql/pending-requests.ts'
import type { Delivery, Outcome, StoredNotice, TimelineEntry } from './sql/timeline-reads.ts'
import type { Place } from './sql/trail-reads.ts'
import { type OpenRecord, timeOf } from './trail.ts'

/**
 * One step on a transfer's way. `done`, with the time where it is known; `pending`: it is still to come; `failed`: it will
 * not come; `unknown`: this gateway has not seen it and no record tells.
 */
export type Stage = {
  stage:
    | 'request'
    | 'command'
    | 'decision'
    | 'event'
    | 'gateway'
    | 'notifier'
    | 'audit'
    | 'payment'
    | 'notice'
    | 'mail'
    | 'webhook'
  state: 'done' | 'pending' | 'failed' | 'unknown'
  at: string | null
  /** The record's or the delivery's name. */
  name: string | null
  commandId: string | null
  record: { topic: string; partition: number; offset: number | null; eventId: string | null } | null
  requestId: string | null
  traceId: string | null
  actor: { userId: string | null; role: string | null } | null
  /** What was decided, or went wrong. */
  detail: string | null
  delivery: {
    id: string
    userId: string | null
    webhookId: string | null
    /** Of a webhook's URL the origin alone. */
    origin: string | null
    attempts: number
    nextAttemptAt: string | null
    tries: Array<{ at: string; status: number | null; error: string | null; ms: number }>
  } | null
}

export type Timeline = {
  transferId: string
  status: 'pending' | 'completed' | 'rejected'
  type: string | null
  traceIds: string[]
  /** What does not get further, in the order of the way. */
  pending: string[]
  stages: Stage[]
  entries: Array<{
    transferId: string
    walletId: string
    userId: string | null
    system: string | null
    sequence: number
    amount: string
    balanceAfter: string
    currency: string
  }>
}

export type TimelineDeps = {
  codec: Pick<Codec, 'decode'>
  readTransfers: (ids: string[]) => Promise<TransferFacts[]>
  readPending: (id: string) => Promise<PendingRequest | undefined>
  readPayment: (id: string) => Promise<Payment | undefined>
  readFollowingCommands: (id: string) => Promise<string[]>
  readOutcomesOf: (commandIds: string[]) => Promise<Outcome[]>
  readEntriesOf: (id: string) => Promise<TimelineEntry[]>
  readRecordsOf: (
    subjects: Array<{ kind: 'transfer' | 'command'; id: string }>,
    topics: string[],
  ) => Promise<OpenRecord[]>
  readNotifierPosition: (partition: number) => Promise<bigint | null>
  readNoticesOf: (ids: string[]) => Promise<StoredNotice[]>
  readDeliveriesOf: (
    mailIds: string[],
    webhooks: { causes: string[]; eventTypes: string[]; owners: string[] },
  ) => Promise<Delivery[]>
  /** The last record of a partition of ledger.events that this gateway has read. */
  readTo: (partition: number) => bigint | undefined
  originOf: (url: string) => string
}

const STATES: Record<string, Stage['state']> = { due: 'pending', sent: 'done', suppressed: 'done' }
const MONEY_NOTICES = (Object.keys(KIND_OF) as NoticeType[]).filter(
  type => KIND_OF[type] !== 'security' && KIND_OF[type] !== 'wallet',
)
const TRANSFER_EVENTS = WEBHOOK_EVENT_TYPES.filter(type => /^(transfer|hold)\./.test(type))
/** Commands of one transfer that a timeline follows: itself, the end of its hold, its reversals. */
const MOST_COMMANDS = 100

const shortName = (type: string) => type.slice(type.lastIndexOf('.') + 1)
const isUser = (id: string | null | undefined): id is string => id != null

const refusalOf = (event: AnyRecord): string | null =>
  event.type === 'pennywire.ledger.TransferRejected' || event.type === 'pennywire.ledger.CommandRefused'
    ? `${event.value.code}: ${event.value.detail}`
    : null

const STAGE: Stage = {
  ...{ stage: 'request', state: 'pending', at: null, name: null, commandId: null, record: null },
  ...{ requestId: null, traceId: null, actor: null, detail: null, delivery: null },
}

/**
 * Follows a transfer, deposit, withdrawal, hold or reversal from the request to every consumer, by the audit trail (what
 * stands in Kafka, where and when), the ledger's journal (what was decided) and the notifier's views (what was told).
 * Undefined: none of them knows the id.
 */
export const createTimeline =
  (deps: TimelineDeps) =>
  async (transferId: string): Promise<Timeline | undefined> => {
    const [[facts], waiting, payment, following, ofTransfer] = await Promise.all([
      deps.readTransfers([transferId]),
      deps.readPending(transferId),
      deps.readPayment(transferId),
      deps.readFollowingCommands(transferId),
      deps.readRecordsOf([{ kind: 'transfer', id: transferId }], ['ledger.commands', 'ledger.events']),
    ])
    const subjectOf = ({ headers }: OpenRecord) => headers.get('ce_subject') ?? ''
    const commandIds = new Set([transferId, ...following])
    for (const one of ofTransfer)
      if (one.stored.topic === 'ledger.commands' && commandIds.size < MOST_COMMANDS)
        commandIds.add(subjectOf(one))
    // A refused capture names its command alone.
    const others = [...commandIds].filter(id => id !== transferId)
    const [outcomes, entries, ofOthers] = await Promise.all([
      deps.readOutcomesOf([...commandIds]),
      deps.readEntriesOf(transferId),
      others.length > 0
        ? deps.readRecordsOf(
            others.map(id => ({ kind: 'command', id })),
            ['ledger.commands', 'ledger.events'],
          )
        : [],
    ])
    const records = [
      ...new Map(
        [...ofTransfer, ...ofOthers].map(one => [JSON.stringify(placeKey(one.stored)), one]),
      ).values(),
    ]
    if (!facts && !waiting && !payment && records.length === 0 && outcomes.length === 0) return undefined

    const stages: Stage[] = []
    const users = new Set(
      [facts?.userId, facts?.from?.userId, facts?.to?.userId, waiting?.userId, payment?.userId].filter(
        isUser,
      ),
    )
    for (const { userId } of entries) if (isUser(userId)) users.add(userId)
    const decidedEvents = new Map<string, AnyRecord>()
    for (const outcome of outcomes)
      decidedEvents.set(outcome.commandId, await deps.codec.decode(outcome.bytes))

    const ofCommand = (id: string, topic: string) =>
      records.filter(one => one.stored.topic === topic && subjectOf(one) === id)
    // In the order of the requests; what no command tells, the transfer itself, comes first.
    const inOrder = [...commandIds]
      .map(id => ({
        id,
        at: Number(ofCommand(id, 'ledger.commands')[0]?.stored.timestampMs ?? 0n),
      }))
      .filter(
        ({ id }) =>
          id === transferId ||
          ofCommand(id, 'ledger.commands').length > 0 ||
          outcomes.some(({ commandId }) => commandId === id),
      )
      .sort((a, b) => a.at - b.at)
    for (const { id } of inOrder) {
      const [command, ...repeats] = ofCommand(id, 'ledger.commands')
      const outcome = outcomes.find(({ commandId }) => commandId === id)
      const requestedAt = waiting && id === transferId ? waiting.requestedAt : facts?.requestedAt
      // A payment waits for its provider before the ledger hears of it.
      if (!command && !outcome && payment && !payment.done) continue
      const name = command ? command.entry.action : null
      const common = { commandId: id, requestId: null, traceId: null }
      if (command) {
        const { requestId, traceId, actorId: userId, actorRole: role } = command.entry
        const about = { ...common, requestId, traceId, actor: { userId, role } }
        stages.push({
          ...{ ...STAGE, ...about, stage: 'request', state: 'done', name },
          at: command.headers.get('ce_time') ?? null,
        })
        for (const [n, one] of [command, ...repeats].entries())
          stages.push({
            ...{ ...STAGE, ...about, stage: 'command', state: 'done', name },
            at: timeOf(one.stored.timestampMs),
            record: placeView(one),
            detail: n > 0 ? 'sent again' : null,
          })
      } else {
        const at = id === transferId ? (requestedAt?.toISOString() ?? null) : null
        stages.push({ ...STAGE, ...common, stage: 'request', state: 'done', at })
        stages.push({
          ...{ ...STAGE, ...common, stage: 'command' },
          state: outcome ? 'unknown' : 'pending',
          detail: outcome
            ? 'The trail does not hold it yet.'
            : waiting && !waiting.acknowledged
              ? 'Kafka has not confirmed it.'
              : 'Not seen in the trail.',
        })
      }
      if (!outcome) {
        stages.push({
          ...{ ...STAGE, ...common, stage: 'decision' },
          detail: 'The ledger has not decided it.',
        })
        continue
      }
      const event = decidedEvents.get(id)!
      const refusal = refusalOf(event)
      const eventName = shortName(outcome.type)
      stages.push({
        ...{ ...STAGE, ...common, stage: 'decision', state: 'done', name: eventName },
        at: outcome.decidedAt.toISOString(),
        detail: refusal,
      })
      const published = ofCommand(id, 'ledger.events').filter(
        one => one.headers.get('ce_id') === outcome.eventId,
      )
      const [first] = published
      const place = {
        topic: 'ledger.events',
        partition: outcome.partition,
        offset: first ? Number(first.stored.offset) : null,
        eventId: outcome.eventId,
      }
      const eventStage = { ...STAGE, ...common, name: eventName, record: place }
      if (!first) {
        stages.push({
          ...{ ...eventStage, stage: 'event' },
          state: outcome.isPublished ? 'done' : 'pending',
          detail: outcome.isPublished ? 'Kafka has it.' : 'The ledger has not published it.',
        })
        stages.push({
          ...{ ...eventStage, stage: 'audit', state: 'pending' },
          detail: 'The trail does not hold it yet.',
        })
        continue
      }
      for (const [n, one] of published.entries())
        stages.push({
          ...{ ...eventStage, stage: 'event', state: 'done' },
          at: timeOf(one.stored.timestampMs),
          record: { ...place, offset: Number(one.stored.offset) },
          requestId: one.entry.requestId,
          traceId: one.entry.traceId,
          detail: n > 0 ? 'published again' : null,
        })
      stages.push({
        ...{ ...eventStage, stage: 'audit', state: 'done' },
        at: first.stored.recordedAt.toISOString(),
        detail: first.verified ? null : 'Its hash is wrong.',
      })
      const readTo = deps.readTo(outcome.partition)
      stages.push({
        ...{ ...eventStage, stage: 'gateway' },
        state: readTo === undefined ? 'unknown' : readTo >= first.stored.offset ? 'done' : 'pending',
        detail: readTo === undefined ? 'This gateway has read none since its start.' : null,
      })
      const next = await deps.readNotifierPosition(outcome.partition)
      stages.push({
        ...{ ...eventStage, stage: 'notifier' },
        state: next !== null && next > first.stored.offset ? 'done' : 'pending',
      })
    }

    if (payment) stages.push(paymentStage(payment))

    const linked = entries.map(entry => entry.transferId)
    const causes = [...new Set([...commandIds, ...linked])]
    const noticeIds = causes.flatMap(cause =>
      [...users].flatMap(userId => MONEY_NOTICES.map(type => notificationIdOf(cause, userId, type))),
    )
    const [notices, deliveries] = await Promise.all([
      deps.readNoticesOf(noticeIds),
      deps.readDeliveriesOf(
        noticeIds.map(id => deliveryIdOf(id, 'mail')),
        { causes, eventTypes: TRANSFER_EVENTS, owners: [...users] },
      ),
    ])
    for (const { id, userId, type, storedAt } of notices)
      stages.push({
        ...{ ...STAGE, stage: 'notice', state: 'done', name: type, at: storedAt?.toISOString() ?? null },
        delivery: {
          ...{ id, userId, webhookId: null, origin: null, attempts: 1, nextAttemptAt: null, tries: [] },
        },
      })
    for (const delivery of deliveries) stages.push(deliveryStage(delivery, deps.originOf))
    // The notifier's time is that of the first thing that it stored; where an event led to none, there is no time.
    const told = [...notices, ...deliveries]
      .flatMap(({ storedAt }) => storedAt ?? [])
      .sort((a, b) => +a - +b)[0]
    const notifier = stages.find(({ stage, state }) => stage === 'notifier' && state === 'done')
    if (notifier && told) notifier.at = told.toISOString()

    const traceIds = [...new Set(stages.flatMap(({ traceId }) => traceId ?? []))]
    return {
      transferId,
      status: facts?.status ?? 'pending',
      type: facts?.type ?? waiting?.type ?? payment?.kind ?? null,
      traceIds,
      pending: [
        ...new Set(stages.filter(({ state }) => state === 'pending').map(({ stage }) => stage as string)),
      ],
      stages,
      entries: entries.map(entry => ({
        ...{ transferId: entry.transferId, walletId: entry.walletId, userId: entry.userId },
        ...{ system: entry.system, sequence: Number(entry.sequence), currency: entry.currency },
        amount: formatAmount(entry.amount, entry.currency),
        balanceAfter: formatAmount(entry.balanceAfter, entry.currency),
      })),
    }
  }

const placeKey = ({ topic, epoch, partition, offset }: Place) => [topic, epoch, partition, String(offset)]

const placeView = ({ stored, headers }: OpenRecord): Stage['record'] => ({
  topic: stored.topic,
  partition: stored.partition,
  offset: Number(stored.offset),
  eventId: headers.get('ce_id') ?? null,
})

const paymentStage = (payment: Payment): Stage => ({
  ...STAGE,
  stage: 'payment',
  name: payment.kind,
  state: payment.status === 'failed' ? 'failed' : payment.done ? 'done' : 'pending',
  at: payment.orderedAt?.toISOString() ?? payment.requestedAt.toISOString(),
  detail: [payment.status, payment.failureCode].filter(text => text !== null).join(': '),
})

const deliveryStage = (delivery: Delivery, originOf: (url: string) => string): Stage => ({
  ...STAGE,
  stage: delivery.channel === 'webhook' ? 'webhook' : 'mail',
  name: delivery.about,
  state: STATES[delivery.state] ?? 'failed',
  at: (delivery.sentAt ?? delivery.storedAt)?.toISOString() ?? null,
  detail: delivery.state === 'sent' ? null : [delivery.state, delivery.lastError].filter(Boolean).join(': '),
  delivery: {
    id: delivery.id,
    userId: delivery.userId,
    webhookId: delivery.endpointId,
    origin: delivery.url === null ? null : originOf(delivery.url),
    attempts: delivery.attempts,
    nextAttemptAt: delivery.state === 'due' ? delivery.nextAttemptAt.toISOString() : null,
    tries: delivery.tries.map(({ at, status, error, ms }) => ({ at, status, error, ms })),
  },
})
