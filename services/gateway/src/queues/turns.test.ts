import { systemClock } from '@pennywire/runtime/clock.ts'
import { expect, test } from 'vitest'
import { runInScope } from './request-scope.ts'
import { createTurns } from './turns.ts'

/** Reads that run until `endOne` ends them, and the running ones. */
const setUp = () => {
  const inTurn = createTurns('reads', 'ledger', systemClock)
  const running: Array<() => void> = []
  const begun: string[] = []
  const read = (userId: string) =>
    inTurn(userId, () => {
      begun.push(userId)
      return new Promise<void>(resolve => running.push(resolve))
    })
  const settle = () => new Promise<void>(resolve => setImmediate(resolve))
  return {
    ...{ read, begun, running, settle },
    endOne: async () => {
      running.shift()?.()
      await settle()
    },
  }
}

test('a few reads run at once, and a user with hundreds of them delays another by one', async () => {
  const { read, begun, running, settle, endOne } = setUp()
  for (let each = 0; each < 300; each++) void read('flooding')
  void read('honest')
  await settle()
  expect(begun).toEqual(Array(running.length).fill('flooding'))
  expect(running.length).toBeLessThan(10)
  await endOne()
  expect(begun.at(-1)).toBe('honest')
})

test("a user's reads beyond their places are refused as too many, others' go on", async () => {
  const { read, begun, settle, endOne } = setUp()
  const refused: unknown[] = []
  for (let each = 0; each < 600; each++) read('flooding').catch(error => refused.push(error))
  await settle()
  expect(refused.length).toBeGreaterThan(100)
  for (const error of refused) expect(error).toMatchObject({ code: 'RATE_LIMIT_EXCEEDED' })
  void read('honest')
  await endOne()
  await settle()
  expect(begun.at(-1)).toBe('honest')
})

test('a read that nobody waits for any more is not begun, and one that fails gives its turn back', async () => {
  const { read, begun, running, settle, endOne } = setUp()
  for (let each = 0; each < 10; each++) void read('first')
  await settle()
  expect(running.length).toBeLessThan(10)
  const gone = new AbortController()
  const left = runInScope({ address: '127.0.0.1', known: true, gone: gone.signal }, () => read('left'))
  gone.abort()
  await expect(left).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' })
  await endOne()
  expect(begun).not.toContain('left')

  const inTurn = createTurns('reads', 'ledger', systemClock)
  for (let each = 0; each < 20; each++) {
    await expect(inTurn('any', () => Promise.reject(new Error('the read failed')))).rejects.toThrow(
      'the read failed',
    )
  }
})
