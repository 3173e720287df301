import { createHmac, randomUUID } from 'node:crypto'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { expect, inject, vi } from 'vitest'
import { expectInDocument } from './openapi/hold-document.ts'

/** An API response with any JSON body. */
// biome-ignore lint/suspicious/noExplicitAny: tests look into bodies of every shape
export type Answer = { status: number; headers: Headers; body: any }

export type Ask = {
  token?: string | undefined
  body?: unknown
  headers?: Record<string, string>
  gatewayUrl?: string
}

/** An answer's body as text; of a live stream its beginning, after which the client hangs up. */
export const readText = async (response: Response): Promise<string> => {
  if (response.headers.get('content-type') !== 'text/event-stream') return response.text()
  const reader = response.body!.getReader()
  const { value } = await reader.read()
  await reader.cancel()
  return Buffer.from(value ?? []).toString()
}

/** Sends a request to the gateway as any HTTP client would; fails if the answer is not in its OpenAPI document. */
export const ask = async (method: string, path: string, options: Ask = {}): Promise<Answer> => {
  const gatewayUrl = options.gatewayUrl ?? inject('system').gatewayUrl
  const response = await fetch(`${gatewayUrl}${path}`, {
    method,
    headers: {
      ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
      ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(options.body === undefined
      ? {}
      : { body: typeof options.body === 'string' ? options.body : JSON.stringify(options.body) }),
  })
  const text = await readText(response)
  const isJson = response.headers.get('content-type')?.includes('json')
  const answer = {
    status: response.status,
    headers: response.headers,
    body: isJson && text !== '' ? JSON.parse(text) : null,
  }
  await expectInDocument(gatewayUrl, method, path, answer)
  return answer
}

/** Sends an action to one of the system's processes: a signal, "stop" or "restart". */
export const control = async (name: string, action: string): Promise<void> => {
  const response = await fetch(`${inject('system').controlUrl}/${name}/${action}`, { method: 'POST' })
  if (!response.ok) throw new Error(await response.text())
}

export const PIN = '482915'
const PASSWORD = 'Correct-horse-9'

/** The pattern's capture in the newest matching mail to this address, once it has arrived. */
const mailed = async (email: string, pattern: RegExp): Promise<string> => {
  const { mail } = inject('stack')
  return vi.waitFor(
    async () => {
      const messages = (await (await fetch(`${mail.httpUrl}/messages`)).json()) as Array<{
        to: unknown
        text: string
      }>
      const mine = messages.find(({ to, text }) => JSON.stringify(to).includes(email) && pattern.test(text))
      if (!mine) throw new Error(`no mail to ${email} yet`)
      return pattern.exec(mine.text)![1]!
    },
    { timeout: 15_000, interval: 50 },
  )
}

/** The token of a mailed link. */
export const mailedToken = (email: string): Promise<string> => mailed(email, /\?token=([\w-]+)/)

/** The mailed code that stands alone on a line. */
export const mailedCode = (email: string): Promise<string> => mailed(email, /^([0-9]{6})$/m)

/** The code that an authenticator shows (RFC 6238), `steps` intervals of 30 seconds from now. */
export const totpCode = (base32: string, steps = 0): string => {
  const bits = [...base32].map(letter =>
    'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(letter).toString(2).padStart(5, '0'),
  )
  const secret = Buffer.from(
    bits
      .join('')
      .match(/.{8}/g)!
      .map(byte => Number.parseInt(byte, 2)),
  )
  const counter = Buffer.alloc(8)
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + steps))
  const mac = createHmac('sha1', secret).update(counter).digest()
  const binary = mac.readUInt32BE(mac.at(-1)! & 0xf) & 0x7fff_ffff
  return String(binary % 1_000_000).padStart(6, '0')
}

export type Person = {
  id: string
  email: string
  password: string
  token: string
  refreshToken: string
  stepUp: string
  /** Sends a request with this person's token. */
  ask: (method: string, path: string, body?: unknown, headers?: Record<string, string>) => Promise<Answer>
}

/** A person with a verified address, a PIN and an open session with a step-up token. */
export const makePerson = async (
  fullName = 'Alice Smith',
  email = `${randomUUID()}@example.com`,
): Promise<Person> => {
  const signup = await ask('POST', '/v1/auth/signup', { body: { email, password: PASSWORD, fullName } })
  expect(signup.status).toBe(201)
  await ask('POST', '/v1/auth/verify-email', { body: { token: await mailedToken(email) } })
  return signIn(email)
}

export type Staff = Person & {
  /** Step-up token of the second factor, for acts that grant power or money; `ask` sends it to all staff routes. */
  staffStepUp: string
  /** The second factor's secret. */
  secret: string
}

/**
 * A person with a role and the second factor on. The role is set in the database: granting it over HTTP (which
 * staff.test.ts does) needs further codes, and each code is valid once in 30 seconds.
 */
export const makeStaff = async (
  role: 'moderator' | 'admin' | 'super_admin',
  fullName = 'Stella Staff',
): Promise<Staff> => {
  const person = await makePerson(fullName)
  const sql = openDatabase(inject('system').databaseUrls.superuser, { applicationName: 'test' })
  await sql`update gateway.users set roles = array['user', ${role}] where id = ${person.id}`
  await sql.end()
  return turnOnSecondFactor(person)
}

/** Turns the second factor on in the person's session: from then on its tokens contain the staff roles. */
export const turnOnSecondFactor = async (person: Person): Promise<Staff> => {
  const { password } = person
  const offer = await person.ask('POST', '/v1/auth/2fa/enable', { password })
  const { secret } = offer.body
  expect((await person.ask('POST', '/v1/auth/2fa/confirm', { code: totpCode(secret) })).status).toBe(200)
  const refreshed = await ask('POST', '/v1/auth/refresh', { body: { refreshToken: person.refreshToken } })
  const token = refreshed.body.accessToken as string
  // The next step's code: the first is used up, and both are still valid if a step begins in between.
  const code = totpCode(secret, 1)
  const { body } = await ask('POST', '/v1/auth/2fa/step-up', { token, body: { code } })
  const staffStepUp = body.stepUpToken as string
  return {
    ...person,
    token,
    refreshToken: refreshed.body.refreshToken,
    staffStepUp,
    secret,
    ask: (method, path, body, headers = {}) => {
      const stepUp = path.startsWith('/v1/admin/') ? { 'step-up-token': staffStepUp } : {}
      return ask(method, path, { token, body, headers: { ...headers, ...stepUp } })
    },
  }
}

export const signIn = async (email: string): Promise<Person> => {
  const login = await ask('POST', '/v1/auth/login', { body: { email, password: PASSWORD } })
  expect(login.status).toBe(200)
  const token = login.body.accessToken as string
  expect([201, 409]).toContain((await ask('POST', '/v1/pin', { token, body: { pin: PIN } })).status)
  const stepUp = await ask('POST', '/v1/pin/verify', { token, body: { pin: PIN } })
  expect(stepUp.status).toBe(200)
  return {
    id: login.body.user.id,
    email,
    password: PASSWORD,
    token,
    refreshToken: login.body.refreshToken,
    stepUp: stepUp.body.stepUpToken,
    ask: (method, path, body, headers = {}) => ask(method, path, { token, body, headers }),
  }
}

export type Wallet = { id: string; code: string; currency: string }

/** Opens a wallet, and deposits `amount` if given. */
export const openWallet = async (person: Person, currency = 'USD', amount?: string): Promise<Wallet> => {
  const opened = await person.ask('POST', '/v1/wallets', { currency })
  expect(opened.status).toBe(201)
  if (amount !== undefined) {
    const body = { walletId: opened.body.id, amount, currency }
    const deposit = await person.ask('POST', '/v1/deposits', body, { 'idempotency-key': randomUUID() })
    expect([deposit.status, deposit.body.status]).toEqual([201, 'completed'])
  }
  return opened.body
}

/** Sends money with a step-up token. */
export const send = (
  person: Person,
  to: Wallet,
  amount: string,
  key: string = randomUUID(),
  more: { body?: Record<string, unknown>; headers?: Record<string, string> } = {},
): Promise<Answer> =>
  person.ask(
    'POST',
    '/v1/transfers',
    { toWalletId: to.id, amount, currency: to.currency, ...more.body },
    { 'idempotency-key': key, 'step-up-token': person.stepUp, ...more.headers },
  )

export const balanceOf = async (person: Person, wallet: Wallet): Promise<string> =>
  (await person.ask('GET', `/v1/wallets/${wallet.id}/balance`)).body.balance
