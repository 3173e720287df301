import { expect, test } from 'vitest'
import { createSlowHash } from './slow-hash.ts'

const cheap = (atOnce: number, maxWaiting: number) =>
  createSlowHash({ of: 'pin', cost: 4, atOnce, maxWaiting })

test('what was hashed matches, and nothing else does', async () => {
  const slowHash = cheap(2, 10)
  const hash = await slowHash.hash('one')
  expect(hash).toMatch(/^\$2b\$04\$/)
  expect(await Promise.all(['one', 'two'].map(text => slowHash.matches(text, hash)))).toEqual([true, false])
})

test('beyond the queue requests are refused at once; then it takes as many again', async () => {
  const slowHash = cheap(2, 3)
  for (let round = 0; round < 3; round++) {
    const results = await Promise.allSettled(Array.from({ length: 9 }, () => slowHash.hash('text')))
    const outcomes = results.map(result =>
      result.status === 'fulfilled' ? 'hashed' : (result.reason as { code: string }).code,
    )
    expect(outcomes).toEqual([...Array(5).fill('hashed'), ...Array(4).fill('SERVICE_UNAVAILABLE')])
  }
})

test('one that fails gives its turn away', async () => {
  const slowHash = cheap(1, 5)
  const bad = slowHash.hash(undefined as unknown as string).catch(() => 'failed')
  const good = slowHash.hash('text')
  expect(await bad).toBe('failed')
  expect(await good).toMatch(/^\$2b\$/)
})
