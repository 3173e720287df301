import { randomUUID } from 'node:crypto'
import type { System } from '@pennywire/stack/system.ts'

/** A signed-in user with a step-up token and a funded wallet, made over HTTP as any client would. */
export type Person = { accessToken: string; stepUpToken: string; walletId: string }

/** A signed-in user without a PIN. */
export type Account = { email: string; accessToken: string; refreshToken: string }

export const PIN = '482915'
export const PASSWORD = 'Correct-horse-9'
/** A gateway checks the new passwords of one client address one after the other, and queues at most five. */
const AT_ONCE = 5

// biome-ignore lint/suspicious/noExplicitAny: answers of every shape
type Body = any

/** Posts JSON and returns the answer's body; throws unless the request succeeds. */
export const ask = async (url: string, body: object, headers: Record<string, string> = {}): Promise<Body> => {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${url}: ${response.status} ${text}`)
  return text === '' ? null : JSON.parse(text)
}

/** Runs over all items, AT_ONCE at a time. */
const forEach = async <Item, Result>(
  items: Item[],
  run: (item: Item) => Promise<Result>,
): Promise<Result[]> => {
  const results: Result[] = []
  let next = 0
  const worker = async () => {
    while (next < items.length) {
      const index = next++
      results[index] = await run(items[index]!)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  return results
}

export const makeAccounts = async (
  gatewayUrl: string,
  mailUrl: string,
  count: number,
): Promise<Account[]> => {
  const at = (path: string) => `${gatewayUrl}/v1/${path}`
  const emails = Array.from({ length: count }, () => `${randomUUID()}@example.com`)
  await forEach(emails, email =>
    ask(at('auth/signup'), { email, password: PASSWORD, fullName: 'Bench Person' }),
  )
  const tokens = await mailedTokens(mailUrl, emails)
  return forEach(emails, async email => {
    await ask(at('auth/verify-email'), { token: tokens.get(email) })
    const { accessToken, refreshToken } = await ask(at('auth/login'), { email, password: PASSWORD })
    return { email, accessToken, refreshToken }
  })
}

export const makePeople = async (system: System, count: number): Promise<Person[]> => {
  const at = (path: string) => `${system.gatewayUrl}/v1/${path}`
  const accounts = await makeAccounts(system.gatewayUrl, system.stack.mail.httpUrl, count)
  return forEach(accounts, async ({ accessToken }) => {
    const signedIn = { authorization: `Bearer ${accessToken}` }
    await ask(at('pin'), { pin: PIN }, signedIn)
    const { stepUpToken } = await ask(at('pin/verify'), { pin: PIN }, signedIn)
    const { id: walletId } = await ask(at('wallets'), { currency: 'USD' }, signedIn)
    const deposit = { walletId, amount: '1000.00', currency: 'USD' }
    const { status } = await ask(at('deposits'), deposit, { ...signedIn, 'idempotency-key': randomUUID() })
    if (status !== 'completed') throw new Error(`a deposit is ${status}`)
    return { accessToken, stepUpToken, walletId }
  })
}

const MAIL_WAIT_MS = 60_000

/** The verification token mailed to each address, once all have come. */
const mailedTokens = async (mailUrl: string, emails: string[]): Promise<Map<string, string>> => {
  const end = Date.now() + MAIL_WAIT_MS
  for (;;) {
    const messages = (await (await fetch(`${mailUrl}/messages`)).json()) as Array<{
      to: string
      text: string
    }>
    const tokens = new Map(messages.map(({ to, text }) => [to, /\?token=([\w-]+)/.exec(text)?.[1] ?? '']))
    if (emails.every(email => tokens.has(email))) return tokens
    if (Date.now() > end) throw new Error('the verification mails did not come')
    await new Promise(resolve => setTimeout(resolve, 200))
  }
}
