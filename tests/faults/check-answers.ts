// No answer lies: what clients were told is held against what the ledger decided.
import { type Decided, idOf, isAccepted, judgeAnswers, lieOfBalance, lieOfKey } from './judge-answers.ts'
import { judgeState, promisedOf } from './judge-state.ts'
import { attempt, isLostOr5xx, type Request } from './load.ts'
import { ask, type Person } from './people.ts'
import { countUnderWay, readDecided, readState, readWallets } from './read-decided.ts'
import { forEach, until, type World } from './world.ts'

/** Longer than the gateway's worker waits, after an outage, before it looks after a payment again. */
const FINAL_WITHIN_SECONDS = 120
const AT_ONCE = 16
/** Of those answered 201 at once, every so many-th is asked for again by its key. */
const SAMPLE = 25
const FOUND_BY_KEY = ['transfer', 'deposit', 'withdrawal', 'hold', 'reversal']

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
  if (!lie) return undefined
  // It may have been decided, a hold may have ended, or money been given back, between the two looks.
  const now = await readDecided(world, people, [request])
  return lieOfKey(request, answer, now.get(idOf(people, request)))
}

/**
 * Waits until every request is final (those nobody has an answer to are asked again with the same key, as a client
 * would), then compares every answer with what was decided, and the tables with both. Adds what moved to `balances`,
 * by person.
 */
export const checkAnswers = async (
  world: World,
  people: Person[],
  requests: Request[],
  balances: bigint[],
): Promise<string[]> => {
  const violations: string[] = []
  const idOfRequest = new Map(requests.map(request => [request, idOf(people, request)]))
  const accepted = requests.filter(({ kind, attempts }) => kind !== 'open' && attempts.some(isAccepted))
  let decided = new Map<string, Decided>()
  const undecided = () => accepted.filter(request => !decided.has(idOfRequest.get(request)!))
  await until('every accepted request has its outcome', FINAL_WITHIN_SECONDS, async () => {
    decided = await readDecided(world, people, requests)
    return undecided().length === 0
  }).catch(() => {
    const open = undecided()
    violations.push(
      `${open.length} accepted requests without an outcome after ${FINAL_WITHIN_SECONDS} s, such as ` +
        `${idOfRequest.get(open[0]!)} (${open[0]?.kind})`,
    )
  })

  const end = Date.now() + 1_000 * FINAL_WITHIN_SECONDS
  // What nobody has an answer to: the key tells, and the same request again makes it final.
  await forEach(requests, AT_ONCE, async (request, index) => {
    const { kind } = request
    const indefinite = request.attempts.some(({ answer }) => isLostOr5xx(answer))
    if (kind === 'open' || (!indefinite && index % SAMPLE !== 0)) return
    const id = idOfRequest.get(request)!
    const found = FOUND_BY_KEY.includes(kind)
    if (found) {
      const lie = await lieByKey(world, people, request, decided.get(id))
      if (lie) violations.push(`${id} (${kind}): ${lie}`)
    }
    // Of the others nothing but the same request again tells what became of it.
    if (found && decided.has(id)) return
    const secondsLeft = Math.max(0, end - Date.now()) / 1_000
    await until('an answer to a repeat', secondsLeft, async () => {
      const { answer } = await attempt(people, world.system.gatewayUrl, request, request.content)
      return answer !== 'lost' && answer.status !== 202 && answer.status < 500
    }).catch(() => violations.push(`${id} (${kind}): no final answer to its repeats`))
  })

  const secondsLeft = Math.max(5, (end - Date.now()) / 1_000)
  // Which ones is told by the judge of the tables.
  await until(
    'nothing is under way',
    secondsLeft,
    async () => (await countUnderWay(world, people, requests)) === 0,
  ).catch(() => {})
  const wallets = await readWallets(world, people)
  const outcomes = await readDecided(world, people, requests)
  const state = await readState(world, people, requests)
  violations.push(
    ...judgeAnswers(people, requests, outcomes, balances, wallets),
    ...judgeState(state, outcomes),
  )
  const promised = promisedOf(state.holds)
  await forEach(people, AT_ONCE, async ({ walletId, token }, index) => {
    if (walletId === '') return
    const url = `${world.system.gatewayUrl}/v1/wallets/${walletId}/balance`
    const answer = await ask(url, 'GET', { token })
    const lie = lieOfBalance(walletId, answer, balances[index]!, promised.get(walletId))
    if (lie) violations.push(lie)
  })
  return violations
}
