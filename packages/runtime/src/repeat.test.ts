import { expect, test } from 'vitest'
import { type Repeated, repeat } from './repeat.ts'

/** A clock that the test moves. */
const testClock = () => {
  let now = 0
  const timers = new Map<() => void, number>()
  const settle = () => new Promise<void>(resolve => setImmediate(resolve))
  return {
    clock: {
      now: () => now,
      elapsed: () => now,
      after: (ms: number, action: () => void) => {
        timers.set(action, now + ms)
        return () => void timers.delete(action)
      },
    },
    pass: async (ms: number) => {
      now += ms
      for (const [action, at] of [...timers]) {
        if (at > now) continue
        timers.delete(action)
        action()
      }
      await settle()
    },
    timers,
  }
}

const setUp = (
  round: (count: number) => boolean | undefined,
  options: Partial<Parameters<typeof repeat>[0]> = {},
) => {
  const { clock, pass, timers } = testClock()
  let rounds = 0
  const told: Array<[message: string, retryMs: number]> = []
  const repeated: Repeated = repeat({
    clock,
    everyMs: 1_000,
    work: async () => round(++rounds),
    onError: (error, retryMs) => told.push([(error as Error).message, retryMs]),
    ...options,
  })
  return { repeated, pass, timers, told, rounds: () => rounds }
}

test('a round, a pause, the next round', async () => {
  const { pass, rounds } = setUp(() => undefined)
  await pass(0)
  expect(rounds()).toBe(1)
  await pass(999)
  expect(rounds()).toBe(1)
  await pass(1)
  expect(rounds()).toBe(2)
})

test('it can begin with a pause', async () => {
  const { pass, rounds } = setUp(() => undefined, { pauseFirst: true })
  await pass(999)
  expect(rounds()).toBe(0)
  await pass(1)
  expect(rounds()).toBe(1)
})

test('where more is to be done the next round begins at once', async () => {
  const { pass, rounds } = setUp(count => count < 5)
  await pass(0)
  expect(rounds()).toBe(5)
})

test('wake ends a pause, and one that comes during a round leaves the next pause out', async () => {
  let repeated: Repeated | undefined
  const seen = setUp(count => {
    if (count === 2) repeated!.wake()
    return undefined
  })
  repeated = seen.repeated
  await seen.pass(0)
  repeated.wake()
  await seen.pass(0)
  expect(seen.rounds()).toBe(3)
  expect(seen.timers.size).toBe(1)
})

test('failures are told, their pauses double up to the last, and wake does not end them', async () => {
  const { repeated, pass, told, rounds } = setUp(
    count => {
      if (count < 5) throw new Error(`round ${count}`)
      return undefined
    },
    { retryMs: 100, lastRetryMs: 300 },
  )
  await pass(0)
  repeated.wake()
  await pass(99)
  expect(rounds()).toBe(1)
  await pass(1)
  await pass(200)
  await pass(300)
  await pass(300)
  expect(told).toEqual([
    ['round 1', 100],
    ['round 2', 200],
    ['round 3', 300],
    ['round 4', 300],
  ])
  expect(rounds()).toBe(5)
})

test('stop ends pauses, lets the running round finish, and tells nothing of what it broke', async () => {
  let finish = () => {}
  const { clock, pass, timers } = testClock()
  const told: unknown[] = []
  const repeated = repeat({
    clock,
    everyMs: 1_000,
    work: async signal => {
      await new Promise<void>(resolve => {
        finish = resolve
      })
      if (signal.aborted) throw new Error('cut off')
    },
    onError: error => told.push(error),
  })
  await pass(0)
  let isOver = false
  const stopping = repeated.stop().then(() => {
    isOver = true
  })
  await pass(0)
  expect(isOver).toBe(false)
  finish()
  await stopping
  expect(told).toEqual([])
  expect(timers.size).toBe(0)

  const resting = setUp(() => undefined)
  await resting.pass(0)
  await resting.repeated.stop()
  expect(resting.timers.size).toBe(0)
})
