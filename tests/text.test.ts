// Text from a client is stored unchanged or refused with the field's name, on every route of the document.
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import fc from 'fast-check'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import {
  type Answer,
  ask,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  readText,
  type Staff,
  send,
  type Wallet,
} from './client.ts'

// biome-ignore lint/suspicious/noExplicitAny: a JSON document
type Json = any
type Operation = {
  method: string
  path: string
  pathNames: string[]
  queryNames: string[]
  /** The properties of the body, and an example of it; null if the route takes no body. */
  body: { required: boolean; properties: Record<string, Json>; names: string[]; example: Json } | null
}

let operations: Operation[]
let root: Staff
let payer: Person
let payee: Person
let from: Wallet
let to: Wallet

beforeAll(async () => {
  const { paths, components } = (await (
    await fetch(`${inject('system').gatewayUrl}/openapi.json`)
  ).json()) as Json
  const resolve = (schema: Json): Json =>
    schema?.$ref ? components.schemas[schema.$ref.split('/').at(-1)] : schema
  operations = Object.entries<Json>(paths).flatMap(([path, byMethod]) =>
    Object.entries<Json>(byMethod).map(([method, { parameters = [], requestBody }]) => {
      const namesIn = (place: string) =>
        parameters.filter((each: Json) => each.in === place).map((each: Json) => each.name as string)
      const media = requestBody?.content['application/json']
      const schema = resolve(media?.schema)
      return {
        method: method.toUpperCase(),
        path,
        pathNames: namesIn('path'),
        queryNames: namesIn('query'),
        body: schema
          ? {
              required: requestBody.required === true,
              properties: schema.properties ?? {},
              names: schema.required ?? [],
              example: media.example ?? schema.example ?? {},
            }
          : null,
      }
    }),
  )
  expect(operations.length).toBeGreaterThan(60)
  root = await makeStaff('super_admin')
  ;[payer, payee] = await Promise.all([makePerson('Paula Payer'), makePerson('Petra Payee')])
  ;[from, to] = await Promise.all([openWallet(payer, 'USD', '100'), openWallet(payee, 'USD')])
})

const UNKNOWN = '5b0e7f6c-2a43-4d9e-9c63-6f5a1c0a7f11'
const filled = ({ path, pathNames }: Operation, odd: Record<string, string> = {}) =>
  pathNames.reduce((text, name) => text.replace(`{${name}}`, odd[name] ?? UNKNOWN), path)

/** Like `ask`, without the document check: an answer to a request beyond the parser's limits has no JSON body. */
const statusOf = async (
  { method }: Operation,
  path: string,
  body?: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; body: Json }> => {
  const response = await fetch(`${inject('system').gatewayUrl}${path}`, {
    method,
    redirect: 'manual',
    headers: {
      authorization: `Bearer ${root.token}`,
      'idempotency-key': randomUUID(),
      'step-up-token': root.staffStepUp,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body }),
  })
  const text = await readText(response)
  return { status: response.status, body: text.startsWith('{') ? JSON.parse(text) : text }
}

const LONG = 'x'.repeat(1_000_000)

/** The same over a separate connection, which the server may close while the body is still being written. */
const statusOfLong = ({ method }: Operation, path: string, body = ''): Promise<number> =>
  new Promise((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${root.token}`,
      'content-type': 'application/json',
      'step-up-token': root.staffStepUp,
      // Node sets no content-length for a DELETE's body by itself.
      ...(body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
    }
    const asking = request(`${inject('system').gatewayUrl}${path}`, { method, headers, agent: false })
    asking.on('response', response => {
      response.resume()
      resolve(response.statusCode!)
    })
    asking.on('error', reject)
    asking.end(body)
  })

describe('text that cannot be kept is refused on every route', () => {
  test.each(['%00', 'a%00b', '%ff', '%c3%28', '%', '%zz', '%ed%a0%80'])(
    '%s in a path or query',
    async odd => {
      for (const operation of operations) {
        for (const name of operation.pathNames) {
          const path = filled(operation, { [name]: odd })
          const { status } = await statusOf(operation, path)
          expect([400, 404, 415, 422], `${operation.method} ${path}`).toContain(status)
        }
        for (const name of operation.queryNames) {
          const path = `${filled(operation)}?${name}=${odd}`
          const { status, body } = await statusOf(operation, path)
          expect(status, `${operation.method} ${path}`).toBe(422)
          expect(
            body.errors.map(({ field }: Json) => field),
            path,
          ).toContain(name)
        }
      }
    },
  )

  test('a megabyte in a path or query', async () => {
    for (const operation of operations.filter(each => [...each.pathNames, ...each.queryNames].length > 0)) {
      const path =
        operation.pathNames.length > 0
          ? filled(operation, { [operation.pathNames[0]!]: LONG })
          : `${filled(operation)}?${operation.queryNames[0]}=${LONG}`
      const status = await statusOfLong(operation, path)
      expect(status, `${operation.method} ${operation.path}`).toBeGreaterThanOrEqual(400)
      expect(status, `${operation.method} ${operation.path}`).toBeLessThan(500)
    }
  })

  test.each([
    '"\\u0000"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '12345678901234567890',
    '{"a":1,"a":1}',
    '{"__proto__":{}}',
  ])('%s as any field of a body', async odd => {
    for (const operation of operations) {
      for (const name of Object.keys(operation.body?.properties ?? {})) {
        const { [name]: _, ...rest } = operation.body!.example
        const text = `{${Object.entries({ ...rest, password: undefined, pin: undefined })
          .filter(([member, value]) => value !== undefined && member !== name)
          .map(([member, value]) => `${JSON.stringify(member)}:${JSON.stringify(value)},`)
          .join('')}${JSON.stringify(name)}:${odd}}`
        const { status, body } = await statusOf(operation, filled(operation), text)
        const where = `${operation.method} ${operation.path} ${name}`
        expect(status, where).toBe(422)
        const fields: string[] = body.errors.map(({ field }: Json) => field)
        expect(
          fields.some(field => `${field}.`.startsWith(`${name}.`)),
          where,
        ).toBe(true)
      }
    }
  })

  test('a megabyte as a body', async () => {
    for (const operation of operations.filter(({ body }) => body)) {
      const status = await statusOfLong(operation, filled(operation), JSON.stringify({ note: LONG }))
      expect(status, `${operation.method} ${operation.path}`).toBe(413)
    }
  })
})

describe('optional bodies and fields', () => {
  test('null is allowed wherever a field may be left out', () => {
    const refusing = operations.flatMap(({ method, path, body }) =>
      Object.entries<Json>(body?.properties ?? {})
        .filter(([name]) => !body!.names.includes(name))
        .filter(
          ([, schema]) =>
            ![schema.type].flat().includes('null') &&
            !schema.anyOf?.some(({ type }: Json) => type === 'null') &&
            !schema.oneOf?.some(({ type }: Json) => type === 'null'),
        )
        .map(([name]) => `${method} ${path} ${name}`),
    )
    expect(refusing).toEqual([])
  })

  test('no body, an empty one and one without content are alike where it may be left out', async () => {
    for (const operation of operations.filter(({ body }) => body?.required === false)) {
      const path = filled(operation)
      const answers = await Promise.all([
        statusOf(operation, path),
        statusOf(operation, path, ''),
        statusOf(operation, path, '{}'),
        statusOf(operation, path, '', { 'content-type': 'application/json; charset=utf-8' }),
      ])
      const outcomes = answers.map(({ status, body }) => `${status} ${body.code}`)
      expect(new Set(outcomes).size, `${operation.method} ${path}: ${outcomes}`).toBe(1)
      expect(answers[0]!.status).not.toBe(415)
    }
  })

  test('a transfer with null for everything that may be missing', async () => {
    const key = randomUUID()
    const ask = (more: object) =>
      payer.ask(
        'POST',
        '/v1/transfers',
        { toWalletId: to.id, amount: '1', currency: 'USD', ...more },
        { 'idempotency-key': key, 'step-up-token': payer.stepUp },
      )
    const first = await ask({ note: null, metadata: null, fromWalletId: null, toWalletCode: null, pin: null })
    expect([first.status, first.body.note, first.body.metadata]).toEqual([201, null, null])
    expect((await ask({})).headers.get('idempotency-replayed')).toBe('true')
  })
})

describe('an id in capitals is the same id', () => {
  const status = ({ status, body }: Answer) => `${status} ${body?.code ?? ''}`

  test('on every route that names one in its path or query', async () => {
    const admin = await makeStaff('super_admin')
    const transfer = await send(payer, to, '1')
    const place = async () => {
      const body = { toWalletId: to.id, amount: '1', currency: 'USD' }
      const headers = { 'idempotency-key': randomUUID(), 'step-up-token': payer.stepUp }
      return (await payer.ask('POST', '/v1/holds', body, headers)).body.id as string
    }
    const makeKey = async () => {
      const body = { name: 'till', scopes: ['wallets:read'], password: payer.password }
      const made = await payer.ask('POST', '/v1/api-keys', body)
      expect(made.status).toBe(201)
      return (made.body.key?.id ?? made.body.id) as string
    }
    const notified = async () => {
      const { items } = (await payer.ask('GET', '/v1/notifications')).body
      return items[0].id as string
    }
    const makeHook = async (person: Person, base: string) => {
      const url = 'http://127.0.0.1:9/hook'
      const proof = base === '/v1/webhooks' ? { password: person.password } : {}
      const { id } = (await person.ask('POST', base, { url, ...proof })).body
      const delivery = (await person.ask('POST', `${base}/${id}/test`)).body
      return { id: id as string, deliveryId: delivery.id as string }
    }
    /** The caller, and ids that the route accepts, by the beginning of the path. */
    const subjects: Array<[string, () => Promise<{ who: Person; ids: Record<string, string> }>]> = [
      ['/v1/admin/transfers/', async () => ({ who: admin, ids: { id: transfer.body.id } })],
      ['/v1/admin/wallets/', async () => ({ who: admin, ids: { id: to.id } })],
      ['/v1/admin/holds/', async () => ({ who: admin, ids: { id: await place() } })],
      [
        '/v1/admin/users/{id}/api-keys/{keyId}',
        async () => ({ who: admin, ids: { id: payer.id, keyId: await makeKey() } }),
      ],
      [
        '/v1/admin/users/{id}/webhooks/{webhookId}/',
        async () => ({
          who: admin,
          ids: { id: payer.id, webhookId: (await makeHook(payer, '/v1/webhooks')).id },
        }),
      ],
      ['/v1/admin/users/', async () => ({ who: admin, ids: { id: (await makePerson('Ursula User')).id } })],
      ['/v1/transfers/', async () => ({ who: payer, ids: { id: transfer.body.id } })],
      ['/v1/holds/{id}/', async () => ({ who: payee, ids: { id: await place() } })],
      ['/v1/holds/', async () => ({ who: payer, ids: { id: await place() } })],
      ['/v1/wallets/', async () => ({ who: payer, ids: { id: from.id } })],
      ['/v1/api-keys/', async () => ({ who: payer, ids: { id: await makeKey() } })],
      ['/v1/notifications/', async () => ({ who: payer, ids: { id: await notified() } })],
      ['/v1/admin/webhooks/', async () => ({ who: admin, ids: await makeHook(admin, '/v1/admin/webhooks') })],
      ['/v1/webhooks/', async () => ({ who: payer, ids: await makeHook(payer, '/v1/webhooks') })],
      [
        '/v1/sessions/',
        async () => {
          const { email, password, ask: asPerson } = await makePerson('Sessa Session')
          const { body } = await ask('POST', '/v1/auth/login', { body: { email, password } })
          expect(body.accessToken).toBeDefined()
          const { body: sessions } = await asPerson('GET', '/v1/sessions')
          const id = sessions.items.find(({ current }: Json) => !current).id
          return { who: { ask: asPerson } as Person, ids: { id } }
        },
      ],
    ]
    const named = operations.filter(({ pathNames }) => pathNames.some(name => name === 'id'))
    expect(named.length).toBeGreaterThan(20)
    for (const operation of named) {
      const { method, path, body } = operation
      if (path.startsWith('/v1/users/me/external-identities/')) continue
      const [, make] = subjects.find(([beginning]) => path.startsWith(beginning))!
      const { who, ids } = await make()
      const capitals = Object.fromEntries(Object.entries(ids).map(([name, id]) => [name, id.toUpperCase()]))
      const action = path.replace('{action}', 'send')
      const answer = await who.ask(
        method,
        filled({ ...operation, path: action }, capitals).replace(/\/statement$/, '/statement?format=pdf'),
        body?.example ?? undefined,
        { 'idempotency-key': randomUUID() },
      )
      expect(answer.status, `${method} ${path}: ${status(answer)}`).not.toBe(404)
    }
  })

  test('X3: in a body, and one request with its repeat', async () => {
    const key = randomUUID()
    const ask = (change: (id: string) => string) =>
      payer.ask(
        'POST',
        '/v1/transfers',
        { fromWalletId: change(from.id), toWalletId: change(to.id), amount: '1', currency: 'USD' },
        { 'idempotency-key': key, 'step-up-token': payer.stepUp },
      )
    const first = await ask(id => id.toUpperCase())
    expect([first.status, first.body.from.walletId]).toEqual([201, from.id])
    const again = await ask(id => id)
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
  })
})

test('X3: metadata comes back as the JSON that was sent, or is refused by name', async () => {
  const sendText = async (key: string, metadata: string) => {
    const body = `{"toWalletId":"${to.id}","amount":"0.01","currency":"USD","metadata":${metadata}}`
    const headers = {
      'idempotency-key': key,
      'step-up-token': payer.stepUp,
      'content-type': 'application/json',
    }
    return ask('POST', '/v1/transfers', { token: payer.token, body, headers })
  }
  const number = fc.oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
    fc.bigInt({ min: -(2n ** 65n), max: 2n ** 65n }).map(String),
    fc.constantFrom('-0', '1e400', '1.0', '1E2', '0.10', '9007199254740993'),
  )
  const text = fc.string({ unit: 'binary' }).map(value => JSON.stringify(value))
  const names = fc.oneof(fc.constantFrom('"__proto__"', '"constructor"', '"a"', '"1"'), text)
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(names, fc.oneof(number, text, fc.json({ maxDepth: 2 }))), { maxLength: 3 }),
      async members => {
        const metadata = `{${members.map(([name, value]) => `${name}:${value}`).join(',')}}`
        const sent = await sendText(randomUUID(), metadata)
        if (sent.status === 422) {
          expect(sent.body.errors[0].field).toMatch(/^metadata/)
          return
        }
        expect(sent.status, metadata).toBe(201)
        const found = await payer.ask('GET', `/v1/transfers/${sent.body.id}`)
        expect(found.body.metadata).toEqual(JSON.parse(metadata))
      },
    ),
    { numRuns: 60 },
  )
  for (const [one, other] of [
    ['{"n":12345678901234567890}', '{"n":12345678901234567891}'],
    ['{"a":1}', '{"a":1,"__proto__":{"x":1}}'],
    ['{"t":"\\ud800"}', '{"t":"\\ufffd"}'],
    ['{"t":"a"}', '{"t":"a\\u0000"}'],
  ] as const) {
    const key = randomUUID()
    const outcomes = [await sendText(key, one), await sendText(key, other)].map(({ status }) => status)
    expect(outcomes, other).not.toEqual([201, 201])
  }
}, 60_000)
