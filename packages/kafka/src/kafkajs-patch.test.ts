import { createRequire } from 'node:module'
import { expect, test, vi } from 'vitest'

const require = createRequire(import.meta.url)
const RequestQueue = require('kafkajs/src/network/requestQueue')

const createQueue = () =>
  new RequestQueue({
    maxInFlightRequests: 1,
    requestTimeout: 1_000,
    enforceRequestTimeout: false,
    clientId: 'test',
    broker: 'test',
    logger: { debug: () => {} },
    isConnected: () => true,
  })

/** A request that kafkajs sends as soon as it may; `expectResponse: false` makes it done once it is sent. */
const request = (sent: () => void) => ({
  entry: { apiKey: 0, apiName: 'Test', apiVersion: 0, correlationId: 1, resolve: () => {}, reject: () => {} },
  expectResponse: true,
  sendRequest: sent,
})

// tulios/kafkajs#1751: unpatched, every connection checks an empty queue once a millisecond, a tenth of a core idle.
test('a connection with nothing pending sets no timer', () => {
  const queue = createQueue()
  queue.scheduleCheckPendingRequests()
  expect(queue.throttleCheckTimeoutId).toBeNull()
})

test('one that is throttled checks again when the throttle ends, and then sends', () => {
  vi.useFakeTimers()
  try {
    const queue = createQueue()
    const sent = vi.fn()
    queue.maybeThrottle(100)
    queue.push(request(sent))
    vi.advanceTimersByTime(99)
    expect(sent).not.toHaveBeenCalled()
    vi.advanceTimersByTime(50)
    expect(sent).toHaveBeenCalledOnce()
    queue.inflight.clear()
    queue.checkPendingRequests()
    expect([queue.throttleCheckTimeoutId, vi.getTimerCount()]).toEqual([null, 0])
  } finally {
    vi.useRealTimers()
  }
})
