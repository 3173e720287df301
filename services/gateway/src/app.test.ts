import { Writable } from 'node:stream'
import { createRoute, z } from '@hono/zod-openapi'
import type { AsyncApi } from '@pennywire/contracts/asyncapi.ts'
import { PROBLEMS } from '@pennywire/contracts/problems.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { metricsText } from '@pennywire/runtime/metrics.ts'
import { beforeEach, describe, expect, test } from 'vitest'
import { createApp } from './app.ts'
import { parseNetworks } from './http/client-address.ts'
import {
  BODY_PROBLEMS,
  cursorParam,
  jsonAnswer,
  jsonBody,
  limitParam,
  moneyString,
  newRoutes,
  problemResponses,
  uuidParam,
} from './http/define-route.ts'
import { ProblemError } from './problems/problem.ts'

const ID = '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11'
const JSON_TYPE = { 'content-type': 'application/json' }

const logLines: string[] = []
const logger = createLogger(
  'gateway',
  { level: 'info', instance: 'test' },
  new Writable({
    write: (chunk, _encoding, done) => {
      logLines.push(String(chunk))
      done()
    },
  }),
)

const routes = newRoutes()
routes.openapi(
  createRoute({
    method: 'post',
    path: '/v1/things/{id}',
    summary: 'A thing',
    request: {
      params: z.object({ id: uuidParam }),
      query: z.strictObject({ limit: limitParam, cursor: cursorParam }),
      body: jsonBody(z.strictObject({ amount: moneyString, secret: z.string().optional() })),
    },
    responses: {
      201: jsonAnswer('It', z.object({ limit: z.number() })),
      ...problemResponses(...BODY_PROBLEMS, 'INVALID_PIN', 'PIN_REQUIRED', 'SERVICE_UNAVAILABLE'),
    },
  }),
  context => {
    const { secret } = context.req.valid('json')
    if (secret === 'fail') throw new Error('connection to 10.0.0.3 refused')
    if (secret === 'refuse') throw new ProblemError('INVALID_PIN', 'pin: is wrong', { attemptsRemaining: 2 })
    if (secret === 'away') throw new ProblemError('SERVICE_UNAVAILABLE', 'later')
    return context.json({ limit: context.req.valid('query').limit }, 201)
  },
)
const app = createApp({
  hashAddress: address => address,
  countRefusal: () => {},
  logger,
  publicUrl: 'https://pay.example',
  trustedProxies: parseNetworks(''),
  guards: { anybody: () => ({ 'x-fails-closed': false, middleware: [] }) },
  apiDocs: true,
  routes: [routes],
})

const post = (body: string, path = `/v1/things/${ID}`, headers: Record<string, string> = JSON_TYPE) =>
  app.request(path, { method: 'POST', headers, body })

beforeEach(() => {
  logLines.length = 0
})

describe('what is refused before the handler', () => {
  const cases: Array<[string, () => Promise<Response> | Response, number, string, RegExp]> = [
    ['malformed JSON', () => post('{'), 400, 'MALFORMED_JSON', /well-formed/],
    ['no body', () => post(''), 400, 'MALFORMED_JSON', /well-formed/],
    [
      'another content type',
      () => post('{}', undefined, { 'content-type': 'text/plain' }),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      /application\/json/,
    ],
    [
      'no content type',
      () => app.request(`/v1/things/${ID}`, { method: 'POST', body: new Uint8Array([123, 125]) }),
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      /application\/json/,
    ],
    [
      'a large body',
      () => post(JSON.stringify({ amount: '1'.repeat(65_536) })),
      413,
      'PAYLOAD_TOO_LARGE',
      /65536/,
    ],
    [
      'a number for an amount',
      () => post('{"amount":1.5}'),
      422,
      'VALIDATION_ERROR',
      /^amount: expected string/,
    ],
    ['a missing field', () => post('{}'), 422, 'VALIDATION_ERROR', /^amount: is required$/],
    [
      'an unknown field',
      () => post('{"amount":"1","admin":true}'),
      422,
      'VALIDATION_ERROR',
      /^admin: is not a known field$/,
    ],
    [
      'a poisoned prototype',
      () => post('{"amount":"1","__proto__":{"a":1}}'),
      422,
      'VALIDATION_ERROR',
      /__proto__/,
    ],
    ['an array', () => post('[]'), 422, 'VALIDATION_ERROR', /^body: /],
    [
      'a limit of 0',
      () => post('{"amount":"1"}', `/v1/things/${ID}?limit=0`),
      422,
      'VALIDATION_ERROR',
      /^limit: must be from 1 to 100$/,
    ],
    [
      'a limit of 101',
      () => post('{"amount":"1"}', `/v1/things/${ID}?limit=101`),
      422,
      'VALIDATION_ERROR',
      /^limit: /,
    ],
    [
      'a limit of 1.5',
      () => post('{"amount":"1"}', `/v1/things/${ID}?limit=1.5`),
      422,
      'VALIDATION_ERROR',
      /^limit: /,
    ],
    [
      'two limits',
      () => post('{"amount":"1"}', `/v1/things/${ID}?limit=1&limit=2`),
      422,
      'VALIDATION_ERROR',
      /^limit: /,
    ],
    [
      'an unknown parameter',
      () => post('{"amount":"1"}', `/v1/things/${ID}?lim=1`),
      422,
      'VALIDATION_ERROR',
      /^lim: /,
    ],
    [
      'no UUID',
      () => post('{"amount":"1"}', '/v1/things/7'),
      422,
      'VALIDATION_ERROR',
      /^id: must be a UUID$/,
    ],
    ['another path', () => app.request('/v1/nothing'), 404, 'ROUTE_NOT_FOUND', /no route/],
    ['another method', () => app.request(`/v1/things/${ID}`), 405, 'METHOD_NOT_ALLOWED', /POST/],
  ]
  test.each(cases)('%s', async (_name, ask, status, code, detail) => {
    const response = await ask()
    const body = (await response.json()) as Record<string, unknown>
    expect([response.status, body.code, body.status]).toEqual([status, code, status])
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(body.detail).toMatch(detail)
    expect(body).toMatchObject({ type: `/docs/problems#${code}`, retryable: false, final: false })
    expect(body.requestId).toBe(response.headers.get('x-request-id'))
  })

  test('all broken rules are told at once, as text and as members', async () => {
    const body = (await (await post('{"amount":"x","b":1}')).json()) as { detail: string; errors: unknown }
    expect(body.errors).toEqual([
      { field: 'amount', rule: 'must be a decimal string such as "12.50", digits and at most one point' },
      { field: 'b', rule: 'is not a known field' },
    ])
    expect(body.detail).toMatch(/^amount: must be .*; b: is not a known field$/)
  })

  test('an answer does not grow with the fields that a client makes up', async () => {
    const fields = Array.from({ length: 900 }, (_, index) => [`x${index}`, 1])
    const text = await (await post(JSON.stringify(Object.fromEntries(fields)))).text()
    expect(JSON.parse(text).errors).toHaveLength(20)
    expect(JSON.parse(text).detail).toContain('; and 881 more')
    expect((await (await post(`{"${'x'.repeat(60_000)}":1}`)).text()).length).toBeLessThan(2_000)
  })

  test('405 says what the path takes', async () => {
    const response = await app.request(`/v1/things/${ID}`, { method: 'DELETE' })
    expect(response.headers.get('allow')).toBe('POST')
    expect((await app.request('/openapi.json', { method: 'POST' })).headers.get('allow')).toBe('GET, HEAD')
  })
})

test('an error that nobody foresaw is told to the log, not to the client', async () => {
  const response = await post('{"amount":"1","secret":"fail"}')
  const text = await response.text()
  expect(response.status).toBe(500)
  expect(text).toContain('INTERNAL_ERROR')
  expect(text).not.toContain('10.0.0.3')
  expect(logLines.join('')).toContain('connection to 10.0.0.3 refused')
})

test('a refusal carries its own members; 503 says when to come again', async () => {
  const refused = await post('{"amount":"1","secret":"refuse"}')
  expect([refused.status, await refused.json()]).toMatchObject([
    403,
    { code: 'INVALID_PIN', attemptsRemaining: 2 },
  ])
  const away = await post('{"amount":"1","secret":"away"}')
  expect([away.status, away.headers.get('retry-after')]).toEqual([503, '1'])
})

test('a refusal is counted by its code, and the log names it', async () => {
  const counted = async () =>
    Number(
      /^pennywire_gateway_problems_total\{code="MALFORMED_JSON"\} (\d+)$/m.exec(await metricsText())?.[1] ??
        0,
    )
  const before = await counted()
  await post('{')
  expect(await counted()).toBe(before + 1)
  const lines = logLines.map(line => JSON.parse(line))
  expect(lines.find(({ status }) => status === 400)).toMatchObject({
    msg: 'request',
    problem: 'MALFORMED_JSON',
  })
})

test('a request id is kept if it is one, and the log has it, without query or body', async () => {
  const kept = await post('{"amount":"1","secret":"canary-body"}', `/v1/things/${ID}?cursor=canary-query`, {
    ...JSON_TYPE,
    'x-request-id': 'order-7.a_B',
    traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
  })
  expect([kept.status, kept.headers.get('x-request-id')]).toEqual([201, 'order-7.a_B'])
  expect(JSON.parse(logLines[0]!)).toMatchObject({
    msg: 'request',
    method: 'POST',
    route: '/v1/things/:id',
    status: 201,
    requestId: 'order-7.a_B',
    traceId: 'a'.repeat(32),
  })
  expect(logLines.join('')).not.toContain('canary')
  for (const odd of ['a b', 'x'.repeat(129), '"quoted"']) {
    const response = await post('{"amount":"1"}', undefined, { ...JSON_TYPE, 'x-request-id': odd })
    expect(response.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
  }
})

test('every answer has the security headers; pages may use their own origin only', async () => {
  const answer = await post('{"amount":"1"}')
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'cache-control': 'no-store',
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    'strict-transport-security': 'max-age=31536000; includeSubDomains',
  })
  for (const path of ['/docs', '/docs/problems', '/docs/events']) {
    const page = await app.request(path)
    expect(page.headers.get('content-security-policy')).toContain("script-src 'self'")
    expect(await page.text()).not.toMatch(/(src|href)="(?![/#])|<script>|style=/)
  }
})

test('the reference is made from the routes: summaries, problem answers with examples', async () => {
  const document = JSON.parse(await (await app.request('/openapi.json')).text())
  expect(document.openapi).toBe('3.1.0')
  const { summary, responses } = document.paths['/v1/things/{id}'].post
  expect(summary).toBe('A thing')
  expect(Object.keys(responses)).toEqual(['201', '400', '403', '413', '415', '422', '503'])
  expect(Object.keys(responses['403'].content['application/problem+json'].examples)).toEqual([
    'INVALID_PIN',
    'PIN_REQUIRED',
  ])
  expect(document.components.securitySchemes.bearer).toMatchObject({ type: 'http', scheme: 'bearer' })
})

test('the page of events shows every topic and record of the AsyncAPI document, each once', async () => {
  const document = (await (await app.request('/asyncapi.json')).json()) as AsyncApi
  const page = await (await app.request('/docs/events')).text()
  const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id)
  const topics = Object.values(document.channels).map(({ address }) => address as string)
  expect(ids.toSorted()).toEqual([...topics, ...Object.keys(document.components.messages)].toSorted())
  for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) expect(ids).toContain(target)
  for (const { name, examples } of Object.values(document.components.messages)) {
    expect(page).toContain(`<code>${name}</code>`)
    expect(examples.length).toBe(1)
  }
})

test('the page of problems explains every code at the anchor that answers name', async () => {
  const page = await (await app.request('/docs/problems')).text()
  for (const code of Object.keys(PROBLEMS)) expect(page).toContain(`id="${code}"`)
  expect((await app.request('/docs/assets/swagger-ui-bundle.js')).status).toBe(200)
  expect((await app.request('/docs/assets/package.json')).status).toBe(404)
})
