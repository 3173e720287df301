import { randomUUID } from 'node:crypto'
import { signInStaff } from '../sign-in-staff.ts'
import { until, type World } from './world.ts'

// biome-ignore lint/suspicious/noExplicitAny: answers of every shape
export type Answer = { status: number; body: any }

export type Person = {
  userId: string
  email: string
  /** The wallet in USD, which all load uses. The admin has none. */
  walletId: string
  /** A wallet in another currency whose balance no request changes: it cannot be closed. */
  filledWalletId: string
  /** An empty wallet that is opened, closed and opened again; undefined while it is closed by the last known answer. */
  sideWalletId: string | undefined
  token: string
  /** The PIN's step-up token; the admin's is the second factor's. */
  stepUp: string
  isAdmin?: boolean
  /** The secret of the admin's second factor. */
  secret?: string
}

export const SIDE_CURRENCY = 'EUR'

const PIN = '482915'
export const PASSWORD = 'Correct-horse-9'

/** Sends one HTTP request; rejects if the answer is lost or takes too long. */
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

/** The token mailed to this address, once the mail has arrived. */
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

/** Opens a session with a step-up token that is valid for as long as one fault takes. */
export const signIn = async (world: World, person: Person): Promise<void> => {
  const at = `${world.system.gatewayUrl}/v1`
  if (person.isAdmin) {
    const { gatewayUrl } = world.system
    Object.assign(
      person,
      await signInStaff({ gatewayUrl, sql: world.sql }, { ...person, password: PASSWORD }),
    )
    return
  }
  const body = { email: person.email, password: PASSWORD }
  person.token = (await expectOk(ask(`${at}/auth/login`, 'POST', { body }))).accessToken
  const proof = { token: person.token, body: { pin: PIN } }
  person.stepUp = (await expectOk(ask(`${at}/pin/verify`, 'POST', proof))).stepUpToken
}

/** Signs up, verifies the address, and sets the PIN; opens no wallets. */
const introduce = async (world: World, email: string): Promise<Person> => {
  const at = `${world.system.gatewayUrl}/v1`
  const userId = await signUp(world, email)
  const token = await mailedToken(world, email)
  await expectOk(ask(`${at}/auth/verify-email`, 'POST', { body: { token } }))
  return open(world, userId, email)
}

const open = async (world: World, userId: string, email: string): Promise<Person> => {
  const at = `${world.system.gatewayUrl}/v1`
  const body = { email, password: PASSWORD }
  const session = (await expectOk(ask(`${at}/auth/login`, 'POST', { body }))).accessToken
  const pin = await ask(`${at}/pin`, 'POST', { token: session, body: { pin: PIN } })
  if (pin.status !== 201 && pin.status !== 409) throw new Error(`a PIN is answered ${pin.status}`)
  const wallets = { walletId: '', filledWalletId: '', sideWalletId: undefined }
  return { userId, email, ...wallets, token: session, stepUp: '' }
}

const openWallet = async (world: World, token: string, currency: string, amount: string): Promise<string> => {
  const at = `${world.system.gatewayUrl}/v1`
  const wallet = await expectOk(ask(`${at}/wallets`, 'POST', { token, body: { currency } }))
  const deposit = await expectOk(
    ask(`${at}/deposits`, 'POST', {
      token,
      body: { walletId: wallet.id, amount, currency },
      headers: { 'idempotency-key': randomUUID() },
    }),
  )
  if (deposit.status !== 'completed') throw new Error(`a deposit is ${deposit.status}`)
  return wallet.id
}

/** A person with a wallet that holds `amount` USD. */
export const makePerson = async (world: World, amount: string): Promise<Person> => {
  const person = await introduce(world, `${randomUUID()}@example.com`)
  person.walletId = await openWallet(world, person.token, 'USD', amount)
  person.filledWalletId = await openWallet(world, person.token, 'GBP', '1.00')
  return person
}

/** An admin, who has no wallet. */
export const makeAdmin = async (world: World): Promise<Person> => {
  const person = await introduce(world, `${randomUUID()}@example.com`)
  await world.sql`update gateway.users set roles = array['user', 'admin'] where id = ${person.userId}`
  return { ...person, isAdmin: true }
}

/** Unfreezes a wallet that a fault left frozen, so that the next fault begins in the same state as the first. */
export const thaw = async (world: World, { walletId, token }: Person): Promise<void> => {
  if (walletId === '') return
  const url = `${world.system.gatewayUrl}/v1/wallets/${walletId}`
  const { status } = await expectOk(ask(url, 'GET', { token }))
  if (status === 'frozen') await expectOk(ask(`${url}/unfreeze`, 'POST', { token }))
}
