import { expect, test } from 'vitest'
import { createFairQueue, type NotServed, type Place } from './fair-queue.ts'

/** A queue with one turn at a time over a clock that the test sets, and the order in which turns were given. */
const setUp = (bounds: { maxWaiting?: number; maxPerPath?: number } = {}) => {
  let now = 0
  const timers = new Map<() => void, number>()
  const clock = {
    now: () => now,
    elapsed: () => now,
    after: (ms: number, action: () => void) => {
      timers.set(action, now + ms)
      return () => void timers.delete(action)
    },
  }
  const queue = createFairQueue({
    atOnce: 1,
    maxWaiting: 6,
    maxPerPath: 6,
    maxWaitMs: 10_000,
    clock,
    ...bounds,
  })
  const served: string[] = []
  const refused: string[] = []
  let finish = () => {}
  const settle = () => new Promise<void>(resolve => setImmediate(resolve))
  const come = (name: string, place: Partial<Place> & { path: string[] }) => {
    queue
      .run({ known: false, ...place }, () => {
        served.push(name)
        return new Promise<void>(resolve => {
          finish = resolve
        })
      })
      .catch((error: NotServed) => refused.push(`${name} ${error.reason}`))
    return settle()
  }
  return {
    ...{ queue, served, refused, come, settle, timers },
    /** Ends the turn that runs. */
    done: async () => {
      finish()
      await settle()
    },
    pass: async (ms: number) => {
      now += ms
      for (const [action, at] of timers) if (at <= now) action()
      await settle()
    },
  }
}

test('a network with many addresses delays another one by a single turn', async () => {
  const { come, done, served } = setUp()
  for (let each = 0; each < 5; each++) await come(`flood ${each}`, { path: ['net', `address ${each}`] })
  await come('honest', { path: ['elsewhere', 'home'] })
  await done()
  expect(served).toEqual(['flood 0', 'honest'])
})

test('of accounts at one address the one that asked least lately is next, also when it comes last', async () => {
  const { come, done, served } = setUp({ maxWaiting: 20 })
  for (let round = 0; round < 2; round++) {
    for (const flooder of ['a', 'b', 'c']) await come(flooder, { path: ['net', flooder] })
  }
  for (let turn = 0; turn < 3; turn++) await done()
  await come('honest', { path: ['net', 'honest'] })
  await done()
  expect(served.slice(0, 3)).toEqual(['a', 'b', 'c'])
  expect(served[4]).toBe('honest')
})

test('what a subject asked is forgotten with time', async () => {
  const { come, done, pass, served } = setUp()
  await come('busy', { path: ['busy'] })
  await done()
  await pass(3_600_000)
  await come('running', { path: ['x'] })
  await come('fresh', { path: ['fresh'] })
  await done()
  await done()
  await come('running again', { path: ['y'] })
  await come('fresh again', { path: ['fresh'] })
  await come('busy again', { path: ['busy'] })
  await done()
  expect(served.at(-1)).toBe('busy again')
})

test('known ones go first, and strangers are not shut out', async () => {
  const { come, done, served } = setUp()
  await come('running', { path: ['x'] })
  for (const name of ['stranger 1', 'stranger 2']) await come(name, { path: [name] })
  for (let each = 1; each <= 5; each++) await come(`known ${each}`, { path: [`known ${each}`], known: true })
  for (let turn = 0; turn < 7; turn++) await done()
  expect(served).toEqual([
    'running',
    'known 1',
    'known 2',
    'known 3',
    'stranger 1',
    'known 4',
    'known 5',
    'stranger 2',
  ])
})

test('a full queue refuses the subject with the most places, and takes the one that has few', async () => {
  const { come, refused, queue } = setUp()
  await come('running', { path: ['x'] })
  for (let each = 0; each < 4; each++) await come(`wide ${each}`, { path: ['wide', `address ${each}`] })
  for (let each = 0; each < 2; each++) await come(`other ${each}`, { path: ['other', `address ${each}`] })
  await come('honest', { path: ['elsewhere'] })
  expect(refused).toEqual(['wide 3 full'])
  await come('wide again', { path: ['wide', 'address 9'] })
  expect(refused).toEqual(['wide 3 full', 'wide again full'])
  expect(queue.waiting()).toBe(6)
})

test('one path has no more than its places', async () => {
  const { come, refused } = setUp({ maxPerPath: 2 })
  await come('running', { path: ['x'] })
  for (let each = 0; each < 4; each++) await come(`same ${each}`, { path: ['same'] })
  expect(refused).toEqual(['same 2 full', 'same 3 full'])
})

test('whose client hangs up, or who waits too long, leaves and is not worked for', async () => {
  const { come, done, pass, settle, served, refused, queue, timers } = setUp()
  const client = new AbortController()
  await come('running', { path: ['x'] })
  await come('gone', { path: ['a'], gone: client.signal })
  await come('late', { path: ['b'] })
  client.abort()
  await settle()
  expect(refused).toEqual(['gone gone'])
  await pass(10_000)
  expect(refused).toEqual(['gone gone', 'late late'])
  expect(queue.waiting()).toBe(0)
  await come('gone before', { path: ['c'], gone: client.signal })
  await done()
  expect(served).toEqual(['running'])
  expect(timers.size).toBe(0)
})

test('work that fails gives its turn away', async () => {
  const { queue } = setUp()
  const place = { path: ['x'], known: false }
  await expect(queue.run(place, () => Promise.reject(new Error('broken')))).rejects.toThrow('broken')
  expect(await queue.run(place, async () => 'served')).toBe('served')
})

test('however many come, the places taken never pass their bound', async () => {
  const { come, queue } = setUp({ maxWaiting: 10, maxPerPath: 3 })
  for (let each = 0; each < 500; each++) {
    await come(`n${each}`, { path: [`net ${each % 7}`, `address ${each % 41}`], known: each % 3 === 0 })
    expect(queue.waiting()).toBeLessThanOrEqual(20)
  }
})
