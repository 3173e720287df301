import type { OutgoingRecord } from '@pennywire/kafka/record.ts'
import { expect, test } from 'vitest'
import { ProblemError } from '../problems/problem.ts'
import { eventOfChange, originOf } from './tell-changes.ts'

const SECRET = 'T0K3N'
const noKeys = {
  encryptFor: async () => {
    throw new Error('the operator has no key')
  },
}

test.each([
  [`https://hooks.example.com/${SECRET}`, 'https://hooks.example.com'],
  [`https://hooks.example.com:8443?key=${SECRET}`, 'https://hooks.example.com:8443'],
  [`HTTPS://Hooks.Example.COM:443/${SECRET}#${SECRET}`, 'https://hooks.example.com'],
  [`https:\\\\hooks.example.com\\${SECRET}`, 'https://hooks.example.com'],
  [`https://${SECRET}:${SECRET}@hooks.example.com/`, 'https://hooks.example.com'],
  [`no url ${SECRET}`, ''],
])('of %s an event holds %s alone', async (url, origin) => {
  expect(originOf(url)).toBe(origin)
  const told: unknown[] = []
  const records: OutgoingRecord[] = []
  const announce = {
    identityEvent: (...all: unknown[]) => {
      told.push(all)
      return { headers: { ce_id: 'id' } }
    },
  }
  for (const kind of ['added', 'changed', 'removed'] as const)
    records.push(
      await eventOfChange(announce as never, noKeys, {
        ...{ id: 'the change', kind, endpointId: 'the endpoint', ownerId: null, url, eventTypes: [] },
        ...{ state: 'active', changed: ['url'], byUserId: null, reason: null, staffReason: null },
        cause: { request_id: 'request-1', actor_role: 'admin' },
        changedAt: new Date(5),
      }),
    )
  for (const { headers } of records)
    expect(headers).toEqual({ ce_id: 'id', request_id: 'request-1', actor_role: 'admin' })
  expect(told).toHaveLength(3)
  expect(JSON.stringify(told)).not.toContain(SECRET)
  // Under the name that the change has: one that is moved twice is one event.
  for (const one of told as unknown[][]) expect(one[3]).toEqual({ eventId: 'the change', occurredAt: 5 })
})

test('the origin of a user’s webhook is ciphertext; of an erased user’s there is none', async () => {
  const facts: Array<{ origin: string; sealedOrigin: Buffer | null }> = []
  const announce = { identityEvent: (_name: string, fact: never) => facts.push(fact) }
  const change = {
    ...{ id: 'the change', kind: 'added' as const, endpointId: 'the endpoint', ownerId: 'the owner' },
    ...{ url: 'https://alice.example/x', eventTypes: [], state: 'active', changed: [], byUserId: null },
    ...{ reason: null, staffReason: null, cause: {}, changedAt: new Date(5) },
  }
  const encryptFor = async (userId: string, text: string, purpose: string) =>
    Buffer.from([userId, text, purpose].join('|'))
  await eventOfChange(announce as never, { encryptFor }, change)
  const erased = async () => {
    throw new ProblemError('PERSON_ERASED', 'gone')
  }
  await eventOfChange(announce as never, { encryptFor: erased }, change)
  expect(facts).toMatchObject([
    { origin: '', sealedOrigin: Buffer.from('the owner|https://alice.example|webhook-origin') },
    { origin: '', sealedOrigin: null },
  ])
})
