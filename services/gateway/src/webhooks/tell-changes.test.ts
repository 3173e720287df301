import { expect, test } from 'vitest'
import { eventOfChange, originOf } from './tell-changes.ts'

const SECRET = 'T0K3N'

test.each([
  [`https://hooks.example.com/${SECRET}`, 'https://hooks.example.com'],
  [`https://hooks.example.com:8443?key=${SECRET}`, 'https://hooks.example.com:8443'],
  [`HTTPS://Hooks.Example.COM:443/${SECRET}#${SECRET}`, 'https://hooks.example.com'],
  [`https:\\\\hooks.example.com\\${SECRET}`, 'https://hooks.example.com'],
  [`https://${SECRET}:${SECRET}@hooks.example.com/`, 'https://hooks.example.com'],
  [`no url ${SECRET}`, ''],
])('of %s an event holds %s alone', (url, origin) => {
  expect(originOf(url)).toBe(origin)
  const told: unknown[] = []
  const announce = { identityEvent: (...all: unknown[]) => told.push(all) }
  for (const kind of ['added', 'changed', 'removed'] as const)
    eventOfChange(announce as never, {
      ...{ id: 'the change', kind, endpointId: 'the endpoint', ownerId: null, url, eventTypes: [] },
      ...{ state: 'active', changed: ['url'], byUserId: null, reason: null, staffReason: null },
      changedAt: new Date(5),
    })
  expect(told).toHaveLength(3)
  expect(JSON.stringify(told)).not.toContain(SECRET)
  // Under the name that the change has: one that is moved twice is one event.
  for (const one of told as unknown[][]) expect(one[3]).toEqual({ eventId: 'the change', occurredAt: 5 })
})
