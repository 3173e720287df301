// No answer lies: what clients were told is held against what the ledger decided.
import { isDeepStrictEqual } from 'node:util'
import { transferIdOf } from '@pennywire/contracts/ids.ts'
import { formatAmount } from '@pennywire/contracts/money.ts'
import { UUID } from '@pennywire/runtime/database.ts'
import { type Attempt, attempt, type Content, isLostOr5xx, type Request } from './load.ts'
import { type Answer, ask, type Person } from './people.ts'
import { forEach, until, type World } from './world.ts'

/** What the ledger decided under an id. */
type Decided = {
  id: string
  type: string
  status: 'completed' | 'rejected'
  from: string | null
  to: string | null
  amount: bigint
  code: string | null
}

/** The refusals that this load can bring about; any other is a fault of the system. */
const REJECTIONS = ['INSUFFICIENT_BALANCE', 'REQUEST_EXPIRED']
const FINAL_WITHIN_SECONDS = 60
const AT_ONCE = 16
/** Of those answered 201 at once, every so many-th is asked for again by its key. */
const SAMPLE = 25

const idOf = (people: Person[], { from, key }: Request) => transferIdOf(people[from]!.userId, key)

const readDecided = async (world: World, ids: string[]): Promise<Map<string, Decided>> => {
  const rows = await world.sql<Decided[]>`
    select id::text, type, status, from_wallet::text as from, to_wallet::text as to, amount, rejection_code as code
    from ledger.transfers where id = any(${world.sql.array(ids, UUID)})`
  return new Map(rows.map(row => [row.id, row]))
}

const isReuse = (answer: Answer) => answer.status === 422 && answer.body?.code === 'IDEMPOTENCY_KEY_REUSED'

/** Told that it is done, refused for good, or taken: from then on it must have an outcome. */
const isAccepted = ({ answer }: Attempt) => answer !== 'lost' && answer.status < 500

const isContent = (people: Person[], request: Request, content: Content, decided: Decided) =>
  decided.type === request.kind &&
  decided.amount === content.minor &&
  decided.to === people[content.to]!.walletId &&
  (request.kind === 'deposit' || decided.from === people[request.from]!.walletId)

/** What is wrong with one answer, given what was decided; undefined where it is true. */
const lieOf = (
  people: Person[],
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

/** Asks for a request by its key; what the answer must be follows from what was decided. */
const lieByKey = async (
  world: World,
  people: Person[],
  request: Request,
  decided: Decided | undefined,
): Promise<string | undefined> => {
  const { token } = people[request.from]!
  const url = `${world.system.gatewayUrl}/v1/transfers/by-idempotency-key/${request.key}`
  const { status, body } = await ask(url, 'GET', { token })
  if (decided) {
    if (status !== 200 || body.status !== decided.status)
      return `by its key ${status} ${body?.status}, but it was ${decided.status}`
    const told = request.attempts.find(({ answer }) => answer !== 'lost' && answer.status === 201)
    if (told && told.answer !== 'lost' && !isDeepStrictEqual(told.answer.body, body))
      return `answered 201 with ${JSON.stringify(told.answer.body)}, by its key ${JSON.stringify(body)}`
    return undefined
  }
  const unknown = status === 404 || (status === 200 && body.final === false)
  return unknown ? undefined : `undecided, but by its key ${status} ${body?.status}`
}

/**
 * Waits until every request is final (those nobody has an answer to are asked again with the same key, as a client
 * would), then compares every answer with what was decided. Adds what moved to `balances`, by person.
 */
export const checkAnswers = async (
  world: World,
  people: Person[],
  requests: Request[],
  balances: bigint[],
): Promise<string[]> => {
  const violations: string[] = []
  const ids = requests.map(request => idOf(people, request))
  const accepted = ids.filter((_, index) => requests[index]!.attempts.some(isAccepted))
  let decided = new Map<string, Decided>()
  await until('every accepted request has its outcome', FINAL_WITHIN_SECONDS, async () => {
    decided = await readDecided(world, ids)
    return accepted.every(id => decided.has(id))
  }).catch(() => {
    const open = accepted.filter(id => !decided.has(id))
    violations.push(
      `${open.length} accepted requests without an outcome after ${FINAL_WITHIN_SECONDS} s, such as ${open[0]}`,
    )
  })

  const end = Date.now() + 1_000 * FINAL_WITHIN_SECONDS
  // What nobody has an answer to: the key tells, and the same request again makes it final.
  await forEach(requests, AT_ONCE, async (request, index) => {
    const indefinite = request.attempts.some(({ answer }) => isLostOr5xx(answer))
    if (!indefinite && index % SAMPLE !== 0) return
    const lie = await lieByKey(world, people, request, decided.get(ids[index]!))
    if (lie) violations.push(`${ids[index]} (${request.kind}): ${lie}`)
    if (decided.has(ids[index]!)) return
    const secondsLeft = Math.max(0, end - Date.now()) / 1_000
    await until('an answer to a repeat', secondsLeft, async () => {
      const { answer } = await attempt(people, world.system.gatewayUrl, request, request.content)
      return answer !== 'lost' && answer.status !== 202 && answer.status < 500
    }).catch(() => violations.push(`${ids[index]} (${request.kind}): no final answer to its repeats`))
  })

  decided = await readDecided(world, ids)
  for (const [index, request] of requests.entries()) {
    const outcome = decided.get(ids[index]!)
    if (!outcome) {
      violations.push(`${ids[index]} (${request.kind}): no outcome at the end`)
      continue
    }
    for (const each of request.attempts) {
      const lie = lieOf(people, request, each, outcome)
      if (lie) violations.push(`${outcome.id} (${request.kind}): ${lie}`)
    }
    const contents = request.attempts.map(({ content }) => content)
    if (!contents.some(content => isContent(people, request, content, outcome)))
      violations.push(`${outcome.id}: decided with a content that nobody asked for`)
    if (outcome.status === 'completed') {
      const to = people.findIndex(({ walletId }) => walletId === outcome.to)
      balances[to]! += outcome.amount
      if (request.kind === 'transfer') balances[request.from]! -= outcome.amount
    }
  }
  violations.push(...(await checkBalances(world, people, balances)))
  return violations
}

/** The balances that the API tells are what the final statuses say. */
const checkBalances = async (world: World, people: Person[], balances: bigint[]): Promise<string[]> => {
  const violations: string[] = []
  await forEach(people, AT_ONCE, async ({ walletId, token }, index) => {
    const { body } = await ask(`${world.system.gatewayUrl}/v1/wallets/${walletId}/balance`, 'GET', { token })
    const expected = formatAmount(balances[index]!, 'USD')
    if (body.balance !== expected)
      violations.push(`wallet ${walletId} holds ${body.balance}, by the outcomes ${expected}`)
  })
  return violations
}
