import { connect, type Socket } from 'node:net'

/**
 * One keep-alive connection that speaks just enough HTTP/1.1 for a load generator: one request at a time, answers
 * with Content-Length or chunked. Node's own client costs several times as much, on the cores that are measured.
 */
export type HttpConnection = {
  /** Sends a whole request and resolves with the answer's status and body. */
  send: (request: string) => Promise<{ status: number; body: string }>
  close: () => void
}

export const openHttp = (host: string, port: number): Promise<HttpConnection> =>
  new Promise((resolve, reject) => {
    const socket: Socket = connect({ host, port, noDelay: true })
    socket.setEncoding('latin1')
    let received = ''
    let waiting:
      | { resolve: (answer: { status: number; body: string }) => void; reject: (error: Error) => void }
      | undefined

    const fail = (error: Error) => {
      reject(error)
      waiting?.reject(error)
      waiting = undefined
    }
    socket.once('connect', () => {
      resolve({
        send: request =>
          new Promise((resolve, reject) => {
            waiting = { resolve, reject }
            socket.write(request)
          }),
        close: () => socket.destroy(),
      })
    })
    socket.on('error', fail)
    socket.on('close', () => fail(new Error('the gateway closed the connection')))
    socket.on('data', (text: string) => {
      received += text
      const body = bodyOf(received)
      if (body === undefined || !waiting) return
      const { resolve } = waiting
      const status = Number(received.slice(9, 12))
      waiting = undefined
      received = ''
      resolve({ status, body })
    })
  })

/** The answer's body once it is complete. */
const bodyOf = (answer: string): string | undefined => {
  const head = answer.indexOf('\r\n\r\n')
  if (head === -1) return undefined
  const length = /\r\ncontent-length: *(\d+)/i.exec(answer)?.[1]
  const body = answer.slice(head + 4)
  if (length !== undefined) return body.length >= Number(length) ? body : undefined
  return body.endsWith('0\r\n\r\n') ? body : undefined
}
