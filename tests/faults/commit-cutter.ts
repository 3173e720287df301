// A TCP proxy in front of Postgres that drops a connection at the moment of COMMIT: the client then cannot determine
// the transaction's outcome.

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Socket } from 'node:net'

/** The cut comes before COMMIT is forwarded (rolled back), with it (either), or after Postgres answered (committed). */
const MOMENTS = ['before', 'with', 'after'] as const

const COMMIT = /^\s*commit\b/i

const textAt = (message: Buffer, from: number) => message.toString('latin1', from, message.indexOf(0, from))

/**
 * Parses a client's messages and reports whether a chunk completes a COMMIT: as a simple query, or as the execution of
 * a prepared one (https://www.postgresql.org/docs/current/protocol-message-formats.html).
 */
const createCommitFinder = () => {
  const prepared = new Set<string>()
  let rest: Buffer = Buffer.alloc(0)
  let started = false
  const isCommit = (message: Buffer): boolean => {
    switch (String.fromCharCode(message[0]!)) {
      case 'Q':
        return COMMIT.test(textAt(message, 5))
      case 'P': {
        const name = textAt(message, 5)
        const found = COMMIT.test(textAt(message, 5 + name.length + 1))
        if (found) prepared.add(name)
        else prepared.delete(name)
        return false
      }
      case 'B': {
        const portal = textAt(message, 5)
        return prepared.has(textAt(message, 5 + portal.length + 1))
      }
      default:
        return false
    }
  }
  return (chunk: Buffer): boolean => {
    rest = Buffer.concat([rest, chunk])
    let found = false
    for (;;) {
      // The first message has no type before its length.
      const head = started ? 1 : 0
      if (rest.length < head + 4) return found
      const length = head + rest.readUInt32BE(head)
      if (rest.length < length) return found
      if (started) found = isCommit(rest.subarray(0, length)) || found
      started = true
      rest = rest.subarray(length)
    }
  }
}

export type CommitCutter = {
  /** The database's URL through the proxy. */
  url: string
  /** Cuts the next connection that commits. */
  cutNext: () => void
  cuts: () => number
  stop: () => Promise<void>
}

export const startCommitCutter = async (databaseUrl: string): Promise<CommitCutter> => {
  const target = new URL(databaseUrl)
  const sockets = new Set<Socket>()
  let wanted = 0
  let cuts = 0
  const server = createServer(client => {
    const database = connect({ host: target.hostname, port: Number(target.port), noDelay: true })
    client.setNoDelay(true)
    const drop = () => {
      client.destroy()
      database.destroy()
    }
    for (const socket of [client, database]) {
      sockets.add(socket)
      socket.on('error', drop)
      socket.on('close', () => {
        sockets.delete(socket)
        drop()
      })
    }
    const findCommit = createCommitFinder()
    let cutting = false
    client.on('data', (chunk: Buffer) => {
      if (findCommit(chunk) && wanted > 0 && !cutting) {
        wanted--
        cutting = true
        const moment = MOMENTS[cuts++ % MOMENTS.length]
        if (moment === 'before') return drop()
        database.write(chunk)
        if (moment === 'with') {
          database.end()
          client.destroy()
        }
        return
      }
      database.write(chunk)
    })
    database.on('data', (chunk: Buffer) => {
      // Postgres has committed, but the client never receives the answer.
      if (cutting) return drop()
      client.write(chunk)
    })
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const url = new URL(databaseUrl)
  url.port = String((server.address() as AddressInfo).port)
  return {
    url: url.href,
    cutNext: () => {
      wanted++
    },
    cuts: () => cuts,
    stop: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      }),
  }
}
