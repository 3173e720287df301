// No answer lies: what clients were told is held against what the ledger decided.
import { UUID } from '@pennywire/runtime/database.ts'
import { type Decided, idOf, isAccepted, judgeAnswers, lieOfBalance, lieOfKey } from './judge-answers.ts'
import { attempt, isLostOr5xx, type Request } from './load.ts'
import { ask, type Person } from './people.ts'
import { forEach, until, type World } from './world.ts'

const FINAL_WITHIN_SECONDS = 60
const AT_ONCE = 16
/** Of those answered 201 at once, every so many-th is asked for again by its key. */
const SAMPLE = 25

const readDecided = async (world: World, ids: string[]): Promise<Map<string, Decided>> => {
  const rows = await world.sql<Decided[]>`
    select id::text, type, status, from_wallet::text as from, to_wallet::text as to, amount, rejection_code as code
    from ledger.transfers where id = any(${world.sql.array(ids, UUID)})`
  return new Map(rows.map(row => [row.id, row]))
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
  const answer = await ask(url, 'GET', { token })
  const lie = lieOfKey(request, answer, decided)
  if (!lie || decided) return lie
  // It may have been decided between the two looks.
  const id = idOf(people, request)
  return lieOfKey(request, answer, (await readDecided(world, [id])).get(id))
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

  violations.push(...judgeAnswers(people, requests, await readDecided(world, ids), balances))
  await forEach(people, AT_ONCE, async ({ walletId, token }, index) => {
    const url = `${world.system.gatewayUrl}/v1/wallets/${walletId}/balance`
    const lie = lieOfBalance(walletId, await ask(url, 'GET', { token }), balances[index]!)
    if (lie) violations.push(lie)
  })
  return violations
}
