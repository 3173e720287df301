// A command that Kafka acknowledged and then lost, as after a topic was recreated: the pending request still ends.

import { transferRequested } from '@pennywire/contracts/test-records.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { type Database, openDatabase } from '@pennywire/runtime/database.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import {
  type NewPendingRequest,
  writePending,
} from '../services/gateway/src/transfers/sql/pending-requests.ts'
import { balanceOf, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

let sql: Database
let codec: Codec
let alice: Person
let from: Wallet
let to: Wallet

beforeAll(async () => {
  sql = openDatabase(inject('system').databaseUrls.gateway, { applicationName: 'test', maxConnections: 2 })
  codec = await createCodec(connectRegistry(inject('stack').registryUrl))
  alice = await makePerson('Alice Smith')
  from = await openWallet(alice, 'USD', '100')
  to = await openWallet(await makePerson('Bob Brown'), 'USD')
})
afterAll(() => sql.end())

/** The pending request that a gateway wrote a minute ago, before it answered 202; its command is in no topic. */
const lost = (type: 'transfer' | 'hold'): NewPendingRequest => {
  const requestedAt = Date.now() - 60_000
  const command = transferRequested({
    ...{ type, userId: alice.id, fromWalletId: from.id, toWalletId: to.id, amountMinor: 500n },
    ...{ requestedAt, expiresAt: requestedAt + 30_000 },
    holdUntil: type === 'hold' ? requestedAt + 3_600_000 : null,
  })
  return {
    ...{ transferId: command.transferId, userId: alice.id, type, fromWallet: from.id, toWallet: to.id },
    ...{ amount: 500n, currency: 'USD', fingerprint: command.fingerprint, note: null, metadata: null },
    requestedAt: new Date(requestedAt),
    expiresAt: new Date(command.expiresAt!),
    acknowledged: true,
    command: {
      key: from.id,
      type: 'pennywire.ledger.TransferRequested',
      value: codec.encode('pennywire.ledger.TransferRequested', command),
    },
  }
}

const isDecided = async (id: string): Promise<boolean> => {
  const [row] = await sql<Array<{ decided: boolean }>>`
    select decided_at is not null as decided from gateway.pending_requests where transfer_id = ${id}`
  return row!.decided
}
const until = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 30_000, interval: 100 })

test.for(['transfer', 'hold'] as const)(
  "X2: a %s whose command was lost ends by the ledger's refusal, though nobody asks again",
  async type => {
    const before = await balanceOf(alice, from)
    const request = lost(type)
    // The worker does not look at the request for ten minutes: it stays pending.
    await writePending(sql, [request], 600_000)
    const path = `/v1/${type}s/${request.transferId}`
    expect((await alice.ask('GET', path)).body.status).toBe('pending')
    await sql`
      update gateway.pending_requests set look_at = clock_timestamp() where transfer_id = ${request.transferId}`
    await until(async () => expect((await alice.ask('GET', path)).body.status).toBe('rejected'))
    expect((await alice.ask('GET', path)).body.rejection.code).toBe('REQUEST_EXPIRED')
    // The worker marks the request as decided, so that it does not stay busy with it.
    await sql`
      update gateway.pending_requests set look_at = clock_timestamp() where transfer_id = ${request.transferId}`
    await until(async () => expect(await isDecided(request.transferId)).toBe(true))
    expect(await balanceOf(alice, from)).toBe(before)
  },
)

test('X1, X2: what the ledger has decided is marked, and its outcome stays', async () => {
  const paid = await send(alice, to, '1.00')
  await writePending(sql, [{ ...lost('transfer'), transferId: paid.body.id }], 0)
  await until(async () => expect(await isDecided(paid.body.id)).toBe(true))
  expect((await alice.ask('GET', `/v1/transfers/${paid.body.id}`)).body).toEqual(paid.body)
})
