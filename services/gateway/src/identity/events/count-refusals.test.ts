import type { Clock } from '@pennywire/runtime/clock.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { expect, test } from 'vitest'
import { type Counted, createRefusalCounter, type Refusal } from './count-refusals.ts'

const start = () => {
  let now = 1_000
  const timers: Array<() => void> = []
  const clock: Clock = {
    now: () => now,
    elapsed: () => now,
    after: (_ms, action) => {
      timers.push(action)
      return () => {}
    },
  }
  const announced: Counted[][] = []
  const state = { fails: false }
  const refusals = createRefusalCounter({
    announceAll: async counted => {
      if (state.fails) throw new Error('the database is away')
      announced.push(counted)
    },
    clock,
    logger: createLogger('gateway', { level: 'silent', instance: 'test' }),
  })
  const pass = async (ms: number) => {
    now += ms
    for (const action of timers.splice(0)) action()
    for (let turn = 0; turn < 10; turn++) await Promise.resolve()
  }
  return { refusals, announced, state, pass }
}

const refusal = (over: Partial<Refusal> = {}): Refusal => ({
  ...{ userId: 'alice', role: 'user', method: 'POST', route: '/v1/transfers', code: 'PIN_REQUIRED' },
  ...{ requestId: 'first', addressHash: 'hash', ...over },
})

test('a thousand refusals of one kind are one record a minute, with their number and the first request', async () => {
  const { refusals, announced, pass } = start()
  for (let n = 0; n < 1_000; n++) refusals.count(refusal(n === 0 ? {} : { requestId: `${n}` }))
  await pass(60_000)
  expect(announced).toEqual([[{ ...refusal(), count: 1_000, firstAt: 1_000, lastAt: 1_000 }]])
  refusals.count(refusal({ requestId: 'later' }))
  await refusals.stop()
  expect(announced[1]).toEqual([
    { ...refusal({ requestId: 'later' }), count: 1, firstAt: 61_000, lastAt: 61_000 },
  ])
})

test('another account, route, method or code is another record; nothing refused is none', async () => {
  const { refusals, announced, pass } = start()
  const kinds = [
    {},
    { userId: 'bob' },
    { userId: null },
    { route: '/v1/holds' },
    { method: 'GET' },
    { code: 'X' },
  ]
  for (const over of kinds) refusals.count(refusal(over))
  await pass(60_000)
  expect(announced[0]).toHaveLength(kinds.length)
  await pass(60_000)
  expect(announced).toHaveLength(1)
})

test('one account has at most twenty records of kinds, and one of all the others', async () => {
  const { refusals, announced, pass } = start()
  for (let n = 0; n < 300; n++) refusals.count(refusal({ route: `/v1/${n}` }))
  refusals.count(refusal({ route: '/v1/0' }))
  await pass(60_000)
  expect(announced[0]).toHaveLength(21)
  expect(announced[0]![0]).toMatchObject({ route: '/v1/0', count: 2 })
  expect(announced[0]!.at(-1)).toMatchObject({
    ...{ userId: 'alice', role: 'user', method: '', route: '', code: '', count: 280 },
  })
})

test('a flood of kinds is bounded: those past the five hundredth are one record that names no account', async () => {
  const { refusals, announced, pass } = start()
  for (let n = 0; n < 10_000; n++) refusals.count(refusal({ userId: `${n}` }))
  refusals.count(refusal({ userId: '0' }))
  await pass(60_000)
  expect(announced[0]).toHaveLength(501)
  expect(announced[0]![0]).toMatchObject({ userId: '0', count: 2 })
  expect(announced[0]!.at(-1)).toMatchObject({
    ...{ userId: null, role: null, method: '', route: '', code: '', count: 9_500 },
  })
})

test('a database that is away loses no count', async () => {
  const { refusals, announced, state, pass } = start()
  state.fails = true
  refusals.count(refusal())
  await pass(60_000)
  refusals.count(refusal({ requestId: 'second' }))
  state.fails = false
  await refusals.stop()
  expect(announced).toEqual([[{ ...refusal(), count: 2, firstAt: 1_000, lastAt: 61_000 }]])
})
