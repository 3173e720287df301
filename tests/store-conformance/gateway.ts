import type { Payment, Settlement } from '../../services/gateway/src/payments/sql/payments.ts'
import type {
  NewPendingRequest,
  PendingRequest,
} from '../../services/gateway/src/transfers/sql/pending-requests.ts'
import { ALICE, BOB, bytes, id, NOW, type StoreScript } from './site.ts'

const pendingRequest = (over: Partial<PendingRequest> = {}): NewPendingRequest => ({
  transferId: id(4_000),
  userId: ALICE,
  type: 'transfer',
  fromWallet: ALICE,
  toWallet: BOB,
  amount: 5n,
  currency: 'USD',
  fingerprint: bytes('asked first'),
  note: null,
  metadata: bytes('data'),
  requestedAt: NOW,
  expiresAt: NOW,
  acknowledged: false,
  command: { key: ALICE, type: 'pennywire.ledger.TransferRequested', value: bytes('command') },
  ...over,
})

const WORDS = ['confirmed', 'failed', 'returned'] as const

export const GATEWAY: StoreScript[] = [
  {
    name: 'X2: a request written as pending: the first content stands, repeats renew it, in one batch or several',
    run: async ({ gateway }) => {
      const hour = new Date(NOW.getTime() + 3_600_000)
      const requests = [
        pendingRequest({ acknowledged: true }),
        pendingRequest({ expiresAt: hour }),
        pendingRequest(),
        pendingRequest({ fingerprint: bytes('other'), amount: 9n, expiresAt: new Date(4e12) }),
      ]
      await gateway.writePending(requests)
      for (const request of requests) await gateway.writePending([{ ...request, transferId: id(4_001) }])
      // Of two contents in one batch the first is kept, too.
      await gateway.writePending([
        pendingRequest({ transferId: id(4_002), acknowledged: true }),
        pendingRequest({ transferId: id(4_002), fingerprint: bytes('other'), amount: 9n }),
      ])
      const read = await Promise.all([id(4_000), id(4_001), id(4_002)].map(gateway.readPending))
      return read.flat().map(({ amount, expiresAt, acknowledged }) => [amount, expiresAt, acknowledged])
    },
    expected: [
      [5n, new Date(NOW.getTime() + 3_600_000), true],
      [5n, new Date(NOW.getTime() + 3_600_000), true],
      [5n, NOW, true],
    ],
  },
  {
    name: 'X2: what Kafka has not for certain is forgotten a minute after its expiry',
    run: async ({ gateway, now }) => {
      const ago = (ms: number) => new Date(Math.floor(now()) - ms)
      const requests = [
        pendingRequest({ expiresAt: ago(40_000) }),
        pendingRequest({ transferId: id(4_001), expiresAt: ago(80_000) }),
        pendingRequest({ transferId: id(4_002), expiresAt: ago(80_000), acknowledged: true }),
      ]
      await gateway.writePending(requests)
      const read = await Promise.all([4_000, 4_001, 4_002, 4_003].map(n => gateway.readPending(id(n))))
      return read.map(({ length }) => length)
    },
    expected: [1, 0, 1, 0],
  },
  {
    name: "a payment's end is settled once, and the first word stands",
    run: async ({ gateway }) => {
      const payment: Payment = {
        id: id(4_000),
        kind: 'deposit',
        userId: ALICE,
        walletId: ALICE,
        amount: 5n,
        currency: 'USD',
        method: bytes('card'),
        fingerprint: bytes('f'),
        status: 'created',
        providerReference: null,
        failureCode: null,
        failureReason: null,
        authenticatedBy: null,
        authenticatedAt: null,
        requestedAt: NOW,
        expiresAt: NOW,
        orderedAt: null,
        orderAttempts: 0,
        done: false,
      }
      const told: unknown[] = []
      const word = (status: Settlement['status']): Settlement => ({
        status,
        providerReference: status === 'failed' ? null : 'other',
        failureCode: status === 'failed' ? 'PAYMENT_FAILED' : null,
        failureReason: null,
        orderAttempts: null,
      })
      let number = 4_000
      for (const kind of ['deposit', 'withdrawal'] as const) {
        // A deposit is never returned.
        const words = kind === 'deposit' ? (['confirmed', 'failed'] as const) : WORDS
        for (const first of words) {
          const own = id(number++)
          await gateway.writePayment({ ...payment, kind, id: own })
          await gateway.markPending(own, 'ref')
          await gateway.settle(own, word(first))
          await gateway.markPending(own, 'late')
          told.push(await gateway.markDone(own, 'pending'), await gateway.markDone(own, first))
          for (const next of words) told.push(await gateway.settle(own, word(next)))
          told.push(await gateway.readPayment(own), await gateway.markDone(own, 'confirmed'))
        }
      }
      return [
        told,
        await gateway.settle(id(number), word('confirmed')),
        await gateway.readPayment(id(number)),
      ]
    },
  },
]
