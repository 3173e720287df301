import { createRequire } from 'node:module'
import { expect, test, vi } from 'vitest'

const require = createRequire(import.meta.url)
const RequestQueue = require('kafkajs/src/network/requestQueue')
const Decoder = require('kafkajs/src/protocol/decoder')
const encodeRecord = require('kafkajs/src/protocol/recordBatch/record/v0')
const { RecordBatch } = require('kafkajs/src/protocol/recordBatch/v0')
const crc32C = require('kafkajs/src/protocol/recordBatch/crc32C')
const decodeRecordBatch = require('kafkajs/src/protocol/recordBatch/v0/decoder')

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

// tulios/kafkajs#1751: unpatched, every connection checks an empty queue once a millisecond: a tenth of a core idle.
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

const ODD_NAMES = JSON.parse('{"toString":"1","__proto__":"2"}')

// The patch shares one encoder between record and headers, and decodes headers in place: less than a third of the time.
test.each([
  ['no headers', {}, {}],
  ['text and bytes', { a: 'ä', b: Buffer.from('bytes') }, { a: ['ä'], b: ['bytes'] }],
  ['a name more than once', { a: ['1', '2', '3'], b: '4' }, { a: ['1', '2', '3'], b: ['4'] }],
  ['names that every object has', ODD_NAMES, ODD_NAMES],
  ['a long value', { a: 'x'.repeat(100_000) }, { a: ['x'.repeat(100_000)] }],
])('a record with %s comes back as it was sent', async (_what, headers, expected) => {
  const value = Buffer.alloc(70_000, 'v')
  const record = (offsetDelta: number) =>
    encodeRecord({ offsetDelta, timestampDelta: 300, key: 'key', value, headers })
  const batch = await RecordBatch({
    records: [record(0), record(1)],
    firstTimestamp: 1_000,
    lastOffsetDelta: 1,
  })
  const { records } = await decodeRecordBatch(new Decoder(batch.buffer))
  expect(records).toHaveLength(2)
  for (const [index, read] of records.entries()) {
    expect([read.offset, read.timestamp, read.key.toString()]).toEqual([String(index), '1300', 'key'])
    expect(read.value.equals(value)).toBe(true)
    const texts = Object.entries(read.headers).map(([name, values]) => [
      name,
      [values].flat().map(one => String(one)),
    ])
    expect(texts).toEqual(Object.entries(expected).map(([name, values]) => [name, [values].flat()]))
  }
})

// RFC 3720, B.4. The patch takes four bytes a step: a third of the time.
test('CRC-32C is that of the standard, for every length modulo four', () => {
  const ascending = Buffer.from(Array.from({ length: 32 }, (_, index) => index))
  expect([
    crc32C(Buffer.alloc(32)),
    crc32C(Buffer.alloc(32, 0xff)),
    crc32C(ascending),
    crc32C(ascending.toReversed()),
  ]).toEqual([0x8a9136aa, 0x62a8ab43, 0x46dd794e, 0x113fdb5c])
  const bitwise = (bytes: Buffer) => {
    let crc = ~0
    for (const byte of bytes) {
      crc ^= byte
      for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
    }
    return ~crc >>> 0
  }
  for (let length = 0; length < 70; length++) {
    const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 197 + length) & 0xff))
    expect(crc32C(bytes)).toBe(bitwise(bytes))
  }
})
