import { expect, inject, test } from 'vitest'
import { createRegistryCheck } from './check-registry.ts'

const { registryUrl } = inject('stack')
const SUBJECT = 'pennywire.ledger.LimitChanged'

const setLevel = async (compatibility: string) => {
  const answer = await fetch(`${registryUrl}/config/${SUBJECT}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ compatibility }),
  })
  expect(answer.status).toBe(200)
}

test('S1: the set-up leaves every subject FULL_TRANSITIVE; one that takes anything is named', async () => {
  const find = createRegistryCheck(registryUrl, {})
  expect(await find()).toEqual([])
  try {
    await setLevel('NONE')
    expect(await find()).toEqual([
      { of: SUBJECT, setting: 'compatibility', found: 'NONE', wanted: 'FULL_TRANSITIVE', losesMoney: false },
    ])
  } finally {
    await setLevel('FULL_TRANSITIVE')
  }
  expect(await find()).toEqual([])
})

test('a registry that is away is no fault of its settings: the check rejects', async () => {
  await expect(createRegistryCheck('http://127.0.0.1:1', {})()).rejects.toThrow()
})
