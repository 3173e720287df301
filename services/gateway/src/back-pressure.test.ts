import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, test } from 'vitest'
import { createBackPressure } from './back-pressure.ts'
import { ProblemError } from './problems.ts'

const logger = createLogger('test', { level: 'silent', instance: 'test' })

/** A gateway's back-pressure over a publisher, waiters, a ledger and a clock that the test sets. */
const setUp = () => {
  let now = 0
  let tick: () => void = () => {}
  const world = {
    load: { waiting: 0, oldestMs: 0 },
    waiting: 0,
    hasRoom: false,
    decided: new Set<string>(),
    fails: false,
    /** Lets time pass, and whoever sleeps wake. */
    pass: async (ms: number) => {
      now += ms
      tick()
      await new Promise(resolve => setImmediate(resolve))
    },
  }
  const backPressure = createBackPressure({
    limits: { publishWaiting: 10, publishMs: 1_000, waitingRequests: 5, undecided: 3, undecidedMs: 30_000 },
    publisher: {
      load: () => world.load,
      publish: async () => {
        if (world.fails) throw new Error('Kafka is away')
      },
    },
    waitingRequests: () => world.waiting,
    makeRoom: () => world.hasRoom,
    findDecided: async ids => ids.filter(id => world.decided.has(id)),
    forgetAfterMs: 360_000,
    clock: {
      now: () => now,
      after: (_ms, action) => {
        tick = action
        return () => {}
      },
    },
    logger,
  })
  const send = (id: string) =>
    backPressure.publish({ topic: 'ledger.commands', key: id, value: null, headers: { ce_subject: id } })
  return { ...backPressure, world, send }
}
const REFUSED = expect.objectContaining({
  code: 'SERVICE_UNAVAILABLE',
  headers: { 'retry-after': expect.stringMatching(/^[1-9]$/) },
})
const admitted = ({ admit }: { admit: () => void }) => {
  try {
    admit()
    return true
  } catch (error) {
    expect(error).toBeInstanceOf(ProblemError)
    expect(error).toEqual(REFUSED)
    return false
  }
}

test.each([
  ['records wait for Kafka', { load: { waiting: 10, oldestMs: 0 } }, { load: { waiting: 9, oldestMs: 0 } }],
  ['Kafka stands still', { load: { waiting: 1, oldestMs: 1_000 } }, { load: { waiting: 1, oldestMs: 999 } }],
  ['clients wait', { waiting: 5 }, { waiting: 4 }],
])('too long or too many: %s', (_what, over, under) => {
  const gateway = setUp()
  expect(admitted(gateway)).toBe(true)
  Object.assign(gateway.world, over)
  expect(admitted(gateway)).toBe(false)
  Object.assign(gateway.world, under)
  expect(admitted(gateway)).toBe(true)
})

test('too many undecided: one more is admitted for each outcome that is seen', async () => {
  const gateway = setUp()
  for (const id of ['a', 'b', 'c', 'c']) await gateway.send(id)
  expect([gateway.undecided(), admitted(gateway)]).toEqual([3, false])
  gateway.decided('b')
  gateway.decided('of another gateway')
  expect([gateway.undecided(), admitted(gateway)]).toEqual([2, true])
})

test('undecided for too long: refused until it is decided', async () => {
  const gateway = setUp()
  await gateway.send('a')
  await gateway.world.pass(29_999)
  expect(admitted(gateway)).toBe(true)
  await gateway.world.pass(1)
  expect([admitted(gateway), gateway.oldestUndecidedSeconds()]).toEqual([false, 30])
  gateway.decided('a')
  expect([admitted(gateway), gateway.oldestUndecidedSeconds()]).toEqual([true, 0])
})

test('an outcome that passed unseen is found in the books', async () => {
  const gateway = setUp()
  await gateway.send('a')
  gateway.world.decided.add('a')
  await gateway.world.pass(4_000)
  expect(gateway.undecided()).toBe(1)
  await gateway.world.pass(1_000)
  expect(gateway.undecided()).toBe(0)
})

test('what Kafka did not take does not count, nor what is long past its expiry', async () => {
  const gateway = setUp()
  gateway.world.fails = true
  await expect(gateway.send('a')).rejects.toThrow('Kafka is away')
  expect(gateway.undecided()).toBe(0)
  gateway.world.fails = false
  await gateway.send('b')
  await gateway.world.pass(360_000)
  expect(gateway.undecided()).toBe(0)
})
