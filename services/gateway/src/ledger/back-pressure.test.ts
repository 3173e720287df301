import { partitionOf } from '@pennywire/kafka/partition-of.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, test } from 'vitest'
import { ProblemError } from '../problems/problem.ts'
import { createBackPressure } from './back-pressure.ts'

const logger = createLogger('test', { level: 'silent', instance: 'test' })

/** A gateway's back-pressure over a publisher, waiters, a ledger and a clock that the test sets. */
const setUp = () => {
  let now = 0
  let tick: () => void = () => {}
  const world = {
    load: { waiting: 0, oldestMs: 0 },
    /** Partitions with a record that has waited too long for Kafka. */
    stuck: new Set<number>(),
    waiting: 0,
    hasRoom: false,
    decided: new Set<string>(),
    fails: false,
    /** Advances the clock and fires the pending timer. */
    pass: async (ms: number) => {
      now += ms
      tick()
      await new Promise(resolve => setImmediate(resolve))
    },
  }
  const backPressure = createBackPressure({
    limits: { publishWaiting: 10, publishMs: 1_000, waitingRequests: 5, undecided: 4, undecidedMs: 30_000 },
    publisher: {
      load: of => (of && world.stuck.has(of.partition) ? { waiting: 1, oldestMs: 1_000 } : world.load),
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
      elapsed: () => now,
      after: (_ms, action) => {
        tick = action
        return () => {}
      },
    },
    logger,
  })
  const send = (id: string, wallet = id) =>
    backPressure.publish({ topic: 'ledger.commands', key: wallet, value: null, headers: { ce_subject: id } })
  return { ...backPressure, world, send }
}
const WALLET = 'a'
/** Wallets of other partitions than the first's and each other's. */
const OTHERS = [...'bcdefghijklmnop'].filter(
  (key, index, all) =>
    ![WALLET, ...all.slice(0, index)].some(
      other => partitionOf('ledger.commands', other) === partitionOf('ledger.commands', key),
    ),
)
const [OTHER, THIRD, FOURTH] = OTHERS as [string, string, string]
const REFUSED = expect.objectContaining({
  code: 'SERVICE_UNAVAILABLE',
  headers: { 'retry-after': expect.stringMatching(/^[1-9]$/) },
})
const admitted = ({ admit }: { admit: (walletId: string) => void }, walletId = WALLET) => {
  try {
    admit(walletId)
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
  for (const id of [WALLET, OTHER, THIRD, FOURTH, FOURTH]) await gateway.send(id)
  expect([gateway.undecided(), admitted(gateway)]).toEqual([4, false])
  gateway.decided(OTHER)
  gateway.decided('of another gateway')
  expect([gateway.undecided(), admitted(gateway)]).toEqual([3, true])
})

test('P1: a partition that is behind refuses its own wallets and nobody else', async () => {
  const gateway = setUp()
  await gateway.send('stuck', WALLET)
  await gateway.world.pass(30_000)
  expect([admitted(gateway), admitted(gateway, OTHER)]).toEqual([false, true])
  // Commands of a partition that is behind no longer count against the others.
  for (const id of ['1', '2', '3', '4']) await gateway.send(id, OTHER)
  expect([admitted(gateway, OTHER), admitted(gateway, THIRD)]).toEqual([false, true])
  gateway.decided('1')
  expect([admitted(gateway, OTHER), admitted(gateway)]).toEqual([true, false])
  gateway.decided('stuck')
  expect(admitted(gateway)).toBe(true)
})

test('P1: a partition that Kafka does not take refuses its own wallets and nobody else', () => {
  const gateway = setUp()
  gateway.world.stuck.add(partitionOf('ledger.commands', WALLET))
  expect([admitted(gateway), admitted(gateway, OTHER)]).toEqual([false, true])
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
