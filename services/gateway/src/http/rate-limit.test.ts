import { expect, test } from 'vitest'
import type { LimitName, RateLimit } from './rate-limit.ts'
import { rateHeaders, rateProblem, readTaken } from './rate-limit.ts'

const limits = { DEFAULT: { requests: 600, seconds: 60 }, PIN: { requests: 10, seconds: 60 } } as Record<
  LimitName,
  RateLimit
>
const counted = [
  { name: 'DEFAULT', subject: 'u' },
  { name: 'PIN', subject: 'u' },
] as const

test('headers name every limit that was counted', () => {
  const { answers, refused } = readTaken([...counted], limits, [0, 599, 62_001, 9, 400])
  expect(refused).toBeUndefined()
  expect(rateHeaders(answers)).toEqual({
    ratelimit: '"default";r=599;t=63, "pin";r=9;t=1',
    'ratelimit-policy': '"default";q=600;w=60, "pin";q=10;w=60',
  })
})

test('a refusal names the limit that is used up and when there is room', () => {
  const { refused } = readTaken([...counted], limits, [2, 590, 62_001, 0, 31_400])
  const problem = rateProblem(refused!)
  expect(problem).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED', members: { limit: 10, windowSeconds: 60 } })
  expect(problem.headers['retry-after']).toBe('32')
})

test('a limit of the subject’s own stands in place of the setting', () => {
  const own = { name: 'DEFAULT', subject: 'k', limit: { requests: 5, seconds: 60 } } as const
  const { answers } = readTaken([own], limits, [0, 4, 60_000])
  expect(rateHeaders(answers)['ratelimit-policy']).toBe('"default";q=5;w=60')
})
