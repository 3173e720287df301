// Malformed and unusual requests. `ask` itself checks that each answer is in the document.
import { randomUUID } from 'node:crypto'
import { request } from 'node:http'
import { beforeAll, describe, expect, inject, test } from 'vitest'
import { type Answer, ask, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

let alice: Person
let bob: Person
let wallet: Wallet
let bobs: Wallet

beforeAll(async () => {
  alice = await makePerson()
  bob = await makePerson('Bob Brown')
  wallet = await openWallet(alice, 'USD', '500.00')
  bobs = await openWallet(bob, 'USD')
})

const codeOf = ({ status, body }: Answer) => `${status} ${body?.code ?? body?.status ?? ''}`.trim()

/** Sends exactly these bytes as the body. */
const sendBytes = (path: string, bytes: Buffer, headers: Record<string, string> = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const asking = request(
      `${inject('system').gatewayUrl}${path}`,
      {
        method: 'POST',
        headers: { authorization: `Bearer ${alice.token}`, 'content-type': 'application/json', ...headers },
      },
      response => {
        let text = ''
        response.on('data', chunk => {
          text += chunk
        })
        response.on('end', () =>
          resolve({ status: response.statusCode!, headers: new Headers(), body: JSON.parse(text) }),
        )
      },
    )
    asking.on('error', reject)
    asking.end(bytes)
  })

describe('odd texts', () => {
  const ODD = [
    '\u0000',
    'a\u0000b',
    '\u001b[31m',
    '\ud800',
    '\udfff!',
    '\u202e',
    '\ufeff',
    '👩‍👩‍👧',
    "'; drop table x; --",
  ]

  test.each(ODD)('a note and metadata of %j come back as they are, or are refused', async text => {
    const sent = await send(alice, bobs, '0.10', randomUUID(), {
      body: { note: text, metadata: { [`key${text}`]: [text] } },
    })
    if (text.includes('\0') || !text.isWellFormed()) {
      expect(codeOf(sent)).toBe('422 VALIDATION_ERROR')
      return
    }
    expect(codeOf(sent)).toBe('201 completed')
    const { body } = await alice.ask('GET', `/v1/transfers/${sent.body.id}`)
    expect(body.note).toBe(text)
    expect(body.metadata).toEqual({ [`key${text}`]: [text] })
  })

  test.each(ODD)('a deposit from %j and a withdrawal to it', async text => {
    const money = { walletId: wallet.id, amount: '0.10', currency: 'USD' }
    const key = () => ({ 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp })
    const deposit = await alice.ask('POST', '/v1/deposits', { ...money, source: text }, key())
    expect(codeOf(deposit)).toMatch(/^(201 completed|422 VALIDATION_ERROR)$/)
    const withdrawal = await alice.ask('POST', '/v1/withdrawals', { ...money, destination: text }, key())
    expect(codeOf(withdrawal)).toMatch(/^(201 completed|422 VALIDATION_ERROR)$/)
  })

  test.each(ODD)('%j in accounts', async text => {
    const answers = [
      await ask('POST', '/v1/auth/login', { body: { email: `a${text}@example.com`, password: text } }),
      await ask('POST', '/v1/auth/login', {
        body: { email: alice.email, password: `Correct-horse-9${text}` },
      }),
      await ask('POST', '/v1/auth/verify-email', { body: { token: text } }),
      await ask('POST', '/v1/auth/refresh', { body: { refreshToken: text } }),
      await ask('POST', '/v1/auth/resend-verification', { body: { email: `a${text}@example.com` } }),
      await alice.ask('PATCH', '/v1/users/me', { fullName: `Alice ${text}` }),
    ]
    for (const { status } of answers) expect(status).toBeLessThan(500)
  })

  test.each(['%00', 'a%00b', '%ff', '%c3%28', '%', '%zz', '..%2f..', '%F0%9F%92%A9', 'a%5cb', '%0a'])(
    '%s in paths and queries',
    async text => {
      for (const path of [
        `/v1/wallets/${text}`,
        `/v1/wallets/${text}/balance`,
        `/v1/transfers/${text}`,
        `/v1/transfers/by-reference/${text}`,
        `/v1/transfers/by-idempotency-key/${text}`,
        `/v1/holds/${text}`,
        `/v1/recipients/${text}`,
        `/v1/admin/wallets/${text}`,
        `/v1/transfers?cursor=${text}`,
        `/v1/transfers?type=${text}`,
        `/v1/wallets?cursor=${text}`,
        `/v1/wallets/${wallet.id}/entries?cursor=${text}`,
        `/v1/wallets/${wallet.id}/balance?at=${text}`,
        `/v1/limits?cursor=${text}`,
        `/v1/${text}`,
      ]) {
        const { status } = await alice.ask('GET', path)
        expect([403, 404, 422], path).toContain(status)
      }
    },
  )
})

describe('odd forms', () => {
  const transfer = () => ({ 'idempotency-key': randomUUID(), 'step-up-token': alice.stepUp })

  test('bytes that are no UTF-8, no JSON, or JSON of another kind', async () => {
    const with_ = (text: string) => Buffer.from(text)
    const invalid = Buffer.concat([
      with_(`{"toWalletId":"${bobs.id}","amount":"0.10","currency":"USD","note":"`),
      Buffer.from([0xff, 0xfe, 0xc3, 0x28]),
      with_('"}'),
    ])
    expect([201, 400]).toContain((await sendBytes('/v1/transfers', invalid, transfer())).status)
    for (const [text, status] of [
      ['', 400],
      ['{', 400],
      ['null', 422],
      ['[]', 422],
      ['"text"', 422],
      ['1e999', 422],
      ['{"__proto__":{"amount":"1.00"},"constructor":1}', 422],
      [`${'['.repeat(20_000)}${']'.repeat(20_000)}`, 422],
      [`{"metadata":${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}}`, 422],
    ] as const) {
      const answer = await sendBytes('/v1/transfers', with_(text), transfer())
      expect(answer.status, text.slice(0, 40)).toBe(status)
    }
  })

  test.each([
    '1e2',
    '1E400',
    '-1',
    '+1',
    '0x10',
    '١٢',
    '1'.repeat(400),
    `0.${'0'.repeat(19)}1`,
    '9007199254740993',
    ' 1',
    '1 ',
  ])('an amount of %s is refused', async amount => {
    const sent = await send(alice, bobs, amount)
    expect(sent.status).toBe(422)
  })

  test.each([1, 1.5, 1e300, null, true, [], {}])('an amount that is %j is refused', async amount => {
    const sent = await send(alice, bobs, '1.00', randomUUID(), { body: { amount } })
    expect(codeOf(sent)).toBe('422 VALIDATION_ERROR')
  })

  test('a query that the route does not know is refused, and a parameter that came twice', async () => {
    expect(codeOf(await alice.ask('GET', '/v1/transfers?limit=5&sort=asc'))).toBe('422 VALIDATION_ERROR')
    expect(codeOf(await alice.ask('GET', '/v1/transfers?limit=5&limit=6'))).toBe('422 VALIDATION_ERROR')
    expect(codeOf(await alice.ask('GET', `/v1/transfers?limit=${'9'.repeat(400)}`))).toBe(
      '422 VALIDATION_ERROR',
    )
  })

  test('a body of another type is refused', async () => {
    for (const type of [
      'text/plain',
      'application/xml',
      'multipart/form-data',
      'application/x-www-form-urlencoded',
    ]) {
      const headers = { 'content-type': type, ...transfer() }
      for (const path of ['transfers', 'holds', 'deposits', 'withdrawals', 'transfers/preview', 'wallets'])
        expect(codeOf(await alice.ask('POST', `/v1/${path}`, '{}', headers)), path).toBe(
          '415 UNSUPPORTED_MEDIA_TYPE',
        )
    }
  })

  test('a key that is no key is refused, where it is needed and where it is not', async () => {
    for (const [key, code] of [
      ['', '400 IDEMPOTENCY_KEY_REQUIRED'],
      ['a b', '422 VALIDATION_ERROR'],
      ['\u00e9', '422 VALIDATION_ERROR'],
      ['k'.repeat(256), '422 VALIDATION_ERROR'],
    ] as const) {
      expect(codeOf(await send(alice, bobs, '1.00', key))).toBe(code)
      const headers = { 'idempotency-key': key }
      for (const [method, path, body] of [
        ['POST', `wallets/${wallet.id}/freeze`, {}],
        ['DELETE', `wallets/${wallet.id}`, undefined],
        ['PUT', 'limits/send', { walletId: wallet.id }],
        ['DELETE', `limits/send?walletId=${wallet.id}`, undefined],
      ] as const)
        expect(codeOf(await alice.ask(method, `/v1/${path}`, body, headers)), path).toBe(
          '422 VALIDATION_ERROR',
        )
    }
  })

  test('a method that a path does not know is 405 with those that it does', async () => {
    for (const [method, path, allow] of [
      ['GET', '/v1/transfers/preview', 'POST'],
      ['PUT', `/v1/transfers/${randomUUID()}`, 'GET, HEAD'],
      ['DELETE', '/v1/transfers', 'GET, HEAD, POST'],
      ['POST', `/v1/wallets/${wallet.id}`, 'DELETE, GET, HEAD, PATCH'],
      ['OPTIONS', '/v1/auth/verify-email', 'GET, HEAD, POST'],
      ['POST', '/v1/limits/send', 'DELETE, PATCH, PUT'],
    ] as const) {
      const answer = await alice.ask(method, path)
      expect([answer.status, answer.body.code, answer.headers.get('allow')], path).toEqual([
        405,
        'METHOD_NOT_ALLOWED',
        allow,
      ])
    }
  })

  test('odd headers change nothing', async () => {
    for (const headers of [
      { prefer: 'wait=99999999999, respond-async;x' },
      { 'x-request-id': '\u00ff'.repeat(300) },
      { traceparent: '00-zz-zz-zz' },
      { 'x-forwarded-for': "1.2.3.4, ::1, ' or 1=1" },
      { accept: 'text/html;q=2, */*;q=-1' },
      { 'user-agent': '\u00ff' },
    ] as Array<Record<string, string>>)
      expect((await alice.ask('GET', '/v1/wallets', undefined, headers)).status).toBe(200)
    // Node's own header limit, before the request reaches the app: an answer without a body.
    const headers = { authorization: `Bearer ${alice.token}`, 'x-long': 'x'.repeat(20_000) }
    expect((await fetch(`${inject('system').gatewayUrl}/v1/wallets`, { headers })).status).toBe(431)
  })
})
