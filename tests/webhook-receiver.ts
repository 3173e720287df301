// A receiver of webhooks, as another team would run one.
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

export type Received = {
  headers: IncomingHttpHeaders
  body: string
  /** Of the body. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into events of every type
  event: any
  at: number
}

export type Receiver = {
  url: string
  received: Received[]
  /** Answers each request from now on; 204 if it does nothing. */
  answer: (by: (response: ServerResponse, received: Received) => void) => void
  close: () => Promise<void>
}

export const startReceiver = async (): Promise<Receiver> => {
  const received: Received[] = []
  let by: (response: ServerResponse, received: Received) => void = response => response.writeHead(204).end()
  const server = createServer(async (request, response) => {
    const body = await text(request)
    const one = { headers: request.headers, body, event: JSON.parse(body), at: Date.now() }
    received.push(one)
    by(response, one)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    received,
    answer: next => {
      by = next
    },
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
