import { referenceOf } from '@pennywire/contracts/ids.ts'
import type { Receipt } from '@pennywire/documents/describe-receipt.ts'
import { createReceiptCodes } from '@pennywire/documents/receipt-code.ts'
import { systemClock } from '@pennywire/runtime/clock.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterEach, expect, test, vi } from 'vitest'
import type { TransferFacts } from '../ledger/sql/ledger-reads.ts'
import { createCheckReceipt } from './check-receipt.ts'
import { type MakeReceiptsDeps, startMakingReceipts } from './make-receipts.ts'
import type { WaitingReceipt } from './sql/receipts.ts'

const transferId = '5b0e7f6c-2a43-8d9e-9c63-6f5a1c0a7f11'
const party = (userId: string | null) => ({
  ...{ walletId: `wallet of ${userId}`, userId, balanceAfter: 0n },
  code: userId === null ? null : `PW-${userId}`,
})
const facts = (over: Partial<TransferFacts> = {}): TransferFacts => ({
  ...{ id: transferId, type: 'transfer', status: 'completed', userId: 'alice', from: party('alice') },
  ...{ to: party('bob'), amount: 1_250n, currency: 'USD', fingerprint: Buffer.alloc(0), note: null },
  ...{ metadata: null, requestedAt: new Date(0), decidedAt: new Date(1), rejectionCode: null },
  ...{ rejectionDetail: null, rejectionLimit: null, rejectionUsed: null, originalId: null, linkedTo: null },
  ...{ reversed: 0n, suspended: 0n, hold: null },
  ...over,
})
const waiting = (over: Partial<WaitingReceipt> = {}): WaitingReceipt => ({
  ...{ transferId, userId: 'alice', language: 'en', attempts: 1, claim: 'claim' },
  ...over,
})
const codes = createReceiptCodes([{ kid: 'key', key: Buffer.alloc(32, 1) }])
const logger = createLogger('test', { level: 'silent', instance: 'test' })

const stops: Array<() => Promise<void>> = []
afterEach(() => Promise.all(stops.splice(0).map(stop => stop())))

/** Makes what waits, once. */
const make = (queue: WaitingReceipt[], transfers: TransferFacts[], over: Partial<MakeReceiptsDeps> = {}) => {
  const rendered: Receipt[] = []
  const seen = { store: vi.fn(async () => {}), postpone: vi.fn(async () => {}), drop: vi.fn(async () => {}) }
  const making = startMakingReceipts({
    claim: async limit => queue.splice(0, limit),
    readTransfers: async ids => transfers.filter(({ id }) => ids.includes(id)),
    names: {
      namesOf: async ids => new Map(ids.map(id => [id, { fullName: `${id} Full`, masked: 'unused' }])),
    },
    codes,
    publicUrl: 'https://pay.example',
    render: async receipt => {
      rendered.push(receipt)
      return Buffer.from('%PDF')
    },
    personKeys: { encryptFor: async (userId, text, purpose) => Buffer.from(`${userId} ${purpose} ${text}`) },
    clock: systemClock,
    logger,
    ...seen,
    ...over,
  })
  stops.push(making.stop)
  return { rendered, ...seen }
}

test('a receipt is described for its user, rendered and stored as their cipher', async () => {
  const [one, two] = [waiting(), waiting({ userId: 'bob', language: 'de' })]
  const { rendered, store, postpone } = make([one, two], [facts()])
  await vi.waitFor(() => expect(store).toHaveBeenCalledTimes(2))
  expect(rendered.map(({ side, language, from }) => [side, language, from?.name])).toEqual([
    ['sender', 'en', 'alice Full'],
    ['recipient', 'de', 'alice F.'],
  ])
  const text = Buffer.from('%PDF').toString('base64')
  expect(store).toHaveBeenCalledWith(one, Buffer.from(`alice receipt ${text}`))
  expect(store).toHaveBeenCalledWith(two, Buffer.from(`bob receipt ${text}`))
  expect(postpone).not.toHaveBeenCalled()
})

test('one that fails waits longer each time and leaves the others alone; after five attempts it is dropped', async () => {
  const failing = [1, 2, 4, 5].map(attempts => waiting({ attempts, claim: `${attempts}` }))
  const good = waiting({ userId: 'bob' })
  const { store, postpone, drop } = make([...failing, good], [facts()], {
    render: async (_, userId) => {
      if (userId === 'alice') throw new Error('out of memory')
      return Buffer.from('%PDF')
    },
  })
  await vi.waitFor(() => expect(store).toHaveBeenCalledTimes(1))
  await vi.waitFor(() => expect(drop).toHaveBeenCalledTimes(1))
  expect(postpone.mock.calls).toEqual([
    [failing[0], 1_000],
    [failing[1], 2_000],
    [failing[2], 8_000],
  ])
  expect(drop).toHaveBeenCalledWith(failing[3])
})

test.each<[string, Partial<TransferFacts>]>([
  ['that was rejected', { status: 'rejected' }],
  ['of others', { from: party('carol') }],
  ['that moved no money of a user', { from: party(null), to: party(null) }],
])('no receipt is made of a transfer %s', async (_, over) => {
  const { rendered, postpone, store } = make([waiting()], [facts(over)])
  await vi.waitFor(() => expect(postpone).toHaveBeenCalledTimes(1))
  expect([rendered, store.mock.calls]).toEqual([[], []])
})

test('the check tells what was given back since, and not what waits in suspense', async () => {
  const check = createCheckReceipt({
    codes,
    readTransfersBetween: async () => [facts({ reversed: 500n, suspended: 200n })],
  })
  const code = codes.codeOf({
    ...{ transferId, amount: 1_250n, currency: 'USD', completedAt: new Date(1), side: 'recipient' },
  })
  expect(await check(referenceOf(transferId), code)).toMatchObject({
    side: 'recipient',
    reversedAmount: '3.00',
    fromWalletCode: 'PW-alice',
  })
})
