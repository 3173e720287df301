// Whether answers lie: what clients were told, held against what the ledger decided. Nothing here asks anybody, so that
// a test can plant lies.
import { isDeepStrictEqual } from 'node:util'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import type { Attempt, Content, Request } from './load.ts'
import type { Answer, Person } from './people.ts'

/** What the ledger decided under an id. */
export type Decided = {
  id: string
  type: string
  status: 'completed' | 'rejected'
  from: string | null
  to: string | null
  amount: bigint
  code: string | null
}

type Owner = Pick<Person, 'userId' | 'walletId'>

/** The refusals that this load can bring about; any other is a fault of the system. */
const REJECTIONS = ['INSUFFICIENT_BALANCE', 'REQUEST_EXPIRED']

export const idOf = (people: Owner[], { from, key }: Request) => transferIdOf(people[from]!.userId, key)

const isReuse = (answer: Answer) => answer.status === 422 && answer.body?.code === 'IDEMPOTENCY_KEY_REUSED'

/** Told that it is done, refused for good, or taken: from then on it must have an outcome. */
export const isAccepted = ({ answer }: Attempt) => answer !== 'lost' && answer.status < 500

const isContent = (people: Owner[], request: Request, content: Content, decided: Decided) =>
  decided.type === request.kind &&
  decided.amount === content.minor &&
  decided.to === people[content.to]!.walletId &&
  (request.kind === 'deposit' || decided.from === people[request.from]!.walletId)

/** What is wrong with one answer, given what was decided; undefined where it is true. */
const lieOf = (
  people: Owner[],
  request: Request,
  { content, answer }: Attempt,
  decided: Decided,
): string | undefined => {
  if (answer === 'lost' || answer.status >= 500) return undefined
  const { status, body } = answer
  const same = isContent(people, request, content, decided)
  const told = `${status} ${body?.code ?? body?.status}`
  if (isReuse(answer)) return same ? `${told}, but the key holds this very content` : undefined
  if (status === 202)
    return body.id === decided.id && body.status === 'pending' ? undefined : `${told} of another transfer`
  if (!same) return `${told}, but the key holds other content`
  if (status === 201) {
    if (decided.status !== 'completed') return `${told}, but it was ${decided.status}`
    const amount = formatAmount(content.minor, 'USD')
    const fits =
      body.id === decided.id && body.amount === amount && body.status === 'completed' && body.final === true
    return fits ? undefined : `${told} with another content: ${JSON.stringify(body)}`
  }
  if (!REJECTIONS.includes(body?.code)) return `answered ${told}, which nothing here should bring about`
  if (decided.status !== 'rejected' || decided.code !== body.code)
    return `${told}, but it was ${decided.status} ${decided.code ?? ''}`
  return body.final === true ? undefined : `${told}, but not as final`
}

/** What is wrong with what a request's key tells, given what was decided (undefined: nothing yet). */
export const lieOfKey = (
  { attempts }: Request,
  { status, body }: Answer,
  decided: Decided | undefined,
): string | undefined => {
  if (!decided) {
    const unknown = status === 404 || (status === 200 && body.final === false)
    return unknown ? undefined : `undecided, but by its key ${status} ${body?.status}`
  }
  if (status !== 200 || body.status !== decided.status)
    return `by its key ${status} ${body?.status}, but it was ${decided.status}`
  for (const { answer } of attempts)
    if (answer !== 'lost' && answer.status === 201 && !isDeepStrictEqual(answer.body, body))
      return `answered 201 with ${JSON.stringify(answer.body)}, by its key ${JSON.stringify(body)}`
  return undefined
}

/** Every answer against what was decided. Adds what moved to `balances`, by person. */
export const judgeAnswers = (
  people: Owner[],
  requests: Request[],
  decided: ReadonlyMap<string, Decided>,
  balances: bigint[],
): string[] => {
  const violations: string[] = []
  for (const request of requests) {
    const id = idOf(people, request)
    const outcome = decided.get(id)
    if (!outcome) {
      violations.push(`${id} (${request.kind}): no outcome at the end`)
      continue
    }
    for (const each of request.attempts) {
      const lie = lieOf(people, request, each, outcome)
      if (lie) violations.push(`${id} (${request.kind}): ${lie}`)
    }
    if (!request.attempts.some(({ content }) => isContent(people, request, content, outcome)))
      violations.push(`${id} (${request.kind}): decided with a content that nobody asked for`)
    if (outcome.status === 'completed') {
      const to = people.findIndex(({ walletId }) => walletId === outcome.to)
      if (to >= 0) balances[to]! += outcome.amount
      if (request.kind === 'transfer') balances[request.from]! -= outcome.amount
    }
  }
  return violations
}

/** A balance that the API tells is what the outcomes add up to. */
export const lieOfBalance = (
  walletId: string,
  { status, body }: Answer,
  minor: bigint,
): string | undefined => {
  const expected = formatAmount(minor, 'USD')
  return body?.balance === expected
    ? undefined
    : `wallet ${walletId} holds ${body?.balance} (${status}), by the outcomes ${expected}`
}
