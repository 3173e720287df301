import type { Clock } from '@pennywire/runtime/clock.ts'
import { expect, test } from 'vitest'
import { runInScope } from '../queues/request-scope.ts'
import { askUntilAnswered, createOutcomeWaiters, type Outcome } from './await-outcome.ts'

/** A clock that the test sets. */
const createClock = () => {
  let now = 0
  const timers = new Map<object, { at: number; action: () => void }>()
  const clock: Clock = {
    now: () => now,
    elapsed: () => now,
    after: (ms, action) => {
      const timer = { at: now + ms, action }
      timers.set(timer, timer)
      return () => void timers.delete(timer)
    },
  }
  const pass = async (ms: number) => {
    now += ms
    for (const [key, { at, action }] of timers) {
      if (at > now) continue
      timers.delete(key)
      action()
    }
    await new Promise<void>(resolve => setImmediate(resolve))
  }
  return { clock, pass, timers }
}

const setUp = (waitsPerUser: number) => {
  const { clock, pass, timers } = createClock()
  const waiters = createOutcomeWaiters({ decodeRecord: async () => undefined as never }, clock, waitsPerUser)
  const ended: string[] = []
  const wait = (name: string, userId: string, gone?: AbortSignal) =>
    runInScope({ address: '192.0.2.1', userId, known: true, gone }, () =>
      waiters.wait(name, 60_000).outcome.then(() => ended.push(name)),
    )
  const makeRoomFor = (userId: string) =>
    runInScope({ address: '192.0.2.1', userId, known: true, gone: undefined }, waiters.makeRoom)
  return { waiters, ended, wait, makeRoomFor, pass, timers }
}

test('beyond a user’s places a wait is short, and other users wait as long as they prefer', async () => {
  const { waiters, ended, wait, pass } = setUp(2)
  for (const name of ['a1', 'a2', 'a3', 'a4']) wait(name, 'a')
  wait('b1', 'b')
  await pass(2_000)
  expect(ended).toEqual(['a3', 'a4'])
  expect(waiters.waiting()).toBe(3)
})

test('a full room makes room at the cost of the user who has the most, and never for that one', async () => {
  const { waiters, ended, wait, makeRoomFor, pass } = setUp(10)
  for (const name of ['a1', 'a2', 'a3']) wait(name, 'a')
  wait('b1', 'b')
  expect(makeRoomFor('a')).toBe(false)
  expect(makeRoomFor('c')).toBe(true)
  await pass(0)
  expect(ended).toEqual(['a1'])
  wait('c1', 'c')
  expect(makeRoomFor('c')).toBe(false)
  expect(waiters.waiting()).toBe(4)
})

test('a client that hangs up leaves, with its timer', async () => {
  const { waiters, ended, wait, pass, timers } = setUp(10)
  const client = new AbortController()
  wait('a1', 'a', client.signal)
  client.abort()
  wait('a2', 'a', client.signal)
  await pass(0)
  expect(ended).toEqual(['a1', 'a2'])
  expect(waiters.waiting()).toBe(0)
  expect(timers.size).toBe(0)
})

test('while nothing is heard the books are asked with growing pauses, and once more when the wait is over', async () => {
  const { clock, pass, timers } = createClock()
  const waiters = createOutcomeWaiters({ decodeRecord: async () => undefined as never }, clock)
  const askedAt: number[] = []
  const answer = askUntilAnswered(
    [waiters.wait('a', 10_000)],
    async () => {
      askedAt.push(clock.now())
      return undefined
    },
    clock,
  )
  for (let at = 0; at < 10_000; at += 250) await pass(250)
  expect(await answer).toBeUndefined()
  expect(askedAt).toEqual([250, 750, 1_750, 3_750, 7_750, 10_000])
  expect(timers.size).toBe(0)
})

test('what is heard is asked for at once', async () => {
  const { clock, pass } = createClock()
  const event = { type: 'pennywire.ledger.TransferCompleted' } as Outcome
  const waiter = { outcome: Promise.resolve(event), leave: () => {} }
  const answers = [undefined, 'booked']
  const answer = askUntilAnswered([waiter], async () => answers.shift(), clock)
  await pass(0)
  await pass(250)
  expect(await answer).toBe('booked')
})
