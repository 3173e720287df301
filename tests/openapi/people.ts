import { randomUUID } from 'node:crypto'
import type { Database } from '@pennywire/runtime/database.ts'
import type { System } from '@pennywire/stack/system.ts'
import { waitUntil } from '@pennywire/stack/wait-until.ts'
import { signInStaff } from '../sign-in-staff.ts'

export type Person = {
  userId: string
  email: string
  walletId: string
  /** An empty wallet, in EUR. */
  spareWalletId: string
  token: string
  /** The step-up token: replaces the PIN in payments. */
  stepUp: string
  isAdmin?: boolean
  /** An admin's step-up token, for staff routes. */
  staffStepUp?: string
  /** The secret of an admin's second factor. */
  secret?: string
}

const PASSWORD = 'Correct-horse-9'
/** As in the examples of the document. */
const PIN = '482915'
const PATIENCE = { deadlineMs: 30_000 }

// biome-ignore lint/suspicious/noExplicitAny: answers of every shape
type Body = any

/** Posts with this person's token and a new key; throws if the request is refused. */
export const post = async (
  system: System,
  token: string,
  path: string,
  body: object,
  key: string = randomUUID(),
): Promise<Body> => {
  const response = await fetch(`${system.gatewayUrl}/v1/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}`, 'idempotency-key': key },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`)
  return JSON.parse(text)
}

const mailedToken = (system: System, email: string): Promise<string> =>
  waitUntil(
    `the mail to ${email}`,
    async () => {
      const messages = (await (await fetch(`${system.stack.mail.httpUrl}/messages`)).json()) as Body[]
      const mine = messages.find(({ to }) => JSON.stringify(to).includes(email))
      return /\?token=([\w-]+)/.exec(mine?.text ?? '')?.[1]
    },
    PATIENCE,
  )

/** Opens a new session with its step-up token, and an admin's second one for staff routes: all valid for minutes. */
export const signIn = async (system: System, person: Person, sql: Database): Promise<void> => {
  if (person.isAdmin) {
    const { gatewayUrl } = system
    const session = await signInStaff({ gatewayUrl, sql }, { ...person, password: PASSWORD })
    Object.assign(person, { token: session.token, secret: session.secret, staffStepUp: session.stepUp })
  } else {
    const login = { email: person.email, password: PASSWORD }
    person.token = (await post(system, '', 'auth/login', login)).accessToken
  }
  person.stepUp = (await post(system, person.token, 'pin/verify', { pin: PIN })).stepUpToken
}

/** A person with a PIN and a wallet in USD that holds `amount`. */
export const makePerson = async (system: System, amount: string): Promise<Person> => {
  const email = `${randomUUID()}@example.com`
  const { id } = await post(system, '', 'auth/signup', { email, password: PASSWORD, fullName: 'Olive Open' })
  await post(system, '', 'auth/verify-email', { token: await mailedToken(system, email) })
  const { accessToken: token } = await post(system, '', 'auth/login', { email, password: PASSWORD })
  await post(system, token, 'pin', { pin: PIN })
  const { id: walletId } = await post(system, token, 'wallets', { currency: 'USD' })
  await post(system, token, 'deposits', { walletId, amount, currency: 'USD' })
  const { id: spareWalletId } = await post(system, token, 'wallets', { currency: 'EUR' })
  return { userId: id, email, walletId, spareWalletId, token, stepUp: '' }
}
