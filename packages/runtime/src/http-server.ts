import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { counter } from './metrics.ts'

/** Maximum time to receive a request's whole head, and the whole request. */
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
/** How often Node checks for late requests. */
const LATE_CHECK_MS = 2_000
/** How long a connection may be idle between two requests. */
const KEEP_ALIVE_TIMEOUT_MS = 5_000
const MAX_REQUESTS_PER_SOCKET = 10_000
/** Requests that one connection may send ahead of their answers; they are handled one after the other. */
const MAX_PIPELINED = 32
/** A connection that takes none of its pending data for this long is ended. */
const DRAIN_TIMEOUT_MS = 30_000
const DRAIN_CHECK_MS = 2_000
/** How long a refused client may continue to send before its connection is cut: until then it can read the reason. */
const LINGER_MS = 1_000
const MAX_CONNECTIONS = 1_000

const ended = counter(
  'http_connections_ended_total',
  'Connections that the server ended to protect itself, by reason (full, address, pipelining, not_reading)',
  ['reason'],
)

/** The status of a request that is refused before any handler receives it. */
export type RefusedStatus = 400 | 408 | 413 | 431

export type ListenOptions = {
  host: string
  /** 0: a free one. */
  port: number
  /** Concurrent connections; at the limit the longest idle one is closed, or the new one if all are busy. */
  maxConnections?: number
  /** The same per client: further ones are closed. `clientOf` returns a connection's client; undefined: not counted. */
  maxConnectionsPerClient?: number
  clientOf?: (address: string) => string | undefined
  /** Headers and body of the answer to a request that cannot be read. */
  answerRefused?: (status: RefusedStatus) => { headers: Record<string, string>; body: string }
  /** Tests only: in place of 30 s. */
  drainTimeoutMs?: number
}

const STATUS_OF: Record<string, RefusedStatus> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}
const REASONS = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Payload Too Large',
  431: 'Request Header Fields Too Large',
}

/** The state of an open connection. */
type Connection = {
  client: string | undefined
  /** A handler is running for it. */
  busy: boolean
  waiting: Array<() => void>
  /** The bytes that the client had taken when it last made progress, and the time of that. */
  taken: number
  takenAt: number
}

/**
 * Serves an app and returns its port; `stop` lets running requests finish. A client's connection costs bounded memory
 * and time: heads and requests that do not arrive in time are answered 408, answers that are not read end the
 * connection, requests of one connection are handled one after the other, and connections are bounded in total and per
 * client.
 */
export const listen = async (
  app: { fetch: (request: Request, env?: unknown) => Response | Promise<Response> },
  options: ListenOptions,
): Promise<{ port: number; stop: () => Promise<void> }> => {
  const { clientOf, maxConnectionsPerClient = Number.POSITIVE_INFINITY } = options
  const { maxConnections = MAX_CONNECTIONS, drainTimeoutMs = DRAIN_TIMEOUT_MS } = options
  const refusalOf = (status: RefusedStatus) => options.answerRefused?.(status) ?? { headers: {}, body: '' }
  /** Least recently used first. */
  const connections = new Map<Socket, Connection>()
  const byClient = new Map<string, number>()

  const end = (socket: Socket, reason: 'full' | 'address' | 'pipelining' | 'not_reading') => {
    ended.inc({ reason })
    socket.resetAndDestroy()
  }

  const handle = getRequestListener(app.fetch, {
    hostname: options.host,
    // Only for a request target or Host that is no URL: the app answers its own errors.
    errorHandler: () => {
      const { headers, body } = refusalOf(400)
      return new Response(body, { status: 400, headers })
    },
  })

  /** Handles a connection's requests one after the other: a client that sends ahead gets no extra concurrency. */
  const handleInTurn = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const { socket } = incoming
    const connection = connections.get(socket)
    if (!connection || socket.destroyed) return
    // Node would answer this request by itself, without the caller's headers.
    if (incoming.httpVersion === '1.1' && incoming.headers.host === undefined) {
      const { headers, body } = refusalOf(400)
      outgoing.writeHead(400, { ...headers, 'content-length': Buffer.byteLength(body), connection: 'close' })
      outgoing.end(body)
      return
    }
    const begin = () => {
      outgoing.once('close', () => {
        const next = connection.waiting.shift()
        if (next && !socket.destroyed) return next()
        connection.busy = false
        if (connections.delete(socket)) connections.set(socket, connection)
      })
      void handle(incoming, outgoing)
    }
    if (!connection.busy) {
      connection.busy = true
      begin()
    } else if (connection.waiting.push(begin) > MAX_PIPELINED) end(socket, 'pipelining')
  }

  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      connectionsCheckingInterval: LATE_CHECK_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      requireHostHeader: false,
    },
    handleInTurn,
  )
  server.maxRequestsPerSocket = MAX_REQUESTS_PER_SOCKET
  // An unknown expectation may be ignored (RFC 9110, 10.1.1).
  server.on('checkExpectation', handleInTurn)

  server.on('connection', (socket: Socket) => {
    const client = clientOf?.(socket.remoteAddress ?? '')
    const own = client === undefined ? 0 : (byClient.get(client) ?? 0)
    if (own >= maxConnectionsPerClient) return end(socket, 'address')
    if (connections.size >= maxConnections) {
      const idle = connections.entries().find(([, { busy }]) => !busy)
      end(idle?.[0] ?? socket, 'full')
      if (!idle) return
      connections.delete(idle[0])
    }
    if (client !== undefined) byClient.set(client, own + 1)
    connections.set(socket, { client, busy: false, waiting: [], taken: 0, takenAt: 0 })
    socket.once('close', () => {
      connections.delete(socket)
      if (client === undefined) return
      const left = byClient.get(client)! - 1
      if (left === 0) byClient.delete(client)
      else byClient.set(client, left)
    })
  })

  const refused = new WeakSet<Socket>()
  server.on('clientError', (error: NodeJS.ErrnoException, stream) => {
    const socket = stream as Socket
    // Further data of a refused connection only causes more errors.
    if (refused.has(socket)) return
    refused.add(socket)
    const away = error.code === 'ECONNRESET' || !socket.writable
    if (away || connections.get(socket)?.busy) return void socket.destroy()
    const status = STATUS_OF[error.code ?? ''] ?? 400
    const { headers, body } = refusalOf(status)
    const head = Object.entries({
      ...headers,
      'content-length': Buffer.byteLength(body),
      connection: 'close',
    }).map(([name, value]) => `${name}: ${value}\r\n`)
    socket.end(`HTTP/1.1 ${status} ${REASONS[status]}\r\n${head.join('')}\r\n${body}`)
    const cut = setTimeout(() => socket.destroy(), LINGER_MS)
    socket.once('end', () => socket.destroy())
    socket.once('close', () => clearTimeout(cut))
  })

  const drainCheck = setInterval(
    () => {
      const now = performance.now()
      for (const [socket, connection] of connections) {
        const taken = socket.bytesWritten - socket.writableLength
        if (socket.writableLength === 0 || taken !== connection.taken) {
          connection.taken = taken
          connection.takenAt = now
        } else if (now - connection.takenAt > drainTimeoutMs) end(socket, 'not_reading')
      }
    },
    Math.min(DRAIN_CHECK_MS, drainTimeoutMs),
  ).unref()

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise(resolve => {
        clearInterval(drainCheck)
        server.close(() => resolve())
        server.closeIdleConnections()
      }),
  }
}
