// Attacks of one client on a gateway over the network. Each attack runs until its signal aborts, from loopback
// addresses that the honest client does not use.
import { randomUUID } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Person } from '../faults/people.ts'

export type Target = {
  host: string
  port: number
  /** People with money whose tokens the attackers have; the first has a long history. */
  attackers: Person[]
}
/** The scale of each attack: 1 in the short form. */
export type Size = { scale: number }

export type Attack = {
  name: string
  /** The attack floods password hashing: the honest client signs in during it. */
  floodsSignIn?: true
  /** Resolves with a short summary of the responses once the signal has aborted. */
  run: (target: Target, size: Size, signal: AbortSignal) => Promise<string>
}

/** A trusted proxy of the attacked gateway: requests from this address state the client's address. */
export const PROXY_ADDRESS = '127.0.0.99'
/** The attackers' addresses; a refused connection is opened again after AGAIN_MS. */
const drawAddress = (index: number) => `127.0.1.${1 + (index % 200)}`
const AGAIN_MS = 50
/**
 * Below the ports that Linux gives out by itself (32768 and up): thousands of connections that are over keep their ports
 * for a minute, and the honest client would find none free.
 */
const [FIRST_PORT, PORTS] = [10_000, 20_000]
let drawn = 0
const drawPort = () => FIRST_PORT + (drawn++ % PORTS)
const ANSWER_MS = 20_000

const GET = (path: string, token?: string) =>
  `GET ${path} HTTP/1.1\r\nhost: x\r\n${token ? `authorization: Bearer ${token}\r\n` : ''}\r\n`

const post = (path: string, body: string, ...headers: string[]) =>
  [`POST ${path} HTTP/1.1`, 'host: x', 'content-type: application/json', ...headers]
    .concat(`content-length: ${Buffer.byteLength(body)}`, '', body)
    .join('\r\n')

/** Keeps `count` connections open and calls `begin` with each; counts the connections that the gateway closed. */
const keepOpen = async (
  { host, port }: Target,
  count: number,
  signal: AbortSignal,
  begin: (socket: Socket) => unknown,
): Promise<{ opened: number; ended: number; bytes: number }> => {
  const seen = { opened: 0, ended: 0, bytes: 0 }
  const one = async (index: number): Promise<void> => {
    while (!signal.aborted) {
      const socket = connect({ host, port, localAddress: drawAddress(index), localPort: drawPort() })
      const hangUp = () => socket.destroy()
      signal.addEventListener('abort', hangUp, { once: true })
      await new Promise<void>(resolve => {
        socket.once('connect', () => {
          seen.opened++
          begin(socket)
        })
        socket.on('data', data => {
          seen.bytes += data.length
        })
        socket.on('error', () => {})
        socket.once('close', resolve)
      })
      signal.removeEventListener('abort', hangUp)
      if (signal.aborted) return
      seen.ended++
      await sleep(AGAIN_MS)
    }
  }
  await Promise.all(Array.from({ length: count }, (_, index) => one(index)))
  return seen
}

/** Sends requests continuously with `clients` clients; counts the answers by status. */
const flood = async (
  { host, port }: Target,
  clients: number,
  signal: AbortSignal,
  request: (turn: number) => string,
  options: { localAddress?: string } = {},
): Promise<string> => {
  const statuses = new Map<string, number>()
  let turn = 0
  const one = async (index: number) => {
    while (!signal.aborted) {
      const localAddress = options.localAddress ?? drawAddress(index)
      const socket = connect({ host, port, localAddress, localPort: drawPort(), noDelay: true })
      const hangUp = () => socket.destroy()
      signal.addEventListener('abort', hangUp, { once: true })
      const status = await new Promise<string>(resolve => {
        const late = setTimeout(() => socket.destroy(), ANSWER_MS)
        socket.once('connect', () => socket.write(request(turn++)))
        socket.once('data', (data: Buffer) => resolve(data.subarray(9, 12).toString()))
        socket.on('error', () => {})
        socket.once('close', () => resolve('none'))
        socket.once('close', () => clearTimeout(late))
      })
      socket.destroy()
      signal.removeEventListener('abort', hangUp)
      if (signal.aborted) return
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      if (status === 'none') await sleep(AGAIN_MS)
    }
  }
  await Promise.all(Array.from({ length: clients }, (_, index) => one(index)))
  return [...statuses].map(([status, count]) => `${count} × ${status}`).join(', ') || 'no answer'
}

const ended = ({ opened, ended }: { opened: number; ended: number }) => `${opened} opened, ${ended} ended`

/** Pipelines requests for a large response and reads none of it. */
const slowReaders = (what: string, path: (target: Target) => { path: string; token?: string }): Attack => ({
  name: `slow readers of ${what}`,
  run: async (target, { scale }, signal) => {
    const { path: of, token } = path(target)
    const seen = await keepOpen(target, 30 * scale, signal, socket => {
      socket.pause()
      socket.write(GET(of, token).repeat(20))
    })
    return ended(seen)
  },
})

/** An address in a network in which one subscriber has thousands of /64s. */
const forwardedFor = (turn: number) =>
  `x-forwarded-for: 2001:db8:88:ab${(turn % 256).toString(16).padStart(2, '0')}::1`

/** The worst case for zxcvbn: every part of it matches a pattern or a dictionary entry. */
const WORST_PASSWORD = 'Aa1!@4$5!1|03l33t0oqweiloveyoudr@g0n6G9g1tr0ub4dor770op@$$w0rdl33t@4$5'.padEnd(
  128,
  '@4$5!1|0',
)
const WORST_NAME = Array.from({ length: 33 }, (_, index) => `${'abcdefghij'[index % 10]}1q`)
  .join(' ')
  .slice(0, 100)

const today = () => new Date().toISOString().slice(0, 10)
const statementOf = ({ attackers: [first] }: Target, format: string) =>
  `/v1/wallets/${first!.walletId}/statement?from=${today()}&to=${today()}&format=${format}`

export const ATTACKS: Attack[] = [
  slowReaders('an asset', () => ({ path: '/docs/assets/swagger-ui-bundle.js' })),
  slowReaders('the OpenAPI document', () => ({ path: '/openapi.json' })),
  slowReaders('a statement', target => ({
    path: statementOf(target, 'csv'),
    token: target.attackers[0]!.token,
  })),
  slowReaders('a list', target => ({ path: '/v1/transfers?limit=100', token: target.attackers[0]!.token })),
  {
    name: 'pipelined floods',
    run: async (target, { scale }, signal) =>
      ended(await keepOpen(target, 10 * scale, signal, socket => socket.write(GET('/healthz').repeat(500)))),
  },
  {
    name: 'half-sent heads',
    run: async (target, { scale }, signal) =>
      ended(
        await keepOpen(target, 200 * scale, signal, socket => {
          socket.write('GET /healthz HTTP/1.1\r\nhost: x\r\nx-')
          const drip = setInterval(() => socket.write('a'), 500)
          socket.once('close', () => clearInterval(drip))
        }),
      ),
  },
  {
    name: 'half-sent bodies',
    run: async (target, { scale }, signal) =>
      ended(
        await keepOpen(target, 200 * scale, signal, socket => {
          socket.write(post('/v1/auth/login', 'x'.repeat(60_000)).slice(0, -1_000))
          const drip = setInterval(() => socket.write('x'), 500)
          socket.once('close', () => clearInterval(drip))
        }),
      ),
  },
  {
    name: 'idle connections',
    run: async (target, { scale }, signal) => ended(await keepOpen(target, 1_000 * scale, signal, () => {})),
  },
  {
    name: 'sign-ins from one network',
    floodsSignIn: true,
    run: (target, { scale }, signal) =>
      flood(
        target,
        20 * scale,
        signal,
        turn =>
          post(
            '/v1/auth/login',
            JSON.stringify({ email: `${randomUUID()}@example.com`, password: 'Wrong-horse-9' }),
            forwardedFor(turn),
          ),
        { localAddress: PROXY_ADDRESS },
      ),
  },
  {
    name: 'sign-ups with the worst passwords',
    floodsSignIn: true,
    run: (target, { scale }, signal) =>
      flood(
        target,
        12 * scale,
        signal,
        turn =>
          post(
            '/v1/auth/signup',
            JSON.stringify({
              email: target.attackers[0]!.email,
              password: WORST_PASSWORD,
              fullName: WORST_NAME,
            }),
            forwardedFor(turn),
          ),
        { localAddress: PROXY_ADDRESS },
      ),
  },
  {
    name: 'PDF statements',
    run: (target, { scale }, signal) =>
      flood(target, 20 * scale, signal, () => GET(statementOf(target, 'pdf'), target.attackers[0]!.token)),
  },
  {
    name: 'requests that wait',
    run: (target, { scale }, signal) =>
      flood(target, 300 * scale, signal, turn => {
        const { walletId, token } = target.attackers[turn % target.attackers.length]!
        const body = JSON.stringify({ walletId, amount: '0.01', currency: 'USD', source: 'sandbox:silent' })
        return post(
          '/v1/deposits',
          body,
          `authorization: Bearer ${token}`,
          `idempotency-key: ${randomUUID()}`,
          'prefer: wait=60',
        )
      }),
  },
  {
    name: 'bodies that are deep, large or no text',
    run: (target, { scale }, signal) =>
      flood(target, 20 * scale, signal, turn => {
        const { token } = target.attackers[0]!
        const bodies = [
          '['.repeat(60_000),
          `{"metadata":${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}}`,
          JSON.stringify(Object.fromEntries(Array.from({ length: 5_000 }, (_, index) => [`k${index}`, 1]))),
          JSON.stringify({ toWalletCode: `PW-${'0'.repeat(60_000)}`, amount: '1', currency: 'USD' }),
        ]
        return post(
          '/v1/transfers',
          bodies[turn % bodies.length]!,
          `authorization: Bearer ${token}`,
          `idempotency-key: ${randomUUID()}`,
        )
      }),
  },
]
