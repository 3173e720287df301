// ledger.commands is truncated beyond the decided offset: commands that were answered 202 are lost.
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { createKafkaClient } from '@pennywire/kafka/client.ts'
import { partitionOf } from '@pennywire/kafka/partition-of.ts'
import { openDatabase } from '@pennywire/runtime/database.ts'
import { createLogger } from '@pennywire/runtime/logger.ts'
import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest'
import { expectBooksToBeRight } from './books.ts'
import { balanceOf, control, makePerson, openWallet, type Person, send, type Wallet } from './client.ts'

const { kafka } = inject('stack')
const { opsUrls, env, databaseUrls } = inject('system')
const logger = createLogger('test', { level: 'silent', instance: 'test' })
const sql = openDatabase(databaseUrls.superuser, { applicationName: 'test', maxConnections: 1 })
const admin = createKafkaClient({ connection: kafka, clientId: 'deleted-commands-test', logger }).admin()
const partitionOfWallet = (wallet: Wallet) => partitionOf('ledger.commands', wallet.id)

let alice: Person
let carol: Person
let alices: Wallet
let carols: Wallet
let bobs: Wallet
beforeAll(async () => {
  await admin.connect()
  alice = await makePerson('Alice Smith')
  alices = await openWallet(alice, 'USD', '100')
  bobs = await openWallet(await makePerson('Bob Brown'), 'USD')
  do {
    carol = await makePerson('Carol Clark')
    carols = await openWallet(carol, 'USD', '100')
  } while (partitionOfWallet(carols) === partitionOfWallet(alices))
}, 60_000)
afterAll(async () => {
  await control('ledger', 'restart').catch(() => {})
  await admin.disconnect()
  await sql.end()
})

const until = (check: () => Promise<void>) => vi.waitFor(check, { timeout: 60_000, interval: 200 })
const readiness = async (service: 'ledger' | 'audit') =>
  (await fetch(`${opsUrls[service]}/readyz`)).json() as Promise<{ checks: { consumer: string } }>
const endOf = async (partition: number) => {
  const offsets = await admin.fetchTopicOffsets('ledger.commands')
  return offsets.find(one => one.partition === partition)!.high
}
const recordedTo = async (partition: number) => {
  const [row] = await sql<[{ last: bigint | null }]>`
    select max(record_offset) as last from audit.records where topic = 'ledger.commands' and partition = ${partition}`
  return row.last
}
const adopt = (...args: string[]) => {
  const script = join(import.meta.dirname, '..', 'services', 'ledger', 'src', 'adopt-topic.ts')
  return spawnSync(process.execPath, [script, ...args], { env: env.ledger, encoding: 'utf8' })
}

test('X2, P1: their partition halts, others flow; adopted, it goes on, and a repeat under the same key is done once', {
  timeout: 180_000,
}, async () => {
  const partition = partitionOfWallet(alices)
  await control('ledger', 'stop')
  const [lostKey, keptKey] = [randomUUID(), randomUUID()]
  const pay = (person: Person, key: string) =>
    send(person, bobs, '10', key, { headers: { prefer: 'wait=0' } })
  expect((await pay(alice, lostKey)).status).toBe(202)
  expect((await pay(carol, keptKey)).status).toBe(202)
  const end = await endOf(partition)
  await until(async () => expect(await recordedTo(partition)).toBe(BigInt(end) - 1n))
  await admin.deleteTopicRecords({ topic: 'ledger.commands', partitions: [{ partition, offset: end }] })

  // The restart is still pending: the ledger is ready only when none of its partitions is halted.
  const starting = control('ledger', 'restart').catch((error: Error) => error)
  await until(async () => {
    expect((await readiness('ledger')).checks.consumer).toContain(
      `ledger.commands/${partition} is halted: the topic begins at offset ${end}, but offset`,
    )
  })
  await until(async () => expect(await balanceOf(carol, carols)).toBe('90.00'))
  expect(await balanceOf(alice, alices)).toBe('100.00')

  await control('ledger', 'stop')
  await starting
  expect(adopt('--partition', '12', '--yes')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--partition: 12 is none of the 12 partitions'),
  })
  expect(adopt('--help', '--yes')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^usage: /) })
  expect(adopt('--partition', String(partition))).toMatchObject({ status: 2, stdout: '' })
  expect(adopt('--partition', String(partition), '--yes')).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(new RegExp(`^partition ${partition}: epoch \\d+, offset ${end}\\n$`)),
  })
  await control('ledger', 'restart')
  expect((await send(alice, bobs, '10', lostKey)).body.status).toBe('completed')
  expect((await send(alice, bobs, '10', lostKey)).body.status).toBe('completed')
  expect(await balanceOf(alice, alices)).toBe('90.00')
  expect(await balanceOf(carol, carols)).toBe('90.00')
  // The audit service had recorded the commands before they were deleted.
  expect((await readiness('audit')).checks.consumer).toBe('ok')
  expectBooksToBeRight()
})
