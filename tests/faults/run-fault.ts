// Runs one fault from beginning to end: load, the fault itself, recovery, and all checks.
import { checkAnswers } from './check-answers.ts'
import { checkSystem } from './check-system.ts'
import type { Fault } from './faults.ts'
import { type Follower, followEvents } from './follow-events.ts'
import { type Kind, type Load, type Request, startLoad } from './load.ts'
import { makeAdmin, makePerson, type Person, signIn, thaw } from './people.ts'
import { forEach, until, untilHealthy, type World } from './world.ts'

const FUNDS = '1000.00'
const FUNDS_MINOR = 100_000n
const HEALTHY_WITHIN_SECONDS = 60

/** The injections of one fault, and its effects on the clients. */
export type FaultReport = {
  fault: string
  times: number
  requests: number
  /** Attempts by their answer; `completed` is 201, or 200 if no money moves. */
  answers: {
    completed: number
    refused: number
    reused: number
    pending: number
    unavailable: number
    error: number
    lost: number
  }
  /** Completed and refused requests of each kind. */
  kinds: Map<Kind, { done: number; refused: number }>
  longestOutage: number
  /** From the end of the fault until each client was served again. */
  recovered: number
  /** From the end of the fault until every service reported ready. */
  healthy: number
  /** The system did not recover: faults injected after this prove nothing. */
  stuck: boolean
  seconds: number
  /** The steps of a drill, and how long each took. */
  steps: Array<{ name: string; seconds: number }>
  violations: string[]
}

export type Suite = {
  run: (fault: Fault) => Promise<FaultReport>
  follower: Follower
  stop: () => Promise<void>
}

const countAnswers = (requests: Request[]): FaultReport['answers'] => {
  const counts = { completed: 0, refused: 0, reused: 0, pending: 0, unavailable: 0, error: 0, lost: 0 }
  for (const { answer } of requests.flatMap(({ attempts }) => attempts)) {
    if (answer === 'lost') counts.lost++
    else if (answer.status === 201 || answer.status === 200) counts.completed++
    else if (answer.status === 202) counts.pending++
    else if (answer.status === 503) counts.unavailable++
    else if (answer.status >= 500) counts.error++
    else if (answer.body?.code === 'IDEMPOTENCY_KEY_REUSED') counts.reused++
    else counts.refused++
  }
  return counts
}

const countKinds = (requests: Request[]): FaultReport['kinds'] => {
  const kinds: FaultReport['kinds'] = new Map()
  for (const { kind, attempts } of requests) {
    const counts = kinds.get(kind) ?? { done: 0, refused: 0 }
    kinds.set(kind, counts)
    const statuses = attempts.map(({ answer }) => (answer === 'lost' ? 0 : answer.status))
    if (statuses.some(status => status === 200 || status === 201)) counts.done++
    else if (statuses.some(status => status >= 400 && status < 500)) counts.refused++
  }
  return kinds
}

/** Injects the fault, and measures recovery from the moment at which the fault is removed. */
const inject = async (
  world: World,
  fault: Fault,
  { load, follower, report }: { load: Load; follower: Follower; report: (line: string) => void },
) => {
  const servedAgain = async (seconds = HEALTHY_WITHIN_SECONDS, from = performance.now()) => {
    await until('every client is served again', seconds, () => load.servedSince(from)).catch(
      (error: Error) => {
        throw new Error(`${error.message}: clients ${load.unservedSince(from).join(', ')} are not`)
      },
    )
  }
  let overAt = 0
  const took = { times: 1, recovered: 0, healthy: 0, steps: [] as FaultReport['steps'] }
  try {
    await servedAgain()
    took.times = await fault.inject(world, {
      load,
      follower,
      step: async (name, work) => {
        const begun = performance.now()
        const result = await work()
        const seconds = (performance.now() - begun) / 1_000
        took.steps.push({ name, seconds })
        report(`    ${seconds.toFixed(1).padStart(6)} s  ${name}`)
        return result
      },
      servedAgain: seconds => servedAgain(seconds),
      over: () => {
        overAt = performance.now()
      },
    })
    if (overAt === 0) overAt = performance.now()
    await servedAgain(HEALTHY_WITHIN_SECONDS, overAt)
    took.recovered = (load.servedAgainAt(overAt) - overAt) / 1_000
    await untilHealthy(world, HEALTHY_WITHIN_SECONDS)
    took.healthy = (performance.now() - overAt) / 1_000
    return { ...took, stuck: undefined }
  } catch (error) {
    return { ...took, stuck: error instanceof Error ? error.message : String(error) }
  }
}

/** Creates the people and the event consumer that are used through all faults. */
export const openSuite = async (
  world: World,
  options: { people: number; clients: number; report?: (line: string) => void },
): Promise<Suite> => {
  const { report = () => {} } = options
  const people: Person[] = []
  // Four at once: fewer than one address's queue places for hashing new passwords.
  await forEach(Array.from({ length: options.people }), 4, async () => {
    people.push(await makePerson(world, FUNDS))
  })
  const balances = people.map(() => FUNDS_MINOR)
  // The last person is the admin, who reverses other people's transfers.
  people.push(await makeAdmin(world))
  balances.push(0n)
  const follower = await followEvents(world)

  return {
    follower,
    stop: follower.stop,
    run: async fault => {
      const begun = performance.now()
      await forEach(people, 8, async person => {
        await signIn(world, person)
        await thaw(world, person)
      })
      const load = startLoad(world, people, options.clients)
      const { stuck, ...took } = await inject(world, fault, { load, follower, report })
      await load.stop()
      const violations = stuck === undefined ? [] : [stuck]
      // Requests that a client had not sent when it was stopped are left out.
      const requests = load.requests.filter(({ attempts }) => attempts.length > 0)
      const answers = countAnswers(requests)
      const check = (checking: Promise<string[]>) =>
        checking.catch((error: Error) => [error.stack ?? error.message])
      violations.push(...(await check(checkAnswers(world, people, requests, balances))))
      violations.push(...(await check(checkSystem(world, people, requests))))
      violations.push(...(await check(follower.check())))
      if (fault.check && stuck === undefined) violations.push(...(await check(fault.check(world))))
      return {
        fault: fault.name,
        ...took,
        requests: requests.length,
        answers,
        kinds: countKinds(requests),
        longestOutage: load.longestOutage(),
        stuck: stuck !== undefined,
        seconds: (performance.now() - begun) / 1_000,
        violations,
      }
    },
  }
}
