import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type ListenOptions, listen } from './http-server.ts'

vi.setConfig({ testTimeout: 30_000 })

const PIECE = Buffer.alloc(64 * 1024)
let stops: Array<() => unknown>
beforeEach(() => {
  stops = []
})
afterEach(async () => {
  for (const stop of stops.reverse()) await stop()
})

type App = Parameters<typeof listen>[0]
const serve = async (fetch: App['fetch'], options: Partial<ListenOptions> = {}): Promise<number> => {
  const { port, stop } = await listen({ fetch }, { host: '127.0.0.1', port: 0, ...options })
  stops.push(stop)
  return port
}
const open = (port: number): { socket: Socket; closed: Promise<string> } => {
  const socket = connect({ host: '127.0.0.1', port })
  stops.push(() => socket.destroy())
  let got = ''
  socket.setEncoding('latin1')
  socket.on('data', text => {
    got += text
  })
  socket.on('error', () => {})
  return { socket, closed: new Promise(resolve => socket.once('close', () => resolve(got))) }
}
const GET = 'GET / HTTP/1.1\r\nhost: x\r\n\r\n'

test('requests of one connection are handled one after the other, and answered in order', async () => {
  let atWork = 0
  let most = 0
  let count = 0
  const port = await serve(async () => {
    most = Math.max(most, ++atWork)
    await sleep(1)
    atWork--
    return new Response(`answer ${++count}.`)
  })
  const { socket, closed } = open(port)
  socket.write(GET.repeat(9) + GET.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
  const got = await closed
  expect(got.match(/answer \d+\./g)).toEqual(Array.from({ length: 10 }, (_, index) => `answer ${index + 1}.`))
  expect(most).toBe(1)
})

test('a connection that sends too many ahead is ended', async () => {
  let handled = 0
  const port = await serve(() => {
    handled++
    return new Promise(() => {})
  })
  const { socket, closed } = open(port)
  socket.write(GET.repeat(500))
  await closed
  expect(handled).toBe(1)
})

test('a connection that takes nothing of its answer is ended; one that takes it slowly is not', async () => {
  const COUNT = 256
  let deafEnded = () => {}
  const ended = new Promise<void>(resolve => {
    deafEnded = resolve
  })
  const pieces = (count: number, cancel: () => void) =>
    new ReadableStream({
      pull: controller => {
        controller.enqueue(PIECE)
        if (--count === 0) controller.close()
      },
      cancel,
    })
  const port = await serve(
    ({ url }) =>
      new Response(
        url.endsWith('/endless') ? pieces(Number.POSITIVE_INFINITY, deafEnded) : pieces(COUNT, () => {}),
      ),
    { drainTimeoutMs: 500 },
  )
  const deaf = open(port)
  deaf.socket.pause()
  deaf.socket.write(GET.replace('/', '/endless'))
  const slow = open(port)
  slow.socket.write(GET.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
  slow.socket.on('data', () => {
    slow.socket.pause()
    setTimeout(() => slow.socket.resume(), 2)
  })
  const [got] = await Promise.all([slow.closed, ended])
  expect(got.length).toBeGreaterThan(COUNT * PIECE.length)
})

test('connections are bounded by client', async () => {
  const port = await serve(() => new Response('hello'), {
    maxConnectionsPerClient: 2,
    clientOf: address => address,
  })
  const [one, two] = [open(port), open(port)]
  for (const { socket } of [one, two]) {
    socket.write(GET)
    await new Promise(resolve => socket.once('data', resolve))
  }
  expect(await open(port).closed).toBe('')
  one.socket.destroy()
  await vi.waitFor(async () => {
    const again = open(port)
    again.socket.write(GET.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n'))
    expect(await again.closed).toContain('hello')
  })
})

test('of too many connections the one that was idle longest makes room; where all are at work, a new one is closed', async () => {
  const port = await serve(
    ({ url }) => (url.endsWith('/long') ? new Promise<Response>(() => {}) : new Response('hello')),
    { maxConnections: 2 },
  )
  const ask = ({ socket }: { socket: Socket }) => {
    const answered = new Promise(resolve => socket.once('data', resolve))
    socket.write(GET)
    return answered
  }
  const [unused, used] = [open(port), open(port)]
  await new Promise(resolve => unused.socket.once('connect', resolve))
  await ask(used)
  const third = open(port)
  await ask(third)
  expect(await unused.closed).toBe('')
  await ask(used)
  for (const { socket } of [used, third]) socket.write(GET.replace('/', '/long'))
  await vi.waitFor(async () => expect(await open(port).closed).toBe(''))
  expect([used.socket.destroyed, third.socket.destroyed]).toEqual([false, false])
})

test.each([
  ['no HTTP', 'what is this?\r\n\r\n', 400],
  ['headers without end', `GET / HTTP/1.1\r\nhost: x\r\nx: ${'a'.repeat(40_000)}\r\n\r\n`, 431],
  ['two lengths', 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab', 400],
  [
    'a length and chunks',
    'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    400,
  ],
  ['a target that is no path', 'GET x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n', 400],
  ['a Host that is none', 'GET / HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n', 400],
])('%s: refused with the answer of the caller', async (_what, request, status) => {
  const port = await serve(() => new Response('hello'), {
    answerRefused: code => ({ headers: { 'x-refused': String(code) }, body: `refused with ${code}` }),
  })
  const { socket, closed } = open(port)
  socket.write(request)
  const got = await closed
  expect(got).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
  expect(got.toLowerCase()).toContain(`x-refused: ${status}\r\n`)
  expect(got.endsWith(`refused with ${status}`)).toBe(true)
})

test.each([
  ['HTTP/1.0, which knows no Host', 'GET /path HTTP/1.0\r\n\r\n'],
  ['a target in absolute form', 'GET http://other/path HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'],
  [
    'an expectation that nobody knows',
    'GET /path HTTP/1.1\r\nhost: x\r\nexpect: miracles\r\nconnection: close\r\n\r\n',
  ],
])('%s: answered', async (_what, request) => {
  const port = await serve(({ url }) => new Response(new URL(url).pathname))
  const { socket, closed } = open(port)
  socket.write(request)
  const got = await closed
  expect(got).toMatch(/^HTTP\/1\.1 200 /)
  expect(got).toContain('/path')
})
