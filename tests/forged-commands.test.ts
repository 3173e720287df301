// Write access to ledger.commands alone moves no money: a record without a gateway's MAC becomes a dead letter,
// regardless of its content.

import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Records } from '@pennywire/contracts/schemas.ts'
import { transferRequested } from '@pennywire/contracts/test-records.ts'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { type Codec, connectRegistry, createCodec } from '@pennywire/kafka/codec.ts'
import { createPublisher, type Publisher } from '@pennywire/kafka/publisher.ts'
import { readTopic } from '@pennywire/kafka/read-topic.ts'
import { envelope, headerOf, type IncomingRecord, type RawRecord } from '@pennywire/kafka/record.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { balanceOf, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { kafka, kafkaEnv, registryUrl } = inject('stack')
const { env, databaseUrls } = inject('system')
const logger = createLogger('test', { level: 'silent', instance: 'test' })
const client = createKafkaClient({ connection: kafka, clientId: 'forger', logger })
const command = join(import.meta.dirname, '..', 'packages', 'kafka', 'src', 'dead-letters-command.ts')

let publisher: Publisher
let codec: Codec
let victim: Person
let thief: Person
let from: Wallet
let to: Wallet

beforeAll(async () => {
  publisher = await createPublisher(client)
  codec = await createCodec(connectRegistry(registryUrl))
  victim = await makePerson('Victoria Vance')
  thief = await makePerson('Theo Thorn')
  from = await openWallet(victim, 'USD', '50')
  to = await openWallet(thief, 'USD')
})
afterAll(() => publisher.stop())

type Over = Records['pennywire.ledger.TransferRequested']
/** The record as a gateway would write it, without the MAC. */
const forged = (over: Partial<Over>): RawRecord => {
  const requestedAt = Date.now()
  const type = 'pennywire.ledger.TransferRequested'
  const command = transferRequested({
    ...{ userId: victim.id, fromWalletId: from.id, toWalletId: to.id, amountMinor: 4_200n, requestedAt },
    ...over,
  })
  return {
    topic: 'ledger.commands',
    key: from.id,
    value: codec.encode(type, command),
    headers: envelope({
      id: command.transferId,
      type,
      source: 'gateway',
      time: requestedAt,
      subject: command.transferId,
    }),
  }
}

const read = async (topic: 'ledger.commands' | 'ledger.dead-letters'): Promise<IncomingRecord[]> => {
  const records: IncomingRecord[] = []
  await readTopic({ client, logger, topic, handle: batch => void records.push(...batch) })
  return records
}
const setAside = (id: string) =>
  vi.waitFor(
    async () => {
      const record = (await read('ledger.dead-letters')).find(letter => headerOf(letter, 'ce_id') === id)
      if (!record) throw new Error(`${id} is not set aside yet`)
      return { reason: headerOf(record, 'dead_letter_reason'), place: `${record.partition}/${record.offset}` }
    },
    { timeout: 20_000, interval: 200 },
  )
const idOf = (record: RawRecord) => String(record.headers.ce_id)
const redrive = (...args: string[]) =>
  promisify(execFile)(process.execPath, [command, 'redrive', 'ledger', ...args], {
    env: { ...env.ledger, ...kafkaEnv.operator },
  }).then(
    ({ stdout }) => stdout,
    error => error.stdout + error.stderr,
  )
/** Waits until the ledger's positions reach the current end of the topic. */
const everythingIsDecided = async () => {
  const admin = client.admin()
  const sql = openDatabase(databaseUrls.ledger, { applicationName: 'forger', maxConnections: 1 })
  await admin.connect()
  const ends = await admin.fetchTopicOffsets('ledger.commands')
  await admin.disconnect()
  await vi.waitFor(
    async () => {
      const rows = await sql<{ partition: number; next: bigint }[]>`
        select partition, next_offset as next from ledger.partitions`
      for (const { partition, high } of ends)
        expect(rows.find(row => row.partition === partition)!.next).toBeGreaterThanOrEqual(BigInt(high))
    },
    { timeout: 20_000, interval: 100 },
  )
  await sql.end()
}
const decides = async (id: string) => (await victim.ask('GET', `/v1/transfers/${id}`)).status

test('M1 X1: a forged transfer and a forged deposit from a process without a key move nothing', async () => {
  const transfer = forged({})
  const deposit = forged({
    ...{ type: 'deposit', userId: thief.id, fromWalletId: null, amountMinor: 100_000_000n },
    authenticatedBy: 'provider',
  })
  const [genuine] = (await read('ledger.commands')).slice(-1)
  const borrowed = {
    ...forged({}),
    headers: { ...forged({}).headers, 'pw-mac': String(headerOf(genuine!, 'pw-mac')) },
  }
  await publisher.publishAll([transfer, deposit, borrowed])
  expect((await setAside(idOf(transfer))).reason).toBe('it carries no MAC of a gateway')
  expect((await setAside(idOf(deposit))).reason).toBe('it carries no MAC of a gateway')
  expect((await setAside(idOf(borrowed))).reason).toBe('its MAC is not of this record')
  expect([await balanceOf(victim, from), await balanceOf(thief, to)]).toEqual(['50.00', '0.00'])
  expect(await decides(idOf(transfer))).toBe(404)
})

test('D1: hundreds of records that no gateway signed do not stop a partition', async () => {
  const junk = Array.from({ length: 300 }, (): RawRecord => ({ ...forged({}), value: randomBytes(40) }))
  await publisher.publishAll(junk)
  expect((await send(victim, to, '1.00')).status).toBe(201)
  await setAside(idOf(junk.at(-1)!))
  expect((await send(victim, to, '1.00')).status).toBe(201)
})

test('X1: a signed command sent again, in its partition or another, moves nothing again', async () => {
  const { body } = await send(victim, to, '2.00')
  const before = await balanceOf(victim, from)
  const [record] = (await read('ledger.commands')).filter(one => headerOf(one, 'ce_id') === body.id)
  const { topic, partition, key, value, headers } = record!
  const again = {
    topic,
    key,
    value,
    headers: Object.fromEntries(headers.map(([name, text]) => [name, [text]])),
  }
  await publisher.publishAll(Array.from({ length: 12 }, (_, place) => ({ ...again, partition: place })))
  await everythingIsDecided()
  expect([await balanceOf(victim, from), partition]).toEqual([before, record!.partition])
})

test('M1: a dead letter without a MAC goes back only by name and with --sign', async () => {
  const transfer = forged({ amountMinor: 100n })
  await publisher.publish(transfer)
  const { place } = await setAside(idOf(transfer))
  expect(await redrive('--all')).toContain(`${place}  not sent: it carries no MAC of a gateway`)
  expect(await decides(idOf(transfer))).toBe(404)
  expect(await redrive(place, '--sign')).toContain(`${place}  sent to ledger.commands/`)
  await vi.waitFor(async () => expect(await decides(idOf(transfer))).toBe(200), { timeout: 20_000 })
})
