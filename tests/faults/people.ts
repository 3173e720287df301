import { randomUUID } from 'node:crypto'
import { until, type World } from './world.ts'

// biome-ignore lint/suspicious/noExplicitAny: answers of every shape
export type Answer = { status: number; body: any }

export type Person = { userId: string; email: string; walletId: string; token: string; stepUp: string }

const PIN = '482915'
const PASSWORD = 'Correct-horse-9'

/** One HTTP request; rejects where the answer is lost or takes too long. */
export const ask = async (
  url: string,
  method: string,
  options: { token?: string; body?: object; headers?: Record<string, string>; timeoutMs?: number } = {},
): Promise<Answer> => {
  const response = await fetch(url, {
    method,
    headers: {
      ...(options.token ? { authorization: `Bearer ${options.token}` } : {}),
      ...(options.body ? { 'content-type': 'application/json' } : {}),
      ...options.headers,
    },
    ...(options.body ? { body: JSON.stringify(options.body) } : {}),
    signal: AbortSignal.timeout(options.timeoutMs ?? 10_000),
  })
  const text = await response.text()
  return { status: response.status, body: text === '' ? null : JSON.parse(text) }
}

const expectOk = async (asking: Promise<Answer>): Promise<Answer['body']> => {
  const { status, body } = await asking
  if (status >= 300) throw new Error(`${status} ${JSON.stringify(body)}`)
  return body
}

/** The token that was mailed to this address, once it has come. */
export const mailedToken = async (world: World, email: string, seconds = 20): Promise<string> => {
  let token = ''
  await until(`the mail to ${email}`, seconds, async () => {
    const messages = (await (await fetch(`${world.stack.mail.httpUrl}/messages`)).json()) as Array<{
      to: unknown
      text: string
    }>
    const mine = messages.find(({ to }) => JSON.stringify(to).includes(email))
    token = /\?token=([\w-]+)/.exec(mine?.text ?? '')?.[1] ?? ''
    return token !== ''
  })
  return token
}

export const signUp = async (world: World, email: string): Promise<string> => {
  const body = { email, password: PASSWORD, fullName: 'Fault Person' }
  return (await expectOk(ask(`${world.system.gatewayUrl}/v1/auth/signup`, 'POST', { body }))).id
}

/** Opens a session with a step-up token: good for as long as one fault takes. */
export const signIn = async (world: World, person: Person): Promise<void> => {
  const at = `${world.system.gatewayUrl}/v1`
  const body = { email: person.email, password: PASSWORD }
  person.token = (await expectOk(ask(`${at}/auth/login`, 'POST', { body }))).accessToken
  const proof = { token: person.token, body: { pin: PIN } }
  person.stepUp = (await expectOk(ask(`${at}/pin/verify`, 'POST', proof))).stepUpToken
}

/** A person with a wallet that holds `amount` USD. */
export const makePerson = async (world: World, amount: string): Promise<Person> => {
  const at = `${world.system.gatewayUrl}/v1`
  const email = `${randomUUID()}@example.com`
  const userId = await signUp(world, email)
  const token = await mailedToken(world, email)
  await expectOk(ask(`${at}/auth/verify-email`, 'POST', { body: { token } }))
  const body = { email, password: PASSWORD }
  const session = (await expectOk(ask(`${at}/auth/login`, 'POST', { body }))).accessToken
  await expectOk(ask(`${at}/pin`, 'POST', { token: session, body: { pin: PIN } }))
  const wallet = await expectOk(ask(`${at}/wallets`, 'POST', { token: session, body: { currency: 'USD' } }))
  const deposit = await expectOk(
    ask(`${at}/deposits`, 'POST', {
      token: session,
      body: { walletId: wallet.id, amount, currency: 'USD' },
      headers: { 'idempotency-key': randomUUID() },
    }),
  )
  if (deposit.status !== 'completed') throw new Error(`a deposit is ${deposit.status}`)
  return { userId, email, walletId: wallet.id, token: session, stepUp: '' }
}
