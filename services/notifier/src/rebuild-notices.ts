import type { Topic } from '@pennywire/contracts/topics.ts'
import type { KafkaClient } from '@pennywire/kafka/client.ts'
import { type Codec, UndecodableRecord } from '@pennywire/kafka/codec.ts'
import { readTopics } from '@pennywire/kafka/read-topic.ts'
import { headerOf, type IncomingRecord } from '@pennywire/kafka/record.ts'
import { type Clock, sleep } from '@pennywire/runtime/clock.ts'
import type { Database } from '@pennywire/runtime/database.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import type { Progress } from '@pennywire/runtime/progress.ts'
import { isHandled, workFor } from './notify.ts'
import {
  addRebuilt,
  compareRebuilt,
  describeNotice,
  eraseRebuilt,
  type LiveOnly,
  type RebuiltNotice,
  readLiveOnly,
  readLivePositions,
  readOrigins,
  readWrongInboxes,
  stillLiveOnly,
} from './sql/rebuild.ts'
import { readTopicStarts } from './sql/topic-starts.ts'

const TOPICS_READ: Topic[] = ['ledger.events', 'identity.events', 'notifier.commands']
/** The live service may be behind the topics' ends for this long, while it goes on. */
const LIVE_WITHIN_MS = 15_000
const LIVE_LOOK_MS = 200
const PAGE_ROWS = 10_000
/** What the notifier tells of its own deliveries: the event of it names the endpoint alone. */
const OWN_TYPES = new Set(['webhook_disabled'])

export type RebuildDeps = {
  /** As the owner. */
  sql: Database
  client: KafkaClient
  codec: Codec
  logger: Logger
  clock: Clock
  signal: AbortSignal
  progressOf: (what: string, total: number) => Progress
  /** How long the service keeps notices. */
  keepDays: number
}

type End = { topic: Topic; partition: number; first: bigint; offset: bigint }

export type Rebuilt = {
  records: number
  notices: number
  /** Records that the notifier sets aside. */
  undecodable: number
  seconds: number
  ends: End[]
  /** The time of the first record that each topic holds now; a topic that holds none has none. */
  begins: Map<Topic, number>
  /** Users who are erased: nothing is told to them any more. */
  erased: Set<string>
}

const idOf = ({ topic, partition }: { topic: string; partition: number }) => `${topic}/${partition}`

const readEnds = async (client: KafkaClient): Promise<End[]> => {
  const admin = client.admin()
  await admin.connect()
  try {
    const ends: End[] = []
    for (const topic of TOPICS_READ)
      for (const { partition, low, high } of await admin.fetchTopicOffsets(topic))
        ends.push({ topic, partition, first: BigInt(low), offset: BigInt(high) })
    return ends
  } finally {
    await admin.disconnect()
  }
}

/** Reads the topics into notifier.notices_rebuilt, by the same code that tells them live. Sends nothing. */
export const rebuildNotices = async (deps: RebuildDeps, before?: Rebuilt): Promise<Rebuilt> => {
  const { sql, client, codec, logger, clock, signal, progressOf } = deps
  const since = clock.elapsed()
  const starts = await readTopicStarts(sql)
  const ends = await readEnds(client)
  const from = new Map(before?.ends.map(end => [idOf(end), end.offset]))
  const rebuilt: Rebuilt = {
    ...{ records: 0, notices: 0, undecodable: 0, ends, begins: before?.begins ?? new Map() },
    ...{ erased: before?.erased ?? new Set(), seconds: 0 },
  }

  const noticesOf = async (record: IncomingRecord): Promise<RebuiltNotice[]> => {
    const type = headerOf(record, 'ce_type')
    if (type !== undefined && !isHandled(type)) return []
    try {
      const decoded = await codec.decodeRecord(record)
      const { notices, erased } = workFor(decoded, starts.get(record.topic) ?? 0)
      for (const userId of erased) rebuilt.erased.add(userId)
      return notices.map(notice => ({ ...notice, topic: record.topic }))
    } catch (error) {
      if (
        !(
          error instanceof UndecodableRecord ||
          (error as Error).name === 'ZodError' ||
          error instanceof SyntaxError
        )
      )
        throw error
      rebuilt.undecodable++
      return []
    }
  }

  const progress = progressOf(
    'rebuilding',
    ends.reduce((sum, end) => sum + Number(end.offset - (from.get(idOf(end)) ?? end.first)), 0),
  )
  await readTopics({
    ...{ client, logger, signal, topics: TOPICS_READ, bulk: true },
    start: end => from.get(idOf(end)) ?? end.first,
    handle: async records => {
      for (const record of records) {
        const time = Date.parse(headerOf(record, 'ce_time') ?? '')
        const begin = rebuilt.begins.get(record.topic)
        if (Number.isFinite(time) && (begin === undefined || time < begin))
          rebuilt.begins.set(record.topic, time)
      }
      const notices = (await Promise.all(records.map(noticesOf))).flat()
      const once = [...new Map(notices.map(notice => [notice.id, notice])).values()]
      if (once.length > 0) rebuilt.notices += await addRebuilt(sql, once)
      rebuilt.records += records.length
      progress.add(records.length)
    },
  })
  progress.end()
  // Their notices come from all topics, also from records behind the one that erases them.
  if (rebuilt.erased.size > 0) rebuilt.notices -= await eraseRebuilt(sql, [...rebuilt.erased])
  rebuilt.seconds = (clock.elapsed() - since) / 1_000
  return rebuilt
}

export type Comparison = {
  equal: number
  different: number
  /** Rebuilt and not live, for no reason that is known. */
  missing: number
  /** Not live, as their users have turned off their kind. */
  unwanted: number
  /** Not live, as they are older than the service keeps them. */
  purged: number
  /** Live only: of records that no topic holds any more. */
  older: number
  /** Live only: told by the notifier of its own deliveries, which are in no topic. */
  own: number
  /** Live only, although every topic that tells such a notice goes back further. */
  invented: number
  /** Lists whose counts are not those of their notices. */
  wrongInboxes: number
  /** The first row that differs, for a person. */
  first: string | null
}

/** Waits until the live service has handled what was read. */
const untilLive = async ({ sql, clock, signal }: RebuildDeps, ends: End[]): Promise<void> => {
  const until = clock.elapsed() + LIVE_WITHIN_MS
  for (;;) {
    const live = new Map((await readLivePositions(sql)).map(row => [idOf(row), row.offset]))
    const behind = ends.some(end => end.offset > end.first && (live.get(idOf(end)) ?? 0n) < end.offset)
    if (!behind || clock.elapsed() > until || signal.aborted) return
    await sleep(clock, LIVE_LOOK_MS, signal)
  }
}

/** Whether the record that told a live notice may have been in a topic that does not hold it any more. */
const isOlder = (notice: LiveOnly, origins: Map<string, Set<Topic>>, begins: Map<Topic, number>): boolean =>
  [...(origins.get(notice.type) ?? TOPICS_READ)].some(
    topic => notice.createdAt.getTime() < (begins.get(topic) ?? Number.POSITIVE_INFINITY),
  )

/** Compares every rebuilt notice with the live one, and every live one with the rebuilt, while the service goes on. */
export const compareNotices = async (deps: RebuildDeps, rebuilt: Rebuilt): Promise<Comparison> => {
  const { sql, signal, keepDays, progressOf } = deps
  const result: Comparison = {
    ...{
      equal: 0,
      different: 0,
      missing: 0,
      unwanted: 0,
      purged: 0,
      older: 0,
      own: 0,
      invented: 0,
      wrongInboxes: 0,
    },
    first: null,
  }
  await untilLive(deps, rebuilt.ends)
  const progress = progressOf('comparing', rebuilt.notices)
  let after: string | null = null
  while (!signal.aborted) {
    const page = await compareRebuilt(sql, after, { rows: PAGE_ROWS, keepDays })
    if (page.last === null) break
    after = page.last
    for (const count of ['equal', 'different', 'missing', 'unwanted', 'purged'] as const)
      result[count] += page[count]
    if (page.first !== null && result.first === null) {
      const { live, rebuilt } = await describeNotice(sql, page.first)
      result.first = `notice ${page.first}: live ${live ?? 'missing'}; by the topics ${rebuilt}`
    }
    progress.add(page.equal + page.different + page.missing + page.unwanted + page.purged)
  }
  progress.end()

  const liveOnly: LiveOnly[] = []
  for (let last: string | null = null; !signal.aborted; ) {
    const page = await readLiveOnly(sql, last, PAGE_ROWS)
    if (page.length === 0) break
    last = page.at(-1)!.id
    liveOnly.push(...page)
  }
  // What was told since the topics were read: their records are in the topics by now.
  if (liveOnly.length > 0) Object.assign(rebuilt, { ends: (await rebuildNotices(deps, rebuilt)).ends })
  const origins = new Map<string, Set<Topic>>()
  for (const { type, topic } of await readOrigins(sql))
    origins.set(type, (origins.get(type) ?? new Set()).add(topic))
  const still = await stillLiveOnly(
    sql,
    liveOnly.map(({ id }) => id),
  )
  for (const notice of liveOnly.filter(({ id }) => still.has(id))) {
    if (OWN_TYPES.has(notice.type)) result.own++
    else if (isOlder(notice, origins, rebuilt.begins)) result.older++
    else {
      result.invented++
      result.first ??= `notice ${notice.id} (${notice.type}): no topic tells it`
    }
  }
  const inboxes = await readWrongInboxes(sql)
  result.wrongInboxes = inboxes.length
  if (inboxes[0]) result.first ??= `the list of user ${inboxes[0].userId} counts otherwise than its notices`
  return result
}
