import { describe, expect, test } from 'vitest'
import { bytesOf, chainedRecordOf, genesisOf, hashAfter, headersOf } from './hash-chain.ts'
import type { IncomingRecord } from './record.ts'

const place = { topic: 'ledger.events', epoch: 0, partition: 3 } as const
const record: IncomingRecord = {
  topic: 'ledger.events',
  partition: 3,
  offset: 7n,
  timestamp: 1_700_000_000_000,
  key: Buffer.from('key'),
  value: Buffer.from('value'),
  headers: [
    ['a', Buffer.from('1')],
    ['b', Buffer.from('2')],
  ],
}
const hashOf = (changed: Partial<IncomingRecord>) =>
  hashAfter(genesisOf(place), bytesOf(chainedRecordOf({ ...record, ...changed }))).toString('hex')

test('hashes never change: stored chains are proven by them for ever', () => {
  expect(genesisOf(place).toString('hex')).toBe(
    '178ad48dadc5c34cdd6c797433701af9759bb5e4b5d3218ca54558bca0c8ca33',
  )
  expect(hashOf({})).toBe('173ef66882b3728e951616bd56703fc0ac6261c989ba602b85cf0383eac90d7b')
})

describe('A1: any single edit changes the hash', () => {
  test.each<[string, Partial<IncomingRecord>]>([
    ['offset', { offset: 8n }],
    ['time', { timestamp: 1_700_000_000_001 }],
    ['key', { key: Buffer.from('kez') }],
    ['key to null', { key: null }],
    ['key to empty', { key: Buffer.alloc(0) }],
    ['value', { value: Buffer.from('valuf') }],
    ['value to null', { value: null }],
    ['value to empty', { value: Buffer.alloc(0) }],
    ['a byte moved from key to value', { key: Buffer.from('ke'), value: Buffer.from('yvalue') }],
    ['key and value swapped', { key: record.value, value: record.key }],
    ['a header value', { headers: [record.headers[0]!, ['b', Buffer.from('3')]] }],
    ['a header name', { headers: [record.headers[0]!, ['c', Buffer.from('2')]] }],
    ['a header removed', { headers: [record.headers[0]!] }],
    ['a header added', { headers: [...record.headers, ['c', Buffer.alloc(0)]] }],
    ['headers reordered', { headers: record.headers.toReversed() }],
    [
      'a byte moved from a header name to its value',
      { headers: [['', Buffer.from('a1')], record.headers[1]!] },
    ],
  ])('%s', (_edit, changed) => expect(hashOf(changed)).not.toBe(hashOf({})))

  test('null and empty differ from each other', () => {
    expect(hashOf({ key: null })).not.toBe(hashOf({ key: Buffer.alloc(0) }))
    expect(hashOf({ value: null })).not.toBe(hashOf({ value: Buffer.alloc(0) }))
  })

  test('the record before it', () => {
    const bytes = bytesOf(chainedRecordOf(record))
    const first = hashAfter(genesisOf(place), bytes)
    expect(hashAfter(first, bytes)).not.toEqual(first)
  })

  test.each([
    { ...place, topic: 'ledger.commands' },
    { ...place, epoch: 1 },
    { ...place, partition: 4 },
  ])('its place: %o', other => expect(genesisOf(other)).not.toEqual(genesisOf(place)))
})

test('headers are read back as they came, repeated and empty ones too; of damaged bytes none', () => {
  const headers: Array<[string, Buffer]> = [
    ['a', Buffer.from('1')],
    ['', Buffer.alloc(0)],
    ['a', Buffer.from([0, 255])],
  ]
  const chained = chainedRecordOf({ ...record, headers })
  expect(headersOf(chained)).toEqual(headers)
  expect(headersOf({ headers: Buffer.alloc(0) })).toEqual([])
  for (let end = 1; end < chained.headers.length; end++) {
    const cut = headersOf({ headers: chained.headers.subarray(0, end) })
    expect(headers.slice(0, cut.length)).toEqual(cut)
  }
  expect(headersOf({ headers: Buffer.from([255, 255, 255, 254, 1]) })).toEqual([])
  const withoutValue = chainedRecordOf({ ...record, headers: [['a', null as unknown as Buffer]] })
  expect(headersOf(withoutValue)).toEqual([['a', Buffer.alloc(0)]])
})
