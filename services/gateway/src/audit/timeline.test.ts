import type { Records } from '@pennywire/contracts/schemas.ts'
import { expect, test } from 'vitest'
import type { PendingRequest } from '../transfers/sql/pending-requests.ts'
import type { Outcome } from './sql/timeline-reads.ts'
import { createTimeline, type TimelineDeps } from './timeline.ts'
import type { OpenRecord } from './trail.ts'

const ID = '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f11'
const REJECTED = {
  code: 'INSUFFICIENT_BALANCE',
  detail: 'too little',
} as Records['pennywire.ledger.TransferRejected']

const open = (topic: string, offset: bigint, ceId: string): OpenRecord => ({
  stored: {
    ...{ topic, epoch: 0, partition: 4, offset, timestampMs: 1_700_000_000_100n + offset },
    ...{ key: null, headers: Buffer.alloc(0), value: null, hash: Buffer.alloc(32), previous: null },
    recordedAt: new Date(1_700_000_000_500),
  },
  verified: true,
  headers: new Map([
    ['ce_id', ceId],
    ['ce_subject', ID],
    ['ce_time', '2023-11-14T22:13:20.000Z'],
  ]),
  record: null,
  entry: {
    ...{
      action: 'TransferRequested',
      actorId: 'user',
      actorRole: 'user',
      actorKey: null,
      requestId: 'request',
    },
    ...{ traceId: 'trace', addressHash: null, refusal: null, subjects: [] },
  },
})
const outcome = (isPublished: boolean): Outcome => ({
  ...{ commandId: ID, partition: 4, seq: 9n, eventId: '4-9', type: 'pennywire.ledger.TransferRejected' },
  ...{ decidedAt: new Date(1_700_000_000_200), bytes: Buffer.alloc(0), isPublished },
})

const timeline = (over: Partial<TimelineDeps>) =>
  createTimeline({
    codec: { decode: async () => ({ type: 'pennywire.ledger.TransferRejected', value: REJECTED }) },
    readTransfers: async () => [],
    readPending: async () => undefined,
    readPayment: async () => undefined,
    readFollowingCommands: async () => [],
    readOutcomesOf: async () => [],
    readEntriesOf: async () => [],
    readRecordsOf: async () => [],
    readNotifierPosition: async () => null,
    readNoticesOf: async () => [],
    readDeliveriesOf: async () => [],
    readTo: () => undefined,
    originOf: url => url,
    ...over,
  })(ID)
const stagesOf = async (over: Partial<TimelineDeps>) =>
  (await timeline(over))?.stages.map(({ stage, state }) => `${stage} ${state}`)

const waiting = {
  requestedAt: new Date(1_700_000_000_000),
  acknowledged: false,
  type: 'transfer',
} as PendingRequest
const command = open('ledger.commands', 3n, ID)
const event = open('ledger.events', 7n, '4-9')

test('nobody knows the id: there is none', async () => {
  expect(await timeline({})).toBeUndefined()
})

test('what does not get further is named, at each place where a request may stop', async () => {
  // Kafka is away: the gateway alone knows it.
  expect(await stagesOf({ readPending: async () => waiting })).toEqual([
    'request done',
    'command pending',
    'decision pending',
  ])
  // The ledger is away.
  const sent = { readPending: async () => waiting, readRecordsOf: async () => [command] }
  expect(await stagesOf(sent)).toEqual(['request done', 'command done', 'decision pending'])
  // Kafka is away when the ledger has decided.
  const decided = { readRecordsOf: async () => [command], readOutcomesOf: async () => [outcome(false)] }
  expect(await stagesOf(decided)).toEqual([
    ...['request done', 'command done', 'decision done', 'event pending', 'audit pending'],
  ])
  // The audit service is away.
  expect(await stagesOf({ readOutcomesOf: async () => [outcome(true)] })).toEqual([
    ...['request done', 'command unknown', 'decision done', 'event done', 'audit pending'],
  ])
  // The notifier is away; this gateway has just started.
  const told = { ...decided, readRecordsOf: async () => [command, event] }
  const beginning = ['request done', 'command done', 'decision done', 'event done', 'audit done']
  expect(await stagesOf(told)).toEqual([...beginning, 'gateway unknown', 'notifier pending'])
  expect((await timeline(told))?.pending).toEqual(['notifier'])
  // Its position is the next record: at this one, it has not handled it.
  const positions = { ...told, readTo: () => 6n, readNotifierPosition: async () => 7n }
  expect(await stagesOf(positions)).toEqual([...beginning, 'gateway pending', 'notifier pending'])
  const through = { ...told, readTo: () => 7n, readNotifierPosition: async () => 8n }
  expect(await stagesOf(through)).toEqual([...beginning, 'gateway done', 'notifier done'])
})

test('a refusal, a command that was sent again and an event that was published again are told as such', async () => {
  const stages = (await timeline({
    readOutcomesOf: async () => [outcome(true)],
    readRecordsOf: async () => [
      ...[command, open('ledger.commands', 5n, ID), event, open('ledger.events', 8n, '4-9')],
    ],
  }))!.stages
  expect(stages.map(({ stage, detail, record }) => [stage, record?.offset, detail])).toEqual([
    ['request', undefined, null],
    ['command', 3, null],
    ['command', 5, 'sent again'],
    ['decision', undefined, 'INSUFFICIENT_BALANCE: too little'],
    ['event', 7, null],
    ['event', 8, 'published again'],
    ['audit', 7, null],
    ['gateway', 7, 'This gateway has read none since its start.'],
    ['notifier', 7, null],
  ])
})

test('a record whose hash is wrong says so', async () => {
  const stages = (await timeline({
    readOutcomesOf: async () => [outcome(true)],
    readRecordsOf: async () => [command, { ...event, verified: false }],
  }))!.stages
  expect(stages.find(({ stage }) => stage === 'audit')?.detail).toBe('Its hash is wrong.')
})
