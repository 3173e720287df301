import { describe, expect, test } from 'vitest'
import { envelope, headerOf, type IncomingRecord } from './record.ts'

const record: IncomingRecord = {
  topic: 'ledger.commands',
  partition: 7,
  offset: 9_007_199_254_740_993n,
  timestamp: 0,
  key: Buffer.from('wället'),
  value: Buffer.from([0, 255]),
  headers: [
    ['ce_id', Buffer.from('one')],
    ['other', Buffer.from('é')],
    ['ce_id', Buffer.from('two')],
  ],
}

describe('headers', () => {
  test('a name that stands twice counts as its last', () => expect(headerOf(record, 'ce_id')).toBe('two'))
  test('text is UTF-8', () => expect(headerOf(record, 'other')).toBe('é'))
  test('one that is missing is undefined', () => expect(headerOf(record, 'CE_ID')).toBeUndefined())
})

describe('the envelope is CloudEvents 1.0 in binary mode', () => {
  const event = {
    id: 'id',
    type: 'pennywire.ledger.PinSet',
    source: 'ledger',
    time: 1_700_000_000_123,
    subject: 's',
  } as const

  test('with all its attributes', () =>
    expect(envelope(event)).toEqual({
      'content-type': 'application/vnd.confluent.avro',
      ce_specversion: '1.0',
      ce_id: 'id',
      ce_type: 'pennywire.ledger.PinSet',
      ce_source: '/pennywire/ledger',
      ce_time: '2023-11-14T22:13:20.123Z',
      ce_subject: 's',
    }))

  test('and the trace where there is one', () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
    expect(envelope({ ...event, traceparent }).traceparent).toBe(traceparent)
    expect(envelope({ ...event, traceparent: undefined })).not.toHaveProperty('traceparent')
  })
})
