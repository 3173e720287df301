// HTTP handling before the routes, tested over sockets: what a proxy, a broken client or an attacker may send.
import { connect } from 'node:net'
import { gzipSync } from 'node:zlib'
import { createRoute, z } from '@hono/zod-openapi'
import { listen } from '@pennywire/runtime/http-server.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAnswerRefused, createApp } from './app.ts'
import { parseNetworks } from './http/client-address.ts'
import { jsonAnswer, jsonBody, newRoutes } from './http/define-route.ts'

const PUBLIC_URL = 'https://pay.example'

const routes = newRoutes()
routes.openapi(
  createRoute({
    method: 'post',
    path: '/v1/echo',
    summary: 'What it was told',
    request: { body: jsonBody(z.looseObject({})) },
    responses: { 200: jsonAnswer('It', z.looseObject({})) },
  }),
  context => context.json(context.req.valid('json'), 200),
)

let server: Awaited<ReturnType<typeof listen>>
beforeAll(async () => {
  const app = createApp({
    hashAddress: address => address,
    countRefusal: () => {},
    logger: createLogger('gateway', { level: 'silent', instance: 'test' }),
    publicUrl: PUBLIC_URL,
    trustedProxies: parseNetworks(''),
    guards: { anybody: () => ({ 'x-fails-closed': false, middleware: [] }) },
    apiDocs: true,
    routes: [routes],
  })
  server = await listen(
    { fetch: (request, env) => app.fetch(request, env as never) },
    { host: '127.0.0.1', port: 0, answerRefused: createAnswerRefused(PUBLIC_URL) },
  )
})
afterAll(() => server.stop())

type Answer = { status: number; headers: Record<string, string>; body: string; reset: boolean }

/** Sends raw pieces of bytes and reads until the server closes the connection. */
const exchange = (...pieces: Array<string | Uint8Array>): Promise<Answer> =>
  new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port: server.port })
    const got: Buffer[] = []
    let reset = false
    socket.on('data', (data: Buffer) => got.push(data))
    socket.on('error', () => {
      reset = true
    })
    socket.on('close', () => {
      const text = Buffer.concat(got).toString()
      const [head = '', ...rest] = text.split('\r\n\r\n')
      const body = rest.join('\r\n\r\n')
      const [first = '', ...lines] = head.split('\r\n')
      const headers = Object.fromEntries(
        lines.map(line => {
          const colon = line.indexOf(':')
          return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
        }),
      )
      resolve({ status: Number(first.split(' ')[1]), headers, body, reset })
    })
    for (const piece of pieces) socket.write(piece)
  })

const post = (body: string | Buffer, ...headers: string[]) =>
  exchange(
    [
      'POST /v1/echo HTTP/1.1',
      'host: x',
      'connection: close',
      ...headers,
      `content-length: ${Buffer.byteLength(body)}`,
    ]
      .map(line => `${line}\r\n`)
      .join(''),
    '\r\n',
    body,
  )
const JSON_TYPE = 'content-type: application/json'
const problemOf = ({ status, body }: Answer) => {
  const { code, detail } = JSON.parse(body)
  return [status, code, detail]
}

const ALWAYS = {
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': expect.stringContaining('camera=()'),
  'strict-transport-security': expect.stringContaining('max-age='),
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}

describe('a request that cannot be read', () => {
  test.each([
    ['no HTTP', 'hello\r\n\r\n', 400, 'MALFORMED_REQUEST'],
    [
      'headers that are too large',
      `GET / HTTP/1.1\r\nhost: x\r\nx: ${'a'.repeat(20_000)}\r\n\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    ['no Host', 'GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n', 400, 'MALFORMED_REQUEST'],
    [
      'two Hosts',
      'GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n',
      400,
      'MALFORMED_REQUEST',
    ],
    [
      'two tokens',
      'GET /healthz HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nAuthorization: Bearer b\r\nconnection: close\r\n\r\n',
      400,
      'MALFORMED_REQUEST',
    ],
    [
      'a Host that is none',
      'GET /healthz HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n',
      400,
      'MALFORMED_REQUEST',
    ],
    [
      'a length and chunks',
      'POST /v1/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
      'MALFORMED_REQUEST',
    ],
  ])('%s: a problem with the usual headers', async (_what, request, status, code) => {
    const answer = await exchange(request)
    expect(answer.headers).toMatchObject({ ...ALWAYS, 'content-type': 'application/problem+json' })
    expect(problemOf(answer)).toEqual([status, code, expect.any(String)])
    expect(JSON.parse(answer.body).requestId).toBe(answer.headers['x-request-id'])
  })
})

describe('a body', () => {
  const chunk = (data: string) => `${data.length.toString(16)}\r\n${data}\r\n`
  const CHUNKED = `POST /v1/echo HTTP/1.1\r\nhost: x\r\n${JSON_TYPE}\r\ntransfer-encoding: chunked\r\n\r\n`

  test('in chunks is read as any other', async () => {
    const whole = CHUNKED.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n')
    const answer = await exchange(whole, chunk('{"a":'), chunk('"b"}'), '0\r\n\r\n')
    expect([answer.status, answer.body]).toEqual([200, '{"a":"b"}'])
  })

  test('that is too large in chunks: its sender reads the 413, and the connection ends cleanly', async () => {
    const answer = await exchange(
      CHUNKED,
      ...Array.from({ length: 40 }, () => chunk('x'.repeat(50_000))),
      '0\r\n\r\n',
    )
    expect(problemOf(answer)).toEqual([413, 'PAYLOAD_TOO_LARGE', 'body: must be at most 65536 bytes'])
    expect([answer.headers.connection, answer.reset]).toEqual(['close', false])
  })

  test('that says it is too large: the same', async () => {
    const answer = await post(Buffer.alloc(1_000_000, 'x'), JSON_TYPE)
    expect(problemOf(answer)).toEqual([413, 'PAYLOAD_TOO_LARGE', 'body: must be at most 65536 bytes'])
    expect([answer.headers.connection, answer.reset]).toEqual(['close', false])
  })

  test.each([
    ['application/json'],
    ['application/json ;charset=utf-8'],
    ['application/json;charset=UTF-8'],
    ['application/json ; charset="utf8"'],
    [' Application/JSON; x=y'],
  ])('of type %s is JSON', async type => {
    expect((await post('{"a":"ü"}', `content-type: ${type}`)).body).toBe('{"a":"ü"}')
  })

  test.each([
    [
      'content-encoding: gzip',
      gzipSync('{}'),
      'Content-Encoding: must not be sent, is "gzip"; send the body as it is',
    ],
    ['content-encoding: br', '{}', 'Content-Encoding: must not be sent, is "br"; send the body as it is'],
  ])('with %s: 415', async (header, body, detail) => {
    expect(problemOf(await post(body, JSON_TYPE, header))).toEqual([415, 'UNSUPPORTED_MEDIA_TYPE', detail])
  })

  test('in another charset: 415, and what is no UTF-8: 400', async () => {
    const latin = Buffer.from('{"a":"ü"}', 'latin1')
    expect(problemOf(await post(latin, `${JSON_TYPE}; charset=iso-8859-1`))).toEqual([
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      'Content-Type: charset must be utf-8, is "iso-8859-1"',
    ])
    expect(problemOf(await post(latin, JSON_TYPE))).toEqual([400, 'MALFORMED_JSON', 'body: must be UTF-8'])
    const surrogate = Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22])
    expect(problemOf(await post(surrogate, JSON_TYPE))).toEqual([
      400,
      'MALFORMED_JSON',
      'body: must be UTF-8',
    ])
  })

  test('may be nested 64 deep, not deeper, no matter what its texts hold', async () => {
    const nested = (depth: number) => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`
    expect((await post(nested(64), JSON_TYPE)).status).toBe(200)
    for (const depth of [65, 30_000]) {
      expect(problemOf(await post(nested(depth), JSON_TYPE))).toEqual([
        422,
        'VALIDATION_ERROR',
        expect.stringContaining('must not be nested more than 64 deep'),
      ])
    }
    const text = JSON.stringify({ a: `\\"${'['.repeat(1_000)}` })
    expect((await post(text, JSON_TYPE)).body).toBe(text)
  })

  test('may have 1000 values, not more, no matter what its texts hold', async () => {
    const wide = (count: number) => JSON.stringify({ a: Array.from({ length: count }, () => 1) })
    expect((await post(wide(1_000), JSON_TYPE)).status).toBe(200)
    expect(problemOf(await post(wide(1_001), JSON_TYPE))).toEqual([
      422,
      'VALIDATION_ERROR',
      'body: must have at most 1000 values',
    ])
    expect((await post(JSON.stringify({ a: ','.repeat(2_000) }), JSON_TYPE)).status).toBe(200)
  })

  test('that is cut off is refused and waits for nobody', async () => {
    const answer = await new Promise<string>(resolve => {
      const socket = connect({ host: '127.0.0.1', port: server.port, allowHalfOpen: true })
      let got = ''
      socket.on('data', data => {
        got += data
      })
      socket.on('error', () => {})
      socket.on('close', () => resolve(got))
      socket.end(`POST /v1/echo HTTP/1.1\r\nhost: x\r\n${JSON_TYPE}\r\ncontent-length: 10\r\n\r\n{`)
    })
    expect(answer).toMatch(/^(HTTP\/1\.1 400 |$)/)
  })
})

test('static answers are made once: two requests share one buffer', async () => {
  const get = (path: string) => exchange(`GET ${path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`)
  const [one, two] = [
    await get('/docs/assets/swagger-ui-bundle.js'),
    await get('/docs/assets/swagger-ui-bundle.js'),
  ]
  expect(one.status).toBe(200)
  expect(Number(one.headers['content-length'])).toBe(Buffer.byteLength(one.body))
  expect(two.body).toBe(one.body)
  expect(one.headers).toMatchObject(ALWAYS)
})
