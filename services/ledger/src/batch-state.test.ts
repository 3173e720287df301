import type { IncomingRecord } from '@pennywire/kafka/record.ts'
import { expect, test } from 'vitest'
import { appendEvent, openBatchState } from './batch-state.ts'

const headersOf = (headers: Record<string, string>) => {
  const partition = { partition: 3, epoch: 0, nextOffset: 0n, lastDigest: null, nextSeq: 7n }
  const state = openBatchState(
    {
      now: new Date(0),
      partitions: new Map([[3, partition]]),
      ...{ wallets: new Map(), usersWallets: [], inheritable: [], holds: [], originals: [] },
      ...{ wantedOriginals: [], outcomes: [] },
    } as unknown as Parameters<typeof openBatchState>[0],
    { codec: { encode: () => Buffer.from('event') } } as unknown as Parameters<typeof openBatchState>[1],
  )
  const record = {
    ...{ partition: 3, offset: 41n, key: Buffer.from('wallet') },
    headers: Object.entries(headers).map(([name, text]) => [name, Buffer.from(text)]),
  } as IncomingRecord
  const event = { type: 'pennywire.ledger.WalletClosed', value: {} as never, subject: 'command' } as const
  return appendEvent(state, record, event).headers
}

const BEFORE = {
  ...{ 'content-type': 'application/vnd.confluent.avro', ce_specversion: '1.0', ce_id: '3-7' },
  ...{ ce_type: 'pennywire.ledger.WalletClosed', ce_source: '/pennywire/ledger' },
  ...{ ce_time: '1970-01-01T00:00:00.000Z', ce_subject: 'command', seq: '7', command_offset: '41' },
}

test('an event of a command that names no request has the headers that it always had', () => {
  expect(headersOf({})).toEqual(BEFORE)
})

test('an event repeats the request and a role of staff, and leaves the address and the key in the command', () => {
  const cause = { request_id: 'request-1', actor: 'user', actor_key: 'key', address_hash: 'a1.hash' }
  expect(headersOf({ ...cause, actor_role: 'user' })).toEqual({ ...BEFORE, request_id: 'request-1' })
  expect(headersOf({ ...cause, actor_role: 'moderator' })).toEqual({
    ...BEFORE,
    ...{ request_id: 'request-1', actor_role: 'moderator' },
  })
})

test('headers that no gateway writes are left out', () => {
  for (const text of ['', 'a b', 'x'.repeat(200), 'a\0', '{"a":1}', '<b>'])
    expect(headersOf({ request_id: text, actor_role: text, traceparent: text })).toEqual(BEFORE)
})
