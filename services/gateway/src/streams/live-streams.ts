import { randomInt } from 'node:crypto'
import type { ProblemCode } from '@pennywire/contracts/problems.ts'
import type { Clock } from '@pennywire/runtime/clock.ts'
import type { Logger } from '@pennywire/runtime/logger.ts'
import { collectedGauge, counter } from '@pennywire/runtime/metrics.ts'
import { repeat } from '@pennywire/runtime/repeat.ts'
import type { Context } from 'hono'
import type { GatewayEnv } from '../http/context.ts'
import type { Guards } from '../http/define-route.ts'
import { ProblemError } from '../problems/problem.ts'
import type { InTurn } from '../queues/turns.ts'

const opened = counter('gateway_streams_opened_total', 'Live streams opened, by feed', ['feed'])
const endedTotal = counter(
  'gateway_streams_ended_total',
  'Live streams ended, by why: client (it hung up), token (its session, token or key ended), shutdown',
  ['feed', 'reason'],
)
const sent = counter('gateway_stream_events_total', 'Events sent on live streams, by feed', ['feed'])

/** How often a gateway asks for what is new to all its open streams of a feed. */
const LOOK_MS = 500
/** A look asks for this many lists in one query. */
const LISTS_PER_QUERY = 1_000
const PAGE = 50
/** An idle stream sends a comment this often: proxies cut connections that are silent for longer, mostly after 30 s. */
const HEARTBEAT_MS = 15_000
const HEARTBEAT_ROUND_MS = 1_000
/** Tokens that are checked at once: without Redis each is a query. */
const CHECKS_AT_ONCE = 100
/** How long a client waits before it connects again. At random: a gateway that restarts meets its clients spread out. */
const RECONNECT_MS = [1_000, 5_000] as const
/** Bytes that wait for a client before its stream reads no further. */
const BUFFER_BYTES = 16_384

/** One event of a numbered list: `id` counts the list's items from 1 without a gap, in the order of the commits. */
export type StreamEvent = { id: bigint; event: string; data: object }

/** Numbered lists of one kind, such as users' notifications. */
export type Feed = {
  name: 'notifications' | 'entries'
  /** Of lists read up to a number, the last numbers of those that have more. */
  findLonger: (lists: { key: string; readTo: bigint }[]) => Promise<Array<{ key: string; last: bigint }>>
  /** Takes the user's turn for reading the feed's database. */
  inTurn: InTurn
}

/** A list of a feed, for one client. */
export type StreamedList = {
  key: string
  /** The last number that the client has seen; undefined: it wants what is new from now on. */
  after: bigint | undefined
  /** The number of the newest item now; 0 for an empty list. Throws a ProblemError if the client may not read it. */
  readLast: () => Promise<bigint>
  /** Events after a number, in order, up to `limit`. */
  readAfter: (after: bigint, limit: number) => Promise<StreamEvent[]>
}

/** Why a stream ends, and the problem code that its last event states. */
type End = { reason: 'client' } | { reason: 'token' | 'shutdown'; code: ProblemCode }
const SHUTDOWN: End = { reason: 'shutdown', code: 'SERVICE_UNAVAILABLE' }

type Stream = {
  key: string
  readTo: bigint
  /** The client has not taken what it was sent: nothing is read for it meanwhile. */
  isFull: () => boolean
  /** Sends what comes after `readTo`, until the list ends or the client takes no more. */
  advance: () => Promise<void>
  beat: () => Promise<void>
  beatAt: number
  end: (end: End) => void
}

const encoder = new TextEncoder()
const encodeEvent = ({ id, event, data }: StreamEvent): string =>
  `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`

export type LiveStreams = {
  /**
   * Answers with a stream of a list's events (Server-Sent Events, WHATWG HTML 9.2). It begins after the event that the
   * client names in Last-Event-ID, otherwise with what is new from now on, and its first event, `ready`, states where.
   * Throws RATE_LIMIT_EXCEEDED above the user's number of streams and SERVICE_UNAVAILABLE above the gateway's.
   */
  open: (context: Context<GatewayEnv>, feed: Feed, list: StreamedList) => Promise<Response>
  /** Ends all streams; clients connect again, to another gateway. Later requests are refused. */
  stop: () => Promise<void>
}

/**
 * Live streams of numbered lists. The database is the only source: a stream knows the number up to which its client has
 * read, a look every half second asks for the lists that have grown, and a page is read after that number. So nothing
 * is missed or sent twice, whichever gateway the client reaches, and a look costs the same however much happens.
 *
 * A stream is as good as its token: it ends within a heartbeat once the session, token or key has ended, and nothing is
 * sent after that.
 */
export const createLiveStreams = (deps: {
  clock: Clock
  logger: Logger
  maxStreams: number
  maxPerUser: number
  confirmSignedIn: Guards['confirmSignedIn']
}): LiveStreams => {
  const { clock, logger, maxStreams, maxPerUser, confirmSignedIn } = deps
  const streams = new Map<Feed, Set<Stream>>()
  const byUser = new Map<string, number>()
  let count = 0
  let isStopped = false
  collectedGauge('gateway_streams', 'Open live streams by feed', ['feed'], () =>
    [...streams].map(([{ name: feed }, { size: value }]) => ({ labels: { feed }, value })),
  )

  const assertRunning = (): void => {
    if (isStopped) throw new ProblemError('SERVICE_UNAVAILABLE', 'The gateway shuts down; try again shortly.')
  }

  /** Takes a place; returns the function that gives it back. */
  const takePlace = (userId: string): (() => void) => {
    assertRunning()
    if (count >= maxStreams) {
      throw new ProblemError('SERVICE_UNAVAILABLE', 'Too many live streams at once; try again shortly.')
    }
    const own = byUser.get(userId) ?? 0
    if (own >= maxPerUser) {
      throw new ProblemError('RATE_LIMIT_EXCEEDED', `At most ${maxPerUser} of your live streams at a time.`)
    }
    count++
    byUser.set(userId, own + 1)
    return () => {
      count--
      const left = byUser.get(userId)! - 1
      if (left === 0) byUser.delete(userId)
      else byUser.set(userId, left)
    }
  }

  /** Lets a stream advance. It waits for its user's turns; the next look finds one whose page could not be read. */
  const serve = (feed: Feed, stream: Stream): void => {
    stream.advance().catch(error => {
      if (streams.get(feed)!.has(stream))
        logger.warn({ err: error, feed: feed.name }, 'a live stream was not served; trying again')
    })
  }

  const begin = (
    context: Context<GatewayEnv>,
    feed: Feed,
    { key, readAfter }: StreamedList,
    readTo: bigint,
    leave: () => void,
  ): ReadableStream<Uint8Array> => {
    const { userId } = context.var.user
    const authorization = context.req.header('authorization')
    let controller: ReadableStreamDefaultController<Uint8Array>
    let isOpen = true
    let isAdvancing = false
    /** The last page was full: more follow once the client has taken it. */
    let hasMore = false

    const send = (text: string) => controller.enqueue(encoder.encode(text))
    const isFull = () => (controller.desiredSize ?? 0) <= 0
    const end = (why: End) => {
      if (!isOpen) return
      isOpen = false
      streams.get(feed)!.delete(stream)
      leave()
      endedTotal.inc({ feed: feed.name, reason: why.reason })
      if (why.reason === 'client') return
      send(`event: end\ndata: ${JSON.stringify({ code: why.code })}\n\n`)
      controller.close()
    }
    /** Ends the stream if its token is no longer valid. Rejects, and the stream waits, if that cannot be checked. */
    const isSignedIn = async (): Promise<boolean> => {
      try {
        await confirmSignedIn(authorization)
      } catch (error) {
        if (!(error instanceof ProblemError)) throw error
        end({ reason: 'token', code: error.code })
      }
      return isOpen
    }

    const stream: Stream = {
      key,
      readTo,
      isFull,
      end,
      beatAt: clock.now() + HEARTBEAT_MS,
      advance: async () => {
        if (isAdvancing) return
        isAdvancing = true
        try {
          while (isOpen && !isFull() && (await isSignedIn())) {
            const events = await feed.inTurn(userId, () => readAfter(stream.readTo, PAGE))
            hasMore = events.length === PAGE
            if (!isOpen || events.length === 0) return
            send(events.map(encodeEvent).join(''))
            stream.readTo = events.at(-1)!.id
            sent.inc({ feed: feed.name }, events.length)
            if (!hasMore) return
          }
        } finally {
          isAdvancing = false
        }
      },
      beat: async () => {
        if (!(await isSignedIn())) return
        stream.beatAt = clock.now() + HEARTBEAT_MS
        if (!isFull()) send(':\n\n')
      },
    }

    const body = new ReadableStream<Uint8Array>(
      {
        start: own => {
          controller = own
          send(`retry: ${randomInt(...RECONNECT_MS)}\nid: ${readTo}\nevent: ready\ndata: {}\n\n`)
        },
        // Not awaited: while a pull is pending, the stream asks for no other.
        pull: () => {
          if (hasMore) serve(feed, stream)
        },
        cancel: () => end({ reason: 'client' }),
      },
      { highWaterMark: BUFFER_BYTES, size: chunk => chunk!.byteLength },
    )
    if (!streams.has(feed)) streams.set(feed, new Set())
    streams.get(feed)!.add(stream)
    opened.inc({ feed: feed.name })
    return body
  }

  const lookAt = async (feed: Feed, chunk: Stream[]): Promise<void> => {
    const lists = new Map<string, bigint>()
    for (const { key, readTo } of chunk) {
      const known = lists.get(key)
      if (known === undefined || readTo < known) lists.set(key, readTo)
    }
    const longer = await feed.findLonger([...lists].map(([key, readTo]) => ({ key, readTo })))
    const lastOf = new Map(longer.map(({ key, last }) => [key, last]))
    for (const stream of chunk) {
      if ((lastOf.get(stream.key) ?? 0n) <= stream.readTo) continue
      // Not awaited: a long list that one client catches up with delays no other.
      serve(feed, stream)
    }
  }

  const looking = repeat({
    clock,
    everyMs: LOOK_MS,
    work: async () => {
      for (const [feed, open] of streams) {
        const waiting = [...open].filter(({ isFull }) => !isFull())
        for (let at = 0; at < waiting.length; at += LISTS_PER_QUERY) {
          await lookAt(feed, waiting.slice(at, at + LISTS_PER_QUERY))
        }
      }
    },
    onError: error => logger.warn({ err: error }, 'live streams were not looked at; trying again'),
  })

  const beating = repeat({
    clock,
    everyMs: HEARTBEAT_ROUND_MS,
    pauseFirst: true,
    work: async () => {
      const now = clock.now()
      const due = [...streams.values()].flatMap(open => [...open]).filter(({ beatAt }) => beatAt <= now)
      for (let at = 0; at < due.length; at += CHECKS_AT_ONCE) {
        await Promise.all(due.slice(at, at + CHECKS_AT_ONCE).map(({ beat }) => beat()))
      }
    },
    onError: error => logger.warn({ err: error }, 'tokens of live streams were not checked; trying again'),
  })

  return {
    open: async (context, feed, list) => {
      const { userId } = context.var.user
      const leave = takePlace(userId)
      let last: bigint
      try {
        last = await feed.inTurn(userId, list.readLast)
        assertRunning()
      } catch (error) {
        leave()
        throw error
      }
      const headers = { 'content-type': 'text/event-stream', 'x-accel-buffering': 'no' }
      // The body of a HEAD answer is never read, and would keep its place.
      if (context.req.method === 'HEAD') {
        leave()
        return context.body(null, 200, headers)
      }
      // A number above the last one is of a database that was put back since: the list goes on from its last one.
      const readTo = list.after === undefined || list.after > last ? last : list.after
      const body = begin(context, feed, list, readTo, leave)
      if (readTo < last) looking.wake()
      return context.body(body, 200, headers)
    },
    stop: async () => {
      isStopped = true
      for (const open of streams.values()) for (const stream of [...open]) stream.end(SHUTDOWN)
      await Promise.all([looking.stop(), beating.stop()])
    },
  }
}
