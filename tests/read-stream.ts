import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { inject } from 'vitest'

export type StreamedEvent = {
  id: number | undefined
  event: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into data of every shape
  data: any
}

export type TestStream = {
  headers: Headers
  /** The next event; rejects once the stream has ended. */
  next: () => Promise<StreamedEvent>
  /** All events until the stream ends, however it ends. */
  rest: () => Promise<StreamedEvent[]>
  /** Hangs up. */
  close: () => void
}

async function* eventsOf(response: Response): AsyncGenerator<StreamedEvent> {
  let fields: Record<string, string> = {}
  for await (const line of createInterface({ input: Readable.fromWeb(response.body as never) })) {
    if (line === '' && fields.data !== undefined) {
      const { id, event = 'message', data } = fields
      fields = {}
      yield { id: id === undefined ? undefined : Number(id), event, data: JSON.parse(data) }
    } else if (!line.startsWith(':') && line !== '') {
      const [, name, value] = /^([a-z]+): (.*)$/.exec(line)!
      fields[name!] = value!
    }
  }
}

/** Opens a live stream as any HTTP client would; throws unless the answer is 200. */
export const openStream = async (
  path: string,
  options: { token: string; lastEventId?: number; gatewayUrl?: string; headers?: Record<string, string> },
): Promise<TestStream> => {
  const { token, lastEventId, gatewayUrl = inject('system').gatewayUrl } = options
  const over = new AbortController()
  const response = await fetch(`${gatewayUrl}${path}`, {
    headers: {
      authorization: `Bearer ${token}`,
      ...(lastEventId === undefined ? {} : { 'last-event-id': String(lastEventId) }),
      ...options.headers,
    },
    signal: over.signal,
  })
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`)
  const events = eventsOf(response)
  const next = async () => {
    const { value, done } = await events.next()
    if (done) throw new Error('the stream has ended')
    return value
  }
  return {
    headers: response.headers,
    next,
    rest: async () => {
      const all: StreamedEvent[] = []
      for (;;) {
        const event = await next().catch(() => undefined)
        if (!event) return all
        all.push(event)
      }
    },
    close: () => over.abort(),
  }
}
