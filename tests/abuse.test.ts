// Attacks against gateways with production settings: forged addresses, floods, guessing, locking out other users, and
// the behaviour while Redis is unavailable.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import {
  type Answer,
  ask,
  balanceOf,
  control,
  mailedToken,
  makePerson,
  makeStaff,
  openWallet,
  type Person,
  readText,
  send,
  totpCode,
  type Wallet,
} from './client.ts'

const started: string[] = []

/** The ops URL of each gateway, by the gateway's URL. */
const opsUrls = new Map<string, string>()

/** Starts a further gateway. A limit with an odd window (such as 901 s) shares no counters with other gateways. */
const startGateway = async (settings: Record<string, string> = {}): Promise<string> => {
  const body = JSON.stringify(settings)
  const response = await fetch(`${inject('system').controlUrl}/gateway/start`, { method: 'POST', body })
  expect(response.ok).toBe(true)
  const { name, url, opsUrl } = (await response.json()) as { name: string; url: string; opsUrl: string }
  opsUrls.set(url, opsUrl)
  started.push(name)
  return url
}

afterAll(async () => {
  for (const name of started) await control(name, 'stop')
})

const logIn = (
  email: string,
  password: string,
  more: { headers?: Record<string, string>; gatewayUrl?: string } = {},
) => ask('POST', '/v1/auth/login', { body: { email, password }, ...more })
const codeOf = ({ status, body }: Answer) => (status < 400 ? `${status}` : `${status} ${body?.code}`)
const WRONG = 'Wrong-Horse-7'

/** The addresses of an account's failed sign-ins, newest first. */
const failedFrom = async (person: Person): Promise<string[]> =>
  (await person.ask('GET', '/v1/users/me/logins?limit=100')).body.items
    .filter(({ outcome }: { outcome: string }) => outcome === 'failed')
    .map(({ address }: { address: string }) => address)

test('a client that hangs up in the middle of its body is no trouble of the database', async () => {
  const { gatewayUrl, dataDir } = inject('system')
  const { hostname, port } = new URL(gatewayUrl)
  const requestId = randomUUID()
  const socket = connect(Number(port), hostname)
  const head = `POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Request-ID: ${requestId}\r\nContent-Type: application/json\r\n`
  await new Promise(written => socket.write(`${head}Content-Length: 600\r\n\r\n{"email":`, written))
  socket.resetAndDestroy()
  const lines = await vi.waitFor(() => {
    const log = readFileSync(join(dataDir, 'logs', 'gateway.log'), 'utf8').split('\n')
    const mine = log.filter(line => line.includes(requestId))
    expect(mine.some(line => line.includes('"status":400'))).toBe(true)
    return mine
  })
  expect(lines.filter(line => /away|failed/.test(line))).toEqual([])
})

describe('addresses that a client makes up', () => {
  test('nobody is a proxy by saying so: the socket’s address is counted, and written down', async () => {
    const limit = 5
    const gatewayUrl = await startGateway({ RATE_LIMIT_LOGIN: `${limit}/61` })
    const alice = await makePerson('Alice Smith')
    const lies: Array<Record<string, string>> = [
      { 'x-forwarded-for': '203.0.113.1' },
      { 'x-forwarded-for': '203.0.113.2, 203.0.113.3, 127.0.0.1' },
      { 'x-forwarded-for': '2001:db8::7' },
      { 'x-forwarded-for': 'unknown, "<>", 999.1.1.1, fe80::1%eth0, [2001:db8::1]:443' },
      { 'x-forwarded-for': Array.from({ length: 700 }, (_, hop) => `10.0.${hop % 256}.1`).join(', ') },
      { forwarded: 'for=203.0.113.4;proto=https' },
      { 'x-real-ip': '203.0.113.5' },
      { 'true-client-ip': '203.0.113.6', 'cf-connecting-ip': '203.0.113.6', 'x-client-ip': '203.0.113.6' },
    ]
    const codes: string[] = []
    for (const headers of lies) codes.push(codeOf(await logIn(alice.email, WRONG, { headers, gatewayUrl })))
    expect(codes).toEqual([
      ...Array(limit).fill('401 INVALID_CREDENTIALS'),
      ...Array(lies.length - limit).fill('429 RATE_LIMIT_EXCEEDED'),
    ])
    await vi.waitFor(async () => expect(await failedFrom(alice)).toEqual(Array(limit).fill('127.0.0.1')))
  })

  test('behind a proxy that is trusted the hop before it counts, and nothing that stands before that', async () => {
    const gatewayUrl = await startGateway({
      RATE_LIMIT_LOGIN: '2/62',
      TRUSTED_PROXIES: '127.0.0.1,10.0.0.0/8',
    })
    const alice = await makePerson('Alice Smith')
    const from = async (forwardedFor: string, more: Record<string, string> = {}) =>
      (await logIn(alice.email, WRONG, { headers: { 'x-forwarded-for': forwardedFor, ...more }, gatewayUrl }))
        .status
    expect(await from('198.51.100.7')).toBe(401)
    expect(await from('6.6.6.6, 198.51.100.7')).toBe(401)
    for (const lie of [
      '6.6.6.7, 198.51.100.7',
      '10.0.0.9, 6.6.6.8, 198.51.100.7, 10.1.2.3',
      'x,198.51.100.7',
    ]) {
      expect(await from(lie)).toBe(429)
    }
    expect(await from('198.51.100.7', { forwarded: 'for=6.6.6.6', 'x-real-ip': '6.6.6.6' })).toBe(429)
    expect(await from('198.51.100.7, 198.51.100.8')).toBe(401)
    expect(await from('2001:db8:1:1::1')).toBe(401)
    expect(await from('2001:db8:1:1:2:3:4:5')).toBe(401)
    expect(await from('2001:db8:1:1:ffff::')).toBe(429)
    await vi.waitFor(async () =>
      expect((await failedFrom(alice)).sort()).toEqual(
        ['198.51.100.7', '198.51.100.7', '198.51.100.8', '2001:db8:1:1::1', '2001:db8:1:1:2:3:4:5'].sort(),
      ),
    )
  })
})

describe('what a request may cost that asks for nothing', () => {
  /** Sends without end; resolves with the received bytes once the server has closed the connection. */
  const flood = (head: string, chunk: Buffer): Promise<string> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(inject('system').gatewayUrl)
      const socket = connect({ host: hostname, port: Number(port) })
      let answer = ''
      const pump = () => {
        while (socket.writable && socket.write(chunk));
      }
      const late = setTimeout(() => {
        socket.destroy()
        reject(new Error(`still open after ${socket.bytesWritten} bytes; ${answer}`))
      }, 10_000)
      socket.on('connect', () => {
        socket.write(head)
        pump()
      })
      socket.on('drain', pump)
      socket.on('data', data => {
        answer += data
      })
      socket.on('error', () => {}) // the server closed the connection during a write
      socket.on('close', () => {
        clearTimeout(late)
        resolve(answer)
      })
    })
  const block = Buffer.alloc(64 * 1_024, 0x20)
  const chunked = Buffer.concat([Buffer.from(`${block.length.toString(16)}\r\n`), block, Buffer.from('\r\n')])

  test.each([
    ['a body that says how long it is', '/v1/auth/login', 'content-length: 99999999999', block],
    ['a body without end', '/v1/auth/login', 'transfer-encoding: chunked', chunked],
    ['a body without end for no route', '/v1/none', 'transfer-encoding: chunked', chunked],
  ])('%s: refused, and soon cut off', async (_what, path, length, chunk) => {
    const head = `POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${length}\r\n\r\n`
    const answer = await flood(head, chunk)
    // A client that is still writing may lose the answer with the connection; any answer received is a 413.
    if (answer !== '') expect(answer).toMatch(/^HTTP\/1\.1 413 /)
    expect((await ask('GET', '/healthz')).status).toBe(200)
  })

  test('long and deep paths are answered like any that is not there', async () => {
    for (const path of [
      `/v1/${'a/'.repeat(5_000)}`,
      `/v1/transfers/${'a'.repeat(10_000)}`,
      `/${'%2e%2e/'.repeat(1_000)}`,
    ]) {
      expect(['404 ROUTE_NOT_FOUND', '401 TOKEN_MISSING']).toContain(codeOf(await ask('GET', path)))
    }
  })
})

describe('guesses', () => {
  test('100 PINs at once through two gateways: three are looked at, and others pay meanwhile', async () => {
    const { gatewayUrl } = inject('system')
    opsUrls.set(gatewayUrl, inject('system').opsUrls.gateway)
    const urls = [gatewayUrl, await startGateway()]
    const [alice, bob] = [await makePerson('Alice Smith'), await makePerson('Bob Brown')]
    const from = await openWallet(bob, 'USD', '100')
    const to = await openWallet(alice, 'USD')
    const hashes = async () => {
      let sum = 0
      for (const url of urls) {
        const text = await (await fetch(`${opsUrls.get(url)}/metrics`)).text()
        sum += Number(/^pennywire_gateway_slow_hashes_total\{of="pin"\} (\d+)$/m.exec(text)?.[1] ?? 0)
      }
      return sum
    }
    const before = await hashes()
    const guesses = Array.from({ length: 100 }, (_, index) =>
      ask('POST', '/v1/pin/verify', {
        token: alice.token,
        body: { pin: String(100_000 + index * 7_919) },
        gatewayUrl: urls[index % 2]!,
      }),
    )
    const payments = Array.from({ length: 10 }, () => send(bob, to, '1.00'))
    const codes = (await Promise.all(guesses)).map(codeOf)
    expect(codes.filter(code => code === '403 INVALID_PIN').length).toBeLessThanOrEqual(2)
    expect(codes.filter(code => code === '423 PIN_LOCKED').length).toBeGreaterThanOrEqual(98)
    expect((await Promise.all(payments)).map(({ status }) => status)).toEqual(Array(10).fill(201))
    expect((await hashes()) - before).toBe(3)
    expect((await alice.ask('GET', '/v1/pin')).body).toMatchObject({ attemptsRemaining: 0 })
    expect(await balanceOf(bob, from)).toBe('90.00')
  })
})

describe('nobody locks out somebody else', () => {
  test('out of the sign-in: who is known gets in, and so does the owner of the mailbox', async () => {
    // The attackers connect through a trusted proxy, so that each has its own address.
    const gatewayUrl = await startGateway({ RATE_LIMIT_LOGIN_ACCOUNT: '6/901', TRUSTED_PROXIES: '127.0.0.1' })
    const alice = await makePerson('Alice Smith')
    let host = 0
    const fromAnywhere = () => ({ headers: { 'x-forwarded-for': `203.0.113.${++host}` }, gatewayUrl })
    const guesses = await Promise.all(
      Array.from({ length: 40 }, () => logIn(alice.email, WRONG, fromAnywhere())),
    )
    expect(Map.groupBy(guesses.map(codeOf).sort(), code => code)).toEqual(
      new Map([
        ['401 INVALID_CREDENTIALS', Array(6).fill('401 INVALID_CREDENTIALS')],
        ['429 RATE_LIMIT_EXCEEDED', Array(34).fill('429 RATE_LIMIT_EXCEEDED')],
      ]),
    )
    expect((await logIn(alice.email, alice.password, fromAnywhere())).status).toBe(429)
    // Alice signs in from the address of her earlier sign-in.
    const atHome = { headers: { 'x-forwarded-for': '127.0.0.1' }, gatewayUrl }
    expect((await logIn(alice.email, alice.password, atHome)).status).toBe(200)

    const away = fromAnywhere()
    await ask('POST', '/v1/auth/forgot-password', { body: { email: alice.email }, ...away })
    const body = { token: await resetLink(alice.email), password: 'Battery-Staple-8' }
    expect((await ask('POST', '/v1/auth/reset-password', { body, ...away })).status).toBe(200)
    expect((await logIn(alice.email, body.password, away)).status).toBe(200)
  })

  test('out of the second factor: codes are taken from nobody who has not shown the password', async () => {
    const alice = await makePerson('Alice Smith')
    const { secret } = (await alice.ask('POST', '/v1/auth/2fa/enable', { password: alice.password })).body
    const confirmed = await alice.ask('POST', '/v1/auth/2fa/confirm', { code: totpCode(secret) })
    expect(confirmed.status).toBe(200)
    for (let guess = 0; guess < 12; guess++) {
      const { body } = await logIn(alice.email, WRONG)
      expect(body.challengeToken).toBeUndefined()
      const challengeToken = randomUUID()
      const answer = await ask('POST', '/v1/auth/2fa/verify', { body: { challengeToken, code: '000000' } })
      expect(codeOf(answer)).toBe('401 CHALLENGE_INVALID')
    }
    // An attacker with the password can lock codes for a while; the owner signs in with a recovery code.
    const { challengeToken } = (await logIn(alice.email, alice.password)).body
    const verify = (proof: object) =>
      ask('POST', '/v1/auth/2fa/verify', { body: { challengeToken, ...proof } })
    for (let guess = 0; guess < 5; guess++) await verify({ code: '000000' })
    expect(codeOf(await verify({ code: totpCode(secret, 1) }))).toBe('423 2FA_LOCKED')
    expect((await verify({ recoveryCode: confirmed.body.recoveryCodes[0] })).status).toBe(200)
  })

  test('out of the mail: however often a stranger asks, three come, and each is good', async () => {
    const alice = await makePerson('Alice Smith')
    const requests = Array.from({ length: 24 }, () =>
      ask('POST', '/v1/auth/forgot-password', { body: { email: alice.email } }),
    )
    expect((await Promise.all(requests)).map(({ status }) => status)).toEqual(Array(24).fill(200))
    const links = await vi.waitFor(async () => {
      const found = await resetLinks(alice.email)
      expect(found.length).toBe(3)
      return found
    }, 10_000)
    // The oldest link works too: a later link does not invalidate it.
    const body = { token: links.at(-1)!, password: 'Battery-Staple-8' }
    expect((await ask('POST', '/v1/auth/reset-password', { body })).status).toBe(200)
    expect((await logIn(alice.email, body.password)).status).toBe(200)
  })

  test('out of signing up: who signs up with the address of another has nothing of it', async () => {
    const email = `${randomUUID()}@example.com`
    const password = 'Mallory-Was-1-Here'
    const signup = { email, password, fullName: 'Mallory Malice' }
    expect((await ask('POST', '/v1/auth/signup', { body: signup })).status).toBe(201)
    for (let time = 0; time < 12; time++) {
      await ask('POST', '/v1/auth/resend-verification', { body: { email } })
    }
    // Every mailed link lets the owner of the mailbox set a new password.
    const body = { token: await mailedToken(email), newPassword: 'Battery-Staple-8', fullName: 'Olga Owner' }
    const verified = await ask('POST', '/v1/auth/verify-email', { body })
    expect([verified.status, verified.body.fullName]).toEqual([200, 'Olga Owner'])
    expect((await logIn(email, body.newPassword)).status).toBe(200)
    expect(codeOf(await logIn(email, password))).toBe('401 INVALID_CREDENTIALS')
  })
})

/** The tokens of the password reset links in a mailbox, newest first. */
const resetLinks = async (email: string): Promise<string[]> => {
  const messages = (await (await fetch(`${inject('stack').mail.httpUrl}/messages`)).json()) as Array<{
    to: unknown
    text: string
  }>
  return messages
    .filter(({ to }) => JSON.stringify(to).includes(email))
    .flatMap(({ text }) => /reset-password\?token=([\w-]+)/.exec(text)?.[1] ?? [])
}
const resetLink = (email: string) =>
  vi.waitFor(
    async () => {
      const [newest] = await resetLinks(email)
      if (!newest) throw new Error(`no mail to ${email} yet`)
      return newest
    },
    { timeout: 10_000, interval: 50 },
  )

describe('Redis is away', () => {
  type Operation = { 'x-fails-closed'?: boolean; parameters?: Array<{ in: string; required?: boolean }> }
  type Route = {
    name: string
    method: string
    path: string
    failsClosed: boolean | undefined
    asksMore: boolean
  }

  /** Routes that change state and still work without Redis, with the reason. All other such routes must refuse. */
  const GOES_ON: Record<string, string> = {
    'DELETE /v1/sessions/{id}': 'ending sessions must always work',
    'DELETE /v1/api-keys/{id}': 'revoking keys must always work',
    'DELETE /v1/admin/users/{id}/api-keys/{keyId}': 'revoking keys must always work',
    'POST /v1/auth/logout': 'ending sessions must always work',
    'POST /v1/auth/logout-all': 'ending sessions must always work',
    'POST /v1/auth/refresh':
      'needs a token that nobody guesses, and is decided by Postgres alone; reads go on by it',
    'POST /v1/auth/verify-email': 'needs a token that nobody guesses, and opens nothing by itself',
    'PATCH /v1/users/me': 'a name is no way in',
    'PATCH /v1/notifications/preferences': 'notifications move nothing, and those of security stay',
    'POST /v1/notifications/read-all': 'a mark of the own notifications',
    'POST /v1/notifications/{id}/read': 'a mark of the own notifications',
    'POST /v1/mail/callbacks': 'the mail server’s word, proven by its secret',
    'DELETE /v1/users/me/external-identities/{id}': 'closes a way in',
    'POST /v1/provider/callbacks': 'the provider’s word on money that has moved; it signs each',
    'POST /v1/transfers/preview': 'moves nothing',
    'POST /v1/transfers/{id}/receipt': 'moves nothing; its queue is bounded',
  }
  /** These routes sign the caller out. */
  const ENDS_SESSION = ['POST /v1/auth/logout', 'POST /v1/auth/logout-all']

  let routes: Route[]
  let alice: Person
  let wallet: Wallet
  let bob: Person
  let bobs: Wallet

  beforeAll(async () => {
    const { paths } = (await ask('GET', '/openapi.json')).body as {
      paths: Record<string, Record<string, Operation>>
    }
    routes = Object.entries(paths).flatMap(([path, operations]) =>
      Object.entries(operations).map(([method, operation]) => ({
        name: `${method.toUpperCase()} ${path}`,
        method: method.toUpperCase(),
        path,
        failsClosed: operation['x-fails-closed'],
        asksMore:
          path.includes('{') ||
          // Only a browser may ask without a query: it gets a form.
          path === '/v1/receipts/verify' ||
          (operation.parameters ?? []).some(parameter => parameter.required && parameter.in === 'query'),
      })),
    )
    alice = await makeStaff('super_admin')
    wallet = await openWallet(alice, 'USD', '1000')
    // So that reading it has an answer.
    const { password } = alice
    expect((await alice.ask('POST', '/v1/users/me/export', { password })).status).toBe(202)
    bob = await makePerson('Bob Brown')
    bobs = await openWallet(bob, 'USD')
  })

  test('the document says of each route whether it refuses then; only what is listed here goes on', () => {
    expect(routes.length).toBeGreaterThan(70)
    const open = routes.filter(({ method, failsClosed }) => method !== 'GET' && !failsClosed)
    expect(open.map(({ name }) => name).sort()).toEqual(Object.keys(GOES_ON).sort())
    // Reads must not refuse: during an outage people check the state of their money.
    // The OIDC redirects sign in by GET: they refuse as every sign-in does.
    const refusing = routes.filter(({ method, failsClosed }) => method === 'GET' && failsClosed)
    expect(refusing.map(({ name }) => name).sort()).toEqual([
      'GET /v1/auth/oidc/{provider}',
      'GET /v1/auth/oidc/{provider}/callback',
    ])
    // A route without the guard has no x-fails-closed in the document: only pages, keys and signed callbacks lack it.
    const unguarded = routes.filter(({ failsClosed }) => failsClosed === undefined)
    expect(unguarded.map(({ name }) => name).sort()).toEqual([
      'GET /.well-known/jwks.json',
      'GET /v1/auth/reset-password',
      'GET /v1/auth/verify-email',
      'POST /v1/provider/callbacks',
    ])
  })

  test('every route does what the document says', { timeout: 60_000 }, async () => {
    const guests = new Map<string, Person>()
    for (const name of ENDS_SESSION) guests.set(name, await makePerson('Gone Soon'))
    await control('redis', 'SIGKILL')
    const answers: string[] = []
    try {
      for (const { name, method, path, asksMore } of routes) {
        const url = path
          .replace('{action}', 'send')
          .replace(/\{[^}]+\}/, /wallets/.test(path) ? wallet.id : randomUUID())
        const response = await fetch(`${inject('system').gatewayUrl}${url}`, {
          method,
          headers: {
            authorization: `Bearer ${(guests.get(name) ?? alice).token}`,
            'step-up-token': alice.stepUp,
            'idempotency-key': randomUUID(),
            ...(method === 'GET' ? {} : { 'content-type': 'application/json' }),
          },
          ...(method === 'GET' ? {} : { body: '{}' }),
        })
        const text = await readText(response)
        const { status } = response
        if (status === 503) {
          const { code, retryable } = JSON.parse(text)
          expect([name, code, retryable, response.headers.get('retry-after')]).toEqual([
            name,
            'SERVICE_UNAVAILABLE',
            true,
            '1',
          ])
        }
        const answered = asksMore || method !== 'GET' ? status < 500 : status === 200
        answers.push(`${name}: ${status === 503 ? 'refused' : answered ? 'answered' : status}`)
      }
    } finally {
      await control('redis', 'restart')
    }
    expect(answers).toEqual(
      routes.map(({ name, failsClosed }) => `${name}: ${failsClosed ? 'refused' : 'answered'}`),
    )
    await vi.waitFor(async () => expect((await send(alice, bobs, '0.01')).status).toBe(201), 30_000)
  })

  test('killed under traffic through two gateways: nothing passes unguarded, nothing is half done, all goes on by itself', {
    timeout: 90_000,
  }, async () => {
    const pinLimit = 12
    const settings = { RATE_LIMIT_PIN: `${pinLimit}/901` }
    const urls = [await startGateway(settings), await startGateway(settings)]
    const { token: ended } = await makePerson('Gone Gary')
    await ask('POST', '/v1/auth/logout', { token: ended })
    const before = Number(await balanceOf(alice, wallet))

    type Seen = { what: string; url: string; beganMs: number; endedMs: number; key: string; answer: Answer }
    const seen: Seen[] = []
    const stopped = new AbortController()
    const loop = async (what: string, act: (gatewayUrl: string, key: string) => Promise<Answer>) => {
      for (let turn = 0; !stopped.signal.aborted; turn++) {
        const key = randomUUID()
        const beganMs = performance.now()
        const url = urls[turn % 2]!
        const answer = await act(url, key)
        seen.push({ what, url, beganMs, endedMs: performance.now(), key, answer })
      }
    }
    const pay = (gatewayUrl: string, key: string) =>
      ask('POST', '/v1/transfers', {
        token: alice.token,
        body: { toWalletId: bobs.id, amount: '0.01', currency: 'USD' },
        headers: { 'idempotency-key': key, 'step-up-token': alice.stepUp },
        gatewayUrl,
      })
    const traffic = [
      loop('transfer', pay),
      loop('transfer', pay),
      loop('transfer', pay),
      loop('read', gatewayUrl => ask('GET', `/v1/wallets/${wallet.id}`, { token: alice.token, gatewayUrl })),
      loop('login', gatewayUrl => logIn(bob.email, bob.password, { gatewayUrl })),
      loop('ended', gatewayUrl => ask('GET', '/v1/users/me', { token: ended, gatewayUrl })),
      loop('pin', gatewayUrl =>
        ask('POST', '/v1/pin/verify', { token: bob.token, body: { pin: '482915' }, gatewayUrl }),
      ),
    ]
    const answersOf = (what: string, since = 0) =>
      seen.filter(each => each.what === what && each.beganMs > since).map(({ answer }) => codeOf(answer))
    const soon = { timeout: 30_000, interval: 50 }
    const now = () => performance.now()
    try {
      await vi.waitFor(() => expect(answersOf('transfer').length).toBeGreaterThan(20), soon)
      await vi.waitFor(() => expect(answersOf('login')).toContain('200'), soon)
      await control('redis', 'SIGKILL')
      const killedMs = now()
      for (const what of ['transfer', 'read', 'login', 'ended', 'pin']) {
        await vi.waitFor(() => expect(answersOf(what, killedMs).length).toBeGreaterThan(5), soon)
      }
      const restartMs = now()
      const whileAway = (what: string) =>
        new Set(
          seen
            .filter(each => each.what === what && each.beganMs > killedMs && each.endedMs < restartMs)
            .map(({ answer }) => codeOf(answer)),
        )
      for (const what of ['transfer', 'login', 'pin']) {
        expect([what, ...whileAway(what)]).toEqual([what, '503 SERVICE_UNAVAILABLE'])
      }
      expect([...whileAway('read')]).toEqual(['200'])
      expect([...whileAway('ended')]).toEqual(['401 TOKEN_REVOKED'])

      await control('redis', 'restart')
      const backMs = now()
      for (const [what, code] of [
        ['transfer', '201'],
        ['login', '200'],
      ] as const) {
        // Each gateway finds Redis again in its own time.
        for (const url of urls) {
          const well = () =>
            seen.filter(
              each =>
                each.what === what &&
                each.url === url &&
                each.beganMs > backMs &&
                codeOf(each.answer) === code,
            )
          await vi.waitFor(() => expect(well().length).toBeGreaterThan(5), soon)
        }
      }
      await vi.waitFor(() => expect(answersOf('pin', backMs).at(-1)).toBe('429 RATE_LIMIT_EXCEEDED'), soon)
    } finally {
      stopped.abort()
      await Promise.all(traffic)
    }

    for (const { what, answer } of seen) {
      if (answer.status !== 503) continue
      expect([what, answer.body.retryable, answer.headers.get('retry-after')]).toEqual([what, true, '1'])
    }
    expect(new Set(answersOf('read'))).toEqual(new Set(['200']))
    expect(new Set(answersOf('ended'))).toEqual(new Set(['401 TOKEN_REVOKED']))
    // The limit is reset at most once, because Redis may lose counts that it had not yet persisted.
    expect(answersOf('pin').filter(code => code === '200').length).toBeLessThanOrEqual(2 * pinLimit)

    const transfers = seen.filter(({ what }) => what === 'transfer')
    // 202: accepted, and decided shortly afterwards.
    const [done, accepted, refused] = [201, 202, 503].map(status =>
      transfers.filter(each => each.answer.status === status),
    )
    expect(done!.length + accepted!.length + refused!.length).toBe(transfers.length)
    expect(refused!.length).toBeGreaterThan(0)
    const spent = (done!.length + accepted!.length) / 100
    await vi.waitFor(
      async () => expect(Number(await balanceOf(alice, wallet))).toBeCloseTo(before - spent, 5),
      soon,
    )
    // A refused request is not stored, and its key can still be used: once.
    for (const { key } of refused!.slice(0, 5)) {
      const found = await alice.ask('GET', `/v1/transfers/by-idempotency-key/${key}`)
      expect(found.status).toBe(404)
      expect((await pay(urls[0]!, key)).status).toBe(201)
      expect((await pay(urls[1]!, key)).headers.get('idempotency-replayed')).toBe('true')
    }
    expectBooksToBeRight()
  })
})
