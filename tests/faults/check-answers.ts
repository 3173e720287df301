// Compares every answer that clients received with the outcome that the ledger decided.
import { type Decided, idOf, isAccepted, judgeAnswers, lieOfBalance, lieOfKey } from './judge-answers.ts'
import { judgeState, promisedOf } from './judge-state.ts'
import { attempt, isLostOr5xx, type Request } from './load.ts'
import { ask, type Person } from './people.ts'
import { countUnderWay, readDecided, readState, readWallets } from './read-decided.ts'
import { forEach, until, type World } from './world.ts'

/** Longer than the interval after which the gateway's worker, after an outage, looks at a payment again. */
const FINAL_WITHIN_SECONDS = 120
const AT_ONCE = 16
/** Of the requests without a lost or 5xx answer, every SAMPLE-th is looked up again by its key. */
const SAMPLE = 25
const FOUND_BY_KEY = ['transfer', 'deposit', 'withdrawal', 'hold', 'reversal']

/** Looks a request up by its key, and compares the answer with the decided outcome. */
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
  // The request may have been decided, its hold ended, or its money returned between the two reads: compare again.
  const now = await readDecided(world, people, [request])
  return lieOfKey(request, answer, now.get(idOf(people, request)))
}

/**
 * Waits until every request is final (requests without an answer are repeated with the same key, as a client would),
 * then compares every answer with the decided outcome, and the tables with both. Adds the moved amounts to `balances`,
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
  // Requests with a lost or 5xx answer: the key finds the outcome, and a repeat makes the request final.
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
    // For the other kinds, only a repeat of the request returns the outcome.
    if (found && decided.has(id)) return
    const secondsLeft = Math.max(0, end - Date.now()) / 1_000
    await until('an answer to a repeat', secondsLeft, async () => {
      const { answer } = await attempt(people, world.system.gatewayUrl, request, request.content)
      return answer !== 'lost' && answer.status !== 202 && answer.status < 500
    }).catch(() => violations.push(`${id} (${kind}): no final answer to its repeats`))
  })

  const secondsLeft = Math.max(5, (end - Date.now()) / 1_000)
  // On timeout, judgeState names the unfinished requests.
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
