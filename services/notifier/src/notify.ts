import { createHash } from 'node:crypto'
import type { SequenceWatch } from '@pennywire/consumer/watch-sequences.ts'
import {
  type AnyRecord,
  type IdentityEvent,
  isIdentityEvent,
  isLedgerEvent,
  type LedgerEvent,
  type MailRequested,
} from '@pennywire/contracts/schemas.ts'
import { TOPICS } from '@pennywire/contracts/topics.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import type { ConsumerOptions, Position, TopicPartition } from '@pennywire/kafka/consumer.ts'
import { deadLetterOf } from '@pennywire/kafka/dead-letters.ts'
import type { Publisher } from '@pennywire/kafka/publisher.ts'
import { headerOf, type IncomingRecord, type RawRecord } from '@pennywire/kafka/record.ts'
import type { Database, Tx } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { counter } from '@pennywire/runtime/metrics.ts'
import { z } from 'zod'
import { isMailTemplate } from './mail-for.ts'
import { mailsOfNotices } from './notice-mails.ts'
import { hostOf, type Notice, noticesFor, noticesForAccount } from './notices-for.ts'
import { insertMails, insertNoticeMails } from './sql/deliveries.ts'
import { eraseUsers } from './sql/erasures.ts'
import { insertNotices } from './sql/notices.ts'
import { type HandledPosition, lockPositions, readPositions, writePositions } from './sql/positions.ts'
import { readTopicStarts } from './sql/topic-starts.ts'
import {
  type EndedAccount,
  insertWebhooks,
  type OwnersEvent,
  pauseEndpoints,
  readEndpointOwners,
  takeChangedUrls,
} from './sql/webhooks.ts'
import { payloadOf, type WebhookEvent, webhookEventOf } from './webhook-events.ts'

const notificationsAdded = counter('notifier_notifications_total', 'In-app notices added')
const duplicates = counter(
  'notifier_duplicates_total',
  'Notices that were there already, as their event came again, or that their user does not want in the app',
)
const setAside = counter('notifier_dead_letters_total', 'Records set aside, by their topic', ['topic'])

/** A gap that seeking back has not closed this often is a loss, not a race with a rebalance. */
const MAX_GAPS = 3

/**
 * After a topic was made anew, events up to this long before the last one handled are told again if their rows are not
 * there: the writers' clocks differ, and no row of so short a time ago is purged.
 */
const TOLD_AGAIN_MS = 60 * 60 * 1_000

/** What one record asks for. */
type Work = {
  notices: Notice[]
  mails: MailRequested[]
  deadLetters: RawRecord[]
  webhooks: WebhookEvent[]
  /** Accounts whose endpoints are paused. */
  ended: EndedAccount[]
  /** Users who are erased. */
  erased: string[]
  /** Changes of users' webhooks, whose addresses are in the notifier's tables alone, and the notices that name them. */
  ofWebhooks: Array<{ eventId: string; noticeIds: string[] }>
  /** The entries that an event tells of. */
  entries: Counted[]
  /** Wallets of which an event that moves nothing tells how many entries they have. */
  reached: Counted[]
}

type Counted = { walletId: string; sequence: number }

const NOTHING: Work = {
  notices: [],
  mails: [],
  webhooks: [],
  ended: [],
  erased: [],
  ofWebhooks: [],
  deadLetters: [],
  entries: [],
  reached: [],
}

const MAIL_REQUESTED = 'pennywire.notifier.MailRequested'
const NOTICE_REQUESTED = 'pennywire.notifier.NoticeRequested'

/** Whether this version handles records of a type; newer types are passed over. */
export const isHandled = (type: string): boolean =>
  type === MAIL_REQUESTED || type === NOTICE_REQUESTED || isLedgerEvent(type) || isIdentityEvent(type)

// Avro's strings and longs hold more than the columns do. What would not fit is found here, where it is one record's
// fault, instead of in the batch's insert, where it would hold the partition for ever.
const storedId = z.guid()
const storedText = z
  .string()
  .refine(text => !text.includes('\0'), 'holds a NUL character')
  .refine(text => text.isWellFormed(), 'holds half of a surrogate pair')
// What is derived of a time, such as when a mail expires, is stored as well.
const storedTime = z.int().min(0).max(Date.UTC(9_999, 0))
const storedNotices = z.array(
  z.object({
    id: storedId,
    userId: storedId,
    type: storedText,
    data: z.record(storedText, z.union([storedText, z.int(), z.null()])),
    aboutUserId: storedId.nullable(),
    transferId: storedId.nullable(),
    createdAt: storedTime,
  }),
)
const storedEnds: z.ZodType<EndedAccount[]> = z.array(
  z.object({ userId: storedId, reason: z.enum(['password_reset', 'account_disabled']), at: storedTime }),
)
const storedWebhook = z.object({ cause: storedText, at: storedTime, users: z.array(storedId) })
const storedMail = z.object({
  commandId: storedId,
  userId: storedId,
  template: z.string().refine(isMailTemplate, 'is unknown to this version'),
  secret: storedText,
  expiresAt: storedTime,
  requestedAt: storedTime,
})

/** Throws where the record cannot be told to anybody; it will then never be possible, as nothing but it decides. */
export const workFor = (record: AnyRecord, since: number): Work => {
  if (record.type === MAIL_REQUESTED) return { ...NOTHING, mails: [storedMail.parse(record.value)] }
  if (record.type === NOTICE_REQUESTED) {
    const { commandId: id, userId, type, transferId, data, requestedAt: createdAt } = record.value
    const notice = { id, userId, type, data: JSON.parse(data), aboutUserId: null, transferId, createdAt }
    return { ...NOTHING, notices: storedNotices.parse([notice]) }
  }
  if (isIdentityEvent(record.type)) {
    const event = record as IdentityEvent
    const notices = event.value.occurredAt < since ? [] : storedNotices.parse(noticesForAccount(event))
    const erased = event.type === 'pennywire.identity.UserErased' ? [storedId.parse(event.value.userId)] : []
    const ofWebhooks =
      'webhookId' in event.value && event.value.origin === ''
        ? [{ eventId: storedId.parse(event.value.eventId), noticeIds: notices.map(({ id }) => id) }]
        : []
    return { ...NOTHING, notices, ended: storedEnds.parse(endsOf(event)), erased, ofWebhooks }
  }
  if (!isLedgerEvent(record.type)) return NOTHING
  const event = record as LedgerEvent
  const webhook = webhookEventOf(event)
  return {
    ...NOTHING,
    notices: storedNotices.parse(noticesFor(event)),
    webhooks: webhook ? [storedWebhook.parse(webhook) && webhook] : [],
    ...countedBy(event),
  }
}

/** An account that ends: by a new password after a forgotten one, or because it is deactivated. */
const endsOf = ({ type, value }: IdentityEvent): EndedAccount[] => {
  const { occurredAt: at } = value
  if (type === 'pennywire.identity.PasswordChanged' && value.how === 'reset')
    return [{ userId: value.userId, reason: 'password_reset', at }]
  if (type === 'pennywire.identity.AccountDeactivated')
    return [{ userId: value.userId, reason: 'account_disabled', at }]
  return []
}

/** What an event tells of how many entries wallets have: by entries of its own, or by the way. */
const countedBy = ({ value }: LedgerEvent): Pick<Work, 'entries' | 'reached'> => {
  if ('entries' in value) return { entries: value.entries, reached: [] }
  if (!('sequence' in value)) return { entries: [], reached: [] }
  const walletId = 'walletId' in value ? value.walletId : value.fromWalletId
  return { entries: [], reached: [{ walletId, sequence: value.sequence }] }
}

const reasonOf = (error: unknown): string =>
  error instanceof z.ZodError
    ? error.issues.map(issue => `${issue.path.join('.')}: ${issue.message}`).join('; ')
    : (error as Error).message

const idOf = ({ topic, partition }: TopicPartition) => `${topic}/${partition}`

/** Identifies a record, wherever it stands. */
const digestOf = ({ key, value }: IncomingRecord): Buffer => {
  const hash = createHash('sha256')
  for (const part of [key, value]) hash.update(`${part?.length ?? -1}:`).update(part ?? '')
  return hash.digest()
}

/** When what a record states happened, by its writer's clock; null where it does not say. */
const timeOf = (record: IncomingRecord): number | null => {
  const time = Date.parse(headerOf(record, 'ce_time') ?? '')
  return Number.isInteger(time) && storedTime.safeParse(time).success ? time : null
}

/** The position at the beginning of a topic that was made anew: what was told of the old one is no news again. */
const beginAnew = (
  { topic, partition, toldAt, newsSince }: HandledPosition,
  first: bigint,
): HandledPosition => ({
  ...{ topic, partition, toldAt, offset: first, lastDigest: null },
  newsSince: toldAt === null ? newsSince : Math.max(newsSince ?? 0, toldAt - TOLD_AGAIN_MS),
})

/** Turns batches of ledger.events, identity.events and notifier.commands into notices and mails to be sent. */
export const createNotifying = (deps: {
  sql: Database
  codec: Codec
  publisher: Pick<Publisher, 'publishAll'>
  logger: Logger
  /** Called when there are new mails. */
  wakeMails: () => void
  /** Called with the endpoints that have something new. */
  wakeWebhooks: (endpointIds: string[]) => void
  /** How long a webhook is tried. */
  webhookWorthMs: number
  /** Told of what records of ledger.events say of wallets' entries, once they are handled; repeats as well. */
  sequences?: Pick<SequenceWatch, 'saw' | 'reached'>
}): Pick<ConsumerOptions, 'positions' | 'handle'> => {
  const { sql, codec, publisher, logger, wakeMails, wakeWebhooks, webhookWorthMs, sequences } = deps
  /** Gaps in each partition since its last progress. */
  const gapsInARow = new Map<string, number>()
  let starts = new Map<string, number>()
  /** The first offset of each partition, when it was assigned. */
  const firsts = new Map<string, bigint>()

  /** Payloads are made for owners who have an endpoint alone: most events have none. */
  const storeWebhooks = async (tx: Tx, events: WebhookEvent[]): Promise<string[]> => {
    const owners = await readEndpointOwners(tx, [...new Set(events.flatMap(({ users }) => users))])
    const sent = events.flatMap(event =>
      [null, ...event.users]
        .filter(owner => owners.has(owner))
        .flatMap((ownerId): OwnersEvent[] => {
          const { cause, type, at } = event
          try {
            return [{ cause, ownerId, type, at, payload: payloadOf(event, ownerId) }]
          } catch (error) {
            // A field that no ledger of ours writes: its notice is told, and the partition goes on.
            logger.error({ type, cause, err: error }, 'an event that no webhook can hold')
            return []
          }
        }),
    )
    return sent.length > 0 ? insertWebhooks(tx, sent, webhookWorthMs) : []
  }

  /** The hosts that notices name, by the notices' ids. */
  const hostsOfNotices = async (tx: Tx, ofWebhooks: Work['ofWebhooks']) => {
    const urls = await takeChangedUrls(
      tx,
      ofWebhooks.map(({ eventId }) => eventId),
    )
    return new Map(
      ofWebhooks.flatMap(({ eventId, noticeIds }) => {
        const url = urls.get(eventId)
        return url === undefined ? [] : noticeIds.map(id => [id, hostOf(url)] as const)
      }),
    )
  }

  const readWork = async (record: IncomingRecord): Promise<Work> => {
    // By the header, so that types newer than this version are passed over instead of being taken for damage.
    const type = headerOf(record, 'ce_type')
    if (type !== undefined && !isHandled(type)) return NOTHING
    const deadLetter = (reason: string): Work => ({
      ...NOTHING,
      deadLetters: [deadLetterOf(record, 'notifier', reason)],
    })
    let decoded: AnyRecord
    try {
      decoded = await codec.decodeRecord(record)
    } catch (error) {
      if (error instanceof UndecodableRecord) return deadLetter(error.message)
      throw error // the registry is away: hold, and try again
    }
    try {
      return workFor(decoded, starts.get(record.topic) ?? 0)
    } catch (error) {
      return deadLetter(`cannot be handled: ${reasonOf(error)}`)
    }
  }

  return {
    positions: async (assigned, readEnds, consumer) => {
      const rows = new Map((await readPositions(sql, assigned)).map(row => [idOf(row), row]))
      const stored = new Map([...rows].map(([id, row]) => [id, row.offset]))
      starts = await readTopicStarts(sql)
      const ends = await readEnds()
      for (const end of ends) firsts.set(idOf(end), end.first)
      gapsInARow.clear()
      // A topic that is kept for ever has lost what was not told yet: a person must look, nothing is passed over.
      const lost = ends.filter(
        end => TOPICS[end.topic].retentionMs < 0 && (stored.get(idOf(end)) ?? end.first) < end.first,
      )
      for (const { topic, partition, first } of lost) {
        const next = stored.get(idOf({ topic, partition }))
        const reason = `the topic begins at offset ${first}, but offset ${next} is next`
        consumer.halt({ topic, partition }, reason)
      }
      // Before the topic's beginning: its retention has deleted what would have been next, and mails of that age
      // have expired. Beyond its end: it was made anew, or lost its end. It is read from its beginning: what was told is
      // not told again.
      const going = ends.filter(end => !lost.includes(end))
      const moved = going
        .filter(end => {
          const next = stored.get(idOf(end)) ?? -1n
          return next < end.first || next > end.offset
        })
        .map(({ topic, partition, first }): HandledPosition => {
          const row = rows.get(idOf({ topic, partition }))
          if (row && row.offset > first) return beginAnew(row, first)
          const { toldAt = null, newsSince = null } = row ?? {}
          return { topic, partition, toldAt, newsSince, offset: first, lastDigest: null }
        })
      if (moved.length > 0) await writePositions(sql, moved)
      for (const { topic, partition, offset } of moved) {
        const from = stored.get(idOf({ topic, partition }))
        if (from === undefined) continue
        logger.warn(
          { topic, partition, from: `${from}`, to: `${offset}` },
          'stored position outside the topic',
        )
      }
      const positions = new Map(moved.map(position => [idOf(position), position.offset]))
      return going.map(({ topic, partition, first }) => {
        const id = idOf({ topic, partition })
        const next = positions.get(id) ?? stored.get(id) ?? first
        // From the last record handled, where it is known: another one in its place shows that the topic was made anew.
        const known = !positions.has(id) && next > first && rows.get(id)?.lastDigest
        return { topic, partition, offset: known ? next - 1n : next }
      })
    },

    handle: async (records, consumer) => {
      const works = await Promise.all(records.map(readWork))
      const of = [...new Map(records.map(record => [idOf(record), record])).values()]

      const { gaps, remade, added, repeated, due, webhooksDue, deadLetters } = await sql.begin(async tx => {
        const next = new Map((await lockPositions(tx, of)).map(row => [idOf(row), row]))
        const gaps = new Map<string, Position>()
        const remade = new Map<string, HandledPosition>()
        const last = new Map<string, IncomingRecord>()
        const notices: Notice[] = []
        const mails: MailRequested[] = []
        const webhooks: WebhookEvent[] = []
        const ended: EndedAccount[] = []
        const erased: string[] = []
        const ofWebhooks: Work['ofWebhooks'] = []
        const deadLetters: RawRecord[] = []
        for (const [index, record] of records.entries()) {
          const position = next.get(idOf(record))
          // Not positioned yet, or handled before: it comes again, or came already.
          if (!position || remade.has(idOf(record))) continue
          if (record.offset < position.offset) {
            const known = last.has(idOf(record)) ? null : position.lastDigest
            if (record.offset === position.offset - 1n && known && !digestOf(record).equals(known)) {
              const anew = beginAnew(position, firsts.get(idOf(record)) ?? 0n)
              remade.set(idOf(record), anew)
              next.set(idOf(record), anew)
            }
            continue
          }
          if (record.offset > position.offset) {
            gaps.set(idOf(record), position)
            continue
          }
          position.offset += 1n
          last.set(idOf(record), record)
          const time = timeOf(record)
          if (time !== null) position.toldAt = Math.max(position.toldAt ?? 0, time)
          if (time !== null && time < (position.newsSince ?? 0)) {
            deadLetters.push(...works[index]!.deadLetters)
            continue
          }
          notices.push(...works[index]!.notices)
          mails.push(...works[index]!.mails)
          webhooks.push(...works[index]!.webhooks)
          ended.push(...works[index]!.ended)
          erased.push(...works[index]!.erased)
          ofWebhooks.push(...works[index]!.ofWebhooks)
          deadLetters.push(...works[index]!.deadLetters)
        }
        if (deadLetters.length > 0) await publisher.publishAll(deadLetters)
        // Before the notices, as what disables an endpoint locks it before its owner's list.
        if (ended.length > 0) await pauseEndpoints(tx, ended)
        const hosts = ofWebhooks.length > 0 ? await hostsOfNotices(tx, ofWebhooks) : undefined
        // One event may stand in a batch twice.
        const once = [
          ...new Map(
            notices.map(notice => {
              const url = hosts?.get(notice.id)
              const isNamed = url !== undefined && 'url' in notice.data
              return [notice.id, isNamed ? { ...notice, data: { ...notice.data, url } } : notice]
            }),
          ).values(),
        ]
        const added = once.length > 0 ? await insertNotices(tx, once) : 0
        const repeated = notices.length - added
        if (mails.length > 0) await insertMails(tx, mails)
        const noticeMails = mailsOfNotices(once)
        const mailed = noticeMails.length > 0 ? await insertNoticeMails(tx, noticeMails) : 0
        const webhooksDue = webhooks.length > 0 ? await storeWebhooks(tx, webhooks) : []
        // Last: what the same batch has stored of them goes as well.
        if (erased.length > 0) await eraseUsers(tx, erased)
        for (const [id, record] of last) next.get(id)!.lastDigest = digestOf(record)
        await writePositions(tx, [...next.values()])
        return { gaps, remade, added, repeated, due: mails.length + mailed, webhooksDue, deadLetters }
      })

      notificationsAdded.inc(added)
      duplicates.inc(repeated)
      if (sequences) {
        for (const { entries, reached } of works) {
          for (const { walletId, sequence } of entries) sequences.saw(walletId, sequence)
          for (const { walletId, sequence } of reached) sequences.reached(walletId, sequence)
        }
      }
      if (due > 0) wakeMails()
      if (webhooksDue.length > 0) wakeWebhooks(webhooksDue)
      for (const { headers } of deadLetters) {
        const {
          dead_letter_topic: topic,
          dead_letter_partition: partition,
          dead_letter_offset: offset,
        } = headers
        setAside.inc({ topic: String(topic) })
        logger.error({ topic, partition, offset, reason: headers.dead_letter_reason }, 'record set aside')
      }
      for (const { topic, partition, offset } of remade.values()) {
        logger.warn({ topic, partition }, 'the topic was made anew; reading it from its beginning')
        consumer.seek({ topic, partition, offset })
      }
      for (const partition of of.map(idOf)) if (!gaps.has(partition)) gapsInARow.delete(partition)
      for (const [id, position] of gaps) {
        const times = (gapsInARow.get(id) ?? 0) + 1
        gapsInARow.set(id, times)
        logger.warn({ topic: position.topic, partition: position.partition, times }, 'gap; reading again')
        if (times < MAX_GAPS) consumer.seek(position)
        else consumer.halt(position, `the topic no longer holds offset ${position.offset}`)
      }
    },
  }
}
