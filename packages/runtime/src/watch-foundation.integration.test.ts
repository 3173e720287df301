import { expect, inject, test, vi } from 'vitest'
import { systemClock } from './clock.ts'
import { openDatabase } from './database.ts'
import { createLogger } from './logger.ts'
import { metricsText } from './metrics.ts'
import {
  type FoundationFault,
  findPostgresFaults,
  findRedisFaults,
  textOf,
  watchFoundation,
} from './watch-foundation.ts'

const logger = createLogger('test', { level: 'silent', instance: 'test' })

test.each([
  ['synchronous_commit', 'off', 'not off'],
  ['default_transaction_isolation', 'serializable', 'read committed'],
])('M2: a Postgres whose %s is %s is named', async (setting, value, wanted) => {
  const { superuserUrl } = inject('stack')
  const sql = openDatabase(superuserUrl, { applicationName: 'test', maxConnections: 1 })
  try {
    expect(await findPostgresFaults(sql)).toEqual([])
    await sql`select set_config(${setting}, ${value}, false)`
    expect((await findPostgresFaults(sql)).map(textOf)).toEqual([
      `Postgres: ${setting} is ${value}, must be ${wanted}`,
    ])
  } finally {
    await sql.end()
  }
})

test('a Redis that evicts is named', () => {
  expect(findRedisFaults('used_memory:1\r\nmaxmemory_policy:noeviction\r\n')).toEqual([])
  expect(findRedisFaults('maxmemory_policy:allkeys-lru\r\n').map(textOf)).toEqual([
    'Redis: maxmemory-policy is allkeys-lru, must be noeviction',
  ])
})

test('what can lose money turns readiness red, everything wrong sets the gauge, and both heal', async () => {
  const fault = { of: 'ledger.events', setting: 'retention.ms', found: '1', wanted: '-1' }
  let topics: FoundationFault[] = [{ ...fault, losesMoney: false }]
  let away = false
  const foundation = watchFoundation({
    checks: {
      topics: async () => {
        if (away) throw new Error('away')
        return topics
      },
    },
    logger,
    clock: systemClock,
    everyMs: 5,
  })
  const shown = async () => /foundation_ok\{what="topics"\} (\d)/.exec(await metricsText())?.[1]
  await vi.waitFor(async () => expect(await shown()).toBe('0'))
  expect(() => foundation.check('topics')).not.toThrow()
  topics = [{ ...fault, losesMoney: true }]
  await vi.waitFor(() =>
    expect(() => foundation.check('topics')).toThrow('ledger.events: retention.ms is 1, must be -1'),
  )
  away = true
  topics = []
  expect(() => foundation.check('topics')).toThrow()
  away = false
  await vi.waitFor(() => expect(() => foundation.check('topics')).not.toThrow())
  expect(await shown()).toBe('1')
  await foundation.stop()
})
