import { afterEach, expect, test, vi } from 'vitest'
import type { TestWork } from './test-worker.ts'
import { createWorkerPool, type WorkerPool, type WorkerPoolOptions } from './worker-pool.ts'

// A thread starts within a second, on a busy machine within several.
vi.setConfig({ testTimeout: 60_000 })

const pools: WorkerPool<TestWork, number>[] = []
const poolOf = (over: Partial<WorkerPoolOptions> = {}) => {
  const pool = createWorkerPool<TestWork, number>({
    name: 'numbers',
    script: new URL('./test-worker.ts', import.meta.url),
    threads: 1,
    maxWaiting: 3,
    maxPerSubject: 10,
    timeoutMs: 20_000,
    heapMb: 64,
    ...over,
  })
  pools.push(pool)
  return pool
}
afterEach(async () => {
  await Promise.all(pools.splice(0).map(pool => pool.stop()))
})

test('work is done in a thread, one call after the other; an error of the work is an error of its call', async () => {
  const pool = poolOf()
  const answers = [1, 2, 3].map(value => pool.run({ kind: 'double', value }, 'a'))
  expect(await Promise.all(answers)).toEqual([2, 4, 6])
  await expect(pool.run({ kind: 'fail' }, 'a')).rejects.toThrow('this is no number')
  expect(await pool.run({ kind: 'double', value: 4 }, 'a')).toBe(8)
})

test('the event loop runs on while a thread spins; a call that takes too long is refused, the next is done', async () => {
  const pool = poolOf({ timeoutMs: 2_000 })
  const spinning = expect(pool.run({ kind: 'spin' }, 'a')).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
  })
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  await spinning
  clearInterval(timer)
  expect(turns).toBeGreaterThan(50)
  expect(await pool.run({ kind: 'double', value: 4 }, 'a')).toBe(8)
})

test('a worker that eats memory or ends is replaced', async () => {
  const pool = poolOf()
  await expect(pool.run({ kind: 'eat' }, 'a')).rejects.toMatchObject({ code: 'ERR_WORKER_OUT_OF_MEMORY' })
  await expect(pool.run({ kind: 'exit' }, 'a')).rejects.toThrow('a worker of numbers ended')
  expect(await pool.run({ kind: 'double', value: 4 }, 'a')).toBe(8)
})

test('waiting places, and places of one subject, are bounded', async () => {
  const pool = poolOf({ maxPerSubject: 2 })
  const taken = ['a', 'a', 'b', 'b'].map(subject => pool.run({ kind: 'double', value: 1 }, subject))
  await expect(pool.run({ kind: 'double', value: 1 }, 'a')).rejects.toMatchObject({
    code: 'RATE_LIMIT_EXCEEDED',
  })
  await expect(pool.run({ kind: 'double', value: 1 }, 'c')).rejects.toMatchObject({
    code: 'SERVICE_UNAVAILABLE',
  })
  expect(await Promise.all(taken)).toEqual([2, 2, 2, 2])
  expect(await pool.run({ kind: 'double', value: 1 }, 'a')).toBe(2)
})

test('a caller that hangs up gives its waiting place back; a stop refuses who waits', async () => {
  const pool = poolOf({ maxWaiting: 1 })
  const first = pool.run({ kind: 'sleep', ms: 60_000 }, 'a')
  const hangUp = new AbortController()
  const second = pool.run({ kind: 'double', value: 1 }, 'b', hangUp.signal)
  hangUp.abort()
  await expect(second).rejects.toThrow('has hung up')
  const third = pool.run({ kind: 'double', value: 1 }, 'c')
  const outcomes = Promise.allSettled([first, third])
  await pool.stop()
  expect(await outcomes).toMatchObject([{ status: 'rejected' }, { status: 'rejected' }])
})
