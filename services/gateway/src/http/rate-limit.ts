import { counter } from '@pennywire/runtime/metrics.ts'
import type { Context } from 'hono'
import type { Redis } from 'ioredis'
import { ProblemError } from '../problems/problem.ts'
import type { GatewayEnv } from './context.ts'

/** A subject may make `requests` within `seconds`. */
export type RateLimit = { requests: number; seconds: number }

/** Each limit is a setting `RATE_LIMIT_<name>`. */
export type LimitName =
  | 'SIGNUP'
  | 'LOGIN'
  | 'LOGIN_ACCOUNT'
  | 'PIN'
  | 'TRANSFER'
  | 'DEPOSIT'
  | 'WITHDRAWAL'
  | 'RECIPIENT'
  | 'STATEMENT'
  | 'RECEIPT'
  | 'MAIL'
  | 'API_KEY'
  | 'API_KEYS'
  | 'DEFAULT'

/**
 * A sliding window in slices: a request counts until its slice has left the window completely. Never admits more than
 * the limit within any window, and admits again at most one slice (a twelfth) later than an exact log would, at a cost
 * that does not grow with the limit.
 */
const SLICES = 12

/**
 * KEYS: one hash per limit (slice number to count). ARGV: requests and seconds of each limit in turn. All limits are
 * charged, or none if one is full: a refused call does not prolong its own refusal. The clock is Redis's: one for all
 * gateways. Returns the index of the full limit (0: none), per limit the remaining requests and the milliseconds until
 * the oldest count leaves, and then per limit the charged slice.
 */
const TAKE_SCRIPT = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers, slices, full = {}, {}, 0
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i]) * 1000
  local width = window / ${SLICES}
  local current = math.floor(now / width)
  local oldest, used = current, 0
  local counts = redis.call('HGETALL', key)
  for at = 1, #counts, 2 do
    local slice = tonumber(counts[at])
    if slice < current - ${SLICES} then
      redis.call('HDEL', key, counts[at])
    else
      used = used + tonumber(counts[at + 1])
      if slice < oldest then oldest = slice end
    end
  end
  local reset = math.ceil((oldest + 1) * width + window - now)
  if used >= limit then full = i end
  slices[i] = current
  answers[2 * i - 1] = limit - used
  answers[2 * i] = reset
end
if full == 0 then
  for i, key in ipairs(KEYS) do
    redis.call('HINCRBY', key, string.format('%d', slices[i]), 1)
    redis.call('PEXPIRE', key, ARGV[2 * i] * 2000)
    answers[2 * i - 1] = answers[2 * i - 1] - 1
  end
end
table.insert(answers, 1, full)
for _, slice in ipairs(slices) do table.insert(answers, slice) end
return answers
`

/** KEYS: the charged hashes. ARGV: the slice of each. Never below zero: Redis may have lost counts meanwhile. */
const GIVE_BACK_SCRIPT = `
for i, key in ipairs(KEYS) do
  if tonumber(redis.call('HGET', key, ARGV[i]) or '0') > 0 then redis.call('HINCRBY', key, ARGV[i], -1) end
end
`

/**
 * A limit and the subject it is counted for (a user id, an API key's id or an address). `limit` replaces the setting if
 * the subject has a limit of its own.
 */
export type Counted = {
  name: LimitName
  subject: string
  limit?: RateLimit
  /** Multiplier of the requests, for a limit that a network shares. Answers show a shared limit only if it refuses. */
  times?: number
  /** Common hash tag if the subjects differ: keeps the keys of one call on one node of a cluster. */
  tag?: string
}

export type RateAnswer = {
  name: LimitName
  limit: RateLimit
  remaining: number
  resetSeconds: number
  isShared: boolean
}
export type Taken = { refused: RateAnswer | undefined; answers: RateAnswer[] }
/** The counted limits and their reversal: for a request that turns out not to be a target of the limits. */
type Given = Taken & { giveBack: () => Promise<void> }

const limitOf = ({ name, limit, times = 1 }: Counted, limits: Record<LimitName, RateLimit>): RateLimit => {
  const { requests, seconds } = limit ?? limits[name]
  return { requests: requests * times, seconds }
}

/** Parses the script's answer; pure, so that the rounding is in one tested place. */
export const readTaken = (
  counted: Counted[],
  limits: Record<LimitName, RateLimit>,
  numbers: number[],
): Taken => {
  const [full = 0, ...rest] = numbers
  const answers: RateAnswer[] = counted.map((each, index) => ({
    name: each.name,
    limit: limitOf(each, limits),
    isShared: each.times !== undefined,
    remaining: Math.max(0, rest[2 * index]!),
    resetSeconds: Math.max(1, Math.ceil(rest[2 * index + 1]! / 1_000)),
  }))
  return { refused: full === 0 ? undefined : answers[full - 1], answers }
}

/**
 * `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10): every counted limit that is not shared.
 */
export const rateHeaders = (counted: RateAnswer[]): Record<string, string> => {
  const answers = counted.filter(({ isShared }) => !isShared)
  return {
    ratelimit: answers
      .map(({ name, remaining, resetSeconds }) => `"${name.toLowerCase()}";r=${remaining};t=${resetSeconds}`)
      .join(', '),
    'ratelimit-policy': answers
      .map(({ name, limit }) => `"${name.toLowerCase()}";q=${limit.requests};w=${limit.seconds}`)
      .join(', '),
  }
}

const refusals = counter(
  'gateway_rate_limit_refusals_total',
  'Requests refused by a rate limit, by its name',
  ['limit'],
)

/**
 * Adds the counted limits to the headers of every answer. Throws RATE_LIMIT_EXCEEDED if one of them is used up. After
 * two calls for one request, the answer shows the limits of both.
 */
export const enforceLimits = (context: Context<GatewayEnv>, { refused, answers }: Taken): void => {
  for (const [name, value] of Object.entries(rateHeaders(answers))) {
    context.header(name, value, { append: true })
  }
  if (!refused) return
  refusals.inc({ limit: refused.name.toLowerCase() })
  throw rateProblem(refused)
}

/** The problem for a limit that is used up. */
export const rateProblem = (refused: RateAnswer): ProblemError =>
  new ProblemError(
    'RATE_LIMIT_EXCEEDED',
    `At most ${refused.limit.requests} requests within ${refused.limit.seconds} seconds (${refused.name}); ` +
      `try again in ${refused.resetSeconds} seconds.`,
    { limit: refused.limit.requests, windowSeconds: refused.limit.seconds },
    { 'retry-after': String(refused.resetSeconds) },
  )

export type TakeFromLimits = (counted: Counted[]) => Promise<Given>

/**
 * Counts a request against several limits at once: one atomic script, one command. Redis receives only the keyed hash
 * of a subject, because a subject may be a client's address. Rejects if Redis is unavailable; the caller decides how to
 * proceed. `giveBack` never rejects.
 */
export const createRateLimits = (
  redis: Redis,
  limits: Record<LimitName, RateLimit>,
  hash: (subject: string) => string,
): TakeFromLimits => {
  let sha: Promise<string> | undefined
  const load = () => {
    sha = redis.script('LOAD', TAKE_SCRIPT) as Promise<string>
    sha.catch(() => {
      sha = undefined
    })
    return sha
  }
  return async counted => {
    // The hash tag in braces keeps all keys of one call on one node of a cluster. The key contains the seconds, because
    // slices of another width have other numbers: after a change of the setting, old slices must not be read as new
    // ones.
    const rules = counted.map(each => limitOf(each, limits))
    const keys = counted.map(({ name, subject, tag = subject }, index) => {
      const node = hash(`rate\0${tag}`)
      const own = tag === subject ? '' : `:${hash(`rate\0${subject}`)}`
      return `rate:{${node}}${own}:${name}:${rules[index]!.seconds}`
    })
    const settings = rules.flatMap(({ requests, seconds }) => [requests, seconds])
    const run = (hash: string) => redis.evalsha(hash, keys.length, ...keys, ...settings) as Promise<number[]>
    const numbers = await run(await (sha ?? load())).catch(async error => {
      // Redis loses its scripts when it restarts.
      if (!String((error as Error).message).startsWith('NOSCRIPT')) throw error
      return run(await load())
    })
    const taken = readTaken(counted, limits, numbers)
    const slices = numbers.slice(-counted.length)
    return {
      ...taken,
      giveBack: async () => {
        if (taken.refused) return
        // A count that cannot be given back leaves with its window.
        await redis.eval(GIVE_BACK_SCRIPT, keys.length, ...keys, ...slices).catch(() => undefined)
      },
    }
  }
}
